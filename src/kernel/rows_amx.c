/* SPDX-License-Identifier: Apache-2.0 */
/* rows_amx.c - rows of halves to A tiles: layer norm and quantising, four rows at a time.
 *
 * Four rows are four lines beside each other in every half tile, and four chains of what each row needs as a whole (its
 * sums, its largest magnitude) hide each other's waiting. Two vectors of halves become one of int8 by a pack, which
 * leaves columns in an order of its own (cpl_amx_order_halves): undoing it would cost a shuffle a vector, packing the
 * next matrix in the same order costs nothing. 127 and 255 leave three of a half's eleven bits to spare.
 *
 * A row's mean and variance come from halves added up in halves, 32 sums of n / 32 terms each, which are then added in
 * fp32; squares are those of x * 2^-down, so that none overflows.
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

enum { ROWS = 4 };

/* Halves that 1 / inverse may still be a half's neighbour of: beyond it the scale stays and the row uses less of its
 * range, which happens to rows of almost nothing. */
#define INVERSE_MAX 60000.0f

AMX_INLINE uint16_t half_bits(float x) { return (uint16_t)_mm_extract_epi16(_mm_cvtps_ph(_mm_set_ss(x), 8), 0); }

AMX_INLINE float half_value(uint16_t bits) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_set1_epi16((short)bits))); }

/* Row `row` of tiles of which each row tile has `steps`. */
AMX_INLINE char *tile_row(const void *tiles, uint32_t steps, uint32_t row)
{
    return (char *)(uintptr_t)tiles + (row / 16 * (size_t)steps) * 1024 + row % 16 * (size_t)64;
}

AMX_INLINE void set_scale(float *row_scale, uint32_t *row_scale16, float scale16, uint32_t row, float scale)
{
    row_scale[row] = scale;
    if (!row_scale16) return;
    row_scale16[row] = half_bits(scale * scale16) * 0x10001u;
}

void AMX_NAME(cpl_amx_put_row)(const float *x, uint32_t n, void *tiles, uint32_t row)
{
    char *to = tile_row(tiles, n / 32, row);
    for (uint32_t c = 0; c < n; c += 32, to += 1024) {
        _mm256_store_si256((__m256i *)(void *)to, _mm512_cvtps_ph(_mm512_loadu_ps(x + c), 8));
        _mm256_store_si256((__m256i *)(void *)(to + 32), _mm512_cvtps_ph(_mm512_loadu_ps(x + c + 16), 8));
    }
}

void AMX_NAME(cpl_amx_get_row)(float *x, uint32_t n, const void *tiles, uint32_t row)
{
    const char *from = tile_row(tiles, n / 32, row);
    for (uint32_t c = 0; c < n; c += 32, from += 1024) {
        _mm512_storeu_ps(x + c, _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)from)));
        _mm512_storeu_ps(x + c + 16, _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)(from + 32))));
    }
}

/* ---- packing ---------------------------------------------------------------------------------------------------- */

/* How a row becomes bytes: x * by + offset, rounded; where `clear`, zeros. */
typedef struct packing {
    uint16_t by, offset;
    int clear;
} packing;

/* The factor for a range of `levels` steps, and the scale that undoes it. bits: the largest magnitude of a row, as a
 * half's bits. */
AMX_INLINE packing packing_of(float range, float levels, float shift, float *scale)
{
    if (!(range < INFINITY) || !(range > 0)) {
        *scale = range == 0 || range < 0 ? 0 : NAN;
        return (packing){0, 0, 1};
    }
    const float inverse = levels / range;
    const uint16_t by = half_bits(inverse < INVERSE_MAX ? inverse : INVERSE_MAX);
    *scale = 1.0f / half_value(by);
    return (packing){by, half_bits(shift * half_value(by)), 0};
}

AMX_INLINE uint32_t largest(__m512i x)
{
    const __m512i odd = _mm512_srli_epi32(x, 16), even = _mm512_and_si512(x, _mm512_set1_epi32(0xffff));
    return _mm512_reduce_max_epu32(_mm512_max_epu32(odd, even));
}

/* A row of halves, vectors `next` bytes apart, to its row of A tiles. */
AMX_INLINE void pack_row(const char *x, size_t next, packing p, char *to, uint32_t steps, const int is_unsigned)
{
    const amx_h by = h_set(p.by), offset = h_set(p.offset);
    if (p.clear) {
        for (uint32_t s = 0; s < steps; s++) _mm512_store_si512(to + s * (size_t)1024, _mm512_setzero_si512());
        return;
    }
    for (uint32_t s = 0; s < steps; s++, x += 2 * next, to += 1024) {
        const amx_h x0 = h_load(x), x1 = h_load(x + next);
        if (is_unsigned)
            _mm512_store_si512(to,
                               _mm512_packus_epi16(h_to_i16(h_fma(x0, by, offset)), h_to_i16(h_fma(x1, by, offset))));
        else
            _mm512_store_si512(to, _mm512_packs_epi16(h_to_i16(h_mul(x0, by)), h_to_i16(h_mul(x1, by))));
    }
}

