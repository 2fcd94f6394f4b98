/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_wgmma.cu - 16-bit, e4m3 and int8 matrix products on Hopper: tiles brought by the copy engine into a ring in
 * shared memory, one producer thread, two consumer warpgroups, results out through shared memory by the copy engine
 * again.
 *
 * Two kernels. `ring_kernel` takes both operands through the ring; the warpgroups work side by side on one tile (64 MI
 * rows each), any K. `resident_kernel`, for K <= 384, keeps 128 rows of A and streams W past them; the warpgroups take
 * alternate chunks of 192 columns, so that one computes while the other applies the activation and stores. Its A is
 * replaced block by block while the last chunk is being computed, so nothing stops between tiles.
 *
 * There the warpgroups pass a turn to each other (named barriers 3 and 4): a ring's parity tells one lap from the next,
 * not from the one after, so neither may look at a stage before the other has seen all of its own before it.
 *
 * Invariant: an element's sum is over K in steps of 16, rising, in one accumulator, whatever the kernel and the tile:
 * results have the same bits for any number of rows (tests/cuda/test_cuda.c holds every variant to that).
 *
 * Rows past the end are computed on what the buffers hold and never read. Rejected: split K (bits would depend on the
 * split), W by multicast to clusters of two (measured slower in a prototype), stores straight from registers (stall the
 * epilogue). */
#include "backend/cuda/epilogue.cuh"
#include "backend/cuda/kernels.cuh"
#include "backend/cuda/launch.cuh"
#include "backend/cuda/wgmma.cuh"

constexpr int BLOCK_N = 192, PIECE = 16 * 64 * 2, SMALL_N = 64, RESIDENT_K = 384, RING_BUFFERS = 3;
template <typename I> constexpr int block_k = 128 / sizeof(I); /* what 128 bytes of a row hold */
template <typename I> constexpr int resident_blocks = RESIDENT_K / block_k<I>;
constexpr int THREADS = 384;

/* Shared memory is laid out from a 1024-byte boundary: tiles first, then the eight consumer warps' staging, barriers.
 */
static size_t shared_bytes(size_t tiles, int buffers) { return 1024 + tiles + 8 * (size_t)buffers * PIECE + 512; }

/* What shared memory the resident kernel has left after A goes to the ring, or, where the epilogue is the longer part,
 * to buffers for what is on its way out. */
template <typename I, int E> constexpr int resident_stages = (E == EPILOGUE_BIAS ? 4 : 3) + (sizeof(I) == 1 ? 2 : 0);
template <int E> constexpr int resident_buffers = E == EPILOGUE_BIAS ? 2 : 3;

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define CPL_CUDA_SM90A 1
#endif

#ifdef CPL_CUDA_SM90A

__device__ __forceinline__ void matrix_store(uint32_t to, const uint32_t (&r)[4])
{
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(to), "r"(r[0]), "r"(r[1]),
                 "r"(r[2]), "r"(r[3])
                 : "memory");
}

/* A warp's 16 x 64 results into a buffer, swizzled: rows of 128 bytes, or with e4m3 of 64, columns then in the order of
 * cpl_cuda_middle_column, in which a thread's four of 16 lie side by side. */
template <typename I, typename O, int E>
__device__ __forceinline__ void stage_piece(const sum_of<I> *d, const terms &t, const float2 &row_scale,
                                            uint32_t buffer, int column)
{
    const uint32_t lane = threadIdx.x & 31;
    const uint32_t row = (lane >> 3 & 1) * 8 + (lane & 7), chunk = lane >> 4;
    constexpr int STEP = sizeof(O) == 1 ? 4 : 2; /* eights of columns a store */
#pragma unroll
    for (int j = 0; j < 8; j += STEP) {
        uint32_t r[4];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int at = j + half * STEP / 2;
            const column_pair c = load_columns<I>(t, column + 8 * at + 2 * (lane & 3));
            const float2 low = scaled<I>(d + 4 * at, c, row_scale.x), high = scaled<I>(d + 4 * at + 2, c, row_scale.y);
            if constexpr (sizeof(O) == 1) {
                const column_pair n = load_columns<I>(t, column + 8 * at + 8 + 2 * (lane & 3));
                r[2 * half] = finish4<E>(low, scaled<I>(d + 4 * at + 4, n, row_scale.x), t.epilogue);
                r[2 * half + 1] = finish4<E>(high, scaled<I>(d + 4 * at + 6, n, row_scale.y), t.epilogue);
            } else {
                r[2 * half] = finish2<O, E>(low, t.epilogue);
                r[2 * half + 1] = finish2<O, E>(high, t.epilogue);
            }
        }
        if constexpr (sizeof(O) == 1)
            matrix_store(buffer + row * 64 + ((j / 2 + chunk) ^ (row >> 1 & 3)) * 16, r);
        else
            matrix_store(buffer + row * 128 + ((j + chunk) ^ (row & 7)) * 16, r);
    }
}

