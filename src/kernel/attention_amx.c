/* SPDX-License-Identifier: Apache-2.0 */
/* attention_amx.c - attention of one sequence on bf16 tiles, head after head, 16 queries at a time.
 *
 * The idea: three things go on at once, and what waits for what is a whole stage apart. While the scores of one unit
 * (16 queries of a head) become probabilities in the vector unit, 32 keys at a time, the tile unit makes the next
 * unit's scores of as many keys and multiplies the probabilities of the keys before with V. Tiles reach vectors and
 * vectors tiles only through memory; nothing is loaded that was stored just before. A fourth unit under way, so that
 * whatever is loaded was stored a whole turn ago, made it 3 to 15 % slower.
 *
 * Softmax without its maximum: Q comes scaled by 128 log2(e), so the score rounded to an integer plus 127 * 128 is the
 * bit pattern of a bf16 near 2^score (times 2^-RANGE_SHIFT), and a table by the upper six bits of its fraction takes 1
 * + f - 2^f off. What is too small becomes 0, what is too large a NaN. Sums come out of a third product, with ones, in
 * all columns at once. A row whose sum shows that it left the range (2^-100 to 2^100, or NaN) is done again in fp32
 * with its maximum: a choice by that row's own numbers, so scores stay the same in any batch.
 *
 * K and V are brought into the tiles' order once a head: K transposed, so that packing two vectors of scores leaves
 * keys in their order; V's rows interleaved by unpacks, which moves columns (cpl_amx_order_context). The last block of
 * keys is filled up with zero rows and masked. */
#include <math.h>
#include <string.h>

#include "kernel/amx.h"
#include "kernel/tile_amx.h"
#include "kernel/unroll.h"

CPL_AMX_DECLARE(AMX_NAME);

enum { QUERIES = 16, KEYS = 32, TILE = 1024, ROW = 64 };

/* Probabilities are made 2^64 smaller than they are, which their sum takes back: a row's largest score (in powers of 2)
 * is seldom far below 0 and, in real models' first layers, above 90. So it may lie between -36 and 164. */
enum { RANGE_SHIFT = 64 };

/* 128 (1 + f - 2^f) in the middle of 64 steps of f. */
static const uint8_t correction[64] __attribute__((aligned(64))) = {
    0,  1,  1,  2,  2,  3,  4,  4,  5,  5,  5,  6,  6,  7,  7,  8,  8,  8,  9,  9,  9,  9,
    10, 10, 10, 10, 10, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 10, 10, 10,
    10, 10, 9,  9,  9,  8,  8,  8,  7,  7,  6,  6,  5,  5,  4,  3,  3,  2,  1,  1};

static const uint32_t ones[TILE / 4] __attribute__((aligned(64))) = {[0 ... TILE / 4 - 1] = 0x3f803f80u};

typedef struct room {
    char *k[2], *v[2];      /* of a head and the next: blocks of tiles */
    char *scores[2];        /* of a unit and the next: 2 tiles a block */
    char *p;                /* a tile a block */
    char *context;          /* sums, then 2 tiles for each 32 columns */
    char *tail;             /* the last block's rows, filled up */
    uint32_t blocks, parts; /* of 32 keys, of 32 columns of the head */
} room;

size_t AMX_NAME(cpl_amx_attention_room)(uint32_t keys, uint32_t head_size)
{
    const size_t blocks = (keys + KEYS - 1) / KEYS, parts = head_size / 32;
    return (blocks * (8 * parts + 5) + 4 * parts + 3) * TILE;
}

static room lay_out(const cpl_amx_attention *a)
{
    room r = {.blocks = (a->keys + KEYS - 1) / KEYS, .parts = a->head_size / 32};
    char *at = a->scratch;
    for (int i = 0; i < 2; i++) {
        r.scores[i] = at;
        at += (size_t)r.blocks * 2 * TILE;
    }
    r.p = at;
    r.context = r.p + (size_t)r.blocks * TILE;
    r.tail = r.context + (size_t)(2 * r.parts + 1) * TILE;
    at = r.tail + (size_t)2 * r.parts * TILE;
    for (int i = 0; i < 2; i++) {
        r.k[i] = at;
        at += (size_t)r.blocks * 2 * r.parts * TILE;
        r.v[i] = at;
        at += (size_t)r.blocks * 2 * r.parts * TILE;
    }
    return r;
}

