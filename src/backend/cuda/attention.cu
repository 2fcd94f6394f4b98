/* SPDX-License-Identifier: Apache-2.0 */
/* attention.cu - softmax(q k^T / sqrt(d)) v over packed sequences, heads of 32 and 64.
 *
 * 16-bit: four warps, 32 query rows of a head each; keys and values of 128 head rows at a time in shared memory, sums
 * on the matrix units, softmax online in fp32 base 2. A block takes 4 heads of a sequence of up to 32 tokens, 2 of up
 * to 64, else 128 queries of one head, so short sequences fill it too.
 *
 * One query (the [CLS] row of a last layer) and fp32: a warp a query, eight keys by four column chunks across its
 * lanes.
 *
 * Invariant: which keys are summed in which order depends on the sequence alone. Rows past a sequence's end are read as
 * zeros or as its last row, and never written. */
#include "backend/cuda/attention.cuh"
#include "backend/cuda/kernels.cuh"
#include "backend/cuda/launch.cuh"

enum { THREADS = 128, HEAD_ROWS = 128 };

/* Keys [from, from + room) of the item's heads; rows that don't exist become zeros. */
template <typename T, int D>
__device__ __forceinline__ void load_keys(uint32_t keys, uint32_t values, const T *qkv, uint32_t width,
                                          const cpl_cuda_item &it, uint32_t from, uint32_t room)
{
    constexpr uint32_t CHUNKS = D / 8;
#pragma unroll
    for (uint32_t i = 0; i < HEAD_ROWS * CHUNKS / THREADS; i++) {
        const uint32_t unit = threadIdx.x + i * THREADS, r = unit / CHUNKS, c = unit % CHUNKS;
        const uint32_t head = r / room, key = from + r % room, column = (it.head + head) * D;
        const bool in = key < it.length && column < width;
        const T *p = qkv + (in ? (size_t)(it.start + key) * 3 * width + column + 8 * c : 0);
        copy16(keys + key_at<D>(r, c), p + width, in);
        copy16(values + value_at<D>(r, c), p + 2 * width, in);
    }
    copy_commit();
}

template <typename T, int D, typename O>
__global__ void __launch_bounds__(THREADS)
    attend_kernel(const T *__restrict__ qkv, O *__restrict__ ctx, uint32_t width, float scale,
                  const cpl_cuda_item *__restrict__ items, const cpl_cuda_counts *__restrict__ counts, int reverse)
{
    __shared__ __align__(128) uint8_t key_room[HEAD_ROWS * D * 2];
    __shared__ __align__(128) uint8_t value_room[HEAD_ROWS * (D * 2 + 16)];
    grid_begin();
    if (blockIdx.x >= counts->items) return;
    const cpl_cuda_item it = items[reverse ? counts->items - 1 - blockIdx.x : blockIdx.x];
    const uint32_t keys = address_of(key_room), values = address_of(value_room), warp = threadIdx.x >> 5;
    const uint32_t room = HEAD_ROWS / it.heads, first = warp * 32, head = it.head + first / room;
    const uint32_t query = it.query + first % room;
    const bool busy = query < it.length && head * D < width;
    block_state<T, D, 2> s;
    load_keys<T, D>(keys, values, qkv, width, it, 0, room);
    if (busy) load_queries<T, D, 2>(s, qkv + (size_t)it.start * 3 * width + head * D, 3 * width, query, it.length);
    for (uint32_t from = 0;; from += room) {
        copy_wait<0>();
        __syncthreads();
        if (busy) {
            const int end = (int)min(it.length - from, room);
            const uint32_t base = first / room * room;
            int at = 0;
            for (; at + 16 < end; at += 32) attend_keys<T, D, 2, 4>(s, keys, values, base + at, end - at, scale);
            if (at < end) attend_keys<T, D, 2, 2>(s, keys, values, base + at, end - at, scale);
        }
        if (from + room >= it.length) break;
        __syncthreads();
        load_keys<T, D>(keys, values, qkv, width, it, from + room, room);
    }
    if (busy) store_context<T, D, 2>(s, ctx + (size_t)it.start * width + head * D, width, query, it.length);
}

template <typename T, int D, typename O>
__global__ void __launch_bounds__(THREADS)
    attend_first_kernel(const T *__restrict__ q, const T *__restrict__ qkv, O *__restrict__ ctx, uint32_t width,
                        float scale, const uint32_t *__restrict__ cu, const uint32_t *__restrict__ sequences)
{
    grid_begin();
    const uint32_t heads = width / D, unit = blockIdx.x * (THREADS / 32) + (threadIdx.x >> 5), i = unit / heads;
    if (i >= *sequences) return;
    const uint32_t column = unit % heads * D, start = cu[i], length = cu[i + 1] - start;
    const T *row = qkv + (size_t)start * 3 * width + column;
    attend_row<T, D>(q + (size_t)i * width + column, row + width, 3 * width, row + 2 * width, 3 * width, length, scale,
                     ctx + (size_t)i * width + column);
}

