/* SPDX-License-Identifier: Apache-2.0 */
/* i4_neon.c - panels of 4-bit weights made int8 for the tiles of all NEON rungs: steps of 16 columns by 1, 4 or 8 k.
 *
 * A vector of 16 bytes gives two: columns 0 to 7 are in its low nibbles, 8 to 15 in its high ones. v by - less is one
 * multiplication and addition of bytes, which never leaves them (15 x 16 fits, and what is subtracted wraps back). A
 * group's factors are spread over its columns' bytes once. Where a step is only 16 bytes, one vector holds all of it.
 */
#include "kernel/math_neon.h"
#include "kernel/neon.h"
#include "kernel/unroll.h"

enum { NR = 16 };

/* The 16 bytes of vector j of a step: each column's byte as often as a step has k of it. */
CPL_INLINE uint8x16_t spread(uint8x16_t columns, const uint32_t k, uint32_t j)
{
    uint8_t at[16];
    for (uint32_t i = 0; i < 16; i++) at[i] = (uint8_t)((16 * j + i) / k);
    return vqtbl1q_u8(columns, vld1q_u8(at));
}

/* Vectors of int8 a step: k of them, half from low nibbles. */
CPL_INLINE void unpack(int8_t *out, const uint8_t *in, uint32_t steps, uint32_t steps_a_group, const uint32_t k)
{
    const uint8x16_t low = vdupq_n_u8(15);
    while (steps) {
        const uint32_t count = steps < steps_a_group ? steps : steps_a_group;
        const uint8x16_t by = vld1q_u8(in), less = vsubq_u8(vdupq_n_u8(0), vld1q_u8(in + NR));
        uint8x16_t mul[8], add[8];
        in += 2 * NR;
        CPL_UNROLL for (uint32_t j = 0; j < k; j++)
        {
            mul[j] = spread(by, k, j);
            add[j] = spread(less, k, j);
        }
        for (uint32_t s = 0; s < count; s++, in += NR * k / 2, out += NR * k) {
            if (k == 1) {
                const uint8x8_t x = vld1_u8(in);
                const uint8x16_t v = vcombine_u8(vand_u8(x, vget_low_u8(low)), vshr_n_u8(x, 4));
                vst1q_u8((uint8_t *)out, vmlaq_u8(add[0], v, mul[0]));
                continue;
            }
            CPL_UNROLL for (uint32_t j = 0; j < k / 2; j++)
            {
                const uint8x16_t x = vld1q_u8(in + (size_t)16 * j);
                const uint32_t other = j + k / 2;
                vst1q_u8((uint8_t *)out + (size_t)16 * j, vmlaq_u8(add[j], vandq_u8(x, low), mul[j]));
                vst1q_u8((uint8_t *)out + (size_t)16 * other, vmlaq_u8(add[other], vshrq_n_u8(x, 4), mul[other]));
            }
        }
        steps -= count;
    }
}

void cpl_unpack_i4_neon(const cpl_kernels *k, int8_t *out, const uint8_t *in, uint32_t steps, uint32_t steps_a_group)
{
    if (k->i8_group == 8)
        unpack(out, in, steps, steps_a_group, 8);
    else if (k->i8_group == 4)
        unpack(out, in, steps, steps_a_group, 4);
    else
        unpack(out, in, steps, steps_a_group, 1);
}
