/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_arm.c - what a 64-bit ARM processor has, from what Linux and macOS tell every process.
 *
 * The idea, on Linux: user code can't read the feature registers, but the auxiliary vector lists what both the CPU has
 * and the kernel lets run. Cache sizes come from sysfs (no register a process may read has them). The part's number is
 * in MIDR, whose reading the kernel emulates where it says so (HWCAP_CPUID). macOS has all of it under names in sysctl;
 * caches are those of the fast cores. Any thread, no state. */
#include "kernel/cpu_arm.h"

#if defined(__aarch64__) && defined(__APPLE__)

#include <sys/sysctl.h>

static uint64_t read_number(const char *name)
{
    uint64_t value = 0;
    size_t n = sizeof value;
    return sysctlbyname(name, &value, &n, NULL, 0) ? 0 : value; /* little endian: 4 bytes fill the low half */
}

void cpl_cpu_detect_arm(cpl_cpu *out)
{
    out->features |= CPL_CPU_NEON; /* every one has it */
    if (read_number("hw.optional.arm.FEAT_DotProd")) out->features |= CPL_CPU_DOTPROD;
    if (read_number("hw.optional.arm.FEAT_I8MM")) out->features |= CPL_CPU_I8MM;
    if (read_number("hw.optional.arm.FEAT_BF16")) out->features |= CPL_CPU_ARM_BF16;
    out->l1d_bytes = (uint32_t)read_number("hw.perflevel0.l1dcachesize");
    out->l2_bytes = (uint32_t)read_number("hw.perflevel0.l2cachesize");
    size_t n = sizeof out->name;
    if (sysctlbyname("machdep.cpu.brand_string", out->name, &n, NULL, 0)) out->name[0] = 0;
}

#elif defined(__aarch64__)

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

/* Names of the kernel's ABI (asm/hwcap.h); not every C library's headers know all of them. */
enum {
    HAS_ASIMD = 1 << 1,  /* HWCAP */
    HAS_CPUID = 1 << 11, /* HWCAP */
    HAS_ASIMDDP = 1 << 20 /* HWCAP */,
    HAS2_I8MM = 1 << 13, /* HWCAP2 */
    HAS2_BF16 = 1 << 14  /* HWCAP2 */
};

/* One word of a sysfs file about the calling thread's CPU; 0 when there is none. */
static int read_word(char *word, size_t cap, unsigned cpu, unsigned index, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u/cache/index%u/%s", cpu, index, name);
    FILE *f = fopen(path, "re");
    if (!f) return 0;
    const int got = fgets(word, (int)cap, f) != NULL;
    fclose(f);
    return got;
}

static void detect_caches(cpl_cpu *out)
{
    const int here = sched_getcpu();
    const unsigned cpu = here < 0 ? 0 : (unsigned)here;
    for (unsigned i = 0; i < 16; i++) {
        char level[16], type[16], size[16], *end;
        if (!read_word(level, sizeof level, cpu, i, "level") || !read_word(type, sizeof type, cpu, i, "type") ||
            !read_word(size, sizeof size, cpu, i, "size"))
            return;
        if (!strncmp(type, "Inst", 4)) continue;
        const unsigned long long kib = strtoull(size, &end, 10); /* "64K", always in K */
        if (*end != 'K' || !kib || kib >= 1u << 22) continue;
        if (*level == '1') out->l1d_bytes = (uint32_t)kib << 10;
        if (*level == '2') out->l2_bytes = (uint32_t)kib << 10;
        if (*level == '3') out->l3_bytes = (uint32_t)kib << 10;
    }
}

static void detect_name(cpl_cpu *out)
{
    static const struct {
        uint32_t designer, part;
        const char *name;
    } known[] = {
        {0x41, 0xd03, "ARM Cortex-A53"},   {0x41, 0xd07, "ARM Cortex-A57"},  {0x41, 0xd08, "ARM Cortex-A72"},
        {0x41, 0xd0b, "ARM Cortex-A76"},   {0x41, 0xd0c, "ARM Neoverse-N1"}, {0x41, 0xd40, "ARM Neoverse-V1"},
        {0x41, 0xd49, "ARM Neoverse-N2"},  {0x41, 0xd4f, "ARM Neoverse-V2"}, {0x41, 0xd8e, "ARM Neoverse-N3"},
        {0xc0, 0xac3, "Ampere AmpereOne"},
    };
    uint64_t midr;
    __asm__("mrs %0, midr_el1" : "=r"(midr));
    const uint32_t designer = (uint32_t)(midr >> 24) & 0xff, part = (uint32_t)(midr >> 4) & 0xfff;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].designer == designer && known[i].part == part) {
            snprintf(out->name, sizeof out->name, "%s", known[i].name);
            return;
        }
    snprintf(out->name, sizeof out->name, "ARM part 0x%03x of designer 0x%02x", part, designer);
}

void cpl_cpu_detect_arm(cpl_cpu *out)
{
    const unsigned long has = getauxval(AT_HWCAP), has2 = getauxval(AT_HWCAP2);
    if (has & HAS_ASIMD) out->features |= CPL_CPU_NEON;
    if (has & HAS_ASIMDDP) out->features |= CPL_CPU_DOTPROD;
    if (has2 & HAS2_I8MM) out->features |= CPL_CPU_I8MM;
    if (has2 & HAS2_BF16) out->features |= CPL_CPU_ARM_BF16;
    detect_caches(out);
    if (has & HAS_CPUID) detect_name(out);
}

#else
typedef int cpl_cpu_arm_empty; /* a file needs a declaration */
#endif
