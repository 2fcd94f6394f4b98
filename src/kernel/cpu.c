/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.c - CPUID and XCR0, read once per question; the ladder of instruction sets. ARM is asked in cpu_arm.c.
 *
 * The idea: never trust a CPUID bit alone. AVX needs the OS to save YMM state, AVX-512 the opmask and ZMM state, AMX
 * the tile state; without the XCR0 bits the instructions fault although CPUID lists them (virtual machines do that).
 * AMX additionally needs the kernel's permission for the process, which whoever executes tiles asks for; here the
 * feature is only named.
 *
 * No state, any thread. Rejected: __builtin_cpu_supports (clang 14 knows no AMX names, and it hides the XCR0 rule);
 * parsing /proc/cpuinfo (not in every container). */
#include "kernel/cpu.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static const struct {
    uint32_t bit;
    const char *name;
} feature_names[] = {
    {CPL_CPU_AVX2, "avx2"},
    {CPL_CPU_AVX_VNNI, "avx_vnni"},
    {CPL_CPU_AVX512, "avx512"},
    {CPL_CPU_AVX512_VNNI, "avx512_vnni"},
    {CPL_CPU_AVX512_BF16, "avx512_bf16"},
    {CPL_CPU_AVX512_VBMI, "avx512_vbmi"},
    {CPL_CPU_AVX512_FP16, "avx512_fp16"},
    {CPL_CPU_AMX_TILE, "amx_tile"},
    {CPL_CPU_AMX_INT8, "amx_int8"},
    {CPL_CPU_AMX_BF16, "amx_bf16"},
    {CPL_CPU_NEON, "neon"},
    {CPL_CPU_DOTPROD, "dotprod"},
    {CPL_CPU_I8MM, "i8mm"},
    {CPL_CPU_ARM_BF16, "bf16"},
};

void cpl_cpu_feature_names(uint32_t features, char *buf, size_t cap)
{
    size_t used = 0;
    if (cap) buf[0] = 0;
    for (size_t i = 0; i < sizeof feature_names / sizeof feature_names[0]; i++) {
        size_t len = strlen(feature_names[i].name);
        if (!(features & feature_names[i].bit) || used + len + 2 > cap) continue;
        if (used) buf[used++] = ' ';
        memcpy(buf + used, feature_names[i].name, len + 1);
        used += len;
    }
}

#if defined(__x86_64__)

#include <cpuid.h>

enum { XCR0_YMM = 0x6, XCR0_ZMM = 0xe0, XCR0_TILE = 0x60000 };

static uint64_t xcr0(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return ((uint64_t)hi << 32) | lo;
}

static int all(uint64_t value, uint64_t bits) { return (value & bits) == bits; }

static uint32_t detect_features(void)
{
    uint32_t a, b, c, d, features = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & (1u << 27))) return 0; /* OSXSAVE */
    const uint64_t x = xcr0();
    const int fma_f16c = all(c, (1u << 12) | (1u << 29));
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    uint32_t a1 = 0, b1, c1, d1;
    __get_cpuid_count(7, 1, &a1, &b1, &c1, &d1);
    if (!all(x, XCR0_YMM) || !fma_f16c || !(b & (1u << 5))) return 0;
    features |= CPL_CPU_AVX2;
    if (a1 & (1u << 4)) features |= CPL_CPU_AVX_VNNI;
    if (!all(x, XCR0_ZMM) || !all(b, (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31))) return features;
    features |= CPL_CPU_AVX512;
    if (c & (1u << 11)) features |= CPL_CPU_AVX512_VNNI;
    if (c & (1u << 1)) features |= CPL_CPU_AVX512_VBMI;
    if (a1 & (1u << 5)) features |= CPL_CPU_AVX512_BF16;
    if (d & (1u << 23)) features |= CPL_CPU_AVX512_FP16;
    if (!all(x, XCR0_TILE)) return features;
    if (d & (1u << 24)) features |= CPL_CPU_AMX_TILE;
    if (d & (1u << 25)) features |= CPL_CPU_AMX_INT8;
    if (d & (1u << 22)) features |= CPL_CPU_AMX_BF16;
    return features;
}

/* Leaf 4 (Intel) and leaf 0x8000001d (AMD) share one format. */
static void detect_caches(cpl_cpu *out)
{
    uint32_t a, b, c, d, leaf = 4;
    if (__get_cpuid_count(0x8000001d, 0, &a, &b, &c, &d) && (a & 31)) leaf = 0x8000001d;
    for (uint32_t i = 0; i < 16; i++) {
        if (!__get_cpuid_count(leaf, i, &a, &b, &c, &d)) return;
        const uint32_t type = a & 31, level = (a >> 5) & 7;
        if (!type) return;
        const uint64_t size =
            (uint64_t)((b >> 22) + 1) * (((b >> 12) & 1023) + 1) * ((b & 4095) + 1) * ((uint64_t)c + 1);
        const uint32_t bytes = size > UINT32_MAX ? UINT32_MAX : (uint32_t)size;
        if (type == 2 || !bytes) continue; /* instructions */
        if (level == 1) out->l1d_bytes = bytes;
        if (level == 2) out->l2_bytes = bytes;
        if (level == 3) out->l3_bytes = bytes;
    }
}

