/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_doctor.c - `couplet doctor`: what this machine is, what can run on it and why the rest can't, how fast its
 * arithmetic is. Everything printed was probed and run just now; nothing comes from a fixed table. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/precision.h"
#include "backend/registry.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/thread.h"
#include "base/topology.h"
#include "cli/doctor_cells.h"
#include "cli/options.h"
#include "cli/peak_team.h"
#include "cli/scorer_flags.h"
#include "kernel/cpu.h"
#include "model/locate.h"

enum { BACKENDS_MAX = 32, REST_NS = 20000000, PROBES = 3 };

typedef struct backend_row {
    const char *name;
    cpl_backend_probe probe;
    cpl_cell cells[CPL_PRECISION_COUNT]; /* where a model was run */
} backend_row;

typedef struct findings {
    cpl_cpu cpu;
    char features[256];
    cpl_isa isa;
    uint32_t cores;
    cpl_topology topology;
    double peak_one, peak_all; /* fp32 operations per second, from rest; 0 when not measured */
    char model[4096];          /* that cells were run with; "" when none was */
    size_t count;
    backend_row backends[BACKENDS_MAX];
} findings;

/* What it says, and then whether it does: every precision that it offers runs the model. */
static void examine_backend(backend_row *r, const char *name, const char *plugin_dir, const char *model)
{
    r->name = name;
    cpl_doctor_probe(&r->probe, name, plugin_dir);
    if (!r->probe.available || !*model || !strcmp(name, "fake")) return; /* a test double has no speed */
    for (int p = 0; p < CPL_PRECISION_COUNT; p++) {
        if (!(r->probe.caps.precisions >> p & 1)) continue;
        cpl_doctor_run(&r->cells[p], name, cpl_precision_name((cpl_precision)p), model, plugin_dir);
    }
}

/* The best of a few probes from rest. */
static cpl_status find_peak(double *ops_per_s, cpl_isa isa, uint32_t threads, cpl_error *err)
{
    cpl_peak_team *team;
    cpl_status st = cpl_peak_team_open(&team, CPL_PEAK_FP32, cpl_isa_name(isa), threads, err);
    if (st) return st;
    for (int i = 0; i < PROBES; i++) {
        cpl_peak_probe p;
        cpl_clock_sleep_until_ns(cpl_clock_ns() + REST_NS);
        cpl_peak_team_probe(team, CPL_PEAK_FIRST, &p);
        if (p.ops_per_s > *ops_per_s) *ops_per_s = p.ops_per_s;
    }
    cpl_peak_team_close(team);
    return CPL_OK;
}

/* The model that cells are run with: the one asked for, or the default one where it is. */
static cpl_status find_model(findings *f, const cpl_args *a, cpl_error *err)
{
    if (cpl_args_switch(a, "no-run")) return CPL_OK;
    cpl_status st = cpl_model_locate(f->model, sizeof f->model, cpl_args_text(a, "model"), false, NULL, err);
    if (!st) return CPL_OK;
    f->model[0] = 0;
    return cpl_args_given(a, "model") ? st : CPL_OK;
}

static cpl_status examine(findings *f, const cpl_args *a, cpl_error *err)
{
    cpl_cpu_detect(&f->cpu);
    cpl_cpu_feature_names(f->cpu.features, f->features, sizeof f->features);
    f->cores = cpl_cpu_count();
    cpl_topology_read(&f->topology, NULL);
    cpl_status st = cpl_isa_choose(&f->isa, NULL, &f->cpu, err);
    if (!st) st = find_model(f, a, err);
    if (st) return st;
    for (const char *const *name = cpl_backend_names(); *name && f->count < BACKENDS_MAX; name++)
        examine_backend(&f->backends[f->count++], *name, cpl_args_text(a, "plugins"), f->model);
    if (cpl_args_switch(a, "no-peak")) return CPL_OK;
    st = find_peak(&f->peak_one, f->isa, 1, err);
    if (!st) st = find_peak(&f->peak_all, f->isa, f->cores, err);
    return st;
}

static bool runs(const backend_row *r, cpl_precision p)
{
    return r->probe.available && (r->probe.caps.precisions >> p & 1) && !r->cells[p].reason[0];
}

