/* SPDX-License-Identifier: Apache-2.0 */
/* rows_avx2.c - row and element kernels for AVX2 + FMA.
 *
 * As rows_avx512.c: sweeps over rows in L1 or L2, sums folded in one fixed order that depends on the row's length only.
 * Only a row's last vector goes through vmaskmov (it touches no byte of a masked lane): as a store it costs some 20
 * operations on AMD's cores. */
#include <math.h>
#include <string.h>

#include "kernel/avx2.h"
#include "kernel/math_avx2.h"
#include "kernel/unroll.h"

/* The first `left` floats at p, at most 8; lanes beyond are 0. */
CPL_INLINE __m256 load(const float *p, size_t left)
{
    return left >= 8 ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, cpl_mask8(left));
}

CPL_INLINE void store(float *p, size_t left, __m256 x)
{
    if (left >= 8)
        _mm256_storeu_ps(p, x);
    else
        _mm256_maskstore_ps(p, cpl_mask8(left), x);
}

/* x in the lanes that exist, `other` beyond. */
CPL_INLINE __m256 only(__m256 x, __m256 other, size_t left)
{
    return left >= 8 ? x : _mm256_blendv_ps(other, x, _mm256_castsi256_ps(cpl_mask8(left)));
}

static void layernorm(float *x, size_t rows, size_t n, size_t ld, const float *gamma, const float *beta, float epsilon)
{
    const float per_n = 1.0f / (float)n;
    const __m256 zero = _mm256_setzero_ps();
    for (size_t r = 0; r < rows; r++, x += ld) {
        __m256 sum = zero, squares = zero;
        for (size_t i = 0; i < n; i += 8) sum = _mm256_add_ps(sum, load(x + i, n - i));
        const __m256 mean = _mm256_set1_ps(cpl_sum_avx2(sum) * per_n);
        for (size_t i = 0; i < n; i += 8) {
            const __m256 d = only(_mm256_sub_ps(load(x + i, n - i), mean), zero, n - i);
            squares = _mm256_fmadd_ps(d, d, squares);
        }
        const __m256 scale = _mm256_set1_ps(1.0f / sqrtf(cpl_sum_avx2(squares) * per_n + epsilon));
        for (size_t i = 0; i < n; i += 8) {
            const __m256 d = _mm256_mul_ps(_mm256_sub_ps(load(x + i, n - i), mean), scale);
            store(x + i, n - i, _mm256_fmadd_ps(d, load(gamma + i, n - i), load(beta + i, n - i)));
        }
    }
}

static float row_max(const float *x, size_t n)
{
    const __m256 lowest = _mm256_set1_ps(-INFINITY);
    __m256 max[4] = {lowest, lowest, lowest, lowest};
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        CPL_UNROLL for (int j = 0; j < 4; j++) max[j] = _mm256_max_ps(max[j], _mm256_loadu_ps(x + i + 8 * j));
    }
    for (; i < n; i += 8) max[0] = _mm256_max_ps(max[0], only(load(x + i, n - i), lowest, n - i));
    return cpl_max_avx2(_mm256_max_ps(_mm256_max_ps(max[0], max[1]), _mm256_max_ps(max[2], max[3])));
}

/* 2^((x - max) c), c = scale log2 e, four vectors side by side; then one multiplication by 1 / sum. */
static void softmax(float *x, size_t rows, size_t n, size_t ld, float scale)
{
    const __m256 c = _mm256_set1_ps(scale * 1.44269504f), zero = _mm256_setzero_ps();
    for (size_t r = 0; r < rows; r++, x += ld) {
        const __m256 max = _mm256_set1_ps(row_max(x, n));
        __m256 sum[4] = {zero, zero, zero, zero};
        size_t i = 0;
        for (; i + 32 <= n; i += 32) {
            CPL_UNROLL for (int j = 0; j < 4; j++)
            {
                const __m256 d = _mm256_sub_ps(_mm256_loadu_ps(x + i + 8 * j), max);
                const __m256 e = cpl_exp2_avx2(_mm256_mul_ps(d, c));
                sum[j] = _mm256_add_ps(sum[j], e);
                _mm256_storeu_ps(x + i + 8 * j, e);
            }
        }
        for (; i < n; i += 8) {
            const __m256 d = _mm256_sub_ps(only(load(x + i, n - i), max, n - i), max);
            const __m256 e = cpl_exp2_avx2(_mm256_mul_ps(d, c));
            sum[0] = _mm256_add_ps(sum[0], only(e, zero, n - i));
            store(x + i, n - i, e);
        }
        const __m256 all = _mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3]));
        const __m256 part = _mm256_set1_ps(1.0f / cpl_sum_avx2(all));
        for (i = 0; i < n; i += 8) store(x + i, n - i, _mm256_mul_ps(load(x + i, n - i), part));
    }
}

