/* SPDX-License-Identifier: Apache-2.0 */
/* h16_avx2.c - the register tiles for 16-bit weights on AVX2: up to 6 rows x 16 columns.
 *
 * tile_avx2.c's tile, with B's two vectors widened in registers (a shift for bf16, vcvtph2ps for fp16) and computed
 * in fp32: half the stream of weights for a few instructions more. */
#include "kernel/avx2.h"
#include "kernel/epilogue_avx2.h"
#include "kernel/unroll.h"

enum { NR = 16, MR = 6 };

CPL_INLINE __m256 widen(const uint16_t *b, const int fp16)
{
    const __m128i h = _mm_loadu_si128((const __m128i *)(const void *)b);
    if (fp16) return _mm256_cvtph_ps(h);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

CPL_INLINE void tile_rows(const cpl_tile_h16 *t, const uint32_t rows, const int fp16)
{
    __m256 acc[MR][2];
    const float *a[MR];
    CPL_UNROLL for (uint32_t i = 0; i < rows; i++)
    {
        acc[i][0] = acc[i][1] = _mm256_setzero_ps();
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
        const __m256 b0 = widen(b, fp16), b1 = widen(b + 8, fp16);
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

void cpl_h16_install_avx2(cpl_kernels *k)
{
    k->h16[CPL_H16_BF16] = (cpl_h16){"fp32 avx2", MR, NR, 1, tile_bf16, NULL};
    k->h16[CPL_H16_FP16] = (cpl_h16){"fp32 avx2", MR, NR, 1, tile_fp16, NULL};
}
