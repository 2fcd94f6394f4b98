/* SPDX-License-Identifier: Apache-2.0 */
/* rows.cu - everything that goes row by row: embedding and norms (a warp a row), gathering, pooling, the classifier.
 *
 * A lane holds columns 4 lane + 128 i, so a warp reads whole lines. Mean and variance are taken in registers, two
 * passes, by one fixed tree: a row's bits depend on the row alone. Statistics are fp32 whatever the storage. */
#include "backend/cuda/launch.cuh"
#include "backend/cuda/rows.cuh"

enum { THREADS = 256, WARPS = THREADS / 32 };

/* cpl_cuda_eight with its type; void: there is none. */
template <typename O8> struct eight_of {
    O8 *to;
    const float *mul, *add;
    float *scale;
};

template <int N>
__device__ __forceinline__ void store_eight(const eight_of<void> &, const float4 (&)[N], uint32_t, uint32_t)
{
}

template <int N>
__device__ __forceinline__ void store_eight(const eight_of<e4m3> &e, const float4 (&v)[N], uint32_t row,
                                            uint32_t hidden)
{
    const uint32_t lane = threadIdx.x & 31;
#pragma unroll
    for (int i = 0; i < N; i++)
        if (4 * lane + 128 * i < hidden) store4(e.to + (size_t)row * hidden + 4 * lane + 128 * i, v[i]);
}

/* By the row's largest magnitude: no row's bits depend on another. */
template <int N>
__device__ __forceinline__ void store_eight(const eight_of<int8_t> &e, const float4 (&v)[N], uint32_t row,
                                            uint32_t hidden)
{
    const uint32_t lane = threadIdx.x & 31;
    float4 u[N];
    float most = 0;
#pragma unroll
    for (int i = 0; i < N; i++) {
        const uint32_t c = 4 * lane + 128 * i;
        u[i] = make_float4(0, 0, 0, 0);
        if (c >= hidden) continue;
        const float4 m = load4(e.mul + c), a = load4(e.add + c);
        u[i] =
            make_float4(fmaf(v[i].x, m.x, a.x), fmaf(v[i].y, m.y, a.y), fmaf(v[i].z, m.z, a.z), fmaf(v[i].w, m.w, a.w));
        most = fmaxf(most, fmaxf(fmaxf(fabsf(u[i].x), fabsf(u[i].y)), fmaxf(fabsf(u[i].z), fabsf(u[i].w))));
    }
    most = fmaxf(warp_max(most), 1e-20f);
    const float inverse = 127.0f / most;
    if (lane == 0) e.scale[row] = most / 127.0f;
#pragma unroll
    for (int i = 0; i < N; i++)
        if (4 * lane + 128 * i < hidden)
            *(char4 *)(e.to + (size_t)row * hidden + 4 * lane + 128 * i) = make_char4(
                (signed char)__float2int_rn(u[i].x * inverse), (signed char)__float2int_rn(u[i].y * inverse),
                (signed char)__float2int_rn(u[i].z * inverse), (signed char)__float2int_rn(u[i].w * inverse));
}

template <typename T, typename O8, int N>
__global__ void __launch_bounds__(THREADS)
    embed_kernel(T *__restrict__ x, const eight_of<O8> x8, uint32_t hidden, const cpl_cuda_token *__restrict__ tokens,
                 const T *__restrict__ word, const float *__restrict__ position, const float *__restrict__ type,
                 cpl_cuda_norm norm, const uint32_t *__restrict__ rows)
{
    grid_begin();
    const uint32_t row = blockIdx.x * WARPS + (threadIdx.x >> 5), lane = threadIdx.x & 31;
    if (row >= *rows) return;
    const cpl_cuda_token t = tokens[row];
    float4 v[N];
#pragma unroll
    for (int i = 0; i < N; i++) {
        const uint32_t c = 4 * lane + 128 * i;
        v[i] = make_float4(0, 0, 0, 0);
        if (c >= hidden) continue;
        v[i] = add(add(load4(word + (size_t)t.id * hidden + c), load4(type + (size_t)t.type * hidden + c)),
                   load4(position + (size_t)t.position * hidden + c));
    }
    normalise(v, hidden, norm);
#pragma unroll
    for (int i = 0; i < N; i++) {
        const uint32_t c = 4 * lane + 128 * i;
        if (c >= hidden) continue;
        store4(x + (size_t)row * hidden + c, v[i]);
    }
    store_eight(x8, v, row, hidden);
}

