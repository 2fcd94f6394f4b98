/* SPDX-License-Identifier: Apache-2.0 */
/* math_avx512.h - exp, tanh and GELU on 16 floats, with their error bounds.
 *
 * Included by *_avx512.c only; everything is static and always inlined, so no copy compiled for AVX-512 can end up
 * serving another ISA. Bounds are checked by tests/kernel/kerncheck/functions_f32.c. */
#ifndef CPL_KERNEL_MATH_AVX512_H
#define CPL_KERNEL_MATH_AVX512_H

#include <immintrin.h>
#include <stddef.h>

#define CPL_INLINE static inline __attribute__((always_inline, unused))

/* Lanes [0, n) of 16, n in 0..16. */
CPL_INLINE __mmask16 cpl_mask16(size_t n) { return (__mmask16)((1u << n) - 1); }

/* e^x for x in [-inf, 88]: relative error below 3e-7 above -87; 0 below about -103. NaN stays NaN.
 * x = n ln 2 + f with |f| <= ln 2 / 2, then a degree-7 polynomial in f. */
CPL_INLINE __m512 cpl_exp_avx512(__m512 x)
{
    x = _mm512_max_ps(_mm512_set1_ps(-104.0f), x); /* x second: NaN passes */
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 8);
    __m512 f = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    f = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), f);
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.5f));
    p = _mm512_fmadd_ps(p, _mm512_mul_ps(f, f), _mm512_add_ps(f, _mm512_set1_ps(1.0f)));
    return _mm512_scalef_ps(p, n);
}

/* 2^x for finite x <= 0.5, for softmax: relative error below 2e-7 above -126, 0 below about -150. Degree 5 in |f| <=
 * 1/2. */
CPL_INLINE __m512 cpl_exp2_avx512(__m512 x)
{
    const __m512 n = _mm512_roundscale_ps(x, 8), f = _mm512_sub_ps(x, n);
    __m512 p = _mm512_set1_ps(1.327647013e-03f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.675540961e-03f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.550713465e-02f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.402212024e-01f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.931469440e-01f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.000000119e+00f));
    return _mm512_scalef_ps(p, n);
}

/* tanh x = sign(x) (1 - e) / (1 + e), e = e^(-2|x|): absolute error below 2e-7. */
CPL_INLINE __m512 cpl_tanh_avx512(__m512 x)
{
    const __m512 sign = _mm512_and_ps(x, _mm512_set1_ps(-0.0f));
    const __m512 one = _mm512_set1_ps(1.0f);
    const __m512 e = cpl_exp_avx512(_mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(-2.0f)));
    return _mm512_or_ps(sign, _mm512_div_ps(_mm512_sub_ps(one, e), _mm512_add_ps(one, e)));
}

/* gelu(x) = max(x, 0) - g(|x|), g(a) = a erfc(a / sqrt 2) / 2, which is smooth and below 3.6e-7 beyond 5.27. g by 16
 * pieces of degree 4 around multiples of 0.3515625, the coefficients looked up by vpermps: 15 instructions, no
 * division. Absolute error below 6e-7 + 1e-7 |x|. NaN stays NaN; -inf gives the tail's -4e-7. */