/* 64 rows of a warpgroup's sums, BN columns from `column` on: activation, then out in pieces of 64 columns through
 * BUFFERS buffers a warp, which the copy engine reads while the next ones are filled. Each warp brings its own 16 rows
 * out by itself: none waits for another. */
template <typename I, typename O, int BN, int E, int BUFFERS>
__device__ __forceinline__ void store_rows(const sum_of<I> (&d)[BN / 2], const CUtensorMap *map, const terms &t,
                                           uint32_t staging, uint32_t &piece, int column, int row, int columns)
{
    const int lane = threadIdx.x & 31, first = row + (threadIdx.x >> 5 & 3) * 16, own = first + lane / 4;
    float2 row_scale = make_float2(1, 1);
    if constexpr (cpl_cuda_is_int8<I>()) row_scale = make_float2(t.row_scale[own], t.row_scale[own + 8]);
#pragma unroll
    for (int p = 0; p < BN / 64; p++) {
        if (column + 64 * p >= columns) break;
        const uint32_t buffer = staging + piece % BUFFERS * PIECE;
        piece++;
        if (lane == 0) tensor_store_read<BUFFERS - 1>();
        __syncwarp();
        stage_piece<I, O, E>(d + 32 * p, t, row_scale, buffer, column + 64 * p);
        fence_async_shared();
        __syncwarp();
        if (lane == 0) tensor_store(map, buffer, column + 64 * p, first);
    }
}

/* One block, 128 bytes deep: rows of a (MI tiles of 64, 8 KB apart) by BN columns of b. */
template <typename T, int MI, int BN>
__device__ __forceinline__ void multiply_block(sum_of<T> (&d)[MI][BN / 2], uint32_t a, uint32_t b, int first)
{
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; k++)
#pragma unroll
        for (int m = 0; m < MI; m++)
            wgmma<T, BN>(d[m], tile_descriptor(a + m * 8192 + k * 32), tile_descriptor(b + k * 32), !(first && k == 0));
    wgmma_commit();
}

struct ring {
    uint32_t index, phase;
};

template <int STAGES> __device__ __forceinline__ void ring_next(ring &r)
{
    if (++r.index == STAGES) {
        r.index = 0;
        r.phase ^= 1;
    }
}

#endif

