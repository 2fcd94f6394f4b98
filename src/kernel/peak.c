/* SPDX-License-Identifier: Apache-2.0 */
/* peak.c - times the peak blocks.
 *
 * A block of work is doubled until it lasts the time asked for, and only the last, longest one counts: short ones see
 * the clock ramping up. Rejected: taking the nominal clock times the FMA width, which no shared machine keeps. */
#include "kernel/peak.h"

#include <stdlib.h>

#include "base/clock.h"
#include "kernel/unroll.h"

typedef enum unit_loop {
    LOOP_NONE,
    LOOP_REF,
    LOOP_AVX2,
    LOOP_VNNI,
    LOOP_BF16,
    LOOP_NEON,
    LOOP_DOTPROD,
    LOOP_I8MM
} unit_loop;

typedef struct block {
    cpl_isa isa;
    unit_loop unit;    /* NONE: fp32 */
    const float *data; /* NULL: registers only */
    uint64_t floats;
} block;

/* Enough chains for whatever vectors the compiler makes of plain C; without -ffast-math it can't shorten them. */
static double run_ref(uint64_t rounds, float *sink)
{
    enum { CHAINS = 32 };
    float acc[CHAINS];
    for (int i = 0; i < CHAINS; i++) acc[i] = (float)i;
    for (uint64_t r = 0; r < rounds; r++) {
        CPL_UNROLL for (int i = 0; i < CHAINS; i++) acc[i] = acc[i] * 0.999f + 0.5f;
    }
    for (int i = 0; i < CHAINS; i++) *sink += acc[i];
    return 2.0 * CHAINS * (double)rounds;
}

static double run_int8_ref(uint64_t rounds, float *sink)
{
    enum { CHAINS = 32 };
    uint32_t acc[CHAINS];
    for (uint32_t i = 0; i < CHAINS; i++) acc[i] = i;
    for (uint64_t r = 0; r < rounds; r++) {
        CPL_UNROLL for (int i = 0; i < CHAINS; i++) acc[i] = acc[i] * 77 + 5;
    }
    for (int i = 0; i < CHAINS; i++) *sink += (float)acc[i];
    return 2.0 * CHAINS * (double)rounds;
}

static double run_block(const block *b, uint64_t rounds, float *sink)
{
#if defined(__x86_64__)
    if (b->unit == LOOP_BF16) return cpl_peak_block_bf16(rounds, sink);
    if (b->unit == LOOP_VNNI) return cpl_peak_block_int8_vnni(rounds, sink);
    if (b->unit == LOOP_AVX2) return cpl_peak_block_int8_avx2(rounds, sink);
#elif defined(__aarch64__)
    if (b->unit == LOOP_I8MM) return cpl_peak_block_i8mm(rounds, sink);
    if (b->unit == LOOP_DOTPROD) return cpl_peak_block_dotprod(rounds, sink);
    if (b->unit == LOOP_NEON) return cpl_peak_block_int8_neon(rounds, sink);
#endif
    if (b->unit == LOOP_REF) return run_int8_ref(rounds, sink);
#if defined(__x86_64__)
    if (b->isa >= CPL_ISA_AVX512)
        return b->data ? cpl_peak_block_l2_avx512(rounds, b->data, b->floats, sink)
                       : cpl_peak_block_avx512(rounds, sink);
    if (b->isa >= CPL_ISA_AVX2)
        return b->data ? cpl_peak_block_l2_avx2(rounds, b->data, b->floats, sink) : cpl_peak_block_avx2(rounds, sink);
#elif defined(__aarch64__)
    if (b->isa != CPL_ISA_REF)
        return b->data ? cpl_peak_block_l2_neon(rounds, b->data, b->floats, sink) : cpl_peak_block_neon(rounds, sink);
#endif
    return run_ref(rounds, sink);
}

