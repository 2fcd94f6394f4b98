/* SPDX-License-Identifier: Apache-2.0 */
/* vnni.h - one instruction: sum += four unsigned bytes of a times four signed ones of b, in each int32.
 *
 * Assembly because gcc 12 makes of 24 accumulators through the intrinsic a loop of copies and spills at less than half
 * the speed. Included by *_vnni.c only. */
#ifndef CPL_KERNEL_VNNI_H
#define CPL_KERNEL_VNNI_H

#include <immintrin.h>

static inline __attribute__((always_inline)) void cpl_dpbusd(__m512i *sum, __m512i a, __m512i b)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(a), "v"(b));
}

#endif
