/* SPDX-License-Identifier: Apache-2.0 */
/* epilogue.cuh - what becomes of a product's sums, the same on every path: scales of 8-bit operands, bias, activation,
 * rounding. */
#ifndef CPL_BACKEND_CUDA_EPILOGUE_CUH
#define CPL_BACKEND_CUDA_EPILOGUE_CUH

#include "backend/cuda/device.cuh"

/* What makes results of sums: the product's. row_scale: of rows of a, int8 only. */
struct terms {
    const float *bias, *scale, *row_scale;
    int epilogue;
};

/* Scale and bias of two columns. */
struct column_pair {
    float2 scale, bias;
};

template <typename I> __device__ __forceinline__ column_pair load_columns(const terms &t, int column)
{
    column_pair p = {make_float2(1, 1), __ldg((const float2 *)(t.bias + column))};
    if constexpr (sizeof(I) == 1) p.scale = __ldg((const float2 *)(t.scale + column));
    return p;
}

/* The pair of sums at v, of a row with this scale, before the activation. */
template <typename I>
__device__ __forceinline__ float2 scaled(const sum_of<I> *v, const column_pair &c, float row_scale)
{
    if constexpr (cpl_cuda_is_int8<I>())
        return make_float2(fmaf((float)v[0] * row_scale, c.scale.x, c.bias.x),
                           fmaf((float)v[1] * row_scale, c.scale.y, c.bias.y));
    else if constexpr (sizeof(I) == 1)
        return make_float2(fmaf(v[0], c.scale.x, c.bias.x), fmaf(v[1], c.scale.y, c.bias.y));
    else
        return make_float2(v[0] + c.bias.x, v[1] + c.bias.y);
}

/* Two pairs as four e4m3. */
template <int E> __device__ __forceinline__ uint32_t finish4(float2 a, float2 b, int epilogue)
{
    if constexpr (E == EPILOGUE_GELU) return pack4(gelu_half(a.x, a.y), gelu_half(b.x, b.y));
    a = activate<bf16, E>(a, epilogue);
    b = activate<bf16, E>(b, epilogue);
    return pack4(a.x, a.y, b.x, b.y);
}

template <typename O, int E> __device__ __forceinline__ uint32_t finish2(float2 a, int epilogue)
{
    a = activate<O, E>(a, epilogue);
    return pack2<O>(a.x, a.y);
}

#endif
