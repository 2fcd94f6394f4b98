/* SPDX-License-Identifier: Apache-2.0 */
/* i8_neon.c - quantised rows for all NEON rungs, and the int8 register tile for cores without dot products: up to 6
 * rows x 16 columns.
 *
 * The tile multiplies int16 by int16 into int32 (smlal), four a step, which is exact and needs no shuffling:
 * activations are stored as int16, weights as int8 and widened when loaded, once for all rows of the tile. Rejected:
 * smull on bytes with pairwise additions, which multiplies twice as many but takes as many instructions again to add
 * them up. */
#include <string.h>

#include "kernel/epilogue_neon.h"
#include "kernel/hint.h"
#include "kernel/neon.h"
#include "kernel/quantise.h"

enum { NR = 16, MR = 6 };

/* The factors of 4 columns, or those of all. */
typedef struct columns {
    const float *mul, *add;
    float32x4_t one, up;
} columns;

static columns columns_of(const cpl_rows_i8 *to)
{
    return (columns){to->mul, to->add, vdupq_n_f32(1), vdupq_n_f32(-to->floor)};
}

/* Lanes beyond `left` are 0. */
CPL_INLINE float32x4_t moved(const columns *c, const float *x, size_t i, size_t left)
{
    const float32x4_t mul = c->mul ? cpl_load_neon(c->mul + i, left) : c->one;
    const float32x4_t add = c->mul ? cpl_load_neon(c->add + i, left) : c->up;
    return cpl_only_neon(vfmaq_f32(add, cpl_load_neon(x + i, left), mul), vdupq_n_f32(0), left);
}

static uint32_t row_most(const columns *c, const float *x, size_t n)
{
    const uint32x4_t magnitude = vdupq_n_u32(INT32_MAX);
    uint32x4_t most[2] = {vdupq_n_u32(0), vdupq_n_u32(0)};
    for (size_t i = 0; i < n; i += 4)
        most[i >> 2 & 1] =
            vmaxq_u32(most[i >> 2 & 1], vandq_u32(vreinterpretq_u32_f32(moved(c, x, i, n - i)), magnitude));
    return vmaxvq_u32(vmaxq_u32(most[0], most[1]));
}

/* 8 nearest integers, ties to even, plus zero; not below lowest. */
CPL_INLINE int16x8_t to_int16(const columns *c, const float *x, size_t i, size_t n, float32x4_t by, int lowest)
{
    const float32x4_t none = vdupq_n_f32(0);
    const float32x4_t a = moved(c, x, i, n - i), b = n - i > 4 ? moved(c, x, i + 4, n - i - 4) : none;
    const int32x4_t lo = vcvtnq_s32_f32(vmulq_f32(a, by)), hi = vcvtnq_s32_f32(vmulq_f32(b, by));
    return vmaxq_s16(vcombine_s16(vqmovn_s32(lo), vqmovn_s32(hi)), vdupq_n_s16((int16_t)lowest));
}

/* Signed bytes: unsigned values less 128. */
CPL_INLINE void quantise_bytes(const cpl_rows_i8 *to, const float *x, size_t rows, size_t n, size_t ld, size_t group)
{
    const columns c = columns_of(to);
    const size_t padded = (n + group - 1) / group * group;
    const int lowest = to->is_unsigned ? 0 : -128, less = to->is_unsigned ? 128 : 0;
    for (size_t r = 0; r < rows; r++, x += ld) {
        int8_t *out = (int8_t *)to->q + r * to->ldq;
        float inverse;
        to->scale[r] = cpl_i8_scale(row_most(&c, x, n), to->is_unsigned ? CPL_I8_UNSIGNED : CPL_I8_SIGNED, &inverse);
        memset(out, -less, padded);
        if (!(inverse > 0)) continue;
        const float32x4_t by = vdupq_n_f32(inverse);
        const int16x8_t down = vdupq_n_s16((int16_t)less);
        for (size_t i = 0; i < n; i += 8) {
            int8_t eight[8];
            vst1_s8(eight, vqmovn_s16(vsubq_s16(to_int16(&c, x, i, n, by, lowest), down)));
            memcpy(out + i, eight, n - i < 8 ? n - i : 8);
        }
    }
}