static const float cpl_gelu_table_avx512[5][16] = {
    {0.0f, 1.274706423e-01f, 1.694453359e-01f, 1.537567079e-01f, 1.122538447e-01f, 6.923972070e-02f, 3.682148829e-02f,
     1.705115847e-02f, 6.912845653e-03f, 2.461377298e-03f, 7.711878861e-04f, 2.128845226e-04f, 5.181910819e-05f,
     1.112870086e-05f, 2.109507250e-06f, 3.530354320e-07f},
    {1.757814735e-01f, 8.111969382e-02f, 7.707352284e-03f, -3.356453404e-02f, -4.531317577e-02f, -3.874503076e-02f,
     -2.584392019e-02f, -1.427256688e-02f, -6.692792755e-03f, -2.699718112e-03f, -9.438690613e-04f, -2.873775957e-04f,
     -7.644081052e-05f, -1.780324965e-05f, -3.636477459e-06f, -6.527387200e-07f},
    {-4.931060225e-02f, -4.348793626e-02f, -2.898987383e-02f, -1.254835539e-02f, -2.063954453e-04f, 5.731914192e-03f,
     6.527886260e-03f, 4.840917420e-03f, 2.791442908e-03f, 1.323342090e-03f, 5.288936663e-04f, 1.806486107e-04f,
     5.317028263e-05f, 1.355930272e-05f, 3.007366786e-06f, 5.875436386e-07f},
    {1.288959447e-05f, 3.670781618e-03f, 5.522642750e-03f, 5.021702964e-03f, 3.056449816e-03f, 9.993534768e-04f,
     -2.819542133e-04f, -6.997528253e-04f, -6.067160284e-04f, -3.691182937e-04f, -1.772404939e-04f, -7.017466123e-05f,
     -2.341002801e-05f, -6.662591204e-06f, -1.630631346e-06f, -3.017566996e-07f},
    {9.949196829e-04f, 7.475732127e-04f, 1.564612612e-04f, -3.666185075e-04f, -5.563269369e-04f, -4.364082124e-04f,
     -2.025349677e-04f, -2.248690362e-05f, 5.357291593e-05f, 5.780995707e-05f, 3.698063301e-05f, 1.777497164e-05f,
     6.879679859e-06f, 2.211453648e-06f, 6.004594297e-07f, 1.998215566e-07f},
};

CPL_INLINE __m512 cpl_gelu_avx512(__m512 x)
{
    const __m512 magic =
        _mm512_set1_ps(12582912.0f); /* 1.5 * 2^23: adding it leaves the nearest integer in the low bits */
    const __m512 per_piece = _mm512_set1_ps(2.84444444f);
    const __m512 a = _mm512_min_ps(_mm512_set1_ps(5.2734375f), _mm512_abs_ps(x));
    const __m512 shifted = _mm512_fmadd_ps(a, per_piece, magic);
    const __m512i piece = _mm512_castps_si512(shifted); /* vpermps reads the low 4 bits */
    const __m512 d = _mm512_fmsub_ps(a, per_piece, _mm512_sub_ps(shifted, magic));
    __m512 g = _mm512_permutexvar_ps(piece, _mm512_loadu_ps(cpl_gelu_table_avx512[4]));
    g = _mm512_fmadd_ps(g, d, _mm512_permutexvar_ps(piece, _mm512_loadu_ps(cpl_gelu_table_avx512[3])));
    g = _mm512_fmadd_ps(g, d, _mm512_permutexvar_ps(piece, _mm512_loadu_ps(cpl_gelu_table_avx512[2])));
    g = _mm512_fmadd_ps(g, d, _mm512_permutexvar_ps(piece, _mm512_loadu_ps(cpl_gelu_table_avx512[1])));
    g = _mm512_fmadd_ps(g, d, _mm512_permutexvar_ps(piece, _mm512_loadu_ps(cpl_gelu_table_avx512[0])));
    return _mm512_sub_ps(_mm512_max_ps(_mm512_setzero_ps(), x), g);
}

/* The tanh form, x / (1 + e^(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3): absolute error below 4e-7 + 2e-7 |x|. */
CPL_INLINE __m512 cpl_gelu_tanh_avx512(__m512 x)
{
    x = _mm512_max_ps(_mm512_set1_ps(-20.0f), x); /* 0 from there on; x second: NaN passes */
    const __m512 cubic = _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(0.044715f), _mm512_set1_ps(1.0f));
    const __m512 u = _mm512_mul_ps(_mm512_mul_ps(x, cubic), _mm512_set1_ps(-1.59576912f));
    const __m512 e = cpl_exp_avx512(_mm512_min_ps(_mm512_set1_ps(88.0f), u));
    return _mm512_div_ps(x, _mm512_add_ps(e, _mm512_set1_ps(1.0f)));
}

CPL_INLINE __m512 cpl_relu_avx512(__m512 x) { return _mm512_max_ps(_mm512_setzero_ps(), x); }

#endif
