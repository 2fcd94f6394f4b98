/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_mma.cu - 16-bit matrix products on any GPU since Ampere: 128 x 128 tiles of eight warps, operands through four
 * stages of cp.async, mma.sync m16n8k16. What runs where the Hopper kernels can't, and what they are checked against.
 *
 * Invariant: one accumulator an element, K in steps of 16, rising; there is one tile shape, so results never depend on
 * the number of rows. Edges are zero-filled, so any n and any k that is a multiple of 8 will do. */
#include "backend/cuda/device.cuh"
#include "backend/cuda/kernels.cuh"
#include "backend/cuda/launch.cuh"

enum { TILE = 128, DEPTH = 32, STAGES = 4, STAGE_BYTES = 2 * TILE * DEPTH * 2, THREADS = 256 };

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
        const uint32_t unit = threadIdx.x + i * THREADS, row = unit >> 2, chunk = unit & 3, column = at + chunk * 8;
        const bool in = column < k;
        copy16(to + tile_at(row, chunk), a + (in && row < a_left ? (size_t)row * a_stride + column : 0),
               in && row < a_left);
        copy16(to + TILE * 64 + tile_at(row, chunk), w + (in && row < w_left ? (size_t)row * k + column : 0),
               in && row < w_left);
    }
}

template <typename T> __device__ __forceinline__ void multiply_stage(float (&d)[4][4][4], uint32_t a, uint32_t w)
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
            for (int n = 0; n < 4; n++) mma16816<T>(d[m][n], af[m], wf[n / 2][n % 2 * 2], wf[n / 2][n % 2 * 2 + 1]);
    }
}

template <typename T, int E>
__global__ void __launch_bounds__(THREADS, 2)
    tile_kernel(const T *__restrict__ a, uint32_t a_stride, const T *__restrict__ w, const float *__restrict__ bias,
                T *__restrict__ out, uint32_t out_stride, const uint32_t *__restrict__ rows, uint32_t n, uint32_t k,
                int epilogue)
{
    extern __shared__ __align__(1024) uint8_t stages[];
    grid_begin();
    const uint32_t total = *rows, row = blockIdx.y * TILE, column = blockIdx.x * TILE;
    if (row >= total) return;
    const uint32_t base = address_of(stages), blocks = (k + DEPTH - 1) / DEPTH;
    const T *pa = a + (size_t)row * a_stride, *pw = w + (size_t)column * k;
    float d[4][4][4] = {};
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
        multiply_stage<T>(d, at, at + TILE * 64);
    }
    const uint32_t warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
#pragma unroll
    for (int m = 0; m < 4; m++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const uint32_t r = row + (warp >> 2) * 64 + 16 * m + (lane >> 2);
            const uint32_t c = column + (warp & 3) * 32 + 8 * j + 2 * (lane & 3);
            if (c >= n) continue;
            const float b0 = bias[c], b1 = bias[c + 1];
            const float2 low = activate<T, E>(make_float2(d[m][j][0] + b0, d[m][j][1] + b1), epilogue);
            const float2 high = activate<T, E>(make_float2(d[m][j][2] + b0, d[m][j][3] + b1), epilogue);
            if (r < total) *(uint32_t *)(out + (size_t)r * out_stride + c) = pack2<T>(low.x, low.y);
            if (r + 8 < total) *(uint32_t *)(out + (size_t)(r + 8) * out_stride + c) = pack2<T>(high.x, high.y);
        }
}

template <typename T, int E>
static cudaError_t launch(const cpl_cuda_product *p, const uint32_t *rows, uint32_t rows_max, cpl_cuda_queue queue)
{
    const dim3 grid((p->n + TILE - 1) / TILE, (rows_max + TILE - 1) / TILE);
    cpl_cuda_start(tile_kernel<T, E>, dim3(grid), THREADS, STAGES * STAGE_BYTES, queue, 1, (const T *)p->a, p->a_stride,
                   (const T *)p->w, p->bias, (T *)p->out, p->out_stride, rows, p->n, p->k, p->epilogue);
    return cudaGetLastError();
}

template <typename T>
static cudaError_t launch_type(const cpl_cuda_product *p, const uint32_t *rows, uint32_t rows_max, cpl_cuda_queue queue)
{
    if (p->epilogue == EPILOGUE_BIAS) return launch<T, EPILOGUE_BIAS>(p, rows, rows_max, queue);
    if (p->epilogue == EPILOGUE_GELU) return launch<T, EPILOGUE_GELU>(p, rows, rows_max, queue);
    return launch<T, -1>(p, rows, rows_max, queue);
}

cudaError_t cpl_cuda_multiply_mma(const cpl_cuda_product *p, const uint32_t *rows, uint32_t rows_max,
                                  cpl_cuda_queue queue)
{
    return p->type == CPL_CUDA_BF16 ? launch_type<bf16>(p, rows, rows_max, queue)
                                    : launch_type<fp16>(p, rows, rows_max, queue);
}

template <typename T> static cudaError_t prepare(void)
{
    const cudaFuncAttribute room = cudaFuncAttributeMaxDynamicSharedMemorySize;
    cudaError_t e = cudaFuncSetAttribute((const void *)tile_kernel<T, EPILOGUE_BIAS>, room, STAGES * STAGE_BYTES);
    if (!e) e = cudaFuncSetAttribute((const void *)tile_kernel<T, EPILOGUE_GELU>, room, STAGES * STAGE_BYTES);
    if (!e) e = cudaFuncSetAttribute((const void *)tile_kernel<T, -1>, room, STAGES * STAGE_BYTES);
    return e;
}

cudaError_t cpl_cuda_prepare_mma(void)
{
    const cudaError_t e = prepare<bf16>();
    return e ? e : prepare<fp16>();
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