template <typename I, typename O, int MI, int BN, int STAGES, int E>
__global__ void __launch_bounds__(THREADS, 1)
    ring_kernel(const __grid_constant__ CUtensorMap a_map, const __grid_constant__ CUtensorMap w_map,
                const __grid_constant__ CUtensorMap out_map, const terms t, const uint32_t *__restrict__ rows, int n,
                int blocks_k, int reverse)
{
#ifdef CPL_CUDA_SM90A
    extern __shared__ uint8_t raw[];
    constexpr uint32_t A_BYTES = 128 * MI * 128, W_BYTES = BN * 128, STAGE = A_BYTES + W_BYTES;
    constexpr uint32_t STAGING = RING_BUFFERS * PIECE;
    const uint32_t base = (shared_address(raw) + 1023) & ~1023u, staging = base + STAGES * STAGE;
    const uint32_t full = staging + 8 * STAGING, empty = full + 8 * STAGES;
    const int group = threadIdx.x >> 7, columns = (n + BN - 1) / BN;
    const int tiles = (int)((*rows + 128 * MI - 1) / (128 * MI)) * columns;
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; s++) {
            barrier_init(full + 8 * s, 1);
            barrier_init(empty + 8 * s, 2);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        prefetch_map(&a_map);
        prefetch_map(&w_map);
        prefetch_map(&out_map);
    }
    __syncthreads();
    grid_begin();
    ring r = {0, 0};
    if (group == 2) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
        if (threadIdx.x != 256) return;
        for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
            const int place = reverse ? tiles - 1 - tile : tile;
            const int row = place / columns * 128 * MI, column = place % columns * BN;
            for (int k = 0; k < blocks_k; k++) {
                const uint32_t to = base + r.index * STAGE, bar = full + 8 * r.index;
                barrier_wait(empty + 8 * r.index, r.phase ^ 1);
                barrier_expect(bar, STAGE);
#pragma unroll
                for (int m = 0; m < 2 * MI; m++) tensor_load(to + m * 8192, &a_map, bar, k * block_k<I>, row + 64 * m);
                tensor_load(to + A_BYTES, &w_map, bar, k * block_k<I>, column);
                ring_next<STAGES>(r);
            }
        }
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
        const int leader = (threadIdx.x & 127) == 0;
        const uint32_t own_staging = staging + (threadIdx.x >> 5) * STAGING;
        uint32_t piece = 0;
        sum_of<I> d[MI][BN / 2];
        for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
            const int place = reverse ? tiles - 1 - tile : tile;
            const int row = place / columns * 128 * MI + group * 64 * MI, column = place % columns * BN;
            uint32_t before = 0;
            for (int k = 0; k < blocks_k; k++) {
                const uint32_t at = base + r.index * STAGE;
                barrier_wait(full + 8 * r.index, r.phase);
                multiply_block<I, MI, BN>(d, at + group * MI * 8192, at + A_BYTES, k == 0);
                if (k) {
                    wgmma_wait<1>();
                    if (leader) barrier_arrive(empty + 8 * before);
                }
                before = r.index;
                ring_next<STAGES>(r);
            }
            wgmma_wait<0>();
            if (leader) barrier_arrive(empty + 8 * before);
#pragma unroll
            for (int m = 0; m < MI; m++)
                store_rows<I, O, BN, E, RING_BUFFERS>(d[m], &out_map, t, own_staging, piece, column, row + 64 * m, n);
        }
        if ((threadIdx.x & 31) == 0) tensor_store_all();
    }
#endif
}

#ifdef CPL_CUDA_SM90A

/* Where the resident kernel's tiles and barriers lie. */
struct resident_places {
    uint32_t a_at, w_at, full, empty, a_full, a_empty;
};

/* The producer thread: W's blocks in the order of the units, and with a unit's first chunk its A. */
template <typename I, int STAGES>
__device__ __forceinline__ void resident_produce(const CUtensorMap *a_map, const CUtensorMap *w_map,
                                                 const resident_places &at, int units, int chunks, int blocks_k,
                                                 int splits, int reverse)
{
    constexpr uint32_t BLOCK = 128 * 128, STAGE = BLOCK_N * 128;
    ring r = {0, 0};
    uint32_t a_phase = 1;
    for (int turn = blockIdx.x; turn < units; turn += gridDim.x) {
        const int unit = reverse ? units - 1 - turn : turn;
        const int row = unit / splits * 128, first = unit % splits * chunks;
        for (int c = 0; c < chunks; c++) {
            const int column = (first + (c + unit) % chunks) * BLOCK_N;
            for (int k = 0; k < blocks_k; k++) {
                if (c == 0) {
                    const uint32_t bar = at.a_full + 8 * k;
                    barrier_wait(at.a_empty + 8 * k, a_phase);
                    barrier_expect(bar, BLOCK);
                    tensor_load(at.a_at + k * BLOCK, a_map, bar, k * block_k<I>, row);
                    tensor_load(at.a_at + k * BLOCK + 8192, a_map, bar, k * block_k<I>, row + 64);
                }
                barrier_wait(at.empty + 8 * r.index, r.phase ^ 1);
                barrier_expect(at.full + 8 * r.index, STAGE);
                tensor_load(at.w_at + r.index * STAGE, w_map, at.full + 8 * r.index, k * block_k<I>, column);
                ring_next<STAGES>(r);
            }
        }
        a_phase ^= 1;
    }
}

