/* SPDX-License-Identifier: Apache-2.0 */
/* small.cu - a pass of up to 32 tokens in one kernel, for the time of one pair: a launch, not forty.
 *
 * One cluster of 16 blocks does the whole model. Every block keeps all rows of x in shared memory and works on its
 * share of the columns: a head (12 of the 16 blocks), 24 columns of the output products, 96 of FFN up. A producer
 * thread streams the block's weights, which depend on nothing, through a ring, across stages and layers, so they are
 * there when their turn comes. Context, FFN middle and product rows go through global memory (L2), and the blocks meet
 * four times a layer at an mbarrier that all sixteen arrive at. Add and norm is done by every block for itself.
 *
 * Invariant: the arithmetic is that of the large kernels, instruction by instruction: wgmma over K in steps of 16 in
 * one accumulator, attention.cuh, rows.cuh, the same roundings; a sequence has the same bits on either path.
 *
 * Order: a block overwrites what others read (ctx, y, mid) only after a meeting that they reach after reading it.
 * Shared memory that wgmma reads is written before a proxy fence and a barrier. Rows past the last token: x has zeros,
 * so keys and values are finite there; other buffers may hold anything, and rows never mix.
 *
 * Rejected: meetings of the whole grid by atomics (dearer each, and needs all blocks resident beside other sessions'
 * work). */
#include "backend/cuda/attention.cuh"
#include "backend/cuda/launch.cuh"
#include "backend/cuda/rows.cuh"
#include "backend/cuda/small.cuh"
#include "backend/cuda/wgmma.cuh"

constexpr int H = CPL_CUDA_SMALL_HIDDEN, F = 4 * H, RANKS = CPL_CUDA_SMALL_RANKS, BLOCKS = H / 64;
constexpr int NARROW = CPL_CUDA_SMALL_NARROW, WIDE = CPL_CUDA_SMALL_WIDE;
static_assert(NARROW * RANKS == H && WIDE * RANKS == F, "every column has its block");
constexpr int WORKERS = 256, THREADS = WORKERS + 128;
constexpr uint32_t ROWS = CPL_CUDA_SMALL_TOKENS, BOX = ROWS * 128, W_SLOT = WIDE * 128, W_SLOTS = 7,
                   A_BOXES = F / 64;                         /* A: FFN middle, whole */
constexpr uint32_t Q_PITCH = 80, K_PITCH = 64, V_PITCH = 80; /* bytes; as attention.cuh has keys and values */

/* Shared memory, from a 1024-byte boundary. */
constexpr uint32_t X = 0, A = X + BLOCKS * BOX, W = A + A_BOXES * BOX, Q = W + W_SLOTS * W_SLOT;
constexpr uint32_t K = Q + ROWS * Q_PITCH, V = K + ROWS * K_PITCH;
constexpr uint32_t W_FULL = V + 2 * ROWS * V_PITCH; /* attention reads up to 31 rows too many */
constexpr uint32_t W_EMPTY = W_FULL + 8 * W_SLOTS, A_FULL = W_EMPTY + 8 * W_SLOTS;
constexpr uint32_t READY = A_FULL + 8 * A_BOXES, BYTES = READY + 8 + 1024;

static_assert(W_SLOTS >= BLOCKS, "a wide product holds all of its weights");

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define CPL_CUDA_SM90A 1
#endif

#ifdef CPL_CUDA_SM90A

constexpr int WARPS = WORKERS / 32;

/* What a worker knows. a_phases: a bit a place of A, of the barrier its warpgroup waits at. */
struct worker {
    const cpl_cuda_small_call *call;
    uint8_t *room; /* shared memory, and the same as an address */
    uint32_t base, rank, group, w_index, w_phase, a_phases, meeting;
    bool leader; /* of the warpgroup */
};

