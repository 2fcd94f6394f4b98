/* SPDX-License-Identifier: Apache-2.0 */
/* i8_vnni.c - quantised rows and the int8 register tile for AVX-512 with VNNI: up to 12 rows x 32 columns.
 *
 * vpdpbusd multiplies four unsigned bytes by four signed ones into each int32, so activations are stored with 128 added
 * and sums start from -128 times the column's sum of weights. It is the form that doesn't saturate: sums are exact.
 *
 * Same shape as the fp32 tile with four k a step: 24 products on 14 loads. Scaling, bias and residual happen in
 * registers; activations on the stored tile while it is in L1. */
#include <string.h>

#include "kernel/avx512.h"
#include "kernel/epilogue_avx512.h"
#include "kernel/hint.h"
#include "kernel/quantise.h"
#include "kernel/unroll.h"
#include "kernel/vnni.h"

enum { NR = 32, MR = 12, GROUP = 4, ZERO = 128 };

CPL_INLINE __m512i magnitude(__m512 x)
{
    return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(INT32_MAX));
}

CPL_INLINE __mmask16 lanes(size_t left) { return left >= 16 ? 0xffff : cpl_mask16(left); }

/* The factors of 16 columns, or those of all. */
typedef struct columns {
    const float *mul, *add;
    __m512 one, up;
} columns;

CPL_INLINE __m512 moved(const columns *c, int each, const float *x, size_t i, __mmask16 m)
{
    const __m512 v = _mm512_maskz_loadu_ps(m, x + i);
    const __m512 mul = each ? _mm512_maskz_loadu_ps(m, c->mul + i) : c->one;
    const __m512 add = each ? _mm512_maskz_loadu_ps(m, c->add + i) : c->up;
    return _mm512_maskz_fmadd_ps(m, v, mul, add);
}

CPL_INLINE uint32_t row_most(const columns *c, int each, const float *x, size_t n)
{
    const size_t whole = n / 64 * 64;
    __m512i most[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
    size_t i = 0;
    for (; i < whole; i += 64) {
        CPL_UNROLL for (size_t j = 0; j < 4; j++) most[j] =
            _mm512_max_epu32(most[j], magnitude(moved(c, each, x, i + 16 * j, 0xffff)));
    }
    for (; i < n; i += 16) most[0] = _mm512_max_epu32(most[0], magnitude(moved(c, each, x, i, lanes(n - i))));
    return _mm512_reduce_max_epu32(
        _mm512_max_epu32(_mm512_max_epu32(most[0], most[1]), _mm512_max_epu32(most[2], most[3])));
}

/* Nearest integers plus zero; what is below 0 then becomes 0. */
CPL_INLINE __m128i to_bytes(__m512 x, __m512 inverse, __m512i zero)
{
    const __m512i q = _mm512_add_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(x, inverse)), zero);
    return _mm512_cvtusepi32_epi8(_mm512_max_epi32(q, _mm512_setzero_si512()));
}

/* The same of 64 at once: packing leaves each vector's fours a lane apart, and the zero comes last. */
CPL_INLINE __m512i to_64_bytes(const __m512 *x, __m512 inverse, int is_unsigned)
{
    const __m512i fours = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i q[4];
    CPL_UNROLL for (int j = 0; j < 4; j++) q[j] = _mm512_cvtps_epi32(_mm512_mul_ps(x[j], inverse));
    const __m512i a = _mm512_packs_epi32(q[0], q[1]), b = _mm512_packs_epi32(q[2], q[3]);
    if (is_unsigned) return _mm512_permutexvar_epi32(fours, _mm512_packus_epi16(a, b));
    return _mm512_xor_si512(_mm512_permutexvar_epi32(fours, _mm512_packs_epi16(a, b)), _mm512_set1_epi8((char)ZERO));
}

CPL_INLINE void quantise_rows(const cpl_rows_i8 *to, const float *x, size_t rows, size_t n, size_t ld, int each)
{
    const columns c = {to->mul, to->add, _mm512_set1_ps(1), _mm512_set1_ps(-to->floor)};
    const int zero = to->is_unsigned ? 0 : ZERO;
    const size_t whole = n / 16 * 16, padded = (n + GROUP - 1) / GROUP * GROUP;
    for (size_t r = 0; r < rows; r++, x += ld) {
        uint8_t *out = (uint8_t *)to->q + r * to->ldq;
        float inverse;
        to->scale[r] =
            cpl_i8_scale(row_most(&c, each, x, n), to->is_unsigned ? CPL_I8_UNSIGNED : CPL_I8_SIGNED, &inverse);
        if (!(inverse > 0)) {
            memset(out, zero, padded);
            continue;
        }
        const __m512 by = _mm512_set1_ps(inverse);
        const __m512i offset = _mm512_set1_epi32(zero);
        size_t i = 0;
        for (; i + 64 <= whole; i += 64) {
            __m512 v[4];
            CPL_UNROLL for (size_t j = 0; j < 4; j++) v[j] = moved(&c, each, x, i + 16 * j, 0xffff);
            _mm512_storeu_si512(out + i, to_64_bytes(v, by, to->is_unsigned));
        }
        for (; i < whole; i += 16)
            _mm_storeu_si128((__m128i *)(void *)(out + i), to_bytes(moved(&c, each, x, i, 0xffff), by, offset));
        if (i < padded) /* lanes beyond n are 0 and so become zero */
            _mm_mask_storeu_epi8(out + i, lanes(padded - i), to_bytes(moved(&c, each, x, i, lanes(n - i)), by, offset));
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
    const columns c = {NULL, NULL, _mm512_set1_ps(1), _mm512_setzero_ps()};
    float inverse;
    *scale = cpl_i8_scale(row_most(&c, 0, w, n), CPL_I8_SIGNED, &inverse);
    const __m512 by = _mm512_set1_ps(inverse);
    if (!(inverse > 0)) {
        memset(q, 0, n);
        return;
    }
    for (size_t i = 0; i < n; i += 16) {
        const __m512i v = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_maskz_loadu_ps(lanes(n - i), w + i), by));
        _mm_mask_storeu_epi8(q + i, lanes(n - i), _mm512_cvtepi32_epi8(v));
    }
}