#endif

/* A unit of work: 128 rows by 1/splits of the chunks. Units start at different chunks, so that the processors don't all
 * ask L2 for the same lines of W at once. */
template <typename I, typename O, int E>
__global__ void __launch_bounds__(THREADS, 1)
    resident_kernel(const __grid_constant__ CUtensorMap a_map, const __grid_constant__ CUtensorMap w_map,
                    const __grid_constant__ CUtensorMap out_map, const terms t, const uint32_t *__restrict__ rows,
                    int n, int blocks_k, int splits, int reverse)
{
#ifdef CPL_CUDA_SM90A
    extern __shared__ uint8_t raw[];
    constexpr int STAGES = resident_stages<I, E>, BUFFERS = resident_buffers<E>, A_BLOCKS = resident_blocks<I>;
    constexpr uint32_t BLOCK = 128 * 128, STAGE = BLOCK_N * 128, STAGING = BUFFERS * PIECE;
    const uint32_t a_at = (shared_address(raw) + 1023) & ~1023u, w_at = a_at + A_BLOCKS * BLOCK;
    const uint32_t staging = w_at + STAGES * STAGE;
    const uint32_t full = staging + 8 * STAGING, empty = full + 8 * STAGES;
    const uint32_t a_full = empty + 8 * STAGES, a_empty = a_full + 8 * A_BLOCKS;
    const int group = threadIdx.x >> 7, chunks = (n + BLOCK_N - 1) / BLOCK_N / splits;
    const int units = (int)((*rows + 127) / 128) * splits;
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; s++) {
            barrier_init(full + 8 * s, 1);
            barrier_init(empty + 8 * s, 1);
        }
        for (int s = 0; s < A_BLOCKS; s++) {
            barrier_init(a_full + 8 * s, 1);
            barrier_init(a_empty + 8 * s, 2);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        prefetch_map(&a_map);
        prefetch_map(&w_map);
        prefetch_map(&out_map);
    }
    __syncthreads();
    grid_begin();
    if (group == 2) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
        if (threadIdx.x != 256) return;
        resident_produce<I, STAGES>(&a_map, &w_map, {a_at, w_at, full, empty, a_full, a_empty}, units, chunks, blocks_k,
                                    splits, reverse);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
        const int leader = (threadIdx.x & 127) == 0;
        const uint32_t own_staging = staging + (threadIdx.x >> 5) * STAGING;
        uint32_t piece = 0, a_phase = 0, count = 0; /* count: chunks so far, of both warpgroups */
        sum_of<I> d[2][BLOCK_N / 2];
        if (group == 1) named_barrier_arrive(3, 256);
        for (int turn = blockIdx.x; turn < units; turn += gridDim.x) {
            const int unit = reverse ? units - 1 - turn : turn;
            const int row = unit / splits * 128, first = unit % splits * chunks;
            for (int c = 0; c < chunks; c++, count++) {
                if ((count & 1) != (uint32_t)group) continue;
                const bool last = c + 2 >= chunks;
                const uint32_t step = count * blocks_k;
                named_barrier(3 + group, 256);
                ring r = {step % STAGES, step / STAGES & 1};
                uint32_t before = 0;
                for (int k = 0; k < blocks_k; k++) {
                    barrier_wait(a_full + 8 * k, a_phase);
                    barrier_wait(full + 8 * r.index, r.phase);
                    multiply_block<I, 2, BLOCK_N>(d, a_at + k * BLOCK, w_at + r.index * STAGE, k == 0);
                    if (k) {
                        wgmma_wait<1>();
                        if (leader) {
                            barrier_arrive(empty + 8 * before);
                            if (last) barrier_arrive(a_empty + 8 * (k - 1));
                        }
                    }
                    before = r.index;
                    ring_next<STAGES>(r);
                }
                named_barrier_arrive(4 - group, 256);
                wgmma_wait<0>();
                if (leader) {
                    barrier_arrive(empty + 8 * before);
                    if (last) barrier_arrive(a_empty + 8 * (blocks_k - 1));
                }
#pragma unroll
                for (int m = 0; m < 2; m++)
                    store_rows<I, O, BLOCK_N, E, BUFFERS>(d[m], &out_map, t, own_staging, piece,
                                                          (first + (c + unit) % chunks) * BLOCK_N, row + 64 * m, n);
            }
            a_phase ^= 1;
        }
        if ((threadIdx.x & 31) == 0) tensor_store_all();
    }
