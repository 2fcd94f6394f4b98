/* SPDX-License-Identifier: Apache-2.0 */
/* small.cuh - a whole pass of a few tokens in one kernel: small.cu, and what forward.cu hands it. */
#ifndef CPL_BACKEND_CUDA_SMALL_CUH
#define CPL_BACKEND_CUDA_SMALL_CUH

#include "backend/cuda/kernels.cuh"

enum { CPL_CUDA_SMALL_TOKENS = 32, CPL_CUDA_SMALL_SEQUENCES = 32, CPL_CUDA_SMALL_HIDDEN = 384 };
enum { CPL_CUDA_SMALL_RANKS = 16 }; /* blocks of the one cluster that does it all */

/* Maps of the weights in boxes as one block reads them, 64 columns wide: 32 rows (a head's q, k or v), 24, 96, 24. */
typedef struct cpl_cuda_small_layer {
    CUtensorMap qkv, out, up, down;
    const float *qkv_bias, *out_bias, *up_bias, *down_bias;
    cpl_cuda_norm attention_norm, output_norm;
} cpl_cuda_small_layer;

/* A model and a session's buffers, as the kernel sees them. */
typedef struct cpl_cuda_small {
    CUtensorMap ctx_map, mid_map; /* boxes of 32 rows x 64 columns */
    const cpl_cuda_small_layer *layers;
    const void *word;
    const float *position, *type_table;
    cpl_cuda_norm embedding_norm;
    void *ctx, *y, *mid;
    float *last, *pooled, *logits; /* logits: memory of the host that the device can write */
    const float *pooler_w, *pooler_b, *classifier_w, *classifier_b;
    cpl_cuda_counts *counts; /* left as a larger pass would have them, for what follows */
    uint32_t *cu;
    uint32_t layer_count, heads, labels;
    float scale;
    cpl_cuda_type type;
} cpl_cuda_small;

/* One pass: passed by value, so that its input needs no copy of its own. */
typedef struct cpl_cuda_small_call {
    cpl_cuda_small bound;
    uint32_t first_only; /* of the last layer the first row of each sequence */
    uint32_t logits;     /* pooler and classifier too */
    uint32_t n, tokens;
    uint32_t cu[CPL_CUDA_SMALL_SEQUENCES + 1];
    cpl_cuda_token token[CPL_CUDA_SMALL_TOKENS];
} cpl_cuda_small_call;

/* 1: models of this shape can run so on this device, in this type. */
int cpl_cuda_small_fits(cpl_cuda_type type, uint32_t hidden, uint32_t width, uint32_t head_size, uint32_t intermediate,
                        int epilogue, const cpl_cuda_device *d);
enum { CPL_CUDA_SMALL_WIDE = 96, CPL_CUDA_SMALL_NARROW = 24 }; /* columns a block computes: FFN up; output products */
cudaError_t cpl_cuda_small_run(const cpl_cuda_small_call *call, cpl_cuda_queue queue);

#endif