template <typename T, typename O8, int N>
__global__ void __launch_bounds__(THREADS)
    add_norm_kernel(T *__restrict__ x, const eight_of<O8> x8, const T *__restrict__ y, float *__restrict__ out,
                    uint32_t hidden, cpl_cuda_norm norm, const uint32_t *__restrict__ rows, int reverse)
{
    grid_begin();
    const uint32_t place = blockIdx.x * WARPS + (threadIdx.x >> 5), lane = threadIdx.x & 31, total = *rows;
    if (place >= total) return;
    const uint32_t row = reverse ? total - 1 - place : place;
    T *to = x + (size_t)row * hidden;
    float4 v[N];
#pragma unroll
    for (int i = 0; i < N; i++) {
        const uint32_t c = 4 * lane + 128 * i;
        v[i] = make_float4(0, 0, 0, 0);
        if (c < hidden) v[i] = add(load4(y + (size_t)row * hidden + c), load4(to + c));
    }
    normalise(v, hidden, norm);
#pragma unroll
    for (int i = 0; i < N; i++) {
        const uint32_t c = 4 * lane + 128 * i;
        if (c >= hidden) continue;
        if (out)
            store4(out + (size_t)row * hidden + c, v[i]);
        else
            store4(to + c, v[i]);
    }
    store_eight(x8, v, row, hidden);
}

/* words: 4 bytes each, of a row */
__global__ void gather_kernel(uint32_t *__restrict__ to, const uint32_t *__restrict__ x, uint32_t words,
                              const uint32_t *__restrict__ cu, const uint32_t *__restrict__ rows)
{
    grid_begin();
    const uint32_t row = blockIdx.x * WARPS + (threadIdx.x >> 5), lane = threadIdx.x & 31;
    if (row >= *rows) return;
    for (uint32_t c = lane; c < words; c += 32) to[(size_t)row * words + c] = x[(size_t)cu[row] * words + c];
}

/* Eight values a thread. */
__global__ void __launch_bounds__(THREADS)
    widen_kernel(uint4 *__restrict__ to, const uint32_t *__restrict__ nibbles, const uchar2 *__restrict__ groups,
                 const float *__restrict__ scale, uint32_t n, uint32_t k)
{
    grid_begin();
    const uint32_t at = blockIdx.x * THREADS + threadIdx.x, row = at / (k / 8), column = at % (k / 8) * 8;
    if (row >= n) return;
    const uchar2 g = groups[row * ((k + 63) / 64) + column / 64]; /* nibble x by - less */
    const uint32_t v = nibbles[at];
    const float s = scale[row];
    uint32_t w[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int low = (int)(v >> 8 * i & 15) * g.x - g.y, high = (int)(v >> (8 * i + 4) & 15) * g.x - g.y;
        w[i] = pack2<bf16>((float)low * s, (float)high * s);
    }
    to[at] = make_uint4(w[0], w[1], w[2], w[3]);
}

