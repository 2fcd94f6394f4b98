/* SPDX-License-Identifier: Apache-2.0 */
/* rows_neon.c - row and element kernels for NEON.
 *
 * As rows_avx512.c: sweeps over rows in L1 or L2, sums folded in one fixed order that depends on the row's length only.
 * A row's last vector is loaded and stored lane by lane, so that no byte beyond it is touched. */
#include <math.h>

#include "kernel/math_neon.h"
#include "kernel/neon.h"
#include "kernel/unroll.h"

static void layernorm(float *x, size_t rows, size_t n, size_t ld, const float *gamma, const float *beta, float epsilon)
{
    const float per_n = 1.0f / (float)n;
    const float32x4_t zero = vdupq_n_f32(0);
    for (size_t r = 0; r < rows; r++, x += ld) {
        float32x4_t sum[2] = {zero, zero}, squares[2] = {zero, zero};
        for (size_t i = 0; i < n; i += 4) sum[i >> 2 & 1] = vaddq_f32(sum[i >> 2 & 1], cpl_load_neon(x + i, n - i));
        const float32x4_t mean = vdupq_n_f32(vaddvq_f32(vaddq_f32(sum[0], sum[1])) * per_n);
        for (size_t i = 0; i < n; i += 4) {
            const float32x4_t d = cpl_only_neon(vsubq_f32(cpl_load_neon(x + i, n - i), mean), zero, n - i);
            squares[i >> 2 & 1] = vfmaq_f32(squares[i >> 2 & 1], d, d);
        }
        const float var = vaddvq_f32(vaddq_f32(squares[0], squares[1])) * per_n;
        const float32x4_t scale = vdupq_n_f32(1.0f / sqrtf(var + epsilon));
        for (size_t i = 0; i < n; i += 4) {
            const float32x4_t d = vmulq_f32(vsubq_f32(cpl_load_neon(x + i, n - i), mean), scale);
            const float32x4_t y = vfmaq_f32(cpl_load_neon(beta + i, n - i), d, cpl_load_neon(gamma + i, n - i));
            cpl_store_neon(x + i, n - i, y);
        }
    }
}

static float row_max(const float *x, size_t n)
{
    const float32x4_t lowest = vdupq_n_f32(-INFINITY);
    float32x4_t max[4] = {lowest, lowest, lowest, lowest};
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        CPL_UNROLL for (int j = 0; j < 4; j++) max[j] = vmaxq_f32(max[j], vld1q_f32(x + i + 4 * j));
    }
    for (; i < n; i += 4) max[0] = vmaxq_f32(max[0], cpl_only_neon(cpl_load_neon(x + i, n - i), lowest, n - i));
    return vmaxvq_f32(vmaxq_f32(vmaxq_f32(max[0], max[1]), vmaxq_f32(max[2], max[3])));
}

/* 2^((x - max) c), c = scale log2 e, four vectors side by side; then one multiplication by 1 / sum. */
static void softmax(float *x, size_t rows, size_t n, size_t ld, float scale)
{
    const float32x4_t c = vdupq_n_f32(scale * 1.44269504f), zero = vdupq_n_f32(0);
    for (size_t r = 0; r < rows; r++, x += ld) {
        const float32x4_t max = vdupq_n_f32(row_max(x, n));
        float32x4_t sum[4] = {zero, zero, zero, zero};
        size_t i = 0;
        for (; i + 16 <= n; i += 16) {
            CPL_UNROLL for (int j = 0; j < 4; j++)
            {
                const float32x4_t e = cpl_exp2_neon(vmulq_f32(vsubq_f32(vld1q_f32(x + i + 4 * j), max), c));
                sum[j] = vaddq_f32(sum[j], e);
                vst1q_f32(x + i + 4 * j, e);
            }
        }
        for (; i < n; i += 4) {
            const float32x4_t d = vsubq_f32(cpl_only_neon(cpl_load_neon(x + i, n - i), max, n - i), max);
            const float32x4_t e = cpl_exp2_neon(vmulq_f32(d, c));
            sum[0] = vaddq_f32(sum[0], cpl_only_neon(e, zero, n - i));
            cpl_store_neon(x + i, n - i, e);
        }
        const float all = vaddvq_f32(vaddq_f32(vaddq_f32(sum[0], sum[1]), vaddq_f32(sum[2], sum[3])));
        const float32x4_t part = vdupq_n_f32(1.0f / all);
        for (i = 0; i < n; i += 4) cpl_store_neon(x + i, n - i, vmulq_f32(cpl_load_neon(x + i, n - i), part));
    }
}

