/* SPDX-License-Identifier: Apache-2.0 */
/* dot_bf16.c - rows rounded to bf16 and the register tile for AVX-512 with BF16: up to 12 rows x 32 columns, two k a
 * step.
 *
 * i8_vnni.c's tile with vdpbf16ps: a broadcast pair of one row's values times the pairs of 16 columns, 32 multiply-adds
 * an instruction, twice fp32's. Residual stream, layer norm and softmax stay fp32; only a product's factors are
 * rounded. One body for 1 to 12 rows. */
#include <string.h>

#include "kernel/avx512.h"
#include "kernel/dpbf16.h"
#include "kernel/epilogue_avx512.h"
#include "kernel/unroll.h"

enum { NR = 32, MR = 12, GROUP = 2 };

static void round_rows(void *q, size_t ldq, const float *x, size_t rows, size_t n, size_t ld)
{
    const size_t padded = (n + GROUP - 1) / GROUP * GROUP;
    for (size_t r = 0; r < rows; r++, x += ld) {
        uint16_t *out = (uint16_t *)(void *)((char *)q + r * ldq);
        size_t i = 0;
        for (; i + 32 <= n; i += 32) {
            const __m512 lo = _mm512_loadu_ps(x + i), hi = _mm512_loadu_ps(x + i + 16);
            _mm512_storeu_si512(out + i, (__m512i)_mm512_cvtne2ps_pbh(hi, lo));
        }
        for (; i < n; i += 16) { /* lanes beyond n are 0 */
            const __mmask16 m = n - i >= 16 ? 0xffff : cpl_mask16(n - i);
            const __mmask16 store = padded - i >= 16 ? 0xffff : cpl_mask16(padded - i);
            const __m256i h = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(m, x + i));
            _mm256_mask_storeu_epi16(out + i, store, h);
        }
    }
}

CPL_INLINE void tile_rows(const cpl_tile_h16 *t, const uint32_t rows)
{
    __m512 acc[MR][2];
    const char *a[MR];
    CPL_UNROLL for (uint32_t i = 0; i < rows; i++)
    {
        acc[i][0] = acc[i][1] = _mm512_setzero_ps();
        a[i] = (const char *)t->a + i * t->lda;
    }
    const uint16_t *b = t->b;
    const char *hint = t->prefetch;
    const uint32_t end = t->groups * 4; /* bytes of a row */
    for (uint32_t p = 0; p < end; p += 4, b += NR * GROUP) {
        if (!(p & 15)) {
            _mm_prefetch(hint, _MM_HINT_T1);
            hint += 64;
        }
        const __m512i b0 = _mm512_loadu_si512(b), b1 = _mm512_loadu_si512(b + 32);
        CPL_UNROLL for (uint32_t i = 0; i < rows; i++)
        {
            int32_t two;
            memcpy(&two, a[i] + p, sizeof two);
            const __m512i x = _mm512_set1_epi32(two);
            cpl_dpbf16(&acc[i][0], x, b0);
            cpl_dpbf16(&acc[i][1], x, b1);
        }
    }
    const cpl_store_avx512 s = {t->c, t->ldc, t->bias, t->residual, t->ldr, t->epilogue};
    CPL_UNROLL for (uint32_t i = 0; i < rows; i++) cpl_store_row_avx512(&s, i, acc[i][0], acc[i][1]);
    cpl_activate_avx512(t->c, t->ldc, rows, t->epilogue);
}

#define TILE(rows)                                                                                                     \
    static void tile_##rows(const cpl_tile_h16 *t) { tile_rows(t, rows); }
TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)
TILE(7)
TILE(8)
TILE(9)
TILE(10)
TILE(11)
TILE(12)
#undef TILE

static void tile(const cpl_tile_h16 *t)
{
    static void (*const by_rows[MR + 1])(const cpl_tile_h16 *) = {
        NULL, tile_1, tile_2, tile_3, tile_4, tile_5, tile_6, tile_7, tile_8, tile_9, tile_10, tile_11, tile_12,
    };
    by_rows[t->m](t);
}

void cpl_kernels_bf16(cpl_kernels *k)
{
    k->h16[CPL_H16_BF16] = (cpl_h16){"avx512-vdpbf16ps", MR, NR, GROUP, tile, round_rows};
    cpl_attention_install_bf16(k);
}
