/* SPDX-License-Identifier: Apache-2.0 */
/* native.c - couplet's own CPU engine as a backend: what it can do here, and its table.
 *
 * Precisions are reported by what has kernels, never by what the CPU could do: asking for another one fails with a
 * reason instead of running something else. probe keeps no state and reads COUPLET_ISA like load does, so that `doctor`
 * and a load agree. */
#include "backend/native/native.h"

#include <stdio.h>
#include <string.h>

#include "backend/registry.h"
#include "base/error.h"
#include "base/thread.h"

static cpl_status probe(cpl_caps *out, const cpl_host *host, cpl_error *err)
{
    (void)host;
    cpl_cpu cpu;
    cpl_isa isa;
    cpl_kernels kernels;
    cpl_cpu_detect(&cpu);
    const cpl_status st = cpl_isa_choose(&isa, NULL, &cpu, err);
    if (st) return st;
    cpl_kernels_choose(&kernels, isa);
    *out = (cpl_caps){
        .precisions = CPL_NATIVE_PRECISIONS,
        .wants = 1u << CPL_WANT_LOGITS | 1u << CPL_WANT_POOLED | 1u << CPL_WANT_TOKENS,
        .devices = 1,
        .batch_tokens = CPL_NATIVE_BATCH_TOKENS,
        .teams = 1,
    };
    for (int p = 0; p < CPL_PRECISION_COUNT; p++)
        if (!(out->precisions >> p & 1)) snprintf(out->reason[p], sizeof out->reason[p], "%s", CPL_NATIVE_REASON);
    snprintf(out->isa, sizeof out->isa, "%s", kernels.isa);
    const uint32_t cores = cpl_cpu_count();
    snprintf(out->device, sizeof out->device, "%u core%s of %s", cores, cores == 1 ? "" : "s", cpu.name);
    return CPL_OK;
}

const cpl_backend cpl_backend_native = {
    .abi = CPL_BACKEND_ABI,
    .size = sizeof(cpl_backend),
    .name = "native",
    .summary = "couplet's own CPU engine",
    .probe = probe,
    .load = cpl_native_load,
    .open = cpl_native_open,
    .run = cpl_native_run,
    .close = cpl_native_close,
    .unload = cpl_native_unload,
};
