/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_amx.c - matrix products on tiles with the work on their results in between.
 *
 * The idea: the tile unit must never wait. A block of 32 rows x 32 columns has four tiles of sums, two of A, two of B:
 * four loads for four products. When a block is done its sums stay in their tiles: each is stored just before the next
 * block's first product needs the tile, some products after its own last one, so that no store waits for a sum. What is
 * to become of the sums (scale, bias, activation, residual) is done a few rows at a time between the next block's
 * products, so that vector and tile unit work side by side; for the usual numbers of k steps by a plan made when this
 * is compiled, since working it out takes as many instructions as the rows do. Long K goes in parts (split), so that
 * the rows of A that all panels share stay in L1; sums in between rest in `partial`. Weights are loaded with the hint
 * that they are read once: they stream by from L2 and leave L1 to A, the sums and what comes of them.
 *
 * An element is one chain of operations that depends on nothing but its row of A and its column of B: no part of K is
 * summed elsewhere, whatever the block, loop order or team.
 *
 * Rejected: storing the sums at the end of their block (0.86 of the tile peak against 1.00), two scratch blocks in turn
 * (L1 is too small), the epilogue after the block (0.42 against 0.63 for the activation), blocks of 48 x 32 through one
 * tile for A and one for B (as fast as this in L1, 9 to 17 % slower as soon as A or B comes from L2), two blocks in
 * turn at each panel (halves what comes from L2, but A, sums and output rows of 64 rows are more than L1 holds: a
 * quarter slower), prefetching B into L1 (the load ports are the tile loads') or the next block's A in the last panels
 * (nothing in int8, slower in bf16). */
#include "kernel/amx.h"
#include "kernel/math_avx512.h"
#include "kernel/tile_amx.h"

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
    T_LOAD(4, a, 64);
    T_LOAD_ONCE(6, b, 64);
    if (tiles > 1) T_LOAD(5, a + a_tile, 64);
    T_LOAD_ONCE(7, b + 1024, 64);
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

/* Rows dealt with after each product: those of a block are done after two thirds of the next one's at K of 384 bytes.
 */
enum { PAIR = 2 };

/* ---- what becomes of the sums ----------------------------------------------------------------------------------- */

/* A finished block in the scratch: rows of 16 sums of the first column tile, then those of the second. */
typedef struct done {
    uint32_t row, panel; /* its first row in all of A, its panel */
    uint32_t next, rows; /* rows dealt with, rows */
} done;

/* What stays the same for all of a product's rows, in registers if there are enough. */
typedef struct constants {
    __m512i pick;             /* 16 bits of each sum: where their bytes begin */
    __m512i limit, magnitude; /* of the activation, all bits but the sign */
    amx_h factor[4];
    amx_h scale, bias; /* of the panel whose rows are dealt with */
} constants;

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

/* Rows to be written soon, those of the next panel, are brought into L1: a store that misses holds up those behind it.
 */
#define WANT(p) __builtin_prefetch(p, 1, 3)

/* Where row i of what d has become goes: row tiles of 1 KiB for each panel. */
AMX_INLINE char *half_row(const cpl_amx_gemm *g, const done *d, uint32_t i)
{
    const uint32_t row = d->row + i;
    return (char *)g->out + row / 16 * g->out_row + d->panel * (size_t)1024 + row % 16 * (size_t)64;
}

AMX_INLINE void add_halves(char *to, pair y)
{
    __m256i *const lo = (__m256i *)(void *)to, *const hi = lo + 1;
    _mm256_store_si256(lo, _mm512_cvtps_ph(_mm512_add_ps(y.lo, _mm512_cvtph_ps(_mm256_load_si256(lo))), 8));
    _mm256_store_si256(hi, _mm512_cvtps_ph(_mm512_add_ps(y.hi, _mm512_cvtph_ps(_mm256_load_si256(hi))), 8));
}

/* bf16, and Q, K, V in int8: in fp32. */
AMX_INLINE void line_f32(const cpl_amx_kind kind, const cpl_amx_out what, const cpl_epilogue e, const uint32_t tiles,
                         pair scale, pair bias, const char *at, const float *row_scale, char *to)
{
    const pair y = finished(kind, at, tiles, kind == CPL_AMX_BF16 ? bias.lo : _mm512_set1_ps(*row_scale), scale, bias);
    if (what == CPL_AMX_ADD)
        add_halves(to, y);
    else if (what == CPL_AMX_ROWS)
        _mm512_storeu_si512(to, to_bf16(y));
    else
        _mm512_store_si512(to, to_bf16((pair){activate_f32(e, y.lo), activate_f32(e, y.hi)}));
}

AMX_INLINE void rows_f32(const cpl_amx_gemm *g, const cpl_amx_kind kind, const cpl_amx_out what, const cpl_epilogue e,
                         const uint32_t tiles, const done *d, uint32_t end)
{
    const pair bias = load_pair(g->bias + d->panel * CPL_AMX_PANEL);
    const pair scale = kind == CPL_AMX_BF16 ? bias : load_pair(g->scale + d->panel * CPL_AMX_PANEL);
    const char *const scratch = g->scratch;
    const float *const row_scale = kind == CPL_AMX_BF16 ? NULL : g->row_scale + d->row;
    char *const rows = (char *)g->out + d->panel * g->out_panel + d->row * (size_t)64;
    for (uint32_t i = d->next; i < end; i++) {
        char *const to = what == CPL_AMX_ROWS ? rows + i * (size_t)64 : half_row(g, d, i);
        if (what == CPL_AMX_ROWS) WANT(to + g->out_panel);
        line_f32(kind, what, e, tiles, scale, bias, scratch + i * (size_t)64, row_scale ? row_scale + i : NULL, to);
    }
}

AMX_INLINE amx_h activated(const cpl_epilogue e, const constants *c, amx_h x)
{
    if (e == CPL_EPILOGUE_RELU) return h_bits(_mm512_max_epi16(h_as_bits(x), _mm512_setzero_si512()));
    const __m512i magnitude = _mm512_and_si512(h_as_bits(x), c->magnitude);
    const amx_h u = h_bits(_mm512_min_epu16(magnitude, c->limit));
    const amx_h q = h_fma(h_fma(h_fma(c->factor[3], u, c->factor[2]), u, c->factor[1]), u, c->factor[0]);
    return h_fma(h_bits(magnitude), q, x);
}

/* int8 sums to halves: the 16 bits of each that matter, even columns from the first tile and odd ones from the second
 * in one vector. Cutting bits off rounds down, so half a unit is added with the row's scale.
 *
 * Beside the tiles only one of the two vector units multiplies; the other one picks bits, compares and masks, so the
 * activation's clamp is done on the halves' bits. And tile loads leave little of the load ports: what a row needs
 * beside its sums is one word. */
AMX_INLINE void half_line(const cpl_amx_out what, const cpl_epilogue e, const uint32_t tiles, const constants *c,
                          const char *at, uint32_t row_scale, char *to)
{
    const __m512i even = _mm512_multishift_epi64_epi8(c->pick, _mm512_load_si512(at));
    const __m512i sums = _mm512_mask_multishift_epi64_epi8(even, 0xccccccccccccccccu, c->pick,
                                                           _mm512_load_si512(at + (size_t)tiles * 1024));
    const amx_h by = h_bits(_mm512_set1_epi32((int)row_scale));
    const amx_h x = h_fma(h_fma(h_words(sums), by, h_mul(by, h_set(0x3800))), c->scale, c->bias);
    if (what == CPL_AMX_ADD)
        h_store(to, h_add(h_load(to), x));
    else
        h_store(to, activated(e, c, x));
}

AMX_INLINE void rows_half(const cpl_amx_gemm *g, const cpl_amx_out what, const cpl_epilogue e, const uint32_t tiles,
                          const constants *c, const done *d, uint32_t end)
{
    const uint32_t *const row_scale = g->row_scale16 + d->row;
    for (uint32_t i = d->next; i < end; i++) {
        char *const to = half_row(g, d, i);
        WANT(to + 1024);
        half_line(what, e, tiles, c, g->scratch + i * (size_t)64, row_scale[i], to);
    }
}

AMX_INLINE void some_rows(const cpl_amx_gemm *g, const cpl_amx_kind kind, const cpl_amx_out what, const cpl_epilogue e,
                          const uint32_t tiles, const constants *c, done *d, uint32_t count)
{
    if (d->next >= d->rows) return;
    const uint32_t end = d->rows - d->next > count ? d->next + count : d->rows;
    if (what != CPL_AMX_ROWS && kind != CPL_AMX_BF16)
        rows_half(g, what, e, tiles, c, d, end);
    else
        rows_f32(g, kind, what, e, tiles, d, end);
    d->next = end;
}

/* ---- the loops -------------------------------------------------------------------------------------------------- */

/* Lines beyond the end are fetched rather than looked for. */
AMX_INLINE void fetch(cpl_amx_ahead *f)
{
    for (uint32_t i = 0; i < f->lines; i++, f->at += 64) _mm_prefetch(f->at, _MM_HINT_T1);
}

/* Pairs of a block's rows are spread over all of the next block's products but those of its first step, which store
 * them. */
typedef struct pace {
    uint32_t due, pairs, products;
} pace;

AMX_INLINE void rows_due(const cpl_amx_gemm *g, const cpl_amx_kind kind, const cpl_amx_out what, const cpl_epilogue e,
                         const uint32_t tiles, const constants *c, done *d, pace *p)
{
    p->due += p->pairs;
    if (p->due < p->products) return;
    p->due -= p->products;
    some_rows(g, kind, what, e, tiles, c, d, PAIR);
}

AMX_INLINE void step(const cpl_amx_gemm *g, const cpl_amx_kind kind, const cpl_amx_out what, const cpl_epilogue e,
                     const uint32_t tiles, const constants *c, const char *a, size_t a_tile, const char *b, done *d,
                     pace *p)
{
    T_LOAD(4, a, 64);
    T_LOAD_ONCE(6, b, 64);
    PRODUCT(0, 4, 6);
    rows_due(g, kind, what, e, tiles, c, d, p);
    if (tiles > 1) {
        T_LOAD(5, a + a_tile, 64);
        PRODUCT(1, 5, 6);
        rows_due(g, kind, what, e, tiles, c, d, p);
    }
    T_LOAD_ONCE(7, b + 1024, 64);
    PRODUCT(2, 4, 7);
    rows_due(g, kind, what, e, tiles, c, d, p);
    if (tiles > 1) {
        PRODUCT(3, 5, 7);
        rows_due(g, kind, what, e, tiles, c, d, p);
    }
}

/* Which bits of each 32 go to 16: bytes 0, 1 (even columns) and 2, 3 (odd ones) begin at bits shift and shift + 8. */
AMX_INLINE constants constants_of(const cpl_amx_gemm *g)
{
    const uint64_t low = (g->shift | (g->shift + 8) << 8) * 0x10001u, high = low + 0x20202020u;
    constants c = {.pick = _mm512_set1_epi64((int64_t)(low | high << 32)), .magnitude = _mm512_set1_epi16(0x7fff)};
    if (g->activation) {
        c.limit = _mm512_set1_epi16((short)g->activation->limit);
        for (int i = 0; i < 4; i++) c.factor[i] = h_set(g->activation->factor[i]);
    }
    return c;
}

/* What the rows of a whole block of 32 go through while the next block is multiplied, with all addresses known but
 * where the block's begin. */
typedef struct plan {
    const char *scratch;
    const float *row_scale;
    const uint32_t *row_scale16;
    char *to[2]; /* of its row tiles */
    size_t next; /* from a row to the next panel's */
    pair scale, bias;
} plan;

AMX_INLINE plan plan_of(const cpl_amx_gemm *g, const cpl_amx_kind kind, const cpl_amx_out what, const done *d)
{
    plan p = {.scratch = g->scratch, .next = what == CPL_AMX_ROWS ? g->out_panel : 1024};
    if (what == CPL_AMX_ROWS || kind == CPL_AMX_BF16) {
        p.bias = load_pair(g->bias + d->panel * CPL_AMX_PANEL);
        p.scale = kind == CPL_AMX_BF16 ? p.bias : load_pair(g->scale + d->panel * CPL_AMX_PANEL);
        p.row_scale = kind == CPL_AMX_BF16 ? NULL : g->row_scale + d->row;
    } else {
        p.row_scale16 = g->row_scale16 + d->row;
    }
    p.to[0] = what == CPL_AMX_ROWS ? (char *)g->out + d->panel * g->out_panel + d->row * (size_t)64 : half_row(g, d, 0);
    p.to[1] = p.to[0] + (what == CPL_AMX_ROWS ? 1024 : g->out_row);
    return p;
}

AMX_INLINE void planned_row(const cpl_amx_kind kind, const cpl_amx_out what, const cpl_epilogue e, const constants *c,
                            const plan *p, const uint32_t i)
{
    char *const at = p->to[i / 16] + i % 16 * 64;
    WANT(at + p->next);
    if (what == CPL_AMX_ROWS || kind == CPL_AMX_BF16)
        line_f32(kind, what, e, 2, p->scale, p->bias, p->scratch + i * 64,
                 kind == CPL_AMX_BF16 ? NULL : p->row_scale + i, at);
    else
        half_line(what, e, 2, c, p->scratch + i * 64, p->row_scale16[i], at);
}

/* The pair of rows, if any, that is due after product `nth` of `all`. */
AMX_INLINE void planned(const cpl_amx_kind kind, const cpl_amx_out what, const cpl_epilogue e, const constants *c,
                        const plan *p, const uint32_t nth, const uint32_t all)
{
    const uint32_t from = nth * 16 / all * PAIR;
    if (from == (nth + 1) * 16 / all * PAIR) return;
    planned_row(kind, what, e, c, p, from);
    planned_row(kind, what, e, c, p, from + 1);
}

AMX_INLINE void planned_step(const cpl_amx_kind kind, const cpl_amx_out what, const cpl_epilogue e, const constants *c,
                             const plan *p, const char *a, size_t a_tile, const char *b, const uint32_t s,
                             const uint32_t count, cpl_amx_ahead *f)
{
    const uint32_t all = 4 * (count - 1);
    if (s >= count) return;
    T_LOAD(4, a + s * 1024, 64);
    T_LOAD_ONCE(6, b + s * 2048, 64);
    PRODUCT(0, 4, 6);
    planned(kind, what, e, c, p, 4 * s - 4, all);
    T_LOAD(5, a + a_tile + s * 1024, 64);
    PRODUCT(1, 5, 6);
    planned(kind, what, e, c, p, 4 * s - 3, all);
    T_LOAD_ONCE(7, b + s * 2048 + 1024, 64);
    PRODUCT(2, 4, 7);
    planned(kind, what, e, c, p, 4 * s - 2, all);
    PRODUCT(3, 5, 7);
    planned(kind, what, e, c, p, 4 * s - 1, all);
    fetch(f);
}

/* one_block for two row tiles, a known number of steps, 16 at most, and a whole block done before: no branch depends on
 * anything. Each step is written down, since a compiler may unroll a loop too late to see what is constant in it. */
AMX_INLINE void planned_block(const cpl_amx_gemm *g, const cpl_amx_kind kind, const cpl_amx_out what,
                              const cpl_epilogue e, const constants *c, const char *a, const char *b,
                              const uint32_t count, char *store, const char *partial, const done *d, cpl_amx_ahead *f)
{
    const size_t a_tile = (size_t)g->steps * 1024;
    const plan p = plan_of(g, kind, what, d);
    first_step(kind, 2, a, a_tile, b, store, partial);
    fetch(f);
#define STEP(s) planned_step(kind, what, e, c, &p, a, a_tile, b, s, count, f)
    STEP(1);
    STEP(2);
    STEP(3);
    STEP(4);
    STEP(5);
    STEP(6);
    STEP(7);
    STEP(8);
    STEP(9);
    STEP(10);
    STEP(11);
    STEP(12);
    STEP(13);
    STEP(14);
    STEP(15);
#undef STEP
}

/* k steps of MiniLM's widths: 384 columns, and 512 of the inner ones. */
#define PLANNED(kind, which) (((kind) == CPL_AMX_BF16 ? 2 : 1) * ((which) ? 8 : 6))

/* One part of K of one block and panel; `partial`: sums of the parts before, NULL for the first one. */
AMX_INLINE void one_block(const cpl_amx_gemm *g, const cpl_amx_kind kind, const cpl_amx_out what, const cpl_epilogue e,
                          const uint32_t tiles, const constants *c, const char *a, const char *b, uint32_t count,
                          char *store, const char *partial, done *d, cpl_amx_ahead *f)
{
    const size_t a_tile = (size_t)g->steps * 1024;
    if (tiles == 2 && d->rows == 32 && !d->next && count == PLANNED(kind, 0)) {
        planned_block(g, kind, what, e, c, a, b, PLANNED(kind, 0), store, partial, d, f);
        d->next = 32;
        return;
    }
    if (tiles == 2 && d->rows == 32 && !d->next && count == PLANNED(kind, 1)) {
        planned_block(g, kind, what, e, c, a, b, PLANNED(kind, 1), store, partial, d, f);
        d->next = 32;
        return;
    }
    pace p = {.pairs = 16 * tiles / PAIR, .products = 2 * tiles * (count - 1)};
    if (p.products < p.pairs) p.products = p.pairs;
    p.due = p.products - p.pairs;
    first_step(kind, tiles, a, a_tile, b, store, partial);
    fetch(f);
    for (uint32_t s = 1; s < count; s++) {
        a += 1024;
        b += 2048;
        step(g, kind, what, e, tiles, c, a, a_tile, b, d, &p);
        fetch(f);
    }
    some_rows(g, kind, what, e, tiles, c, d, 16 * tiles);
}

AMX_INLINE void multiply(const cpl_amx_gemm *given, const cpl_amx_kind kind, const cpl_amx_out what,
                         const cpl_epilogue e, const uint32_t tiles)
{
    const cpl_amx_gemm local = *given, *const g = &local;
    const uint32_t steps = g->steps, split = g->split;
    constants c = constants_of(g);
    cpl_amx_ahead ahead = g->ahead;
    done d = {0};
    char *store = NULL;
    for (uint32_t block = 0; block < g->blocks; block++) {
        for (uint32_t from = 0; from < steps; from += split) {
            const uint32_t count = steps - from < split ? steps - from : split;
            const char *a = (const char *)g->a + (block * tiles * (size_t)steps + from) * 1024;
            char *partial = g->partial;
            const int last = from + count == steps;
            for (uint32_t panel = g->panel_begin; panel < g->panel_end; panel++, partial += tiles * 2048) {
                const char *b = (const char *)g->b + ((size_t)panel * steps + from) * 2048;
                one_block(g, kind, what, e, tiles, &c, a, b, count, store, from ? partial : NULL, &d, &ahead);
                store = last ? g->scratch : partial;
                if (last) d = (done){block * tiles * 16, panel, 0, 16 * tiles};
                if (last && what != CPL_AMX_ROWS && kind != CPL_AMX_BF16) {
                    c.scale = h_load(g->scale16 + panel * CPL_AMX_PANEL);
                    c.bias = h_load(g->bias16 + panel * CPL_AMX_PANEL);
                }
            }
        }
    }
    last_store(tiles, store);
    some_rows(g, kind, what, e, tiles, &c, &d, 16 * tiles);
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
