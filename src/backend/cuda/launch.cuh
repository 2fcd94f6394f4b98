/* SPDX-License-Identifier: Apache-2.0 */
/* launch.cuh - starting kernels one behind the other without gaps.
 *
 * With `early`, a kernel may be brought onto the device while the one before it finishes (programmatic dependent
 * launch, Hopper and later): it sets itself up and waits in grid_begin until everything before it is complete and
 * visible. Every kernel calls grid_begin before it touches what another one writes, so order is what it would be
 * without. */
#ifndef CPL_BACKEND_CUDA_LAUNCH_CUH
#define CPL_BACKEND_CUDA_LAUNCH_CUH

#include "backend/cuda/kernels.cuh"

__device__ __forceinline__ void grid_begin()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;\ngriddepcontrol.wait;" ::: "memory");
#endif
}

/* ranks: blocks a cluster. */
template <typename... P, typename... A>
static cudaError_t cpl_cuda_start(void (*kernel)(P...), dim3 grid, unsigned threads, size_t shared,
                                  cpl_cuda_queue queue, int ranks, A... args)
{
    cudaLaunchAttribute attributes[2];
    cudaLaunchConfig_t c = {};
    c.gridDim = grid;
    c.blockDim = dim3(threads);
    c.dynamicSmemBytes = shared;
    c.stream = queue.stream;
    c.attrs = attributes;
    if (queue.early) {
        attributes[c.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attributes[c.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
    }
    if (ranks > 1) {
        attributes[c.numAttrs].id = cudaLaunchAttributeClusterDimension;
        attributes[c.numAttrs].val.clusterDim.x = (unsigned)ranks;
        attributes[c.numAttrs].val.clusterDim.y = 1;
        attributes[c.numAttrs++].val.clusterDim.z = 1;
    }
    return cudaLaunchKernelEx(&c, kernel, static_cast<P>(args)...);
}

#endif
