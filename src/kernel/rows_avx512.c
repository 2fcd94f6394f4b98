/* SPDX-License-Identifier: Apache-2.0 */
/* rows_avx512.c - row and element kernels for AVX-512.
 *
 * Rows are short (hidden size, or keys of one sequence) and in L1 or L2, so each is swept two or three times with
 * masked tails rather than kept in registers. Sums go lane by lane and are folded in one fixed order that depends on
 * the row's length only. */
#include <math.h>

#include "kernel/avx512.h"
#include "kernel/math_avx512.h"

/* for (i, m): i = 0, 16, ... below n; m the lanes that exist. */
#define FOR16(i, m, n)                                                                                                 \
    for (size_t i = 0; i < (n); i += 16)                                                                               \
        for (__mmask16 m = (n)-i >= 16 ? 0xffff : cpl_mask16((n)-i); m; m = 0)

static void layernorm(float *x, size_t rows, size_t n, size_t ld, const float *gamma, const float *beta, float epsilon)
{
    const float per_n = 1.0f / (float)n;
    for (size_t r = 0; r < rows; r++, x += ld) {
        __m512 sum = _mm512_setzero_ps(), squares = sum;
        FOR16(i, m, n) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(m, x + i));
        const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) * per_n);
        FOR16(i, m, n)
        {
            const __m512 d = _mm512_maskz_sub_ps(m, _mm512_maskz_loadu_ps(m, x + i), mean);
            squares = _mm512_fmadd_ps(d, d, squares);
        }
        const __m512 scale = _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(squares) * per_n + epsilon));
        FOR16(i, m, n)
        {
            const __m512 d = _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(m, x + i), mean), scale);
            const __m512 y =
                _mm512_fmadd_ps(d, _mm512_maskz_loadu_ps(m, gamma + i), _mm512_maskz_loadu_ps(m, beta + i));
            _mm512_mask_storeu_ps(x + i, m, y);
        }
    }
}

static void softmax(float *x, size_t rows, size_t n, size_t ld, float scale)
{
    const __m512 s = _mm512_set1_ps(scale), lowest = _mm512_set1_ps(-INFINITY);
    for (size_t r = 0; r < rows; r++, x += ld) {
        __m512 max = lowest, sum = _mm512_setzero_ps();
        FOR16(i, m, n) max = _mm512_max_ps(max, _mm512_mask_loadu_ps(lowest, m, x + i));
        max = _mm512_set1_ps(_mm512_reduce_max_ps(max));
        FOR16(i, m, n)
        {
            const __m512 d = _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(m, x + i), max), s);
            const __m512 e = cpl_exp_avx512(d);
            sum = _mm512_mask_add_ps(sum, m, sum, e);
            _mm512_mask_storeu_ps(x + i, m, e);
        }
        const __m512 part = _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(sum));
        FOR16(i, m, n) _mm512_mask_storeu_ps(x + i, m, _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), part));
    }
}

#define ELEMENTWISE(name, f)                                                                                           \
    static void name(float *x, size_t n)                                                                               \
    {                                                                                                                  \
        FOR16(i, m, n) _mm512_mask_storeu_ps(x + i, m, f(_mm512_maskz_loadu_ps(m, x + i)));                            \
    }
ELEMENTWISE(gelu, cpl_gelu_avx512)
ELEMENTWISE(gelu_tanh, cpl_gelu_tanh_avx512)
ELEMENTWISE(relu, cpl_relu_avx512)
ELEMENTWISE(tanh_all, cpl_tanh_avx512)
#undef ELEMENTWISE

static void add3(float *out, const float *a, const float *b, const float *c, size_t n)
{
    FOR16(i, m, n)
    {
        const __m512 ab = _mm512_add_ps(_mm512_maskz_loadu_ps(m, a + i), _mm512_maskz_loadu_ps(m, b + i));
        _mm512_mask_storeu_ps(out + i, m, _mm512_add_ps(ab, _mm512_maskz_loadu_ps(m, c + i)));
    }
}

static void pool_mean(float *out, const float *x, size_t rows, size_t n, size_t ld)
{
    const __m512 count = _mm512_set1_ps((float)rows);
    FOR16(i, m, n)
    {
        __m512 sum = _mm512_maskz_loadu_ps(m, x + i);
        for (size_t r = 1; r < rows; r++) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(m, x + r * ld + i));
        _mm512_mask_storeu_ps(out + i, m, _mm512_div_ps(sum, count));
    }
}

static void pool_max(float *out, const float *x, size_t rows, size_t n, size_t ld)
{
    FOR16(i, m, n)
    {
        __m512 max = _mm512_maskz_loadu_ps(m, x + i);
        for (size_t r = 1; r < rows; r++) max = _mm512_max_ps(max, _mm512_maskz_loadu_ps(m, x + r * ld + i));
        _mm512_mask_storeu_ps(out + i, m, max);
    }
}

void cpl_kernels_avx512(cpl_kernels *k)
{
    k->isa = "avx512";
    cpl_tile_install_avx512(k);
    k->layernorm_f32 = layernorm;
    k->softmax_f32 = softmax;
    k->gelu_f32 = gelu;
    k->gelu_tanh_f32 = gelu_tanh;
    k->relu_f32 = relu;
    k->tanh_f32 = tanh_all;
    k->add3_f32 = add3;
    k->pool_mean_f32 = pool_mean;
    k->pool_max_f32 = pool_max;
}