/* All blocks have finished what comes before, and everybody sees what they wrote; with ASYNC the copy engine too. */
template <bool ASYNC> __device__ __forceinline__ void meet(worker &w)
{
    const uint32_t ready = w.base + READY;
    if (ASYNC) asm volatile("fence.proxy.async;" ::: "memory");
    asm volatile("fence.acq_rel.cluster;" ::: "memory");
    named_barrier(1, WORKERS);
    if (threadIdx.x < RANKS)
        asm volatile(
            "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(cluster_address(ready, threadIdx.x))
            : "memory");
    asm volatile("{\n.reg .pred p;\nagain:\n"
                 "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%0], %1;\n"
                 "@p bra done;\nbra again;\ndone:\n}\n" ::"r"(ready),
                 "r"(w.meeting & 1)
                 : "memory");
    w.meeting++;
    if (ASYNC) asm volatile("fence.proxy.async;" ::: "memory");
}

/* ---- rows ---------------------------------------------------------------------------------------------------------
 */

/* Column c (a multiple of 4) of a row of x: six blocks of 64 columns, swizzled as wgmma wants them. */
template <typename T> __device__ __forceinline__ T *x_at(const worker &w, uint32_t row, uint32_t c)
{
    const uint32_t chunk = (c & 63) >> 3 ^ (row & 7);
    return (T *)(w.room + X + (c >> 6) * BOX + row * 128 + chunk * 16) + (c & 7);
}

__device__ __forceinline__ float *pooler_row(const worker &w, uint32_t row)
{
    return (float *)(w.room + A) + row * H; /* no activations are there by then */
}

/* A norm's parameters for a lane's columns, fetched before they are needed. */
struct norm_values {
    float4 weight[H / 128], bias[H / 128];
    float epsilon;
};

__device__ __forceinline__ void load_norm(norm_values &v, const cpl_cuda_norm &norm)
{
    const uint32_t lane = threadIdx.x & 31;
#pragma unroll
    for (int i = 0; i < H / 128; i++) {
        v.weight[i] = __ldg((const float4 *)(norm.weight + 4 * lane + 128 * i));
        v.bias[i] = __ldg((const float4 *)(norm.bias + 4 * lane + 128 * i));
    }
    v.epsilon = norm.epsilon;
}

/* Where rows go after their norm. */
enum norm_to { TO_X, TO_LAST, TO_POOLER };

/* x[i] = norm(get(i)), i below `rows`: all rows are read, then written, so they may move. get(row, column): four
 * columns. */
template <typename T, typename G>
__device__ __forceinline__ void norm_rows(worker &w, const norm_values &norm, uint32_t rows, norm_to to, G get)
{
    const uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    float4 v[ROWS / WARPS][H / 128];
#pragma unroll
    for (uint32_t r = 0; r < ROWS / WARPS; r++)
#pragma unroll
        for (int i = 0; i < H / 128; i++) v[r][i] = get(min(r * WARPS + warp, rows - 1), 4 * lane + 128 * i);
    named_barrier(1, WORKERS);
    normalise_by(v, H, norm.epsilon, [&](int i, float4 &g, float4 &b) {
        g = norm.weight[i];
        b = norm.bias[i];
    });
#pragma unroll
    for (uint32_t r = 0; r < ROWS / WARPS; r++) {
        const uint32_t row = r * WARPS + warp;
        if (row >= rows || (to == TO_LAST && row % RANKS != w.rank)) continue;
#pragma unroll
        for (int i = 0; i < H / 128; i++) {
            const uint32_t c = 4 * lane + 128 * i;
            if (to == TO_X)
                store4(x_at<T>(w, row, c), v[r][i]);
            else
                store4((to == TO_POOLER ? pooler_row(w, row) : w.call->bound.last + (size_t)row * H) + c, v[r][i]);
        }
    }
    fence_async_shared();
    named_barrier(1, WORKERS);
}

