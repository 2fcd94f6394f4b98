/* SPDX-License-Identifier: Apache-2.0 */
/* math_neon.h - exp, tanh and GELU on 4 floats: math_avx2.h's forms and bounds.
 *
 * Included by NEON files only; everything is static and always inlined. Unlike x86's, vmaxq and vminq pass a NaN from
 * either side. Bounds are checked by tests/kernel/kerncheck/functions_f32.c. */
#ifndef CPL_KERNEL_MATH_NEON_H
#define CPL_KERNEL_MATH_NEON_H

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>

#define CPL_INLINE static inline __attribute__((always_inline, unused))

/* The first `left` floats at p, at most 4; lanes beyond are 0. */
CPL_INLINE float32x4_t cpl_load_neon(const float *p, size_t left)
{
    if (left >= 4) return vld1q_f32(p);
    float32x4_t x = vsetq_lane_f32(p[0], vdupq_n_f32(0), 0);
    if (left > 1) x = vsetq_lane_f32(p[1], x, 1);
    if (left > 2) x = vsetq_lane_f32(p[2], x, 2);
    return x;
}

CPL_INLINE void cpl_store_neon(float *p, size_t left, float32x4_t x)
{
    if (left >= 4) {
        vst1q_f32(p, x);
        return;
    }
    vst1q_lane_f32(p, x, 0);
    if (left > 1) vst1q_lane_f32(p + 1, x, 1);
    if (left > 2) vst1q_lane_f32(p + 2, x, 2);
}

/* x in the first `left` lanes, `other` beyond. */
CPL_INLINE float32x4_t cpl_only_neon(float32x4_t x, float32x4_t other, size_t left)
{
    static const uint32_t lanes[4] = {0, 1, 2, 3};
    if (left >= 4) return x;
    return vbslq_f32(vcltq_u32(vld1q_u32(lanes), vdupq_n_u32((uint32_t)left)), x, other);
}

/* p * x + c */
CPL_INLINE float32x4_t cpl_poly_neon(float32x4_t p, float32x4_t x, float c) { return vfmaq_f32(vdupq_n_f32(c), p, x); }

/* e^x for x in [-inf, 88]: relative error below 3e-7 above -87, 0 below it. NaN stays NaN. */
CPL_INLINE float32x4_t cpl_exp_neon(float32x4_t x)
{
    const float32x4_t least = vdupq_n_f32(-87.0f);
    const uint32x4_t under = vcltq_f32(x, least);
    x = vmaxq_f32(least, x);
    const float32x4_t n = vrndnq_f32(vmulq_f32(x, vdupq_n_f32(1.44269504f)));
    float32x4_t f = vfmsq_f32(x, n, vdupq_n_f32(0.693359375f));
    f = vfmsq_f32(f, n, vdupq_n_f32(-2.12194440e-4f));
    float32x4_t p = vdupq_n_f32(1.9875691500e-4f);
    p = cpl_poly_neon(p, f, 1.3981999507e-3f);
    p = cpl_poly_neon(p, f, 8.3334519073e-3f);
    p = cpl_poly_neon(p, f, 4.1665795894e-2f);
    p = cpl_poly_neon(p, f, 1.6666665459e-1f);
    p = cpl_poly_neon(p, f, 0.5f);
    p = vfmaq_f32(vaddq_f32(f, vdupq_n_f32(1.0f)), p, vmulq_f32(f, f));
    const int32x4_t power = vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)), 23);
    const float32x4_t y = vmulq_f32(p, vreinterpretq_f32_s32(power));
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(y), under));
}

/* 2^x for finite x <= 0.5, for softmax: relative error below 2e-7 above -126, about 1e-38 below -126. Degree 5 in |f|
 * <= 1/2. NaN stays NaN. */
CPL_INLINE float32x4_t cpl_exp2_neon(float32x4_t x)
{
    x = vmaxq_f32(vdupq_n_f32(-126.0f), x);
    const float32x4_t n = vrndnq_f32(x), f = vsubq_f32(x, n);
    float32x4_t p = vdupq_n_f32(1.327647013e-03f);
    p = cpl_poly_neon(p, f, 9.675540961e-03f);
    p = cpl_poly_neon(p, f, 5.550713465e-02f);
    p = cpl_poly_neon(p, f, 2.402212024e-01f);
    p = cpl_poly_neon(p, f, 6.931469440e-01f);
    p = cpl_poly_neon(p, f, 1.000000119e+00f);
    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p), vshlq_n_s32(vcvtnq_s32_f32(n), 23)));
}

/* tanh x = sign(x) (1 - e) / (1 + e), e = e^(-2|x|): absolute error below 2e-7. */
CPL_INLINE float32x4_t cpl_tanh_neon(float32x4_t x)
{
    const float32x4_t one = vdupq_n_f32(1.0f), e = cpl_exp_neon(vmulq_f32(vabsq_f32(x), vdupq_n_f32(-2.0f)));
    return vbslq_f32(vdupq_n_u32(0x80000000u), x, vdivq_f32(vsubq_f32(one, e), vaddq_f32(one, e)));
}

/* gelu(x) = max(x, 0) - g(|x|): math_avx2.h has the derivation. Absolute error below 1.5e-6 + 1e-7 |x|. */
CPL_INLINE float32x4_t cpl_gelu_neon(float32x4_t x)
{
    const float32x4_t a = vminq_f32(vdupq_n_f32(5.51543289f), vabsq_f32(x));
    const float32x4_t z = vmulq_f32(a, vdupq_n_f32(0.70710678f)), half = vmulq_f32(a, vdupq_n_f32(0.5f));
    const float32x4_t t = vmulq_f32(z, z);
    float32x4_t p = vdupq_n_f32(0.0004232675419189036f);
    p = cpl_poly_neon(p, t, 0.011828592047095299f);
    p = cpl_poly_neon(p, t, 0.0774788185954094f);
    p = cpl_poly_neon(p, t, 0.3840872049331665f);
    p = cpl_poly_neon(p, t, 1.12837815284729f);
    float32x4_t q = vdupq_n_f32(2.4083972675725818e-05f);
    q = cpl_poly_neon(q, t, 0.003037678776308894f);
    q = cpl_poly_neon(q, t, 0.031146850436925888f);
    q = cpl_poly_neon(q, t, 0.19337098300457f);
    q = cpl_poly_neon(q, t, 0.6736848950386047f);
    q = cpl_poly_neon(q, t, 1.0f);
    const float32x4_t erf = vdivq_f32(vmulq_f32(z, p), q), g = vfmsq_f32(half, half, erf);
    return vsubq_f32(vmaxq_f32(vdupq_n_f32(0), x), g);
}

/* The tanh form, x / (1 + e^(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3): absolute error below 4e-7 + 2e-7 |x|. */
CPL_INLINE float32x4_t cpl_gelu_tanh_neon(float32x4_t x)
{
    x = vmaxq_f32(vdupq_n_f32(-20.0f), x); /* 0 from there on */
    const float32x4_t cubic = vfmaq_f32(vdupq_n_f32(1.0f), vmulq_f32(x, x), vdupq_n_f32(0.044715f));
    const float32x4_t u = vmulq_f32(vmulq_f32(x, cubic), vdupq_n_f32(-1.59576912f));
    const float32x4_t e = cpl_exp_neon(vminq_f32(vdupq_n_f32(88.0f), u));
    return vdivq_f32(x, vaddq_f32(e, vdupq_n_f32(1.0f)));
}

CPL_INLINE float32x4_t cpl_relu_neon(float32x4_t x) { return vmaxq_f32(vdupq_n_f32(0), x); }

#endif