static double rate(const block *b, uint32_t us, uint64_t rounds)
{
    volatile float kept = 0;
    for (;; rounds *= 2) {
        float sink = 0;
        const uint64_t start = cpl_clock_ns();
        const double flops = run_block(b, rounds, &sink);
        const uint64_t ns = cpl_clock_ns() - start;
        kept = sink;
        if (ns >= 500ull * us) { /* the doubled blocks together last about `us` */
            (void)kept;
            return flops * 1e9 / (double)ns;
        }
    }
}

double cpl_peak_fp32(cpl_isa isa, uint32_t us)
{
    const block b = {.isa = isa};
    return rate(&b, us, 64);
}

static unit_loop choose_int8(cpl_isa isa)
{
    cpl_cpu cpu;
    cpl_cpu_detect(&cpu);
    if (isa == CPL_ISA_REF) return LOOP_REF;
    if (isa == CPL_ISA_NEON_I8MM) return LOOP_I8MM;
    if (isa == CPL_ISA_NEON_DOTPROD) return LOOP_DOTPROD;
    if (isa == CPL_ISA_NEON) return LOOP_NEON;
    return cpl_isa_vnni(isa, &cpu) ? LOOP_VNNI : LOOP_AVX2;
}

double cpl_peak_int8(cpl_isa isa, uint32_t us)
{
    const block b = {.isa = isa, .unit = choose_int8(isa)};
    return rate(&b, us, 64);
}

const char *cpl_peak_int8_name(cpl_isa isa)
{
    static const char *const names[] = {
        [LOOP_NONE] = "none",      [LOOP_REF] = "plain C", [LOOP_AVX2] = "vpmaddwd", [LOOP_VNNI] = "vpdpbusd",
        [LOOP_BF16] = "vdpbf16ps", [LOOP_NEON] = "smlal",  [LOOP_DOTPROD] = "sdot",  [LOOP_I8MM] = "smmla",
    };
    return names[choose_int8(isa)];
}

static int multiplies_bf16(cpl_isa isa)
{
    cpl_cpu cpu;
    cpl_cpu_detect(&cpu);
    return cpl_isa_bf16(isa, &cpu);
}

double cpl_peak_bf16(cpl_isa isa, uint32_t us)
{
    const block b = {.isa = isa, .unit = multiplies_bf16(isa) ? LOOP_BF16 : LOOP_NONE};
    return rate(&b, us, 64);
}

const char *cpl_peak_bf16_name(cpl_isa isa) { return multiplies_bf16(isa) ? "vdpbf16ps" : cpl_isa_name(isa); }

double cpl_peak_fp32_l2(cpl_isa isa, uint32_t l2_bytes, uint32_t us)
{
    if (isa < CPL_ISA_AVX2) return 0;
    const uint64_t floats = l2_bytes / 2 / sizeof(float) / 512 * 512;
    float *data = NULL;
    if (!floats || posix_memalign((void **)&data, 4096, floats * sizeof(float))) return 0;
    for (uint64_t i = 0; i < floats; i++) data[i] = 0.25f;
    const block b = {.isa = isa, .data = data, .floats = floats};
    const double r = rate(&b, us, 1);
    free(data);
    return r;
}

double cpl_peak_clock_hz(uint32_t us)
{
    for (uint64_t rounds = 256;; rounds *= 2) {
        uint64_t x = 1;
        const uint64_t start = cpl_clock_ns();
        for (uint64_t r = 0; r < rounds; r++) {
#if defined(__x86_64__)
            __asm__ volatile(".rept 32\n\tadd %0, %0\n\t.endr" : "+r"(x));
#elif defined(__aarch64__)
            __asm__ volatile(".rept 32\n\tadd %0, %0, %0\n\t.endr" : "+r"(x));
#else
            for (int i = 0; i < 32; i++) x += x;
            __asm__ volatile("" : "+r"(x));
#endif
        }
        const uint64_t ns = cpl_clock_ns() - start;
        if (ns >= 500ull * us) return 32.0 * (double)rounds * 1e9 / (double)ns;
    }
}
