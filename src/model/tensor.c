/* SPDX-License-Identifier: Apache-2.0 */
/* tensor.c - stored weights to fp32.
 * The one idea: elements are read with memcpy, because safetensors does not promise that the data starts at a multiple
 * of anything (the header's length need not be padded). Compilers turn that into plain unaligned loads. F16 is decoded
 * by arithmetic on the bits, so that a subnormal, infinity or NaN comes out exactly as hardware (vcvtph2ps) gives it
 * and no instruction set is required here; packing at load is the only user, so speed is the page cache's.
 * Threads: no state; the mapped data is read-only. */
#include <string.h>

#include "base/error.h"
#include "model/model.h"

size_t cpl_tensor_count(const cpl_tensor *t) { return t->data ? (size_t)t->shape[0] * t->shape[1] : 0; }

static float float_of_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static float float_of_half(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = h >> 10 & 31u, fraction = h & 1023u;
    if (exponent == 31) { /* infinity, or NaN made quiet */
        uint32_t quiet = fraction ? 0x400000u : 0u;
        return float_of_bits(sign | 0x7F800000u | quiet | fraction << 13);
    }
    if (exponent) return float_of_bits(sign | (exponent + 112u) << 23 | fraction << 13);
    float magnitude = (float)fraction * 0x1p-24f; /* subnormal or zero: exact in fp32 */
    return sign ? -magnitude : magnitude;
}

void cpl_tensor_read_f32(const cpl_tensor *t, size_t from, size_t count, float *out)
{
    size_t total = cpl_tensor_count(t);
    CPL_ASSERT(from <= total && count <= total - from);
    if (!count) return;
    const unsigned char *p = t->data;
    if (t->dtype == CPL_DTYPE_F32) {
        memcpy(out, p + from * 4, count * 4);
        return;
    }
    p += from * 2;
    for (size_t i = 0; i < count; i++) {
        uint16_t bits;
        memcpy(&bits, p + 2 * i, sizeof bits);
        out[i] = t->dtype == CPL_DTYPE_F16 ? float_of_half(bits) : float_of_bits((uint32_t)bits << 16);
    }
}