static const char *why_not(const backend_row *r, cpl_precision p)
{
    return r->cells[p].reason[0] ? r->cells[p].reason : r->probe.caps.reason[p];
}

/* The platform x precision matrix: sequences a second, "yes" where it wasn't run, "-" where it can't. */
static void print_matrix(const findings *f)
{
    printf("\nbackend    ");
    for (int p = 0; p < CPL_PRECISION_COUNT; p++) printf("%-6s", cpl_precision_name((cpl_precision)p));
    printf(" device, or why not\n");
    for (size_t i = 0; i < f->count; i++) {
        const backend_row *r = &f->backends[i];
        printf("%-10s ", r->name);
        for (int p = 0; p < CPL_PRECISION_COUNT; p++) {
            char cell[16] = "-";
            if (r->cells[p].per_s > 0)
                snprintf(cell, sizeof cell, "%.0f", r->cells[p].per_s);
            else if (runs(r, (cpl_precision)p))
                snprintf(cell, sizeof cell, "yes");
            printf("%-6s", cell);
        }
        printf(" %s\n", r->probe.available ? r->probe.caps.device : r->probe.reason);
    }
    if (f->model[0])
        printf("\nnumbers: sequences of %d tokens a second through '%s', all workers, a look of 0.25 s (couplet bench "
               "engine measures)\n",
               CPL_CELL_TOKENS, f->model);
    printf("\n");
    for (size_t i = 0; i < f->count; i++) {
        const backend_row *r = &f->backends[i];
        for (int p = 0; r->probe.available && p < CPL_PRECISION_COUNT; p++)
            if (!runs(r, (cpl_precision)p) && *why_not(r, (cpl_precision)p))
                printf("%s %s: %s\n", r->name, cpl_precision_name((cpl_precision)p), why_not(r, (cpl_precision)p));
    }
}

/* What auto means on each backend here. */
static void print_auto(const findings *f)
{
    char reason[160];
    cpl_precision p;
    for (size_t i = 0; i < f->count; i++) {
        const backend_row *r = &f->backends[i];
        if (!r->probe.available ||
            cpl_precision_resolve(&p, reason, sizeof reason, CPL_PRECISION_AUTO, 0, r->name, &r->probe.caps, NULL))
            continue;
        printf("%s %s\n", r->name, reason);
    }
}

static void print_text(const findings *f)
{
    printf("machine    %s, %u usable cores\n", f->cpu.name, f->cores);
    printf("features   %s\n", f->features);
    printf("caches     L1d %u KiB, L2 %u KiB, L3 %u KiB\n", f->cpu.l1d_bytes >> 10, f->cpu.l2_bytes >> 10,
           f->cpu.l3_bytes >> 10);
    printf("nodes      %u", f->topology.nodes);
    for (uint32_t n = 0; n < f->topology.nodes; n++)
        printf("%s node %u with %u CPUs", n ? "," : ":", f->topology.number[n],
               f->topology.first[n + 1] - f->topology.first[n]);
    printf("\nkernels    %s\n", cpl_isa_name(f->isa));
    if (f->peak_all > 0)
        printf("fp32 peak  %.1f GFLOP/s on 1 core, %.1f on %u\n", f->peak_one / 1e9, f->peak_all / 1e9, f->cores);
    print_matrix(f);
    print_auto(f);
}

static void add_backend(const backend_row *r, cpl_json_writer *w)
{
    cpl_json_open(w, NULL, '{');
    cpl_json_text(w, "name", r->name);
    cpl_json_bool(w, "available", r->probe.available);
    cpl_json_text(w, "reason", r->probe.reason);
    cpl_json_open(w, "devices", '[');
    if (r->probe.available) cpl_json_text(w, NULL, r->probe.caps.device);
    cpl_json_close(w, ']');
    cpl_json_open(w, "precisions", '[');
    for (int p = 0; p < CPL_PRECISION_COUNT; p++)
        if (runs(r, (cpl_precision)p)) cpl_json_text(w, NULL, cpl_precision_name((cpl_precision)p));
    cpl_json_close(w, ']');
    cpl_json_open(w, "refused", '{');
    for (int p = 0; r->probe.available && p < CPL_PRECISION_COUNT; p++)
        if (!runs(r, (cpl_precision)p))
            cpl_json_text(w, cpl_precision_name((cpl_precision)p), why_not(r, (cpl_precision)p));
    cpl_json_close(w, '}');
    cpl_json_open(w, "sequences_per_s", '{');
    for (int p = 0; p < CPL_PRECISION_COUNT; p++)
        if (r->cells[p].per_s > 0) cpl_json_double(w, cpl_precision_name((cpl_precision)p), r->cells[p].per_s);
    cpl_json_close(w, '}');
    char reason[160] = "";
    cpl_precision p = CPL_PRECISION_AUTO;
    if (r->probe.available)
        cpl_precision_resolve(&p, reason, sizeof reason, CPL_PRECISION_AUTO, 0, r->name, &r->probe.caps, NULL);
    cpl_json_text(w, "auto", p == CPL_PRECISION_AUTO ? "" : cpl_precision_name(p));
    cpl_json_text(w, "auto_rule", reason);
    cpl_json_close(w, '}');
}

