/* SPDX-License-Identifier: Apache-2.0 */
/* plugin.cu - the entry of couplet-cuda.so: the backend's table and what can run on this machine.
 *
 * The runtime is linked in, the driver is found by it at run time: where there is none, probe says so in one line and
 * nothing else of couplet is affected. A device counts when its compute capability is 8.0 or more; all of them must, so
 * that device numbers are the driver's own. probe keeps no state. */
#include "backend/cuda/cuda.cuh"

#include <stdio.h>
#include <string.h>

enum { SESSIONS = 2 };

cpl_status cpl_cuda_fail(const cpl_host *host, cpl_error *err, cudaError_t e, const char *what)
{
    cudaGetLastError(); /* an error that can be got over is forgotten with this */
    switch (e) {
    case cudaErrorMemoryAllocation: return host->fail(err, CPL_NO_MEMORY, "out of device memory: %s", what);
    case cudaErrorNoDevice: return host->fail(err, CPL_UNSUPPORTED, "no NVIDIA GPU here: the driver reports no device");
    case cudaErrorInsufficientDriver:
        return host->fail(err, CPL_UNSUPPORTED,
                          "no NVIDIA driver for CUDA %d.%d here: install one of version 580 or later",
                          CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorECCUncorrectable:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorDevicesUnavailable:
    case cudaErrorSystemNotReady:
    case cudaErrorContextIsDestroyed:
    case cudaErrorUnknown:
        return host->fail(err, CPL_UNAVAILABLE, "device lost: %s: %s; restart the server to use it again", what,
                          cudaGetErrorString(e));
    default: return host->fail(err, CPL_INTERNAL, "CUDA failed: %s: %s", what, cudaGetErrorString(e));
    }
}

static cpl_status describe(cpl_caps *out, const cpl_host *host, int count, cpl_error *err)
{
    cudaDeviceProp first;
    for (int d = 0; d < count; d++) {
        cudaDeviceProp p;
        const cudaError_t e = cudaGetDeviceProperties(&p, d);
        if (e) return cpl_cuda_fail(host, err, e, "reading a device's properties");
        if (p.major < 8)
            return host->fail(err, CPL_UNSUPPORTED,
                              "device %d (%s) has compute capability %d.%d, the cuda backend needs 8.0: hide it with "
                              "CUDA_VISIBLE_DEVICES",
                              d, p.name, p.major, p.minor);
        if (d == 0) first = p;
    }
    const int wgmma = first.major == 9 && first.minor == 0;
    snprintf(out->isa, sizeof out->isa, "sm_%d%d%s cuda %d.%d", first.major, first.minor, wgmma ? "a" : "",
             CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    snprintf(out->device, sizeof out->device, "%d x %.60s, %llu MiB", count, first.name,
             (unsigned long long)(first.totalGlobalMem >> 20));
    return CPL_OK;
}

cpl_status cpl_cuda_probe(cpl_caps *out, const cpl_host *host, cpl_error *err)
{
    int count = 0;
    memset(out, 0, sizeof *out);
    const cudaError_t e = cudaGetDeviceCount(&count);
    if (e) return cpl_cuda_fail(host, err, e, "counting devices");
    if (!count) return cpl_cuda_fail(host, err, cudaErrorNoDevice, "counting devices");
    out->precisions = 1u << CPL_PRECISION_FP32 | 1u << CPL_PRECISION_BF16 | 1u << CPL_PRECISION_FP16 |
                      1u << CPL_PRECISION_INT8 | 1u << CPL_PRECISION_INT4;
    cudaDeviceProp p;
    const cudaError_t read = cudaGetDeviceProperties(&p, 0);
    if (read) return cpl_cuda_fail(host, err, read, "reading a device's properties");
    if (10 * p.major + p.minor >= 89) out->precisions |= 1u << CPL_PRECISION_FP8;
    out->wants = 1u << CPL_WANT_LOGITS | 1u << CPL_WANT_POOLED | 1u << CPL_WANT_TOKENS;
    if (!(out->precisions >> CPL_PRECISION_FP8 & 1))
        snprintf(out->reason[CPL_PRECISION_FP8], sizeof out->reason[0],
                 "fp8 needs compute capability 8.9, device 0 has %d.%d", p.major, p.minor);
    out->sessions_per_device = SESSIONS;
    out->devices = (uint32_t)count;
    out->batch_tokens = CPL_CUDA_BATCH_TOKENS;
    return describe(out, host, count, err);
}

const cpl_backend cpl_backend_cuda = {
    .abi = CPL_BACKEND_ABI,
    .size = sizeof(cpl_backend),
    .name = "cuda",
    .summary = "couplet's own engine for NVIDIA GPUs",
    .probe = cpl_cuda_probe,
    .load = cpl_cuda_load,
    .open = cpl_cuda_open,
    .run = cpl_cuda_run,
    .stages = NULL,
    .padding = NULL,
    .close = cpl_cuda_close,
    .unload = cpl_cuda_unload,
};

extern "C" CPL_API const cpl_backend *cpl_plugin(const cpl_host *host)
{
    if (host->abi != CPL_BACKEND_ABI || host->size != sizeof *host) return NULL;
    return &cpl_backend_cuda;
}
