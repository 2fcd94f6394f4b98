/* SPDX-License-Identifier: Apache-2.0 */
/* machine.c - looks at the machine the way a sceptical reader of the results would. Nothing here is guessed: what can't
 * be read is said to be unreadable, and which precisions run where comes from probing the backends.
 * Threads: no state. */
#include "lab/machine.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "backend/precision.h"
#include "backend/registry.h"
#include "base/error.h"
#include "base/file.h"
#include "base/system.h"
#include "base/thread.h"

#ifndef COUPLET_BUILD_FLAGS
#define COUPLET_BUILD_FLAGS "not recorded"
#endif
#ifdef __clang__
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif
#define UNREADABLE "not readable"

static void chop(char *line)
{
    size_t n = strlen(line);
    while (n && (line[n - 1] == '\n' || line[n - 1] == ' ')) line[--n] = 0;
}

/* The value behind "key : " of the first such line of /proc/cpuinfo. */
static bool cpuinfo(const char *key, char *out, size_t cap)
{
    FILE *f = fopen("/proc/cpuinfo", "re");
    char line[8192];
    bool found = false;
    while (f && !found && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, key, strlen(key)) != 0 || !colon) continue;
        chop(line);
        snprintf(out, cap, "%s", colon[1] == ' ' ? colon + 2 : colon + 1);
        found = true;
    }
    if (f) fclose(f);
    return found;
}

static const char *read_line(cpl_lab_result *r, const char *path)
{
    char line[256] = "";
    FILE *f = fopen(path, "re");
    if (!f) return UNREADABLE;
    if (!fgets(line, sizeof line, f)) line[0] = 0;
    fclose(f);
    chop(line);
    return *line ? cpl_lab_text(r, "%s", line) : UNREADABLE;
}

static void capture_machine(cpl_lab_result *r)
{
    cpl_lab_machine *m = &r->machine;
    char text[8192];
    m->cpu = cpuinfo("model name", text, sizeof text) ? cpl_lab_text(r, "%s", text) : UNREADABLE;
    m->virtualization = !cpuinfo("flags", text, sizeof text) ? UNREADABLE
                        : strstr(text, " hypervisor")        ? "virtual machine"
                                                             : "none seen";
    m->cores = cpl_cpu_count();
    m->governor = read_line(r, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    struct utsname u;
    m->system = uname(&u) ? UNREADABLE : cpl_lab_text(r, "%s %s %s", u.sysname, u.release, u.machine);
    m->memory_gib = (double)cpl_system_memory_bytes() / (1024.0 * 1024 * 1024);
    m->isa = UNREADABLE;
    for (size_t i = 0; i < r->probe_count; i++)
        if (!strcmp(r->probes[i].backend, "native") && r->isa) m->isa = r->isa;
}

/* FNV-1a of this executable: tells two builds of one commit apart, and knows a program again after a commit that only
 * changed documents. */
static const char *program_digest(cpl_lab_result *r)
{
    cpl_map m;
    cpl_error e;
    uint64_t h = 0xcbf29ce484222325u;
    char program[1024];
    if (!cpl_system_program(program, sizeof program) || cpl_file_map(&m, program, &e)) return UNREADABLE;
    for (size_t i = 0; i < m.size; i++) h = (h ^ m.data[i]) * 0x100000001b3u;
    cpl_file_unmap(&m);
    return cpl_lab_text(r, "%016llx", (unsigned long long)h);
}

/* The commit of the working tree the program runs in, with "-dirty" where files differ from it; the pages that a run
 * itself writes don't count. */
static void capture_build(cpl_lab_result *r)
{
    r->build = (cpl_lab_build){COUPLET_VERSION, COMPILER, COUPLET_BUILD_FLAGS, "unknown", program_digest(r)};
    FILE *git = popen("git rev-parse --short=12 HEAD 2>/dev/null && { git diff --quiet HEAD -- . ':!docs/experiments' "
                      "':!experiments/README.md' 2>/dev/null || echo -dirty; }",
                      "re");
    char line[128] = "", dirty[16] = "";
    if (git && fgets(line, sizeof line, git)) chop(line);
    if (git && fgets(dirty, sizeof dirty, git)) chop(dirty);
    if (git) pclose(git);
    if (*line) r->build.commit = cpl_lab_text(r, "%s%s", line, dirty);
}

static void capture_probe(cpl_lab_result *r, cpl_lab_probe *p, const char *name, const cpl_host *host)
{
    cpl_backend_ref ref;
    cpl_caps caps = {0};
    cpl_error e;
    *p = (cpl_lab_probe){.backend = name, .device = "", .reason = ""};
    for (int i = 0; i < CPL_PRECISION_COUNT; i++) p->precisions[i] = "";
    cpl_status st = cpl_backend_find(&ref, name, NULL, host, &e);
    if (!st) {
        st = ref.backend->probe(&caps, host, &e);
        if (!st) {
            p->available = true;
            p->device = cpl_lab_text(r, "%s", caps.device);
            for (int i = 0; i < CPL_PRECISION_COUNT; i++)
                p->precisions[i] = caps.precisions >> i & 1 ? "yes" : cpl_lab_text(r, "%s", caps.reason[i]);
            if (!strcmp(name, "native")) r->isa = cpl_lab_text(r, "%s", caps.isa);
        }
        cpl_backend_release(&ref);
    }
    if (st) p->reason = cpl_lab_text(r, "%s", e.what);
}

cpl_status cpl_lab_capture(cpl_lab_result *r, cpl_error *err)
{
    const char *const *names = cpl_backend_names();
    size_t n = 0;
    while (names[n]) n++;
    r->probes = CPL_ARENA_NEW(&r->arena, cpl_lab_probe, n);
    if (!r->probes) return cpl_fail_memory(err, n * sizeof *r->probes);
    cpl_host host;
    cpl_host_init(&host, NULL);
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(names[i], "fake")) continue; /* a test double: no platform of its own */
        capture_probe(r, &r->probes[r->probe_count++], names[i], &host);
    }
    capture_machine(r);
    capture_build(r);
    return CPL_OK;
}

static cpl_status probe(cpl_caps *out, const char *name, cpl_error *err)
{
    cpl_host host;
    cpl_backend_ref ref;
    *out = (cpl_caps){0};
    cpl_host_init(&host, NULL);
    cpl_status st = cpl_backend_find(&ref, name, NULL, &host, err);
    if (st) return st;
    st = ref.backend->probe(out, &host, err);
    cpl_backend_release(&ref);
    return st;
}

cpl_status cpl_lab_backend_check(const char *name, const char *precision, cpl_error *err)
{
    cpl_caps caps;
    cpl_precision asked, effective;
    char reason[128];
    cpl_status st = probe(&caps, name, err);
    if (!st && *precision && !cpl_precision_parse(&asked, precision, NULL))
        st = cpl_precision_resolve(&effective, reason, sizeof reason, asked, 0, name, &caps, err);
    return st;
}

cpl_status cpl_lab_backend_sessions(uint32_t *out, const char *name, cpl_error *err)
{
    cpl_caps caps;
    const cpl_status st = probe(&caps, name, err);
    *out = caps.sessions_per_device * (caps.devices ? caps.devices : 1);
    return st;
}
