/* SPDX-License-Identifier: Apache-2.0 */
/* i8_avxvnni.c - quantised rows and the int8 register tile for AVX-VNNI (vpdpbusd on 256 bits, on cores without
 * AVX-512): up to 6 rows x 16 columns.
 *
 * As i8_vnni.c at half the width: activations are unsigned bytes with an offset of 128 taken back by the sums' start,
 * four k a step, sums exact. Weights and magnitudes are AVX2's. */
#include <string.h>

#include "kernel/avx2.h"
#include "kernel/hint.h"
#include "kernel/rows_i8_avx2.h"
#include "kernel/vnni256.h"

enum { NR = 16, MR = 6, GROUP = 4, ZERO = 128 };

/* 16 nearest integers plus `offset`, as unsigned bytes: what is below 0 becomes 0. */
CPL_INLINE __m128i to_bytes(const columns *c, int each, const float *x, size_t i, size_t n, __m256 by, __m256i offset)
{
    const __m256i words = _mm256_add_epi16(to_words(c, each, x, i, n, by, _mm256_set1_epi16(-128)), offset);
    return _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

CPL_INLINE void quantise_rows(const cpl_rows_i8 *to, const float *x, size_t rows, size_t n, size_t ld, int each)
{
    const columns c = {to->mul, to->add, _mm256_set1_ps(1), _mm256_set1_ps(-to->floor)};
    const size_t padded = (n + GROUP - 1) / GROUP * GROUP;
    const int zero = to->is_unsigned ? 0 : ZERO;
    const __m256i offset = _mm256_set1_epi16((int16_t)zero);
    for (size_t r = 0; r < rows; r++, x += ld) {
        uint8_t *out = (uint8_t *)to->q + r * to->ldq;
        float inverse;
        to->scale[r] =
            cpl_i8_scale(row_most(&c, each, x, n), to->is_unsigned ? CPL_I8_UNSIGNED : CPL_I8_SIGNED, &inverse);
        if (!(inverse > 0)) {
            memset(out, zero, padded);
            continue;
        }
        const __m256 by = _mm256_set1_ps(inverse);
        size_t i = 0;
        for (; i + 16 <= n; i += 16)
            _mm_storeu_si128((__m128i *)(void *)(out + i), to_bytes(&c, each, x, i, n, by, offset));
        if (i == padded) continue;
        uint8_t tail[16];
        _mm_storeu_si128((__m128i *)(void *)tail, to_bytes(&c, each, x, i, n, by, offset));
        memcpy(out + i, tail, padded - i);
    }
}

static void quantise(const cpl_rows_i8 *to, const float *x, size_t rows, size_t n, size_t ld)
{
    if (to->mul)
        quantise_rows(to, x, rows, n, ld, 1);
    else
        quantise_rows(to, x, rows, n, ld, 0);
}

CPL_INLINE void tile_rows(const cpl_tile_i8 *t, const uint32_t rows)
{
    __m256i acc[MR][2];
    const uint8_t *a[MR];
    CPL_UNROLL for (uint32_t i = 0; i < rows; i++)
    {
        acc[i][0] = _mm256_loadu_si256((const __m256i *)(const void *)t->start);
        acc[i][1] = _mm256_loadu_si256((const __m256i *)(const void *)(t->start + 8));
        a[i] = (const uint8_t *)t->a + i * t->lda;
    }
    const int8_t *b = t->b;
    const char *hint = t->prefetch;
    const uint32_t lines = t->lines;
    const uint32_t end = t->groups * GROUP;
    for (uint32_t p = 0; p < end; p += GROUP, b += NR * GROUP) {
        if (!(p & (4 * GROUP - 1))) hint = cpl_hint(hint, lines);
        const __m256i b0 = _mm256_loadu_si256((const __m256i *)(const void *)b);
        const __m256i b1 = _mm256_loadu_si256((const __m256i *)(const void *)(b + 32));
        CPL_UNROLL for (uint32_t i = 0; i < rows; i++)
        {
            int32_t four;
            memcpy(&four, a[i] + p, sizeof four);
            const __m256i x = _mm256_set1_epi32(four);
            cpl_dpbusd256(&acc[i][0], x, b0);
            cpl_dpbusd256(&acc[i][1], x, b1);
        }
    }
    CPL_UNROLL for (uint32_t i = 0; i < rows; i++) finish_row(t, i, acc[i]);
    cpl_activate_avx2(t->c, t->ldc, rows, t->epilogue);
}

#define TILE(rows)                                                                                                     \
    static void tile_##rows(const cpl_tile_i8 *t) { tile_rows(t, rows); }
TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)
#undef TILE

static void tile(const cpl_tile_i8 *t)
{
    static void (*const by_rows[MR + 1])(const cpl_tile_i8 *) = {
        NULL, tile_1, tile_2, tile_3, tile_4, tile_5, tile_6,
    };
    by_rows[t->m](t);
}

void cpl_kernels_avxvnni(cpl_kernels *k)
{
    k->i8_isa = "avxvnni";
    k->i8_mr = MR;
    k->i8_nr = NR;
    k->i8_group = GROUP;
    k->i8_bytes = 1;
    k->i8_zero = ZERO;
    k->i8_zero_unsigned = 0;
    k->tile_i8 = tile;
    k->quantise_i8 = quantise;
}
