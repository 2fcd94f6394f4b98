/* SPDX-License-Identifier: Apache-2.0 */
/* tile_neon.c - the register tile for NEON: up to 6 rows x 16 columns in 24 accumulators.
 *
 * Of 32 registers 24 hold sums, four hold B, one the broadcast of A: for each k 10 loads feed 24 FMAs, and 24 sums
 * cover four FMAs a cycle at 4 cycles' latency. One body, instantiated for 1..6 rows, as in tile_avx2.c. Rejected: 8 x
 * 12, which divides no head size; FMAs by lane, which want four k of A for every row in registers. */
#include "kernel/epilogue_neon.h"
#include "kernel/neon.h"

enum { NR = 16, MR = 6 };

CPL_INLINE void tile_rows(const cpl_tile_f32 *t, const uint32_t rows)
{
    float32x4_t acc[MR][4];
    const float *a[MR];
    CPL_UNROLL for (uint32_t i = 0; i < rows; i++)
    {
        CPL_UNROLL for (int j = 0; j < 4; j++) acc[i][j] = vdupq_n_f32(0);
        a[i] = t->a + i * t->lda;
    }
    const float *b = t->b;
    const char *hint = t->prefetch;
    const uint32_t k = t->k;
    const size_t ldb = t->ldb;
    for (uint32_t p = 0; p < k; p++, b += ldb) {
        if (!(p & 3)) {
            __builtin_prefetch(hint, 0, 2);
            hint += 64;
        }
        const float32x4_t b0 = vld1q_f32(b), b1 = vld1q_f32(b + 4), b2 = vld1q_f32(b + 8), b3 = vld1q_f32(b + 12);
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
    static void tile_##rows(const cpl_tile_f32 *t) { tile_rows(t, rows); }
TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)
#undef TILE

static void tile(const cpl_tile_f32 *t)
{
    static void (*const by_rows[MR + 1])(const cpl_tile_f32 *) = {
        NULL, tile_1, tile_2, tile_3, tile_4, tile_5, tile_6,
    };
    by_rows[t->m](t);
}

void cpl_tile_install_neon(cpl_kernels *k)
{
    k->tile_f32 = tile;
    k->mr = MR;
    k->nr = NR;
}
