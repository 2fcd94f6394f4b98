/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_amx.c - matrix products on tiles with the work on their results in between.
 *
 * The idea: the tile unit must never wait. A block of 32 rows x 32 columns has four tiles of sums, two of A, two of B:
 * four loads for four products. When a block is done its sums stay in their tiles: each is stored just before the next
 * block's first product needs the tile, some products after its own last one, so that no store waits for a sum. What is
 * to become of the sums (scale, bias, activation, residual) is done a few rows at a time between the next block's
 * products, so that vector and tile unit work side by side. Long K goes in parts (split), so that the rows of A that
 * all panels share stay in L1; sums in between rest in `partial`.
 *
 * An element is one chain of operations that depends on nothing but its row of A and its column of B: no part of K is
 * summed elsewhere, whatever the block, loop order or team.
 *
 * Rejected: storing the sums at the end of their block (0.86 of the tile peak against 1.00), two scratch blocks in turn
 * (L1 is too small), the epilogue after the block (0.42 against 0.63 for the activation), blocks of 48 x 32 through one
 * tile for A and one for B (as fast as this in L1, 9 to 17 % slower as soon as A or B comes from L2). */
#include "kernel/amx.h"
#include "kernel/math_avx512.h"
#include "kernel/tile_amx.h"
#include "kernel/unroll.h"

CPL_AMX_DECLARE(AMX_NAME);

/* ---- tiles ------------------------------------------------------------------------------------------------------ */

/* Sums of column tile c and row tile r are in tile 2 c + r; A's row tiles are in 4 and 5, B's column tiles in 6 and 7.
 */
#define PRODUCT(t, ta, tb)                                                                                             \
    do {                                                                                                               \
        if (kind == CPL_AMX_INT8) T_I8(t, ta, tb);                                                                     \
        if (kind == CPL_AMX_UINT8) T_U8(t, ta, tb);                                                                    \
        if (kind == CPL_AMX_BF16) T_BF16(t, ta, tb);                                                                   \
    } while (0)

AMX_INLINE void load_operands(const uint32_t tiles, const char *a, size_t a_tile, const char *b)
{
    T_LOAD(4, a, 64);
    T_LOAD(6, b, 64);
    if (tiles > 1) T_LOAD(5, a + a_tile, 64);
    T_LOAD(7, b + 1024, 64);
}

AMX_INLINE void step(const cpl_amx_kind kind, const uint32_t tiles, const char *a, size_t a_tile, const char *b)
{
    load_operands(tiles, a, a_tile, b);
    PRODUCT(0, 4, 6);
    if (tiles > 1) PRODUCT(1, 5, 6);
    PRODUCT(2, 4, 7);
    if (tiles > 1) PRODUCT(3, 5, 7);
}

/* The tile of the block before goes out, its sum of the new block starts. */
#define RENEW(t, at)                                                                                                   \
    do {                                                                                                               \
        if (store) T_STORE(t, store + (at)*1024, 64);                                                                  \
        if (init)                                                                                                      \
            T_LOAD(t, init + (at)*1024, 64);                                                                           \
        else                                                                                                           \
            T_ZERO(t);                                                                                                 \
    } while (0)

AMX_INLINE void first_step(const cpl_amx_kind kind, const uint32_t tiles, const char *a, size_t a_tile, const char *b,
                           char *store, const char *init)
{
    load_operands(tiles, a, a_tile, b);
    RENEW(0, 0);
    PRODUCT(0, 4, 6);
    if (tiles > 1) {
        RENEW(1, 1);
        PRODUCT(1, 5, 6);
    }
    RENEW(2, tiles);
    PRODUCT(2, 4, 7);
    if (tiles > 1) {
        RENEW(3, 3);
        PRODUCT(3, 5, 7);
    }
    AMX_FENCE();
}

AMX_INLINE void last_store(const uint32_t tiles, char *store)
{
    T_STORE(0, store, 64);
    if (tiles > 1) T_STORE(1, store + 1024, 64);
    T_STORE(2, store + tiles * 1024, 64);
    if (tiles > 1) T_STORE(3, store + 3072, 64);
    AMX_FENCE();
}