#endif
}

/* ---- host ----------------------------------------------------------------------------------------------------------
 */

enum variant { CHOOSE, RING_256_192, RING_128_192, RING_128_64, RESIDENT, RESIDENT_2, RESIDENT_4, VARIANTS };

typedef void ring_fn(const CUtensorMap, const CUtensorMap, const CUtensorMap, const terms, const uint32_t *, int, int,
                     int);
static const struct shape {
    int rows, columns, stages;
} shapes[] = {{0, 0, 0}, {256, 192, 3}, {128, 192, 4}, {128, 64, 6}};

static size_t ring_shared(int v)
{
    return shared_bytes((size_t)shapes[v].stages * (shapes[v].rows + shapes[v].columns) * 128, RING_BUFFERS);
}

template <typename I, int E> static size_t resident_shared(void)
{
    return shared_bytes(resident_blocks<I> * 128 * 128 + resident_stages<I, E> * BLOCK_N * 128, resident_buffers<E>);
}

template <typename I, typename O, int E> static ring_fn *ring_of(int v)
{
    if (v == RING_256_192) return ring_kernel<I, O, 2, 192, 3, E>;
    if (v == RING_128_192) return ring_kernel<I, O, 1, 192, 4, E>;
    return ring_kernel<I, O, 1, 64, 6, E>;
}

template <typename I, typename O, int E> static cudaError_t prepare(void)
{
    cudaError_t e = cudaSuccess;
    for (int v = RING_256_192; v <= RING_128_64 && !e; v++)
        e = cudaFuncSetAttribute((const void *)ring_of<I, O, E>(v), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 (int)ring_shared(v));
    if (!e)
        e = cudaFuncSetAttribute((const void *)resident_kernel<I, O, E>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 (int)resident_shared<I, E>());
    return e;
}

template <typename T> static cudaError_t prepare_type(void)
{
    cudaError_t e = prepare<T, T, EPILOGUE_BIAS>();
    if (!e) e = prepare<T, T, EPILOGUE_GELU>();
    if (!e) e = prepare<T, T, -1>();
    return e;
}

cudaError_t cpl_cuda_prepare_wgmma(void)
{
    cudaError_t e = prepare_type<bf16>();
    if (!e) e = prepare_type<fp16>();
    if (!e) e = prepare<e4m3, bf16, EPILOGUE_BIAS>();
    if (!e) e = prepare<e4m3, e4m3, EPILOGUE_GELU>();
    if (!e) e = prepare<e4m3, e4m3, -1>();
    if (!e) e = prepare<int8_t, bf16, EPILOGUE_BIAS>();
    if (!e) e = prepare<int8_t, bf16, EPILOGUE_GELU>();
    return e ? e : prepare<int8_t, bf16, -1>();
}

static int ceil_div(int a, int b) { return (a + b - 1) / b; }

static bool eight_bits(const cpl_cuda_product *p) { return p->type == CPL_CUDA_FP8 || p->type == CPL_CUDA_INT8; }

/* Cycles an epilogue of 128 x 192 results adds to a tile of 8-bit products: there it is longer than the arithmetic. */
static double long_epilogue(const cpl_cuda_product *p) { return p->epilogue == EPILOGUE_BIAS ? 3100 : 4475; }

static double ring_cost(int v, const cpl_cuda_product *p, int rows, int processors)
{
    const struct shape *s = &shapes[v];
    const int tiles = ceil_div(rows, s->rows) * ceil_div((int)p->n, s->columns);
    const double block = s->rows * s->columns / 32.0 * (s->rows == 256 ? 1.2 : s->columns == 192 ? 1.12 : 2.0);
    double rest = s->rows * s->columns / 14.0 + 300;
    if (eight_bits(p))
        rest = long_epilogue(p) * (s->columns == 64               ? 0.45
                                   : s->rows == 128               ? 1.0
                                   : p->epilogue == EPILOGUE_BIAS ? 1.67
                                                                  : 2.18);
    return ceil_div(tiles, processors) * (ceil_div((int)p->k, eight_bits(p) ? 128 : 64) * block + rest) + 2000;
}

