/* SPDX-License-Identifier: Apache-2.0 */
/* i4_vnni.c - panels of 4-bit weights made int8 for i8_vnni.c's tile: steps of 32 columns by 4 k.
 *
 * A vector of 64 bytes gives two: columns 0 to 15 in its low nibbles, 16 to 31 in its high ones. v by never leaves a
 * byte (15 x 16), so one multiplication of 16-bit lanes does two of bytes. Four instructions and a store for 64
 * weights. */
#include <immintrin.h>

#include "kernel/avx512.h"
#include "kernel/math_avx512.h"

enum { NR = 32, GROUP = 4, HALF = NR * GROUP / 2 };

/* 16 bytes, each to the four of its column. */
CPL_INLINE __m512i spread(const uint8_t *x)
{
    const __m512i wide = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)x));
    return _mm512_mullo_epi32(wide, _mm512_set1_epi32(0x01010101));
}

void cpl_unpack_i4_vnni(const cpl_kernels *k, int8_t *out, const uint8_t *in, uint32_t steps, uint32_t steps_a_group)
{
    const __m512i low = _mm512_set1_epi8(15), low_of_two = _mm512_set1_epi16(255);
    (void)k;
    while (steps) {
        const uint32_t count = steps < steps_a_group ? steps : steps_a_group;
        const __m512i by0 = _mm512_and_si512(spread(in), low_of_two),
                      by1 = _mm512_and_si512(spread(in + 16), low_of_two);
        const __m512i less0 = spread(in + NR), less1 = spread(in + NR + 16);
        in += 2 * NR;
        for (uint32_t s = 0; s < count; s++, in += HALF, out += 2 * HALF) {
            const __m512i x = _mm512_loadu_si512(in);
            const __m512i v0 = _mm512_and_si512(x, low), v1 = _mm512_and_si512(_mm512_srli_epi16(x, 4), low);
            _mm512_storeu_si512(out, _mm512_sub_epi8(_mm512_mullo_epi16(v0, by0), less0));
            _mm512_storeu_si512(out + HALF, _mm512_sub_epi8(_mm512_mullo_epi16(v1, by1), less1));
        }
        steps -= count;
    }
}
