/* SPDX-License-Identifier: Apache-2.0 */
/* peak.c - times the peak blocks.
 *
 * A block of work is doubled until it lasts the time asked for, and only the last, longest one counts: short ones see
 * the clock ramping up. Rejected: taking the nominal clock times the FMA width, which no shared machine keeps. */
#include "kernel/peak.h"

#include <stdlib.h>

#include "base/clock.h"
#include "kernel/amx.h"
#include "kernel/unroll.h"

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

/* ---- which loop -------------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
/* Cores with AMX start two 512-bit multiply-adds a cycle; of other AVX-512 cores some start one, some two. */
static double wide_per_cycle(const cpl_cpu *cpu) { return cpu->features & CPL_CPU_AMX_TILE ? 2 : 0; }
#endif

static void choose_int8(cpl_peak_loop *out, cpl_isa isa, const cpl_cpu *cpu)
{
    (void)isa;
    (void)cpu;
    *out = (cpl_peak_loop){"int8, plain C", run_int8_ref, 2, 0, 0, 0, NULL};
#if defined(__x86_64__)
    if (cpl_isa_vnni(isa, cpu))
        *out = (cpl_peak_loop){"vpdpbusd", cpl_peak_block_int8_vnni, 128, wide_per_cycle(cpu), 1, 0, NULL};
    else if (isa == CPL_ISA_AVXVNNI)
        *out = (cpl_peak_loop){"vpdpbusd, 256 bits", cpl_peak_block_int8_avxvnni, 64, 0, 1, 0, NULL};
    else if (isa >= CPL_ISA_AVX2) /* a multiply and an add each: Intel cores have three ports for the four */
        *out = (cpl_peak_loop){"vpmaddwd", cpl_peak_block_int8_avx2, 32, wide_per_cycle(cpu) * 0.75, 0, 0, NULL};
#elif defined(__aarch64__)
    if (isa == CPL_ISA_NEON_I8MM)
        *out = (cpl_peak_loop){"smmla", cpl_peak_block_i8mm, 64, 0, 1, 0, NULL};
    else if (isa == CPL_ISA_NEON_DOTPROD)
        *out = (cpl_peak_loop){"sdot", cpl_peak_block_dotprod, 32, 0, 1, 0, NULL};
    else if (isa == CPL_ISA_NEON)
        *out = (cpl_peak_loop){"smlal", cpl_peak_block_int8_neon, 8, 0, 1, 0, NULL};
#endif
}

static void choose_fp32(cpl_peak_loop *out, cpl_isa isa, const cpl_cpu *cpu)
{
    (void)isa;
    (void)cpu;
    *out = (cpl_peak_loop){"fp32, plain C", run_ref, 2, 0, 0, 0, NULL};
#if defined(__x86_64__)
    if (isa >= CPL_ISA_AVX512)
        *out = (cpl_peak_loop){"fp32 fma, 512 bits", cpl_peak_block_avx512, 32, wide_per_cycle(cpu), 1, 0, NULL};
    else if (isa >= CPL_ISA_AVX2)
        *out = (cpl_peak_loop){"fp32 fma, 256 bits", cpl_peak_block_avx2, 16, 2, 1, 0, NULL};
#elif defined(__aarch64__)
    if (isa != CPL_ISA_REF) *out = (cpl_peak_loop){"fp32 fmla, 128 bits", cpl_peak_block_neon, 8, 0, 1, 0, NULL};
#endif
}

void cpl_peak_choose(cpl_peak_loop *out, cpl_peak_unit unit, cpl_isa isa, const cpl_cpu *cpu)
{
    if (unit == CPL_PEAK_INT8)
        choose_int8(out, isa, cpu);
    else
        choose_fp32(out, isa, cpu);
#if defined(__x86_64__)
    if (unit == CPL_PEAK_BF16 && cpl_isa_bf16(isa, cpu))
        *out = (cpl_peak_loop){"vdpbf16ps", cpl_peak_block_bf16, 64, 0, 1, 0, NULL};
    /* A product of whole tiles every 16 cycles, once the unit has woken up: in blocks of 40 us, each with its own
     * configuration, the loop showed half of what it shows in blocks of 2 ms. */
    if (isa != CPL_ISA_AMX || !cpl_amx_permit()) return;
    if (unit == CPL_PEAK_INT8)
        *out = (cpl_peak_loop){"tdpbssd", cpl_peak_block_amx_int8, 2 * 16 * 16 * 64, 1.0 / 16, 0,
                               1000,      cpl_peak_clock_amx_int8};
    else if (unit == CPL_PEAK_BF16)
        *out = (cpl_peak_loop){"tdpbf16ps", cpl_peak_block_amx_bf16, 2 * 16 * 16 * 32, 1.0 / 16, 0,
                               1000,        cpl_peak_clock_amx_bf16};
#elif defined(__aarch64__)
    if (unit == CPL_PEAK_BF16 && cpl_isa_bf16(isa, cpu))
        *out = (cpl_peak_loop){"bfmmla", cpl_peak_block_bfmmla, 32, 0, 1, 0, NULL};
#endif
}

