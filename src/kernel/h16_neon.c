/* SPDX-License-Identifier: Apache-2.0 */
/* h16_neon.c - the register tiles for 16-bit weights on NEON: up to 6 rows x 16 columns.
 *
 * tile_neon.c's tile, with B's four vectors widened in registers (a shift for bf16, fcvtl for fp16) and computed in
 * fp32: half the stream of weights for a few instructions more. */
#include "kernel/epilogue_neon.h"
#include "kernel/neon.h"

enum { NR = 16, MR = 6 };

CPL_INLINE float32x4_t widen(const uint16_t *b, const int fp16)
{
    const uint16x4_t h = vld1_u16(b);
    if (fp16) return vcvt_f32_f16(vreinterpret_f16_u16(h));
    return vreinterpretq_f32_u32(vshll_n_u16(h, 16));
}

CPL_INLINE void tile_rows(const cpl_tile_h16 *t, const uint32_t rows, const int fp16)
{
    float32x4_t acc[MR][4];
    const float *a[MR];
    CPL_UNROLL for (uint32_t i = 0; i < rows; i++)
    {
        CPL_UNROLL for (int j = 0; j < 4; j++) acc[i][j] = vdupq_n_f32(0);
        a[i] = (const float *)(const void *)((const char *)t->a + i * t->lda);
    }
    const uint16_t *b = t->b;
    const char *hint = t->prefetch;
    const uint32_t k = t->groups;
    for (uint32_t p = 0; p < k; p++, b += NR) {
        if (!(p & 3)) {
            __builtin_prefetch(hint, 0, 2);
            hint += 64;
        }
        const float32x4_t b0 = widen(b, fp16), b1 = widen(b + 4, fp16);
        const float32x4_t b2 = widen(b + 8, fp16), b3 = widen(b + 12, fp16);
        CPL_UNROLL for (uint32_t i = 0; i < rows; i++)
        {
            const float32x4_t x = vld1q_dup_f32(a[i] + p);
            acc[i][0] = vfmaq_f32(acc[i][0], x, b0);
            acc[i][1] = vfmaq_f32(acc[i][1], x, b1);
            acc[i][2] = vfmaq_f32(acc[i][2], x, b2);
            acc[i][3] = vfmaq_f32(acc[i][3], x, b3);
        }
    }
    const cpl_store_neon_to s = {t->c, t->ldc, t->bias, t->residual, t->ldr, t->epilogue};
    CPL_UNROLL for (uint32_t i = 0; i < rows; i++) cpl_store_row_neon(&s, i, acc[i]);
    cpl_activate_neon(t->c, t->ldc, rows, t->epilogue);
}

#define TILE(rows)                                                                                                     \
    static void bf16_##rows(const cpl_tile_h16 *t) { tile_rows(t, rows, 0); }                                          \
    static void fp16_##rows(const cpl_tile_h16 *t) { tile_rows(t, rows, 1); }
TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)
#undef TILE

static void tile_bf16(const cpl_tile_h16 *t)
{
    static void (*const by_rows[MR + 1])(const cpl_tile_h16 *) = {
        NULL, bf16_1, bf16_2, bf16_3, bf16_4, bf16_5, bf16_6,
    };
    by_rows[t->m](t);
}

static void tile_fp16(const cpl_tile_h16 *t)
{
    static void (*const by_rows[MR + 1])(const cpl_tile_h16 *) = {
        NULL, fp16_1, fp16_2, fp16_3, fp16_4, fp16_5, fp16_6,
    };
    by_rows[t->m](t);
}

void cpl_h16_install_neon(cpl_kernels *k)
{
    k->h16[CPL_H16_BF16] = (cpl_h16){"fp32 neon", MR, NR, 1, tile_bf16, NULL};
    k->h16[CPL_H16_FP16] = (cpl_h16){"fp32 neon", MR, NR, 1, tile_fp16, NULL};
}