/* ---- a head's K and V ------------------------------------------------------------------------------------------- */

/* 16 keys' 16 pairs of columns, transposed: row p of the tile holds pair p of keys 8 (c / 4) + c % 4. */
AMX_INLINE void transpose_keys(char *tile, const char *k)
{
    CPL_UNROLL for (int quarter = 0; quarter < 4; quarter++)
    {
        __m512i x[4];
        CPL_UNROLL for (int j = 0; j < 4; j++)
        {
            const char *at = k + j * ROW + 16 * quarter;
            x[j] = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(const void *)at));
            x[j] = _mm512_inserti32x4(x[j], _mm_loadu_si128((const __m128i *)(const void *)(at + 8 * ROW)), 1);
            x[j] = _mm512_inserti32x4(x[j], _mm_loadu_si128((const __m128i *)(const void *)(at + 16 * ROW)), 2);
            x[j] = _mm512_inserti32x4(x[j], _mm_loadu_si128((const __m128i *)(const void *)(at + 24 * ROW)), 3);
        }
        const __m512i t0 = _mm512_unpacklo_epi32(x[0], x[1]), t1 = _mm512_unpackhi_epi32(x[0], x[1]);
        const __m512i t2 = _mm512_unpacklo_epi32(x[2], x[3]), t3 = _mm512_unpackhi_epi32(x[2], x[3]);
        char *to = tile + quarter * 256;
        _mm512_store_si512(to, _mm512_unpacklo_epi64(t0, t2));
        _mm512_store_si512(to + 64, _mm512_unpackhi_epi64(t0, t2));
        _mm512_store_si512(to + 128, _mm512_unpacklo_epi64(t1, t3));
        _mm512_store_si512(to + 192, _mm512_unpackhi_epi64(t1, t3));
    }
}

AMX_INLINE void pair_values(char *tiles, const char *v)
{
    for (int p = 0; p < 16; p++, v += 2 * ROW, tiles += 64) {
        const __m512i x = _mm512_loadu_si512(v), y = _mm512_loadu_si512(v + ROW);
        _mm512_store_si512(tiles, _mm512_unpacklo_epi16(x, y));
        _mm512_store_si512(tiles + TILE, _mm512_unpackhi_epi16(x, y));
    }
}

/* The rows of a block, from a copy filled up with zeros where it is not whole. */
static const char *whole_block(const room *r, const char *rows, uint32_t count)
{
    if (count >= KEYS) return rows;
    memcpy(r->tail, rows, count * (size_t)ROW);
    memset(r->tail + count * (size_t)ROW, 0, (KEYS - count) * (size_t)ROW);
    return r->tail;
}

static void prepare_head(const cpl_amx_attention *a, const room *r, uint32_t head)
{
    char *kt = r->k[head & 1], *vt = r->v[head & 1];
    for (uint32_t b = 0; b < r->blocks; b++) {
        const uint32_t count = a->keys - b * KEYS;
        for (uint32_t part = 0; part < r->parts; part++, kt += 2 * TILE, vt += 2 * TILE) {
            const size_t at = (head * r->parts + part) * a->kv_panel + (size_t)b * KEYS * ROW;
            const char *rows = whole_block(r, (const char *)a->k + at, count);
            transpose_keys(kt, rows);
            transpose_keys(kt + TILE, rows + 4 * ROW);
            pair_values(vt, whole_block(r, (const char *)a->v + at, count));
        }
    }
}

/* ---- softmax ---------------------------------------------------------------------------------------------------- */

