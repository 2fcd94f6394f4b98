/* SPDX-License-Identifier: Apache-2.0 */
/* tile_avx2.c - the register tile for AVX2 + FMA: up to 6 rows x 16 columns in 12 accumulators.
 *
 * Of 16 registers 12 hold sums, two hold B, one the broadcast of A: for each k 8 loads feed 12 FMAs, and 12 sums are
 * enough to cover 2 FMAs a cycle at 4 to 5 cycles' latency. One body, instantiated for 1..6 rows, so short tiles have
 * the same order of operations and no wasted rows. Sums stay in registers over the whole of K; activations run on the
 * stored tile while it is in L1. */
#include "kernel/avx2.h"
#include "kernel/epilogue_avx2.h"
#include "kernel/unroll.h"

enum { NR = 16, MR = 6 };

CPL_INLINE void tile_rows(const cpl_tile_f32 *t, const uint32_t rows)
{
    __m256 acc[MR][2];
    const float *a[MR];
    CPL_UNROLL for (uint32_t i = 0; i < rows; i++)
    {
        acc[i][0] = acc[i][1] = _mm256_setzero_ps();
        a[i] = t->a + i * t->lda;
    }
    const float *b = t->b;
    const char *hint = t->prefetch;
    const uint32_t k = t->k;
    const size_t ldb = t->ldb;
    for (uint32_t p = 0; p < k; p++, b += ldb) {
        if (!(p & 3)) {
            _mm_prefetch(hint, _MM_HINT_T1);
            hint += 64;
        }
        const __m256 b0 = _mm256_loadu_ps(b), b1 = _mm256_loadu_ps(b + 8);
        CPL_UNROLL for (uint32_t i = 0; i < rows; i++)
        {
            const __m256 x = _mm256_set1_ps(a[i][p]);
            acc[i][0] = _mm256_fmadd_ps(x, b0, acc[i][0]);
            acc[i][1] = _mm256_fmadd_ps(x, b1, acc[i][1]);
        }
    }
    const cpl_store_avx2 s = {t->c, t->ldc, t->bias, t->residual, t->ldr, t->epilogue};
    CPL_UNROLL for (uint32_t i = 0; i < rows; i++) cpl_store_row_avx2(&s, i, acc[i][0], acc[i][1]);
    cpl_activate_avx2(t->c, t->ldc, rows, t->epilogue);
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

void cpl_tile_install_avx2(cpl_kernels *k)
{
    k->tile_f32 = tile;
    k->mr = MR;
    k->nr = NR;
}