void cpl_quantise4_neon(const cpl_rows_i8 *to, const float *x, size_t rows, size_t n, size_t ld)
{
    quantise_bytes(to, x, rows, n, ld, 4);
}

void cpl_quantise8_neon(const cpl_rows_i8 *to, const float *x, size_t rows, size_t n, size_t ld)
{
    quantise_bytes(to, x, rows, n, ld, 8);
}

static void quantise_words(const cpl_rows_i8 *to, const float *x, size_t rows, size_t n, size_t ld)
{
    const columns c = columns_of(to);
    for (size_t r = 0; r < rows; r++, x += ld) {
        int16_t *out = (int16_t *)(void *)((char *)to->q + r * to->ldq);
        float inverse;
        to->scale[r] = cpl_i8_scale(row_most(&c, x, n), to->is_unsigned ? CPL_I8_UNSIGNED : CPL_I8_SIGNED, &inverse);
        memset(out, 0, n * sizeof *out);
        if (!(inverse > 0)) continue;
        const float32x4_t by = vdupq_n_f32(inverse);
        for (size_t i = 0; i < n; i += 8) {
            int16_t eight[8];
            vst1q_s16(eight, to_int16(&c, x, i, n, by, to->is_unsigned ? 0 : -128));
            memcpy(out + i, eight, (n - i < 8 ? n - i : 8) * sizeof *out);
        }
    }
}

CPL_INLINE void tile_rows(const cpl_tile_i8 *t, const uint32_t rows)
{
    int32x4_t acc[MR][4];
    const int16_t *a[MR];
    CPL_UNROLL for (uint32_t i = 0; i < rows; i++)
    {
        CPL_UNROLL for (int j = 0; j < 4; j++) acc[i][j] = vld1q_s32(t->start + 4 * j);
        a[i] = (const int16_t *)(const void *)((const char *)t->a + i * t->lda);
    }
    const int8_t *b = t->b;
    const char *hint = t->prefetch;
    const uint32_t lines = t->lines;
    for (uint32_t p = 0; p < t->groups; p++, b += NR) {
        if (!(p & 3)) hint = cpl_hint(hint, lines);
        const int8x16_t bytes = vld1q_s8(b);
        const int16x8_t lo = vmovl_s8(vget_low_s8(bytes)), hi = vmovl_high_s8(bytes);
        CPL_UNROLL for (uint32_t i = 0; i < rows; i++)
        {
            const int16x8_t x = vld1q_dup_s16(a[i] + p);
            acc[i][0] = vmlal_s16(acc[i][0], vget_low_s16(lo), vget_low_s16(x));
            acc[i][1] = vmlal_high_s16(acc[i][1], lo, x);
            acc[i][2] = vmlal_s16(acc[i][2], vget_low_s16(hi), vget_low_s16(x));
            acc[i][3] = vmlal_high_s16(acc[i][3], hi, x);
        }
    }
    CPL_UNROLL for (uint32_t i = 0; i < rows; i++) cpl_finish_row_i8_neon(t, i, acc[i]);
    cpl_activate_neon(t->c, t->ldc, rows, t->epilogue);
}

#define TILE(rows)                                                                                                     \
    static void tile_##rows(const cpl_tile_i8 *t) { tile_rows(t, rows); }
TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)
#undef TILE

static void tile(const cpl_tile_i8 *t)
{
    static void (*const by_rows[MR + 1])(const cpl_tile_i8 *) = {
        NULL, tile_1, tile_2, tile_3, tile_4, tile_5, tile_6,
    };
    by_rows[t->m](t);
}

void cpl_i8_install_neon(cpl_kernels *k)
{
    k->i8_isa = "neon-smlal";
    k->i8_mr = MR;
    k->i8_nr = NR;
    k->i8_group = 1;
    k->i8_bytes = 2;
    k->i8_zero = k->i8_zero_unsigned = 0;
    k->tile_i8 = tile;
    k->quantise_i8 = quantise_words;
    k->unpack_i4 = cpl_unpack_i4_neon;
}
