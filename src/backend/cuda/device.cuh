/* SPDX-License-Identifier: Apache-2.0 */
/* device.cuh - arithmetic the kernels share: element types, packing, the matrix instruction of sm_80, activations,
 * reductions over a warp. Every sum has one fixed order, so that a sequence has the same bits in any batch. */
#ifndef CPL_BACKEND_CUDA_DEVICE_CUH
#define CPL_BACKEND_CUDA_DEVICE_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <stdint.h>

typedef __nv_bfloat16 bf16;
typedef __half fp16;
typedef struct e4m3 {
    uint8_t bits;
} e4m3;

/* Activations of 8-bit products are stored this much larger: e4m3 then holds up to 56 (beyond, it saturates) and is
 * normal down to 0.002. */
constexpr float CPL_CUDA_FP8_SCALE = 8.0f;

template <typename T> __host__ __device__ constexpr bool cpl_cuda_is_bf16() { return false; }
template <> __host__ __device__ constexpr bool cpl_cuda_is_bf16<bf16>() { return true; }
template <typename T> __host__ __device__ constexpr bool cpl_cuda_is_int8() { return false; }
template <> __host__ __device__ constexpr bool cpl_cuda_is_int8<int8_t>() { return true; }

/* What sums of products are kept in. */
template <typename T> struct sum_type {
    typedef float type;
};
template <> struct sum_type<int8_t> {
    typedef int32_t type;
};
template <typename T> using sum_of = typename sum_type<T>::type;

/* ---- two elements in a register ------------------------------------------------------------------------------- */

template <typename T> __device__ __forceinline__ uint32_t pack2(float a, float b);
template <> __device__ __forceinline__ uint32_t pack2<bf16>(float a, float b)
{
    const __nv_bfloat162 v = __floats2bfloat162_rn(a, b);
    return *reinterpret_cast<const uint32_t *>(&v);
}
template <> __device__ __forceinline__ uint32_t pack2<fp16>(float a, float b)
{
    const __half2 v = __floats2half2_rn(a, b);
    return *reinterpret_cast<const uint32_t *>(&v);
}

/* Four e4m3, a lowest, of activations. */
__device__ __forceinline__ uint32_t pack4(float a, float b, float c, float d)
{
    const float s = CPL_CUDA_FP8_SCALE;
    const uint32_t low = __nv_cvt_float2_to_fp8x2(make_float2(a * s, b * s), __NV_SATFINITE, __NV_E4M3);
    const uint32_t high = __nv_cvt_float2_to_fp8x2(make_float2(c * s, d * s), __NV_SATFINITE, __NV_E4M3);
    return low | high << 16;
}

/* The same of halves. */
__device__ __forceinline__ uint32_t pack4(__half2 a, __half2 b)
{
    const __half2 s = __float2half2_rn(CPL_CUDA_FP8_SCALE);
    const uint32_t low = __nv_cvt_halfraw2_to_fp8x2(__hmul2(a, s), __NV_SATFINITE, __NV_E4M3);
    const uint32_t high = __nv_cvt_halfraw2_to_fp8x2(__hmul2(b, s), __NV_SATFINITE, __NV_E4M3);
    return low | high << 16;
}

template <typename T> __device__ __forceinline__ float2 unpack2(uint32_t v);
template <> __device__ __forceinline__ float2 unpack2<bf16>(uint32_t v)
{
    return make_float2(__uint_as_float(v << 16), __uint_as_float(v & 0xffff0000u));
}
template <> __device__ __forceinline__ float2 unpack2<fp16>(uint32_t v)
{
    return __half22float2(*reinterpret_cast<const __half2 *>(&v));
}

/* Four neighbours, p aligned to four elements. */
template <typename T> __device__ __forceinline__ float4 load4(const T *p)
{
    const uint2 v = *reinterpret_cast<const uint2 *>(p);
    const float2 a = unpack2<T>(v.x), b = unpack2<T>(v.y);
    return make_float4(a.x, a.y, b.x, b.y);
}
template <> __device__ __forceinline__ float4 load4<float>(const float *p)
{
    return *reinterpret_cast<const float4 *>(p);
}

template <typename T> __device__ __forceinline__ void store4(T *p, float4 v)
{
    *reinterpret_cast<uint2 *>(p) = make_uint2(pack2<T>(v.x, v.y), pack2<T>(v.z, v.w));
}
template <> __device__ __forceinline__ void store4<e4m3>(e4m3 *p, float4 v)
{
    *reinterpret_cast<uint32_t *>(p) = pack4(v.x, v.y, v.z, v.w);
}
template <> __device__ __forceinline__ void store4<float>(float *p, float4 v) { *reinterpret_cast<float4 *>(p) = v; }

/* ---- instructions --------------------------------------------------------------------------------------------- */

