/* SPDX-License-Identifier: Apache-2.0 */
/* attention_f32.c - one head of one sequence: softmax(scale q k^T) v on the GEMM tile.
 *
 * The idea: K^T and V of a head are packed once into panels the register tile reads (32 KB at 128 keys and head size
 * 32), then every mr query rows make their scores, softmax and output while those scores (6 KB) sit in L1. Memory is
 * bounded by the longest sequence, not by its square: mr x keys scores.
 *
 * Invariant: a query row's result depends on its own sequence only, and not on the tile it falls in (gemm_f32.c);
 * padding keys are never part of a softmax. Packing costs 2 keys x head_size moves against queries x keys x head_size
 * x 2 multiply-adds. Rejected: online softmax over key blocks (more exponentials' worth of rescaling, and rows of 8,192
 * scores still fit L2). */
#include "kernel/kernels.h"

#include <string.h>

static size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

static size_t score_stride(const cpl_kernels *k, uint32_t keys) { return cpl_row_stride(round_up(keys, k->nr)); }

size_t cpl_attention_f32_scratch(const cpl_kernels *k, uint32_t keys, uint32_t head_size)
{
    return round_up(keys, k->nr) * head_size + keys * round_up(head_size, k->nr) + k->mr * score_stride(k, keys) +
           (size_t)k->mr * round_up(head_size, k->nr) + 64;
}

/* kt: panels of nr keys, head_size deep, zero beyond `keys`. */
static void pack_keys(float *kt, const cpl_attention_f32 *a, uint32_t nr)
{
    for (uint32_t from = 0; from < a->keys; from += nr) {
        const uint32_t n = a->keys - from < nr ? a->keys - from : nr;
        float *panel = kt + (size_t)from * a->head_size;
        for (uint32_t j = 0; j < n; j++) {
            const float *key = a->k + (from + j) * a->kv_stride;
            for (uint32_t d = 0; d < a->head_size; d++) panel[d * nr + j] = key[d];
        }
        if (n == nr) continue;
        for (uint32_t d = 0; d < a->head_size; d++) memset(panel + d * nr + n, 0, (nr - n) * sizeof(float));
    }
}

/* vp: panels of nr columns of V, keys deep, zero beyond head_size. */
static void pack_values(float *vp, const cpl_attention_f32 *a, uint32_t nr)
{
    for (uint32_t from = 0; from < a->head_size; from += nr) {
        const uint32_t n = a->head_size - from < nr ? a->head_size - from : nr;
        float *panel = vp + (size_t)from * a->keys;
        for (uint32_t j = 0; j < a->keys; j++) {
            memcpy(panel + j * nr, a->v + j * a->kv_stride + from, n * sizeof(float));
            if (n < nr) memset(panel + j * nr + n, 0, (nr - n) * sizeof(float));
        }
    }
}

/* One tile's worth of query rows, keys and values packed. */
static void attend(const cpl_kernels *k, const cpl_attention_f32 *a, uint32_t row, uint32_t rows, const float *kt,
                   const float *vp, float *scores, float *out)
{
    const uint32_t nr = k->nr;
    const size_t lds = score_stride(k, a->keys);
    cpl_tile_f32 t = {.a = a->q + row * a->q_stride,
                      .lda = a->q_stride,
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
    t = (cpl_tile_f32){.a = scores, .lda = lds, .prefetch = vp, .m = rows, .k = a->keys, .epilogue = CPL_EPILOGUE_NONE};
    for (uint32_t from = 0; from < a->head_size; from += nr) {
        float *to = a->out + row * a->out_stride + from;
        const uint32_t n = a->head_size - from;
        t.b = vp + (size_t)from * a->keys;
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
    pack_keys(kt, a, nr);
    pack_values(vp, a, nr);
    uint32_t row = 0;
    for (uint32_t i = 0; i < tiles; i++) {
        const uint32_t rows = (a->queries - row + tiles - i - 1) / (tiles - i);
        attend(k, a, row, rows, kt, vp, scores, out);
        row += rows;
    }
}
