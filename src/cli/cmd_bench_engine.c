/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_bench_engine.c - `couplet bench engine`: in-process speed of one model through the public library, with the
 * machine's own peak measured in the same run. engine_load.c makes what is run, engine_bench.c measures; this opens
 * and prints. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/system.h"
#include "base/thread.h"
#include "cli/engine_bench.h"
#include "cli/progress.h"
#include "cli/scorer_flags.h"

enum { LENGTHS_MAX = 32, CPUS_MAX = 1024 };

typedef struct bench_job {
    cpl_engine_bench b;
    cpl_log log;
    char peak_name[96];
    cpl_engine_result results[LENGTHS_MAX + 1];
    size_t count;
} bench_job;

static cpl_status parse_lengths(const char *text, uint32_t *lengths, size_t *n, uint32_t max, cpl_error *err)
{
    *n = 0;
    while (*text) {
        char *end;
        unsigned long v = strtoul(text, &end, 10);
        if (end == text || (*end && *end != ',') || v < 1 || v > max || *n == LENGTHS_MAX)
            return cpl_fail(err, CPL_INVALID,
                            "'--lengths %s': expected up to %d lengths from 1 to %u (the model's limit)", text,
                            LENGTHS_MAX, max);
        lengths[(*n)++] = (uint32_t)v;
        text = *end ? end + 1 : end;
    }
    return CPL_OK;
}

/* ---- JSON ---------------------------------------------------------------------------------------------------------
 */

static double per_thread(const cpl_engine_bench *b, double v) { return v / b->info->threads; }

static void add_stages(const cpl_engine_bench *b, const cpl_engine_result *r, cpl_json_writer *w)
{
    double total = 0;
    for (size_t i = 0; i < r->stage_count; i++) total += r->stages[i].seconds;
    cpl_json_open(w, "stages", '[');
    for (size_t i = 0; i < r->stage_count; i++) {
        const cpl_stage *s = &r->stages[i];
        double rate = s->ops > 0 && s->seconds > 0 ? s->ops / s->seconds : NAN;
        cpl_json_open(w, NULL, '{');
        cpl_json_text(w, "name", s->name);
        cpl_json_double(w, "share", total > 0 ? s->seconds / total : NAN);
        cpl_json_double(w, "ops_per_s", rate);
        cpl_json_double(w, "of_peak", rate / per_thread(b, r->peak_ops_per_s));
        cpl_json_close(w, '}');
    }
    cpl_json_close(w, ']');
}

static void add_result(const cpl_engine_bench *b, const cpl_engine_result *r, cpl_json_writer *w)
{
    cpl_json_open(w, NULL, '{');
    if (strcmp(r->name, "mix") == 0)
        cpl_json_text(w, "length", "mix");
    else
        cpl_json_int(w, "length", (int64_t)r->mean_length);
    cpl_json_double(w, "length_mean", r->mean_length);
    cpl_json_double(w, "pairs_per_s", r->pairs_per_s);
    cpl_json_double(w, "tokens_per_s", r->tokens_per_s);
    cpl_json_double(w, "useful_ops_per_s", r->useful_ops_per_s);
    cpl_json_double(w, "nominal_ops_per_s", r->nominal_ops_per_s);
    cpl_json_double(w, "peak_ops_per_s", b->team ? r->peak_ops_per_s : NAN);
    cpl_json_double(w, "peak_rest_ops_per_s", b->team ? b->rest.probe.ops_per_s : NAN);
    cpl_json_double(w, "efficiency", r->efficiency);
    cpl_json_double(w, "efficiency_min", r->efficiency_min);
    cpl_json_double(w, "efficiency_max", r->efficiency_max);
    cpl_json_double(w, "efficiency_of_rest", b->team ? r->useful_ops_per_s / b->rest.probe.ops_per_s : NAN);
    cpl_json_double(w, "efficiency_unmarked", r->efficiency_unmarked);
    cpl_json_double(w, "cpu_share", r->cpu_share);
    cpl_json_double(w, "efficiency_of_cpu_time", r->efficiency / r->cpu_share);
    cpl_json_double(w, "clock_hz", b->team ? r->clock_hz : NAN);
    cpl_json_double(w, "l2_control", r->control);
    cpl_json_double(w, "l2_control_min", r->control_min);
    cpl_json_int(w, "samples", r->samples);
    cpl_json_int(w, "samples_marked", r->marked);
    cpl_json_open(w, "latency_ms", '{');
    cpl_json_double(w, "p50", r->latency_p50_ms);
    cpl_json_double(w, "p95", r->latency_p95_ms);
    cpl_json_double(w, "p99", r->latency_p99_ms);
    cpl_json_close(w, '}');
    cpl_json_open(w, "precision", '{');
    cpl_json_text(w, "requested", b->info->precision_requested);
    cpl_json_text(w, "effective", b->info->precision_effective);
    cpl_json_close(w, '}');
    cpl_json_text(w, "isa", b->info->isa);
    cpl_json_int(w, "threads", b->info->threads);
    if (r->stage_count) add_stages(b, r, w);
    cpl_json_close(w, '}');
}

