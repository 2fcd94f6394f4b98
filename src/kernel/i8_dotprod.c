/* SPDX-License-Identifier: Apache-2.0 */
/* i8_dotprod.c - the int8 register tile for NEON with dot products: up to 6 rows x 16 columns in 24 accumulators.
 *
 * sdot adds four products of signed bytes into each int32, so activations need no offset and nothing saturates: one
 * broadcast of four k of a row, four vectors of B, as in tile_neon.c. */
#include <string.h>

#include "kernel/epilogue_neon.h"
#include "kernel/hint.h"
#include "kernel/neon.h"

enum { NR = 16, MR = 6, GROUP = 4 };

CPL_INLINE void tile_rows(const cpl_tile_i8 *t, const uint32_t rows)
{
    int32x4_t acc[MR][4];
    const int8_t *a[MR];
    CPL_UNROLL for (uint32_t i = 0; i < rows; i++)
    {
        CPL_UNROLL for (int j = 0; j < 4; j++) acc[i][j] = vld1q_s32(t->start + 4 * j);
        a[i] = (const int8_t *)t->a + i * t->lda;
    }
    const int8_t *b = t->b;
    const char *hint = t->prefetch;
    const uint32_t lines = t->lines;
    const uint32_t end = t->groups * GROUP;
    for (uint32_t p = 0; p < end; p += GROUP, b += NR * GROUP) {
        if (!(p & (4 * GROUP - 1))) hint = cpl_hint(hint, lines);
        const int8x16_t b0 = vld1q_s8(b), b1 = vld1q_s8(b + 16), b2 = vld1q_s8(b + 32), b3 = vld1q_s8(b + 48);
        CPL_UNROLL for (uint32_t i = 0; i < rows; i++)
        {
            int32_t four;
            memcpy(&four, a[i] + p, sizeof four);
            const int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(four));
            acc[i][0] = vdotq_s32(acc[i][0], b0, x);
            acc[i][1] = vdotq_s32(acc[i][1], b1, x);
            acc[i][2] = vdotq_s32(acc[i][2], b2, x);
            acc[i][3] = vdotq_s32(acc[i][3], b3, x);
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

void cpl_kernels_dotprod(cpl_kernels *k)
{
    k->i8_isa = "neon-sdot";
    k->i8_mr = MR;
    k->i8_nr = NR;
    k->i8_group = GROUP;
    k->i8_bytes = 1;
    k->i8_zero = 0;
    k->i8_zero_unsigned = -128;
    k->tile_i8 = tile;
    k->quantise_i8 = cpl_quantise4_neon;
}
