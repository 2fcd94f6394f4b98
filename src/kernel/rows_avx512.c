/* SPDX-License-Identifier: Apache-2.0 */
/* rows_avx512.c - row and element kernels for AVX-512.
 *
 * Rows are short (hidden size, or keys of one sequence) and in L1 or L2, so each is swept two or three times with
 * masked tails rather than kept in registers. Sums go lane by lane and are folded in one fixed order that depends on
 * the row's length only. */
#include <math.h>

#include "kernel/avx512.h"
#include "kernel/math_avx512.h"
#include "kernel/transpose_avx512.h"
#include "kernel/unroll.h"

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

/* Four vectors side by side, else the chain of one exponential after another is all one waits for. */
#define FOR64(i, n) for (; i + 64 <= (n); i += 64)

static float row_max(const float *x, size_t n)
{
    const __m512 lowest = _mm512_set1_ps(-INFINITY);
    __m512 max[4] = {lowest, lowest, lowest, lowest};
    size_t i = 0;
    FOR64(i, n)
    {
        CPL_UNROLL for (int j = 0; j < 4; j++) max[j] = _mm512_max_ps(max[j], _mm512_loadu_ps(x + i + 16 * j));
    }
    for (; i < n; i += 16) {
        const __mmask16 m = n - i >= 16 ? 0xffff : cpl_mask16(n - i);
        max[0] = _mm512_max_ps(max[0], _mm512_mask_loadu_ps(lowest, m, x + i));
    }
    return _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(max[0], max[1]), _mm512_max_ps(max[2], max[3])));
}

/* 2^((x - max) c), c = scale log2 e: one FMA and an exponential an element, then one multiplication by 1 / sum. */
static void softmax(float *x, size_t rows, size_t n, size_t ld, float scale)
{
    const __m512 c = _mm512_set1_ps(scale * 1.44269504f);
    for (size_t r = 0; r < rows; r++, x += ld) {
        const __m512 max = _mm512_set1_ps(row_max(x, n));
        __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
        size_t i = 0;
        FOR64(i, n)
        {
            CPL_UNROLL for (int j = 0; j < 4; j++)
            {
                const __m512 d = _mm512_sub_ps(_mm512_loadu_ps(x + i + 16 * j), max);
                const __m512 e = cpl_exp2_avx512(_mm512_mul_ps(d, c));
                sum[j] = _mm512_add_ps(sum[j], e);
                _mm512_storeu_ps(x + i + 16 * j, e);
            }
        }
        for (; i < n; i += 16) {
            const __mmask16 m = n - i >= 16 ? 0xffff : cpl_mask16(n - i);
            const __m512 d = _mm512_sub_ps(_mm512_mask_loadu_ps(max, m, x + i), max);
            const __m512 e = cpl_exp2_avx512(_mm512_mul_ps(d, c));
            sum[0] = _mm512_mask_add_ps(sum[0], m, sum[0], e);
            _mm512_mask_storeu_ps(x + i, m, e);
        }
        const __m512 all = _mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3]));
        const __m512 part = _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(all));
        i = 0;
        FOR64(i, n)
        {
            CPL_UNROLL for (int j = 0; j < 4; j++)
                _mm512_storeu_ps(x + i + 16 * j, _mm512_mul_ps(_mm512_loadu_ps(x + i + 16 * j), part));
        }
        for (; i < n; i += 16) {
            const __mmask16 m = n - i >= 16 ? 0xffff : cpl_mask16(n - i);
            _mm512_mask_storeu_ps(x + i, m, _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), part));
        }
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

static void transpose(float *out, size_t ld_out, const float *in, size_t ld_in, size_t rows, size_t columns)
{
    for (size_t row = 0; row < rows; row += 16) {
        const size_t nr = rows - row < 16 ? rows - row : 16;
        for (size_t column = 0; column < columns; column += 16) {
            const size_t nc = columns - column < 16 ? columns - column : 16;
            const __mmask16 mr = cpl_mask16(nr), mc = cpl_mask16(nc);
            const float *from = in + row * ld_in + column;
            float *to = out + column * ld_out + row;
            __m512 r[16];
            CPL_UNROLL for (size_t i = 0; i < 16; i++) r[i] =
                i < nr ? _mm512_maskz_loadu_ps(mc, from + i * ld_in) : _mm512_setzero_ps();
            cpl_transpose16(r);
            CPL_UNROLL for (size_t i = 0; i < 16; i++) if (i < nc) _mm512_mask_storeu_ps(to + i * ld_out, mr, r[i]);
        }
    }
}

static void add3(float *out, const float *a, const float *b, const float *c, size_t n)
{
    FOR16(i, m, n)
    {
        const __m512 ab = _mm512_add_ps(_mm512_maskz_loadu_ps(m, a + i), _mm512_maskz_loadu_ps(m, b + i));
        _mm512_mask_storeu_ps(out + i, m, _mm512_add_ps(ab, _mm512_maskz_loadu_ps(m, c + i)));
    }
}

static void add3_i8(float *out, const int8_t *q, float scale, const float *b, const float *c, size_t n)
{
    const __m512 by = _mm512_set1_ps(scale);
    FOR16(i, m, n)
    {
        const __m512 a = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(m, q + i)));
        const __m512 ab = _mm512_fmadd_ps(by, a, _mm512_maskz_loadu_ps(m, b + i));
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
    cpl_h16_install_avx512(k);
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