double cpl_peak_expected(const cpl_peak_loop *l, double per_cycle)
{
    if (l->per_cycle > 0 || l->step <= 0) return l->per_cycle;
    const double steps = per_cycle / l->step;
    return steps < 1 ? l->step : (double)(uint64_t)(steps + 0.5) * l->step;
}

/* ---- timing ------------------------------------------------------------------------------------------------------ */

double cpl_peak_rate(const cpl_peak_loop *l, uint32_t us)
{
    volatile float kept = 0;
    for (uint64_t rounds = 64;; rounds *= 2) {
        float sink = 0;
        const uint64_t start = cpl_clock_ns();
        const double ops = l->run(rounds, &sink);
        const uint64_t ns = cpl_clock_ns() - start;
        kept = sink;
        if (ns >= 500ull * us) { /* the doubled blocks together last about `us` */
            (void)kept;
            return ops * 1e9 / (double)ns;
        }
    }
}

static double rate_of(cpl_peak_unit unit, cpl_isa isa, uint32_t us)
{
    cpl_cpu cpu;
    cpl_peak_loop l;
    cpl_cpu_detect(&cpu);
    cpl_peak_choose(&l, unit, isa, &cpu);
    return cpl_peak_rate(&l, us);
}

double cpl_peak_fp32(cpl_isa isa, uint32_t us) { return rate_of(CPL_PEAK_FP32, isa, us); }
double cpl_peak_bf16(cpl_isa isa, uint32_t us) { return rate_of(CPL_PEAK_BF16, isa, us); }
double cpl_peak_int8(cpl_isa isa, uint32_t us) { return rate_of(CPL_PEAK_INT8, isa, us); }

static const char *name_of(cpl_peak_unit unit, cpl_isa isa)
{
    cpl_cpu cpu;
    cpl_peak_loop l;
    cpl_cpu_detect(&cpu);
    cpl_peak_choose(&l, unit, isa, &cpu);
    return l.name;
}

const char *cpl_peak_bf16_name(cpl_isa isa) { return name_of(CPL_PEAK_BF16, isa); }
const char *cpl_peak_int8_name(cpl_isa isa) { return name_of(CPL_PEAK_INT8, isa); }

uint64_t cpl_peak_l2_floats(uint32_t l2_bytes) { return l2_bytes / 2 / sizeof(float) / 3072 * 3072; }

double cpl_peak_l2_rounds(cpl_isa isa, uint64_t rounds, const float *data, uint64_t floats)
{
    volatile float kept = 0;
    float sink = 0;
    double ops = 0;
    (void)rounds;
    (void)data;
    (void)floats;
#if defined(__x86_64__)
    if (isa >= CPL_ISA_AVX512)
        ops = cpl_peak_block_l2_avx512(rounds, data, floats, &sink);
    else if (isa >= CPL_ISA_AVX2)
        ops = cpl_peak_block_l2_avx2(rounds, data, floats, &sink);
#elif defined(__aarch64__)
    if (isa != CPL_ISA_REF) ops = cpl_peak_block_l2_neon(rounds, data, floats, &sink);
#endif
    kept = sink;
    (void)kept;
    return ops;
}

double cpl_peak_fp32_l2(cpl_isa isa, uint32_t l2_bytes, uint32_t us)
{
    if (isa == CPL_ISA_REF) return 0;
    const uint64_t floats = cpl_peak_l2_floats(l2_bytes);
    float *data = NULL;
    if (!floats || posix_memalign((void **)&data, 4096, floats * sizeof(float))) return 0;
    for (uint64_t i = 0; i < floats; i++) data[i] = 0.25f;
    double rate = 0;
    for (uint64_t rounds = 1; rate <= 0; rounds *= 2) {
        const uint64_t start = cpl_clock_ns();
        const double ops = cpl_peak_l2_rounds(isa, rounds, data, floats);
        const uint64_t ns = cpl_clock_ns() - start;
        if (ns >= 500ull * us) rate = ops * 1e9 / (double)ns;
    }
    free(data);
    return rate;
}

double cpl_peak_clock_rounds(uint64_t rounds)
{
    uint64_t x = 1;
    const uint64_t start = cpl_clock_ns();
    for (uint64_t r = 0; r < rounds; r++) {
#if defined(__x86_64__)
        __asm__ volatile(".rept 64\n\tadd %0, %0\n\t.endr" : "+r"(x));
#elif defined(__aarch64__)
        __asm__ volatile(".rept 64\n\tadd %0, %0, %0\n\t.endr" : "+r"(x));
#else
        for (int i = 0; i < 64; i++) __asm__ volatile("" : "+r"(x += x));
#endif
    }
    return 64.0 * (double)rounds * 1e9 / (double)(cpl_clock_ns() - start + 1);
}

double cpl_peak_clock_hz(uint32_t us)
{
    for (uint64_t rounds = 128;; rounds *= 2) {
        const uint64_t start = cpl_clock_ns();
        const double hz = cpl_peak_clock_rounds(rounds);
        if (cpl_clock_ns() - start >= 500ull * us) return hz;
    }
}
