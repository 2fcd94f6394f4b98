/* SPDX-License-Identifier: Apache-2.0 */
/* tiles.c - the tile operations of tiles.h. An operation without a configuration aborts, as the hardware would fault.
 */
#include <stddef.h>
#include <stdlib.h>

#define AMX_INLINE static inline __attribute__((always_inline, unused))
#include "amx/tiles.h"

_Thread_local amx_tile amx_tiles[8];
_Thread_local int amx_configured;

static amx_tile *tile(int t)
{
    if (!amx_configured) abort();
    return &amx_tiles[t];
}

/* All of the kernels' tiles are whole. */
void amx_model_config(const void *p)
{
    const uint8_t *config = p;
    if (config[0] != 1) abort();
    for (int t = 0; t < 8; t++)
        if (config[16 + 2 * t] != 64 || config[17 + 2 * t] || config[48 + t] != 16) abort();
    amx_configured = 1;
}

void amx_model_zero(int t) { memset(tile(t), 0, sizeof(amx_tile)); }

void amx_model_load(int t, const void *p, size_t stride)
{
    for (size_t r = 0; r < 16; r++) memcpy(tile(t)->bytes + 64 * r, (const char *)p + r * stride, 64);
}

void amx_model_store(int t, void *p, size_t stride)
{
    for (size_t r = 0; r < 16; r++) memcpy((char *)p + r * stride, tile(t)->bytes + 64 * r, 64);
}

void amx_model_i8(int c, int a, int b, int is_unsigned)
{
    amx_tile *const to = tile(c);
    const amx_tile *const x = tile(a), *const y = tile(b);
    for (int m = 0; m < 16; m++)
        for (int k = 0; k < 16; k++)
            for (int i = 0; i < 4; i++) {
                const int32_t f = is_unsigned ? x->u8[m][4 * k + i] : x->s8[m][4 * k + i];
                for (int n = 0; n < 16; n++) to->i32[m][n] += f * y->s8[k][4 * n + i];
            }
}

/* Wider than bf16 by 16 zero bits; denormals are zero. */
static __m512 widen(__m512i bits)
{
    const __m512i exponent = _mm512_and_si512(bits, _mm512_set1_epi32(0x7f800000));
    const __mmask16 zero = _mm512_testn_epi32_mask(exponent, exponent);
    return _mm512_castsi512_ps(_mm512_mask_and_epi32(bits, zero, bits, _mm512_set1_epi32((int)0x80000000u)));
}

static __m512 flush(__m512 x) { return widen(_mm512_castps_si512(x)); }

void amx_model_bf16(int c, int a, int b)
{
    amx_tile *const to = tile(c);
    const amx_tile *const x = tile(a), *const y = tile(b);
    for (int m = 0; m < 16; m++) {
        __m512 even = _mm512_setzero_ps(), odd = even;
        for (int k = 0; k < 16; k++) {
            const __m512i pairs = _mm512_loadu_si512(y->bf16[k]);
            const __m512 b0 = widen(_mm512_slli_epi32(pairs, 16));
            const __m512 b1 = widen(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xffff0000u)));
            const __m512 a0 = widen(_mm512_set1_epi32((int)((uint32_t)x->bf16[m][2 * k] << 16)));
            const __m512 a1 = widen(_mm512_set1_epi32((int)((uint32_t)x->bf16[m][2 * k + 1] << 16)));
            even = flush(_mm512_fmadd_ps(a0, b0, even));
            odd = flush(_mm512_fmadd_ps(a1, b1, odd));
        }
        const __m512 sum = flush(_mm512_add_ps(_mm512_loadu_ps(to->f32[m]), flush(_mm512_add_ps(even, odd))));
        _mm512_storeu_ps(to->f32[m], sum);
    }
}