#define ELEMENTWISE(name, f)                                                                                           \
    static void name(float *x, size_t n)                                                                               \
    {                                                                                                                  \
        for (size_t i = 0; i < n; i += 8) store(x + i, n - i, f(load(x + i, n - i)));                                  \
    }
ELEMENTWISE(gelu, cpl_gelu_avx2)
ELEMENTWISE(gelu_tanh, cpl_gelu_tanh_avx2)
ELEMENTWISE(relu, cpl_relu_avx2)
ELEMENTWISE(tanh_all, cpl_tanh_avx2)
#undef ELEMENTWISE

/* 8 x 8 in registers: pairs, then fours within 128-bit lanes, then the lanes. */
static void transpose8(float *out, size_t ld_out, const float *in, size_t ld_in)
{
    __m256 r[8], t[8];
#define ALL(i, n) CPL_UNROLL for (int i = 0; i < (n); i++)
    ALL(i, 8) r[i] = _mm256_loadu_ps(in + i * ld_in);
    ALL(i, 4)
    {
        t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    ALL(i, 2)
    {
        r[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
        r[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
        r[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
        r[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
    }
    ALL(i, 4)
    {
        _mm256_storeu_ps(out + i * ld_out, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
        _mm256_storeu_ps(out + (i + 4) * ld_out, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    }
#undef ALL
}

static void transpose(float *out, size_t ld_out, const float *in, size_t ld_in, size_t rows, size_t columns)
{
    const size_t whole_rows = rows & ~(size_t)7, whole_columns = columns & ~(size_t)7;
    for (size_t r = 0; r < whole_rows; r += 8)
        for (size_t c = 0; c < whole_columns; c += 8)
            transpose8(out + c * ld_out + r, ld_out, in + r * ld_in + c, ld_in);
    for (size_t c = 0; c < columns; c++)
        for (size_t r = c < whole_columns ? whole_rows : 0; r < rows; r++) out[c * ld_out + r] = in[r * ld_in + c];
}

static void add3(float *out, const float *a, const float *b, const float *c, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        const __m256 ab = _mm256_add_ps(load(a + i, n - i), load(b + i, n - i));
        store(out + i, n - i, _mm256_add_ps(ab, load(c + i, n - i)));
    }
}

static void add3_i8(float *out, const int8_t *q, float scale, const float *b, const float *c, size_t n)
{
    const __m256 by = _mm256_set1_ps(scale);
    for (size_t i = 0; i < n; i += 8) {
        int64_t eight = 0;
        memcpy(&eight, q + i, n - i < 8 ? n - i : 8);
        const __m256 a = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(eight)));
        store(out + i, n - i, _mm256_add_ps(_mm256_fmadd_ps(by, a, load(b + i, n - i)), load(c + i, n - i)));
    }
}

static void pool_mean(float *out, const float *x, size_t rows, size_t n, size_t ld)
{
    const __m256 count = _mm256_set1_ps((float)rows);
    for (size_t i = 0; i < n; i += 8) {
        __m256 sum = load(x + i, n - i);
        for (size_t r = 1; r < rows; r++) sum = _mm256_add_ps(sum, load(x + r * ld + i, n - i));
        store(out + i, n - i, _mm256_div_ps(sum, count));
    }
}

static void pool_max(float *out, const float *x, size_t rows, size_t n, size_t ld)
{
    for (size_t i = 0; i < n; i += 8) {
        __m256 max = load(x + i, n - i);
        for (size_t r = 1; r < rows; r++) max = _mm256_max_ps(max, load(x + r * ld + i, n - i));
        store(out + i, n - i, max);
    }
}

void cpl_kernels_avx2(cpl_kernels *k)
{
    k->isa = "avx2";
    cpl_tile_install_avx2(k);
    cpl_i8_install_avx2(k);
    cpl_h16_install_avx2(k);
    k->layernorm_f32 = layernorm;
    k->softmax_f32 = softmax;
    k->gelu_f32 = gelu;
    k->gelu_tanh_f32 = gelu_tanh;
    k->relu_f32 = relu;
    k->tanh_f32 = tanh_all;
    k->transpose_f32 = transpose;
    k->add3_f32 = add3;
    k->add3_i8 = add3_i8;
    k->pool_mean_f32 = pool_mean;
    k->pool_max_f32 = pool_max;
}