/* ---- what becomes of the sums ----------------------------------------------------------------------------------- */

/* A finished block in the scratch: rows of 16 sums of the first column tile, then those of the second. */
typedef struct done {
    uint32_t row, panel; /* its first row in all of A, its panel */
    uint32_t next, rows; /* rows dealt with, rows */
} done;

typedef struct pair {
    __m512 lo, hi;
} pair;

/* y of 32 columns in fp32. */
AMX_INLINE pair finished(const cpl_amx_kind kind, const char *at, uint32_t tiles, __m512 row_scale, pair scale,
                         pair bias)
{
    const char *const other = at + (size_t)tiles * 1024;
    if (kind == CPL_AMX_BF16)
        return (pair){_mm512_add_ps(_mm512_load_ps(at), bias.lo), _mm512_add_ps(_mm512_load_ps(other), bias.hi)};
    const __m512 lo = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(at)), row_scale);
    const __m512 hi = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(other)), row_scale);
    return (pair){_mm512_fmadd_ps(lo, scale.lo, bias.lo), _mm512_fmadd_ps(hi, scale.hi, bias.hi)};
}

AMX_INLINE pair load_pair(const float *p) { return (pair){_mm512_loadu_ps(p), _mm512_loadu_ps(p + 16)}; }

AMX_INLINE __m512i to_bf16(pair y) { return (__m512i)_mm512_cvtne2ps_pbh(y.hi, y.lo); }

AMX_INLINE __m512 activate_f32(const cpl_epilogue e, __m512 x)
{
    return e == CPL_EPILOGUE_GELU        ? cpl_gelu_avx512(x)
           : e == CPL_EPILOGUE_GELU_TANH ? cpl_gelu_tanh_avx512(x)
                                         : cpl_relu_avx512(x);
}

/* Everything but the activation in half precision. */
AMX_INLINE void rows_f32(const cpl_amx_gemm *g, const cpl_amx_kind kind, const cpl_amx_out what, const cpl_epilogue e,
                         const uint32_t tiles, const done *d, uint32_t end)
{
    const pair bias = load_pair(g->bias + d->panel * CPL_AMX_PANEL);
    const pair scale = kind == CPL_AMX_BF16 ? bias : load_pair(g->scale + d->panel * CPL_AMX_PANEL);
    const char *const scratch = g->scratch;
    const float *const row_scale = kind == CPL_AMX_BF16 ? NULL : g->row_scale + d->row;
    const size_t row_bytes = g->out_row;
    char *const out = (char *)g->out + (what == CPL_AMX_ROWS ? d->panel * g->out_panel + d->row * (size_t)64
                                        : what == CPL_AMX_ADD
                                            ? d->row * row_bytes + d->panel * (size_t)(CPL_AMX_PANEL * sizeof(float))
                                            : d->row / 16 * row_bytes + d->panel * (size_t)1024);
    for (uint32_t i = d->next; i < end; i++) {
        const __m512 by = kind == CPL_AMX_BF16 ? bias.lo : _mm512_set1_ps(row_scale[i]);
        pair y = finished(kind, scratch + i * (size_t)64, tiles, by, scale, bias);
        if (what == CPL_AMX_ADD) {
            float *const to = (float *)(void *)(out + i * row_bytes);
            _mm512_storeu_ps(to, _mm512_add_ps(y.lo, _mm512_loadu_ps(to)));
            _mm512_storeu_ps(to + 16, _mm512_add_ps(y.hi, _mm512_loadu_ps(to + 16)));
        } else if (what == CPL_AMX_ROWS) {
            _mm512_storeu_si512(out + i * (size_t)64, to_bf16(y));
        } else {
            y = (pair){activate_f32(e, y.lo), activate_f32(e, y.hi)};
            _mm512_storeu_si512(out + i / 16 * row_bytes + i % 16 * (size_t)64, to_bf16(y));
        }
    }
}

/* int8 sums to activated halves: the 16 bits of each that matter, even columns from the first tile and odd ones from
 * the second in one vector. The shift rounds down, so half a unit is added with the row's scale. */