static void add_check(const cpl_engine_bench *b, cpl_json_writer *w)
{
    const cpl_engine_rest *r = &b->rest;
    cpl_json_open(w, "peak_check", '{');
    cpl_json_double(w, "ops_per_instruction", cpl_peak_team_loop(b->team)->ops);
    cpl_json_double(w, "instructions_per_cycle", r->probe.per_cycle);
    cpl_json_int(w, "threads_near", r->probe.near);
    cpl_json_double(w, "expected", r->expected > 0 ? r->expected : NAN);
    cpl_json_double(w, "ratio", r->ratio);
    if (!isnan(r->ratio)) cpl_json_bool(w, "within_3_percent", fabs(r->ratio - 1) <= 0.03);
    cpl_json_double(w, "clock_rest_hz", r->probe.clock_hz);
    cpl_json_close(w, '}');
}

static cpl_status print_json(const bench_job *j, cpl_error *err)
{
    const cpl_engine_bench *b = &j->b;
    cpl_buf out = {0};
    cpl_json_writer w = {.out = &out, .pretty = true};
    cpl_json_open(&w, NULL, '{');
    cpl_json_text(&w, "model", b->info->model);
    cpl_json_text(&w, "model_note", b->info->model_note);
    cpl_json_text(&w, "backend", b->info->backend);
    cpl_json_int(&w, "weight_bytes", (int64_t)b->info->weight_bytes);
    cpl_json_text(&w, "peak", j->peak_name);
    if (b->team) add_check(b, &w);
    cpl_json_open(&w, "results", '[');
    for (size_t i = 0; i < j->count; i++) add_result(b, &j->results[i], &w);
    cpl_json_close(&w, ']');
    cpl_json_close(&w, '}');
    cpl_status st = cpl_buf_status(&out, err);
    if (!st) printf("%s\n", out.data);
    cpl_buf_deinit(&out);
    return st;
}

/* ---- tables --------------------------------------------------------------------------------------------------------
 */

static void print_rest(const bench_job *j)
{
    const cpl_engine_rest *r = &j->b.rest;
    printf("peak: %s, from rest %.1f GOP/s at %.2f GHz: %.4g instructions a cycle on %u of %u threads", j->peak_name,
           r->probe.ops_per_s / 1e9, r->probe.clock_hz / 1e9, r->probe.per_cycle, r->probe.near, j->b.info->threads);
    if (isnan(r->ratio))
        printf(" (no theory to hold it against)\n");
    else
        printf(", by theory %.4g: %+.1f %%%s\n", r->expected, (r->ratio - 1) * 100,
               fabs(r->ratio - 1) <= 0.03 ? ""
                                          : ", OFF by more than 3 %: the machine is disturbed, or theory is wrong");
}

static void print_stages(const bench_job *j)
{
    const cpl_engine_result *first = &j->results[0];
    if (!j->count || !first->stage_count) return;
    printf("\nshare of time (of peak) by stage\nlength ");
    for (size_t i = 0; i < first->stage_count; i++) printf(" %14s", first->stages[i].name);
    printf("\n");
    for (size_t k = 0; k < j->count; k++) {
        const cpl_engine_result *r = &j->results[k];
        double total = 0;
        for (size_t i = 0; i < r->stage_count; i++) total += r->stages[i].seconds;
        printf("%6s ", r->name);
        for (size_t i = 0; i < r->stage_count; i++) {
            const cpl_stage *s = &r->stages[i];
            double of_peak = s->ops / s->seconds / per_thread(&j->b, r->peak_ops_per_s);
            if (s->ops > 0 && j->b.team)
                printf(" %6.1f %% (%.2f)", 100 * s->seconds / total, of_peak);
            else
                printf(" %12.1f %%", 100 * s->seconds / total);
        }
        printf("\n");
    }
}