/* ---- layer norm ------------------------------------------------------------------------------------------------- */

AMX_INLINE __m512 add_up(amx_h x)
{
    const __m512i bits = h_as_bits(x);
    return _mm512_add_ps(_mm512_cvtph_ps(_mm512_castsi512_si256(bits)),
                         _mm512_cvtph_ps(_mm512_extracti64x4_epi64(bits, 1)));
}

/* Sums of four vectors, in the same order for each. */
AMX_INLINE __m128 four_sums(const __m512 *v)
{
    const __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
    const __m512 b = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
    const __m512d c = _mm512_castps_pd(a), d = _mm512_castps_pd(b);
    const __m512 e =
        _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(c, d)), _mm512_castpd_ps(_mm512_unpackhi_pd(c, d)));
    const __m256 f = _mm256_add_ps(_mm512_castps512_ps256(e), _mm512_extractf32x8_ps(e, 1));
    return _mm_add_ps(_mm256_castps256_ps128(f), _mm256_extractf128_ps(f, 1));
}

/* x * by + shift has mean 0 and variance 1, in halves, of four rows. */
typedef struct norming {
    uint16_t by[8], shift[8];
} norming;

AMX_INLINE norming statistics(const cpl_amx_rows *r, char *const *x, float by_down)
{
    const uint32_t panels = r->n / 32;
    const amx_h by = h_set(half_bits(by_down));
    __m512 sums[ROWS], squares[ROWS];
    for (int j = 0; j < ROWS; j++) {
        amx_h s[2] = {h_zero(), h_zero()}, q[2] = {h_zero(), h_zero()};
        for (uint32_t p = 0; p < panels; p += 2) {
            CPL_UNROLL for (uint32_t i = 0; i < 2; i++)
            {
                const amx_h v = h_load(x[j] + (p + i) * (size_t)1024), w = h_mul(v, by);
                s[i] = h_add(s[i], v);
                q[i] = h_fma(w, w, q[i]);
            }
        }
        sums[j] = add_up(h_add(s[0], s[1]));
        squares[j] = add_up(h_add(q[0], q[1]));
    }
    const __m128 per = _mm_set1_ps(1.0f / (float)r->n), most = _mm_set1_ps(INVERSE_MAX);
    const __m128 mean = _mm_mul_ps(four_sums(sums), per);
    const __m128 square = _mm_mul_ps(four_sums(squares), _mm_set1_ps(1.0f / ((float)r->n * by_down * by_down)));
    const __m128 variance = _mm_max_ps(_mm_setzero_ps(), _mm_fnmadd_ps(mean, mean, square));
    const __m128 root = _mm_sqrt_ps(_mm_add_ps(variance, _mm_set1_ps(r->epsilon)));
    const __m128 scale = _mm_min_ps(most, _mm_div_ps(_mm_set1_ps(1), root));
    const __m128i bits = _mm_cvtps_ph(scale, 8);
    norming out;
    _mm_storeu_si128((__m128i *)(void *)out.by, bits);
    _mm_storeu_si128((__m128i *)(void *)out.shift,
                     _mm_cvtps_ph(_mm_sub_ps(_mm_setzero_ps(), _mm_mul_ps(mean, _mm_cvtph_ps(bits))), 8));
    return out;
}

/* Replaces 32 columns of x by the normed ones and returns what the next product wants of them. */
AMX_INLINE amx_h norm_columns(const cpl_amx_rows *r, char *x, uint32_t at, amx_h by, amx_h shift)
{
    const amx_h v = h_fma(h_load(x), by, shift);
    h_store(x, h_fma(v, h_load(r->gamma + at), h_load(r->beta + at)));
    return h_fma(v, h_load(r->q_gamma + at), h_load(r->q_beta + at));
}

/* Norms a row; what the next product wants of it goes to `input`. Returns its largest magnitude as a half's bits. */
AMX_INLINE __m512i norm_row(const cpl_amx_rows *r, char *x, amx_h by, amx_h shift, char *input)
{
    const __m512i magnitude = _mm512_set1_epi16(0x7fff);
    __m512i most[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    for (uint32_t c = 0; c < r->n; c += 64) {
        CPL_UNROLL for (uint32_t i = 0; i < 2; i++)
        {
            const amx_h y = norm_columns(r, x + (c / 32 + i) * (size_t)1024, c + 32 * i, by, shift);
            h_store(input + 2 * c + 64 * i, y);
            most[i] = _mm512_max_epu16(most[i], _mm512_and_si512(h_as_bits(y), magnitude));
        }
    }
    return _mm512_max_epu16(most[0], most[1]);
}

AMX_INLINE void pack_bf16(const cpl_amx_rows *r, uint32_t row, char *x, amx_h by, amx_h shift)
{
    char *to = tile_row(r->a, r->steps, row);
    for (uint32_t c = 0; c < r->n; c += 32, to += 1024, x += 1024) {
        const __m512i y = h_as_bits(norm_columns(r, x, c, by, shift));
        const __m512 lo = _mm512_cvtph_ps(_mm512_castsi512_si256(y));
        const __m512 hi = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(y, 1));
        _mm512_store_si512(to, (__m512i)_mm512_cvtne2ps_pbh(hi, lo));
    }
}

