/* SPDX-License-Identifier: Apache-2.0 */
/* unroll.h - CPL_UNROLL before a loop of constant length (at most 32) unrolls it whole, so that arrays of vectors live
 * in registers. Each compiler knows only its own spelling, and ignores the other's without a word (which cost clang
 * two thirds of the GEMM's speed before this header existed). */
#ifndef CPL_KERNEL_UNROLL_H
#define CPL_KERNEL_UNROLL_H

#if defined(__clang__)
#define CPL_UNROLL _Pragma("clang loop unroll(full)")
#else
#define CPL_UNROLL _Pragma("GCC unroll 32")
#endif

#endif