static void print_table(const bench_job *j)
{
    const cpl_scorer_info *info = j->b.info;
    printf("%s, %s %s (%s), %u threads\n", info->model, info->backend, info->precision_effective, info->isa,
           info->threads);
    if (j->b.team)
        print_rest(j);
    else
        printf("peak: %s\n", j->peak_name);
    printf("length   pairs/s   tokens/s  useful GOP/s  nominal  peak beside  of peak (min-max)     of rest  CPU had  "
           "L2 control "
           "(least)  marked    one pair p50/p95/p99 ms\n");
    for (size_t i = 0; i < j->count; i++) {
        const cpl_engine_result *r = &j->results[i];
        printf("%6s %9.1f %10.0f %13.1f %8.1f %12.1f  %5.1f %% (%.1f-%.1f)   %5.1f %%  %5.0f %%  %8.2f (%.2f)  "
               "%6u/%-3u   %.2f / "
               "%.2f / %.2f\n",
               r->name, r->pairs_per_s, r->tokens_per_s, r->useful_ops_per_s / 1e9, r->nominal_ops_per_s / 1e9,
               r->peak_ops_per_s / 1e9, r->efficiency * 100, r->efficiency_min * 100, r->efficiency_max * 100,
               j->b.team ? r->useful_ops_per_s / j->b.rest.probe.ops_per_s * 100 : NAN, 100 * r->cpu_share, r->control,
               r->control_min, r->marked, r->samples, r->latency_p50_ms, r->latency_p95_ms, r->latency_p99_ms);
    }
    print_stages(j);
}

/* ---- command -------------------------------------------------------------------------------------------------------
 */

/* Each precision is held against the loop of the instructions its products have on this rung: int4 multiplies int8,
 * and fp16 is only stored so. */
static cpl_peak_unit unit_of(const char *precision)
{
    if (!strcmp(precision, "int8") || !strcmp(precision, "int4")) return CPL_PEAK_INT8;
    return strcmp(precision, "bf16") ? CPL_PEAK_FP32 : CPL_PEAK_BF16;
}

static cpl_status open_peak(bench_job *j, cpl_error *err)
{
    cpl_engine_bench *b = &j->b;
    cpl_cpu cpu;
    cpl_isa isa;
    cpl_cpu_detect(&cpu);
    /* A backend that doesn't compute with this CPU's vector units names no ISA of theirs. */
    if (cpl_isa_choose(&isa, b->info->isa, &cpu, NULL)) {
        snprintf(j->peak_name, sizeof j->peak_name, "none (%s is no instruction set of this CPU)", b->info->isa);
        return CPL_OK;
    }
    cpl_peak_unit unit = unit_of(b->info->precision_effective);
    cpl_status st = cpl_peak_team_open(&b->team, unit, b->info->isa, b->info->threads, err);
    if (st) return st;
    static const char *const units[] = {"fp32", "bf16", "int8"};
    snprintf(j->peak_name, sizeof j->peak_name, "%s multiply-adds, %s", units[unit], cpl_peak_team_loop(b->team)->name);
    cpl_engine_bench_rest(b);
    return CPL_OK;
}

/* A second scorer that counts, when its backend can. */
static cpl_status open_counting(bench_job *j, const cpl_args *a, uint32_t tokens, cpl_error *err)
{
    cpl_stage none;
    size_t count;
    cpl_status st = cpl_scorer_from_flags_counting(&j->b.counting, a, tokens, err);
    if (st || !cpl_scorer_stages(j->b.counting, &none, 0, &count, NULL)) return st;
    cpl_scorer_close(j->b.counting);
    j->b.counting = NULL;
    return CPL_OK;
}

static cpl_status measure_all(bench_job *j, const uint32_t *lengths, size_t n, const char *pairs, bool mix,
                              cpl_error *err)
{
    cpl_progress bar;
    cpl_status st = CPL_OK;
    size_t total = n + (mix ? 1 : 0);
    cpl_progress_init(&bar, "measuring", total);
    for (size_t i = 0; i < total && !st; i++) {
        cpl_engine_load l;
        st = i < n ? cpl_engine_load_fixed(&l, lengths[i], j->b.info, err)
                   : cpl_engine_load_pairs(&l, pairs, j->b.scorer, err);
        if (st) break;
        st = cpl_engine_bench_measure(&j->b, &l, &j->results[j->count++], err);
        cpl_engine_load_deinit(&l);
        cpl_progress_update(&bar, i + 1);
    }
    cpl_progress_finish(&bar);
    return st;
}

/* With fewer threads than CPUs, work and peak would run on different ones, which needn't be equally fast: both keep to
 * as many. Where a system can't be told so they move about. */
