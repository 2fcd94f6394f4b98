/* SPDX-License-Identifier: Apache-2.0 */
/* scan_avx512.c - scan.h in blocks of 64 bytes. A byte's class is two shuffles (by its low and by its high nibble) and
 * a test; a shuffle gives zero for bytes that are no ASCII, so they are in no set. Masked loads end at the text. */
#include "text/scan_isa.h"

#if defined(__x86_64__)
#include <immintrin.h>

static inline __m512i set_of(const cpl_scan_set *s)
{
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)s->nibble));
}

/* 1 << (c / 16), 0 from 0x80 on. */
static inline __m512i row_of(__m512i c)
{
    const __m512i rows = _mm512_broadcast_i32x4(_mm_setr_epi8(1, 2, 4, 8, 16, 32, 64, -128, 0, 0, 0, 0, 0, 0, 0, 0));
    return _mm512_shuffle_epi8(rows, _mm512_and_si512(_mm512_srli_epi16(c, 4), _mm512_set1_epi8(15)));
}

static inline uint64_t members(__m512i c, __m512i rows, __m512i set)
{
    return _mm512_test_epi8_mask(_mm512_shuffle_epi8(set, c), rows);
}

static size_t copy_avx512(char *to, const char *from, size_t n, const cpl_scan_classes *classes)
{
    const __m512i drop = set_of(&classes->drop), lower = _mm512_set1_epi8((char)classes->lower);
    const __m512i a = _mm512_set1_epi8('A'), letters = _mm512_set1_epi8(26);
    for (size_t i = 0; i < n; i += 64) {
        __mmask64 mask = n - i >= 64 ? ~0ull : (1ull << (n - i)) - 1;
        __m512i c = _mm512_maskz_loadu_epi8(mask, from + i);
        __mmask64 upper = _mm512_cmplt_epu8_mask(_mm512_sub_epi8(c, a), letters);
        uint64_t stop = (members(c, row_of(c), drop) | _mm512_movepi8_mask(c)) & mask;
        _mm512_storeu_si512(to + i, _mm512_mask_or_epi64(c, 0xFF, c, _mm512_maskz_mov_epi8(upper, lower)));
        if (stop) return i + (size_t)__builtin_ctzll(stop);
    }
    return n;
}

static size_t split_avx512(const char *text, size_t n, const cpl_scan_classes *classes, uint16_t *starts,
                           uint16_t *ends)
{
    const __m512i punct_set = set_of(&classes->punct), space_set = set_of(&classes->space);
    cpl_scan_cursor cursor = {0};
    for (size_t i = 0; i < n; i += 64) {
        __m512i c = _mm512_loadu_si512(text + i), rows = row_of(c);
        uint64_t punct = members(c, rows, punct_set), space = members(c, rows, space_set);
        cpl_scan_block(&cursor, ~(punct | space), punct, i, starts, ends);
    }
    return cpl_scan_finish(&cursor, n, ends);
}

const cpl_scan cpl_scan_avx512 = {"avx512", copy_avx512, split_avx512};
#else
typedef int cpl_scan_avx512_elsewhere;
#endif
