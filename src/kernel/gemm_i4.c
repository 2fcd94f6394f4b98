/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_i4.c - C = epilogue(scales (A B^T) + bias) with 4-bit weights: int8 products of panels that are unpacked on
 * their way in.
 *
 * The idea: a 4-bit weight is an int8 one in disguise. Along a column's k each group of 32, 64 or 128 weights has a
 * whole number `by` (1 to 16) and an offset `less`; a nibble v stands for the int8 weight v by - less, which the
 * column's one fp32 scale multiplies as ever. So a panel becomes the int8 kernels' own panel with a multiplication and
 * a subtraction of bytes, into scratch that stays in L1 and L2, and the rung's int8 product does the rest. What streams
 * from memory is half as much, and what is computed is exact int8, with the same promises.
 *
 * A packed panel: for each group of weights by[nr], less[nr], then for each step of k (i8_group elements of nr columns)
 * half as many bytes as the int8 panel has: the step's first half in the low nibbles, its second half in the high ones.
 *
 * Rejected: fp32 scales by group (twice as many accumulators as registers, and two instructions for eight products);
 * nibbles unpacked in the tile (again for every 12 rows). */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "kernel/kernels.h"

enum { BY_MAX = 16, TOP = 15, REACH = 127 - BY_MAX / 2 };

static uint32_t steps_of(const cpl_kernels *k, uint32_t kk) { return (kk + k->i8_group - 1) / k->i8_group; }

static size_t step_bytes(const cpl_kernels *k) { return (size_t)k->i8_nr * k->i8_group; }

static size_t panel_bytes(const cpl_kernels *k, uint32_t kk, uint32_t group)
{
    return steps_of(k, kk) * step_bytes(k) / 2 + (size_t)(kk + group - 1) / group * 2 * k->i8_nr;
}

size_t cpl_gemm_i4_packed_bytes(const cpl_kernels *k, uint32_t n, uint32_t kk, uint32_t group)
{
    return cpl_gemm_i8_panels(k, n) * panel_bytes(k, kk, group);
}

size_t cpl_gemm_i4_scratch(const cpl_kernels *k, uint32_t kk) { return steps_of(k, kk) * step_bytes(k); }

/* ---- quantising ---------------------------------------------------------------------------------------------------
 */

/* The squared error of n weights with this factor and offset; the nibbles into v. */
static float try_group(const float *w, uint32_t n, float inverse, float step, int zero, uint8_t *v)
{
    float error = 0;
    for (uint32_t i = 0; i < n; i++) {
        float q = nearbyintf(w[i] * inverse) + (float)zero;
        q = fminf(fmaxf(q, 0), TOP);
        v[i] = (uint8_t)q;
        const float d = w[i] - (q - (float)zero) * step;
        error += d * d;
    }
    return error;
}

static void range(const float *w, uint32_t n, float *low, float *high)
{
    *low = *high = 0; /* 0 is always among the values */
    for (uint32_t i = 0; i < n; i++) {
        *low = fminf(*low, w[i]);
        *high = fmaxf(*high, w[i]);
    }
}

/* One group: the whole step and zero of least squared error, from the first step that covers its range down to three
 * quarters of it. */
static void choose_group(const float *w, uint32_t n, float scale, int8_t *q, uint8_t *by, uint8_t *less)
{
    float low, high, best = INFINITY;
    uint8_t v[CPL_I4_GROUP_MAX];
    range(w, n, &low, &high);
    *by = 1;
    *less = 0;
    memset(q, 0, n);
    if (!(high > low)) return;
    const float full = (high - low) / TOP / scale;
    const int most = (int)fminf(ceilf(full), BY_MAX), least = (int)fmaxf(floorf(full * 0.75f), 1);
    for (int m = most > 1 ? most : 1; m >= least; m--) {
        const float step = (float)m * scale, inverse = 1.0f / step;
        const int zero = (int)fminf(nearbyintf(-low * inverse), TOP);
        for (int z = zero > 0 ? zero - 1 : 0; z <= zero + 1 && z <= TOP; z++) {
            if (z * m > 128 || (TOP - z) * m > 127) continue;
            const float error = try_group(w, n, inverse, step, z, v);
            if (error >= best) continue;
            best = error;
            *by = (uint8_t)m;
            *less = (uint8_t)(z * m);
            for (uint32_t i = 0; i < n; i++) q[i] = (int8_t)((v[i] - z) * m);
        }
    }
}

