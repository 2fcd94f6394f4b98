/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_fp32.cu - matrix products in real fp32 (no TF32): 64 x 64 tiles, one fused multiply-add after the other over K
 * in rising order, so results never depend on the number of rows. Used by fp32 models and by every model's pooler. */
#include "backend/cuda/device.cuh"
#include "backend/cuda/kernels.cuh"
#include "backend/cuda/launch.cuh"

enum { TILE = 64, DEPTH = 16, THREADS = 256, PITCH = TILE + 4 };

/* Each thread brings one float4 of a tile: row thread / 4, columns 4 (thread % 4). */
__device__ __forceinline__ float4 fetch(const float *p, uint32_t stride, uint32_t row, uint32_t rows, uint32_t column,
                                        uint32_t columns)
{
    if (row >= rows || column >= columns) return make_float4(0, 0, 0, 0);
    return *(const float4 *)(p + (size_t)row * stride + column);
}

__device__ __forceinline__ void put(float (*tile)[PITCH], uint32_t row, uint32_t k, float4 v)
{
    tile[k][row] = v.x;
    tile[k + 1][row] = v.y;
    tile[k + 2][row] = v.z;
    tile[k + 3][row] = v.w;
}

__global__ void __launch_bounds__(THREADS)
    tile_kernel(const float *__restrict__ a, uint32_t a_stride, const float *__restrict__ w,
                const float *__restrict__ bias, float *__restrict__ out, uint32_t out_stride,
                const uint32_t *__restrict__ rows, uint32_t n, uint32_t k, int epilogue)
{
    __shared__ __align__(16) float at[2][DEPTH][PITCH], wt[2][DEPTH][PITCH];
    grid_begin();
    const uint32_t total = *rows, row = blockIdx.y * TILE, column = blockIdx.x * TILE;
    if (row >= total) return;
    const uint32_t my_row = threadIdx.x >> 2, my_k = (threadIdx.x & 3) * 4;
    const uint32_t tx = threadIdx.x & 15, ty = threadIdx.x >> 4, blocks = (k + DEPTH - 1) / DEPTH;
    float d[4][4] = {};
    put(at[0], my_row, my_k, fetch(a, a_stride, row + my_row, total, my_k, k));
    put(wt[0], my_row, my_k, fetch(w, k, column + my_row, n, my_k, k));
    __syncthreads();
    for (uint32_t b = 0; b < blocks; b++) {
        const uint32_t next = (b + 1) * DEPTH + my_k;
        const float4 na = fetch(a, a_stride, row + my_row, total, next, k);
        const float4 nw = fetch(w, k, column + my_row, n, next, k);
#pragma unroll
        for (int i = 0; i < DEPTH; i++) {
            const float4 x = *(const float4 *)&at[b & 1][i][4 * ty], y = *(const float4 *)&wt[b & 1][i][4 * tx];
            const float xs[4] = {x.x, x.y, x.z, x.w}, ys[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
            for (int r = 0; r < 4; r++)
#pragma unroll
                for (int c = 0; c < 4; c++) d[r][c] = fmaf(xs[r], ys[c], d[r][c]);
        }
        put(at[b + 1 & 1], my_row, my_k, na);
        put(wt[b + 1 & 1], my_row, my_k, nw);
        __syncthreads();
    }
#pragma unroll
    for (int r = 0; r < 4; r++) {
        const uint32_t i = row + 4 * ty + r;
        for (int c = 0; c < 4; c++) {
            const uint32_t j = column + 4 * tx + c;
            if (i >= total || j >= n) continue;
            const float v = d[r][c] + bias[j];
            out[(size_t)i * out_stride + j] = epilogue == EPILOGUE_GELU ? gelu<float>(v) : activate_other(v, epilogue);
        }
    }
}

cudaError_t cpl_cuda_multiply_fp32(const cpl_cuda_product *p, const uint32_t *rows, uint32_t rows_max,
                                   cpl_cuda_queue queue)
{
    const dim3 grid((p->n + TILE - 1) / TILE, (rows_max + TILE - 1) / TILE);
    cpl_cuda_start(tile_kernel, dim3(grid), THREADS, 0, queue, 1, (const float *)p->a, p->a_stride, (const float *)p->w,
                   p->bias, (float *)p->out, p->out_stride, rows, p->n, p->k, p->epilogue);
    return cudaGetLastError();
}
