/* SPDX-License-Identifier: Apache-2.0 */
/* peak.h - what this core can do right now: fp32 FMA peak, int8 peak, clock, and a control loop fed from L2.
 *
 * Each runs on the calling thread for about `us` microseconds (at least one measured block) and keeps no state. A
 * machine's speed moves with its neighbours and its clock, so a fraction of peak means something only against a peak
 * taken right beside the sample; the L2-fed loop also sees neighbours that a register-only loop doesn't. */
#ifndef CPL_KERNEL_PEAK_H
#define CPL_KERNEL_PEAK_H

#include <stdint.h>

#include "kernel/cpu.h"

/* What a peak is a peak of. bf16 products without an instruction of their own are fp32's. */
typedef enum cpl_peak_unit { CPL_PEAK_FP32, CPL_PEAK_BF16, CPL_PEAK_INT8 } cpl_peak_unit;

/* Independent multiply-adds of one kind of instruction, in registers. */
typedef struct cpl_peak_loop {
    const char *name;                            /* "vpdpbusd" */
    double (*run)(uint64_t rounds, float *sink); /* returns operations done; a multiply-add counts 2 */
    double ops;                                  /* operations of one instruction */
    double per_cycle;                            /* instructions a core of this kind starts in a cycle; 0: not known */
    double step;                                 /* then that is a multiple of this; 0: nothing is known */
    uint32_t block_us;                /* the shortest run that shows the rate, after one that isn't counted; 0: any */
    double (*clock)(uint64_t rounds); /* Hz beside these instructions, which lower it; NULL: cpl_peak_clock_rounds */
} cpl_peak_loop;

/* The loop by the instructions that rung `isa`, which must run here, has for the unit. */
void cpl_peak_choose(cpl_peak_loop *out, cpl_peak_unit unit, cpl_isa isa, const cpl_cpu *cpu);
/* Operations/s over about `us` microseconds. */
double cpl_peak_rate(const cpl_peak_loop *loop, uint32_t us);
/* Instructions a cycle to hold a measured per_cycle against; 0: none is known. */
double cpl_peak_expected(const cpl_peak_loop *loop, double per_cycle);

/* FLOP/s (a multiply-add counts 2) of independent fp32 FMAs in registers, with the ISA's widest vectors; multiply and
 * add in plain C for ref. `isa` must run here. */
double cpl_peak_fp32(cpl_isa isa, uint32_t us);
/* The same with one operand of each FMA read from a buffer of half of L2, in rising order: what a GEMM whose operands
 * sit in L2 could reach without reuse in registers. 0 for ref. */
double cpl_peak_fp32_l2(cpl_isa isa, uint32_t l2_bytes, uint32_t us);
/* Operations/s (a multiply-add counts 2) of independent int8 multiply-adds into int32 in registers, by the instructions
 * the int8 products of this rung use on this machine: tdpbssd on AMX; vpdpbusd with AVX-512 VNNI; vpmaddwd and vpaddd
 * on int16 with AVX2; smlal on int16, sdot or smmla on ARM; multiply and add in plain C for ref. */
double cpl_peak_int8(cpl_isa isa, uint32_t us);
/* Names them: "vpdpbusd". */
const char *cpl_peak_int8_name(cpl_isa isa);
/* Operations/s of independent bf16 multiply-adds into fp32 in registers: tdpbf16ps or vdpbf16ps where bf16 products of
 * this rung use it, else what they are computed with, fp32's. */
double cpl_peak_bf16(cpl_isa isa, uint32_t us);
const char *cpl_peak_bf16_name(cpl_isa isa);
/* Clock in Hz, estimated by a chain of dependent integer adds (one a cycle on every x86-64 of interest). */
double cpl_peak_clock_hz(uint32_t us);

/* For probes that keep their buffer and their counts (cli/peak_team.h): one timed run each. */
double cpl_peak_clock_rounds(uint64_t rounds); /* Hz over 64 adds a round */
uint64_t cpl_peak_l2_floats(uint32_t l2_bytes);
/* Operations done by `rounds` sweeps over the buffer, multiplying each value twice; 0 for ref, which has no such loop.
 */
double cpl_peak_l2_rounds(cpl_isa isa, uint64_t rounds, const float *data, uint64_t floats);

/* Blocks of the ISA files: run `rounds` rounds, return the FLOPs done. `sink` keeps the work alive. */
double cpl_peak_block_neon(uint64_t rounds, float *sink);
double cpl_peak_block_int8_neon(uint64_t rounds, float *sink);
double cpl_peak_block_dotprod(uint64_t rounds, float *sink);
double cpl_peak_block_i8mm(uint64_t rounds, float *sink);
double cpl_peak_block_bfmmla(uint64_t rounds, float *sink);
double cpl_peak_block_l2_neon(uint64_t rounds, const float *data, uint64_t floats, float *sink);
double cpl_peak_block_avx2(uint64_t rounds, float *sink);
double cpl_peak_block_avx512(uint64_t rounds, float *sink);
double cpl_peak_block_int8_avx2(uint64_t rounds, float *sink);
double cpl_peak_block_int8_avxvnni(uint64_t rounds, float *sink);
double cpl_peak_block_int8_vnni(uint64_t rounds, float *sink);
double cpl_peak_block_bf16(uint64_t rounds, float *sink);
/* Tile products in registers; cpl_amx_permit() first. */
double cpl_peak_block_amx_int8(uint64_t rounds, float *sink);
double cpl_peak_block_amx_bf16(uint64_t rounds, float *sink);
double cpl_peak_clock_amx_int8(uint64_t rounds); /* Hz, by dependent adds between products */
double cpl_peak_clock_amx_bf16(uint64_t rounds);
double cpl_peak_block_l2_avx2(uint64_t rounds, const float *data, uint64_t floats, float *sink);
double cpl_peak_block_l2_avx512(uint64_t rounds, const float *data, uint64_t floats, float *sink);

#endif
