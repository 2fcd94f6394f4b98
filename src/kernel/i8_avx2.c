/* SPDX-License-Identifier: Apache-2.0 */
/* i8_avx2.c - quantised rows and the int8 register tile for AVX2 without VNNI: up to 6 rows x 16 columns.
 *
 * Exact by construction: activations are stored as int16, weights as int8 and widened when loaded (once for all rows of
 * the tile), and vpmaddwd adds two int16 products into an int32 without ever saturating (2 x 127 x 127 of 2^31).
 * Rejected: vpmaddubsw, which multiplies twice as many but saturates its int16 sums at 255 x 127 x 2, and which, kept
 * exact by magnitudes and moved signs, takes as many instructions as this. */
#include <string.h>

#include "kernel/avx2.h"
#include "kernel/epilogue_avx2.h"
#include "kernel/hint.h"
#include "kernel/rows_i8_avx2.h"
#include "kernel/unroll.h"

enum { NR = 16, MR = 6, GROUP = 2 };

CPL_INLINE void quantise_rows(const cpl_rows_i8 *to, const float *x, size_t rows, size_t n, size_t ld, int each)
{
    const columns c = {to->mul, to->add, _mm256_set1_ps(1), _mm256_set1_ps(-to->floor)};
    const size_t padded = (n + GROUP - 1) / GROUP * GROUP;
    const __m256i lowest = _mm256_set1_epi16(to->is_unsigned ? 0 : -128);
    for (size_t r = 0; r < rows; r++, x += ld) {
        int16_t *out = (int16_t *)(void *)((char *)to->q + r * to->ldq);
        float inverse;
        to->scale[r] =
            cpl_i8_scale(row_most(&c, each, x, n), to->is_unsigned ? CPL_I8_UNSIGNED : CPL_I8_SIGNED, &inverse);
        if (!(inverse > 0)) {
            memset(out, 0, padded * sizeof *out);
            continue;
        }
        const __m256 by = _mm256_set1_ps(inverse);
        size_t i = 0;
        for (; i + 16 <= n; i += 16)
            _mm256_storeu_si256((__m256i *)(void *)(out + i), to_words(&c, each, x, i, n, by, lowest));
        if (i == padded) continue;
        int16_t tail[16];
        _mm256_storeu_si256((__m256i *)(void *)tail, to_words(&c, each, x, i, n, by, lowest));
        memcpy(out + i, tail, (padded - i) * sizeof *out);
    }
}

static void quantise(const cpl_rows_i8 *to, const float *x, size_t rows, size_t n, size_t ld)
{
    if (to->mul)
        quantise_rows(to, x, rows, n, ld, 1);
    else
        quantise_rows(to, x, rows, n, ld, 0);
}

static void weights(int8_t *q, float *scale, const float *w, size_t n)
{
    const columns c = {NULL, NULL, _mm256_set1_ps(1), _mm256_setzero_ps()};
    float inverse;
    *scale = cpl_i8_scale(row_most(&c, 0, w, n), CPL_I8_SIGNED, &inverse);
    const __m256 by = _mm256_set1_ps(inverse);
    for (size_t i = 0; i < n; i += 16) {
        const __m256i words =
            inverse > 0 ? to_words(&c, 0, w, i, n, by, _mm256_set1_epi16(-128)) : _mm256_setzero_si256();
        const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
        int8_t out[16];
        _mm_storeu_si128((__m128i *)(void *)out, bytes);
        memcpy(q + i, out, n - i < 16 ? n - i : 16);
    }
}

static void magnitudes(float *most, const float *x, size_t rows, size_t n)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    for (size_t i = 0; i < n; i += 8) {
        __m256 m = load(most + i, n - i);
        for (size_t r = 0; r < rows; r++) m = _mm256_max_ps(_mm256_andnot_ps(sign, load(x + r * n + i, n - i)), m);
        if (n - i >= 8)
            _mm256_storeu_ps(most + i, m);
        else
            _mm256_maskstore_ps(most + i, cpl_mask8(n - i), m);
    }
}

CPL_INLINE __m256i widen(const int8_t *b)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)b));
}

CPL_INLINE void tile_rows(const cpl_tile_i8 *t, const uint32_t rows)
{
    __m256i acc[MR][2];
    const char *a[MR];
    CPL_UNROLL for (uint32_t i = 0; i < rows; i++)
    {
        acc[i][0] = _mm256_loadu_si256((const __m256i *)(const void *)t->start);
        acc[i][1] = _mm256_loadu_si256((const __m256i *)(const void *)(t->start + 8));
        a[i] = (const char *)t->a + i * t->lda;
    }
    const int8_t *b = t->b;
    const char *hint = t->prefetch;
    const uint32_t lines = t->lines;
    const uint32_t end = t->groups * 4; /* bytes of a row */
    for (uint32_t p = 0; p < end; p += 4, b += NR * GROUP) {
        if (!(p & 15)) hint = cpl_hint(hint, lines);
        const __m256i b0 = widen(b), b1 = widen(b + 16);
        CPL_UNROLL for (uint32_t i = 0; i < rows; i++)
        {
            int32_t two;
            memcpy(&two, a[i] + p, sizeof two);
            const __m256i x = _mm256_set1_epi32(two);
            acc[i][0] = _mm256_add_epi32(acc[i][0], _mm256_madd_epi16(x, b0));
            acc[i][1] = _mm256_add_epi32(acc[i][1], _mm256_madd_epi16(x, b1));
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

void cpl_i8_install_avx2(cpl_kernels *k)
{
    k->i8_isa = "avx2-vpmaddwd";
    k->i8_mr = MR;
    k->i8_nr = NR;
    k->i8_group = GROUP;
    k->i8_bytes = 2;
    k->i8_zero = k->i8_zero_unsigned = 0;
    k->unpack_i4 = cpl_unpack_i4_avx2;
    k->tile_i8 = tile;
    k->quantise_i8 = quantise;
    k->weights_i8 = weights;
    k->magnitudes_f32 = magnitudes;
}
