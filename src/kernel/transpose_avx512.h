/* SPDX-License-Identifier: Apache-2.0 */
/* transpose_avx512.h - 16 x 16 floats, or any 32 bits, turned in registers. Included by files of this ISA only
 * (math_avx512.h says why). */
#ifndef CPL_KERNEL_TRANSPOSE_AVX512_H
#define CPL_KERNEL_TRANSPOSE_AVX512_H

#include "kernel/math_avx512.h"
#include "kernel/unroll.h"

/* Pairs, then fours within 128-bit lanes, then the lanes. */
CPL_INLINE void cpl_transpose16(__m512 *r)
{
    __m512 t[16];
    CPL_UNROLL for (int i = 0; i < 16; i += 2)
    {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
#define PD(op, a, b) _mm512_castpd_ps(op(_mm512_castps_pd(a), _mm512_castps_pd(b)))
    CPL_UNROLL for (int i = 0; i < 16; i += 4)
    {
        r[i] = PD(_mm512_unpacklo_pd, t[i], t[i + 2]);
        r[i + 1] = PD(_mm512_unpackhi_pd, t[i], t[i + 2]);
        r[i + 2] = PD(_mm512_unpacklo_pd, t[i + 1], t[i + 3]);
        r[i + 3] = PD(_mm512_unpackhi_pd, t[i + 1], t[i + 3]);
    }
#undef PD
    CPL_UNROLL for (int i = 0; i < 4; i++)
    {
        t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
    }
    CPL_UNROLL for (int i = 0; i < 4; i++)
    {
        r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
        r[i + 4] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 12] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

#endif
