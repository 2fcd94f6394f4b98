/* SPDX-License-Identifier: Apache-2.0 */
/* epilogue_avx512.h - the activation of a stored tile of 32 columns, for every GEMM tile of this ISA.
 *
 * It runs on the tile while that is in L1, several vectors side by side, since one GELU is a chain of dependent
 * instructions. Included by tile files of this ISA only (math_avx512.h says why). */
#ifndef CPL_KERNEL_EPILOGUE_AVX512_H
#define CPL_KERNEL_EPILOGUE_AVX512_H

#include "kernel/kernels.h"
#include "kernel/math_avx512.h"

/* Where a tile's sums go. */
typedef struct cpl_store_avx512 {
    float *c;
    size_t ldc;
    const float *bias, *residual;
    size_t ldr;
    cpl_epilogue epilogue;
} cpl_store_avx512;

/* Row i of a tile: bias and residual added, stored; activations come after the whole tile. */
CPL_INLINE void cpl_store_row_avx512(const cpl_store_avx512 *s, uint32_t i, __m512 y0, __m512 y1)
{
    if (s->epilogue != CPL_EPILOGUE_NONE) {
        y0 = _mm512_add_ps(y0, _mm512_loadu_ps(s->bias));
        y1 = _mm512_add_ps(y1, _mm512_loadu_ps(s->bias + 16));
    }
    if (s->epilogue == CPL_EPILOGUE_RESIDUAL) {
        y0 = _mm512_add_ps(y0, _mm512_loadu_ps(s->residual + i * s->ldr));
        y1 = _mm512_add_ps(y1, _mm512_loadu_ps(s->residual + i * s->ldr + 16));
    }
    _mm512_storeu_ps(s->c + i * s->ldc, y0);
    _mm512_storeu_ps(s->c + i * s->ldc + 16, y1);
}

CPL_INLINE void cpl_activate_avx512(float *c, size_t ldc, uint32_t m, cpl_epilogue epilogue)
{
#define EACH(f)                                                                                                        \
    for (uint32_t i = 0; i < m; i++) {                                                                                 \
        _mm512_storeu_ps(c + i * ldc, f(_mm512_loadu_ps(c + i * ldc)));                                                \
        _mm512_storeu_ps(c + i * ldc + 16, f(_mm512_loadu_ps(c + i * ldc + 16)));                                      \
    }
    switch (epilogue) {
    case CPL_EPILOGUE_GELU: EACH(cpl_gelu_avx512) break;
    case CPL_EPILOGUE_GELU_TANH: EACH(cpl_gelu_tanh_avx512) break;
    case CPL_EPILOGUE_RELU: EACH(cpl_relu_avx512) break;
    case CPL_EPILOGUE_TANH: EACH(cpl_tanh_avx512) break;
    default: break;
    }
#undef EACH
}

#endif
