/* SPDX-License-Identifier: Apache-2.0 */
/* i8_ref.c - quantised rows and the int8 register tile in plain C: what the vector versions are checked against.
 *
 * Activations are int16, one k after another (groups of 1). Integer sums are exact, so the vector tiles' sums must
 * equal these; the scaling uses fmaf like theirs. */
#include <math.h>
#include <string.h>

#include "kernel/quantise.h"
#include "kernel/ref.h"

static uint32_t magnitude_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x7fffffffu;
}

static float moved(const cpl_rows_i8 *to, const float *x, size_t i)
{
    return to->mul ? fmaf(x[i], to->mul[i], to->add[i]) : x[i] - to->floor;
}

static void quantise(const cpl_rows_i8 *to, const float *x, size_t rows, size_t n, size_t ld)
{
    for (size_t r = 0; r < rows; r++, x += ld) {
        int16_t *out = (int16_t *)(void *)((char *)to->q + r * to->ldq);
        uint32_t most = 0;
        for (size_t i = 0; i < n; i++) {
            const uint32_t bits = magnitude_bits(moved(to, x, i));
            if (bits > most) most = bits;
        }
        float inverse;
        to->scale[r] = cpl_i8_scale(most, to->is_unsigned ? CPL_I8_UNSIGNED : CPL_I8_SIGNED, &inverse);
        for (size_t i = 0; i < n; i++) {
            const int16_t value = inverse > 0 ? (int16_t)lrintf(moved(to, x, i) * inverse) : 0;
            out[i] = to->is_unsigned && value < 0 ? 0 : value;
        }
    }
}

static void weights(int8_t *q, float *scale, const float *w, size_t n)
{
    uint32_t most = 0;
    float inverse;
    for (size_t i = 0; i < n; i++) most = magnitude_bits(w[i]) > most ? magnitude_bits(w[i]) : most;
    *scale = cpl_i8_scale(most, CPL_I8_SIGNED, &inverse);
    for (size_t i = 0; i < n; i++) q[i] = inverse > 0 ? (int8_t)lrintf(w[i] * inverse) : 0;
}

static void magnitudes(float *most, const float *x, size_t rows, size_t n)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < n; i++) most[i] = fmaxf(most[i], fabsf(x[r * n + i]));
}

static void tile(const cpl_tile_i8 *t)
{
    for (uint32_t i = 0; i < t->m; i++) {
        int32_t sum[CPL_REF_NR];
        const int16_t *a = (const int16_t *)(const void *)((const char *)t->a + i * t->lda);
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
    k->i8_bytes = 2;
    k->i8_zero = k->i8_zero_unsigned = 0;
    k->unpack_i4 = cpl_unpack_i4_plain;
    k->tile_i8 = tile;
    k->gemm_i8 = cpl_gemm_i8_tiled;
    k->quantise_i8 = quantise;
    k->weights_i8 = weights;
    k->magnitudes_f32 = magnitudes;
}
