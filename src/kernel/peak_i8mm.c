/* SPDX-License-Identifier: Apache-2.0 */
/* peak_i8mm.c - 24 independent chains of smmla, 8 multiply-adds into each of 4 sums: enough to cover four a cycle at 4
 * cycles' latency. In assembly, because a compiler that sees the same product twice multiplies once. */
#include <arm_neon.h>

#include "kernel/peak.h"
#include "kernel/unroll.h"

enum { CHAINS = 24 };

double cpl_peak_block_i8mm(uint64_t rounds, float *sink)
{
    int32x4_t acc[CHAINS];
    const int8x16_t a = vdupq_n_s8(5), b = vdupq_n_s8(3);
    CPL_UNROLL for (int i = 0; i < CHAINS; i++) acc[i] = vdupq_n_s32(i);
    for (uint64_t r = 0; r < rounds; r++) {
        CPL_UNROLL for (int i = 0; i < CHAINS;
                        i++) __asm__ volatile("smmla %0.4s, %1.16b, %2.16b" : "+w"(acc[i]) : "w"(a), "w"(b));
    }
    int32x4_t sum = vdupq_n_s32(0);
    CPL_UNROLL for (int i = 0; i < CHAINS; i++) sum = veorq_s32(sum, acc[i]);
    *sink += (float)vaddvq_s32(sum);
    return 2.0 * 32 * CHAINS * (double)rounds;
}
