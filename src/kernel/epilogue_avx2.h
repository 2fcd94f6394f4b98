/* SPDX-License-Identifier: Apache-2.0 */
/* epilogue_avx2.h - the activation of a stored tile of 16 columns, for every GEMM tile of this ISA.
 *
 * It runs on the tile while that is in L1, several vectors side by side, since one GELU is a chain of dependent
 * instructions. Included by tile files of this ISA only (math_avx2.h says why). */
#ifndef CPL_KERNEL_EPILOGUE_AVX2_H
#define CPL_KERNEL_EPILOGUE_AVX2_H

#include "kernel/kernels.h"
#include "kernel/math_avx2.h"

/* Where a tile's sums go. */
typedef struct cpl_store_avx2 {
    float *c;
    size_t ldc;
    const float *bias, *residual;
    size_t ldr;
    cpl_epilogue epilogue;
} cpl_store_avx2;

/* Row i of a tile: bias and residual added, stored; activations come after the whole tile. */
CPL_INLINE void cpl_store_row_avx2(const cpl_store_avx2 *s, uint32_t i, __m256 y0, __m256 y1)
{
    if (s->epilogue != CPL_EPILOGUE_NONE) {
        y0 = _mm256_add_ps(y0, _mm256_loadu_ps(s->bias));
        y1 = _mm256_add_ps(y1, _mm256_loadu_ps(s->bias + 8));
    }
    if (s->epilogue == CPL_EPILOGUE_RESIDUAL) {
        y0 = _mm256_add_ps(y0, _mm256_loadu_ps(s->residual + i * s->ldr));
        y1 = _mm256_add_ps(y1, _mm256_loadu_ps(s->residual + i * s->ldr + 8));
    }
    _mm256_storeu_ps(s->c + i * s->ldc, y0);
    _mm256_storeu_ps(s->c + i * s->ldc + 8, y1);
}

CPL_INLINE void cpl_activate_avx2(float *c, size_t ldc, uint32_t m, cpl_epilogue epilogue)
{
#define EACH(f)                                                                                                        \
    for (uint32_t i = 0; i < m; i++) {                                                                                 \
        _mm256_storeu_ps(c + i * ldc, f(_mm256_loadu_ps(c + i * ldc)));                                                \
        _mm256_storeu_ps(c + i * ldc + 8, f(_mm256_loadu_ps(c + i * ldc + 8)));                                        \
    }
    switch (epilogue) {
    case CPL_EPILOGUE_GELU: EACH(cpl_gelu_avx2) break;
    case CPL_EPILOGUE_GELU_TANH: EACH(cpl_gelu_tanh_avx2) break;
    case CPL_EPILOGUE_RELU: EACH(cpl_relu_avx2) break;
    case CPL_EPILOGUE_TANH: EACH(cpl_tanh_avx2) break;
    default: break;
    }
#undef EACH
}

#endif
