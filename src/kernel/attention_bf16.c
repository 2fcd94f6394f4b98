/* SPDX-License-Identifier: Apache-2.0 */
/* attention_bf16.c - one head of one sequence with both products on vdpbf16ps, at twice fp32's rate.
 *
 * The idea is attention_f32.c's, on bf16's register tile (dot_bf16.c): K as panels of 32 keys, V as panels of 32
 * columns, both as pairs along what is summed over; then, for every 12 queries, their scores, weights and output. A
 * pair is 32 bits wide, so K is packed by the 16 x 16 transpose of fp32. Queries carry scale log2(e) when they are
 * rounded, and rows are divided by their sum after the second product, so softmax sweeps its scores twice: the largest
 * one, then 2^(x - largest), written as bf16 over the scores they came from.
 *
 * 2^x is of degree 3 here: its error of 1e-4 is a twentieth of what rounding to bf16 does.
 *
 * Invariant: a query row's result depends on its own sequence only, and not on the tile it falls in. Threads: none.
 * Rejected: int8 (Q and K have outlier channels, and a scale a row costs what the faster product gains); no largest
 * score but a bound (rows then need a check for lost sums). */
#include <math.h>
#include <string.h>

#include "kernel/avx512.h"
#include "kernel/math_avx512.h"
#include "kernel/transpose_avx512.h"
#include "kernel/unroll.h"

enum { NR = 32, MR = 12, PAIR_ROW = 2 * NR /* bf16 of a step of a panel */ };

typedef struct work {
    const cpl_attention_f32 *a;
    void (*tile)(const cpl_tile_h16 *t);
    size_t columns; /* head size in whole panels */
    size_t lds;     /* floats from row to row of scores */
    uint16_t *kt;   /* panels of 32 keys, columns / 2 steps */
    uint16_t *v;    /* panels of 32 columns, keys / 2 steps */
    uint16_t *q;    /* a tile's queries, rows of `columns` */
    float *scores;  /* a tile's */
    float *out;     /* a tile's, 32 columns */
} work;

CPL_INLINE __mmask16 lanes(size_t n, size_t from)
{
    return n >= from + 16 ? 0xffff : n > from ? cpl_mask16(n - from) : 0;
}

CPL_INLINE __m512i round_two(__m512 lo, __m512 hi) { return (__m512i)_mm512_cvtne2ps_pbh(hi, lo); }

/* 32 floats at x, of which n exist. */
CPL_INLINE __m512i rounded(const float *x, size_t n)
{
    if (n >= 32) return round_two(_mm512_loadu_ps(x), _mm512_loadu_ps(x + 16));
    return round_two(_mm512_maskz_loadu_ps(lanes(n, 0), x), _mm512_maskz_loadu_ps(lanes(n, 16), x + 16));
}

CPL_INLINE __m512i rounded_by(const float *x, size_t n, __m512 by)
{
    const __m512 lo = _mm512_maskz_loadu_ps(lanes(n, 0), x), hi = _mm512_maskz_loadu_ps(lanes(n, 16), x + 16);
    return round_two(_mm512_mul_ps(lo, by), _mm512_mul_ps(hi, by));
}

/* `rows` of 16 keys, 32 of their columns of which n exist, into 16 steps of a panel. */
CPL_INLINE void pack_sixteen(uint16_t *panel, const float *k, size_t stride, uint32_t rows, size_t n)
{
    __m512 r[16];
    CPL_UNROLL for (uint32_t i = 0; i < 16; i++) r[i] =
        i < rows ? _mm512_castsi512_ps(rounded(k + i * stride, n)) : _mm512_setzero_ps();
    cpl_transpose16(r);
    CPL_UNROLL for (uint32_t i = 0; i < 16; i++) _mm512_storeu_ps(panel + i * PAIR_ROW, r[i]);
}

static void pack_keys(const work *w)
{
    const cpl_attention_f32 *a = w->a;
    for (uint32_t from = 0; from < a->keys; from += 16) {
        uint16_t *panel = w->kt + from / NR * NR * w->columns + from % NR * 2;
        const float *k = a->k + from * a->kv_stride;
        for (uint32_t d = 0; d < a->head_size; d += 32, panel += 16 * PAIR_ROW) {
            if (from + 16 <= a->keys && d + 32 <= a->head_size)
                pack_sixteen(panel, k + d, a->kv_stride, 16, 32);
            else
                pack_sixteen(panel, k + d, a->kv_stride, a->keys - from, a->head_size - d);
        }
    }
    /* A panel's second half that no key reached: whatever is there must not be read as NaN. */
    const uint32_t used = (a->keys + 15) / 16 * 16;
    if (used % NR == 0) return;
    uint16_t *panel = w->kt + used / NR * NR * w->columns + 32;
    for (size_t i = 0; i < w->columns / 2; i++) _mm512_storeu_si512(panel + i * PAIR_ROW, _mm512_setzero_si512());
}

