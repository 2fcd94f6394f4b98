/* SPDX-License-Identifier: Apache-2.0 */
/* rows_avx2.c - row and element kernels for AVX2 + FMA.
 *
 * As rows_avx512.c: sweeps over rows in L1 or L2 with masked tails (vmaskmov touches no byte of a masked lane), sums
 * folded in one fixed order that depends on the row's length only. */
#include <math.h>

#include "kernel/avx2.h"
#include "kernel/math_avx2.h"

/* for (i, m): i = 0, 8, ... below n; m the lanes that exist. */
#define FOR8(i, m, n)                                                                                                  \
    for (size_t i = 0; i < (n); i += 8)                                                                                \
        for (__m256i m = cpl_mask8((n)-i < 8 ? (n)-i : 8), *once = &m; once; once = NULL)

static void layernorm(float *x, size_t rows, size_t n, size_t ld, const float *gamma, const float *beta, float epsilon)
{
    const float per_n = 1.0f / (float)n;
    for (size_t r = 0; r < rows; r++, x += ld) {
        __m256 sum = _mm256_setzero_ps(), squares = sum;
        FOR8(i, m, n) sum = _mm256_add_ps(sum, _mm256_maskload_ps(x + i, m));
        const __m256 mean = _mm256_set1_ps(cpl_sum_avx2(sum) * per_n);
        FOR8(i, m, n)
        {
            __m256 d = _mm256_sub_ps(_mm256_maskload_ps(x + i, m), mean);
            d = _mm256_and_ps(d, _mm256_castsi256_ps(m));
            squares = _mm256_fmadd_ps(d, d, squares);
        }
        const __m256 scale = _mm256_set1_ps(1.0f / sqrtf(cpl_sum_avx2(squares) * per_n + epsilon));
        FOR8(i, m, n)
        {
            const __m256 d = _mm256_mul_ps(_mm256_sub_ps(_mm256_maskload_ps(x + i, m), mean), scale);
            _mm256_maskstore_ps(x + i, m,
                                _mm256_fmadd_ps(d, _mm256_maskload_ps(gamma + i, m), _mm256_maskload_ps(beta + i, m)));
        }
    }
}

static void softmax(float *x, size_t rows, size_t n, size_t ld, float scale)
{
    const __m256 s = _mm256_set1_ps(scale), lowest = _mm256_set1_ps(-INFINITY);
    for (size_t r = 0; r < rows; r++, x += ld) {
        __m256 max = lowest, sum = _mm256_setzero_ps();
        FOR8(i, m, n)
        {
            max = _mm256_max_ps(max, _mm256_blendv_ps(lowest, _mm256_maskload_ps(x + i, m), _mm256_castsi256_ps(m)));
        }
        max = _mm256_set1_ps(cpl_max_avx2(max));
        FOR8(i, m, n)
        {
            const __m256 d = _mm256_mul_ps(_mm256_sub_ps(_mm256_maskload_ps(x + i, m), max), s);
            const __m256 e = _mm256_and_ps(cpl_exp_avx2(d), _mm256_castsi256_ps(m));
            sum = _mm256_add_ps(sum, e);
            _mm256_maskstore_ps(x + i, m, e);
        }
        const __m256 part = _mm256_set1_ps(1.0f / cpl_sum_avx2(sum));
        FOR8(i, m, n) _mm256_maskstore_ps(x + i, m, _mm256_mul_ps(_mm256_maskload_ps(x + i, m), part));
    }
}

#define ELEMENTWISE(name, f)                                                                                           \
    static void name(float *x, size_t n)                                                                               \
    {                                                                                                                  \
        FOR8(i, m, n) _mm256_maskstore_ps(x + i, m, f(_mm256_maskload_ps(x + i, m)));                                  \
    }
ELEMENTWISE(gelu, cpl_gelu_avx2)
ELEMENTWISE(gelu_tanh, cpl_gelu_tanh_avx2)
ELEMENTWISE(relu, cpl_relu_avx2)
ELEMENTWISE(tanh_all, cpl_tanh_avx2)
#undef ELEMENTWISE

static void add3(float *out, const float *a, const float *b, const float *c, size_t n)
{
    FOR8(i, m, n)
    {
        const __m256 ab = _mm256_add_ps(_mm256_maskload_ps(a + i, m), _mm256_maskload_ps(b + i, m));
        _mm256_maskstore_ps(out + i, m, _mm256_add_ps(ab, _mm256_maskload_ps(c + i, m)));
    }
}

static void pool_mean(float *out, const float *x, size_t rows, size_t n, size_t ld)
{
    const __m256 count = _mm256_set1_ps((float)rows);
    FOR8(i, m, n)
    {
        __m256 sum = _mm256_maskload_ps(x + i, m);
        for (size_t r = 1; r < rows; r++) sum = _mm256_add_ps(sum, _mm256_maskload_ps(x + r * ld + i, m));
        _mm256_maskstore_ps(out + i, m, _mm256_div_ps(sum, count));
    }
}

static void pool_max(float *out, const float *x, size_t rows, size_t n, size_t ld)
{
    FOR8(i, m, n)
    {
        __m256 max = _mm256_maskload_ps(x + i, m);
        for (size_t r = 1; r < rows; r++) max = _mm256_max_ps(max, _mm256_maskload_ps(x + r * ld + i, m));
        _mm256_maskstore_ps(out + i, m, max);
    }
}

void cpl_kernels_avx2(cpl_kernels *k)
{
    k->isa = "avx2";
    cpl_tile_install_avx2(k);
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
