/* SPDX-License-Identifier: Apache-2.0 */
/* attention.cuh - softmax(q k^T / sqrt(d)) v for one warp: 16 M query rows on the matrix units against keys and values
 * in shared memory, softmax online in fp32 base 2; or one query against keys and values anywhere. Both attention.cu and
 * small.cu are made of these, so a sequence has the same bits in either.
 *
 * The trick: a contraction may take its elements in any order as long as both sides agree, so q and k are taken eight
 * neighbouring columns a lane, plain 16-byte loads, no ldmatrix. Likewise a lane's eight results of 32 columns are
 * stored side by side, 16 bytes; the output projection has its columns in the same order (cpl_cuda_context_column).
 *
 * Invariant: which keys are summed in which order depends on the sequence alone: 32 at a time, rising, from its first.
 */
#ifndef CPL_BACKEND_CUDA_ATTENTION_CUH
#define CPL_BACKEND_CUDA_ATTENTION_CUH

#include "backend/cuda/device.cuh"

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

template <typename T, int D, int M> struct block_state {
    uint32_t q[D / 32][M][4][2]; /* [32 columns][16 rows][word of 8 columns][row, row + 8] */
    float out[M][D / 8][4];
    float most[M][2], sum[M][2];
};

template <typename T, int D, int M>
__device__ __forceinline__ void load_queries(block_state<T, D, M> &s, const T *q, uint32_t stride, uint32_t row,
                                             uint32_t length)
{
    const uint32_t lane = threadIdx.x & 31;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const uint32_t r = min(row + 16 * m + 8 * h + (lane >> 2), length - 1);
#pragma unroll
            for (int g = 0; g < D / 32; g++) {
                const uint4 v = *(const uint4 *)(q + (size_t)r * stride + 32 * g + 8 * (lane & 3));
                s.q[g][m][0][h] = v.x;
                s.q[g][m][1][h] = v.y;
                s.q[g][m][2][h] = v.z;
                s.q[g][m][3][h] = v.w;
            }
            s.most[m][h] = -INFINITY;
            s.sum[m][h] = 0;
        }
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int j = 0; j < D / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) s.out[m][j][e] = 0;
}

/* p = q k^T of 8 N keys from row `row` of the chunk on; the first `left` of them exist, the others get -infinity. */
template <typename T, int D, int M, int N>
__device__ __forceinline__ void score_keys(const block_state<T, D, M> &s, float (&p)[M][N][4], uint32_t keys,
                                           uint32_t row, int left)
{
    const uint32_t lane = threadIdx.x & 31;
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
        for (int m = 0; m < M; m++)
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
            for (int m = 0; m < M; m++) {
                const uint32_t a[4] = {s.q[g][m][0][0], s.q[g][m][0][1], s.q[g][m][1][0], s.q[g][m][1][1]};
                const uint32_t b[4] = {s.q[g][m][2][0], s.q[g][m][2][1], s.q[g][m][3][0], s.q[g][m][3][1]};
                mma16816<T>(p[m][n], a, k[0], k[1]);
                mma16816<T>(p[m][n], b, k[2], k[3]);
            }
        }
        if (left < 8 * N) {
#pragma unroll
            for (int m = 0; m < M; m++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    if (8 * n + 2 * (int)(lane & 3) + (e & 1) >= left) p[m][n][e] = -INFINITY;
        }
    }
}

/* p = exp2 of the scaled scores less the largest so far, to which what was summed before is brought. */
template <typename T, int D, int M, int N>
__device__ __forceinline__ void soften(block_state<T, D, M> &s, float (&p)[M][N][4], float scale)
{
#pragma unroll
    for (int m = 0; m < M; m++)
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
}

template <typename T, int D, int M, int N>
__device__ __forceinline__ void add_values(block_state<T, D, M> &s, const float (&p)[M][N][4], uint32_t values,
                                           uint32_t row)
{
    const uint32_t lane = threadIdx.x & 31;
#pragma unroll
    for (int n = 0; n < N; n += 2) {
        uint32_t a[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) {
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
            for (int m = 0; m < M; m++) {
                mma16816<T>(s.out[m][j], a[m], v[0], v[1]);
                mma16816<T>(s.out[m][j + 1], a[m], v[2], v[3]);
            }
        }
    }
}