static cpl_status print_json(const findings *f, cpl_error *err)
{
    cpl_buf out = {0};
    cpl_json_writer w = {.out = &out, .pretty = true};
    cpl_json_open(&w, NULL, '{');
    cpl_json_text(&w, "version", cpl_version());
    cpl_json_text(&w, "cpu", f->cpu.name);
    cpl_json_int(&w, "cores", f->cores);
    cpl_json_text(&w, "features", f->features);
    cpl_json_open(&w, "nodes", '[');
    for (uint32_t n = 0; n < f->topology.nodes; n++) {
        cpl_json_open(&w, NULL, '{');
        cpl_json_int(&w, "node", f->topology.number[n]);
        cpl_json_open(&w, "cpus", '[');
        for (uint32_t i = f->topology.first[n]; i < f->topology.first[n + 1]; i++)
            cpl_json_int(&w, NULL, f->topology.cpu[i]);
        cpl_json_close(&w, ']');
        cpl_json_close(&w, '}');
    }
    cpl_json_close(&w, ']');
    cpl_json_text(&w, "isa", cpl_isa_name(f->isa));
    cpl_json_text(&w, "ran_model", f->model);
    cpl_json_int(&w, "ran_tokens", f->model[0] ? CPL_CELL_TOKENS : 0);
    cpl_json_open(&w, "backends", '[');
    for (size_t i = 0; i < f->count; i++) add_backend(&f->backends[i], &w);
    cpl_json_close(&w, ']');
    if (f->peak_all > 0) {
        cpl_json_open(&w, "peak", '{');
        cpl_json_double(&w, "fp32_ops_per_s_one_core", f->peak_one);
        cpl_json_double(&w, "fp32_ops_per_s", f->peak_all);
        cpl_json_close(&w, '}');
    }
    cpl_json_close(&w, '}');
    cpl_status st = cpl_buf_status(&out, err);
    if (!st) printf("%s\n", out.data);
    cpl_buf_deinit(&out);
    return st;
}

static int run(const cpl_args *a)
{
    cpl_error err;
    findings *f = calloc(1, sizeof *f);
    cpl_status st = f ? examine(f, a, &err) : cpl_fail_memory(&err, sizeof *f);
    if (!st && cpl_args_switch(a, "json"))
        st = print_json(f, &err);
    else if (!st)
        print_text(f);
    free(f);
    return st ? cpl_cli_fail(&err) : 0;
}

static const cpl_flag flags[] = {
    {"plugins", CPL_FLAG_TEXT, "DIR", NULL,
     "where couplet-NAME.so lie; default $COUPLET_PLUGINS, then the library directory"},
    {"model", CPL_FLAG_TEXT, "DIR", CPL_DEFAULT_MODEL, "what every backend and precision is run with, if it is there"},
    {"no-run", CPL_FLAG_SWITCH, NULL, NULL, "only ask backends what they can do, don't run them"},
    {"no-peak", CPL_FLAG_SWITCH, NULL, NULL, "don't measure the arithmetic peak"},
    {"json", CPL_FLAG_SWITCH, NULL, NULL, "one JSON document on stdout"},
    {0},
};

const cpl_command cpl_command_doctor = {
    .name = "doctor",
    .summary = "what this machine is, which backends and precisions run on it, and why others don't",
    .flags = flags,
    .run = run,
};