AMX_INLINE void rows_half(const cpl_amx_gemm *g, const cpl_epilogue e, const uint32_t tiles, const done *d,
                          uint32_t end)
{
    const cpl_amx_activation *const f = g->activation;
    const __m512i down = _mm512_set1_epi32((int)f->shift), up = _mm512_set1_epi32(16 - (int)f->shift);
    const amx_h half = h_set(0x3800);
    const amx_h limit = h_set(f->limit), lower = h_set(f->limit | 0x8000);
    const amx_h f0 = h_set(f->factor[0]), f1 = h_set(f->factor[1]), f2 = h_set(f->factor[2]), f3 = h_set(f->factor[3]);
    const amx_h scale = h_load(g->scale16 + d->panel * CPL_AMX_PANEL),
                bias = h_load(g->bias16 + d->panel * CPL_AMX_PANEL);
    const uint16_t *const row_scale = g->row_scale16 + d->row;
    const char *const scratch = g->scratch;
    char *const most = (char *)g->most + d->row * (size_t)64;
    const size_t row_bytes = g->out_row;
    char *const out = (char *)g->out + d->row * row_bytes + d->panel * (size_t)64;
    for (uint32_t i = d->next; i < end; i++) {
        const char *const at = scratch + i * (size_t)64;
        const __m512i lo = _mm512_srlv_epi32(_mm512_load_si512(at), down);
        const __m512i hi = _mm512_sllv_epi32(_mm512_load_si512(at + (size_t)tiles * 1024), up);
        const amx_h by = h_set(row_scale[i]);
        amx_h x = h_words(_mm512_mask_blend_epi16(0xaaaaaaaa, lo, hi));
        x = h_fma(h_fma(x, by, h_mul(by, half)), scale, bias);
        amx_h y;
        if (e == CPL_EPILOGUE_RELU) {
            y = h_max(x, h_zero());
        } else {
            const amx_h c = h_min(h_max(x, lower), limit), u = h_mul(c, c);
            y = h_mul(x, h_fma(c, h_fma(h_fma(h_fma(f3, u, f2), u, f1), u, f0), half));
        }
        h_store(most + i * (size_t)64, h_max(h_load(most + i * (size_t)64), y));
        h_store(out + i * row_bytes, y);
    }
}

AMX_INLINE void some_rows(const cpl_amx_gemm *g, const cpl_amx_kind kind, const cpl_amx_out what, const cpl_epilogue e,
                          const uint32_t tiles, done *d, uint32_t count)
{
    if (d->next >= d->rows) return;
    const uint32_t end = d->rows - d->next > count ? d->next + count : d->rows;
    if (what == CPL_AMX_ACTIVATE && kind != CPL_AMX_BF16)
        rows_half(g, e, tiles, d, end);
    else
        rows_f32(g, kind, what, e, tiles, d, end);
    d->next = end;
}

/* ---- the loops -------------------------------------------------------------------------------------------------- */

AMX_INLINE void multiply(const cpl_amx_gemm *g, const cpl_amx_kind kind, const cpl_amx_out what, const cpl_epilogue e,
                         const uint32_t tiles)
{
    const uint32_t panels = g->panel_end - g->panel_begin, steps = g->steps, split = g->split;
    const uint32_t outer = g->panels_outside ? panels : g->blocks, inner = g->panels_outside ? g->blocks : panels;
    const size_t a_tile = (size_t)steps * 1024;
    done d = {0};
    char *store = NULL;
    for (uint32_t o = 0; o < outer; o++) {
        for (uint32_t from = 0; from < steps; from += split) {
            const uint32_t count = steps - from < split ? steps - from : split;
            const uint32_t some = count > 1 ? (16 * tiles + count - 2) / (count - 1) : 16 * tiles;
            for (uint32_t i = 0; i < inner; i++) {
                const uint32_t block = g->panels_outside ? i : o;
                const uint32_t panel = g->panel_begin + (g->panels_outside ? o : i);
                const char *a = (const char *)g->a + block * tiles * a_tile + from * (size_t)1024;
                const char *b = (const char *)g->b + ((size_t)panel * steps + from) * 2048;
                char *const partial = (char *)g->partial + (size_t)i * tiles * 2048;
                first_step(kind, tiles, a, a_tile, b, store, from ? partial : NULL);
                for (uint32_t s = 1; s < count; s++) {
                    a += 1024;
                    b += 2048;
                    step(kind, tiles, a, a_tile, b);
                    some_rows(g, kind, what, e, tiles, &d, some);
                }
                some_rows(g, kind, what, e, tiles, &d, 16 * tiles);
                const int last = from + count == steps;
                store = last ? g->scratch : partial;
                if (last) d = (done){block * tiles * 16, panel, 0, 16 * tiles};
            }
        }
    }
    last_store(tiles, store);
    some_rows(g, kind, what, e, tiles, &d, 16 * tiles);
}

