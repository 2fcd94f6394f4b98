/* SPDX-License-Identifier: Apache-2.0 */
/* h16_avx512.c - the register tiles for 16-bit weights on AVX-512: up to 12 rows x 32 columns.
 *
 * tile_avx512.c's tile, with B's two vectors widened in registers (a shift for bf16, vcvtph2ps for fp16) and computed
 * in fp32: two or four more instructions for 24 FMAs, off the FMA units' way, for half the stream of weights. */
#include "kernel/avx512.h"
#include "kernel/epilogue_avx512.h"
#include "kernel/unroll.h"

enum { NR = 32, MR = 12 };

CPL_INLINE __m512 widen(const uint16_t *b, const int fp16)
{
    const __m256i h = _mm256_loadu_si256((const __m256i *)(const void *)b);
    if (fp16) return _mm512_cvtph_ps(h);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

CPL_INLINE void tile_rows(const cpl_tile_h16 *t, const uint32_t rows, const int fp16)
{
    __m512 acc[MR][2];
    const float *a[MR];
    CPL_UNROLL for (uint32_t i = 0; i < rows; i++)
    {
        acc[i][0] = acc[i][1] = _mm512_setzero_ps();
        a[i] = (const float *)(const void *)((const char *)t->a + i * t->lda);
    }
    const uint16_t *b = t->b;
    const char *hint = t->prefetch;
    const uint32_t k = t->groups;
    for (uint32_t p = 0; p < k; p++, b += NR) {
        if (!(p & 3)) {
            _mm_prefetch(hint, _MM_HINT_T1);
            hint += 64;
        }
        const __m512 b0 = widen(b, fp16), b1 = widen(b + 16, fp16);
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
    static void bf16_##rows(const cpl_tile_h16 *t) { tile_rows(t, rows, 0); }                                          \
    static void fp16_##rows(const cpl_tile_h16 *t) { tile_rows(t, rows, 1); }
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

static void tile_bf16(const cpl_tile_h16 *t)
{
    static void (*const by_rows[MR + 1])(const cpl_tile_h16 *) = {
        NULL, bf16_1, bf16_2, bf16_3, bf16_4, bf16_5, bf16_6, bf16_7, bf16_8, bf16_9, bf16_10, bf16_11, bf16_12,
    };
    by_rows[t->m](t);
}

static void tile_fp16(const cpl_tile_h16 *t)
{
    static void (*const by_rows[MR + 1])(const cpl_tile_h16 *) = {
        NULL, fp16_1, fp16_2, fp16_3, fp16_4, fp16_5, fp16_6, fp16_7, fp16_8, fp16_9, fp16_10, fp16_11, fp16_12,
    };
    by_rows[t->m](t);
}

void cpl_h16_install_avx512(cpl_kernels *k)
{
    k->h16[CPL_H16_BF16] = (cpl_h16){"fp32 avx512", MR, NR, 1, tile_bf16, NULL};
    k->h16[CPL_H16_FP16] = (cpl_h16){"fp32 avx512", MR, NR, 1, tile_fp16, NULL};
}
