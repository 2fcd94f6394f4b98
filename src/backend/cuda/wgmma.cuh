/* SPDX-License-Identifier: Apache-2.0 */
/* wgmma.cuh - the Hopper instructions that C++ has no words for: matrix multiply by a warpgroup, the bulk tensor copy
 * engine, mbarriers. sm_90a only; each function is one instruction or the loop around one.
 *
 * The operand lists are long because PTX wants them spelled out register by register. */
#ifndef CPL_BACKEND_CUDA_WGMMA_CUH
#define CPL_BACKEND_CUDA_WGMMA_CUH

#include <cuda.h>
#include <stdint.h>

#include "backend/cuda/device.cuh"

__device__ __forceinline__ uint32_t shared_address(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

/* ---- mbarriers ----------------------------------------------------------------------------------------------- */

__device__ __forceinline__ void barrier_init(uint32_t bar, uint32_t arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(arrivals) : "memory");
}

__device__ __forceinline__ void barrier_expect(uint32_t bar, uint32_t bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}

__device__ __forceinline__ void barrier_arrive(uint32_t bar)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}

__device__ __forceinline__ void barrier_wait(uint32_t bar, uint32_t parity)
{
    asm volatile("{\n.reg .pred p;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
                 "@p bra done;\nbra again;\ndone:\n}\n" ::"r"(bar),
                 "r"(parity)
                 : "memory");
}

/* ---- the copy engine: boxes of two-dimensional tensors ----------------------------------------------------------- */

__device__ __forceinline__ void tensor_load(uint32_t to, const CUtensorMap *map, uint32_t bar, int column, int row)
{
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(
            to),
        "l"(map), "r"(bar), "r"(column), "r"(row)
        : "memory");
}

__device__ __forceinline__ void tensor_store(const CUtensorMap *map, uint32_t from, int column, int row)
{
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];\n"
                 "cp.async.bulk.commit_group;" ::"l"(map),
                 "r"(from), "r"(column), "r"(row)
                 : "memory");
}

/* Waits until at most N of this thread's stores still read shared memory. */
template <int N> __device__ __forceinline__ void tensor_store_read()
{
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(N) : "memory");
}

__device__ __forceinline__ void tensor_store_all() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }
__device__ __forceinline__ void fence_async_shared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

__device__ __forceinline__ void prefetch_map(const CUtensorMap *map)
{
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

/* ---- clusters: blocks that see each other's shared memory
 * ------------------------------------------------------------ */

__device__ __forceinline__ uint32_t cluster_rank()
{
    uint32_t r;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
    return r;
}

__device__ __forceinline__ void cluster_sync()
{
    asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}

/* The address in block `rank` of the cluster of what lies at `address` here. */
__device__ __forceinline__ uint32_t cluster_address(uint32_t address, uint32_t rank)
{
    uint32_t r;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r) : "r"(address), "r"(rank));
    return r;
}

/* Eight bytes into another block's shared memory; counted by that block's barrier when they are there. */
__device__ __forceinline__ void cluster_store(uint32_t to, float a, float b, uint32_t bar)
{
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [%0], {%1, %2}, [%3];" ::"r"(to),
                 "f"(a), "f"(b), "r"(bar)
                 : "memory");
}

/* ---- warpgroup matrix multiply ------------------------------------------------------------------------------------
 */

__device__ __forceinline__ void named_barrier(int id, int threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ __forceinline__ void named_barrier_arrive(int id, int threads)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

template <int N> __device__ __forceinline__ void wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

/* A tile of rows of 64 16-bit elements, 128-byte swizzled, as TMA leaves it: 8-row groups lie 1024 bytes apart. */
__device__ __forceinline__ uint64_t tile_descriptor(uint32_t address)
{
    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}

/* d[64 x n] = (accumulate ? d : 0) + a b^T, 32 bytes of a row deep: 16 elements of 16 bits or 32 of 8. Thread t of
 * the warpgroup holds row 16 (t / 32) + t % 32 / 4 (+ 8 for the odd pairs) and columns 8 j + 2 (t % 4) + {0, 1} in d[4
 * j ..]. */

#define CPL_WGMMA_24(KIND, TYPES, TAIL)                                                                                \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %14, 0;\n"                                                          \
                 "wgmma.mma_async.sync.aligned.m64n24" TYPES " {"                                                      \
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11}, "                                                 \
                 "%12, %13, p" TAIL ";\n}\n"                                                                           \
                 : KIND(d[0]), KIND(d[1]), KIND(d[2]), KIND(d[3]), KIND(d[4]), KIND(d[5]), KIND(d[6]), KIND(d[7]),     \
                   KIND(d[8]), KIND(d[9]), KIND(d[10]), KIND(d[11])                                                    \
                 : "l"(a), "l"(b), "r"(accumulate))

#define CPL_WGMMA_48(KIND, TYPES, TAIL)                                                                                \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %26, 0;\n"                                                          \
                 "wgmma.mma_async.sync.aligned.m64n48" TYPES " {"                                                      \
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, "          \
                 "%20, %21, %22, %23}, "                                                                               \
                 "%24, %25, p" TAIL ";\n}\n"                                                                           \
                 : KIND(d[0]), KIND(d[1]), KIND(d[2]), KIND(d[3]), KIND(d[4]), KIND(d[5]), KIND(d[6]), KIND(d[7]),     \
                   KIND(d[8]), KIND(d[9]), KIND(d[10]), KIND(d[11]), KIND(d[12]), KIND(d[13]), KIND(d[14]),            \
                   KIND(d[15]), KIND(d[16]), KIND(d[17]), KIND(d[18]), KIND(d[19]), KIND(d[20]), KIND(d[21]),          \
                   KIND(d[22]), KIND(d[23])                                                                            \
                 : "l"(a), "l"(b), "r"(accumulate))

