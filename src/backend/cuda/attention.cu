/* SPDX-License-Identifier: Apache-2.0 */
/* attention.cu - softmax(q k^T / sqrt(d)) v over packed sequences, heads of 32 and 64.
 *
 * 16-bit: four warps, 32 query rows of a head each; keys and values of 128 head rows at a time in shared memory, sums
 * on the matrix units, softmax online in fp32 base 2. A block takes 4 heads of a sequence of up to 32 tokens, 2 of up
 * to 64, else 128 queries of one head, so short sequences fill it too.
 *
 * The trick: a contraction may take its elements in any order as long as both sides agree, so q and k are taken eight
 * neighbouring columns a lane, plain 16-byte loads, no ldmatrix. Likewise a lane's eight results of 32 columns are
 * stored side by side, 16 bytes; the output projection has its columns in the same order (cpl_cuda_context_column).
 *
 * One query (the [CLS] row of a last layer) and fp32: a warp a query, eight keys by four column chunks across its
 * lanes.
 *
 * Invariant: which keys are summed in which order depends on the sequence alone. Rows past a sequence's end are read as
 * zeros or as its last row, and never written. */
#include "backend/cuda/device.cuh"
#include "backend/cuda/kernels.cuh"
#include "backend/cuda/launch.cuh"

enum { THREADS = 128, HEAD_ROWS = 128 };

__device__ __forceinline__ uint32_t address_of(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

/* Byte of 16-byte chunk c of key row r: no two lanes of a quarter warp in one bank. */
template <int D> __device__ __forceinline__ uint32_t key_at(uint32_t r, uint32_t c)
{
    return r * D * 2 + (D == 64 ? c ^ (r & 1) << 2 : c) * 16;
}
template <int D> __device__ __forceinline__ uint32_t value_at(uint32_t r, uint32_t c)
{
    return r * (D * 2 + 16) + c * 16;
}

template <typename T, int D> struct block_state {
    uint32_t q[D / 32][2][4][2]; /* [32 columns][16 rows][word of 8 columns][row, row + 8] */
    float out[2][D / 8][4];
    float most[2][2], sum[2][2];
};

template <typename T, int D>
__device__ __forceinline__ void load_queries(block_state<T, D> &s, const T *q, uint32_t stride, uint32_t row,
                                             uint32_t length)
{
    const uint32_t lane = threadIdx.x & 31;
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const uint32_t r = min(row + 16 * m + 8 * h + (lane >> 2), length - 1);
#pragma unroll
            for (int g = 0; g < D / 32; g++) {
                const uint4 v = __ldg((const uint4 *)(q + (size_t)r * stride + 32 * g + 8 * (lane & 3)));
                s.q[g][m][0][h] = v.x;
                s.q[g][m][1][h] = v.y;
                s.q[g][m][2][h] = v.z;
                s.q[g][m][3][h] = v.w;
            }
            s.most[m][h] = -INFINITY;
            s.sum[m][h] = 0;
        }
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int j = 0; j < D / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) s.out[m][j][e] = 0;
}

/* 8 N keys from row `row` of the chunk on; the first `left` of them exist. scale: with log2(e) in it. */
template <typename T, int D, int N>
__device__ __forceinline__ void attend_keys(block_state<T, D> &s, uint32_t keys, uint32_t values, uint32_t row,
                                            int left, float scale)
{
    const uint32_t lane = threadIdx.x & 31;
    float p[2][N][4];
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
        for (int m = 0; m < 2; m++)
#pragma unroll
            for (int e = 0; e < 4; e++) p[m][n][e] = 0;
#pragma unroll
        for (int g = 0; g < D / 32; g++) {
            uint32_t k[4];
            const uint32_t from = keys + key_at<D>(row + 8 * n + (lane >> 2), 4 * g + (lane & 3));
            asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];"
                         : "=r"(k[0]), "=r"(k[1]), "=r"(k[2]), "=r"(k[3])
                         : "r"(from)
                         : "memory");
