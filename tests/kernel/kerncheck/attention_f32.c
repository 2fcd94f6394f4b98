/* SPDX-License-Identifier: Apache-2.0 */
/* attention_f32.c - one head of one sequence against double. */
#include <math.h>

#include "attention.h"

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

static void run(const cpl_kernels *k, const cpl_attention_f32 *a) { k->attention_f32(k, a); }

static void check_round(check *c, uint32_t round)
{
    static const attention by = {run, cpl_attention_f32_scratch, 160, check_rows};
    attention_round(c, round, &by);
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
