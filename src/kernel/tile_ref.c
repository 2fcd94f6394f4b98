/* SPDX-License-Identifier: Apache-2.0 */
/* tile_ref.c - the register tile in plain C: what the vector tiles are checked against.
 *
 * Same contract and same order as they have (one chain over k for each element), so it also serves as the description
 * of what they compute. Multiply and add are two roundings here, one (FMA) there: results differ in the last bits. */
#include <math.h>

#include "kernel/ref.h"

float cpl_ref_epilogue(cpl_epilogue e, float sum, float bias, float residual)
{
    switch (e) {
    case CPL_EPILOGUE_NONE: return sum;
    case CPL_EPILOGUE_BIAS: return sum + bias;
    case CPL_EPILOGUE_GELU: return cpl_ref_gelu(sum + bias);
    case CPL_EPILOGUE_GELU_TANH: return cpl_ref_gelu_tanh(sum + bias);
    case CPL_EPILOGUE_RELU: return sum + bias < 0 ? 0 : sum + bias; /* NaN stays */
    case CPL_EPILOGUE_TANH: return tanhf(sum + bias);
    case CPL_EPILOGUE_RESIDUAL: return (sum + bias) + residual;
    }
    return sum;
}

static float finish(const cpl_tile_f32 *t, float sum, uint32_t i, uint32_t j)
{
    const float bias = t->epilogue == CPL_EPILOGUE_NONE ? 0 : t->bias[j];
    const float residual = t->epilogue == CPL_EPILOGUE_RESIDUAL ? t->residual[i * t->ldr + j] : 0;
    return cpl_ref_epilogue(t->epilogue, sum, bias, residual);
}

void cpl_tile_f32_ref(const cpl_tile_f32 *t)
{
    for (uint32_t i = 0; i < t->m; i++) {
        float sum[CPL_REF_NR] = {0};
        const float *a = t->a + i * t->lda;
        for (uint32_t p = 0; p < t->k; p++) {
            const float *b = t->b + p * t->ldb;
            for (uint32_t j = 0; j < CPL_REF_NR; j++) sum[j] += a[p] * b[j];
        }
        for (uint32_t j = 0; j < CPL_REF_NR; j++) t->c[i * t->ldc + j] = finish(t, sum[j], i, j);
    }
}