static void stay_on_few(uint64_t threads)
{
    int cpus[CPUS_MAX];
    const uint32_t n = cpl_cpu_list(cpus, CPUS_MAX);
    if (threads && threads < n && threads <= CPUS_MAX) cpl_system_stay_on(cpus, (uint32_t)threads);
}

static cpl_status run_bench(bench_job *j, const cpl_args *a, cpl_error *err)
{
    uint32_t lengths[LENGTHS_MAX];
    size_t n = 0;
    uint64_t tokens = cpl_args_count(a, "batch-tokens");
    if (tokens > 1u << 24) return cpl_fail(err, CPL_INVALID, "'--batch-tokens': at most %u", 1u << 24);
    stay_on_few(cpl_args_count(a, "threads"));
    cpl_status st = cpl_scorer_from_flags(&j->b.scorer, a, (uint32_t)tokens, 0, &j->log, err);
    if (st) return st;
    j->b.info = cpl_scorer_describe(j->b.scorer);
    j->b.seconds = cpl_args_number(a, "seconds");
    const char *pairs = cpl_args_text(a, "pairs");
    bool mix = pairs || cpl_args_switch(a, "mix");
    if (!mix || cpl_args_given(a, "lengths"))
        st = parse_lengths(cpl_args_text(a, "lengths"), lengths, &n, j->b.info->max_length, err);
    if (!st) st = open_peak(j, err);
    if (!st && !cpl_args_switch(a, "no-stages")) st = open_counting(j, a, (uint32_t)tokens, err);
    if (!st) st = measure_all(j, lengths, n, pairs, mix, err);
    if (st) return st;
    if (cpl_args_switch(a, "json")) return print_json(j, err);
    print_table(j);
    return CPL_OK;
}

static int run(const cpl_args *a)
{
    cpl_error err;
    bench_job *j = calloc(1, sizeof *j);
    cpl_status st = j ? run_bench(j, a, &err) : cpl_fail_memory(&err, sizeof *j);
    if (j) {
        cpl_scorer_close(j->b.counting);
        cpl_scorer_close(j->b.scorer);
        cpl_peak_team_close(j->b.team);
        free(j->b.rows);
        free(j);
    }
    return st ? cpl_cli_fail(&err) : 0;
}

static const cpl_flag flags[] = {
    CPL_SCORER_FLAGS,
    {"lengths", CPL_FLAG_TEXT, "N,N,..", "17,32,64,128", "tokens a sequence, each measured on its own"},
    {"pairs", CPL_FLAG_TEXT, "FILE", NULL,
     "measure the real length mix of these pairs (TSV or JSON lines) instead, or too"},
    {"mix", CPL_FLAG_SWITCH, NULL, NULL, "the same with pairs of the seeded generator"},
    {"batch-tokens", CPL_FLAG_COUNT, "N", "0", "tokens a pass may hold; 0: what the backend recommends"},
    {"seconds", CPL_FLAG_NUMBER, "S", "3", "for each length"},
    {"no-stages", CPL_FLAG_SWITCH, NULL, NULL, "leave out the table by stage (and its second copy of the model)"},
    {"json", CPL_FLAG_SWITCH, NULL, NULL, "one JSON document on stdout"},
    {0},
};

const cpl_command cpl_command_bench_engine = {
    .name = "bench engine",
    .summary = "in-process speed of one model, beside the machine's own peak",
    .flags = flags,
    .details =
        "Useful operations are 2 x multiply-adds on real tokens; where only the [CLS] row is wanted, the last layer\n"
        "counts what that row needs. Nominal operations count all layers in full. The peak is a loop of the\n"
        "instructions that the precision has on this instruction set, on as many threads and the same CPUs, for some\n"
        "milliseconds right before and right after each sample ('of peak'), and after 20 ms of sleep ('of rest'). It\n"
        "is held against theory: known instructions a cycle (else the nearest whole number) x the clock, which a\n"
        "chain of dependent adds gives in the same probe, on the fastest thread; threads within 3 % of it\n"
        "are counted. L2 control: a loop fed from L2, operations a cycle beside\n"
        "the sample over the same from rest; below 0.9 a neighbour is at work and the sample is marked. 'CPU had' is\n"
        "the share of its threads' time that the process was given: where other programs run here, of peak over that\n"
        "is the steadier figure. Latency is one sequence a call, one call at a time. Ids of fixed lengths are drawn "
        "from the whole vocabulary. Stages\n"
        "are counted by a second copy of the model in a stretch of its own.",
    .run = run,
};
