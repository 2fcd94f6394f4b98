/* SPDX-License-Identifier: Apache-2.0 */
/* attention_f32.c - one head of one sequence: softmax(scale q k^T) v on the GEMM tile.
 *
 * The idea: K^T of a head is packed once into panels the register tile reads, V is read where it is (packed only where
 * heads aren't whole panels), then every mr query rows make their scores, softmax and output while those scores (6 KB)
 * sit in L1. Memory is bounded by the longest sequence, not by its square: mr x keys scores.
 *
 * Invariant: a query row's result depends on its own sequence only, and not on the tile it falls in (gemm_f32.c);
 * padding keys are never part of a softmax. Rejected: online softmax over key blocks (more exponentials' worth of
 * rescaling, and rows of 8,192 scores still fit L2). */
#include "kernel/kernels.h"

#include <string.h>

static size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

static size_t score_stride(const cpl_kernels *k, uint32_t keys) { return cpl_row_stride(round_up(keys, k->nr)); }

size_t cpl_attention_f32_scratch(const cpl_kernels *k, uint32_t keys, uint32_t head_size)
{
    return round_up(keys, k->nr) * head_size + keys * round_up(head_size, k->nr) + k->mr * score_stride(k, keys) +
           (size_t)k->mr * round_up(head_size, k->nr) + 64;
}

/* What attention_bf16.c lays out, whose panels have 32 columns: K, V, a tile's scores and queries, its output. */
size_t cpl_attention_bf16_scratch(const cpl_kernels *k, uint32_t keys, uint32_t head_size)
{
    const size_t columns = round_up(head_size, 32);
    const uint32_t mr = k->h16[CPL_H16_BF16].mr;
    if (!k->attention_bf16) return 0;
    return (round_up(keys, 32) + round_up(keys, 2)) * columns / 2 + mr * cpl_row_stride(round_up(keys, 32)) +
           mr * columns / 2 + (size_t)mr * 33;
}

/* kt: panels of nr keys, head_size deep, zero beyond `keys`. */
static void pack_keys(const cpl_kernels *k, float *kt, const cpl_attention_f32 *a)
{
    const uint32_t nr = k->nr;
    for (uint32_t from = 0; from < a->keys; from += nr) {
        const uint32_t n = a->keys - from < nr ? a->keys - from : nr;
        float *panel = kt + (size_t)from * a->head_size;
        if (n < nr) memset(panel, 0, (size_t)nr * a->head_size * sizeof(float));
        k->transpose_f32(panel, nr, a->k + from * a->kv_stride, a->kv_stride, n, a->head_size);
    }
}

/* V where the tile can read it: in place when heads are whole panels, else in panels of nr columns of a head, zero
 * beyond head_size. */
typedef struct values {
    const float *at;
    size_t ld, panel; /* between rows; between panels */
} values;

static values pack_values(const cpl_kernels *k, float *vp, const cpl_attention_f32 *a)
{
    const uint32_t nr = k->nr;
    if (a->head_size % nr == 0) return (values){a->v, a->kv_stride, nr};
    for (uint32_t from = 0; from < a->head_size; from += nr) {
        const uint32_t n = a->head_size - from < nr ? a->head_size - from : nr;
        float *panel = vp + (size_t)from * a->keys;
        for (uint32_t j = 0; j < a->keys; j++) {
            memcpy(panel + j * nr, a->v + j * a->kv_stride + from, n * sizeof(float));
            if (n < nr) memset(panel + j * nr + n, 0, (nr - n) * sizeof(float));
        }
    }
    return (values){vp, nr, (size_t)nr * a->keys};
}

/* One tile's worth of query rows, keys and values packed. */
static void attend(const cpl_kernels *k, const cpl_attention_f32 *a, uint32_t row, uint32_t rows, const float *kt,
                   const values *v, float *scores, float *out)
{
    const uint32_t nr = k->nr;
    const size_t lds = score_stride(k, a->keys);
    cpl_tile_f32 t = {.a = a->q + row * a->q_stride,
                      .lda = a->q_stride,
                      .ldb = nr,
                      .ldc = lds,
                      .prefetch = kt,
                      .m = rows,
                      .k = a->head_size,
                      .epilogue = CPL_EPILOGUE_NONE};
    for (uint32_t from = 0; from < a->keys; from += nr) {
        t.b = kt + (size_t)from * a->head_size;
        t.c = scores + from;
        k->tile_f32(&t);
    }
    k->softmax_f32(scores, rows, a->keys, lds, a->scale);
    t = (cpl_tile_f32){.a = scores,
                       .lda = lds,
                       .ldb = v->ld,
                       .prefetch = v->at,
                       .m = rows,
                       .k = a->keys,
                       .epilogue = CPL_EPILOGUE_NONE};
    for (uint32_t from = 0; from < a->head_size; from += nr) {
        float *to = a->out + row * a->out_stride + from;
        const uint32_t n = a->head_size - from;
        t.b = v->at + from / nr * v->panel;
        t.c = n < nr ? out : to;
        t.ldc = n < nr ? nr : a->out_stride;
        k->tile_f32(&t);
        for (uint32_t i = 0; n < nr && i < rows; i++) memcpy(to + i * a->out_stride, out + i * nr, n * sizeof(float));
    }
}

void cpl_attention_f32_tiled(const cpl_kernels *k, const cpl_attention_f32 *a)
{
    const uint32_t nr = k->nr, tiles = (a->queries + k->mr - 1) / k->mr;
    float *kt = a->scratch;
    float *vp = kt + round_up(a->keys, nr) * a->head_size;
    float *scores = vp + a->keys * round_up(a->head_size, nr);
    float *out = scores + k->mr * score_stride(k, a->keys);
    pack_keys(k, kt, a);
    const values v = pack_values(k, vp, a);
    uint32_t row = 0;
    for (uint32_t i = 0; i < tiles; i++) {
        const uint32_t rows = (a->queries - row + tiles - i - 1) / (tiles - i);
        attend(k, a, row, rows, kt, &v, scores, out);
        row += rows;
    }
}
