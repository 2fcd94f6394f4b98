/* SPDX-License-Identifier: Apache-2.0 */
/* peak_avx512.c - 24 independent FMA chains of 16 floats: enough to cover two 512-bit FMAs a cycle at 4 to 5 cycles'
 * latency. The L2-fed block reads one line for each FMA pair, about what a 2-column GEMM tile without row reuse does.
 */
#include <immintrin.h>

#include "kernel/peak.h"
#include "kernel/unroll.h"

enum { CHAINS = 24 };

double cpl_peak_block_avx512(uint64_t rounds, float *sink)
{
    __m512 acc[CHAINS];
    const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.5f);
    CPL_UNROLL for (int i = 0; i < CHAINS; i++) acc[i] = _mm512_set1_ps((float)i);
    for (uint64_t r = 0; r < rounds; r++) {
        CPL_UNROLL for (int i = 0; i < CHAINS; i++) acc[i] = _mm512_fmadd_ps(acc[i], a, b);
    }
    __m512 sum = _mm512_setzero_ps();
    CPL_UNROLL for (int i = 0; i < CHAINS; i++) sum = _mm512_add_ps(sum, acc[i]);
    *sink += _mm512_reduce_add_ps(sum);
    return 2.0 * 16 * CHAINS * (double)rounds;
}

double cpl_peak_block_l2_avx512(uint64_t rounds, const float *data, uint64_t floats, float *sink)
{
    __m512 acc[16];
    const __m512 a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(0.25f);
    CPL_UNROLL for (int i = 0; i < 16; i++) acc[i] = _mm512_setzero_ps();
    for (uint64_t r = 0; r < rounds; r++) {
        for (uint64_t p = 0; p < floats; p += 128) {
            CPL_UNROLL for (int i = 0; i < 8; i++)
            {
                const __m512 x = _mm512_loadu_ps(data + p + 16 * i);
                acc[2 * i] = _mm512_fmadd_ps(x, a, acc[2 * i]);
                acc[2 * i + 1] = _mm512_fmadd_ps(x, b, acc[2 * i + 1]);
            }
        }
    }
    __m512 sum = _mm512_setzero_ps();
    CPL_UNROLL for (int i = 0; i < 16; i++) sum = _mm512_add_ps(sum, acc[i]);
    *sink += _mm512_reduce_add_ps(sum);
    return 4.0 * (double)floats * (double)rounds;
}