#define ELEMENTWISE(name, f)                                                                                           \
    static void name(float *x, size_t n)                                                                               \
    {                                                                                                                  \
        size_t i = 0;                                                                                                  \
        for (; i + 16 <= n; i += 16) {                                                                                 \
            CPL_UNROLL for (int j = 0; j < 16; j += 4) vst1q_f32(x + i + j, f(vld1q_f32(x + i + j)));                  \
        }                                                                                                              \
        for (; i < n; i += 4) cpl_store_neon(x + i, n - i, f(cpl_load_neon(x + i, n - i)));                            \
    }
ELEMENTWISE(gelu, cpl_gelu_neon)
ELEMENTWISE(gelu_tanh, cpl_gelu_tanh_neon)
ELEMENTWISE(relu, cpl_relu_neon)
ELEMENTWISE(tanh_all, cpl_tanh_neon)
#undef ELEMENTWISE

/* 4 x 4 in registers: pairs, then halves. */
static void transpose4(float *out, size_t ld_out, const float *in, size_t ld_in)
{
    const float32x4_t a = vld1q_f32(in), b = vld1q_f32(in + ld_in);
    const float32x4_t c = vld1q_f32(in + 2 * ld_in), d = vld1q_f32(in + 3 * ld_in);
    const float64x2_t ab = vreinterpretq_f64_f32(vtrn1q_f32(a, b)), ba = vreinterpretq_f64_f32(vtrn2q_f32(a, b));
    const float64x2_t cd = vreinterpretq_f64_f32(vtrn1q_f32(c, d)), dc = vreinterpretq_f64_f32(vtrn2q_f32(c, d));
    vst1q_f32(out, vreinterpretq_f32_f64(vtrn1q_f64(ab, cd)));
    vst1q_f32(out + ld_out, vreinterpretq_f32_f64(vtrn1q_f64(ba, dc)));
    vst1q_f32(out + 2 * ld_out, vreinterpretq_f32_f64(vtrn2q_f64(ab, cd)));
    vst1q_f32(out + 3 * ld_out, vreinterpretq_f32_f64(vtrn2q_f64(ba, dc)));
}

static void transpose(float *out, size_t ld_out, const float *in, size_t ld_in, size_t rows, size_t columns)
{
    const size_t whole_rows = rows & ~(size_t)3, whole_columns = columns & ~(size_t)3;
    for (size_t r = 0; r < whole_rows; r += 4)
        for (size_t c = 0; c < whole_columns; c += 4)
            transpose4(out + c * ld_out + r, ld_out, in + r * ld_in + c, ld_in);
    for (size_t c = 0; c < columns; c++)
        for (size_t r = c < whole_columns ? whole_rows : 0; r < rows; r++) out[c * ld_out + r] = in[r * ld_in + c];
}

static void add3(float *out, const float *a, const float *b, const float *c, size_t n)
{
    for (size_t i = 0; i < n; i += 4) {
        const float32x4_t ab = vaddq_f32(cpl_load_neon(a + i, n - i), cpl_load_neon(b + i, n - i));
        cpl_store_neon(out + i, n - i, vaddq_f32(ab, cpl_load_neon(c + i, n - i)));
    }
}

static void pool_mean(float *out, const float *x, size_t rows, size_t n, size_t ld)
{
    const float32x4_t count = vdupq_n_f32((float)rows);
    for (size_t i = 0; i < n; i += 4) {
        float32x4_t sum = cpl_load_neon(x + i, n - i);
        for (size_t r = 1; r < rows; r++) sum = vaddq_f32(sum, cpl_load_neon(x + r * ld + i, n - i));
        cpl_store_neon(out + i, n - i, vdivq_f32(sum, count));
    }
}

static void pool_max(float *out, const float *x, size_t rows, size_t n, size_t ld)
{
    for (size_t i = 0; i < n; i += 4) {
        float32x4_t max = cpl_load_neon(x + i, n - i);
        for (size_t r = 1; r < rows; r++) max = vmaxq_f32(max, cpl_load_neon(x + r * ld + i, n - i));
        cpl_store_neon(out + i, n - i, max);
    }
}

void cpl_kernels_neon(cpl_kernels *k)
{
    k->isa = "neon";
    cpl_tile_install_neon(k);
    cpl_i8_install_neon(k);
    cpl_h16_install_neon(k);
    k->layernorm_f32 = layernorm;
    k->softmax_f32 = softmax;
    k->gelu_f32 = gelu;
    k->gelu_tanh_f32 = gelu_tanh;
    k->relu_f32 = relu;
    k->tanh_f32 = tanh_all;
    k->transpose_f32 = transpose;
    k->add3_f32 = add3;
    k->pool_mean_f32 = pool_mean;
    k->pool_max_f32 = pool_max;
}