__global__ void pool_kernel(float *__restrict__ out, const float *__restrict__ x, uint32_t hidden, int maximum,
                            const uint32_t *__restrict__ cu, const uint32_t *__restrict__ rows)
{
    grid_begin();
    const uint32_t row = blockIdx.x, from = row < *rows ? cu[row] : 0, to = row < *rows ? cu[row + 1] : 0;
    if (from == to) return;
    for (uint32_t c = threadIdx.x; c < hidden; c += blockDim.x) {
        float v = x[(size_t)from * hidden + c];
        for (uint32_t t = from + 1; t < to; t++) {
            const float u = x[(size_t)t * hidden + c];
            v = maximum ? fmaxf(v, u) : v + u;
        }
        out[(size_t)row * hidden + c] = maximum ? v : v / (float)(to - from);
    }
}

enum { POOLER_ROWS = 8, POOLER_COLUMNS = 4 * WARPS };

/* Sums over the warp of 32 values a lane, lane l's the one of value l: at each step a lane gives half of what it has
 * left to the lane across and takes the other half. The same tree as warp_sum's, in 31 shuffles instead of 160. */
__device__ __forceinline__ float transposed_sums(float (&v)[32])
{
    const uint32_t lane = threadIdx.x & 31;
#pragma unroll
    for (int d = 16; d; d >>= 1) {
        const bool upper = lane & d;
#pragma unroll
        for (int i = 0; i < d; i++) {
            const float give = upper ? v[i] : v[i + d], keep = upper ? v[i + d] : v[i];
            v[i] = keep + __shfl_xor_sync(0xffffffffu, give, d);
        }
    }
    return v[0];
}

/* POOLER_ROWS sequences by POOLER_COLUMNS outputs a block; a warp takes four outputs of all its rows, a lane ends with
 * one sum of the 32. */
__global__ void __launch_bounds__(THREADS)
    pooler_kernel(float *__restrict__ out, const float *__restrict__ x, const float *__restrict__ w,
                  const float *__restrict__ b, uint32_t hidden, const uint32_t *__restrict__ rows)
{
    extern __shared__ __align__(16) float room[];
    grid_begin();
    const uint32_t first = blockIdx.x * POOLER_ROWS, lane = threadIdx.x & 31, total = *rows;
    if (first >= total) return;
    for (uint32_t i = threadIdx.x * 4; i < POOLER_ROWS * hidden; i += THREADS * 4)
        store4(room + i, first + i / hidden < total ? load4(x + (size_t)first * hidden + i) : make_float4(0, 0, 0, 0));
    __syncthreads();
    const uint32_t left = blockIdx.y * POOLER_COLUMNS + (threadIdx.x >> 5) * 4;
    const float *from[4];
#pragma unroll
    for (int i = 0; i < 4; i++) from[i] = w + (size_t)min(left + i, hidden - 1) * hidden;
    float sum[32] = {};
    for (uint32_t c = 4 * lane; c < hidden; c += 128) {
        float4 u[4];
#pragma unroll
        for (int i = 0; i < 4; i++) u[i] = load4(from[i] + c);
#pragma unroll
        for (int r = 0; r < POOLER_ROWS; r++) {
            const float4 v = load4(room + r * hidden + c);
#pragma unroll
            for (int i = 0; i < 4; i++)
                sum[8 * i + r] =
                    fmaf(u[i].w, v.w, fmaf(u[i].z, v.z, fmaf(u[i].y, v.y, fmaf(u[i].x, v.x, sum[8 * i + r]))));
        }
    }
    const float v = transposed_sums(sum);
    const uint32_t column = left + lane / 8, row = first + lane % 8;
    if (column < hidden && row < total) out[(size_t)row * hidden + column] = tanhf(v + b[column]);
}

__global__ void classify_kernel(float *__restrict__ out, const float *__restrict__ x, const float *__restrict__ w,
                                const float *__restrict__ b, uint32_t hidden, uint32_t labels,
                                const uint32_t *__restrict__ rows)
{
    grid_begin();
    const uint32_t row = blockIdx.x * WARPS + (threadIdx.x >> 5), lane = threadIdx.x & 31;
    if (row >= *rows) return;
    for (uint32_t l = 0; l < labels; l++) {
        float sum = 0;
        for (uint32_t c = lane; c < hidden; c += 32)
            sum = fmaf(x[(size_t)row * hidden + c], w[(size_t)l * hidden + c], sum);
        sum = warp_sum(sum);
        if (lane == 0) out[(size_t)row * labels + l] = sum + b[l];
    }
}