/* Where four rows begin, the last one instead of those behind it. */
AMX_INLINE void rows_at(char **x, const void *tiles, uint32_t steps, uint32_t row, uint32_t to)
{
    for (uint32_t j = 0; j < ROWS; j++) x[j] = tile_row(tiles, steps, row + j < to ? row + j : to - 1);
}

void AMX_NAME(cpl_amx_norm)(const cpl_amx_rows *r, uint32_t from, uint32_t to)
{
    const float by_down = ldexpf(1, -r->down);
    const uint32_t panels = r->n / 32;
    char *x[ROWS], *next[ROWS];
    if (from == to) return;
    rows_at(x, r->x, panels, from, to);
    norming n = statistics(r, x, by_down);
    for (uint32_t row = from; row < to; row += ROWS) {
        const uint32_t count = to - row < ROWS ? to - row : ROWS;
        char input[ROWS][CPL_AMX_NORM_MAX * 2] __attribute__((aligned(64)));
        __m512i most[ROWS];
        for (uint32_t j = 0; j < count; j++) {
            if (r->kind == CPL_AMX_BF16)
                pack_bf16(r, row + j, x[j], h_set(n.by[j]), h_set(n.shift[j]));
            else
                most[j] = norm_row(r, x[j], h_set(n.by[j]), h_set(n.shift[j]), input[j]);
        }
        rows_at(next, r->x, panels, row + count, to);
        if (row + count < to) n = statistics(r, next, by_down);
        memcpy(x, next, sizeof x);
        for (uint32_t j = 0; r->kind != CPL_AMX_BF16 && j < count; j++) {
            float scale;
            const packing p = packing_of(half_value((uint16_t)largest(most[j])), 127, 0, &scale);
            set_scale(r->row_scale, r->row_scale16, r->scale16, row + j, scale);
            pack_row(input[j], 64, p, tile_row(r->a, r->steps, row + j), r->steps, 0);
        }
    }
}

/* ---- quantising ------------------------------------------------------------------------------------------------- */

/* Of the magnitudes of a row, or of its values but that none is below 0. */
AMX_INLINE __m512i row_most(const char *x, uint32_t n, const int is_unsigned)
{
    const __m512i magnitude = _mm512_set1_epi16(0x7fff);
    __m512i most[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    for (uint32_t c = 0; c < n; c += 64, x += 2048) {
        CPL_UNROLL for (int i = 0; i < 2; i++)
        {
            const __m512i y = _mm512_load_si512(x + i * 1024);
            most[i] =
                is_unsigned ? _mm512_max_epi16(most[i], y) : _mm512_max_epu16(most[i], _mm512_and_si512(y, magnitude));
        }
    }
    return _mm512_max_epu16(most[0], most[1]);
}

/* While four rows are packed, the next four's maxima come in. */
AMX_INLINE void quantise(const cpl_amx_halves *h, uint32_t from, uint32_t to, const int is_unsigned)
{
    const uint32_t panels = h->n / 32;
    const float levels = is_unsigned ? 255 : 127, shift = is_unsigned ? h->shift : 0;
    char *x[ROWS], *next[ROWS];
    __m512i most[ROWS];
    if (from == to) return;
    rows_at(x, h->x, panels, from, to);
    for (int j = 0; j < ROWS; j++) most[j] = row_most(x[j], h->n, is_unsigned);
    for (uint32_t row = from; row < to; row += ROWS) {
        const uint32_t count = to - row < ROWS ? to - row : ROWS;
        packing p[ROWS];
        for (uint32_t j = 0; j < count; j++) {
            float scale;
            const float range = half_value((uint16_t)largest(most[j])) + shift;
            p[j] = packing_of(is_unsigned && isnan(h->from_scale[row + j]) ? NAN : range, levels, shift, &scale);
            set_scale(h->row_scale, h->row_scale16, h->scale16, row + j, scale);
        }
        rows_at(next, h->x, panels, row + count, to);
        for (uint32_t j = 0; j < count; j++) {
            if (row + count < to) most[j] = row_most(next[j], h->n, is_unsigned);
            pack_row(x[j], 1024, p[j], tile_row(h->a, h->steps, row + j), h->steps, is_unsigned);
        }
        memcpy(x, next, sizeof x);
    }
}

void AMX_NAME(cpl_amx_quantise_halves)(const cpl_amx_halves *h, uint32_t from, uint32_t to)
{
    quantise(h, from, to, 0);
}

void AMX_NAME(cpl_amx_quantise_activated)(const cpl_amx_halves *h, uint32_t from, uint32_t to)
{
    quantise(h, from, to, 1);
}