static void pack_values(const work *w)
{
    const cpl_attention_f32 *a = w->a;
    const uint32_t pairs = (a->keys + 1) / 2;
    __m512i turn;
    uint16_t order[32];
    for (uint16_t i = 0; i < 32; i++) order[i] = (uint16_t)(i / 2 + i % 2 * 16);
    memcpy(&turn, order, sizeof turn);
    for (uint32_t d = 0; d < a->head_size; d += 16) {
        uint16_t *to = w->v + (size_t)(d / NR) * pairs * PAIR_ROW + d % NR * 2;
        const __mmask16 m = lanes(a->head_size, d);
        for (uint32_t j = 0; j < pairs; j++, to += PAIR_ROW) {
            const float *v = a->v + 2ul * j * a->kv_stride + d;
            const __m512 first = _mm512_maskz_loadu_ps(m, v);
            const __m512 second =
                2 * j + 1 < a->keys ? _mm512_maskz_loadu_ps(m, v + a->kv_stride) : _mm512_setzero_ps();
            _mm512_storeu_si512(to, _mm512_permutexvar_epi16(turn, round_two(first, second)));
        }
    }
    /* The last panel's columns that no head has are computed and thrown away. */
    const uint32_t used = (a->head_size + 15) / 16 * 16;
    if (used % NR == 0) return;
    uint16_t *to = w->v + (size_t)(used / NR) * pairs * PAIR_ROW + 32;
    for (uint32_t j = 0; j < pairs; j++) _mm512_storeu_si512(to + j * PAIR_ROW, _mm512_setzero_si512());
}

/* 2^x for finite x <= 0: relative error below 1.1e-4 above -126, 0 below about -150. */
CPL_INLINE __m512 exp2_short(__m512 x)
{
    const __m512 n = _mm512_roundscale_ps(x, 8), f = _mm512_sub_ps(x, n);
    __m512 p = _mm512_set1_ps(5.517166e-02f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.4261112e-01f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.9326099e-01f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.9992807e-01f));
    return _mm512_scalef_ps(p, n);
}

CPL_INLINE float row_most(const float *x, size_t n)
{
    const __m512 lowest = _mm512_set1_ps(-INFINITY);
    __m512 most[4] = {lowest, lowest, lowest, lowest};
    size_t i = 0;
    for (; i + 64 <= n; i += 64)
        CPL_UNROLL for (int j = 0; j < 4; j++) most[j] = _mm512_max_ps(most[j], _mm512_loadu_ps(x + i + 16 * j));
    for (; i + 16 <= n; i += 16) most[0] = _mm512_max_ps(most[0], _mm512_loadu_ps(x + i));
    if (i < n) most[0] = _mm512_max_ps(most[0], _mm512_mask_loadu_ps(lowest, lanes(n, i), x + i));
    return _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(most[0], most[1]), _mm512_max_ps(most[2], most[3])));
}

/* A row of n scores becomes their weights, in bf16 from the row's beginning on, in whole vectors of 32. Returns the
 * sum of the weights before they were rounded. */
CPL_INLINE float weigh(float *x, size_t n)
{
    const __m512 most = _mm512_set1_ps(row_most(x, n));
    __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    uint16_t *out = (uint16_t *)(void *)x;
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        __m512 e[4];
        CPL_UNROLL for (int j = 0; j < 4; j++)
        {
            e[j] = exp2_short(_mm512_sub_ps(_mm512_loadu_ps(x + i + 16 * j), most));
            sum[j] = _mm512_add_ps(sum[j], e[j]);
        }
        _mm512_storeu_si512(out + i, round_two(e[0], e[1]));
        _mm512_storeu_si512(out + i + 32, round_two(e[2], e[3]));
    }
    for (; i + 32 <= n; i += 32) {
        const __m512 e0 = exp2_short(_mm512_sub_ps(_mm512_loadu_ps(x + i), most));
        const __m512 e1 = exp2_short(_mm512_sub_ps(_mm512_loadu_ps(x + i + 16), most));
        sum[0] = _mm512_add_ps(sum[0], e0);
        sum[1] = _mm512_add_ps(sum[1], e1);
        _mm512_storeu_si512(out + i, round_two(e0, e1));
    }
    if (i < n) {
        __m512 e[2];
        CPL_UNROLL for (int j = 0; j < 2; j++)
        {
            const __mmask16 m = lanes(n, i + 16 * (size_t)j);
            e[j] = exp2_short(_mm512_sub_ps(_mm512_mask_loadu_ps(most, m, x + i + 16 * j), most));
            e[j] = _mm512_maskz_mov_ps(m, e[j]);
            sum[j] = _mm512_add_ps(sum[j], e[j]);
        }
        _mm512_storeu_si512(out + i, round_two(e[0], e[1]));
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
}