__device__ __forceinline__ float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float reciprocal_fast(float x)
{
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* c[16 x 8] += a[16 x 16] b[8 x 16]^T */
template <typename T>
__device__ __forceinline__ void mma16816(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    if constexpr (cpl_cuda_is_bf16<T>())
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                     "{%0,%1,%2,%3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    else
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                     "{%0,%1,%2,%3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* c[16 x 8] += a b^T, 32 bytes of K a row: 16 elements of 16 bits, or 32 of e4m3 (from 8.9 on) or int8. The registers
 * hold the same bytes of the same rows in all of them. */
template <typename T>
__device__ __forceinline__ void mma_step(sum_of<T> (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    if constexpr (cpl_cuda_is_int8<T>()) {
        asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                     "{%0,%1,%2,%3};"
                     : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    } else if constexpr (sizeof(T) == 1) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
        asm volatile("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                     "{%0,%1,%2,%3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
    } else {
        mma16816<T>(c, a, b0, b1);
    }
}

__device__ __forceinline__ void ldmatrix4(uint32_t (&r)[4], uint32_t address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

__device__ __forceinline__ void ldmatrix4_transposed(uint32_t (&r)[4], uint32_t address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/* 16 bytes, or zeros where `valid` is not set (nothing is read then). */
__device__ __forceinline__ void copy16(uint32_t to, const void *from, bool valid)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid ? 16 : 0) : "memory");
}
__device__ __forceinline__ void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> __device__ __forceinline__ void copy_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* ---- reductions over a warp, the same tree always ---------------------------------------------------------------- */

__device__ __forceinline__ float warp_sum(float v)
{
#pragma unroll
    for (int d = 16; d; d >>= 1) v += __shfl_xor_sync(0xffffffffu, v, d);
    return v;
}

/* Of R values, step by step together. */
template <int R> __device__ __forceinline__ void warp_sums(float (&v)[R])
{
#pragma unroll
    for (int d = 16; d; d >>= 1)
#pragma unroll
        for (int r = 0; r < R; r++) v[r] += __shfl_xor_sync(0xffffffffu, v[r], d);
}

__device__ __forceinline__ float warp_max(float v)
{
#pragma unroll
    for (int d = 16; d; d >>= 1) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, d));
    return v;
}

/* ---- activations ---------------------------------------------------------------------------------------------------
 */

enum cpl_cuda_epilogue { EPILOGUE_BIAS, EPILOGUE_GELU, EPILOGUE_GELU_TANH, EPILOGUE_RELU, EPILOGUE_TANH };

/* GELU of two, x Phi(x), for results in bf16 or fewer bits. Phi(x) is taken as (1 + tanh(x (c0 + c1 x x))) / 2 in
 * packed fp16, two elements an operation and one special-function operation for both: it is the epilogue that FFN up
 * waits for. Within 2.6e-3 of the erf form for |x| <= 8; over normally distributed x the error after rounding to bf16
 * grows by 4 % (c0 and c1 were fitted to that, roundings included). What fp16 can't hold becomes its largest value. */
__device__ __forceinline__ __half2 gelu_half(float a, float b)
{
    uint32_t packed;
    asm("cvt.rn.satfinite.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(b), "f"(a));
    const __half2 x = *reinterpret_cast<const __half2 *>(&packed), h = __hmul2(x, __float2half2_rn(0.5f));
    const __half2 p = __hfma2(__hmul2(x, x), __float2half2_rn(0.0355f), __float2half2_rn(0.799f));
    __half2 u = __hmul2(x, p), t;
    asm("tanh.approx.f16x2 %0, %1;" : "=r"(*reinterpret_cast<uint32_t *>(&t)) : "r"(*reinterpret_cast<uint32_t *>(&u)));
    return __hfma2(h, t, h);
}

/* Phi as the logistic function of an odd polynomial, fitted so that x Phi(x) is within 2.6e-5 of the erf form for every
 * x: less than half a unit in the last place of fp16 near 1. By exp2 and a reciprocal; fp32 uses erf itself. The
 * argument is held to |x| <= 6 inside the polynomial, where Phi is 0 or 1 already. */
template <typename T> __device__ __forceinline__ float gelu(float x)
{
    if constexpr (sizeof(T) == 4) {
        return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
    } else {
        const float s = fminf(x * x, 36.0f); /* coefficients times -log2(e) */
        const float p = fmaf(fmaf(1.0144828e-3f, s, -0.10677674f), s, -2.3011204f);
        return x * reciprocal_fast(1.0f + exp2_fast(x * p));
    }
}

template <typename T> __device__ __forceinline__ float2 gelu2(float2 v)
{
    if constexpr (cpl_cuda_is_bf16<T>())
        return __half22float2(gelu_half(v.x, v.y));
    else
        return make_float2(gelu<T>(v.x), gelu<T>(v.y));
}

__device__ __forceinline__ float activate_other(float x, int epilogue)
{
    switch (epilogue) {
    case EPILOGUE_GELU_TANH: return 0.5f * x * (1.0f + tanhf(0.7978845608f * fmaf(0.044715f * x * x, x, x)));
    case EPILOGUE_RELU: return fmaxf(x, 0.0f);
    case EPILOGUE_TANH: return tanhf(x);
    }
    return x;
}

/* E: EPILOGUE_BIAS, EPILOGUE_GELU, or -1 for the ones that are told at run time. T: of the results. */
template <typename T, int E> __device__ __forceinline__ float2 activate(float2 v, int epilogue)
{
    if constexpr (E == EPILOGUE_BIAS) return v;
    if constexpr (E == EPILOGUE_GELU) return gelu2<T>(v);
    return make_float2(activate_other(v.x, epilogue), activate_other(v.y, epilogue));
}

#endif
