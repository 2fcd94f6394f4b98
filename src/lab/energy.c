/* SPDX-License-Identifier: Apache-2.0 */
/* energy.c - counters, not power readings: their difference is exact over any stretch. Sockets are the zones named
 * "package-N" (their parts, core and dram, are inside or beside them and not summed, so the figure is the same kind of
 * thing on every machine). NVML is opened at run time; nothing of it is linked. Virtual machines usually have neither,
 * and containers may see the files without being allowed to read them: both are said, neither is an error.
 * Threads: the caller's. */
#include "lab/energy.h"

#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"

enum { ZONES_MAX = 16, GPUS_MAX = 16 };

typedef struct zone {
    char path[512];     /* energy_uj */
    uint64_t last, top; /* microjoules; the counter turns over after top */
} zone;

/* NVML's C interface, the few calls that are used. */
typedef int nvml_init_fn(void);
typedef int nvml_count_fn(unsigned *);
typedef int nvml_handle_fn(unsigned, void **);
typedef int nvml_energy_fn(void *, unsigned long long *); /* millijoules since the driver was loaded */

struct cpl_energy {
    zone zones[ZONES_MAX];
    size_t zone_count, unreadable;
    void *nvml;
    nvml_init_fn *nvml_shutdown;
    nvml_energy_fn *nvml_energy;
    void *gpus[GPUS_MAX];
    unsigned long long gpu_last[GPUS_MAX];
    size_t gpu_count;
    char source[160];
};

static bool read_number(const char *path, uint64_t *out)
{
    unsigned long long v;
    FILE *f = fopen(path, "re");
    if (!f) return false;
    const bool got = fscanf(f, "%llu", &v) == 1;
    fclose(f);
    if (got) *out = v;
    return got;
}

static void add_zone(cpl_energy *e, const char *dir, const char *name)
{
    char path[512], word[32] = "";
    if (e->zone_count == ZONES_MAX || strncmp(name, "intel-rapl:", 11) != 0) return; /* AMD's are called so too */
    snprintf(path, sizeof path, "%.200s/%.200s/name", dir, name);
    FILE *f = fopen(path, "re");
    if (!f) return;
    if (fscanf(f, "%31s", word) != 1) word[0] = 0;
    fclose(f);
    if (strncmp(word, "package", 7) != 0) return;
    zone *z = &e->zones[e->zone_count];
    snprintf(path, sizeof path, "%.200s/%.200s/max_energy_range_uj", dir, name);
    snprintf(z->path, sizeof z->path, "%.200s/%.200s/energy_uj", dir, name);
    if (read_number(path, &z->top) && read_number(z->path, &z->last))
        e->zone_count++;
    else
        e->unreadable++;
}

static void open_rapl(cpl_energy *e, const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *at; d && (at = readdir(d));) add_zone(e, dir, at->d_name);
    if (d) closedir(d);
}

static void *symbol(cpl_energy *e, const char *name) { return e->nvml ? dlsym(e->nvml, name) : NULL; }

static void open_nvml(cpl_energy *e, const char *library)
{
    unsigned n = 0;
    e->nvml = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    void *at[] = {symbol(e, "nvmlInit_v2"), symbol(e, "nvmlDeviceGetCount_v2"),
                  symbol(e, "nvmlDeviceGetHandleByIndex_v2"), symbol(e, "nvmlDeviceGetTotalEnergyConsumption"),
                  symbol(e, "nvmlShutdown")};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++)
        if (!at[i]) return;
    nvml_init_fn *init;
    nvml_count_fn *count;
    nvml_handle_fn *handle;
    memcpy(&init, &at[0], sizeof init); /* ISO C has no cast from an object's to a function's address */
    memcpy(&count, &at[1], sizeof count);
    memcpy(&handle, &at[2], sizeof handle);
    memcpy(&e->nvml_energy, &at[3], sizeof e->nvml_energy);
    if (init()) return;
    memcpy(&e->nvml_shutdown, &at[4], sizeof e->nvml_shutdown);
    if (count(&n)) return;
    for (unsigned i = 0; i < n && e->gpu_count < GPUS_MAX; i++) {
        void *gpu;
        if (handle(i, &gpu) || e->nvml_energy(gpu, &e->gpu_last[e->gpu_count])) continue;
        e->gpus[e->gpu_count++] = gpu;
    }
}

cpl_status cpl_energy_open(cpl_energy **out, const char *powercap, const char *nvml, cpl_error *err)
{
    cpl_energy *e = *out = calloc(1, sizeof *e);
    if (!e) return cpl_fail_memory(err, sizeof *e);
    open_rapl(e, powercap ? powercap : "/sys/class/powercap");
    open_nvml(e, nvml ? nvml : "libnvidia-ml.so.1");
    if (e->zone_count && e->gpu_count)
        snprintf(e->source, sizeof e->source, "%zu sockets (RAPL) and %zu GPUs (NVML)", e->zone_count, e->gpu_count);
    else if (e->zone_count)
        snprintf(e->source, sizeof e->source, "%zu sockets (RAPL)", e->zone_count);
    else if (e->gpu_count)
        snprintf(e->source, sizeof e->source, "%zu GPUs (NVML); no socket answers", e->gpu_count);
    else
        snprintf(e->source, sizeof e->source, "not available: %s, and no GPU answers through NVML",
                 e->unreadable ? "RAPL's counters may not be read" : "this machine shows no RAPL counter");
    return CPL_OK;
}

void cpl_energy_close(cpl_energy *e)
{
    if (!e) return;
    if (e->nvml_shutdown) e->nvml_shutdown();
    if (e->nvml) dlclose(e->nvml);
    free(e);
}

const char *cpl_energy_source(const cpl_energy *e) { return e->source; }
bool cpl_energy_available(const cpl_energy *e) { return e->zone_count || e->gpu_count; }

double cpl_energy_take(cpl_energy *e)
{
    double joules = 0;
    for (size_t i = 0; i < e->zone_count; i++) {
        zone *z = &e->zones[i];
        uint64_t now;
        if (!read_number(z->path, &now)) continue;
        joules += (double)(now >= z->last ? now - z->last : now + z->top - z->last) / 1e6;
        z->last = now;
    }
    for (size_t i = 0; i < e->gpu_count; i++) {
        unsigned long long now;
        if (e->nvml_energy(e->gpus[i], &now)) continue;
        joules += (double)(now - e->gpu_last[i]) / 1e3;
        e->gpu_last[i] = now;
    }
    return joules;
}
