/* SPDX-License-Identifier: Apache-2.0 */
/* kernels.c - the ladder: reference first, then every rung up to the chosen one overrides what it does better.
 *
 * Chosen once and passed on as a value: no branch on CPU features in any hot loop, and one process can hold the tables
 * of all ISAs side by side, which is how the tests compare them. Rejected: ifunc (global, not testable per call). */
#include "kernel/kernels.h"

#include "base/error.h"

void cpl_kernels_choose(cpl_kernels *k, cpl_isa isa)
{
    cpl_cpu cpu;
    cpl_cpu_detect(&cpu);
    cpl_kernels_choose_for(k, isa, &cpu);
}

void cpl_kernels_choose_for(cpl_kernels *k, cpl_isa isa, const cpl_cpu *cpu)
{
    (void)cpu;
    cpl_kernels_ref(k);
    if (isa == CPL_ISA_REF) return;
#if defined(__x86_64__)
    cpl_kernels_avx2(k);
    if (isa == CPL_ISA_AVXVNNI) cpl_kernels_avxvnni(k);
    if (isa < CPL_ISA_AVX512) return;
    cpl_kernels_avx512(k); /* nor does AMX */
    if (cpl_isa_vnni(isa, cpu)) cpl_kernels_vnni(k);
    if (cpl_isa_bf16(isa, cpu)) cpl_kernels_bf16(k);
#elif defined(__aarch64__)
    cpl_kernels_neon(k);
    if (isa >= CPL_ISA_NEON_DOTPROD) cpl_kernels_dotprod(k);
    if (isa >= CPL_ISA_NEON_I8MM) cpl_kernels_i8mm(k);
    if (cpl_isa_bf16(isa, cpu)) cpl_kernels_bfmmla(k);
#else
    CPL_ASSERT(!"an ISA of another processor was chosen");
#endif
}

size_t cpl_row_stride(size_t n)
{
    enum { LINE_FLOATS = 16 };
    const size_t lines = (n + LINE_FLOATS - 1) / LINE_FLOATS;
    return (lines | 1) * LINE_FLOATS;
}
