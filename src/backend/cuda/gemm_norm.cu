/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_norm.cu - x = norm(x + a w^T + bias) in one kernel on Hopper: the output projections with what follows them.
 *
 * A cluster of n / 192 blocks shares 64 or 128 rows a warpgroup and splits the columns, so a block's accumulators fit
 * its registers and W is read once a cluster. The residual comes through the same ring as the operands, as three more
 * stages, while the arithmetic runs. Row statistics: every block takes mean and squared deviations of its 192 columns
 * in fp32 and sends them to the others (st.async, counted by an mbarrier); all combine them in the order of ranks. The
 * sum is never rounded to 16 bits before the norm.
 *
 * Invariant: a row's bits depend on the row alone: column split, order of sums and of ranks are fixed by n. Statistics
 * of consecutive tiles alternate between two places: a block can send those of a tile only after it has everybody's of
 * the one before, so nobody's are overwritten before they are read; and nobody exits with messages on the way.
 *
 * x is read and written in place: each element by one block, read before written. Rejected: whole rows in one block
 * (192 registers a thread for 64 rows: W would pass through L2 twice as often). */
#include "backend/cuda/kernels.cuh"
#include "backend/cuda/launch.cuh"
#include "backend/cuda/wgmma.cuh"

constexpr int BLOCK_K = 64, COLUMNS = 192, PIECE = 64 * 64 * 2, STAGING = 2 * PIECE, THREADS = 384, RANKS = 4;

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define CPL_CUDA_SM90A 1
#endif

#ifdef CPL_CUDA_SM90A

/* d += bias + residual. `at`: 64 rows by 64 columns, swizzled. */
template <typename T> __device__ __forceinline__ void add_piece(float *d, uint32_t at, const float *bias)
{
    const uint32_t lane = threadIdx.x & 31, row = 16 * (threadIdx.x >> 5 & 3) + (lane >> 2);
#pragma unroll
    for (int j = 0; j < 8; j++) {
        const uint32_t from = at + row * 128 + ((j ^ (row & 7)) << 4) + 4 * (lane & 3);
        const float2 b = __ldg((const float2 *)(bias + 8 * j + 2 * (lane & 3)));
        uint32_t u, v;
        asm volatile("ld.shared.b32 %0, [%1];" : "=r"(u) : "r"(from) : "memory");
        asm volatile("ld.shared.b32 %0, [%1];" : "=r"(v) : "r"(from + 1024) : "memory"); /* eight rows on */
        const float2 x = unpack2<T>(u), y = unpack2<T>(v);
        d[4 * j] += b.x + x.x;
        d[4 * j + 1] += b.y + x.y;
        d[4 * j + 2] += b.x + y.x;
        d[4 * j + 3] += b.y + y.y;
    }
}

__device__ __forceinline__ float quad_sum(float v)
{
    v += __shfl_xor_sync(0xffffffffu, v, 1);
    return v + __shfl_xor_sync(0xffffffffu, v, 2);
}

/* Mean and sum of squared deviations over this block's columns, of row (0) or row + 8 (1). */
__device__ __forceinline__ float2 statistics(const float (&d)[COLUMNS / 2], int half)
{
    float sum = 0, squares = 0;
#pragma unroll
    for (int j = 0; j < COLUMNS / 8; j++) sum += d[4 * j + 2 * half] + d[4 * j + 2 * half + 1];
    const float mean = quad_sum(sum) * (1.0f / COLUMNS);
#pragma unroll
    for (int j = 0; j < COLUMNS / 8; j++) {
        const float a = d[4 * j + 2 * half] - mean, b = d[4 * j + 2 * half + 1] - mean;
        squares = fmaf(b, b, fmaf(a, a, squares));
    }
    return make_float2(mean, quad_sum(squares));
}

/* All ranks' statistics of a row, `stride` bytes apart, as mean and 1 / deviation. */
__device__ __forceinline__ float2 combine(uint32_t at, uint32_t stride, uint32_t ranks, float epsilon)
{
    float mean = 0, squares = 0, means[RANKS];
    for (uint32_t r = 0; r < RANKS; r++) {
        if (r >= ranks) break;
        float m, s;
        asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(m), "=f"(s) : "r"(at + r * stride) : "memory");
        means[r] = m;
        mean += m;
        squares += s;
    }
    mean /= (float)ranks;
    for (uint32_t r = 0; r < RANKS; r++) {
        if (r >= ranks) break;
        const float apart = means[r] - mean;
        squares = fmaf(COLUMNS * apart, apart, squares);
    }
    return make_float2(mean, rsqrtf(squares / (float)(COLUMNS * ranks) + epsilon));
}