AMX_INLINE void softmax_block(const char *scores, char *p, uint32_t rows, __mmask32 keys)
{
    const __m512i one = _mm512_set1_epi16((127 - RANGE_SHIFT) * 128), zero = _mm512_setzero_si512();
    const __m512i table = _mm512_load_si512(correction);
    for (uint32_t i = 0; i < rows; i++) {
        const __m512i s0 = _mm512_cvtps_epi32(_mm512_load_ps(scores + i * (size_t)64));
        const __m512i s1 = _mm512_cvtps_epi32(_mm512_load_ps(scores + TILE + i * (size_t)64));
        const __m512i w = _mm512_max_epi16(_mm512_adds_epi16(_mm512_packs_epi32(s0, s1), one), zero);
        const __m512i off = _mm512_maskz_permutexvar_epi8(0x5555555555555555u, _mm512_srli_epi16(w, 1), table);
        _mm512_store_si512(p + i * (size_t)64, _mm512_maskz_sub_epi16(keys, w, off));
    }
}

/* The 32 columns of a row of a panel. */
AMX_INLINE const char *columns(const void *rows, size_t panel_bytes, uint32_t panel, uint32_t row)
{
    return (const char *)rows + panel * panel_bytes + row * (size_t)ROW;
}

AMX_INLINE __m512 widened(const char *sixteen)
{
    const __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)sixteen);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

/* A row that left the range, in fp32 with its maximum so far: x receives head_size floats, in the order of attention's
 * output. Slower than the tiles by the width of a tile and exp2f, so the range is wide (RANGE_SHIFT). */
static __attribute__((noinline)) void row_again(const cpl_amx_attention *a, uint32_t head, uint32_t query, float *x)
{
    const uint32_t parts = a->head_size / 32;
    float most = -INFINITY, sum = 0, natural[64];
    __m512 context[4] = {0};
    for (uint32_t t = 0; t < a->keys; t++) {
        __m512 products = _mm512_setzero_ps();
        for (uint32_t part = 0; part < parts; part++) {
            const char *q = columns(a->q, a->q_panel, head * parts + part, query);
            const char *k = columns(a->k, a->kv_panel, head * parts + part, t);
            products = _mm512_fmadd_ps(widened(q), widened(k), products);
            products = _mm512_fmadd_ps(widened(q + 32), widened(k + 32), products);
        }
        const float score = _mm512_reduce_add_ps(products);
        if (score > most) {
            const float by = exp2f((most - score) / 128);
            for (int i = 0; i < 4; i++) context[i] = _mm512_mul_ps(context[i], _mm512_set1_ps(by));
            sum *= by;
            most = score;
        }
        const float p = exp2f((score - most) / 128);
        sum += p;
        for (uint32_t part = 0; part < parts; part++) {
            const char *v = columns(a->v, a->kv_panel, head * parts + part, t);
            context[2 * part] = _mm512_fmadd_ps(_mm512_set1_ps(p), widened(v), context[2 * part]);
            context[2 * part + 1] = _mm512_fmadd_ps(_mm512_set1_ps(p), widened(v + 32), context[2 * part + 1]);
        }
    }
    for (int i = 0; i < 4; i++) _mm512_storeu_ps(natural + 16 * i, context[i]);
    for (uint32_t i = 0; i < a->head_size; i++) x[i] = natural[i / 32 * 32 + cpl_amx_order_context(i % 32)] / sum;
}

AMX_INLINE char *context_row(const cpl_amx_attention *a, const room *r, uint32_t head, uint32_t part, uint32_t query)
{
    const uint32_t row = a->out_first + query;
    return (char *)a->out + (row / 16 * (size_t)a->out_steps + head * r->parts + part) * TILE + row % 16 * (size_t)64;
}

AMX_INLINE void write_context(const cpl_amx_attention *a, const room *r, uint32_t head, uint32_t part, uint32_t query,
                              __m512 lo, __m512 hi)
{
    char *to = context_row(a, r, head, part, query);
    if (a->out_bf16_tiles) {
        _mm512_store_si512(to, (__m512i)_mm512_cvtne2ps_pbh(hi, lo));
    } else {
        _mm256_store_si256((__m256i *)(void *)to, _mm512_cvtps_ph(lo, 8));
        _mm256_store_si256((__m256i *)(void *)(to + 32), _mm512_cvtps_ph(hi, 8));
    }
}

