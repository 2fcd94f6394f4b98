/* SPDX-License-Identifier: Apache-2.0 */
/* tiles.h - what tile_amx.h offers, in software: eight tiles of 16 rows of 64 bytes for each thread, and 32 halves in a
 * vector, each operation rounded as the hardware rounds it.
 *
 * tdpbf16ps: the products of even and of odd k are summed apart from zero on, each multiply-add fused and rounded to
 * nearest even, then added to each other and to the tile; denormal inputs and results are zero. Half arithmetic: fp32
 * for sum and product (exact but for one rounding of the sum, which is innocuous), double for the fused form, then once
 * to half. */
#ifndef CPL_TESTS_TILES_H
#define CPL_TESTS_TILES_H

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define AMX_NAME(name) name##_model

typedef union amx_tile {
    uint8_t bytes[1024];
    int8_t s8[16][64];
    uint8_t u8[16][64];
    uint16_t bf16[16][32];
    int32_t i32[16][16];
    float f32[16][16];
} amx_tile;

extern _Thread_local amx_tile amx_tiles[8];
extern _Thread_local int amx_configured;

void amx_model_i8(int c, int a, int b, int is_unsigned);
void amx_model_bf16(int c, int a, int b);
void amx_model_load(int t, const void *p, size_t stride);
void amx_model_store(int t, void *p, size_t stride);
void amx_model_zero(int t);
void amx_model_config(const void *p);

#define T_ZERO(t)             amx_model_zero(t)
#define T_LOAD(t, p, stride)  amx_model_load(t, p, stride)
#define T_LOAD_ONCE           T_LOAD
#define T_STORE(t, p, stride) amx_model_store(t, p, stride)
#define T_I8(c, a, b)         amx_model_i8(c, a, b, 0)
#define T_U8(c, a, b)         amx_model_i8(c, a, b, 1)
#define T_BF16(c, a, b)       amx_model_bf16(c, a, b)
#define T_CONFIG(p)           amx_model_config(p)
#define T_RELEASE()           ((void)(amx_configured = 0))

typedef __m512i amx_h;

AMX_INLINE __m512 h_low(amx_h x) { return _mm512_cvtph_ps(_mm512_castsi512_si256(x)); }
AMX_INLINE __m512 h_high(amx_h x) { return _mm512_cvtph_ps(_mm512_extracti64x4_epi64(x, 1)); }
AMX_INLINE amx_h h_join(__m512 lo, __m512 hi)
{
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtps_ph(lo, 8)), _mm512_cvtps_ph(hi, 8), 1);
}
AMX_INLINE amx_h h_zero(void) { return _mm512_setzero_si512(); }
AMX_INLINE amx_h h_set(uint16_t bits) { return _mm512_set1_epi16((short)bits); }
AMX_INLINE amx_h h_bits(__m512i bits) { return bits; }
AMX_INLINE __m512i h_as_bits(amx_h x) { return x; }
AMX_INLINE amx_h h_load(const void *p) { return _mm512_loadu_si512(p); }
AMX_INLINE void h_store(void *p, amx_h x) { _mm512_storeu_si512(p, x); }
AMX_INLINE amx_h h_words(__m512i x)
{
    return h_join(_mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm512_castsi512_si256(x))),
                  _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(x, 1))));
}
/* What doesn't fit becomes the most negative word. */
AMX_INLINE __m256i h_i16_half(__m512 x)
{
    const __m512i to = _mm512_cvtps_epi32(x);
    const __mmask16 fits = _mm512_cmp_epi32_mask(to, _mm512_set1_epi32(-32768), _MM_CMPINT_NLT) &
                           _mm512_cmp_epi32_mask(to, _mm512_set1_epi32(32767), _MM_CMPINT_LE);
    return _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(_mm512_set1_epi32(-32768), fits, to));
}
AMX_INLINE __m512i h_to_i16(amx_h x)
{
    return _mm512_inserti64x4(_mm512_castsi256_si512(h_i16_half(h_low(x))), h_i16_half(h_high(x)), 1);
}
AMX_INLINE amx_h h_add(amx_h a, amx_h b)
{
    return h_join(_mm512_add_ps(h_low(a), h_low(b)), _mm512_add_ps(h_high(a), h_high(b)));
}
AMX_INLINE amx_h h_mul(amx_h a, amx_h b)
{
    return h_join(_mm512_mul_ps(h_low(a), h_low(b)), _mm512_mul_ps(h_high(a), h_high(b)));
}
/* Double to float rounding to odd, so that the rounding to half that follows is the only one. */
AMX_INLINE __m256 h_odd(__m512d x)
{
    const __m256 cut = _mm512_cvt_roundpd_ps(x, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
    const __mmask8 inexact = _mm512_cmp_pd_mask(_mm512_cvtps_pd(cut), x, _CMP_NEQ_OQ);
    const __m256i bits = _mm256_castps_si256(cut);
    return _mm256_castsi256_ps(_mm256_mask_or_epi32(bits, inexact, bits, _mm256_set1_epi32(1)));
}
AMX_INLINE __m512 h_fma_half(__m512 a, __m512 b, __m512 c)
{
#define H_PART(x, i) _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, i))
    const __m256 lo = h_odd(_mm512_fmadd_pd(H_PART(a, 0), H_PART(b, 0), H_PART(c, 0)));
    const __m256 hi = h_odd(_mm512_fmadd_pd(H_PART(a, 1), H_PART(b, 1), H_PART(c, 1)));
#undef H_PART
    return _mm512_insertf32x8(_mm512_castps256_ps512(lo), hi, 1);
}
AMX_INLINE amx_h h_fma(amx_h a, amx_h b, amx_h c)
{
    return h_join(h_fma_half(h_low(a), h_low(b), h_low(c)), h_fma_half(h_high(a), h_high(b), h_high(c)));
}

#endif