/* 64 rows: normalised, out as T through the copy engine, or as fp32 straight to `out`. */
template <typename T>
__device__ __forceinline__ void store_rows(const float (&d)[COLUMNS / 2], float2 low, float2 high,
                                           const CUtensorMap *map, float *out, const cpl_cuda_norm &norm,
                                           uint32_t staging, uint32_t &piece, int column, int row, int rows, int n,
                                           int group)
{
    const int thread = threadIdx.x & 127, warp = thread >> 5, lane = thread & 31;
    const uint32_t matrix_row = 16 * warp + (lane >> 3 & 1) * 8 + (lane & 7), chunk = lane >> 4;
    const int mine = row + 16 * warp + (lane >> 2);
#pragma unroll
    for (int p = 0; p < COLUMNS / 64; p++) {
        const uint32_t buffer = staging + piece % 2 * PIECE;
        if (!out) {
            piece++;
            if (thread == 0) tensor_store_read<1>();
            named_barrier(1 + group, 128);
        }
#pragma unroll
        for (int j = 0; j < 8; j += 2) {
            const int c = column + 64 * p + 8 * j + 2 * (lane & 3);
            float v[8];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const float2 g = __ldg((const float2 *)(norm.weight + c + 8 * i)),
                             b = __ldg((const float2 *)(norm.bias + c + 8 * i));
                const float *e = d + 32 * p + 4 * (j + i);
                v[4 * i] = fmaf((e[0] - low.x) * low.y, g.x, b.x);
                v[4 * i + 1] = fmaf((e[1] - low.x) * low.y, g.y, b.y);
                v[4 * i + 2] = fmaf((e[2] - high.x) * high.y, g.x, b.x);
                v[4 * i + 3] = fmaf((e[3] - high.x) * high.y, g.y, b.y);
                if (out && mine < rows)
                    *(float2 *)(out + (size_t)mine * n + c + 8 * i) = make_float2(v[4 * i], v[4 * i + 1]);
                if (out && mine + 8 < rows)
                    *(float2 *)(out + (size_t)(mine + 8) * n + c + 8 * i) = make_float2(v[4 * i + 2], v[4 * i + 3]);
            }
            if (out) continue;
            const uint32_t to = buffer + matrix_row * 128 + ((j + chunk) ^ (matrix_row & 7)) * 16;
            asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(to),
                         "r"(pack2<T>(v[0], v[1])), "r"(pack2<T>(v[2], v[3])), "r"(pack2<T>(v[4], v[5])),
                         "r"(pack2<T>(v[6], v[7]))
                         : "memory");
        }
        if (out) continue;
        fence_async_shared();
        named_barrier(1 + group, 128);
        if (thread == 0) tensor_store(map, buffer, column + 64 * p, row);
    }
}

template <int STAGES> __device__ __forceinline__ void next(uint32_t &index, uint32_t &phase)
{
    if (++index == STAGES) {
        index = 0;
        phase ^= 1;
    }
}

#endif

