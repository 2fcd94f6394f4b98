/* SPDX-License-Identifier: Apache-2.0 */
/* h16_ref.c - the register tiles for 16-bit weights in plain C: weights widened one by one, computed in fp32. What the
 * vector versions are checked against. */
#include "kernel/half.h"
#include "kernel/ref.h"

static void tile(const cpl_tile_h16 *t, float (*widen)(uint16_t))
{
    for (uint32_t i = 0; i < t->m; i++) {
        float sum[CPL_REF_NR] = {0};
        const float *a = (const float *)(const void *)((const char *)t->a + i * t->lda);
        for (uint32_t p = 0; p < t->groups; p++)
            for (uint32_t j = 0; j < CPL_REF_NR; j++) sum[j] += a[p] * widen(t->b[p * CPL_REF_NR + j]);
        for (uint32_t j = 0; j < CPL_REF_NR; j++) {
            const float bias = t->epilogue == CPL_EPILOGUE_NONE ? 0 : t->bias[j];
            const float residual = t->epilogue == CPL_EPILOGUE_RESIDUAL ? t->residual[i * t->ldr + j] : 0;
            t->c[i * t->ldc + j] = cpl_ref_epilogue(t->epilogue, sum[j], bias, residual);
        }
    }
}

static float widen_bf16(uint16_t h) { return cpl_bf16_widen(h); }
static float widen_fp16(uint16_t h) { return cpl_fp16_widen(h); }
static void tile_bf16(const cpl_tile_h16 *t) { tile(t, widen_bf16); }
static void tile_fp16(const cpl_tile_h16 *t) { tile(t, widen_fp16); }

void cpl_h16_install_ref(cpl_kernels *k)
{
    k->h16[CPL_H16_BF16] = (cpl_h16){"fp32 ref", CPL_REF_MR, CPL_REF_NR, 1, tile_bf16, NULL};
    k->h16[CPL_H16_FP16] = (cpl_h16){"fp32 ref", CPL_REF_MR, CPL_REF_NR, 1, tile_fp16, NULL};
}
