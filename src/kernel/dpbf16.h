/* SPDX-License-Identifier: Apache-2.0 */
/* dpbf16.h - one instruction: sum += two bf16 of a times two of b, in each float.
 *
 * Assembly for the reason vnni.h gives. Included by *_bf16.c only. */
#ifndef CPL_KERNEL_DPBF16_H
#define CPL_KERNEL_DPBF16_H

#include <immintrin.h>

static inline __attribute__((always_inline)) void cpl_dpbf16(__m512 *sum, __m512i a, __m512i b)
{
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(*sum) : "v"(a), "v"(b));
}

#endif
