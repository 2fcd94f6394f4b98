/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_bench_kernel.c - `couplet bench kernel`: each kernel alone, beside the peak of its instructions.
 * The one idea: cases and timing are kernel/timing.h's, the ones kerncheck --bench has; this is their table and their
 * JSON. One thread, the calling one. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "kernel/cpu.h"
#include "kernel/timing.h"

typedef struct result {
    cpl_isa isa;
    cpl_timing timing;
} result;

typedef struct kernel_job {
    cpl_cpu cpu;
    bool isas[CPL_ISA_COUNT];
    const char *kernel; /* part of the names wanted, or NULL */
    double seconds;     /* for each */
    result *results;
    size_t count;
} kernel_job;

static cpl_status choose_isas(kernel_job *j, const char *name, cpl_error *err)
{
    if (name && strcmp(name, "all") == 0) {
        for (int i = 0; i < CPL_ISA_COUNT; i++) j->isas[i] = cpl_isa_runs((cpl_isa)i, &j->cpu);
        return CPL_OK;
    }
    cpl_isa isa;
    const cpl_status st = cpl_isa_choose(&isa, name, &j->cpu, err);
    if (!st) j->isas[isa] = true;
    return st;
}

static bool wanted(const kernel_job *j, size_t i, const cpl_kernels *k)
{
    return cpl_timing_runs(i, k) && (!j->kernel || strstr(cpl_timing_kernel(i), j->kernel));
}

static cpl_status measure_isa(kernel_job *j, cpl_isa isa, cpl_error *err)
{
    cpl_kernels k;
    cpl_kernels_choose(&k, isa);
    uint64_t total = 0, done = 0;
    for (size_t i = 0; i < cpl_timing_count(); i++) total += wanted(j, i, &k);
    cpl_progress bar;
    cpl_progress_init(&bar, cpl_isa_name(isa), total);
    cpl_status st = CPL_OK;
    for (size_t i = 0; i < cpl_timing_count() && !st; i++) {
        if (!wanted(j, i, &k)) continue;
        result *r = &j->results[j->count];
        r->isa = isa;
        st = cpl_timing_measure(&r->timing, i, &k, isa, j->seconds, err);
        if (!st) j->count++;
        cpl_progress_update(&bar, ++done);
    }
    cpl_progress_finish(&bar);
    return st;
}

static double or_null(double value, bool known) { return known ? value : (double)NAN; }

static cpl_status print_json(const kernel_job *j, cpl_error *err)
{
    cpl_buf out = {0};
    cpl_json_writer w = {.out = &out, .pretty = true};
    cpl_json_open(&w, NULL, '{');
    cpl_json_text(&w, "cpu", j->cpu.name);
    cpl_json_open(&w, "results", '[');
    for (size_t i = 0; i < j->count; i++) {
        const cpl_timing *t = &j->results[i].timing;
        const bool peak = t->peak != NULL;
        cpl_json_open(&w, NULL, '{');
        cpl_json_text(&w, "isa", cpl_isa_name(j->results[i].isa));
        cpl_json_text(&w, "kernel", t->kernel);
        cpl_json_text(&w, "shape", t->shape);
        cpl_json_text(&w, "kernels", t->isa);
        cpl_json_double(&w, "ops_per_s", or_null(t->ops_per_s, peak));
        cpl_json_double(&w, "peak_ops_per_s", or_null(t->peak_ops_per_s, peak));
        cpl_json_double(&w, "efficiency", or_null(t->ops_per_s / t->peak_ops_per_s, peak));
        cpl_json_text(&w, "peak", t->peak);
        cpl_json_double(&w, "elements_per_s", t->elements_per_s);
        cpl_json_close(&w, '}');
    }
    cpl_json_close(&w, ']');
    cpl_json_close(&w, '}');
    const cpl_status st = cpl_buf_status(&out, err);
    if (!st) printf("%s\n", out.data);
    cpl_buf_deinit(&out);
    return st;
}

static void print_table(const kernel_job *j)
{
    printf("%s, one core\n%-13s %-14s %-24s %-14s %9s %9s  of peak  %s\n", j->cpu.name, "isa", "kernel", "shape",
           "kernels", "Gop/s", "peak", "ns an element");
    for (size_t i = 0; i < j->count; i++) {
        const cpl_timing *t = &j->results[i].timing;
        printf("%-13s %-14s %-24s %-14s", cpl_isa_name(j->results[i].isa), t->kernel, t->shape, t->isa);
        if (t->peak)
            printf(" %9.1f %9.1f  %5.1f %%  %.4f (%s)\n", t->ops_per_s / 1e9, t->peak_ops_per_s / 1e9,
                   t->ops_per_s / t->peak_ops_per_s * 100, 1e9 / t->elements_per_s, t->peak);
        else
            printf(" %9s %9s  %7s  %.4f\n", "", "", "", 1e9 / t->elements_per_s);
    }
}

static cpl_status run_job(kernel_job *j, const cpl_args *a, cpl_error *err)
{
    cpl_cpu_detect(&j->cpu);
    cpl_status st = choose_isas(j, cpl_args_text(a, "isa"), err);
    if (st) return st;
    j->kernel = cpl_args_text(a, "kernel");
    j->seconds = cpl_args_number(a, "seconds");
    j->results = calloc(CPL_ISA_COUNT * cpl_timing_count(), sizeof *j->results);
    if (!j->results) return cpl_fail_memory(err, CPL_ISA_COUNT * cpl_timing_count() * sizeof *j->results);
    for (int i = 0; i < CPL_ISA_COUNT && !st; i++)
        if (j->isas[i]) st = measure_isa(j, (cpl_isa)i, err);
    if (st) return st;
    if (!j->count) return cpl_fail(err, CPL_INVALID, "'--kernel %s': no kernel has that in its name", j->kernel);
    if (cpl_args_switch(a, "json")) return print_json(j, err);
    print_table(j);
    return CPL_OK;
}

static int run(const cpl_args *a)
{
    cpl_error err;
    kernel_job j = {0};
    const cpl_status st = run_job(&j, a, &err);
    free(j.results);
    return st ? cpl_cli_fail(&err) : 0;
}

static const cpl_flag flags[] = {
    {"isa", CPL_FLAG_TEXT, "NAME", NULL,
     "whose kernels; 'all': each this machine runs; default: COUPLET_ISA or the best"},
    {"kernel", CPL_FLAG_TEXT, "TEXT", NULL, "only kernels with this in their name, such as gemm or i8"},
    {"seconds", CPL_FLAG_NUMBER, "S", "0.1", "for each kernel and shape"},
    {"json", CPL_FLAG_SWITCH, NULL, NULL, "one JSON document on stdout"},
    {0},
};

const cpl_command cpl_command_bench_kernel = {
    .name = "bench kernel",
    .summary = "each kernel alone, beside the peak of its instructions",
    .flags = flags,
    .details =
        "Shapes are those of a 384-wide model, operands as far apart as the engine puts them, hot. Samples of 2 ms of\n"
        "thread CPU time take turns with the peak loop of the same instructions on the same core; the best of each\n"
        "counts. Operations are 2 x multiply-adds; kernels that are something else have no peak and show\n"
        "nanoseconds an output element.",
    .run = run,
};