/* Cycles a variant takes, roughly: waves of units times a unit's arithmetic and a fixed part; fitted to what the bench
 * measured on an H200. Only the speed depends on it. */
static double cost_of(int v, const cpl_cuda_product *p, int rows, int processors)
{
    if (v < RESIDENT) return ring_cost(v, p, rows, processors);
    const int splits = v == RESIDENT ? 1 : v == RESIDENT_2 ? 2 : 4, chunks = ceil_div((int)p->n, BLOCK_N);
    if (p->k > RESIDENT_K || chunks % splits || chunks / splits < 2) return 1e30;
    const int units = ceil_div(rows, 128) * splits;
    double chunk = ceil_div((int)p->k, 64) * 128 * BLOCK_N / 32.0 *
                   (p->epilogue == EPILOGUE_BIAS ? 1.15
                    : splits == 2                ? 1.25
                                                 : 1.3);
    if (eight_bits(p)) chunk = 2650 + long_epilogue(p);
    return ceil_div(units, processors) * (chunk * chunks / splits + 400) + 128 * BLOCK_N / 14.0 + 2500;
}

static int choose(const cpl_cuda_product *p, int rows, int processors)
{
    int best = RING_128_64;
    double least = 1e30;
    for (int v = RING_256_192; v < VARIANTS; v++) {
        const double c = cost_of(v, p, rows, processors);
        if (c < least) {
            least = c;
            best = v;
        }
    }
    return best;
}

template <typename I, typename O, int E>
static cudaError_t launch(const cpl_cuda_product *p, const uint32_t *rows, int rows_max, int processors, int v,
                          cpl_cuda_queue queue)
{
    const int blocks = ceil_div((int)p->k, block_k<I>), n = (int)p->n;
    const terms t = {p->bias, p->scale, p->row_scale, p->epilogue};
    if (v >= RESIDENT) {
        const int splits = v == RESIDENT ? 1 : v == RESIDENT_2 ? 2 : 4, units = ceil_div(rows_max, 128) * splits;
        cpl_cuda_start(resident_kernel<I, O, E>, dim3(units < processors ? units : processors), THREADS,
                       resident_shared<I, E>(), queue, 1, p->a_map, p->w_map_192, p->out_map, t, rows, n, blocks,
                       splits, queue.reverse);
    } else {
        const int tiles = ceil_div(rows_max, shapes[v].rows) * ceil_div(n, shapes[v].columns);
        ring_fn *kernel = ring_of<I, O, E>(v);
        cpl_cuda_start(kernel, dim3(tiles < processors ? tiles : processors), THREADS, ring_shared(v), queue, 1,
                       p->a_map, shapes[v].columns == 192 ? p->w_map_192 : p->w_map_64, p->out_map, t, rows, n, blocks,
                       queue.reverse);
    }
    return cudaGetLastError();
}

template <typename T>
static cudaError_t launch_type(const cpl_cuda_product *p, const uint32_t *rows, int rows_max, int processors, int v,
                               cpl_cuda_queue queue)
{
    if (p->epilogue == EPILOGUE_BIAS) return launch<T, T, EPILOGUE_BIAS>(p, rows, rows_max, processors, v, queue);
    if (p->epilogue == EPILOGUE_GELU) return launch<T, T, EPILOGUE_GELU>(p, rows, rows_max, processors, v, queue);
    return launch<T, T, -1>(p, rows, rows_max, processors, v, queue);
}

static cudaError_t launch_fp8(const cpl_cuda_product *p, const uint32_t *rows, int rows_max, int processors, int v,
                              cpl_cuda_queue queue)
{
    if (p->out_type != CPL_CUDA_FP8) return launch<e4m3, bf16, EPILOGUE_BIAS>(p, rows, rows_max, processors, v, queue);
    if (p->epilogue == EPILOGUE_GELU) return launch<e4m3, e4m3, EPILOGUE_GELU>(p, rows, rows_max, processors, v, queue);
    return launch<e4m3, e4m3, -1>(p, rows, rows_max, processors, v, queue);
}