template <typename T> __device__ __forceinline__ void embed(worker &w)
{
    const cpl_cuda_small &b = w.call->bound;
    norm_values norm;
    load_norm(norm, b.embedding_norm);
    norm_rows<T>(w, norm, w.call->tokens, TO_X, [&](uint32_t row, uint32_t c) {
        const cpl_cuda_token t = w.call->token[row];
        return add(add(load4((const T *)b.word + (size_t)t.id * H + c), load4(b.type_table + (size_t)t.type * H + c)),
                   load4(b.position + (size_t)t.position * H + c));
    });
}

/* x[i] = norm(y[i] + x[from[i]]); from: NULL for i itself, else not below i. */
template <typename T>
__device__ __forceinline__ void add_norm(worker &w, const norm_values &norm, uint32_t rows, const uint32_t *from,
                                         norm_to to)
{
    const T *y = (const T *)w.call->bound.y;
    norm_rows<T>(w, norm, rows, to, [&](uint32_t row, uint32_t c) {
        const uint2 u = __ldcg((const uint2 *)(y + (size_t)row * H + c)); /* others wrote it: past L1 */
        const float2 a = unpack2<T>(u.x), b = unpack2<T>(u.y);
        return add(make_float4(a.x, a.y, b.x, b.y), load4((const T *)x_at<T>(w, from ? from[row] : row, c)));
    });
}

/* ---- products ------------------------------------------------------------------------------------------------------
 */

__device__ __forceinline__ void w_next(uint32_t &index, uint32_t &phase)
{
    if (++index == W_SLOTS) {
        index = 0;
        phase ^= 1;
    }
}

/* 96 columns of x w^T, of which each warpgroup takes 48. Everything is queued at once: a wait in between would add its
 * latency to each block. */
template <typename T> __device__ __forceinline__ void multiply_wide(worker &w, float (&d)[24])
{
    uint32_t index = w.w_index;
#pragma unroll 1
    for (int k = 0; k < BLOCKS; k++) {
        const uint32_t a = w.base + X + k * BOX, b = w.base + W + w.w_index * W_SLOT + w.group * 48 * 128;
        barrier_wait(w.base + W_FULL + 8 * w.w_index, w.w_phase);
        wgmma_fence();
#pragma unroll
        for (int s = 0; s < 4; s++) wgmma<T, 48>(d, tile_descriptor(a + 32 * s), tile_descriptor(b + 32 * s), k || s);
        wgmma_commit();
        w_next(w.w_index, w.w_phase);
    }
    wgmma_wait<0>();
    for (int k = 0; k < BLOCKS && w.leader; k++) {
        barrier_arrive(w.base + W_EMPTY + 8 * index);
        index = index + 1 == W_SLOTS ? 0 : index + 1;
    }
}

/* The second warpgroup's part in a narrow product: its warps bring the other operand, a warp every fourth block, and
 * it lets the weights pass. */
__device__ __forceinline__ void bring_narrow(worker &w, const CUtensorMap *map, int blocks)
{
    if ((threadIdx.x & 31) == 0)
        for (int k = threadIdx.x >> 5 & 3; k < blocks; k += 4) {
            barrier_expect(w.base + A_FULL + 8 * k, BOX);
            tensor_load(w.base + A + k * BOX, map, w.base + A_FULL + 8 * k, 64 * k, 0);
        }
    __syncwarp();
#pragma unroll 1
    for (int k = 0; k < blocks; k += 4) {
        barrier_wait(w.base + W_FULL + 8 * w.w_index, w.w_phase);
        if (w.leader) barrier_arrive(w.base + W_EMPTY + 8 * w.w_index);
        w_next(w.w_index, w.w_phase);
    }
}

