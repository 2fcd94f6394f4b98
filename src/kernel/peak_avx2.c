/* SPDX-License-Identifier: Apache-2.0 */
/* peak_avx2.c - 12 independent FMA chains of 8 floats: enough to cover two FMAs a cycle at 4 to 5 cycles' latency. The
 * L2-fed block reads one vector for each FMA pair.
 *
 * The int8 block is vpmaddwd and vpaddd on int16, 16 multiply-adds a pair of instructions. In assembly, because
 * a compiler that sees the same product twice multiplies once, and one that sees it fed back spills registers. */
#include <immintrin.h>

#include "kernel/peak.h"
#include "kernel/unroll.h"

enum { CHAINS = 12 };

static float fold(__m256 x)
{
    float lanes[8], sum = 0;
    _mm256_storeu_ps(lanes, x);
    for (int i = 0; i < 8; i++) sum += lanes[i];
    return sum;
}

double cpl_peak_block_avx2(uint64_t rounds, float *sink)
{
    __m256 acc[CHAINS];
    const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.5f);
    CPL_UNROLL for (int i = 0; i < CHAINS; i++) acc[i] = _mm256_set1_ps((float)i);
    for (uint64_t r = 0; r < rounds; r++) {
        CPL_UNROLL for (int i = 0; i < CHAINS; i++) acc[i] = _mm256_fmadd_ps(acc[i], a, b);
    }
    __m256 sum = _mm256_setzero_ps();
    CPL_UNROLL for (int i = 0; i < CHAINS; i++) sum = _mm256_add_ps(sum, acc[i]);
    *sink += fold(sum);
    return 2.0 * 8 * CHAINS * (double)rounds;
}

double cpl_peak_block_int8_avx2(uint64_t rounds, float *sink)
{
    __m256i acc[CHAINS];
    const __m256i a = _mm256_set1_epi16(5), b = _mm256_set1_epi16(3);
    CPL_UNROLL for (int i = 0; i < CHAINS; i++) acc[i] = _mm256_set1_epi32(i + 1);
    for (uint64_t r = 0; r < rounds; r++) {
        CPL_UNROLL for (int i = 0; i < CHAINS; i++)
        {
            __m256i product;
            __asm__ volatile("vpmaddwd %2, %3, %1\n\tvpaddd %1, %0, %0"
                             : "+x"(acc[i]), "=&x"(product)
                             : "x"(a), "x"(b));
        }
    }
    __m256i sum = _mm256_setzero_si256();
    CPL_UNROLL for (int i = 0; i < CHAINS; i++) sum = _mm256_xor_si256(sum, acc[i]);
    *sink += fold(_mm256_cvtepi32_ps(sum));
    return 2.0 * 16 * CHAINS * (double)rounds;
}

double cpl_peak_block_l2_avx2(uint64_t rounds, const float *data, uint64_t floats, float *sink)
{
    __m256 acc[12];
    const __m256 a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(0.25f);
    CPL_UNROLL for (int i = 0; i < 12; i++) acc[i] = _mm256_setzero_ps();
    for (uint64_t r = 0; r < rounds; r++) {
        for (uint64_t p = 0; p + 48 <= floats; p += 48) {
            CPL_UNROLL for (int i = 0; i < 6; i++)
            {
                const __m256 x = _mm256_loadu_ps(data + p + 8 * i);
                acc[2 * i] = _mm256_fmadd_ps(x, a, acc[2 * i]);
                acc[2 * i + 1] = _mm256_fmadd_ps(x, b, acc[2 * i + 1]);
            }
        }
    }
    __m256 sum = _mm256_setzero_ps();
    CPL_UNROLL for (int i = 0; i < 12; i++) sum = _mm256_add_ps(sum, acc[i]);
    *sink += fold(sum);
    return 4.0 * (double)(floats / 48 * 48) * (double)rounds;
}
