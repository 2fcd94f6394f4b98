/* SPDX-License-Identifier: Apache-2.0 */
/* rows_i8_avx2.h - what the int8 kernels with 256-bit registers share: rows on their way to int8, and sums on their way
 * back. Included by i8_avx2.c and i8_avxvnni.c only (math_avx2.h says why). */
#ifndef CPL_KERNEL_ROWS_I8_AVX2_H
#define CPL_KERNEL_ROWS_I8_AVX2_H

#include "kernel/epilogue_avx2.h"
#include "kernel/quantise.h"
#include "kernel/unroll.h"

CPL_INLINE __m256i magnitude(__m256 x)
{
    return _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(INT32_MAX));
}

/* The factors of 8 columns, or those of all. */
typedef struct columns {
    const float *mul, *add;
    __m256 one, up;
} columns;

CPL_INLINE __m256 load(const float *p, size_t left)
{
    return left >= 8 ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, cpl_mask8(left));
}

/* Lanes beyond `left` are 0. */
CPL_INLINE __m256 moved(const columns *c, int each, const float *x, size_t i, size_t left)
{
    const __m256 mul = each ? load(c->mul + i, left) : c->one, add = each ? load(c->add + i, left) : c->up;
    const __m256 y = _mm256_fmadd_ps(load(x + i, left), mul, add);
    return left >= 8 ? y : _mm256_and_ps(y, _mm256_castsi256_ps(cpl_mask8(left)));
}

CPL_INLINE uint32_t row_most(const columns *c, int each, const float *x, size_t n)
{
    __m256i most[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        most[0] = _mm256_max_epu32(most[0], magnitude(moved(c, each, x, i, 8)));
        most[1] = _mm256_max_epu32(most[1], magnitude(moved(c, each, x, i + 8, 8)));
    }
    for (; i < n; i += 8) most[0] = _mm256_max_epu32(most[0], magnitude(moved(c, each, x, i, n - i)));
    const __m256i both = _mm256_max_epu32(most[0], most[1]);
    const __m128i half = _mm_max_epu32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
    const __m128i two = _mm_max_epu32(half, _mm_unpackhi_epi64(half, half));
    return (uint32_t)_mm_cvtsi128_si32(_mm_max_epu32(two, _mm_shuffle_epi32(two, 1)));
}

/* 16 nearest integers from `lowest` up, as int16. */
CPL_INLINE __m256i to_words(const columns *c, int each, const float *x, size_t i, size_t n, __m256 by, __m256i lowest)
{
    const __m256 a = moved(c, each, x, i, n - i);
    const __m256 b = n - i > 8 ? moved(c, each, x, i + 8, n - i - 8) : _mm256_setzero_ps();
    const __m256i lo = _mm256_cvtps_epi32(_mm256_mul_ps(a, by)), hi = _mm256_cvtps_epi32(_mm256_mul_ps(b, by));
    return _mm256_max_epi16(_mm256_permute4x64_epi64(_mm256_packs_epi32(lo, hi), 0xd8), lowest);
}

/* 16 sums of row i: scaled, biased, stored. */
CPL_INLINE void finish_row(const cpl_tile_i8 *t, uint32_t i, const __m256i *sum)
{
    const __m256 scale = _mm256_set1_ps(t->row_scale[i]);
    CPL_UNROLL for (int j = 0; j < 2; j++)
    {
        const __m256 by = _mm256_loadu_ps(t->column_scale + 8 * j);
        const __m256 bias = t->epilogue == CPL_EPILOGUE_NONE ? _mm256_setzero_ps() : _mm256_loadu_ps(t->bias + 8 * j);
        __m256 y = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sum[j]), scale), by, bias);
        if (t->epilogue == CPL_EPILOGUE_RESIDUAL)
            y = _mm256_add_ps(y, _mm256_loadu_ps(t->residual + i * t->ldr + 8 * j));
        _mm256_storeu_ps(t->c + i * t->ldc + 8 * j, y);
    }
}

#endif
