/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_mma.cu - 16-bit, int8 and (from 8.9 on) e4m3 matrix products on any GPU since Ampere: 128 x 128 tiles of eight
 * warps, operands through four stages of cp.async, mma.sync. What runs where the Hopper kernels can't, and what they
 * are checked against: int8 sums are exact, so there both have the same bits.
 *
 * A stage is 64 bytes of K a row, whatever the element; so are fragments the same bytes, and only the instruction
 * differs.
 *
 * Invariant: one accumulator an element, K in steps of 32 bytes, rising; there is one tile shape, so results never
 * depend on the number of rows. Edges are zero-filled, so any n and any k that is a multiple of 16 bytes will do. */
#include "backend/cuda/epilogue.cuh"
#include "backend/cuda/kernels.cuh"
#include "backend/cuda/launch.cuh"

enum { TILE = 128, ROW_BYTES = 64, STAGES = 4, STAGE_BYTES = 2 * TILE * ROW_BYTES, THREADS = 256 };
template <typename I> constexpr uint32_t depth = ROW_BYTES / sizeof(I);

/* Of results without an activation. */
template <typename I> struct plain_of {
    typedef I type;
};
template <> struct plain_of<e4m3> {
    typedef bf16 type;
};
template <> struct plain_of<int8_t> {
    typedef bf16 type;
};

__device__ __forceinline__ uint32_t address_of(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

/* Byte of 16-byte chunk `chunk` of row `row` in a tile of 64-byte rows, spread so that ldmatrix meets no bank twice. */
__device__ __forceinline__ uint32_t tile_at(uint32_t row, uint32_t chunk)
{
    return row * 64 + (chunk ^ (row >> 1 & 3)) * 16;
}

template <typename T>
__device__ __forceinline__ void load_stage(uint32_t to, const T *a, uint32_t a_stride, uint32_t a_left, const T *w,
                                           uint32_t w_left, uint32_t k, uint32_t at)
{
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint32_t unit = threadIdx.x + i * THREADS, row = unit >> 2, chunk = unit & 3,
                       column = at + chunk * (16 / sizeof(T));
        const bool in = column < k;
        copy16(to + tile_at(row, chunk), a + (in && row < a_left ? (size_t)row * a_stride + column : 0),
               in && row < a_left);
        copy16(to + TILE * 64 + tile_at(row, chunk), w + (in && row < w_left ? (size_t)row * k + column : 0),
               in && row < w_left);
    }
}

template <typename T> __device__ __forceinline__ void multiply_stage(sum_of<T> (&d)[4][4][4], uint32_t a, uint32_t w)
{
    const uint32_t warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    const uint32_t a_row = (warp >> 2) * 64 + (lane & 15), w_row = (warp & 3) * 32 + (lane & 7) + (lane >> 4) * 8;
#pragma unroll
    for (int k = 0; k < 2; k++) {
        uint32_t af[4][4], wf[2][4];
#pragma unroll
        for (int m = 0; m < 4; m++) ldmatrix4(af[m], a + tile_at(a_row + 16 * m, 2 * k + (lane >> 4)));
#pragma unroll
        for (int n = 0; n < 2; n++) ldmatrix4(wf[n], w + tile_at(w_row + 16 * n, 2 * k + (lane >> 3 & 1)));
#pragma unroll
        for (int m = 0; m < 4; m++)
#pragma unroll
            for (int n = 0; n < 4; n++) mma_step<T>(d[m][n], af[m], wf[n / 2][n % 2 * 2], wf[n / 2][n % 2 * 2 + 1]);
    }
}

/* A warp's sums of 64 rows by 32 columns, from (row, column) on. e4m3 results lie in the order of
 * cpl_cuda_middle_column, a thread's four of 16 side by side. */
template <typename I, typename O, int E>
__device__ __forceinline__ void store_sums(const sum_of<I> (&d)[4][4][4], const terms &t, O *out, uint32_t stride,
                                           uint32_t row, uint32_t rows, uint32_t column, uint32_t columns)
{
    const uint32_t lane = threadIdx.x & 31;
    constexpr int STEP = sizeof(O) == 1 ? 2 : 1; /* eights of columns a store */
#pragma unroll
    for (int m = 0; m < 4; m++)
#pragma unroll
        for (int j = 0; j < 4; j += STEP) {
            const uint32_t c = column + 8 * j + 2 * (lane & 3);
            if (column + 8 * j >= columns) continue;
            const column_pair p = load_columns<I>(t, (int)c);
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const uint32_t r = row + 16 * m + 8 * h + (lane >> 2);
                if (r >= rows) continue;
                const float row_scale = cpl_cuda_is_int8<I>() ? t.row_scale[r] : 1.0f;
                const float2 v = scaled<I>(d[m][j] + 2 * h, p, row_scale);
                if constexpr (sizeof(O) == 1) {
                    const column_pair q = load_columns<I>(t, (int)c + 8);
                    *(uint32_t *)(out + (size_t)r * stride + column + 8 * j + 4 * (lane & 3)) =
                        finish4<E>(v, scaled<I>(d[m][j + 1] + 2 * h, q, row_scale), t.epilogue);
                } else {
                    *(uint32_t *)(out + (size_t)r * stride + c) = finish2<O, E>(v, t.epilogue);
                }
            }
        }
}