static cudaError_t launch_int8(const cpl_cuda_product *p, const uint32_t *rows, int rows_max, int processors, int v,
                               cpl_cuda_queue queue)
{
    if (p->epilogue == EPILOGUE_BIAS)
        return launch<int8_t, bf16, EPILOGUE_BIAS>(p, rows, rows_max, processors, v, queue);
    if (p->epilogue == EPILOGUE_GELU)
        return launch<int8_t, bf16, EPILOGUE_GELU>(p, rows, rows_max, processors, v, queue);
    return launch<int8_t, bf16, -1>(p, rows, rows_max, processors, v, queue);
}

cudaError_t cpl_cuda_multiply_wgmma(const cpl_cuda_product *p, const uint32_t *rows, uint32_t rows_max,
                                    const cpl_cuda_device *d, int variant, cpl_cuda_queue queue)
{
    if (variant <= CHOOSE || variant >= VARIANTS || cost_of(variant, p, (int)rows_max, d->multiprocessors) >= 1e30)
        variant = choose(p, (int)rows_max, d->multiprocessors);
    if (p->type == CPL_CUDA_FP8) return launch_fp8(p, rows, (int)rows_max, d->multiprocessors, variant, queue);
    if (p->type == CPL_CUDA_INT8) return launch_int8(p, rows, (int)rows_max, d->multiprocessors, variant, queue);
    if (p->type == CPL_CUDA_BF16) return launch_type<bf16>(p, rows, (int)rows_max, d->multiprocessors, variant, queue);
    return launch_type<fp16>(p, rows, (int)rows_max, d->multiprocessors, variant, queue);
}

/* ---- tensor maps ----------------------------------------------------------------------------------------------------
 */

typedef CUresult encode_fn(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *,
                           const cuuint64_t *, const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave,
                           CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

/* bytes: of a box's rows, 128 or 64, and so the swizzle. */
static cudaError_t encode(CUtensorMap *map, cpl_cuda_type type, const void *data, uint32_t rows, uint32_t columns,
                          uint32_t stride, uint32_t box_rows, uint32_t bytes)
{
    void *entry = NULL;
    cudaDriverEntryPointQueryResult found;
    const cudaError_t e =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found);
    if (e) return e;
    if (found != cudaDriverEntryPointSuccess || !entry) return cudaErrorNotSupported;
    const uint32_t element = (uint32_t)cpl_cuda_element_bytes(type);
    const cuuint64_t size[2] = {columns, rows}, strides[1] = {(cuuint64_t)stride * element};
    const cuuint32_t box[2] = {bytes / element, box_rows}, step[2] = {1, 1};
    const CUresult r = ((encode_fn *)entry)(map,
                                            element == 1            ? CU_TENSOR_MAP_DATA_TYPE_UINT8
                                            : type == CPL_CUDA_BF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                                                    : CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
                                            2, (void *)data, size, strides, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                            bytes == 128 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_64B,
                                            CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return r ? cudaErrorInvalidValue : cudaSuccess;
}

cudaError_t cpl_cuda_tensor_map(CUtensorMap *map, cpl_cuda_type type, const void *data, uint32_t rows, uint32_t columns,
                                uint32_t stride, uint32_t box_rows)
{
    return encode(map, type, data, rows, columns, stride, box_rows, 128);
}

cudaError_t cpl_cuda_product_map(cpl_cuda_product *p, uint32_t a_rows, uint32_t out_rows)
{
    cudaError_t e = cpl_cuda_tensor_map(&p->a_map, p->type, p->a, a_rows, p->k, p->a_stride, 64);
    if (!e) e = cpl_cuda_tensor_map(&p->w_map_192, p->type, p->w, p->n, p->k, p->k, BLOCK_N);
    if (!e) e = cpl_cuda_tensor_map(&p->w_map_64, p->type, p->w, p->n, p->k, p->k, SMALL_N);
    return e ? e
             : encode(&p->out_map, p->out_type, p->out, out_rows, p->n, p->out_stride, 16,
                      p->out_type == CPL_CUDA_FP8 ? 64 : 128);
}