static void detect_name(cpl_cpu *out)
{
    uint32_t words[12];
    for (uint32_t i = 0; i < 3; i++)
        if (!__get_cpuid(0x80000002u + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2], &words[4 * i + 3]))
            return;
    char raw[49];
    memcpy(raw, words, 48);
    raw[48] = 0;
    const char *from = raw;
    while (*from == ' ') from++;
    size_t len = strlen(from);
    while (len && from[len - 1] == ' ') len--;
    memcpy(out->name, from, len);
    out->name[len] = 0;
}

static void detect(cpl_cpu *out)
{
    out->features = detect_features();
    detect_caches(out);
    detect_name(out);
}

#elif defined(__aarch64__)

#include "kernel/cpu_arm.h"

static void detect(cpl_cpu *out) { cpl_cpu_detect_arm(out); }

#else

static void detect(cpl_cpu *out) { (void)out; }

#endif

void cpl_cpu_detect(cpl_cpu *out)
{
    *out = (cpl_cpu){.l1d_bytes = 32u << 10, .l2_bytes = 1u << 20, .l3_bytes = 16u << 20, .name = "unknown processor"};
    detect(out);
}

static const struct {
    const char *name;
    uint32_t needs;
} isas[CPL_ISA_COUNT] = {
    [CPL_ISA_REF] = {"ref", 0},
    [CPL_ISA_AVX2] = {"avx2", CPL_CPU_AVX2},
    [CPL_ISA_AVXVNNI] = {"avxvnni", CPL_CPU_AVX2 | CPL_CPU_AVX_VNNI},
    [CPL_ISA_AVX512] = {"avx512", CPL_CPU_AVX2 | CPL_CPU_AVX512},
    [CPL_ISA_AMX] = {"amx", CPL_CPU_AVX2 | CPL_CPU_AVX512 | CPL_CPU_AMX_TILE | CPL_CPU_AMX_INT8 | CPL_CPU_AMX_BF16},
    [CPL_ISA_NEON] = {"neon", CPL_CPU_NEON},
    [CPL_ISA_NEON_DOTPROD] = {"neon-dotprod", CPL_CPU_NEON | CPL_CPU_DOTPROD},
    [CPL_ISA_NEON_I8MM] = {"neon-i8mm", CPL_CPU_NEON | CPL_CPU_DOTPROD | CPL_CPU_I8MM},
};

const char *cpl_isa_name(cpl_isa isa) { return isas[isa].name; }

uint32_t cpl_isa_needs(cpl_isa isa) { return isas[isa].needs; }

int cpl_isa_runs(cpl_isa isa, const cpl_cpu *cpu) { return (cpu->features & isas[isa].needs) == isas[isa].needs; }

int cpl_isa_vnni(cpl_isa isa, const cpl_cpu *cpu)
{
    return isa >= CPL_ISA_AVX512 && (cpu->features & CPL_CPU_AVX512_VNNI) != 0;
}

int cpl_isa_bf16(cpl_isa isa, const cpl_cpu *cpu)
{
    if (isa == CPL_ISA_NEON_I8MM) return (cpu->features & CPL_CPU_ARM_BF16) != 0;
    return isa >= CPL_ISA_AVX512 && (cpu->features & CPL_CPU_AVX512_BF16) != 0;
}

cpl_isa cpl_isa_best(const cpl_cpu *cpu)
{
    cpl_isa best = CPL_ISA_REF;
    for (int i = 0; i < CPL_ISA_COUNT; i++)
        if (cpl_isa_runs((cpl_isa)i, cpu)) best = (cpl_isa)i;
    return best;
}

cpl_status cpl_isa_choose(cpl_isa *out, const char *name, const cpl_cpu *cpu, cpl_error *err)
{
    const char *from = "isa";
    if (!name || !*name) {
        name = getenv("COUPLET_ISA");
        from = "COUPLET_ISA";
    }
    if (!name || !*name) {
        *out = cpl_isa_best(cpu);
        return CPL_OK;
    }
    for (int i = 0; i < CPL_ISA_COUNT; i++) {
        if (strcmp(name, isas[i].name)) continue;
        if (!cpl_isa_runs((cpl_isa)i, cpu)) {
            char has[160];
            cpl_cpu_feature_names(cpu->features, has, sizeof has);
            return cpl_fail(err, CPL_UNSUPPORTED, "this machine can't run %s=\"%s\": it has %s; best here is \"%s\"",
                            from, name, *has ? has : "none of the vector extensions couplet uses",
                            isas[cpl_isa_best(cpu)].name);
        }
        *out = (cpl_isa)i;
        return CPL_OK;
    }
    return cpl_fail(
        err, CPL_INVALID,
        "unknown %s \"%s\": use ref, avx2, avxvnni, avx512 or amx; on ARM ref, neon, neon-dotprod or neon-i8mm", from,
        name);
}