/* The first warpgroup's: 24 columns of a w^T. Four blocks of weights share a slot. */
template <typename T> __device__ __forceinline__ void multiply_narrow(worker &w, float (&d)[12], int blocks)
{
    uint32_t before = 0;
#pragma unroll 1
    for (int k = 0; k < blocks; k++) {
        const uint32_t a = w.base + A + k * BOX, b = w.base + W + w.w_index * W_SLOT + k % 4 * NARROW * 128;
        if (k % 4 == 0) barrier_wait(w.base + W_FULL + 8 * w.w_index, w.w_phase);
        barrier_wait(w.base + A_FULL + 8 * k, w.a_phases >> k & 1);
        w.a_phases ^= 1u << k;
        wgmma_fence();
#pragma unroll
        for (int s = 0; s < 4; s++)
            wgmma<T, NARROW>(d, tile_descriptor(a + 32 * s), tile_descriptor(b + 32 * s), k || s);
        wgmma_commit();
        if (k && k % 4 == 0) {
            wgmma_wait<1>();
            if (w.leader) barrier_arrive(w.base + W_EMPTY + 8 * before);
        }
        before = w.w_index;
        if (k % 4 == 3 || k == blocks - 1) w_next(w.w_index, w.w_phase);
    }
    wgmma_wait<0>();
    if (w.leader) barrier_arrive(w.base + W_EMPTY + 8 * before);
}

/* Of the sums of 8 J columns from `column` on that the thread holds, f(j, row, column, pair of sums). */
template <int J, typename G> __device__ __forceinline__ void each_pair(const float (&d)[4 * J], uint32_t column, G f)
{
    const uint32_t lane = threadIdx.x & 31, row = 16 * (threadIdx.x >> 5 & 3) + (lane >> 2);
#pragma unroll
    for (int j = 0; j < J; j++) {
        const uint32_t c = column + 8 * j + 2 * (lane & 3);
        f(j, row, c, make_float2(d[4 * j], d[4 * j + 1]));
        f(j, row + 8, c, make_float2(d[4 * j + 2], d[4 * j + 3]));
    }
}

/* The block's head of q, k and v, into shared memory. */
template <typename T> __device__ __forceinline__ void project_head(worker &w, const float *bias)
{
    float d[24];
    float2 b[6];
#pragma unroll
    for (int j = 0; j < 6; j++) {
        const uint32_t c = 48 * w.group + 8 * j + 2 * (threadIdx.x & 3);
        b[j] = __ldg((const float2 *)(bias + (c >> 5) * H + 32 * w.rank + (c & 31)));
    }
    multiply_wide<T>(w, d);
    each_pair<6>(d, 48 * w.group, [&](int j, uint32_t r, uint32_t c, float2 v) {
        if (r >= ROWS) return;
        const uint32_t part = c >> 5, at = c & 31;
        uint8_t *to = w.room + (part == 0 ? Q + r * Q_PITCH : part == 1 ? K + r * K_PITCH : V + r * V_PITCH);
        *(uint32_t *)(to + 2 * at) = pack2<T>(v.x + b[j].x, v.y + b[j].y);
    });
    named_barrier(1, WORKERS);
}

/* 16 queries of the sequence of `length` tokens at row `start`, into its rows of ctx. */
template <typename T>
__device__ __forceinline__ void attend_block(worker &w, uint32_t start, uint32_t length, uint32_t query, float scale,
                                             T *ctx)
{
    const uint32_t keys = w.base + K, values = w.base + V;
    block_state<T, 32, 1> s;
    load_queries<T, 32, 1>(s, (const T *)(w.room + Q + start * Q_PITCH), Q_PITCH / 2, query, length);
    int at = 0;
    const int end = (int)length;
#pragma unroll 1
    for (; at + 16 < end; at += 32) attend_keys<T, 32, 1, 4>(s, keys, values, start + at, end - at, scale);
    if (at < end) attend_keys<T, 32, 1, 2>(s, keys, values, start + at, end - at, scale);
    store_context<T, 32, 1>(s, ctx + (size_t)start * H, H, query, length);
}

