/* SPDX-License-Identifier: Apache-2.0 */
/* attention_f32.c - one head of one sequence: head sizes that are and aren't whole panels, one to 300 keys and 8,192,
 * in place; a query row alone has the bits it has in company. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

/* q: the queries as they were; largest_v: of v's magnitudes. */
static void check_rows(check *c, const cpl_attention_f32 *a, const float *q, double largest_v)
{
    double *p = check_take(c, a->keys * sizeof *p), *unscaled = check_take(c, a->keys * sizeof *p);
    for (uint32_t i = 0; i < a->queries; i++) {
        double max = -INFINITY, sum = 0, size = 0;
        for (uint32_t j = 0; j < a->keys; j++) {
            double magnitude = 0;
            unscaled[j] = 0;
            for (uint32_t d = 0; d < a->head_size; d++) {
                const double x = (double)q[i * a->q_stride + d] * a->k[j * a->kv_stride + d];
                unscaled[j] += x;
                magnitude += fabs(x);
            }
            unscaled[j] *= (double)a->scale;
            max = fmax(max, unscaled[j]);
            size = fmax(size, magnitude * (double)a->scale);
        }
        for (uint32_t j = 0; j < a->keys; j++) sum += p[j] = exp(unscaled[j] - max);
        /* Of n roundings, which point either way, some 2 sqrt n add up. So a score is off by that much of its
         * magnitudes; a weight by twice that, relatively; the mean of |v| by that and its own sum's. */
        const double score = 2 * (sqrt(a->head_size) + 4) * 0x1p-24 * size;
        const double bound = largest_v * (2 * score + 2 * (sqrt(a->keys) + 8) * 0x1p-24);
        for (uint32_t d = 0; d < a->head_size; d++) {
            double want = 0;
            for (uint32_t j = 0; j < a->keys; j++) want += p[j] / sum * a->v[j * a->kv_stride + d];
            CHECK_NEAR(c, a->out[i * a->out_stride + d], want, bound, "%u keys, head size %u, at %u,%u", a->keys,
                       a->head_size, i, d);
        }
    }
}

/* The longest sequence of later models: some of its queries, in memory that grows with its length, not with its
 * square. */
static void check_long(check *c)
{
    enum { KEYS = 8192, QUERIES = 17, D = 32 };
    const size_t floats = cpl_attention_f32_scratch(c->k, KEYS, D);
    const float *q = check_take_floats(c, QUERIES * D, -2, 2);
    float *out = check_take(c, QUERIES * D * sizeof(float)), *alone = check_take(c, D * sizeof(float));
    cpl_attention_f32 a = {.q = q,
                           .k = check_take_floats(c, KEYS * D, -2, 2),
                           .v = check_take_floats(c, KEYS * D, -1, 1),
                           .out = out,
                           .q_stride = D,
                           .kv_stride = D,
                           .out_stride = D,
                           .queries = QUERIES,
                           .keys = KEYS,
                           .head_size = D,
                           .scale = 1 / sqrtf(D),
                           .scratch = check_take(c, floats * sizeof(float))};
    CHECK_THAT(c, floats <= 160ul * KEYS, "scratch of %zu floats for %d keys", floats, KEYS);
    c->k->attention_f32(c->k, &a);
    check_rows(c, &a, q, 1);
    a.q += (QUERIES - 1) * D;
    a.out = alone;
    a.queries = 1;
    c->k->attention_f32(c->k, &a);
    CHECK_THAT(c, !memcmp(alone, out + (QUERIES - 1) * D, D * sizeof(float)), "the last row of %d differs alone",
               QUERIES);
}

static void check_round(check *c, uint32_t round)
{
    if (round == 0) {
        check_long(c);
        return;
    }
    static const uint32_t sizes[] = {32, 64, 8, 16, 24, 40, 80, 1, 7};
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
                           .scratch = check_take(c, cpl_attention_f32_scratch(c->k, keys, d) * sizeof(float))};
    c->k->attention_f32(c->k, &a);
    check_rows(c, &a, q, 3);
    const uint32_t row = check_between(c, 0, keys - 1);
    a.q += row * stride;
    a.out = check_take(c, d * sizeof(float));
    a.queries = 1;
    c->k->attention_f32(c->k, &a);
    CHECK_THAT(c, !memcmp(a.out, out + row * stride, d * sizeof(float)), "row %u of %u differs alone", row, keys);
    a.q = a.out = q;
    a.queries = keys;
    c->k->attention_f32(c->k, &a);
    for (uint32_t i = 0; i < keys; i++)
        CHECK_THAT(c, !memcmp(q + i * stride, out + i * stride, d * sizeof(float)), "row %u differs in place", i);
}

/* ---- wrong on purpose -------------------------------------------------------------------------------------------- */

static cpl_kernels right;

static void last_key_lost(const cpl_kernels *k, const cpl_attention_f32 *a)
{
    cpl_attention_f32 wrong = *a;
    if (wrong.keys > 1) wrong.keys--;
    right.attention_f32(k, &wrong);
}
static void install_last_key_lost(cpl_kernels *k)
{
    right = *k;
    k->attention_f32 = last_key_lost;
}

static void behind_scratch(const cpl_kernels *k, const cpl_attention_f32 *a)
{
    right.attention_f32(k, a);
    a->scratch[cpl_attention_f32_scratch(k, a->keys, a->head_size)] = 0;
}
static void install_behind_scratch(cpl_kernels *k)
{
    right = *k;
    k->attention_f32 = behind_scratch;
}

static const check_wrong wrong[] = {
    {"the last key left out", install_last_key_lost},
    {"one float written behind the scratch memory", install_behind_scratch},
    {0},
};

const check_case check_attention_f32 = {
    .name = "attention_f32",
    .bound = "max |v| 2^-23 (2 (sqrt(head size) + 4) scale sum |qk| + sqrt(keys) + 8)",
    .rounds = 45,
    .round = check_round,
    .wrong = wrong,
};
