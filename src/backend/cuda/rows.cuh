/* SPDX-License-Identifier: Apache-2.0 */
/* rows.cuh - what a warp does to a row: sums and the norm. A lane holds columns 4 lane + 128 i. Mean and variance are
 * taken in registers, two passes, by one fixed tree: a row's bits depend on the row alone. */
#ifndef CPL_BACKEND_CUDA_ROWS_CUH
#define CPL_BACKEND_CUDA_ROWS_CUH

#include "backend/cuda/device.cuh"
#include "backend/cuda/kernels.cuh"

/* v: the lane's columns of R rows, zero past `hidden`; normalised in place, all rows in step, since each waits for its
 * sums. get(i, &weight, &bias) of those columns. Every rounding is spelt out: what the compiler makes of one R must be
 * what it makes of another. */
template <int R, int N, typename G>
__device__ __forceinline__ void normalise_by(float4 (&v)[R][N], uint32_t hidden, float epsilon, G get)
{
    const uint32_t lane = threadIdx.x & 31;
    const float part = 1.0f / (float)hidden;
    float sum[R], squares[R];
#pragma unroll
    for (int r = 0; r < R; r++) {
        sum[r] = squares[r] = 0;
#pragma unroll
        for (int i = 0; i < N; i++) sum[r] += (v[r][i].x + v[r][i].y) + (v[r][i].z + v[r][i].w);
    }
    warp_sums(sum);
#pragma unroll
    for (int r = 0; r < R; r++) {
        const float mean = __fmul_rn(sum[r], part);
#pragma unroll
        for (int i = 0; i < N; i++) {
            if (4 * lane + 128 * i >= hidden) continue;
            float4 &u = v[r][i];
            u = make_float4(u.x - mean, u.y - mean, u.z - mean, u.w - mean);
            squares[r] = fmaf(u.w, u.w, fmaf(u.z, u.z, fmaf(u.y, u.y, fmaf(u.x, u.x, squares[r]))));
        }
    }
    warp_sums(squares);
#pragma unroll
    for (int r = 0; r < R; r++) squares[r] = rsqrtf(fmaf(squares[r], part, epsilon));
#pragma unroll
    for (int i = 0; i < N; i++) {
        if (4 * lane + 128 * i >= hidden) continue;
        float4 g, b;
        get(i, g, b);
#pragma unroll
        for (int r = 0; r < R; r++) {
            float4 &u = v[r][i];
            const float scale = squares[r];
            u = make_float4(fmaf(__fmul_rn(u.x, scale), g.x, b.x), fmaf(__fmul_rn(u.y, scale), g.y, b.y),
                            fmaf(__fmul_rn(u.z, scale), g.z, b.z), fmaf(__fmul_rn(u.w, scale), g.w, b.w));
        }
    }
}

/* One row. */
template <int N> __device__ __forceinline__ void normalise(float4 (&v)[N], uint32_t hidden, const cpl_cuda_norm &norm)
{
    const uint32_t lane = threadIdx.x & 31;
    normalise_by(reinterpret_cast<float4(&)[1][N]>(v), hidden, norm.epsilon, [&](int i, float4 &g, float4 &b) {
        g = __ldg((const float4 *)(norm.weight + 4 * lane + 128 * i));
        b = __ldg((const float4 *)(norm.bias + 4 * lane + 128 * i));
    });
}

__device__ __forceinline__ float4 add(float4 a, float4 b)
{
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

#endif