void cpl_i4_quantise(const float *w, uint32_t n, uint32_t group, int8_t *q, uint8_t *by, uint8_t *less, float *scale)
{
    float widest = 0, most = 0;
    int finite = 1;
    for (uint32_t i = 0; i < n; i += group) {
        const uint32_t count = n - i < group ? n - i : group;
        float low, high;
        range(w + i, count, &low, &high);
        widest = fmaxf(widest, high - low);
        most = fmaxf(most, fmaxf(high, -low));
        for (uint32_t j = 0; j < count; j++) finite &= isfinite(w[i + j]) != 0;
    }
    /* So that no group's step is too large for `by`, nor any group, with its end on a step, for a byte. */
    *scale = finite ? fmaxf(widest / (TOP * BY_MAX), most / REACH) : NAN;
    for (uint32_t i = 0; i < n; i += group, by++, less++) {
        const uint32_t count = n - i < group ? n - i : group;
        *by = 1;
        *less = 0;
        if (finite && *scale > 1e-36f)
            choose_group(w + i, count, *scale, q + i, by, less);
        else
            memset(q + i, 0, count);
    }
}

/* ---- packing ------------------------------------------------------------------------------------------------------
 */

void cpl_gemm_i4_place(const cpl_kernels *k, const cpl_packed_i8 *to, uint32_t column, uint32_t kk, uint32_t group,
                       const int8_t *q, const uint8_t *by, const uint8_t *less, float scale, int is_unsigned)
{
    const uint32_t nr = k->i8_nr, step = k->i8_group, j = column % nr;
    const size_t half = step_bytes(k) / 2, offset = (size_t)j * step;
    uint8_t *at = (uint8_t *)to->b + column / nr * panel_bytes(k, kk, group);
    int32_t sum = 0;
    CPL_ASSERT(group % step == 0 && group <= CPL_I4_GROUP_MAX && nr % 2 == 0);
    for (uint32_t i = 0, g = 0; i < kk; i += group, g++) {
        const uint32_t count = kk - i < group ? kk - i : group;
        at[j] = by[g];
        at[nr + j] = less[g];
        at += 2ul * nr;
        for (uint32_t p = 0; p < steps_of(k, count) * step; p++) { /* a step's rest stands for 0 */
            const int32_t value = p < count ? q[i + p] : 0;
            const uint8_t nibble = (uint8_t)((value + less[g]) / by[g]);
            const size_t place = offset + p % step;
            uint8_t *byte = at + p / step * half + place % half;
            *byte = (uint8_t)(*byte | (place < half ? nibble : nibble << 4));
            sum += value;
        }
        at += steps_of(k, count) * half;
    }
    to->scale[column] = scale;
    to->start[column] = -(int32_t)(is_unsigned ? k->i8_zero_unsigned : k->i8_zero) * sum;
}

/* ---- products -----------------------------------------------------------------------------------------------------
 */

void cpl_unpack_i4_plain(const cpl_kernels *k, int8_t *out, const uint8_t *in, uint32_t steps, uint32_t steps_a_group)
{
    const uint32_t nr = k->i8_nr, step = k->i8_group, half = nr * step / 2;
    while (steps) {
        const uint32_t count = steps < steps_a_group ? steps : steps_a_group;
        const uint8_t *by = in, *less = in + nr;
        in += 2ul * nr;
        for (uint32_t s = 0; s < count; s++, in += half, out += 2ul * half) {
            for (uint32_t i = 0; i < 2 * half; i++) {
                const uint32_t v = i < half ? in[i] & 15u : in[i - half] >> 4;
                out[i] = (int8_t)(uint8_t)(v * by[i / step] - less[i / step]);
            }
        }
        steps -= count;
    }
}

void cpl_gemm_i4_run(const cpl_kernels *k, const cpl_gemm_i4 *g)
{
    const size_t size = panel_bytes(k, g->product.k, g->group);
    for (uint32_t p = g->product.panel_begin; p < g->product.panel_end; p++) {
        const uint32_t column = p * k->i8_nr, left = g->product.n - column;
        const uint8_t *packed = (const uint8_t *)g->product.b.b + p * size;
        cpl_gemm_i8 one = g->product;
        k->unpack_i4(k, g->scratch, packed, steps_of(k, one.k), g->group / k->i8_group);
        for (size_t i = 0; p + 1 < g->product.panel_end && i < size; i += 64)
            __builtin_prefetch(packed + size + i, 0, 2);
        one.b = (cpl_packed_i8){g->scratch, one.b.scale + column, one.b.start + column};
        one.bias = one.bias ? one.bias + column : NULL;
        one.c += column;
        one.residual = one.residual ? one.residual + column : NULL;
        one.n = left < k->i8_nr ? left : k->i8_nr;
        one.panel_begin = 0;
        one.panel_end = 1;
        k->gemm_i8(k, &one);
    }
}
