/* SPDX-License-Identifier: Apache-2.0 */
/* rows_amx.c - rows to A tiles: layer norm and quantising, a row at a time.
 *
 * A row of a MiniLM is 24 vectors; it is read two or three times, from L1. Four vectors of fp32 become one of int8 by
 * two levels of packs, which leaves columns in an order of its own (cpl_amx_order_rows): undoing it would cost a
 * shuffle a vector, packing the next matrix in the same order costs nothing. Halves are scaled as halves: 127 and 255
 * have three bits to spare in their eleven.
 *
 * Scales follow quantise.h: a row with nothing in it is zero with scale 0, one with an infinity or a NaN has scale NaN.
 */
#include <math.h>
#include <string.h>

#include "kernel/amx.h"
#include "kernel/quantise.h"
#include "kernel/tile_amx.h"
#include "kernel/unroll.h"

CPL_AMX_DECLARE(AMX_NAME);

AMX_INLINE char *tile_row(void *a, uint32_t steps, uint32_t row)
{
    return (char *)a + (row / 16 * (size_t)steps) * 1024 + row % 16 * (size_t)64;
}

AMX_INLINE __m512i magnitude(__m512 x)
{
    return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(INT32_MAX));
}

AMX_INLINE uint16_t half_bits(float x) { return (uint16_t)_mm_extract_epi16(_mm_cvtps_ph(_mm_set_ss(x), 8), 0); }

AMX_INLINE float half_value(uint16_t bits) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_set1_epi16((short)bits))); }

AMX_INLINE void clear_row(char *to, uint32_t steps)
{
    for (uint32_t s = 0; s < steps; s++) memset(to + s * (size_t)1024, 0, 64);
}

/* Replaces 16 columns of x by the normed ones, (x * by + shift) * gamma + beta, and returns what the next product wants
 * of them. */
AMX_INLINE __m512 norm_columns(const cpl_amx_rows *r, float *x, uint32_t at, __m512 by, __m512 shift)
{
    const __m512 v = _mm512_fmadd_ps(_mm512_loadu_ps(x + at), by, shift);
    _mm512_storeu_ps(x + at, _mm512_fmadd_ps(v, _mm512_loadu_ps(r->gamma + at), _mm512_loadu_ps(r->beta + at)));
    return _mm512_fmadd_ps(v, _mm512_loadu_ps(r->q_gamma + at), _mm512_loadu_ps(r->q_beta + at));
}

AMX_INLINE void pack_int8(const cpl_amx_rows *r, uint32_t row, float *x, __m512 by, __m512 shift)
{
    float input[CPL_AMX_NORM_MAX] __attribute__((aligned(64)));
    __m512i most[4];
    CPL_UNROLL for (int j = 0; j < 4; j++) most[j] = _mm512_setzero_si512();
    for (uint32_t c = 0; c < r->n; c += 64) {
        CPL_UNROLL for (uint32_t j = 0; j < 4; j++)
        {
            const __m512 y = norm_columns(r, x, c + 16 * j, by, shift);
            _mm512_store_ps(input + c + 16 * j, y);
            most[j] = _mm512_max_epu32(most[j], magnitude(y));
        }
    }
    const __m512i all = _mm512_max_epu32(_mm512_max_epu32(most[0], most[1]), _mm512_max_epu32(most[2], most[3]));
    float inverse;
    const float scale = cpl_i8_scale(_mm512_reduce_max_epu32(all), CPL_I8_SIGNED, &inverse);
    char *to = tile_row(r->a, r->steps, row);
    r->row_scale[row] = scale;
    if (r->row_scale16) r->row_scale16[row] = half_bits(scale * r->scale16);
    const __m512 into = _mm512_set1_ps(inverse); /* 0 where all is to be zero, or the scale is NaN */
    for (uint32_t c = 0; c < r->n; c += 64, to += 1024) {
        __m512i q[4];
        CPL_UNROLL for (uint32_t j = 0; j < 4; j++) q[j] =
            _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_load_ps(input + c + 16 * j), into));
        _mm512_store_si512(to, _mm512_packs_epi16(_mm512_packs_epi32(q[0], q[1]), _mm512_packs_epi32(q[2], q[3])));
    }
}

AMX_INLINE void pack_bf16(const cpl_amx_rows *r, uint32_t row, float *x, __m512 by, __m512 shift)
{
    char *to = tile_row(r->a, r->steps, row);
    for (uint32_t c = 0; c < r->n; c += 32, to += 1024) {
        const __m512 lo = norm_columns(r, x, c, by, shift), hi = norm_columns(r, x, c + 16, by, shift);
        _mm512_store_si512(to, (__m512i)_mm512_cvtne2ps_pbh(hi, lo));
    }
}