template <typename T, int MI, int STAGES>
__global__ void __launch_bounds__(THREADS, 1)
    norm_kernel(const __grid_constant__ CUtensorMap a_map, const __grid_constant__ CUtensorMap w_map,
                const __grid_constant__ CUtensorMap x_map, const float *__restrict__ bias, const cpl_cuda_norm norm,
                float *__restrict__ out, const uint32_t *__restrict__ rows_at, int blocks_k, int ranks)
{
#ifdef CPL_CUDA_SM90A
    extern __shared__ uint8_t raw[];
    constexpr uint32_t A_BYTES = 128 * MI * 128, W_BYTES = COLUMNS * 128, STAGE = A_BYTES + W_BYTES, ROWS = 128 * MI;
    constexpr uint32_t RANK_BYTES = ROWS * 8, SIDE = RANKS * RANK_BYTES;
    const uint32_t base = (shared_address(raw) + 1023) & ~1023u, staging = base + STAGES * STAGE;
    const uint32_t sums = staging + 2 * STAGING, full = sums + 2 * SIDE, empty = full + 8 * STAGES,
                   sent = empty + 8 * STAGES;
    const int group = threadIdx.x >> 7, rank = (int)cluster_rank(), column = rank * COLUMNS;
    const int rows = (int)*rows_at, tiles = (rows + (int)ROWS - 1) / (int)ROWS, step = gridDim.x / ranks;
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; s++) {
            barrier_init(full + 8 * s, 1);
            barrier_init(empty + 8 * s, 2);
        }
        for (int s = 0; s < 4; s++) barrier_init(sent + 8 * s, 1); /* [tile parity][group] */
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        prefetch_map(&a_map);
        prefetch_map(&w_map);
        prefetch_map(&x_map);
    }
    cluster_sync();
    grid_begin();
    uint32_t index = 0, phase = 0;
    if (group == 2) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
        if (threadIdx.x != 256) return;
        for (int tile = blockIdx.x / ranks; tile < tiles; tile += step) {
            for (int k = 0; k < blocks_k + COLUMNS / 64; k++) {
                const uint32_t to = base + index * STAGE, bar = full + 8 * index;
                const bool residual = k >= blocks_k;
                barrier_wait(empty + 8 * index, phase ^ 1);
                barrier_expect(bar, residual ? A_BYTES : STAGE);
#pragma unroll
                for (int m = 0; m < 2 * MI; m++)
                    tensor_load(to + m * 8192, residual ? &x_map : &a_map, bar,
                                residual ? column + 64 * (k - blocks_k) : k * BLOCK_K, tile * (int)ROWS + 64 * m);
                if (!residual) tensor_load(to + A_BYTES, &w_map, bar, k * BLOCK_K, column);
                next<STAGES>(index, phase);
            }
        }
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
        const int thread = threadIdx.x & 127, lane = thread & 31, leader = thread == 0;
        const uint32_t my_row = group * 64 * MI + 16 * (thread >> 5) + (lane >> 2);
        uint32_t piece = 0, count = 0;
        float d[MI][COLUMNS / 2];
        for (int tile = blockIdx.x / ranks; tile < tiles; tile += step, count++) {
            uint32_t before = 0;
            for (int k = 0; k < blocks_k; k++) {
                const uint32_t at = base + index * STAGE, a = at + group * MI * 8192;
                barrier_wait(full + 8 * index, phase);
                wgmma_fence();
#pragma unroll
                for (int i = 0; i < 4; i++)
#pragma unroll
                    for (int m = 0; m < MI; m++)
                        wgmma_n192<T>(d[m], tile_descriptor(a + m * 8192 + i * 32),
                                      tile_descriptor(at + A_BYTES + i * 32), k || i);
                wgmma_commit();
                if (k) {
                    wgmma_wait<1>();
                    if (leader) barrier_arrive(empty + 8 * before);
                }
                before = index;
                next<STAGES>(index, phase);
            }
            wgmma_wait<0>();
            if (leader) barrier_arrive(empty + 8 * before);
#pragma unroll
            for (int p = 0; p < COLUMNS / 64; p++) {
                barrier_wait(full + 8 * index, phase);
#pragma unroll
                for (int m = 0; m < MI; m++)
                    add_piece<T>(d[m] + 32 * p, base + index * STAGE + (group * MI + m) * 8192, bias + column + 64 * p);
                named_barrier(1 + group, 128);
                if (leader) barrier_arrive(empty + 8 * index);
                next<STAGES>(index, phase);
            }
            const uint32_t bar = sent + 16 * (count & 1) + 8 * group, side = sums + (count & 1) * SIDE;
            if (leader) barrier_expect(bar, (uint32_t)ranks * 64 * MI * 8);
#pragma unroll
            for (int m = 0; m < MI; m++)
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const float2 s = statistics(d[m], h);
                    const uint32_t at = side + rank * RANK_BYTES + (my_row + 64 * m + 8 * h) * 8;
                    for (int r = lane & 3; r < ranks; r += 4) /* a lane of the quad sends to a rank */
                        cluster_store(cluster_address(at, r), s.x, s.y, cluster_address(bar, r));
                }
            barrier_wait(bar, count >> 1 & 1);
