/* SPDX-License-Identifier: Apache-2.0 */
/* cuda.cuh - the cuda backend's files among themselves. */
#ifndef CPL_BACKEND_CUDA_CUDA_CUH
#define CPL_BACKEND_CUDA_CUDA_CUH

#include "backend/cuda/kernels.cuh"
#include "backend/cuda/small.cuh"

extern "C" {
#include "backend/backend.h"
}

#include <pthread.h>

/* A matrix as stored on the device, [n, k], and its bias. */
typedef struct cpl_cuda_matrix {
    void *w;
    float *bias;  /* n rounded up to CPL_CUDA_COLUMNS */
    float *scale; /* as many: of a row of int8 or 4 bits, or of e4m3 divided by that of activations; NULL otherwise */
    uint8_t *groups; /* of 4 bits: w has them two a byte (cpl_cuda_pack_four); otherwise NULL */
    uint32_t n, k;
} cpl_cuda_matrix;

typedef struct cpl_cuda_layer {
    cpl_cuda_matrix qkv, out, up, down;
    cpl_cuda_norm attention_norm, output_norm;
    float *fold[4]; /* factor and term by column: of the layer's input, of `up`'s; int8 only, else NULL */
} cpl_cuda_layer;

typedef enum cpl_cuda_choice { CPL_CUDA_AUTO, CPL_CUDA_ON, CPL_CUDA_OFF } cpl_cuda_choice;

/* Read-only after load but for the turn, shared by all sessions; one block of device memory. */
struct cpl_weights {
    cpl_host host;
    cpl_arch arch;
    cpl_pooling pooling;
    uint32_t max_length, tokens_max, sequences_max;
    cpl_cuda_device device;
    cpl_cuda_type type;        /* of activations */
    cpl_cuda_type operand;     /* of what products of a norm's results multiply: the same, FP8 or INT8 */
    cpl_cuda_type inner;       /* of what the other two of a layer multiply: the same or FP8 */
    int four_bits;             /* 1: `down` is held in 4 bits, and widened into a session's buffer for each use */
    uint32_t head_size, width; /* head size as computed with (padded with zeros to 32 or 64), heads x that */
    float scale;
    int epilogue; /* of FFN up */
    cpl_cuda_choice graphs, spin;
    int variant; /* of the Hopper products; 0: by size */
    int small;   /* 1: passes of a few tokens in one kernel */

    void *word;
    float *position, *type_table;
    cpl_cuda_norm embedding_norm;
    cpl_cuda_layer *layers;
    cpl_cuda_matrix pooler, classifier; /* fp32 */

    void *block;
    size_t block_bytes;

    pthread_mutex_t turn; /* large passes of all sessions go one after the other: held while one is launched */
    cudaEvent_t last;     /* the end of the one launched last, an event of its session's; NULL */
};

/* What a pass looks like to the launches: upper bounds, and where its input lies. */
typedef struct cpl_cuda_plan {
    uint32_t want, tokens, sequences, items; /* bounds */
    uint32_t small;                          /* 1: one kernel does it all */
    size_t cu_at, items_at, tokens_at, bytes;
} cpl_cuda_plan;

enum { CPL_CUDA_GRAPHS = 64 };
enum { CPL_CUDA_BATCH_TOKENS = 16384 }; /* recommended for a pass */

typedef struct cpl_cuda_graph {
    cpl_cuda_plan plan;
    cudaGraphExec_t exec;
    uint64_t used;
} cpl_cuda_graph;

/* The products of a layer over this session's buffers. */
typedef struct cpl_cuda_layer_products {
    cpl_cuda_product qkv, out, up, down;
} cpl_cuda_layer_products;

/* Called after every launch by the bench; NULL otherwise. */
typedef void cpl_cuda_mark_fn(void *arg, const char *name, uint32_t layer);

struct cpl_session {
    cpl_weights *weights;
    cudaStream_t stream;
    cpl_cuda_queue queue;                 /* the stream, for launches */
    cudaEvent_t blocking, spinning, done; /* done: of a large pass, for the next session's */

    void *block; /* device memory, all of it */
    uint8_t *input;
    void *x, *qkv, *ctx, *y, *mid;
    void *down_wide;                /* the layer's `down` as bf16, where it is held in 4 bits */
    void *x_first, *q_first;        /* [CLS] rows of the last layer */
    void *x8, *x8_first;            /* x in 8 bits, where products want that; otherwise NULL */
    float *x_scale, *x_scale_first; /* of its rows, where that is int8 */
    float *last, *pooled, *logits;
    size_t input_bytes;

    uint8_t *input_host, *output_host; /* pinned */
    size_t output_host_bytes;

    cpl_cuda_layer_products *layers;
    cpl_cuda_product keys_values, query_first, out_first, up_first, down_first;
    cpl_cuda_small small;
    cpl_cuda_small_layer *small_layers; /* on the device */

    cpl_cuda_graph graphs[CPL_CUDA_GRAPHS];
    uint64_t runs;
    uint32_t warm; /* wants that ran once already: their kernels are loaded */
    cpl_cuda_mark_fn *mark;
    void *mark_arg;
};

/* Hands out aligned pieces of one block; with base NULL it only counts. */
typedef struct cpl_cuda_bump {
    char *base;
    size_t used;
} cpl_cuda_bump;

void *cpl_cuda_take(cpl_cuda_bump *b, size_t bytes);

/* Fills *err from what a CUDA call returned: out of memory, device lost, or internal; `what` was being done. */
cpl_status cpl_cuda_fail(const cpl_host *host, cpl_error *err, cudaError_t e, const char *what);
/* cudaMalloc with the numbers in the error. */
cpl_status cpl_cuda_allocate(void **out, size_t bytes, const char *what, const cpl_host *host, cpl_error *err);

/* Launches every kernel of a pass on the session's stream, input copy first; what follows the copy waits for `after`,
 * where that is given. */
cudaError_t cpl_cuda_forward(cpl_session *s, const cpl_cuda_plan *plan, cudaEvent_t after);

cpl_status cpl_cuda_probe(cpl_caps *out, const cpl_host *host, cpl_error *err);
cpl_status cpl_cuda_load(cpl_weights **out, const cpl_model *model, const cpl_load_options *options,
                         cpl_load_report *report, const cpl_host *host, cpl_error *err);
void cpl_cuda_unload(cpl_weights *w);
cpl_status cpl_cuda_open(cpl_session **out, cpl_weights *w, cpl_error *err);
void cpl_cuda_close(cpl_session *s);
cpl_status cpl_cuda_run(cpl_session *s, const cpl_batch *batch, cpl_team *team, float *rows, cpl_error *err);

/* The longest prefix of what run does that needs no device wait: checks the batch, writes the input, plans. */
cpl_status cpl_cuda_prepare(cpl_session *s, const cpl_batch *batch, cpl_cuda_plan *plan, cpl_error *err);

extern const cpl_backend cpl_backend_cuda;

#endif
