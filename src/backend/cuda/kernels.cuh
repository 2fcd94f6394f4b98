/* SPDX-License-Identifier: Apache-2.0 */
/* kernels.cuh - the device work of a forward pass, one launch function a kind of kernel.
 *
 * How many rows there are, the kernels read from the device (cpl_cuda_counts), so a captured graph serves any pass that
 * is no larger than the bounds it was captured with; the host gives only bounds. Matrices are row-major; activations
 * have rows up to a multiple of CPL_CUDA_ROWS allocated, so that whole tiles may be written. Launches return what
 * cudaGetLastError says and wait for nothing. */
#ifndef CPL_BACKEND_CUDA_KERNELS_CUH
#define CPL_BACKEND_CUDA_KERNELS_CUH

#include <cuda.h>
#include <cuda_runtime.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/cuda/order.h"

enum { CPL_CUDA_ROWS = 256 };    /* activations are allocated in whole tiles of so many rows */
enum { CPL_CUDA_COLUMNS = 256 }; /* and biases padded with zeros to whole tiles of so many columns */

/* FP8 (e4m3) and INT8: operands of products only. */
typedef enum cpl_cuda_type { CPL_CUDA_FP32, CPL_CUDA_BF16, CPL_CUDA_FP16, CPL_CUDA_FP8, CPL_CUDA_INT8 } cpl_cuda_type;
static inline size_t cpl_cuda_element_bytes(cpl_cuda_type t)
{
    return t == CPL_CUDA_FP32 ? 4 : t == CPL_CUDA_FP8 || t == CPL_CUDA_INT8 ? 1 : 2;
}

typedef struct cpl_cuda_counts {
    uint32_t tokens, sequences, items, padding;
} cpl_cuda_counts;

/* What a token is, as uploaded. */
typedef struct cpl_cuda_token {
    int32_t id;
    uint16_t position;
    uint16_t type;
} cpl_cuda_token;

/* 128 query rows of attention: `heads` (1, 2 or 4) heads from `head` on, 128 / heads queries each from `query` on, of
 * the sequence of `length` tokens that starts at row `start`. The split depends on the sequence's own length only. */
typedef struct cpl_cuda_item {
    uint32_t start, length;
    uint16_t query, head, heads, padding;
} cpl_cuda_item;

/* One matrix product: out[rows, n] = activation(a[rows, k] w[n, k]^T + bias). 16-bit or fp32 throughout, or operands in
 * e4m3 with the sums times scale[n] and the result bf16 or, in the order of cpl_cuda_middle_column, e4m3 again, or in
 * int8 with exact sums times row_scale[row] scale[n] and the result bf16. Other sums in fp32, K in rising order in
 * steps that don't depend on the number of rows. */
typedef struct cpl_cuda_product {
    cpl_cuda_type type, out_type;
    int epilogue; /* cpl_cuda_epilogue */
    uint32_t n, k;
    const void *a, *w;
    void *out;
    uint32_t a_stride, out_stride; /* elements */
    const float *bias;             /* n rounded up to CPL_CUDA_COLUMNS */
    const float *scale;            /* as many; of FP8 and INT8 */
    const float *row_scale;        /* of rows of a, as many as are allocated; of INT8 */
    /* sm_90a: a in boxes of 64 rows, w in boxes of 192 and of 64 rows, out in boxes of 16 x 64. */
    CUtensorMap a_map, w_map_192, w_map_64, out_map;
} cpl_cuda_product;

typedef struct cpl_cuda_norm {
    const float *weight, *bias;
    float epsilon;
} cpl_cuda_norm;

typedef struct cpl_cuda_device {
    int index, multiprocessors;
    int wgmma; /* 1: the sm_90a kernels run here */
    int early; /* 1: kernels may be brought in while the one before them finishes */
    int fp8;   /* 1: mma.sync takes e4m3 here */
} cpl_cuda_device;

/* Where kernels go. early: launch.cuh. reverse: last rows first, so that a kernel starts with what the one before it
 * wrote last, which L2 still holds (kernels that follow each other alternate; what they compute is the same). */
typedef struct cpl_cuda_queue {
    cudaStream_t stream;
    int early, reverse;
} cpl_cuda_queue;

/* The device kernels run on: asks the driver once per kernel for its shared memory. */
cudaError_t cpl_cuda_kernels_prepare(const cpl_cuda_device *d);

/* A map of rows x columns elements, rows `stride` apart, in boxes of box_rows x 128 bytes, swizzled as wgmma reads
 * them. */
cudaError_t cpl_cuda_tensor_map(CUtensorMap *map, cpl_cuda_type type, const void *data, uint32_t rows, uint32_t columns,
                                uint32_t stride, uint32_t box_rows);
/* Fills the four maps. Any thread; CUDA's own code when the driver refuses. */
cudaError_t cpl_cuda_product_map(cpl_cuda_product *p, uint32_t a_rows, uint32_t out_rows);

