/* SPDX-License-Identifier: Apache-2.0 */
/* vnni256.h - vpdpbusd on 256 bits in AVX-VNNI's own encoding (vnni.h). Included by *_avxvnni.c only. */
#ifndef CPL_KERNEL_VNNI256_H
#define CPL_KERNEL_VNNI256_H

#include <immintrin.h>

static inline __attribute__((always_inline)) void cpl_dpbusd256(__m256i *sum, __m256i a, __m256i b)
{
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(*sum) : "x"(a), "x"(b));
}

#endif
