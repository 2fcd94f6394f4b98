/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.h - what this processor can execute, and which rung of the kernel ladder to stand on.
 *
 * A feature counts only when the CPU has it and the operating system saves its registers (x86: CPUID and XCR0; ARM:
 * what Linux says in the auxiliary vector). The chosen ISA is a plain value handed on to cpl_kernels_choose: nothing
 * here is global, so one process can run all of them. */
#ifndef CPL_KERNEL_CPU_H
#define CPL_KERNEL_CPU_H

#include <stddef.h>
#include <stdint.h>

#include "couplet.h"

typedef enum cpl_cpu_feature {
    CPL_CPU_AVX2 = 1u << 0, /* with FMA and F16C */
    CPL_CPU_AVX_VNNI = 1u << 1,
    CPL_CPU_AVX512 = 1u << 2, /* F, BW, DQ, VL */
    CPL_CPU_AVX512_VNNI = 1u << 3,
    CPL_CPU_AVX512_BF16 = 1u << 4,
    CPL_CPU_AVX512_VBMI = 1u << 5,
    CPL_CPU_AVX512_FP16 = 1u << 6,
    CPL_CPU_AMX_TILE = 1u << 7,
    CPL_CPU_AMX_INT8 = 1u << 8,
    CPL_CPU_AMX_BF16 = 1u << 9,
    CPL_CPU_NEON = 1u << 16, /* with FMA, as every 64-bit ARM has it */
    CPL_CPU_DOTPROD = 1u << 17,
    CPL_CPU_I8MM = 1u << 18,
    CPL_CPU_ARM_BF16 = 1u << 19
} cpl_cpu_feature;

typedef struct cpl_cpu {
    uint32_t features; /* bits of cpl_cpu_feature */
    uint32_t l1d_bytes, l2_bytes,
        l3_bytes;  /* of the calling thread's core; typical values where the machine is silent */
    char name[64]; /* brand string, trimmed; on ARM its designer and part */
} cpl_cpu;

void cpl_cpu_detect(cpl_cpu *out);
/* "avx2 avx512 avx512_vnni ..." into buf, cut to cap. */
void cpl_cpu_feature_names(uint32_t features, char *buf, size_t cap);

/* Rungs in rising order, x86's and then ARM's. Each has its own list of features, not those of every rung below:
 * AVX-512 parts without AVX-VNNI exist. */
typedef enum cpl_isa {
    CPL_ISA_REF,
    CPL_ISA_AVX2,
    CPL_ISA_AVXVNNI,
    CPL_ISA_AVX512,
    CPL_ISA_AMX,
    CPL_ISA_NEON,
    CPL_ISA_NEON_DOTPROD, /* int8 by sdot */
    CPL_ISA_NEON_I8MM,    /* int8 by smmla */
    CPL_ISA_COUNT
} cpl_isa;

const char *cpl_isa_name(cpl_isa isa);
int cpl_isa_runs(cpl_isa isa, const cpl_cpu *cpu);
/* The features without which it doesn't run. */
uint32_t cpl_isa_needs(cpl_isa isa);
/* 1 when int8 products on this rung run on AVX-512 VNNI; AVX-512 parts without it multiply int8 as AVX2 does. */
int cpl_isa_vnni(cpl_isa isa, const cpl_cpu *cpu);
/* 1 when bf16 products on this rung run on AVX-512 BF16 or on ARM's bfmmla; elsewhere bf16 weights are computed with in
 * fp32. */
int cpl_isa_bf16(cpl_isa isa, const cpl_cpu *cpu);
/* The highest rung this CPU has. */
cpl_isa cpl_isa_best(const cpl_cpu *cpu);
/* name NULL or "": the value of COUPLET_ISA, else the best. CPL_INVALID lists the names for an unknown one;
 * CPL_UNSUPPORTED when this machine lacks it. */
cpl_status cpl_isa_choose(cpl_isa *out, const char *name, const cpl_cpu *cpu, cpl_error *err);

#endif