template <typename T> __device__ __forceinline__ void attend(worker &w, bool first_only)
{
    const cpl_cuda_small_call &c = *w.call;
    const float scale = c.bound.scale * 1.4426950408889634f;
    T *ctx = (T *)c.bound.ctx + 32 * w.rank;
    uint32_t turn = 0;
#pragma unroll 1
    for (uint32_t i = 0; i < c.n; i++) {
        const uint32_t start = c.cu[i], length = c.cu[i + 1] - start;
#pragma unroll 1
        for (uint32_t query = 0; query < (first_only ? 1 : length); query += 16) {
            if (turn++ % WARPS != threadIdx.x >> 5) continue;
            if (first_only)
                attend_row<T, 32>((const T *)(w.room + Q + start * Q_PITCH), (const T *)(w.room + K + start * K_PITCH),
                                  K_PITCH / 2, (const T *)(w.room + V + start * V_PITCH), V_PITCH / 2, length, scale,
                                  ctx + (size_t)i * H);
            else
                attend_block(w, start, length, query, scale, ctx);
        }
    }
}

template <typename T> __device__ __forceinline__ void feed_up(worker &w, const float *bias, uint32_t rows)
{
    float d[24];
    float2 b[6];
    T *mid = (T *)w.call->bound.mid;
    const uint32_t column = WIDE * w.rank + 48 * w.group;
#pragma unroll
    for (int j = 0; j < 6; j++) b[j] = __ldg((const float2 *)(bias + column + 8 * j + 2 * (threadIdx.x & 3)));
    multiply_wide<T>(w, d);
    each_pair<6>(d, column, [&](int j, uint32_t r, uint32_t c, float2 v) {
        if (r >= rows) return;
        const float2 g = gelu2<T>(make_float2(v.x + b[j].x, v.y + b[j].y));
        *(uint32_t *)(mid + (size_t)r * F + c) = pack2<T>(g.x, g.y);
    });
}

template <typename T>
__device__ __forceinline__ void project_back(worker &w, const CUtensorMap *map, int blocks, const float *bias,
                                             uint32_t rows)
{
    float d[12];
    float2 b[3];
    T *y = (T *)w.call->bound.y;
    const uint32_t column = NARROW * w.rank;
    if (w.group) {
        bring_narrow(w, map, blocks);
        return;
    }
#pragma unroll
    for (int j = 0; j < 3; j++) b[j] = __ldg((const float2 *)(bias + column + 8 * j + 2 * (threadIdx.x & 3)));
    multiply_narrow<T>(w, d, blocks);
    each_pair<3>(d, column, [&](int j, uint32_t r, uint32_t c, float2 v) {
        if (r < rows) *(uint32_t *)(y + (size_t)r * H + c) = pack2<T>(v.x + b[j].x, v.y + b[j].y);
    });
}

/* ---- the whole ------------------------------------------------------------------------------------------------------
 */

/* Half a layer: attention or FFN, the product back to the width of x, add and norm. One body for both, since what is
 * executed once must be fetched first. */
template <typename T> __device__ __forceinline__ void half_layer(worker &w, uint32_t l, bool ffn)
{
    const cpl_cuda_small_call &c = *w.call;
    const cpl_cuda_small_layer &y = c.bound.layers[l];
    const bool last = l + 1 == c.bound.layer_count, first_only = last && c.first_only;
    const uint32_t rows = first_only ? c.n : c.tokens;
    norm_values norm;
    if (ffn) {
        feed_up<T>(w, y.up_bias, rows);
    } else if (w.rank < c.bound.heads) {
        project_head<T>(w, y.qkv_bias);
        attend<T>(w, first_only);
    }
    meet<true>(w);
    project_back<T>(w, ffn ? &c.bound.mid_map : &c.bound.ctx_map, ffn ? F / 64 : BLOCKS, ffn ? y.down_bias : y.out_bias,
                    rows);
    load_norm(norm, ffn ? y.output_norm : y.attention_norm);
    meet<false>(w);
    add_norm<T>(w, norm, rows, first_only && !ffn ? c.cu : NULL, !last || !ffn ? TO_X : c.logits ? TO_POOLER : TO_LAST);
}