template <int D>
__global__ void __launch_bounds__(THREADS)
    attend_fp32_kernel(const float *__restrict__ qkv, float *__restrict__ ctx, uint32_t width, float scale,
                       const cpl_cuda_item *__restrict__ items, const cpl_cuda_counts *__restrict__ counts)
{
    grid_begin();
    if (blockIdx.x >= counts->items) return;
    const cpl_cuda_item it = items[blockIdx.x];
    const uint32_t room = HEAD_ROWS / it.heads, first = (threadIdx.x >> 5) * 32, column = (it.head + first / room) * D;
    const uint32_t query = it.query + first % room;
    if (column >= width) return;
    const float *row = qkv + (size_t)it.start * 3 * width + column;
    for (uint32_t r = query; r < query + 32 && r < it.length; r++)
        attend_row<float, D>(row + (size_t)r * 3 * width, row + width, 3 * width, row + 2 * width, 3 * width, it.length,
                             scale, ctx + (size_t)(it.start + r) * width + column);
}

/* ---- host ----------------------------------------------------------------------------------------------------------
 */

static const float LOG2_E = 1.4426950408889634f;

template <typename T, typename O, int D>
static void attend(const void *qkv, void *ctx, uint32_t width, float scale, const cpl_cuda_item *items,
                   const cpl_cuda_counts *counts, uint32_t items_max, cpl_cuda_queue queue)
{
    if constexpr (sizeof(T) == 4)
        cpl_cuda_start(attend_fp32_kernel<D>, dim3(items_max), THREADS, 0, queue, 1, (const float *)qkv, (float *)ctx,
                       width, scale * LOG2_E, items, counts);
    else
        cpl_cuda_start(attend_kernel<T, D, O>, dim3(items_max), THREADS, 0, queue, 1, (const T *)qkv, (O *)ctx, width,
                       scale * LOG2_E, items, counts, queue.reverse);
}

template <typename T, typename O>
static cudaError_t attend_type(const void *qkv, void *ctx, uint32_t width, uint32_t head_size, float scale,
                               const cpl_cuda_item *items, const cpl_cuda_counts *counts, uint32_t items_max,
                               cpl_cuda_queue queue)
{
    if (head_size == 32)
        attend<T, O, 32>(qkv, ctx, width, scale, items, counts, items_max, queue);
    else if (head_size == 64)
        attend<T, O, 64>(qkv, ctx, width, scale, items, counts, items_max, queue);
    else
        return cudaErrorInvalidValue;
    return cudaGetLastError();
}

cudaError_t cpl_cuda_attend(cpl_cuda_type type, cpl_cuda_type ctx_type, const void *qkv, void *ctx, uint32_t width,
                            uint32_t head_size, float scale, const cpl_cuda_item *items, const cpl_cuda_counts *counts,
                            uint32_t items_max, cpl_cuda_queue queue)
{
    if (ctx_type == CPL_CUDA_FP8)
        return attend_type<bf16, e4m3>(qkv, ctx, width, head_size, scale, items, counts, items_max, queue);
    if (type == CPL_CUDA_BF16)
        return attend_type<bf16, bf16>(qkv, ctx, width, head_size, scale, items, counts, items_max, queue);
    if (type == CPL_CUDA_FP16)
        return attend_type<fp16, fp16>(qkv, ctx, width, head_size, scale, items, counts, items_max, queue);
    return attend_type<float, float>(qkv, ctx, width, head_size, scale, items, counts, items_max, queue);
}

template <typename T, typename O>
static cudaError_t attend_first(const void *q, const void *qkv, void *ctx, uint32_t width, uint32_t head_size,
                                float scale, const uint32_t *cu, const uint32_t *sequences, uint32_t max,
                                cpl_cuda_queue queue)
{
    const uint32_t warps = THREADS / 32, blocks = (max * (width / head_size) + warps - 1) / warps;
    if (head_size != 32 && head_size != 64) return cudaErrorInvalidValue;
    cpl_cuda_start(head_size == 32 ? attend_first_kernel<T, 32, O> : attend_first_kernel<T, 64, O>, dim3(blocks),
                   THREADS, 0, queue, 1, (const T *)q, (const T *)qkv, (O *)ctx, width, scale * LOG2_E, cu, sequences);
    return cudaGetLastError();
}

cudaError_t cpl_cuda_attend_first(cpl_cuda_type type, cpl_cuda_type ctx_type, const void *q, const void *qkv, void *ctx,
                                  uint32_t width, uint32_t head_size, float scale, const uint32_t *cu_seqlens,
                                  const cpl_cuda_counts *counts, uint32_t sequences_max, cpl_cuda_queue queue)
{
    const uint32_t *n = &counts->sequences;
    if (ctx_type == CPL_CUDA_FP8)
        return attend_first<bf16, e4m3>(q, qkv, ctx, width, head_size, scale, cu_seqlens, n, sequences_max, queue);
    if (type == CPL_CUDA_BF16)
        return attend_first<bf16, bf16>(q, qkv, ctx, width, head_size, scale, cu_seqlens, n, sequences_max, queue);
    if (type == CPL_CUDA_FP16)
        return attend_first<fp16, fp16>(q, qkv, ctx, width, head_size, scale, cu_seqlens, n, sequences_max, queue);
    return attend_first<float, float>(q, qkv, ctx, width, head_size, scale, cu_seqlens, n, sequences_max, queue);
}
