/* SPDX-License-Identifier: Apache-2.0 */
/* peak_neon.c - 24 independent FMA chains of 4 floats: enough to cover four a cycle at 4 to 5 cycles' latency. The
 * L2-fed block reads one vector for each FMA pair. The int8 block is smlal on int16, 4 multiply-adds an instruction; in
 * assembly, because a compiler that sees the same product twice multiplies once. */
#include <arm_neon.h>

#include "kernel/peak.h"
#include "kernel/unroll.h"

enum { CHAINS = 24 };

double cpl_peak_block_neon(uint64_t rounds, float *sink)
{
    float32x4_t acc[CHAINS];
    const float32x4_t a = vdupq_n_f32(0.999f), b = vdupq_n_f32(0.5f);
    CPL_UNROLL for (int i = 0; i < CHAINS; i++) acc[i] = vdupq_n_f32((float)i);
    for (uint64_t r = 0; r < rounds; r++) {
        CPL_UNROLL for (int i = 0; i < CHAINS;
                        i++) __asm__ volatile("fmla %0.4s, %1.4s, %2.4s" : "+w"(acc[i]) : "w"(a), "w"(b));
    }
    float32x4_t sum = vdupq_n_f32(0);
    CPL_UNROLL for (int i = 0; i < CHAINS; i++) sum = vaddq_f32(sum, acc[i]);
    *sink += vaddvq_f32(sum);
    return 2.0 * 4 * CHAINS * (double)rounds;
}

double cpl_peak_block_int8_neon(uint64_t rounds, float *sink)
{
    int32x4_t acc[CHAINS];
    const int16x4_t a = vdup_n_s16(5), b = vdup_n_s16(3);
    CPL_UNROLL for (int i = 0; i < CHAINS; i++) acc[i] = vdupq_n_s32(i);
    for (uint64_t r = 0; r < rounds; r++) {
        CPL_UNROLL for (int i = 0; i < CHAINS;
                        i++) __asm__ volatile("smlal %0.4s, %1.4h, %2.4h" : "+w"(acc[i]) : "w"(a), "w"(b));
    }
    int32x4_t sum = vdupq_n_s32(0);
    CPL_UNROLL for (int i = 0; i < CHAINS; i++) sum = veorq_s32(sum, acc[i]);
    *sink += (float)vaddvq_s32(sum);
    return 2.0 * 4 * CHAINS * (double)rounds;
}

double cpl_peak_block_l2_neon(uint64_t rounds, const float *data, uint64_t floats, float *sink)
{
    float32x4_t acc[CHAINS];
    const float32x4_t a = vdupq_n_f32(0.5f), b = vdupq_n_f32(0.25f);
    CPL_UNROLL for (int i = 0; i < CHAINS; i++) acc[i] = vdupq_n_f32(0);
    for (uint64_t r = 0; r < rounds; r++) {
        for (uint64_t p = 0; p + 48 <= floats; p += 48) {
            CPL_UNROLL for (int i = 0; i < 12; i++)
            {
                const float32x4_t x = vld1q_f32(data + p + 4 * i);
                acc[2 * i] = vfmaq_f32(acc[2 * i], x, a);
                acc[2 * i + 1] = vfmaq_f32(acc[2 * i + 1], x, b);
            }
        }
    }
    float32x4_t sum = vdupq_n_f32(0);
    CPL_UNROLL for (int i = 0; i < CHAINS; i++) sum = vaddq_f32(sum, acc[i]);
    *sink += vaddvq_f32(sum);
    return 4.0 * (double)(floats / 48 * 48) * (double)rounds;
}