/* *rows lies on the device; rows_max bounds it. wgmma: use the sm_90a kernels. variant: 0 chooses by rows_max. */
cudaError_t cpl_cuda_multiply(const cpl_cuda_product *p, const uint32_t *rows, uint32_t rows_max,
                              const cpl_cuda_device *d, int variant, cpl_cuda_queue queue);
cudaError_t cpl_cuda_multiply_wgmma(const cpl_cuda_product *p, const uint32_t *rows, uint32_t rows_max,
                                    const cpl_cuda_device *d, int variant, cpl_cuda_queue queue);
cudaError_t cpl_cuda_multiply_mma(const cpl_cuda_product *p, const uint32_t *rows, uint32_t rows_max,
                                  cpl_cuda_queue queue);
cudaError_t cpl_cuda_multiply_fp32(const cpl_cuda_product *p, const uint32_t *rows, uint32_t rows_max,
                                   cpl_cuda_queue queue);
cudaError_t cpl_cuda_prepare_wgmma(void);
cudaError_t cpl_cuda_prepare_mma(void);

/* Attention of every token over its sequence. qkv: rows of 3 x width (q, k, v; heads of `head_size` columns). ctx: rows
 * of width columns; with a 16-bit type in the order that cpl_cuda_context_column gives inside each 32. */
cudaError_t cpl_cuda_attend(cpl_cuda_type type, cpl_cuda_type ctx_type, const void *qkv, void *ctx, uint32_t width,
                            uint32_t head_size, float scale, const cpl_cuda_item *items, const cpl_cuda_counts *counts,
                            uint32_t items_max, cpl_cuda_queue queue);
/* Of the first token of every sequence alone: q has one row a sequence (width columns), so has ctx. */
cudaError_t cpl_cuda_attend_first(cpl_cuda_type type, cpl_cuda_type ctx_type, const void *q, const void *qkv, void *ctx,
                                  uint32_t width, uint32_t head_size, float scale, const uint32_t *cu_seqlens,
                                  const cpl_cuda_counts *counts, uint32_t sequences_max, cpl_cuda_queue queue);
/* A second form of rows of a norm's results, for products of 8 bits: e4m3, or int8 of fma(x, mul, add) by column with a
 * scale a row. to NULL: none. */
typedef struct cpl_cuda_eight {
    cpl_cuda_type type;
    void *to;
    const float *mul, *add; /* of INT8 */
    float *scale;           /* likewise: out, one a row */
} cpl_cuda_eight;

/* x = norm(word + position + type) by token, and to `eight`. Tables: word as T, others fp32. */
cudaError_t cpl_cuda_embed(cpl_cuda_type type, void *x, cpl_cuda_eight eight, uint32_t hidden,
                           const cpl_cuda_token *tokens, const void *word, const float *position,
                           const float *type_table, cpl_cuda_norm norm, const cpl_cuda_counts *counts,
                           uint32_t tokens_max, cpl_cuda_queue queue);
/* x = norm(x + y), to x (and to `eight`), or as fp32 to `out` where that is given. */
cudaError_t cpl_cuda_add_norm(cpl_cuda_type type, void *x, cpl_cuda_eight eight, const void *y, float *out,
                              uint32_t hidden, cpl_cuda_norm norm, const uint32_t *rows, uint32_t rows_max,
                              cpl_cuda_queue queue);
/* to[i] = x[cu_seqlens[i]], rows of `hidden` elements of a type; a multiple of 4 bytes. */
cudaError_t cpl_cuda_gather_first(cpl_cuda_type type, void *to, const void *x, uint32_t hidden,
                                  const uint32_t *cu_seqlens, const cpl_cuda_counts *counts, uint32_t sequences_max,
                                  cpl_cuda_queue queue);
/* out[i] = mean or maximum of the rows of sequence i, rows in rising order. */
cudaError_t cpl_cuda_pool(float *out, const float *x, uint32_t hidden, int maximum, const uint32_t *cu_seqlens,
                          const cpl_cuda_counts *counts, uint32_t sequences_max, cpl_cuda_queue queue);
/* to[i, k] = bf16 of (nibble x by - less) x scale[i]: a matrix of 4 bits (cpl_cuda_pack_four), n by k, k a multiple of
 * 16. */
cudaError_t cpl_cuda_widen_four(void *to, const void *nibbles, const uint8_t *groups, const float *scale, uint32_t n,
                                uint32_t k, cpl_cuda_queue queue);
/* out[i] = tanh(w x[i] + b), fp32 throughout */
cudaError_t cpl_cuda_pooler(float *out, const float *x, const float *w, const float *b, uint32_t hidden,
                            const cpl_cuda_counts *counts, uint32_t sequences_max, cpl_cuda_queue queue);
/* out[i, l] = x[i] . w[l] + b[l] */
cudaError_t cpl_cuda_classify(float *out, const float *x, const float *w, const float *b, uint32_t hidden,
                              uint32_t labels, const cpl_cuda_counts *counts, uint32_t sequences_max,
                              cpl_cuda_queue queue);

#endif
