/* SPDX-License-Identifier: Apache-2.0 */
/* peak_bf16.c - 24 independent chains of vdpbf16ps, 32 multiply-adds each: enough to cover two a cycle at 6 cycles'
 * latency and more. */
#include <immintrin.h>

#include "kernel/dpbf16.h"
#include "kernel/peak.h"
#include "kernel/unroll.h"

enum { CHAINS = 24 };

double cpl_peak_block_bf16(uint64_t rounds, float *sink)
{
    __m512 acc[CHAINS];
    const __m512i a = _mm512_set1_epi32(0x3f803e80), b = _mm512_set1_epi32(0x3e803f00); /* 1, 0.25; 0.25, 0.5 */
    CPL_UNROLL for (int i = 0; i < CHAINS; i++) acc[i] = _mm512_set1_ps((float)i);
    for (uint64_t r = 0; r < rounds; r++) {
        CPL_UNROLL for (int i = 0; i < CHAINS; i++) cpl_dpbf16(&acc[i], a, b);
    }
    __m512 sum = _mm512_setzero_ps();
    CPL_UNROLL for (int i = 0; i < CHAINS; i++) sum = _mm512_add_ps(sum, acc[i]);
    *sink += _mm512_reduce_add_ps(sum);
    return 2.0 * 32 * CHAINS * (double)rounds;
}
