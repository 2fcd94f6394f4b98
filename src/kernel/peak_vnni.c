/* SPDX-License-Identifier: Apache-2.0 */
/* peak_vnni.c - 24 independent chains of vpdpbusd, 64 multiply-adds each: enough to cover two a cycle at 4 to 5 cycles'
 * latency. */
#include <immintrin.h>

#include "kernel/peak.h"
#include "kernel/unroll.h"
#include "kernel/vnni.h"

enum { CHAINS = 24 };

double cpl_peak_block_int8_vnni(uint64_t rounds, float *sink)
{
    __m512i acc[CHAINS];
    const __m512i a = _mm512_set1_epi8(5), b = _mm512_set1_epi8(3);
    CPL_UNROLL for (int i = 0; i < CHAINS; i++) acc[i] = _mm512_set1_epi32(i);
    for (uint64_t r = 0; r < rounds; r++) {
        CPL_UNROLL for (int i = 0; i < CHAINS; i++) cpl_dpbusd(&acc[i], a, b);
    }
    __m512i sum = _mm512_setzero_si512();
    CPL_UNROLL for (int i = 0; i < CHAINS; i++) sum = _mm512_xor_si512(sum, acc[i]);
    *sink += (float)_mm512_reduce_add_epi32(sum);
    return 2.0 * 64 * CHAINS * (double)rounds;
}