#pragma unroll
            for (int m = 0; m < 2; m++) {
                const uint32_t a[4] = {s.q[g][m][0][0], s.q[g][m][0][1], s.q[g][m][1][0], s.q[g][m][1][1]};
                const uint32_t b[4] = {s.q[g][m][2][0], s.q[g][m][2][1], s.q[g][m][3][0], s.q[g][m][3][1]};
                mma16816<T>(p[m][n], a, k[0], k[1]);
                mma16816<T>(p[m][n], b, k[2], k[3]);
            }
        }
        if (left < 8 * N) {
#pragma unroll
            for (int m = 0; m < 2; m++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    if (8 * n + 2 * (int)(lane & 3) + (e & 1) >= left) p[m][n][e] = -INFINITY;
        }
    }
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float most = s.most[m][h];
#pragma unroll
            for (int n = 0; n < N; n++) most = fmaxf(most, fmaxf(p[m][n][2 * h], p[m][n][2 * h + 1]));
            most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
            most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
            const float shrink = exp2_fast((s.most[m][h] - most) * scale), offset = most * scale;
            float sum = 0;
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int e = 2 * h; e < 2 * h + 2; e++) {
                    p[m][n][e] = exp2_fast(fmaf(p[m][n][e], scale, -offset));
                    sum += p[m][n][e];
                }
            s.sum[m][h] = fmaf(s.sum[m][h], shrink, sum);
            s.most[m][h] = most;
#pragma unroll
            for (int j = 0; j < D / 8; j++) {
                s.out[m][j][2 * h] *= shrink;
                s.out[m][j][2 * h + 1] *= shrink;
            }
        }
#pragma unroll
    for (int n = 0; n < N; n += 2) {
        uint32_t a[2][4];
#pragma unroll
        for (int m = 0; m < 2; m++) {
            a[m][0] = pack2<T>(p[m][n][0], p[m][n][1]);
            a[m][1] = pack2<T>(p[m][n][2], p[m][n][3]);
            a[m][2] = pack2<T>(p[m][n + 1][0], p[m][n + 1][1]);
            a[m][3] = pack2<T>(p[m][n + 1][2], p[m][n + 1][3]);
        }
#pragma unroll
        for (int j = 0; j < D / 8; j += 2) {
            uint32_t v[4];
            ldmatrix4_transposed(v,
                                 values + value_at<D>(row + 8 * n + (lane >> 3 & 1) * 8 + (lane & 7), j + (lane >> 4)));
#pragma unroll
            for (int m = 0; m < 2; m++) {
                mma16816<T>(s.out[m][j], a[m], v[0], v[1]);
                mma16816<T>(s.out[m][j + 1], a[m], v[2], v[3]);
            }
        }
    }
}

template <typename T, int D>
__device__ __forceinline__ void store_context(block_state<T, D> &s, T *ctx, uint32_t stride, uint32_t row,
                                              uint32_t length)
{
    const uint32_t lane = threadIdx.x & 31;
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float sum = s.sum[m][h];
            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            const float f = 1.0f / sum;
            const uint32_t r = row + 16 * m + 8 * h + (lane >> 2);
            if (r >= length) continue;
#pragma unroll
            for (int g = 0; g < D / 32; g++) {
                uint32_t w[4];
#pragma unroll
                for (int j = 0; j < 4; j++)
                    w[j] = pack2<T>(s.out[m][4 * g + j][2 * h] * f, s.out[m][4 * g + j][2 * h + 1] * f);
                *(uint4 *)(ctx + (size_t)r * stride + 32 * g + 8 * (lane & 3)) = make_uint4(w[0], w[1], w[2], w[3]);
            }
        }
}

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

template <typename T, int D>
__global__ void __launch_bounds__(THREADS)
    attend_kernel(const T *__restrict__ qkv, T *__restrict__ ctx, uint32_t width, float scale,
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
    block_state<T, D> s;
    load_keys<T, D>(keys, values, qkv, width, it, 0, room);
    if (busy) load_queries<T, D>(s, qkv + (size_t)it.start * 3 * width + head * D, 3 * width, query, it.length);
    for (uint32_t from = 0;; from += room) {
        copy_wait<0>();
        __syncthreads();
        if (busy) {
            const int end = (int)min(it.length - from, room);
            const uint32_t base = first / room * room;
            int at = 0;
            for (; at + 16 < end; at += 32) attend_keys<T, D, 4>(s, keys, values, base + at, end - at, scale);
            if (at < end) attend_keys<T, D, 2>(s, keys, values, base + at, end - at, scale);
        }
        if (from + room >= it.length) break;
        __syncthreads();
        load_keys<T, D>(keys, values, qkv, width, it, from + room, room);
    }
    if (busy) store_context<T, D>(s, ctx + (size_t)it.start * width + head * D, width, query, it.length);
}