/* 8 N keys from row `row` of the chunk on; the first `left` of them exist. scale: with log2(e) in it. */
template <typename T, int D, int M, int N>
__device__ __forceinline__ void attend_keys(block_state<T, D, M> &s, uint32_t keys, uint32_t values, uint32_t row,
                                            int left, float scale)
{
    float p[M][N][4];
    score_keys<T, D, M, N>(s, p, keys, row, left);
    soften<T, D, M, N>(s, p, scale);
    add_values<T, D, M, N>(s, p, values, row);
}

/* O: T, or e4m3. */
template <typename T, int D, int M, typename O>
__device__ __forceinline__ void store_context(block_state<T, D, M> &s, O *ctx, uint32_t stride, uint32_t row,
                                              uint32_t length)
{
    const uint32_t lane = threadIdx.x & 31;
#pragma unroll
    for (int m = 0; m < M; m++)
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
                O *to = ctx + (size_t)r * stride + 32 * g + 8 * (lane & 3);
                if constexpr (sizeof(O) == 1) {
                    uint32_t w[2];
#pragma unroll
                    for (int j = 0; j < 4; j += 2)
                        w[j / 2] = pack4(s.out[m][4 * g + j][2 * h] * f, s.out[m][4 * g + j][2 * h + 1] * f,
                                         s.out[m][4 * g + j + 1][2 * h] * f, s.out[m][4 * g + j + 1][2 * h + 1] * f);
                    *(uint2 *)to = make_uint2(w[0], w[1]);
                } else {
                    uint32_t w[4];
#pragma unroll
                    for (int j = 0; j < 4; j++)
                        w[j] = pack2<T>(s.out[m][4 * g + j][2 * h] * f, s.out[m][4 * g + j][2 * h + 1] * f);
                    *(uint4 *)to = make_uint4(w[0], w[1], w[2], w[3]);
                }
            }
        }
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

/* out / sum, of lane (g, t) column 32 c + 8 t + .., to a row of the context. */
template <typename T, int D, typename O>
__device__ __forceinline__ void put_row(const float (&out)[D / 32][8], float sum, O *ctx)
{
    const uint32_t lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
#pragma unroll
    for (int c = 0; c < D / 32; c++) {
        if constexpr (sizeof(T) == 4) {
            if (g < 2) {
                const int e = 4 * g;
                store4((float *)ctx + 32 * c + 8 * t + 4 * g,
                       e ? make_float4(out[c][4] / sum, out[c][5] / sum, out[c][6] / sum, out[c][7] / sum)
                         : make_float4(out[c][0] / sum, out[c][1] / sum, out[c][2] / sum, out[c][3] / sum));
            }
        } else {
#pragma unroll
            for (int e = 0; e < 4; e++) /* columns 8 t + 2 e stand at 8 e + 2 t */
                if (g == (uint32_t)e) {
                    const float a = out[c][2 * e] / sum, b = out[c][2 * e + 1] / sum;
                    O *to = ctx + 32 * c + 8 * e + 2 * t;
                    if constexpr (sizeof(O) == 1)
                        *(uint16_t *)to = (uint16_t)pack4(a, b, 0, 0);
                    else
                        *(uint32_t *)to = pack2<T>(a, b);
                }
        }
    }
}

/* Lane (g, t) = (lane / 4, lane % 4) takes keys g + 8 i and columns 8 t + 32 c .. + 7. */
template <typename T, int D, typename O>
__device__ __forceinline__ void attend_row(const T *q, const T *k, uint32_t k_stride, const T *v, uint32_t v_stride,
                                           uint32_t length, float scale, O *ctx)
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
                load8(row, k + (size_t)min(key, length - 1) * k_stride + 32 * c + 8 * t);
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
                load8(row, v + (size_t)min(key, length - 1) * v_stride + 32 * c + 8 * t);
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
    put_row<T, D, O>(out, sum, ctx);
}

#endif
