/* SPDX-License-Identifier: Apache-2.0 */
/* rows_ref.c - row and element kernels in plain C, and the table they fill first.
 *
 * Written to be read: one loop a step, libm's functions, sums in rising order. Every slot of the table is valid from
 * here on, so a rung needs to override only what it does better. */
#include <math.h>

#include "kernel/ref.h"

float cpl_ref_gelu(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678f)); }

float cpl_ref_gelu_tanh(float x) { return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x))); }

static void layernorm(float *x, size_t rows, size_t n, size_t ld, const float *gamma, const float *beta, float epsilon)
{
    for (size_t r = 0; r < rows; r++, x += ld) {
        float sum = 0, squares = 0;
        for (size_t i = 0; i < n; i++) sum += x[i];
        const float mean = sum / (float)n;
        for (size_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
        const float scale = 1.0f / sqrtf(squares / (float)n + epsilon);
        for (size_t i = 0; i < n; i++) x[i] = (x[i] - mean) * scale * gamma[i] + beta[i];
    }
}

static void softmax(float *x, size_t rows, size_t n, size_t ld, float scale)
{
    for (size_t r = 0; r < rows; r++, x += ld) {
        float max = x[0], sum = 0;
        for (size_t i = 1; i < n; i++) max = fmaxf(max, x[i]);
        for (size_t i = 0; i < n; i++) sum += x[i] = expf((x[i] - max) * scale);
        for (size_t i = 0; i < n; i++) x[i] /= sum;
    }
}

static void gelu(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = cpl_ref_gelu(x[i]);
}

static void gelu_tanh(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = cpl_ref_gelu_tanh(x[i]);
}

static void relu(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = x[i] < 0 ? 0 : x[i]; /* NaN stays */
}

static void tanh_rows(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = tanhf(x[i]);
}

static void transpose(float *out, size_t ld_out, const float *in, size_t ld_in, size_t rows, size_t columns)
{
    for (size_t c = 0; c < columns; c++)
        for (size_t r = 0; r < rows; r++) out[c * ld_out + r] = in[r * ld_in + c];
}

static void add3(float *out, const float *a, const float *b, const float *c, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = (a[i] + b[i]) + c[i];
}

static void add3_i8(float *out, const int8_t *q, float scale, const float *b, const float *c, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = fmaf(scale, q[i], b[i]) + c[i];
}

static void pool_mean(float *out, const float *x, size_t rows, size_t n, size_t ld)
{
    for (size_t i = 0; i < n; i++) out[i] = x[i];
    for (size_t r = 1; r < rows; r++)
        for (size_t i = 0; i < n; i++) out[i] += x[r * ld + i];
    for (size_t i = 0; i < n; i++) out[i] /= (float)rows;
}

static void pool_max(float *out, const float *x, size_t rows, size_t n, size_t ld)
{
    for (size_t i = 0; i < n; i++) out[i] = x[i];
    for (size_t r = 1; r < rows; r++)
        for (size_t i = 0; i < n; i++) out[i] = out[i] > x[r * ld + i] ? out[i] : x[r * ld + i];
}

void cpl_kernels_ref(cpl_kernels *k)
{
    *k = (cpl_kernels){
        .isa = "ref",
        .mr = CPL_REF_MR,
        .nr = CPL_REF_NR,
        .tile_f32 = cpl_tile_f32_ref,
        .gemm_f32 = cpl_gemm_f32_tiled,
        .attention_f32 = cpl_attention_f32_tiled,
        .layernorm_f32 = layernorm,
        .softmax_f32 = softmax,
        .gelu_f32 = gelu,
        .gelu_tanh_f32 = gelu_tanh,
        .relu_f32 = relu,
        .tanh_f32 = tanh_rows,
        .transpose_f32 = transpose,
        .add3_f32 = add3,
        .add3_i8 = add3_i8,
        .pool_mean_f32 = pool_mean,
        .pool_max_f32 = pool_max,
    };
    cpl_i8_install_ref(k);
    cpl_h16_install_ref(k);
}