/* ---- a warp a query -------------------------------------------------------------------------------------------------
 */

/* Eight neighbours. */
template <typename T> __device__ __forceinline__ void load8(float (&v)[8], const T *p)
{
    const float4 a = load4(p), b = load4(p + 4);
    v[0] = a.x;
    v[1] = a.y;
    v[2] = a.z;
    v[3] = a.w;
    v[4] = b.x;
    v[5] = b.y;
    v[6] = b.z;
    v[7] = b.w;
}

/* Lane (g, t) = (lane / 4, lane % 4) takes keys g + 8 i and columns 8 t + 32 c .. + 7. */
template <typename T, int D>
__device__ __forceinline__ void attend_row(const T *q, const T *k, const T *v, uint32_t stride, uint32_t length,
                                           float scale, T *ctx)
{
    const uint32_t lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    float query[D / 32][8], out[D / 32][8] = {}, most = -INFINITY, sum = 0;
#pragma unroll
    for (int c = 0; c < D / 32; c++) load8(query[c], q + 32 * c + 8 * t);
    for (uint32_t from = 0; from < length; from += 32) {
        float p[4], top = most;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint32_t key = from + 8 * i + g;
            float dot = 0;
#pragma unroll
            for (int c = 0; c < D / 32; c++) {
                float row[8];
                load8(row, k + (size_t)min(key, length - 1) * stride + 32 * c + 8 * t);
#pragma unroll
                for (int e = 0; e < 8; e++) dot = fmaf(query[c][e], row[e], dot);
            }
            dot += __shfl_xor_sync(0xffffffffu, dot, 1);
            dot += __shfl_xor_sync(0xffffffffu, dot, 2);
            p[i] = key < length ? dot : -INFINITY;
            top = fmaxf(top, p[i]);
        }
        top = warp_max(top);
        const float shrink = exp2f((most - top) * scale);
        most = top;
        sum *= shrink;
#pragma unroll
        for (int c = 0; c < D / 32; c++)
#pragma unroll
            for (int e = 0; e < 8; e++) out[c][e] *= shrink;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint32_t key = from + 8 * i + g;
            const float f = exp2f((p[i] - most) * scale);
            sum += f;
#pragma unroll
            for (int c = 0; c < D / 32; c++) {
                float row[8];
                load8(row, v + (size_t)min(key, length - 1) * stride + 32 * c + 8 * t);
#pragma unroll
                for (int e = 0; e < 8; e++) out[c][e] = fmaf(f, row[e], out[c][e]);
            }
        }
    }
#pragma unroll
    for (int d = 4; d < 32; d <<= 1) {
        sum += __shfl_xor_sync(0xffffffffu, sum, d);
#pragma unroll
        for (int c = 0; c < D / 32; c++)
#pragma unroll
            for (int e = 0; e < 8; e++) out[c][e] += __shfl_xor_sync(0xffffffffu, out[c][e], d);
    }
#pragma unroll
    for (int c = 0; c < D / 32; c++) {
        if constexpr (sizeof(T) == 4) {
            if (g < 2) {
                const int e = 4 * g;
                store4(ctx + 32 * c + 8 * t + 4 * g,
                       e ? make_float4(out[c][4] / sum, out[c][5] / sum, out[c][6] / sum, out[c][7] / sum)
                         : make_float4(out[c][0] / sum, out[c][1] / sum, out[c][2] / sum, out[c][3] / sum));
            }
        } else {
#pragma unroll
            for (int e = 0; e < 4; e++) /* columns 8 t + 2 e stand at 8 e + 2 t */
                if (g == (uint32_t)e)
                    *(uint32_t *)(ctx + 32 * c + 8 * e + 2 * t) =
                        pack2<T>(out[c][2 * e] / sum, out[c][2 * e + 1] / sum);
        }
    }
}

