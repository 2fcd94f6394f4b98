/* SPDX-License-Identifier: Apache-2.0 */
/* peak_bfmmla.c - 24 independent chains of bfmmla, 4 multiply-adds into each of 4 sums: enough to cover four a cycle at
 * 5 to 6 cycles' latency. In assembly, because a compiler that sees the same product twice multiplies once. */
#include <arm_neon.h>

#include "kernel/peak.h"
#include "kernel/unroll.h"

enum { CHAINS = 24 };

double cpl_peak_block_bfmmla(uint64_t rounds, float *sink)
{
    float32x4_t acc[CHAINS];
    const uint16x8_t a = vdupq_n_u16(0x3f80), b = vdupq_n_u16(0x3f00); /* 1, 0.5 */
    CPL_UNROLL for (int i = 0; i < CHAINS; i++) acc[i] = vdupq_n_f32((float)i);
    for (uint64_t r = 0; r < rounds; r++) {
        CPL_UNROLL for (int i = 0; i < CHAINS;
                        i++) __asm__ volatile("bfmmla %0.4s, %1.8h, %2.8h" : "+w"(acc[i]) : "w"(a), "w"(b));
    }
    float32x4_t sum = vdupq_n_f32(0);
    CPL_UNROLL for (int i = 0; i < CHAINS; i++) sum = vaddq_f32(sum, acc[i]);
    *sink += vaddvq_f32(sum);
    return 2.0 * 16 * CHAINS * (double)rounds;
}
