/* SPDX-License-Identifier: Apache-2.0 */
/* attention.c - rounds of attention: head sizes that are and aren't whole panels, ordinary and spoilt values, strides;
 * a query row alone has the bits it has in company, and queries may be overwritten by the result. */
#include "attention.h"

#include <math.h>
#include <string.h>

static void check_alone(check *c, const attention *by, cpl_attention_f32 a, uint32_t row)
{
    const float *together = a.out + row * a.out_stride;
    a.q += row * a.q_stride;
    a.out = check_take(c, a.head_size * sizeof(float));
    a.queries = 1;
    by->run(c->k, &a);
    CHECK_THAT(c, !memcmp(a.out, together, a.head_size * sizeof(float)), "row %u of %u keys differs alone", row,
               a.keys);
}

/* The longest sequence of later models, in memory that grows with its length, not with its square. */
static void check_long(check *c, const attention *by)
{
    enum { KEYS = 8192, QUERIES = 17, D = 32 };
    const size_t floats = by->scratch(c->k, KEYS, D);
    const float *q = check_take_floats(c, QUERIES * D, -2, 2);
    const cpl_attention_f32 a = {.q = q,
                                 .k = check_take_floats(c, KEYS * D, -2, 2),
                                 .v = check_take_floats(c, KEYS * D, -1, 1),
                                 .out = check_take(c, QUERIES * D * sizeof(float)),
                                 .q_stride = D,
                                 .kv_stride = D,
                                 .out_stride = D,
                                 .queries = QUERIES,
                                 .keys = KEYS,
                                 .head_size = D,
                                 .scale = 1 / sqrtf(D),
                                 .scratch = check_take(c, floats * sizeof(float))};
    CHECK_THAT(c, floats <= by->scratch_floats_max * KEYS, "scratch of %zu floats for %d keys", floats, KEYS);
    by->run(c->k, &a);
    by->check_rows(c, &a, q, 1);
    check_alone(c, by, a, QUERIES - 1);
}

void attention_round(check *c, uint32_t round, const attention *by)
{
    static const uint32_t sizes[] = {32, 64, 8, 16, 24, 40, 80, 1, 7};
    if (round == 0) {
        check_long(c, by);
        return;
    }
    const uint32_t d = sizes[round % 9], keys = check_between(c, 1, round % 5 ? 90 : 300);
    const size_t stride = d + check_between(c, 0, 20), n = check_span(keys, d, stride);
    const float wide = round % 4 == 3 ? 30.0f : 2.0f;
    float *q = check_take_floats(c, n, -wide, wide), *out = check_take(c, n * sizeof(float));
    float *k = check_take_floats(c, n, -2, 2), *v = check_take_floats(c, n, -1, 1);
    if (round % 3 == 2) check_spoil(c, q, n, (check_kind)(CHECK_SAME + round % 4));
    if (round % 3 == 1) check_spoil(c, v, n, (check_kind)(CHECK_SAME + round % 4));
    cpl_attention_f32 a = {.q = q,
                           .k = k,
                           .v = v,
                           .out = out,
                           .q_stride = stride,
                           .kv_stride = stride,
                           .out_stride = stride,
                           .queries = keys,
                           .keys = keys,
                           .head_size = d,
                           .scale = 1 / sqrtf((float)d),
                           .scratch = check_take(c, by->scratch(c->k, keys, d) * sizeof(float))};
    by->run(c->k, &a);
    by->check_rows(c, &a, q, 3);
    check_alone(c, by, a, check_between(c, 0, keys - 1));
    a.out = q;
    by->run(c->k, &a);
    for (uint32_t i = 0; i < keys; i++)
        CHECK_THAT(c, !memcmp(q + i * stride, out + i * stride, d * sizeof(float)), "row %u differs in place", i);
}