template <typename T, int D>
__global__ void __launch_bounds__(THREADS)
    attend_first_kernel(const T *__restrict__ q, const T *__restrict__ qkv, T *__restrict__ ctx, uint32_t width,
                        float scale, const uint32_t *__restrict__ cu, const uint32_t *__restrict__ sequences)
{
    grid_begin();
    const uint32_t heads = width / D, unit = blockIdx.x * (THREADS / 32) + (threadIdx.x >> 5), i = unit / heads;
    if (i >= *sequences) return;
    const uint32_t column = unit % heads * D, start = cu[i], length = cu[i + 1] - start;
    const T *row = qkv + (size_t)start * 3 * width + column;
    attend_row<T, D>(q + (size_t)i * width + column, row + width, row + 2 * width, 3 * width, length, scale,
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
        attend_row<float, D>(row + (size_t)r * 3 * width, row + width, row + 2 * width, 3 * width, it.length, scale,
                             ctx + (size_t)(it.start + r) * width + column);
}

/* ---- host ----------------------------------------------------------------------------------------------------------
 */

static const float LOG2_E = 1.4426950408889634f;

template <typename T, int D>
static void attend(const void *qkv, void *ctx, uint32_t width, float scale, const cpl_cuda_item *items,
                   const cpl_cuda_counts *counts, uint32_t items_max, cpl_cuda_queue queue)
{
    if constexpr (sizeof(T) == 4)
        cpl_cuda_start(attend_fp32_kernel<D>, dim3(items_max), THREADS, 0, queue, 1, (const float *)qkv, (float *)ctx,
                       width, scale * LOG2_E, items, counts);
    else
        cpl_cuda_start(attend_kernel<T, D>, dim3(items_max), THREADS, 0, queue, 1, (const T *)qkv, (T *)ctx, width,
                       scale * LOG2_E, items, counts, queue.reverse);
}

template <typename T>
static cudaError_t attend_type(const void *qkv, void *ctx, uint32_t width, uint32_t head_size, float scale,
                               const cpl_cuda_item *items, const cpl_cuda_counts *counts, uint32_t items_max,
                               cpl_cuda_queue queue)
{
    if (head_size == 32)
        attend<T, 32>(qkv, ctx, width, scale, items, counts, items_max, queue);
    else if (head_size == 64)
        attend<T, 64>(qkv, ctx, width, scale, items, counts, items_max, queue);
    else
        return cudaErrorInvalidValue;
    return cudaGetLastError();
}

cudaError_t cpl_cuda_attend(cpl_cuda_type type, const void *qkv, void *ctx, uint32_t width, uint32_t head_size,
                            float scale, const cpl_cuda_item *items, const cpl_cuda_counts *counts, uint32_t items_max,
                            cpl_cuda_queue queue)
{
    if (type == CPL_CUDA_BF16)
        return attend_type<bf16>(qkv, ctx, width, head_size, scale, items, counts, items_max, queue);
    if (type == CPL_CUDA_FP16)
        return attend_type<fp16>(qkv, ctx, width, head_size, scale, items, counts, items_max, queue);
    return attend_type<float>(qkv, ctx, width, head_size, scale, items, counts, items_max, queue);
}

template <typename T>
static cudaError_t attend_first(const void *q, const void *qkv, void *ctx, uint32_t width, uint32_t head_size,
                                float scale, const uint32_t *cu, const uint32_t *sequences, uint32_t max,
                                cpl_cuda_queue queue)
{
    const uint32_t warps = THREADS / 32, blocks = (max * (width / head_size) + warps - 1) / warps;
    if (head_size == 32)
        cpl_cuda_start(attend_first_kernel<T, 32>, dim3(blocks), THREADS, 0, queue, 1, (const T *)q, (const T *)qkv,
                       (T *)ctx, width, scale * LOG2_E, cu, sequences);
    else if (head_size == 64)
        cpl_cuda_start(attend_first_kernel<T, 64>, dim3(blocks), THREADS, 0, queue, 1, (const T *)q, (const T *)qkv,
                       (T *)ctx, width, scale * LOG2_E, cu, sequences);
    else
        return cudaErrorInvalidValue;
    return cudaGetLastError();
}

cudaError_t cpl_cuda_attend_first(cpl_cuda_type type, const void *q, const void *qkv, void *ctx, uint32_t width,
                                  uint32_t head_size, float scale, const uint32_t *cu_seqlens,
                                  const cpl_cuda_counts *counts, uint32_t sequences_max, cpl_cuda_queue queue)
{
    const uint32_t *n = &counts->sequences;
    if (type == CPL_CUDA_BF16)
        return attend_first<bf16>(q, qkv, ctx, width, head_size, scale, cu_seqlens, n, sequences_max, queue);
    if (type == CPL_CUDA_FP16)
        return attend_first<fp16>(q, qkv, ctx, width, head_size, scale, cu_seqlens, n, sequences_max, queue);
    return attend_first<float>(q, qkv, ctx, width, head_size, scale, cu_seqlens, n, sequences_max, queue);
}