/* Pooler and classifier as rows.cu has them: a warp an output, three outputs a warp. */
__device__ __forceinline__ void classify(worker &w)
{
    const cpl_cuda_small_call &c = *w.call;
    const cpl_cuda_small &b = c.bound;
    const uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5, column = w.rank * NARROW + warp;
    float4 u[NARROW / WARPS][H / 128];
#pragma unroll
    for (int j = 0; j < NARROW / WARPS; j++)
#pragma unroll
        for (int i = 0; i < H / 128; i++)
            u[j][i] = load4(b.pooler_w + (size_t)(column + j * WARPS) * H + 4 * lane + 128 * i);
#pragma unroll 1
    for (uint32_t r = 0; r < c.n; r++)
#pragma unroll
        for (int j = 0; j < NARROW / WARPS; j++) {
            float sum = 0;
#pragma unroll
            for (int i = 0; i < H / 128; i++) {
                const float4 v = load4((const float *)pooler_row(w, r) + 4 * lane + 128 * i), p = u[j][i];
                sum = fmaf(p.w, v.w, fmaf(p.z, v.z, fmaf(p.y, v.y, fmaf(p.x, v.x, sum))));
            }
            sum = warp_sum(sum);
            const uint32_t at = column + j * WARPS;
            if (lane == 0) b.pooled[(size_t)r * H + at] = tanhf(sum + b.pooler_b[at]);
        }
    meet<false>(w);
    if (w.rank) return;
    for (uint32_t i = warp; i < c.n * b.labels; i += WARPS) {
        const uint32_t r = i / b.labels, l = i % b.labels;
        float sum = 0;
#pragma unroll
        for (uint32_t k = lane; k < H; k += 32)
            sum = fmaf(__ldcg(b.pooled + (size_t)r * H + k), b.classifier_w[(size_t)l * H + k], sum);
        sum = warp_sum(sum);
        if (lane == 0) b.logits[i] = sum + b.classifier_b[l];
    }
}

/* The block's weights in the order in which the workers use them. One thread. */
__device__ __forceinline__ void produce(const cpl_cuda_small_call &c, uint32_t base, uint32_t rank)
{
    uint32_t index = 0, phase = 1;
    const auto slot = [&](uint32_t bytes) {
        const uint32_t bar = base + W_FULL + 8 * index, to = base + W + index * W_SLOT;
        barrier_wait(base + W_EMPTY + 8 * index, phase);
        barrier_expect(bar, bytes);
        w_next(index, phase);
        return make_uint2(to, bar);
    };
    const auto narrow = [&](const CUtensorMap *map, int blocks) {
        for (int k = 0; k < blocks; k += 4) {
            const int count = min(4, blocks - k);
            const uint2 to = slot(count * NARROW * 128);
            for (int i = 0; i < count; i++)
                tensor_load(to.x + i * NARROW * 128, map, to.y, 64 * (k + i), (int)(NARROW * rank));
        }
    };
#pragma unroll 1
    for (uint32_t l = 0; l < c.bound.layer_count; l++) {
        const cpl_cuda_small_layer &y = c.bound.layers[l];
        for (int k = 0; k < BLOCKS && rank < c.bound.heads; k++) {
            const uint2 to = slot(W_SLOT);
            for (int part = 0; part < 3; part++)
                tensor_load(to.x + part * BOX, &y.qkv, to.y, 64 * k, (int)(part * H + 32 * rank));
        }
        narrow(&y.out, BLOCKS);
        for (int k = 0; k < BLOCKS; k++) {
            const uint2 to = slot(W_SLOT);
            tensor_load(to.x, &y.up, to.y, 64 * k, (int)(WIDE * rank));
        }
        narrow(&y.down, F / 64);
    }
}

