/* SPDX-License-Identifier: Apache-2.0 */
/* tile_avx512.c - the register tile for AVX-512: up to 12 rows x 32 columns in 24 accumulators.
 *
 * The idea: for each k two loads of B and one broadcast of A a row feed two FMAs a row; 14 loads for 24 FMAs leave the
 * FMA units the only bottleneck where a core has one 512-bit FMA a cycle (Zen 4) and are just enough where it has two.
 * One body, instantiated for 1..12 rows, so short tiles have the same order of operations and no wasted rows.
 *
 * Sums stay in registers over the whole of K; activations run on the stored tile while it is in L1, several vectors
 * side by side, since one GELU is a chain of 15 dependent instructions. */
#include "kernel/avx512.h"
#include "kernel/epilogue_avx512.h"
#include "kernel/unroll.h"

enum { NR = 32, MR = 12 };

CPL_INLINE void tile_rows(const cpl_tile_f32 *t, const uint32_t rows)
{
    __m512 acc[MR][2];
    const float *a[MR];
    CPL_UNROLL for (uint32_t i = 0; i < rows; i++)
    {
        acc[i][0] = acc[i][1] = _mm512_setzero_ps();
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
        const __m512 b0 = _mm512_loadu_ps(b), b1 = _mm512_loadu_ps(b + 16);
        CPL_UNROLL for (uint32_t i = 0; i < rows; i++)
        {
            const __m512 x = _mm512_set1_ps(a[i][p]);
            acc[i][0] = _mm512_fmadd_ps(x, b0, acc[i][0]);
            acc[i][1] = _mm512_fmadd_ps(x, b1, acc[i][1]);
        }
    }
    const cpl_store_avx512 s = {t->c, t->ldc, t->bias, t->residual, t->ldr, t->epilogue};
    CPL_UNROLL for (uint32_t i = 0; i < rows; i++) cpl_store_row_avx512(&s, i, acc[i][0], acc[i][1]);
    cpl_activate_avx512(t->c, t->ldc, rows, t->epilogue);
}

#define TILE(rows)                                                                                                     \
    static void tile_##rows(const cpl_tile_f32 *t) { tile_rows(t, rows); }
TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)
TILE(7)
TILE(8)
TILE(9)
TILE(10)
TILE(11)
TILE(12)
#undef TILE

static void tile(const cpl_tile_f32 *t)
{
    static void (*const by_rows[MR + 1])(const cpl_tile_f32 *) = {
        NULL, tile_1, tile_2, tile_3, tile_4, tile_5, tile_6, tile_7, tile_8, tile_9, tile_10, tile_11, tile_12,
    };
    by_rows[t->m](t);
}

void cpl_tile_install_avx512(cpl_kernels *k)
{
    k->tile_f32 = tile;
    k->mr = MR;
    k->nr = NR;
}