#define BY_TILES(name, kind, what, e)                                                                                  \
    static void name##_1(const cpl_amx_gemm *g) { multiply(g, kind, what, e, 1); }                                     \
    static void name##_2(const cpl_amx_gemm *g) { multiply(g, kind, what, e, 2); }
BY_TILES(i8_rows, CPL_AMX_INT8, CPL_AMX_ROWS, CPL_EPILOGUE_BIAS)
BY_TILES(i8_gelu, CPL_AMX_INT8, CPL_AMX_ACTIVATE, CPL_EPILOGUE_GELU)
BY_TILES(i8_relu, CPL_AMX_INT8, CPL_AMX_ACTIVATE, CPL_EPILOGUE_RELU)
BY_TILES(i8_add, CPL_AMX_INT8, CPL_AMX_ADD, CPL_EPILOGUE_BIAS)
BY_TILES(u8_add, CPL_AMX_UINT8, CPL_AMX_ADD, CPL_EPILOGUE_BIAS)
BY_TILES(bf16_rows, CPL_AMX_BF16, CPL_AMX_ROWS, CPL_EPILOGUE_BIAS)
BY_TILES(bf16_gelu, CPL_AMX_BF16, CPL_AMX_ACTIVATE, CPL_EPILOGUE_GELU)
BY_TILES(bf16_tanh, CPL_AMX_BF16, CPL_AMX_ACTIVATE, CPL_EPILOGUE_GELU_TANH)
BY_TILES(bf16_relu, CPL_AMX_BF16, CPL_AMX_ACTIVATE, CPL_EPILOGUE_RELU)
BY_TILES(bf16_add, CPL_AMX_BF16, CPL_AMX_ADD, CPL_EPILOGUE_BIAS)
#undef BY_TILES

void AMX_NAME(cpl_amx_gemm_run)(const cpl_amx_gemm *g)
{
    typedef void (*run)(const cpl_amx_gemm *);
    static const run rows[2][2] = {{i8_rows_1, i8_rows_2}, {bf16_rows_1, bf16_rows_2}};
    static const run add[3][2] = {{i8_add_1, i8_add_2}, {u8_add_1, u8_add_2}, {bf16_add_1, bf16_add_2}};
    static const run half[2][2] = {{i8_gelu_1, i8_gelu_2}, {i8_relu_1, i8_relu_2}};
    static const run full[3][2] = {{bf16_gelu_1, bf16_gelu_2}, {bf16_tanh_1, bf16_tanh_2}, {bf16_relu_1, bf16_relu_2}};
    if (!g->blocks || g->panel_begin >= g->panel_end) return;
    const uint32_t t = g->tiles - 1;
    if (g->what == CPL_AMX_ROWS) {
        rows[g->kind == CPL_AMX_BF16][t](g);
    } else if (g->what == CPL_AMX_ADD) {
        add[g->kind][t](g);
    } else {
        const cpl_epilogue e = g->activation->kind;
        if (g->kind != CPL_AMX_BF16)
            half[e == CPL_EPILOGUE_RELU][t](g);
        else
            full[e == CPL_EPILOGUE_RELU ? 2 : e == CPL_EPILOGUE_GELU_TANH][t](g);
    }
}
