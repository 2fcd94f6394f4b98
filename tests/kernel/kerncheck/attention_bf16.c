/* SPDX-License-Identifier: Apache-2.0 */
/* attention_bf16.c - attention whose products take bf16, against double over the factors as they must be rounded: what
 * is left is the weights' own rounding and fp32's sums. */
#include <math.h>
#include <string.h>

#include "attention.h"

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

static void run(const cpl_kernels *k, const cpl_attention_f32 *a) { k->attention_bf16(k, a); }

static void check_round(check *c, uint32_t round)
{
    static const attention by = {run, cpl_attention_bf16_scratch, 80, check_rows};
    attention_round(c, round, &by);
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
