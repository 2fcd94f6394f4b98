/* SPDX-License-Identifier: Apache-2.0 */
/* i8_ref.c - quantised rows and the int8 register tile in plain C: what the vector versions are checked against.
 *
 * Activations are int8, one k after another (groups of 1). Integer sums are exact, so the vector tiles' sums must equal
 * these; the scaling uses fmaf like theirs. */
#include <math.h>
#include <string.h>

#include "kernel/quantise.h"
#include "kernel/ref.h"

static void quantise(void *q, size_t ldq, float *scale, const float *x, size_t rows, size_t n, size_t ld)
{
    for (size_t r = 0; r < rows; r++, x += ld) {
        int8_t *out = (int8_t *)q + r * ldq;
        uint32_t most = 0, bits;
        for (size_t i = 0; i < n; i++) {
            memcpy(&bits, &x[i], sizeof bits);
            bits &= 0x7fffffffu;
            if (bits > most) most = bits;
        }
        float inverse;
        scale[r] = cpl_i8_scale(most, &inverse);
        for (size_t i = 0; i < n; i++) out[i] = inverse > 0 ? (int8_t)lrintf(x[i] * inverse) : 0;
    }
}

static void tile(const cpl_tile_i8 *t)
{
    for (uint32_t i = 0; i < t->m; i++) {
        int32_t sum[CPL_REF_NR];
        const int8_t *a = (const int8_t *)t->a + i * t->lda;
        memcpy(sum, t->start, sizeof sum);
        for (uint32_t p = 0; p < t->groups; p++)
            for (uint32_t j = 0; j < CPL_REF_NR; j++) sum[j] += a[p] * t->b[p * CPL_REF_NR + j];
        for (uint32_t j = 0; j < CPL_REF_NR; j++) {
            const float bias = t->epilogue == CPL_EPILOGUE_NONE ? 0 : t->bias[j];
            const float residual = t->epilogue == CPL_EPILOGUE_RESIDUAL ? t->residual[i * t->ldr + j] : 0;
            const float y = fmaf((float)sum[j] * t->row_scale[i], t->column_scale[j], bias);
            t->c[i * t->ldc + j] = cpl_ref_epilogue(t->epilogue, y, 0, residual);
        }
    }
}

void cpl_i8_install_ref(cpl_kernels *k)
{
    k->i8_isa = "ref";
    k->i8_mr = CPL_REF_MR;
    k->i8_nr = CPL_REF_NR;
    k->i8_group = 1;
    k->i8_bytes = 1;
    k->i8_zero = 0;
    k->tile_i8 = tile;
    k->gemm_i8 = cpl_gemm_i8_tiled;
    k->quantise_i8 = quantise;
}
