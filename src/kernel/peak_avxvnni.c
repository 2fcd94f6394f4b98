/* SPDX-License-Identifier: Apache-2.0 */
/* peak_avxvnni.c - 12 independent chains of vpdpbusd on 256 bits, 32 multiply-adds each: enough to cover two a cycle at
 * 5 cycles' latency, and as many as leave registers for the factors. */
#include "kernel/peak.h"
#include "kernel/unroll.h"
#include "kernel/vnni256.h"

enum { CHAINS = 12 };

double cpl_peak_block_int8_avxvnni(uint64_t rounds, float *sink)
{
    __m256i acc[CHAINS];
    const __m256i a = _mm256_set1_epi8(5), b = _mm256_set1_epi8(3);
    CPL_UNROLL for (int i = 0; i < CHAINS; i++) acc[i] = _mm256_set1_epi32(i);
    for (uint64_t r = 0; r < rounds; r++) {
        CPL_UNROLL for (int i = 0; i < CHAINS; i++) cpl_dpbusd256(&acc[i], a, b);
    }
    __m256i sum = _mm256_setzero_si256();
    CPL_UNROLL for (int i = 0; i < CHAINS; i++) sum = _mm256_xor_si256(sum, acc[i]);
    *sink += (float)_mm_cvtsi128_si32(_mm256_castsi256_si128(sum));
    return 2.0 * 32 * CHAINS * (double)rounds;
}