CPL_INLINE void tile_rows(const cpl_tile_i8 *t, const uint32_t rows)
{
    __m512i acc[MR][2];
    const uint8_t *a[MR];
    const __m512i start0 = _mm512_loadu_si512(t->start), start1 = _mm512_loadu_si512(t->start + 16);
    CPL_UNROLL for (uint32_t i = 0; i < rows; i++)
    {
        acc[i][0] = start0;
        acc[i][1] = start1;
        a[i] = (const uint8_t *)t->a + i * t->lda;
    }
    const int8_t *b = t->b;
    const char *hint = t->prefetch;
    const uint32_t lines = t->lines;
    const uint32_t end = t->groups * GROUP;
    for (uint32_t p = 0; p < end; p += GROUP, b += NR * GROUP) {
        if (!(p & (4 * GROUP - 1))) hint = cpl_hint(hint, lines);
        const __m512i b0 = _mm512_loadu_si512(b), b1 = _mm512_loadu_si512(b + 64);
        CPL_UNROLL for (uint32_t i = 0; i < rows; i++)
        {
            int32_t four;
            memcpy(&four, a[i] + p, sizeof four);
            const __m512i x = _mm512_set1_epi32(four);
            cpl_dpbusd(&acc[i][0], x, b0);
            cpl_dpbusd(&acc[i][1], x, b1);
        }
    }
    const __m512 scale0 = _mm512_loadu_ps(t->column_scale), scale1 = _mm512_loadu_ps(t->column_scale + 16);
    __m512 bias0 = _mm512_setzero_ps(), bias1 = bias0;
    if (t->epilogue != CPL_EPILOGUE_NONE) {
        bias0 = _mm512_loadu_ps(t->bias);
        bias1 = _mm512_loadu_ps(t->bias + 16);
    }
    const int residual = t->epilogue == CPL_EPILOGUE_RESIDUAL;
    CPL_UNROLL for (uint32_t i = 0; i < rows; i++)
    {
        const __m512 scale = _mm512_set1_ps(t->row_scale[i]);
        __m512 y0 = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(acc[i][0]), scale), scale0, bias0);
        __m512 y1 = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(acc[i][1]), scale), scale1, bias1);
        if (residual) {
            y0 = _mm512_add_ps(y0, _mm512_loadu_ps(t->residual + i * t->ldr));
            y1 = _mm512_add_ps(y1, _mm512_loadu_ps(t->residual + i * t->ldr + 16));
        }
        _mm512_storeu_ps(t->c + i * t->ldc, y0);
        _mm512_storeu_ps(t->c + i * t->ldc + 16, y1);
    }
    cpl_activate_avx512(t->c, t->ldc, rows, t->epilogue);
}

#define TILE(rows)                                                                                                     \
    static void tile_##rows(const cpl_tile_i8 *t) { tile_rows(t, rows); }
TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)
TILE(7)
TILE(8)
TILE(9)
TILE(10)
TILE(11)
TILE(12)
#undef TILE

static void tile(const cpl_tile_i8 *t)
{
    static void (*const by_rows[MR + 1])(const cpl_tile_i8 *) = {
        NULL, tile_1, tile_2, tile_3, tile_4, tile_5, tile_6, tile_7, tile_8, tile_9, tile_10, tile_11, tile_12,
    };
    by_rows[t->m](t);
}

void cpl_kernels_vnni(cpl_kernels *k)
{
    k->i8_isa = "avx512-vnni";
    k->i8_mr = MR;
    k->i8_nr = NR;
    k->i8_group = GROUP;
    k->i8_bytes = 1;
    k->i8_zero = ZERO;
    k->i8_zero_unsigned = 0;
    k->unpack_i4 = cpl_unpack_i4_vnni;
    k->tile_i8 = tile;
    k->quantise_i8 = quantise;
    k->weights_i8 = weights;
}