template <typename I, typename O, int E>
__global__ void __launch_bounds__(THREADS, 2)
    tile_kernel(const I *__restrict__ a, uint32_t a_stride, const I *__restrict__ w, const terms t, O *__restrict__ out,
                uint32_t out_stride, const uint32_t *__restrict__ rows, uint32_t n, uint32_t k)
{
    extern __shared__ __align__(1024) uint8_t stages[];
    grid_begin();
    const uint32_t total = *rows, row = blockIdx.y * TILE, column = blockIdx.x * TILE;
    if (row >= total) return;
    constexpr uint32_t DEPTH = depth<I>;
    const uint32_t base = address_of(stages), blocks = (k + DEPTH - 1) / DEPTH;
    const I *pa = a + (size_t)row * a_stride, *pw = w + (size_t)column * k;
    sum_of<I> d[4][4][4] = {};
    for (uint32_t s = 0; s < STAGES - 1; s++) {
        if (s < blocks) load_stage(base + s * STAGE_BYTES, pa, a_stride, total - row, pw, n - column, k, s * DEPTH);
        copy_commit();
    }
    for (uint32_t s = 0; s < blocks; s++) {
        copy_wait<STAGES - 2>();
        __syncthreads();
        if (s + STAGES - 1 < blocks)
            load_stage(base + (s + STAGES - 1) % STAGES * STAGE_BYTES, pa, a_stride, total - row, pw, n - column, k,
                       (s + STAGES - 1) * DEPTH);
        copy_commit();
        const uint32_t at = base + s % STAGES * STAGE_BYTES;
        multiply_stage<I>(d, at, at + TILE * ROW_BYTES);
    }
    const uint32_t warp = threadIdx.x >> 5;
    store_sums<I, O, E>(d, t, out, out_stride, row + (warp >> 2) * 64, total, column + (warp & 3) * 32, n);
}

/* ---- host ----------------------------------------------------------------------------------------------------------
 */

template <typename I, typename O, int E>
static cudaError_t launch(const cpl_cuda_product *p, const uint32_t *rows, uint32_t rows_max, cpl_cuda_queue queue)
{
    const dim3 grid((p->n + TILE - 1) / TILE, (rows_max + TILE - 1) / TILE);
    const terms t = {p->bias, p->scale, p->row_scale, p->epilogue};
    cpl_cuda_start(tile_kernel<I, O, E>, dim3(grid), THREADS, STAGES * STAGE_BYTES, queue, 1, (const I *)p->a,
                   p->a_stride, (const I *)p->w, t, (O *)p->out, p->out_stride, rows, p->n, p->k);
    return cudaGetLastError();
}

/* Of operands I; O: of the results of an activation. */
template <typename I, typename O>
static cudaError_t launch_type(const cpl_cuda_product *p, const uint32_t *rows, uint32_t rows_max, cpl_cuda_queue queue)
{
    typedef typename plain_of<I>::type plain;
    if (p->epilogue == EPILOGUE_BIAS) return launch<I, plain, EPILOGUE_BIAS>(p, rows, rows_max, queue);
    if (p->epilogue == EPILOGUE_GELU) return launch<I, O, EPILOGUE_GELU>(p, rows, rows_max, queue);
    return launch<I, O, -1>(p, rows, rows_max, queue);
}

cudaError_t cpl_cuda_multiply_mma(const cpl_cuda_product *p, const uint32_t *rows, uint32_t rows_max,
                                  cpl_cuda_queue queue)
{
    if (p->type == CPL_CUDA_INT8) return launch_type<int8_t, bf16>(p, rows, rows_max, queue);
    if (p->type == CPL_CUDA_FP8) return launch_type<e4m3, e4m3>(p, rows, rows_max, queue);
    return p->type == CPL_CUDA_BF16 ? launch_type<bf16, bf16>(p, rows, rows_max, queue)
                                    : launch_type<fp16, fp16>(p, rows, rows_max, queue);
}

template <typename I, typename O> static cudaError_t prepare(void)
{
    typedef typename plain_of<I>::type plain;
    const cudaFuncAttribute room = cudaFuncAttributeMaxDynamicSharedMemorySize;
    cudaError_t e =
        cudaFuncSetAttribute((const void *)tile_kernel<I, plain, EPILOGUE_BIAS>, room, STAGES * STAGE_BYTES);
    if (!e) e = cudaFuncSetAttribute((const void *)tile_kernel<I, O, EPILOGUE_GELU>, room, STAGES * STAGE_BYTES);
    if (!e) e = cudaFuncSetAttribute((const void *)tile_kernel<I, O, -1>, room, STAGES * STAGE_BYTES);
    return e;
}

cudaError_t cpl_cuda_prepare_mma(void)
{
    cudaError_t e = prepare<bf16, bf16>();
    if (!e) e = prepare<fp16, fp16>();
    if (!e) e = prepare<e4m3, e4m3>();
    return e ? e : prepare<int8_t, bf16>();
}

cudaError_t cpl_cuda_kernels_prepare(const cpl_cuda_device *d)
{
    cudaError_t e = cpl_cuda_prepare_mma();
    if (!e && d->wgmma) e = cpl_cuda_prepare_wgmma();
    return e;
}

cudaError_t cpl_cuda_multiply(const cpl_cuda_product *p, const uint32_t *rows, uint32_t rows_max,
                              const cpl_cuda_device *d, int variant, cpl_cuda_queue queue)
{
    if (p->type == CPL_CUDA_FP32) return cpl_cuda_multiply_fp32(p, rows, rows_max, queue);
    if (d->wgmma) return cpl_cuda_multiply_wgmma(p, rows, rows_max, d, variant, queue);
    return cpl_cuda_multiply_mma(p, rows, rows_max, queue);
}