/* ---- host ----------------------------------------------------------------------------------------------------------
 */

static uint32_t blocks_of(uint32_t rows) { return (rows + WARPS - 1) / WARPS; }

/* Calls f with the number of float4 a lane holds: 128 columns each. */
template <typename F> static cudaError_t by_width(uint32_t hidden, F f)
{
    switch ((hidden + 127) / 128) {
    case 1: f.template operator()<1>(); break;
    case 2: f.template operator()<2>(); break;
    case 3: f.template operator()<3>(); break;
    case 4: f.template operator()<4>(); break;
    case 5:
    case 6: f.template operator()<6>(); break;
    case 7:
    case 8: f.template operator()<8>(); break;
    default: return cudaErrorInvalidValue;
    }
    return cudaGetLastError();
}

template <typename T, typename O8> struct embed_call {
    T *x;
    eight_of<O8> x8;
    uint32_t hidden;
    const cpl_cuda_token *tokens;
    const T *word;
    const float *position, *type;
    cpl_cuda_norm norm;
    const uint32_t *rows;
    uint32_t rows_max;
    cpl_cuda_queue queue;
    template <int N> void operator()()
    {
        cpl_cuda_start(embed_kernel<T, O8, N>, dim3(blocks_of(rows_max)), THREADS, 0, queue, 1, x, x8, hidden, tokens,
                       word, position, type, norm, rows);
    }
};

template <typename T, typename O8> struct norm_call {
    T *x;
    eight_of<O8> x8;
    const T *y;
    float *out;
    uint32_t hidden;
    cpl_cuda_norm norm;
    const uint32_t *rows;
    uint32_t rows_max;
    cpl_cuda_queue queue;
    template <int N> void operator()()
    {
        cpl_cuda_start(add_norm_kernel<T, O8, N>, dim3(blocks_of(rows_max)), THREADS, 0, queue, 1, x, x8, y, out,
                       hidden, norm, rows, queue.reverse);
    }
};

template <typename O8> static eight_of<O8> typed(const cpl_cuda_eight &e)
{
    return {(O8 *)e.to, e.mul, e.add, e.scale};
}

template <typename T, typename O8>
static cudaError_t embed(void *x, cpl_cuda_eight x8, uint32_t hidden, const cpl_cuda_token *tokens, const void *word,
                         const float *position, const float *types, cpl_cuda_norm norm, const cpl_cuda_counts *c,
                         uint32_t max, cpl_cuda_queue s)
{
    return by_width(hidden, embed_call<T, O8>{(T *)x, typed<O8>(x8), hidden, tokens, (const T *)word, position, types,
                                              norm, &c->tokens, max, s});
}

cudaError_t cpl_cuda_embed(cpl_cuda_type type, void *x, cpl_cuda_eight x8, uint32_t hidden,
                           const cpl_cuda_token *tokens, const void *word, const float *position,
                           const float *type_table, cpl_cuda_norm norm, const cpl_cuda_counts *counts,
                           uint32_t tokens_max, cpl_cuda_queue queue)
{
    const auto call = x8.to && x8.type == CPL_CUDA_FP8    ? embed<bf16, e4m3>
                      : x8.to && x8.type == CPL_CUDA_INT8 ? embed<bf16, int8_t>
                      : type == CPL_CUDA_BF16             ? embed<bf16, void>
                      : type == CPL_CUDA_FP16             ? embed<fp16, void>
                                                          : embed<float, void>;
    return call(x, x8, hidden, tokens, word, position, type_table, norm, counts, tokens_max, queue);
}

