/* SPDX-License-Identifier: Apache-2.0 */
/* half.h - bf16 and fp16 to and from fp32, one value at a time: what weights are packed with and what the vector
 * conversions are checked against. Rounds to nearest even; a NaN stays one. */
#ifndef CPL_KERNEL_HALF_H
#define CPL_KERNEL_HALF_H

#include <stdint.h>
#include <string.h>

static inline __attribute__((always_inline)) uint32_t cpl_float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline __attribute__((always_inline)) float cpl_float_of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline __attribute__((always_inline)) float cpl_bf16_widen(uint16_t h)
{
    return cpl_float_of_bits((uint32_t)h << 16);
}

static inline __attribute__((always_inline)) uint16_t cpl_bf16_round(float x)
{
    const uint32_t bits = cpl_float_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

/* Scaling by 2^112 moves the exponent over exactly, denormals included. */
static inline __attribute__((always_inline)) float cpl_fp16_widen(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = h & 0x7fff;
    if (magnitude >= 0x7c00) return cpl_float_of_bits(sign | 0x7f800000u | magnitude << 13);
    return cpl_float_of_bits(sign | cpl_float_bits(cpl_float_of_bits(magnitude << 13) * 0x1p112f));
}

/* Below 2^-14 an addition of 0.5 puts the last kept bit at the end of the fraction and rounds it there. */
static inline __attribute__((always_inline)) uint16_t cpl_fp16_round(float x)
{
    const uint32_t bits = cpl_float_bits(x), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) return (uint16_t)(sign | 0x7e00);
    if (size >= 0x477ff000u) return (uint16_t)(sign | 0x7c00);
    if (size < 0x38800000u)
        return (uint16_t)(sign | (cpl_float_bits(cpl_float_of_bits(size) + 0.5f) - cpl_float_bits(0.5f)));
    return (uint16_t)(sign | (size - 0x38000000u + 0xfffu + (size >> 13 & 1)) >> 13);
}

#endif