#define CPL_WGMMA_64(KIND, TYPES, TAIL)                                                                                \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"                                                          \
                 "wgmma.mma_async.sync.aligned.m64n64" TYPES " {"                                                      \
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, "          \
                 "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "                                       \
                 "%32, %33, p" TAIL ";\n}\n"                                                                           \
                 : KIND(d[0]), KIND(d[1]), KIND(d[2]), KIND(d[3]), KIND(d[4]), KIND(d[5]), KIND(d[6]), KIND(d[7]),     \
                   KIND(d[8]), KIND(d[9]), KIND(d[10]), KIND(d[11]), KIND(d[12]), KIND(d[13]), KIND(d[14]),            \
                   KIND(d[15]), KIND(d[16]), KIND(d[17]), KIND(d[18]), KIND(d[19]), KIND(d[20]), KIND(d[21]),          \
                   KIND(d[22]), KIND(d[23]), KIND(d[24]), KIND(d[25]), KIND(d[26]), KIND(d[27]), KIND(d[28]),          \
                   KIND(d[29]), KIND(d[30]), KIND(d[31])                                                               \
                 : "l"(a), "l"(b), "r"(accumulate))

#define CPL_WGMMA_192(KIND, TYPES, TAIL)                                                                               \
    asm volatile(                                                                                                      \
        "{\n.reg .pred p;\nsetp.ne.b32 p, %98, 0;\n"                                                                   \
        "wgmma.mma_async.sync.aligned.m64n192" TYPES " {"                                                              \
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, "                   \
        "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, "                   \
        "%38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, "                   \
        "%56, %57, %58, %59, %60, %61, %62, %63, %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, "                   \
        "%74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, "                   \
        "%92, %93, %94, %95}, "                                                                                        \
        "%96, %97, p" TAIL ";\n}\n"                                                                                    \
        : KIND(d[0]), KIND(d[1]), KIND(d[2]), KIND(d[3]), KIND(d[4]), KIND(d[5]), KIND(d[6]), KIND(d[7]), KIND(d[8]),  \
          KIND(d[9]), KIND(d[10]), KIND(d[11]), KIND(d[12]), KIND(d[13]), KIND(d[14]), KIND(d[15]), KIND(d[16]),       \
          KIND(d[17]), KIND(d[18]), KIND(d[19]), KIND(d[20]), KIND(d[21]), KIND(d[22]), KIND(d[23]), KIND(d[24]),      \
          KIND(d[25]), KIND(d[26]), KIND(d[27]), KIND(d[28]), KIND(d[29]), KIND(d[30]), KIND(d[31]), KIND(d[32]),      \
          KIND(d[33]), KIND(d[34]), KIND(d[35]), KIND(d[36]), KIND(d[37]), KIND(d[38]), KIND(d[39]), KIND(d[40]),      \
          KIND(d[41]), KIND(d[42]), KIND(d[43]), KIND(d[44]), KIND(d[45]), KIND(d[46]), KIND(d[47]), KIND(d[48]),      \
          KIND(d[49]), KIND(d[50]), KIND(d[51]), KIND(d[52]), KIND(d[53]), KIND(d[54]), KIND(d[55]), KIND(d[56]),      \
          KIND(d[57]), KIND(d[58]), KIND(d[59]), KIND(d[60]), KIND(d[61]), KIND(d[62]), KIND(d[63]), KIND(d[64]),      \
          KIND(d[65]), KIND(d[66]), KIND(d[67]), KIND(d[68]), KIND(d[69]), KIND(d[70]), KIND(d[71]), KIND(d[72]),      \
          KIND(d[73]), KIND(d[74]), KIND(d[75]), KIND(d[76]), KIND(d[77]), KIND(d[78]), KIND(d[79]), KIND(d[80]),      \
          KIND(d[81]), KIND(d[82]), KIND(d[83]), KIND(d[84]), KIND(d[85]), KIND(d[86]), KIND(d[87]), KIND(d[88]),      \
          KIND(d[89]), KIND(d[90]), KIND(d[91]), KIND(d[92]), KIND(d[93]), KIND(d[94]), KIND(d[95])                    \
        : "l"(a), "l"(b), "r"(accumulate))

/* T: bf16, fp16, e4m3 or int8_t. */
template <typename T, int N>
__device__ __forceinline__ void wgmma(sum_of<T> (&d)[N / 2], uint64_t a, uint64_t b, int accumulate)
{
    static_assert(N == 24 || N == 48 || N == 64 || N == 192, "an instruction above");
#define CPL_WGMMA(KIND, TYPES, TAIL)                                                                                   \
    if constexpr (N == 24)                                                                                             \
        CPL_WGMMA_24(KIND, TYPES, TAIL);                                                                               \
    else if constexpr (N == 48)                                                                                        \
        CPL_WGMMA_48(KIND, TYPES, TAIL);                                                                               \
    else if constexpr (N == 64)                                                                                        \
        CPL_WGMMA_64(KIND, TYPES, TAIL);                                                                               \
    else                                                                                                               \
        CPL_WGMMA_192(KIND, TYPES, TAIL)
    if constexpr (cpl_cuda_is_int8<T>()) {
        CPL_WGMMA("+r", "k32.s32.s8.s8", "");
    } else if constexpr (sizeof(T) == 1) {
        CPL_WGMMA("+f", "k32.f32.e4m3.e4m3", ", 1, 1");
    } else if constexpr (cpl_cuda_is_bf16<T>()) {
        CPL_WGMMA("+f", "k16.f32.bf16.bf16", ", 1, 1, 0, 0");
    } else {
        CPL_WGMMA("+f", "k16.f32.f16.f16", ", 1, 1, 0, 0");
    }
#undef CPL_WGMMA
}

#endif