__device__ __forceinline__ void start(const cpl_cuda_small_call &c, uint8_t *room, uint32_t base)
{
    if (threadIdx.x == 0) {
        for (uint32_t i = 0; i < W_SLOTS; i++) {
            barrier_init(base + W_FULL + 8 * i, 1);
            barrier_init(base + W_EMPTY + 8 * i, 2);
        }
        for (uint32_t i = 0; i < A_BOXES; i++) barrier_init(base + A_FULL + 8 * i, 1);
        barrier_init(base + READY, RANKS);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    for (uint32_t i = 16 * threadIdx.x; i < BLOCKS * BOX; i += 16 * THREADS)
        *(uint4 *)(room + X + i) = make_uint4(0, 0, 0, 0);
    for (uint32_t i = 4 * threadIdx.x; i < ROWS * V_PITCH; i += 4 * THREADS)
        *(uint32_t *)(room + V + ROWS * V_PITCH + i) = 0;
    fence_async_shared();
    if (cluster_rank() == 0) {
        if (threadIdx.x == 0) *c.bound.counts = {c.tokens, c.n, 0, 0};
        for (uint32_t i = threadIdx.x; i <= c.n; i += THREADS) c.bound.cu[i] = c.cu[i];
    }
}

#endif

template <typename T>
__global__ void __launch_bounds__(THREADS, 1) small_kernel(const __grid_constant__ cpl_cuda_small_call call)
{
#ifdef CPL_CUDA_SM90A
    extern __shared__ uint8_t raw[];
    const uint32_t base = (shared_address(raw) + 1023) & ~1023u, rank = __shfl_sync(0xffffffffu, cluster_rank(), 0);
    const uint32_t group = __shfl_sync(0xffffffffu, threadIdx.x >> 7, 0);
    grid_begin();
    start(call, raw + (base - shared_address(raw)), base);
    cluster_sync(); /* nobody arrives at a barrier that isn't there yet */
    if (group == WORKERS / 128) {
        if (threadIdx.x == WORKERS) produce(call, base, rank);
        __syncwarp();
    } else {
        worker w = {&call, raw + (base - shared_address(raw)), base, rank, group, 0, 0, 0, 0, (threadIdx.x & 127) == 0};
        embed<T>(w);
#pragma unroll 1
        for (uint32_t i = 0; i < 2 * call.bound.layer_count; i++) half_layer<T>(w, i / 2, i & 1);
        if (call.logits) classify(w);
    }
    cluster_sync(); /* and nobody is gone that somebody still arrives at */
#endif
}

/* ---- host ----------------------------------------------------------------------------------------------------------
 */

typedef void small_fn(const cpl_cuda_small_call);

static small_fn *kernel_of(cpl_cuda_type type)
{
    return type == CPL_CUDA_BF16 ? small_kernel<bf16> : small_kernel<fp16>;
}

int cpl_cuda_small_fits(cpl_cuda_type type, uint32_t hidden, uint32_t width, uint32_t head_size, uint32_t intermediate,
                        int epilogue, const cpl_cuda_device *d)
{
    if (!d->wgmma || (type != CPL_CUDA_BF16 && type != CPL_CUDA_FP16)) return 0;
    if (hidden != H || width != H || head_size != 32 || intermediate != F || epilogue != EPILOGUE_GELU) return 0;
    const void *kernel = (const void *)kernel_of(type);
    cudaLaunchAttribute attribute;
    cudaLaunchConfig_t c = {};
    int clusters = 0;
    cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, BYTES);
    if (!e) e = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {RANKS, 1, 1};
    c.gridDim = dim3(RANKS);
    c.blockDim = dim3(THREADS);
    c.dynamicSmemBytes = BYTES;
    c.attrs = &attribute;
    c.numAttrs = 1;
    if (!e) e = cudaOccupancyMaxActiveClusters(&clusters, kernel, &c);
    if (!e && clusters) return 1;
    cudaGetLastError(); /* the large kernels do without */
    return 0;
}

cudaError_t cpl_cuda_small_run(const cpl_cuda_small_call *call, cpl_cuda_queue queue)
{
    return cpl_cuda_start(kernel_of(call->bound.type), dim3(RANKS), THREADS, BYTES, queue, RANKS, *call);
}
