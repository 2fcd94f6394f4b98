/* SPDX-License-Identifier: Apache-2.0 */
/* epilogue_neon.h - what happens to a tile of 16 columns before and after it is stored, for every GEMM tile of NEON.
 *
 * Activations run on the stored tile while it is in L1. Included by NEON tile files only (math_neon.h says why). */
#ifndef CPL_KERNEL_EPILOGUE_NEON_H
#define CPL_KERNEL_EPILOGUE_NEON_H

#include "kernel/kernels.h"
#include "kernel/math_neon.h"
#include "kernel/unroll.h"

CPL_INLINE void cpl_activate_neon(float *c, size_t ldc, uint32_t m, cpl_epilogue epilogue)
{
#define EACH(f)                                                                                                        \
    for (uint32_t i = 0; i < m; i++) {                                                                                 \
        CPL_UNROLL for (int j = 0; j < 16; j += 4) vst1q_f32(c + i * ldc + j, f(vld1q_f32(c + i * ldc + j)));          \
    }
    switch (epilogue) {
    case CPL_EPILOGUE_GELU: EACH(cpl_gelu_neon) break;
    case CPL_EPILOGUE_GELU_TANH: EACH(cpl_gelu_tanh_neon) break;
    case CPL_EPILOGUE_RELU: EACH(cpl_relu_neon) break;
    case CPL_EPILOGUE_TANH: EACH(cpl_tanh_neon) break;
    default: break;
    }
#undef EACH
}

/* Where a floating-point tile goes. */
typedef struct cpl_store_neon_to {
    float *c;
    size_t ldc;
    const float *bias, *residual;
    size_t ldr;
    cpl_epilogue epilogue;
} cpl_store_neon_to;

/* Row i of it, 16 sums: adds, stores. */
CPL_INLINE void cpl_store_row_neon(const cpl_store_neon_to *t, uint32_t i, const float32x4_t sums[4])
{
    CPL_UNROLL for (int j = 0; j < 4; j++)
    {
        float32x4_t y = sums[j];
        if (t->epilogue != CPL_EPILOGUE_NONE) y = vaddq_f32(y, vld1q_f32(t->bias + 4 * j));
        if (t->epilogue == CPL_EPILOGUE_RESIDUAL) y = vaddq_f32(y, vld1q_f32(t->residual + i * t->ldr + 4 * j));
        vst1q_f32(t->c + i * t->ldc + 4 * j, y);
    }
}

/* Row i of an int8 tile: scales its 16 sums, adds, stores. */
CPL_INLINE void cpl_finish_row_i8_neon(const cpl_tile_i8 *t, uint32_t i, const int32x4_t sums[4])
{
    const float32x4_t scale = vdupq_n_f32(t->row_scale[i]);
    CPL_UNROLL for (int j = 0; j < 4; j++)
    {
        const float32x4_t bias = t->epilogue == CPL_EPILOGUE_NONE ? vdupq_n_f32(0) : vld1q_f32(t->bias + 4 * j);
        float32x4_t y = vfmaq_f32(bias, vmulq_f32(vcvtq_f32_s32(sums[j]), scale), vld1q_f32(t->column_scale + 4 * j));
        if (t->epilogue == CPL_EPILOGUE_RESIDUAL) y = vaddq_f32(y, vld1q_f32(t->residual + i * t->ldr + 4 * j));
        vst1q_f32(t->c + i * t->ldc + 4 * j, y);
    }
}

#endif
