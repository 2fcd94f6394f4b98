/* SPDX-License-Identifier: Apache-2.0 */
/* rows.cuh - what a warp does to a row: sums and the norm. A lane holds columns 4 lane + 128 i. Mean and variance are
 * taken in registers, two passes, by one fixed tree: a row's bits depend on the row alone. */
#ifndef CPL_BACKEND_CUDA_ROWS_CUH
#define CPL_BACKEND_CUDA_ROWS_CUH

#include "backend/cuda/device.cuh"
#include "backend/cuda/kernels.cuh"

/* v: the lane's columns, zero past `hidden`; normalised in place. get(i, &weight, &bias) of those columns. */
template <int N, typename G>
__device__ __forceinline__ void normalise_by(float4 (&v)[N], uint32_t hidden, float epsilon, G get)
{
    const uint32_t lane = threadIdx.x & 31;
    float sum = 0, squares = 0;
#pragma unroll
    for (int i = 0; i < N; i++) sum += (v[i].x + v[i].y) + (v[i].z + v[i].w);
    const float mean = warp_sum(sum) / (float)hidden;
#pragma unroll
    for (int i = 0; i < N; i++) {
        if (4 * lane + 128 * i >= hidden) continue;
        v[i].x -= mean;
        v[i].y -= mean;
        v[i].z -= mean;
        v[i].w -= mean;
        squares += (v[i].x * v[i].x + v[i].y * v[i].y) + (v[i].z * v[i].z + v[i].w * v[i].w);
    }
    const float scale = rsqrtf(warp_sum(squares) / (float)hidden + epsilon);
#pragma unroll
    for (int i = 0; i < N; i++) {
        if (4 * lane + 128 * i >= hidden) continue;
        float4 g, b;
        get(i, g, b);
        v[i].x = fmaf(v[i].x * scale, g.x, b.x);
        v[i].y = fmaf(v[i].y * scale, g.y, b.y);
        v[i].z = fmaf(v[i].z * scale, g.z, b.z);
        v[i].w = fmaf(v[i].w * scale, g.w, b.w);
    }
}

template <int N> __device__ __forceinline__ void normalise(float4 (&v)[N], uint32_t hidden, const cpl_cuda_norm &norm)
{
    const uint32_t lane = threadIdx.x & 31;
    normalise_by(v, hidden, norm.epsilon, [&](int i, float4 &g, float4 &b) {
        g = __ldg((const float4 *)(norm.weight + 4 * lane + 128 * i));
        b = __ldg((const float4 *)(norm.bias + 4 * lane + 128 * i));
    });
}

__device__ __forceinline__ float4 add(float4 a, float4 b)
{
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

#endif
