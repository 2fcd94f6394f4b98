/* SPDX-License-Identifier: Apache-2.0 */
/* i8_i8mm.c - the int8 register tile for NEON with matrix products: up to 6 rows x 16 columns in 24 accumulators.
 *
 * smmla multiplies two rows of eight k by two columns of eight k and adds the four sums to one register: 32
 * multiply-adds an instruction. Panels hold eight k of a column side by side, so 16 bytes are two columns as it wants
 * them; two rows of A are put together when loaded. An odd last row is paired with itself and its second half dropped:
 * sums are exact integers, so that can't show. Three of 32 registers hold A, one or two B. */
#include "kernel/epilogue_neon.h"
#include "kernel/hint.h"
#include "kernel/neon.h"

enum { NR = 16, MR = 6, GROUP = 8, ROW_PAIRS = MR / 2, COLUMN_PAIRS = NR / 2 };

CPL_INLINE void tile_pairs(const cpl_tile_i8 *t, const uint32_t pairs)
{
    int32x4_t acc[ROW_PAIRS][COLUMN_PAIRS];
    const int8_t *a[ROW_PAIRS][2];
    CPL_UNROLL for (uint32_t i = 0; i < pairs; i++)
    {
        CPL_UNROLL for (int j = 0; j < COLUMN_PAIRS; j++)
        {
            const int32x2_t start = vld1_s32(t->start + 2 * j);
            acc[i][j] = vcombine_s32(start, start);
        }
        const uint32_t second = 2 * i + 1 < t->m ? 2 * i + 1 : 2 * i;
        a[i][0] = (const int8_t *)t->a + 2 * i * t->lda;
        a[i][1] = (const int8_t *)t->a + second * t->lda;
    }
    const int8_t *b = t->b;
    const char *hint = t->prefetch;
    const uint32_t lines = t->lines;
    const uint32_t end = t->groups * GROUP;
    for (uint32_t p = 0; p < end; p += GROUP, b += NR * GROUP) {
        if (!(p & (4 * GROUP - 1))) hint = cpl_hint(hint, lines);
        int8x16_t x[ROW_PAIRS];
        CPL_UNROLL for (uint32_t i = 0; i < pairs; i++) x[i] = vcombine_s8(vld1_s8(a[i][0] + p), vld1_s8(a[i][1] + p));
        CPL_UNROLL for (int j = 0; j < COLUMN_PAIRS; j++)
        {
            const int8x16_t columns = vld1q_s8(b + 16 * j);
            CPL_UNROLL for (uint32_t i = 0; i < pairs; i++) acc[i][j] = vmmlaq_s32(acc[i][j], x[i], columns);
        }
    }
    CPL_UNROLL for (uint32_t i = 0; i < pairs; i++)
    {
        int32x4_t row[2][4];
        CPL_UNROLL for (int j = 0; j < 4; j++)
        {
            const int64x2_t left = vreinterpretq_s64_s32(acc[i][2 * j]);
            const int64x2_t right = vreinterpretq_s64_s32(acc[i][2 * j + 1]);
            row[0][j] = vreinterpretq_s32_s64(vtrn1q_s64(left, right));
            row[1][j] = vreinterpretq_s32_s64(vtrn2q_s64(left, right));
        }
        cpl_finish_row_i8_neon(t, 2 * i, row[0]);
        if (2 * i + 1 < t->m) cpl_finish_row_i8_neon(t, 2 * i + 1, row[1]);
    }
    cpl_activate_neon(t->c, t->ldc, t->m, t->epilogue);
}

static void tile_1(const cpl_tile_i8 *t) { tile_pairs(t, 1); }
static void tile_2(const cpl_tile_i8 *t) { tile_pairs(t, 2); }
static void tile_3(const cpl_tile_i8 *t) { tile_pairs(t, 3); }

static void tile(const cpl_tile_i8 *t)
{
    static void (*const by_pairs[ROW_PAIRS + 1])(const cpl_tile_i8 *) = {NULL, tile_1, tile_2, tile_3};
    by_pairs[(t->m + 1) / 2](t);
}

void cpl_kernels_i8mm(cpl_kernels *k)
{
    k->i8_isa = "neon-smmla";
    k->i8_mr = MR;
    k->i8_nr = NR;
    k->i8_group = GROUP;
    k->i8_bytes = 1;
    k->i8_zero = 0;
    k->i8_zero_unsigned = -128;
    k->tile_i8 = tile;
    k->quantise_i8 = cpl_quantise8_neon;
}