/* ---- units ------------------------------------------------------------------------------------------------------ */

typedef struct unit {
    uint32_t head, query, rows; /* rows 0: none */
} unit;

/* The rows of that mask, whose sums left the range that the fast softmax can do. */
static __attribute__((noinline)) void finish_again(const cpl_amx_attention *a, const room *r, const unit *u,
                                                   uint32_t rows)
{
    for (; rows; rows &= rows - 1) {
        const uint32_t i = (uint32_t)__builtin_ctz(rows);
        float x[64];
        row_again(a, u->head, u->query + i, x);
        for (uint32_t part = 0; part < r->parts; part++)
            write_context(a, r, u->head, part, u->query + i, _mm512_loadu_ps(x + 32 * part),
                          _mm512_loadu_ps(x + 32 * part + 16));
    }
}

/* The unit's rows over their sums, from the context tiles. All columns of a row of sums are the same, so 16 rows' fit a
 * vector; an estimate of 14 bits of their inverse is finer than the halves or bf16 to come. */
static void finish_unit(const cpl_amx_attention *a, const room *r, const unit *u)
{
    float by[16] __attribute__((aligned(64)));
    const __m512i rows = _mm512_setr_epi32(0, 16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240);
    const __mmask16 used = (__mmask16)((1u << u->rows) - 1);
    const __m512 sums = _mm512_i32gather_ps(rows, r->context, 4);
    const __mmask16 good = _mm512_cmp_ps_mask(sums, _mm512_set1_ps(0x1p-100f), _CMP_GE_OQ) &
                           _mm512_cmp_ps_mask(sums, _mm512_set1_ps(0x1p100f), _CMP_LE_OQ);
    _mm512_store_ps(by, _mm512_rcp14_ps(sums));
    for (uint32_t part = 0; part < r->parts; part++) {
        const char *at = r->context + (2 * part + 1) * (size_t)TILE;
        for (uint32_t i = 0; i < u->rows; i++, at += 64)
            write_context(a, r, u->head, part, u->query + i, _mm512_mul_ps(_mm512_load_ps(at), _mm512_set1_ps(by[i])),
                          _mm512_mul_ps(_mm512_load_ps(at + TILE), _mm512_set1_ps(by[i])));
    }
    const uint32_t again = used & ~(uint32_t)good;
    if (again) finish_again(a, r, u, again);
}

/* Tiles 0, 1: context; 2: sums; 3, 4: scores; 5: Q; 6: K, V; 7: probabilities, K's Q of a second part. */
AMX_INLINE void score_block(const cpl_amx_attention *a, const room *r, const unit *u, uint32_t block, char *store)
{
    const char *q = (const char *)a->q + u->head * r->parts * a->q_panel + u->query * (size_t)ROW;
    const char *k = r->k[u->head & 1] + (size_t)block * 2 * r->parts * TILE;
    if (store) T_STORE(3, store, 64);
    T_ZERO(3);
    if (store) T_STORE(4, store + TILE, 64);
    T_ZERO(4);
    for (uint32_t part = 0; part < r->parts; part++, q += a->q_panel, k += 2 * TILE) {
        T_LOAD(5, q, ROW);
        T_LOAD(6, k, 64);
        T_BF16(3, 5, 6);
        T_LOAD(6, k + TILE, 64);
        T_BF16(4, 5, 6);
    }
}

AMX_INLINE void value_block(const room *r, const unit *u, uint32_t block, uint32_t part, int sums)
{
    const char *v = r->v[u->head & 1] + ((size_t)block * r->parts + part) * 2 * TILE;
    T_LOAD(7, r->p + (size_t)block * TILE, 64);
    T_LOAD(6, v, 64);
    T_BF16(0, 7, 6);
    T_LOAD(6, v + TILE, 64);
    T_BF16(1, 7, 6);
    if (!sums) return;
    T_LOAD(6, ones, 64);
    T_BF16(2, 7, 6);
}

