/* SPDX-License-Identifier: Apache-2.0 */
/* i4_avx2.c - panels of 4-bit weights made int8 for i8_avx2.c's tile: steps of 16 columns by 2 k. As i4_vnni.c. */
#include <immintrin.h>

#include "kernel/avx2.h"
#include "kernel/math_avx2.h"

enum { NR = 16, GROUP = 2, HALF = NR * GROUP / 2 };

CPL_INLINE __m256i widen(const uint8_t *x)
{
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)x));
}

void cpl_unpack_i4_avx2(const cpl_kernels *k, int8_t *out, const uint8_t *in, uint32_t steps, uint32_t steps_a_group)
{
    const __m128i low = _mm_set1_epi8(15);
    (void)k;
    while (steps) {
        const uint32_t count = steps < steps_a_group ? steps : steps_a_group;
        const __m256i by = widen(in), once = widen(in + NR);
        const __m256i less = _mm256_or_si256(once, _mm256_slli_epi16(once, 8));
        in += 2 * NR;
        for (uint32_t s = 0; s < count; s++, in += HALF, out += 2 * HALF) {
            const __m128i x = _mm_loadu_si128((const __m128i *)(const void *)in);
            const __m128i v0 = _mm_and_si128(x, low), v1 = _mm_and_si128(_mm_srli_epi16(x, 4), low);
            const __m256i v = _mm256_set_m128i(v1, v0);
            _mm256_storeu_si256((__m256i *)(void *)out, _mm256_sub_epi8(_mm256_mullo_epi16(v, by), less));
        }
        steps -= count;
    }
}