#pragma unroll
            for (int m = 0; m < MI; m++) {
                const uint32_t at = side + (my_row + 64 * m) * 8;
                const float2 low = combine(at, RANK_BYTES, ranks, norm.epsilon);
                const float2 high = combine(at + 64, RANK_BYTES, ranks, norm.epsilon);
                store_rows<T>(d[m], low, high, &x_map, out, norm, staging + group * STAGING, piece, column,
                              tile * (int)ROWS + group * 64 * MI + 64 * m, rows, ranks * COLUMNS, group);
            }
        }
        if (leader) tensor_store_all();
    }
#endif
}

/* ---- host ----------------------------------------------------------------------------------------------------------
 */

typedef void norm_fn(const CUtensorMap, const CUtensorMap, const CUtensorMap, const float *, const cpl_cuda_norm,
                     float *, const uint32_t *, int, int);

/* Tiles of 128 and of 256 rows. */
template <typename T> static norm_fn *kernel_of(int wide) { return wide ? norm_kernel<T, 2, 3> : norm_kernel<T, 1, 4>; }

static size_t shared_bytes(int wide)
{
    const size_t rows = wide ? 256 : 128, stages = wide ? 3 : 4;
    return 1024 + stages * (rows + COLUMNS) * 128 + 2 * STAGING + 2 * RANKS * rows * 8 + 256;
}

cudaError_t cpl_cuda_prepare_norm(void)
{
    const cudaFuncAttribute room = cudaFuncAttributeMaxDynamicSharedMemorySize;
    for (int wide = 0; wide < 2; wide++) {
        cudaError_t e = cudaFuncSetAttribute((const void *)kernel_of<bf16>(wide), room, (int)shared_bytes(wide));
        if (!e) e = cudaFuncSetAttribute((const void *)kernel_of<fp16>(wide), room, (int)shared_bytes(wide));
        if (e) return e;
    }
    return cudaSuccess;
}

cudaError_t cpl_cuda_norm_clusters(cpl_cuda_device *d, uint32_t n)
{
    for (int wide = 0; wide < 2; wide++) {
        cudaLaunchAttribute a;
        cudaLaunchConfig_t c = {};
        a.id = cudaLaunchAttributeClusterDimension;
        a.val.clusterDim.x = n / COLUMNS;
        a.val.clusterDim.y = a.val.clusterDim.z = 1;
        c.gridDim = dim3((unsigned)d->multiprocessors / (n / COLUMNS) * (n / COLUMNS));
        c.blockDim = dim3(THREADS);
        c.dynamicSmemBytes = shared_bytes(wide);
        c.attrs = &a;
        c.numAttrs = 1;
        const cudaError_t e =
            cudaOccupancyMaxActiveClusters(&d->clusters[wide], (const void *)kernel_of<bf16>(wide), &c);
        if (e) return e;
        if (!d->clusters[wide]) return cudaErrorInvalidClusterSize;
    }
    return cudaSuccess;
}

int cpl_cuda_norm_fits(cpl_cuda_type type, uint32_t n, const cpl_cuda_device *d)
{
    return d->wgmma && type != CPL_CUDA_FP32 && n % COLUMNS == 0 && n / COLUMNS <= RANKS;
}

cudaError_t cpl_cuda_multiply_norm(const cpl_cuda_product *p, cpl_cuda_norm norm, float *out, const uint32_t *rows,
                                   uint32_t rows_max, const cpl_cuda_device *d, cpl_cuda_queue queue)
{
    const int ranks = (int)p->n / COLUMNS, tiles[2] = {(int)(rows_max + 127) / 128, (int)(rows_max + 255) / 256};
    const int waves[2] = {(tiles[0] + d->clusters[0] - 1) / d->clusters[0],
                          (tiles[1] + d->clusters[1] - 1) / d->clusters[1]};
    const int wide = waves[1] * 20 <= waves[0] * 12;
    const int grid = tiles[wide] < d->clusters[wide] ? tiles[wide] : d->clusters[wide];
    return cpl_cuda_start(p->type == CPL_CUDA_BF16 ? kernel_of<bf16>(wide) : kernel_of<fp16>(wide),
                          dim3((unsigned)(grid * ranks)), THREADS, shared_bytes(wide), queue, ranks, p->a_map,
                          p->w_map_192, p->out_map, p->bias, norm, out, rows, (int)(p->k + BLOCK_K - 1) / BLOCK_K,
                          ranks);
}
