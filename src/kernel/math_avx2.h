/* SPDX-License-Identifier: Apache-2.0 */
/* math_avx2.h - exp, tanh and GELU on 8 floats, with their error bounds.
 *
 * Included by *_avx2.c only; everything is static and always inlined, so no copy compiled for AVX2 can end up serving
 * another ISA. Bounds are checked by tests/kernel/kerncheck/functions_f32.c. */
#ifndef CPL_KERNEL_MATH_AVX2_H
#define CPL_KERNEL_MATH_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define CPL_INLINE static inline __attribute__((always_inline, unused))

/* Lanes [0, n) of 8, n in 0..8. */
CPL_INLINE __m256i cpl_mask8(size_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

CPL_INLINE __m256 cpl_abs_avx2(__m256 x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }

/* e^x for x in [-inf, 88]: relative error below 3e-7 above -87, 0 below it. NaN stays NaN. */
CPL_INLINE __m256 cpl_exp_avx2(__m256 x)
{
    const __m256 least = _mm256_set1_ps(-87.0f);
    const __m256 under = _mm256_cmp_ps(x, least, _CMP_LT_OQ);
    x = _mm256_max_ps(least, x); /* x second: NaN passes */
    const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)), 8);
    __m256 f = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
    f = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), f);
    __m256 p = _mm256_set1_ps(1.9875691500e-4f);
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.3981999507e-3f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(8.3334519073e-3f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(4.1665795894e-2f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.6666665459e-1f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(0.5f));
    p = _mm256_fmadd_ps(p, _mm256_mul_ps(f, f), _mm256_add_ps(f, _mm256_set1_ps(1.0f)));
    const __m256i power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_andnot_ps(under, _mm256_mul_ps(p, _mm256_castsi256_ps(power)));
}

/* 2^x for finite x <= 0.5, for softmax: relative error below 2e-7 above -126, about 1e-38 below -126. Degree 5 in |f|
 * <= 1/2. */
CPL_INLINE __m256 cpl_exp2_avx2(__m256 x)
{
    x = _mm256_max_ps(_mm256_set1_ps(-126.0f), x);
    const __m256 n = _mm256_round_ps(x, 8), f = _mm256_sub_ps(x, n);
    __m256 p = _mm256_set1_ps(1.327647013e-03f);
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(9.675540961e-03f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(5.550713465e-02f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(2.402212024e-01f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(6.931469440e-01f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.000000119e+00f));
    const __m256i power = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), power));
}

/* tanh x = sign(x) (1 - e) / (1 + e), e = e^(-2|x|): absolute error below 2e-7. */
CPL_INLINE __m256 cpl_tanh_avx2(__m256 x)
{
    const __m256 sign = _mm256_and_ps(x, _mm256_set1_ps(-0.0f)), one = _mm256_set1_ps(1.0f);
    const __m256 e = cpl_exp_avx2(_mm256_mul_ps(cpl_abs_avx2(x), _mm256_set1_ps(-2.0f)));
    return _mm256_or_ps(sign, _mm256_div_ps(_mm256_sub_ps(one, e), _mm256_add_ps(one, e)));
}

/* gelu(x) = max(x, 0) - g(|x|), g(a) = a (1 - erf(a / sqrt 2)) / 2 with a cut at 5.5154, so that the error doesn't grow
 * with |x|; erf z = z P(z^2) / Q(z^2) on z <= 3.9, fitted for z times its error. Absolute error below 1.5e-6 +
 * 1e-7 |x|. NaN stays NaN. */
CPL_INLINE __m256 cpl_gelu_avx2(__m256 x)
{
    const __m256 a = _mm256_min_ps(_mm256_set1_ps(5.51543289f), cpl_abs_avx2(x));
    const __m256 z = _mm256_mul_ps(a, _mm256_set1_ps(0.70710678f)), half = _mm256_mul_ps(a, _mm256_set1_ps(0.5f));
    const __m256 t = _mm256_mul_ps(z, z);
    __m256 p = _mm256_set1_ps(0.0004232675419189036f);
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(0.011828592047095299f));
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(0.0774788185954094f));
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(0.3840872049331665f));
    p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(1.12837815284729f));
    __m256 q = _mm256_set1_ps(2.4083972675725818e-05f);
    q = _mm256_fmadd_ps(q, t, _mm256_set1_ps(0.003037678776308894f));
    q = _mm256_fmadd_ps(q, t, _mm256_set1_ps(0.031146850436925888f));
    q = _mm256_fmadd_ps(q, t, _mm256_set1_ps(0.19337098300457f));
    q = _mm256_fmadd_ps(q, t, _mm256_set1_ps(0.6736848950386047f));
    q = _mm256_fmadd_ps(q, t, _mm256_set1_ps(1.0f));
    const __m256 erf = _mm256_div_ps(_mm256_mul_ps(z, p), q);
    const __m256 g = _mm256_fnmadd_ps(half, erf, half);
    return _mm256_sub_ps(_mm256_max_ps(_mm256_setzero_ps(), x), g);
}

/* The tanh form, x / (1 + e^(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3): absolute error below 4e-7 + 2e-7 |x|. */
CPL_INLINE __m256 cpl_gelu_tanh_avx2(__m256 x)
{
    x = _mm256_max_ps(_mm256_set1_ps(-20.0f), x); /* 0 from there on; x second: NaN passes */
    const __m256 cubic = _mm256_fmadd_ps(_mm256_mul_ps(x, x), _mm256_set1_ps(0.044715f), _mm256_set1_ps(1.0f));
    const __m256 u = _mm256_mul_ps(_mm256_mul_ps(x, cubic), _mm256_set1_ps(-1.59576912f));
    const __m256 e = cpl_exp_avx2(_mm256_min_ps(_mm256_set1_ps(88.0f), u));
    return _mm256_div_ps(x, _mm256_add_ps(e, _mm256_set1_ps(1.0f)));
}

CPL_INLINE __m256 cpl_relu_avx2(__m256 x) { return _mm256_max_ps(_mm256_setzero_ps(), x); }

CPL_INLINE float cpl_sum_avx2(__m256 x)
{
    const __m128 h = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 q = _mm_add_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

CPL_INLINE float cpl_max_avx2(__m256 x)
{
    const __m128 h = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 q = _mm_max_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}

#endif
