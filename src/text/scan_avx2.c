/* SPDX-License-Identifier: Apache-2.0 */
/* scan_avx2.c - scan.h in halves of 32 bytes; the method is scan_avx512.c's. The last bytes of a text are copied before
 * they are read as a vector. */
#include <string.h>

#include "text/scan_isa.h"

#if defined(__x86_64__)
#include <immintrin.h>

static inline __m256i set_of(const cpl_scan_set *s)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)s->nibble));
}

static inline __m256i load(const char *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }

/* 1 << (c / 16), 0 from 0x80 on. */
static inline __m256i row_of(__m256i c)
{
    const __m256i rows =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(1, 2, 4, 8, 16, 32, 64, -128, 0, 0, 0, 0, 0, 0, 0, 0));
    return _mm256_shuffle_epi8(rows, _mm256_and_si256(_mm256_srli_epi16(c, 4), _mm256_set1_epi8(15)));
}

static inline uint32_t members(__m256i c, __m256i rows, __m256i set)
{
    __m256i both = _mm256_and_si256(_mm256_shuffle_epi8(set, c), rows);
    return ~(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(both, _mm256_setzero_si256()));
}

static size_t copy_avx2(char *to, const char *from, size_t n, const cpl_scan_classes *classes)
{
    const __m256i drop = set_of(&classes->drop), lower = _mm256_set1_epi8((char)classes->lower);
    const __m256i below_a = _mm256_set1_epi8('A' - 1), above_z = _mm256_set1_epi8('Z' + 1);
    for (size_t i = 0; i < n; i += 32) {
        char rest[32] = {0};
        size_t left = n - i;
        if (left < 32) memcpy(rest, from + i, left);
        __m256i c = load(left < 32 ? rest : from + i);
        __m256i upper = _mm256_and_si256(_mm256_cmpgt_epi8(c, below_a), _mm256_cmpgt_epi8(above_z, c));
        uint32_t stop = members(c, row_of(c), drop) | (uint32_t)_mm256_movemask_epi8(c);
        if (left < 32) stop &= (1u << left) - 1;
        _mm256_storeu_si256((__m256i *)(void *)(to + i), _mm256_or_si256(c, _mm256_and_si256(upper, lower)));
        if (stop) return i + (size_t)__builtin_ctz(stop);
    }
    return n;
}

static size_t split_avx2(const char *text, size_t n, const cpl_scan_classes *classes, uint16_t *starts, uint16_t *ends)
{
    const __m256i punct_set = set_of(&classes->punct), space_set = set_of(&classes->space);
    cpl_scan_cursor cursor = {0};
    for (size_t i = 0; i < n; i += 64) {
        __m256i a = load(text + i), b = load(text + i + 32), rows_a = row_of(a), rows_b = row_of(b);
        uint64_t punct = members(a, rows_a, punct_set) | (uint64_t)members(b, rows_b, punct_set) << 32;
        uint64_t space = members(a, rows_a, space_set) | (uint64_t)members(b, rows_b, space_set) << 32;
        cpl_scan_block(&cursor, ~(punct | space), punct, i, starts, ends);
    }
    return cpl_scan_finish(&cursor, n, ends);
}

const cpl_scan cpl_scan_avx2 = {"avx2", copy_avx2, split_avx2};
#else
typedef int cpl_scan_avx2_elsewhere;
#endif