AMX_INLINE void store_context(const room *r)
{
    T_STORE(2, r->context, 64);
    T_STORE(0, r->context + TILE, 64);
    T_STORE(1, r->context + 2 * TILE, 64);
}

/* The columns after the first 32. */
static void other_parts(const room *r, const unit *u)
{
    store_context(r);
    for (uint32_t part = 1; part < r->parts; part++) {
        T_ZERO(0);
        T_ZERO(1);
        for (uint32_t b = 0; b < r->blocks; b++) value_block(r, u, b, part, 0);
        T_STORE(0, r->context + (2 * part + 1) * (size_t)TILE, 64);
        T_STORE(1, r->context + (2 * part + 2) * (size_t)TILE, 64);
    }
    AMX_FENCE();
}

/* Probabilities and context of `now`, scores of `next`, and what is left of `before`. */
static void turn(const cpl_amx_attention *a, const room *r, const unit *before, const unit *now, const unit *next,
                 uint32_t which)
{
    const char *scores = r->scores[which];
    char *coming = r->scores[which ^ 1];
    const uint32_t last = r->blocks - 1, tail = a->keys - last * KEYS;
    const __mmask32 tail_mask = tail >= KEYS ? 0xffffffffu : (1u << tail) - 1;
    if (before->rows && r->parts == 1) store_context(r);
    T_ZERO(0);
    T_ZERO(1);
    T_ZERO(2);
    for (uint32_t b = 0; b < r->blocks; b++) {
        if (next->rows) score_block(a, r, next, b, b ? coming + (size_t)(b - 1) * 2 * TILE : NULL);
        AMX_FENCE();
        softmax_block(scores + (size_t)b * 2 * TILE, r->p + (size_t)b * TILE, now->rows,
                      b == last ? tail_mask : 0xffffffffu);
        AMX_FENCE();
        if (b) value_block(r, now, b - 1, 0, 1);
    }
    if (next->rows) {
        T_STORE(3, coming + (size_t)last * 2 * TILE, 64);
        T_STORE(4, coming + (size_t)last * 2 * TILE + TILE, 64);
    }
    AMX_FENCE();
    if (before->rows) finish_unit(a, r, before);
    value_block(r, now, last, 0, 1);
    if (r->parts > 1) other_parts(r, now);
}

static unit unit_at(const cpl_amx_attention *a, uint32_t at)
{
    const uint32_t per_head = (a->queries + QUERIES - 1) / QUERIES, query = at % per_head * QUERIES;
    const uint32_t left = a->queries - query;
    return (unit){a->head_begin + at / per_head, query, left < QUERIES ? left : QUERIES};
}

void AMX_NAME(cpl_amx_attention_run)(const cpl_amx_attention *a)
{
    const room r = lay_out(a);
    const uint32_t total = (a->head_end - a->head_begin) * ((a->queries + QUERIES - 1) / QUERIES);
    if (!total) return;
    unit before = {0}, now = {0}, next = unit_at(a, 0);
    prepare_head(a, &r, next.head);
    for (uint32_t b = 0; b < r.blocks; b++)
        score_block(a, &r, &next, b, b ? r.scores[0] + (size_t)(b - 1) * 2 * TILE : NULL);
    T_STORE(3, r.scores[0] + (size_t)(r.blocks - 1) * 2 * TILE, 64);
    T_STORE(4, r.scores[0] + (size_t)(r.blocks - 1) * 2 * TILE + TILE, 64);
    AMX_FENCE();
    for (uint32_t i = 0; i < total; i++) {
        before = now;
        now = next;
        next = i + 1 < total ? unit_at(a, i + 1) : (unit){0};
        if (next.rows && next.head != now.head) prepare_head(a, &r, next.head);
        turn(a, &r, &before, &now, &next, i & 1);
    }
    if (r.parts == 1) store_context(&r);
    AMX_FENCE();
    finish_unit(a, &r, &now);
}