template <typename T, typename O8>
static cudaError_t add_norm(void *x, cpl_cuda_eight x8, const void *y, float *out, uint32_t hidden, cpl_cuda_norm norm,
                            const uint32_t *rows, uint32_t max, cpl_cuda_queue s)
{
    return by_width(hidden, norm_call<T, O8>{(T *)x, typed<O8>(x8), (const T *)y, out, hidden, norm, rows, max, s});
}

cudaError_t cpl_cuda_add_norm(cpl_cuda_type type, void *x, cpl_cuda_eight x8, const void *y, float *out,
                              uint32_t hidden, cpl_cuda_norm norm, const uint32_t *rows, uint32_t rows_max,
                              cpl_cuda_queue queue)
{
    const auto call = x8.to && x8.type == CPL_CUDA_FP8    ? add_norm<bf16, e4m3>
                      : x8.to && x8.type == CPL_CUDA_INT8 ? add_norm<bf16, int8_t>
                      : type == CPL_CUDA_BF16             ? add_norm<bf16, void>
                      : type == CPL_CUDA_FP16             ? add_norm<fp16, void>
                                                          : add_norm<float, void>;
    return call(x, x8, y, out, hidden, norm, rows, rows_max, queue);
}

cudaError_t cpl_cuda_widen_four(void *to, const void *nibbles, const uint8_t *groups, const float *scale, uint32_t n,
                                uint32_t k, cpl_cuda_queue queue)
{
    cpl_cuda_start(widen_kernel, dim3((n * (k / 8) + THREADS - 1) / THREADS), THREADS, 0, queue, 1, (uint4 *)to,
                   (const uint32_t *)nibbles, (const uchar2 *)groups, scale, n, k);
    return cudaGetLastError();
}

cudaError_t cpl_cuda_gather_first(cpl_cuda_type type, void *to, const void *x, uint32_t hidden,
                                  const uint32_t *cu_seqlens, const cpl_cuda_counts *counts, uint32_t sequences_max,
                                  cpl_cuda_queue queue)
{
    const uint32_t words = hidden * (uint32_t)cpl_cuda_element_bytes(type) / 4;
    cpl_cuda_start(gather_kernel, dim3(blocks_of(sequences_max)), THREADS, 0, queue, 1, (uint32_t *)to,
                   (const uint32_t *)x, words, cu_seqlens, &counts->sequences);
    return cudaGetLastError();
}

cudaError_t cpl_cuda_pool(float *out, const float *x, uint32_t hidden, int maximum, const uint32_t *cu_seqlens,
                          const cpl_cuda_counts *counts, uint32_t sequences_max, cpl_cuda_queue queue)
{
    cpl_cuda_start(pool_kernel, dim3(sequences_max), 128, 0, queue, 1, out, x, hidden, maximum, cu_seqlens,
                   &counts->sequences);
    return cudaGetLastError();
}

cudaError_t cpl_cuda_pooler(float *out, const float *x, const float *w, const float *b, uint32_t hidden,
                            const cpl_cuda_counts *counts, uint32_t sequences_max, cpl_cuda_queue queue)
{
    const dim3 grid((sequences_max + POOLER_ROWS - 1) / POOLER_ROWS, (hidden + POOLER_COLUMNS - 1) / POOLER_COLUMNS);
    cpl_cuda_start(pooler_kernel, dim3(grid), THREADS, POOLER_ROWS * hidden * sizeof(float), queue, 1, out, x, w, b,
                   hidden, &counts->sequences);
    return cudaGetLastError();
}

cudaError_t cpl_cuda_classify(float *out, const float *x, const float *w, const float *b, uint32_t hidden,
                              uint32_t labels, const cpl_cuda_counts *counts, uint32_t sequences_max,
                              cpl_cuda_queue queue)
{
    cpl_cuda_start(classify_kernel, dim3(blocks_of(sequences_max)), THREADS, 0, queue, 1, out, x, w, b, hidden, labels,
                   &counts->sequences);
    return cudaGetLastError();
}
