/* SPDX-License-Identifier: Apache-2.0 */
/* tile_amx.h - the few tile and half-precision vector instructions the AMX kernels are written in.
 *
 * Included by *_amx.c only. Those files are compiled twice: for the hardware, and, with CPL_AMX_MODEL naming a header,
 * for the tests, where the eight tiles are arrays and every operation below is done in software with the same roundings
 * (that header, tests/amx/tiles.h), so that their logic runs on any machine with AVX-512. Names exported by them go
 * through AMX_NAME, so that both fit into one program.
 *
 * Tile numbers are immediates. All tiles are 16 rows of 64 bytes (cpl_amx_begin). The loads and stores are our own
 * assembly: the compiler's forms say nothing about memory. They don't either, so that constants stay in registers
 * between them; AMX_FENCE stands where a store must not move across. */
#ifndef CPL_KERNEL_TILE_AMX_H
#define CPL_KERNEL_TILE_AMX_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define AMX_FENCE() __asm__ volatile("" ::: "memory")

#if defined(CPL_AMX_MODEL)

/* Software has no immediates, and all of it in line takes a compiler with sanitizers minutes and 3 GB. */
#define AMX_INLINE static inline __attribute__((unused))
#include CPL_AMX_MODEL

#else

#define AMX_INLINE     static inline __attribute__((always_inline, unused))
#define AMX_NAME(name) name

#define T_ZERO(t) __asm__ volatile("tilezero %%tmm" #t ::)
#define T_LOAD(t, p, stride)                                                                                           \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t ::"r"((const void *)(p)), "r"((size_t)(stride)))
/* Of what is read once in a long while: it doesn't push the rest out of L1. */
#define T_LOAD_ONCE(t, p, stride)                                                                                      \
    __asm__ volatile("tileloaddt1 (%0,%1,1), %%tmm" #t ::"r"((const void *)(p)), "r"((size_t)(stride)))
#define T_STORE(t, p, stride)                                                                                          \
    __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" ::"r"((void *)(p)), "r"((size_t)(stride)))
#define T_I8(c, a, b)   __asm__ volatile("tdpbssd %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)
#define T_U8(c, a, b)   __asm__ volatile("tdpbusd %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)
#define T_BF16(c, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)
#define T_CONFIG(p)     __asm__ volatile("ldtilecfg (%0)" ::"r"(p) : "memory")
#define T_RELEASE()     __asm__ volatile("tilerelease" ::)

/* 32 halves. */
typedef __m512h amx_h;
AMX_INLINE amx_h h_zero(void) { return _mm512_setzero_ph(); }
AMX_INLINE amx_h h_set(uint16_t bits) { return _mm512_castsi512_ph(_mm512_set1_epi16((short)bits)); }
AMX_INLINE amx_h h_bits(__m512i bits) { return _mm512_castsi512_ph(bits); }
AMX_INLINE __m512i h_as_bits(amx_h x) { return _mm512_castph_si512(x); }
AMX_INLINE amx_h h_load(const void *p) { return _mm512_castsi512_ph(_mm512_loadu_si512(p)); }
AMX_INLINE void h_store(void *p, amx_h x) { _mm512_storeu_si512(p, _mm512_castph_si512(x)); }
AMX_INLINE amx_h h_words(__m512i x) { return _mm512_cvtepi16_ph(x); }
AMX_INLINE __m512i h_to_i16(amx_h x) { return _mm512_cvtph_epi16(x); }
AMX_INLINE amx_h h_add(amx_h a, amx_h b) { return _mm512_add_ph(a, b); }
AMX_INLINE amx_h h_mul(amx_h a, amx_h b) { return _mm512_mul_ph(a, b); }
AMX_INLINE amx_h h_fma(amx_h a, amx_h b, amx_h c) { return _mm512_fmadd_ph(a, b, c); }

#endif

#endif