static void store_output(const work *w, uint32_t row, uint32_t rows, uint32_t d, const float *per_sum)
{
    const cpl_attention_f32 *a = w->a;
    const __mmask16 m0 = lanes(a->head_size, d), m1 = lanes(a->head_size, d + 16);
    for (uint32_t i = 0; i < rows; i++) {
        const __m512 by = _mm512_set1_ps(per_sum[i]);
        float *to = a->out + (row + i) * a->out_stride + d;
        _mm512_mask_storeu_ps(to, m0, _mm512_mul_ps(_mm512_loadu_ps(w->out + i * NR), by));
        _mm512_mask_storeu_ps(to + 16, m1, _mm512_mul_ps(_mm512_loadu_ps(w->out + i * NR + 16), by));
    }
}

/* One tile's worth of queries. */
static void attend(const work *w, uint32_t row, uint32_t rows)
{
    const cpl_attention_f32 *a = w->a;
    const __m512 scale = _mm512_set1_ps(a->scale * 1.44269504f);
    const uint32_t pairs = (a->keys + 1) / 2;
    float per_sum[MR];
    for (uint32_t i = 0; i < rows; i++)
        for (uint32_t d = 0; d < a->head_size; d += 32)
            _mm512_storeu_si512(w->q + i * w->columns + d,
                                rounded_by(a->q + (row + i) * a->q_stride + d, a->head_size - d, scale));
    cpl_tile_h16 t = {.a = w->q,
                      .lda = w->columns * 2,
                      .ldc = w->lds,
                      .m = rows,
                      .groups = (uint32_t)w->columns / 2,
                      .epilogue = CPL_EPILOGUE_NONE};
    for (uint32_t from = 0; from < a->keys; from += NR) {
        t.prefetch = t.b = w->kt + from * w->columns;
        t.c = w->scores + from;
        w->tile(&t);
    }
    for (uint32_t i = 0; i < rows; i++) per_sum[i] = 1.0f / weigh(w->scores + i * w->lds, a->keys);
    t = (cpl_tile_h16){.a = w->scores,
                       .lda = w->lds * sizeof(float),
                       .c = w->out,
                       .ldc = NR,
                       .m = rows,
                       .groups = pairs,
                       .epilogue = CPL_EPILOGUE_NONE};
    for (uint32_t d = 0; d < a->head_size; d += NR) {
        t.prefetch = t.b = w->v + (size_t)(d / NR) * pairs * PAIR_ROW;
        w->tile(&t);
        store_output(w, row, rows, d, per_sum);
    }
}

static void attention(const cpl_kernels *k, const cpl_attention_f32 *a)
{
    const uint32_t tiles = (a->queries + MR - 1) / MR;
    const size_t columns = (a->head_size + NR - 1ul) / NR * NR, keys = (a->keys + NR - 1ul) / NR * NR;
    work w = {.a = a, .tile = k->h16[CPL_H16_BF16].tile, .columns = columns, .lds = cpl_row_stride(keys)};
    w.scores = a->scratch;
    w.out = w.scores + MR * w.lds;
    w.kt = (uint16_t *)(void *)(w.out + (size_t)MR * NR);
    w.v = w.kt + keys * columns;
    w.q = w.v + (a->keys + 1ul) / 2 * 2 * columns;
    pack_keys(&w);
    pack_values(&w);
    for (uint32_t i = 0, row = 0; i < tiles; i++) {
        const uint32_t rows = (a->queries - row + tiles - i - 1) / (tiles - i);
        attend(&w, row, rows);
        row += rows;
    }
}

void cpl_attention_install_bf16(cpl_kernels *k) { k->attention_bf16 = attention; }
