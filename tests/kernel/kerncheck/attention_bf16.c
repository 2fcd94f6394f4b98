/* SPDX-License-Identifier: Apache-2.0 */
/* attention_bf16.c - attention whose products take bf16, against double over the factors as they must be rounded: what
 * is left is the weights' own rounding and fp32's sums. Head sizes that are and aren't whole panels, one to 300 keys,
 * 8,192 of them, in place; a query row alone has the bits it has in company. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

static bool present(const cpl_kernels *k) { return k->attention_bf16 != NULL; }
static const char *bf16_isa(const cpl_kernels *k) { return k->h16[CPL_H16_BF16].isa; }

/* To nearest even; denormals count as 0. */
static double rounded(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&x, &bits, sizeof x);
    return fabsf(x) < 0x1p-126f ? 0 : (double)x;
}

/* q: the queries as they were; largest_v: of v's magnitudes. */
static void check_rows(check *c, const cpl_attention_f32 *a, const float *q, double largest_v)
{
    double *p = check_take(c, a->keys * sizeof *p), *score = check_take(c, a->keys * sizeof *p);
    const float by = a->scale * 1.44269504f;
    for (uint32_t i = 0; i < a->queries; i++) {
        double max = -INFINITY, sum = 0, size = 0;
        for (uint32_t j = 0; j < a->keys; j++) {
            double magnitude = 0;
            score[j] = 0;
            for (uint32_t d = 0; d < a->head_size; d++) {
                const double x = rounded(q[i * a->q_stride + d] * by) * rounded(a->k[j * a->kv_stride + d]);
                score[j] += x;
                magnitude += fabs(x);
            }
            max = fmax(max, score[j]);
            size = fmax(size, magnitude);
        }
        for (uint32_t j = 0; j < a->keys; j++) sum += p[j] = exp2(score[j] - max);
        /* A score is off by fp32's sum, a weight by that (ln 2 of it, twice for the sum's), by 2^x's 1.1e-4 and by half
         * of bf16's last place, 2^-9 of it. */
        const double sums = (sqrt(a->head_size) + 4) * 0x1p-23 * size;
        const double bound = largest_v * (2 * sums + 2 * 1.1e-4 + 0x1p-9 + (sqrt(a->keys) + 8) * 0x1p-23);
        for (uint32_t d = 0; d < a->head_size; d++) {
            double want = 0;
            for (uint32_t j = 0; j < a->keys; j++) want += p[j] / sum * rounded(a->v[j * a->kv_stride + d]);
            CHECK_NEAR(c, a->out[i * a->out_stride + d], want, bound, "%u keys, head size %u, at %u,%u", a->keys,
                       a->head_size, i, d);
        }
    }
}

static void check_alone(check *c, cpl_attention_f32 a, uint32_t row)
{
    const float *together = a.out + row * a.out_stride;
    a.q += row * a.q_stride;
    a.out = check_take(c, a.head_size * sizeof(float));
    a.queries = 1;
    c->k->attention_bf16(c->k, &a);
    CHECK_THAT(c, !memcmp(a.out, together, a.head_size * sizeof(float)), "row %u of %u keys differs alone", row,
               a.keys);
}

/* The longest sequence of later models, in memory that grows with its length, not with its square. */
static void check_long(check *c)
{
    enum { KEYS = 8192, QUERIES = 17, D = 32 };
    const size_t floats = cpl_attention_bf16_scratch(c->k, KEYS, D);
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
    CHECK_THAT(c, floats <= 80ul * KEYS, "scratch of %zu floats for %d keys", floats, KEYS);
    c->k->attention_bf16(c->k, &a);
    check_rows(c, &a, q, 1);
    check_alone(c, a, QUERIES - 1);
}

static void check_round(check *c, uint32_t round)
{
    static const uint32_t sizes[] = {32, 64, 8, 16, 24, 40, 80, 1, 7};
    if (round == 0) {
        check_long(c);
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
                           .scratch = check_take(c, cpl_attention_bf16_scratch(c->k, keys, d) * sizeof(float))};
    c->k->attention_bf16(c->k, &a);
    check_rows(c, &a, q, 3);
    check_alone(c, a, check_between(c, 0, keys - 1));
    a.out = q;
    c->k->attention_bf16(c->k, &a);
    for (uint32_t i = 0; i < keys; i++)
        CHECK_THAT(c, !memcmp(q + i * stride, out + i * stride, d * sizeof(float)), "row %u differs in place", i);
}

/* ---- wrong on purpose -------------------------------------------------------------------------------------------- */

static cpl_kernels right;

static void last_key_lost(const cpl_kernels *k, const cpl_attention_f32 *a)
{
    cpl_attention_f32 wrong = *a;
    if (wrong.keys > 1) wrong.keys--;
    right.attention_bf16(k, &wrong);
}
static void install_last_key_lost(cpl_kernels *k)
{
    right = *k;
    k->attention_bf16 = last_key_lost;
}

/* Weights in bf16 a last place too large, as truncating instead of rounding would make them too small. */
static void biased(const cpl_kernels *k, const cpl_attention_f32 *a)
{
    right.attention_bf16(k, a);
    for (uint32_t i = 0; i < a->queries; i++)
        for (uint32_t d = 0; d < a->head_size; d++) a->out[i * a->out_stride + d] *= 1 + 0x1p-7f;
}
static void install_biased(cpl_kernels *k)
{
    right = *k;
    k->attention_bf16 = biased;
}

static void behind_scratch(const cpl_kernels *k, const cpl_attention_f32 *a)
{
    right.attention_bf16(k, a);
    a->scratch[cpl_attention_bf16_scratch(k, a->keys, a->head_size)] = 0;
}
static void install_behind_scratch(cpl_kernels *k)
{
    right = *k;
    k->attention_bf16 = behind_scratch;
}

static const check_wrong wrong[] = {
    {"the last key left out", install_last_key_lost},
    {"weights a last place too large", install_biased},
    {"one float written behind the scratch memory", install_behind_scratch},
    {0},
};

const check_case check_attention_bf16 = {
    .name = "attention_bf16",
    .bound = "max |v| (2^-22 (sqrt(head size) + 4) scale sum |qk| + 2.2e-4 + 2^-9 + 2^-23 (sqrt(keys) + 8))",
    .rounds = 45,
    .round = check_round,
    .wrong = wrong,
    .present = present,
    .isa = bf16_isa,
};