void AMX_NAME(cpl_amx_norm)(const cpl_amx_rows *r, uint32_t from, uint32_t to)
{
    const float per_n = 1.0f / (float)r->n;
    for (uint32_t row = from; row < to; row++) {
        float *x = r->x + row * r->ld;
        __m512 sum[4], squares[4];
        CPL_UNROLL for (int j = 0; j < 4; j++) sum[j] = squares[j] = _mm512_setzero_ps();
        for (uint32_t c = 0; c < r->n; c += 64) {
            CPL_UNROLL for (int j = 0; j < 4; j++)
            {
                const __m512 v = _mm512_loadu_ps(x + c + 16 * j);
                sum[j] = _mm512_add_ps(sum[j], v);
                squares[j] = _mm512_fmadd_ps(v, v, squares[j]);
            }
        }
        const __m512 all = _mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3]));
        const __m512 all2 = _mm512_add_ps(_mm512_add_ps(squares[0], squares[1]), _mm512_add_ps(squares[2], squares[3]));
        const float mean = _mm512_reduce_add_ps(all) * per_n;
        const float variance = fmaxf(_mm512_reduce_add_ps(all2) * per_n - mean * mean, 0);
        const float scale = 1.0f / sqrtf(variance + r->epsilon);
        if (r->kind == CPL_AMX_BF16)
            pack_bf16(r, row, x, _mm512_set1_ps(scale), _mm512_set1_ps(-mean * scale));
        else
            pack_int8(r, row, x, _mm512_set1_ps(scale), _mm512_set1_ps(-mean * scale));
    }
}

/* Halves that 1 / inverse may still be a half's neighbour of: beyond it the scale stays and the row uses less of its
 * range, which happens to rows of almost nothing. */
#define INVERSE_MAX 60000.0f

/* round(x * inverse + offset) of a row of halves, signed or unsigned bytes. */
AMX_INLINE void pack_halves(const cpl_amx_halves *h, uint32_t row, float inverse, float shift, const int is_unsigned)
{
    const uint16_t bits = half_bits(fminf(inverse, INVERSE_MAX));
    char *to = tile_row(h->a, h->steps, row);
    const char *x = (const char *)h->x + row * h->ld;
    h->row_scale[row] = 1.0f / half_value(bits);
    const amx_h by = h_set(bits), offset = h_set(half_bits(shift * half_value(bits)));
    for (uint32_t s = 0; s < h->steps; s++, x += 128, to += 1024) {
        const amx_h x0 = h_load(x), x1 = h_load(x + 64);
        if (is_unsigned)
            _mm512_store_si512(to,
                               _mm512_packus_epi16(h_to_i16(h_fma(x0, by, offset)), h_to_i16(h_fma(x1, by, offset))));
        else
            _mm512_store_si512(to, _mm512_packs_epi16(h_to_i16(h_mul(x0, by)), h_to_i16(h_mul(x1, by))));
    }
}

/* Rows of nothing, or of what is no number. */
AMX_INLINE void pack_nothing(const cpl_amx_halves *h, uint32_t row, float scale)
{
    clear_row(tile_row(h->a, h->steps, row), h->steps);
    h->row_scale[row] = scale;
}

AMX_INLINE uint32_t reduce_max_u16(__m512i x)
{
    const __m512i odd = _mm512_srli_epi32(x, 16), even = _mm512_and_si512(x, _mm512_set1_epi32(0xffff));
    return _mm512_reduce_max_epu32(_mm512_max_epu32(odd, even));
}

void AMX_NAME(cpl_amx_quantise_halves)(const cpl_amx_halves *h, uint32_t from, uint32_t to)
{
    const __m512i magnitudes = _mm512_set1_epi16(0x7fff);
    for (uint32_t row = from; row < to; row++) {
        const char *x = (const char *)h->x + row * h->ld;
        __m512i most = _mm512_setzero_si512();
        for (uint32_t c = 0; c < h->n; c += 32)
            most = _mm512_max_epu16(most, _mm512_and_si512(_mm512_loadu_si512(x + 2 * c), magnitudes));
        const uint32_t bits = reduce_max_u16(most);
        if (!bits || bits >= 0x7c00)
            pack_nothing(h, row, bits ? NAN : 0);
        else
            pack_halves(h, row, 127.0f / half_value((uint16_t)bits), 0, 0);
    }
}

void AMX_NAME(cpl_amx_quantise_activated)(const cpl_amx_halves *h, uint32_t from, uint32_t to)
{
    for (uint32_t row = from; row < to; row++) {
        const __m256i *m = (const __m256i *)(const void *)((const char *)h->most + row * (size_t)64);
        const __m512 lo = _mm512_cvtph_ps(_mm256_loadu_si256(m)), hi = _mm512_cvtph_ps(_mm256_loadu_si256(m + 1));
        const __mmask16 bad = _mm512_cmp_ps_mask(lo, lo, _CMP_UNORD_Q) | _mm512_cmp_ps_mask(hi, hi, _CMP_UNORD_Q);
        const float range = _mm512_reduce_max_ps(_mm512_max_ps(lo, hi)) + h->shift;
        if (bad || !(range < INFINITY))
            pack_nothing(h, row, NAN);
        else if (!(range > 0))
            pack_nothing(h, row, 0);
        else
            pack_halves(h, row, 255.0f / range, h->shift, 1);
    }
}
