/* SPDX-License-Identifier: Apache-2.0 */
/* engine_bench.c - samples of a load, each between two probes of the machine.
 * The ideas: a sample is one call of some tenths of a second with the peak loop run right before and right after it on
 * the same cores; its efficiency is useful operations over the mean of those two peaks, so a neighbour or a clock that
 * slows both cancels out. What a register loop can't see, a neighbour in L2 or beyond, the control loop does: per
 * cycle, so that the clock cancels there too; samples beside a slow one are marked, and their share is part of the
 * result. Stages are counted in a stretch of their own by a second copy of the model: counting costs a clock read a
 * stage. Threads: the caller's. Rejected: a call of one pass as the sample (its start and end weigh several per cent).
 */
#include "cli/engine_bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "load/measure.h"

enum {
    SAMPLES_MIN = 5,
    SAMPLES_MAX = 256,
    LATENCIES_MIN = 50,
    WARM = 5,
    WINDOW_MIN = 64, /* sequences a sample has at least */
    PASSES_MIN = 24, /* of one worker in a sample: what it waits for the others at the end weighs 2 % at most */
    REST_PROBES = 7,
    REST_NS = 20000000
};
#define SAMPLE_LEAST_S 0.06
#define SAMPLE_MOST_S  0.4

typedef struct samples {
    size_t n, clean;
    double pairs[SAMPLES_MAX], tokens[SAMPLES_MAX], useful[SAMPLES_MAX], nominal[SAMPLES_MAX]; /* a second */
    double peaks[SAMPLES_MAX], clocks[SAMPLES_MAX], efficiency[SAMPLES_MAX], control[SAMPLES_MAX];
    double cpu[SAMPLES_MAX];
    double unmarked[SAMPLES_MAX]; /* the efficiencies of samples not marked */
} samples;

void cpl_engine_bench_rest(cpl_engine_bench *b)
{
    double ops[REST_PROBES], clock[REST_PROBES], cycle[REST_PROBES], l2[REST_PROBES], near[REST_PROBES];
    for (int i = 0; i < REST_PROBES; i++) {
        cpl_peak_probe p;
        cpl_clock_sleep_until_ns(cpl_clock_ns() + REST_NS);
        cpl_peak_team_probe(b->team, CPL_PEAK_FIRST, &p);
        ops[i] = p.ops_per_s;
        clock[i] = p.clock_hz;
        cycle[i] = p.per_cycle;
        l2[i] = p.l2_per_cycle;
        near[i] = p.near;
    }
    b->rest.probe =
        (cpl_peak_probe){cpl_median(ops, REST_PROBES), cpl_median(clock, REST_PROBES), cpl_median(cycle, REST_PROBES),
                         cpl_median(l2, REST_PROBES), (uint32_t)cpl_median(near, REST_PROBES)};
    b->rest.expected = cpl_peak_expected(cpl_peak_team_loop(b->team), b->rest.probe.per_cycle);
    b->rest.ratio = b->rest.expected > 0 ? b->rest.probe.per_cycle / b->rest.expected : NAN;
}

static cpl_status run_once(const cpl_engine_bench *b, cpl_scorer *scorer, const cpl_engine_load *l, size_t from,
                           size_t n, uint64_t *ns, cpl_error *err)
{
    cpl_ids in = {l->ids, l->type_ids, l->cu_seqlens + from, n};
    uint64_t start = cpl_clock_ns();
    cpl_status st = cpl_scorer_run_ids(scorer, &in, b->rows, NULL, err);
    *ns = cpl_clock_ns() - start;
    return st;
}

static cpl_status room_for_rows(cpl_engine_bench *b, size_t n, cpl_error *err)
{
    size_t width = b->info->task == CPL_TASK_CROSS_ENCODER ? b->info->labels : b->info->hidden;
    if (n * width <= b->rows_cap) return CPL_OK;
    float *grown = realloc(b->rows, n * width * sizeof *grown);
    if (!grown) return cpl_fail_memory(err, n * width * sizeof *grown);
    b->rows = grown;
    b->rows_cap = n * width;
    return CPL_OK;
}

/* How many sequences make a sample, found by running a few. */
static cpl_status choose_window(cpl_engine_bench *b, const cpl_engine_load *l, size_t *window, cpl_error *err)
{
    size_t n = l->n < WINDOW_MIN ? l->n : WINDOW_MIN;
    uint64_t ns = 0;
    cpl_status st = room_for_rows(b, l->n, err);
    for (int i = 0; i < 2 && !st; i++) st = run_once(b, b->scorer, l, 0, n, &ns, err);
    if (st) return st;
    double tokens_per_s = l->cu_seqlens[n] / ((double)ns / 1e9 + 1e-9);
    double pass_s = 256.0 * b->info->threads / tokens_per_s;
    double want_s = PASSES_MIN * pass_s;
    if (want_s < SAMPLE_LEAST_S) want_s = SAMPLE_LEAST_S;
    if (want_s > SAMPLE_MOST_S) want_s = SAMPLE_MOST_S;
    double sequences = want_s * tokens_per_s / ((double)l->cu_seqlens[l->n] / (double)l->n);
    *window = sequences < WINDOW_MIN ? n : (size_t)sequences / WINDOW_MIN * WINDOW_MIN;
    if (*window > l->n) *window = l->n;
    return CPL_OK;
}

/* One sample: probe, work, probe. */
static cpl_status take_sample(cpl_engine_bench *b, const cpl_engine_load *l, size_t from, size_t n, samples *s,
                              cpl_error *err)
{
    cpl_peak_probe before = {.ops_per_s = NAN}, after = {.ops_per_s = NAN};
    uint64_t ns;
    if (b->team) cpl_peak_team_probe(b->team, CPL_PEAK_LAST, &before);
    uint64_t cpu_ns = cpl_clock_process_cpu_ns();
    cpl_status st = run_once(b, b->scorer, l, from, n, &ns, err);
    cpu_ns = cpl_clock_process_cpu_ns() - cpu_ns;
    if (st) return st;
    if (b->team) cpl_peak_team_probe(b->team, CPL_PEAK_FIRST, &after);
    double seconds = (double)ns / 1e9;
    s->cpu[s->n] = (double)cpu_ns / (double)ns / b->info->threads;
    s->pairs[s->n] = (double)n / seconds;
    s->tokens[s->n] = (l->cu_seqlens[from + n] - l->cu_seqlens[from]) / seconds;
    s->useful[s->n] = cpl_engine_load_ops(l, from, n, b->info, true) / seconds;
    s->nominal[s->n] = cpl_engine_load_ops(l, from, n, b->info, false) / seconds;
    s->peaks[s->n] = (before.ops_per_s + after.ops_per_s) / 2;
    s->clocks[s->n] = (before.clock_hz + after.clock_hz) / 2;
    s->efficiency[s->n] = s->useful[s->n] / s->peaks[s->n];
    double rest = b->rest.probe.l2_per_cycle;
    s->control[s->n] = rest > 0 ? (before.l2_per_cycle + after.l2_per_cycle) / 2 / rest : NAN;
    if (!(s->control[s->n] < CPL_ENGINE_CONTROL_LEAST)) s->unmarked[s->clean++] = s->efficiency[s->n];
    s->n++;
    return CPL_OK;
}

static void summarise(const cpl_engine_load *l, const samples *s, cpl_engine_result *r)
{
    memcpy(r->name, l->name, sizeof r->name);
    r->samples = (uint32_t)s->n;
    r->marked = (uint32_t)(s->n - s->clean);
    r->mean_length = (double)l->cu_seqlens[l->n] / (double)l->n;
    r->pairs_per_s = cpl_median(s->pairs, s->n);
    r->tokens_per_s = cpl_median(s->tokens, s->n);
    r->useful_ops_per_s = cpl_median(s->useful, s->n);
    r->nominal_ops_per_s = cpl_median(s->nominal, s->n);
    r->peak_ops_per_s = cpl_median(s->peaks, s->n);
    r->clock_hz = cpl_median(s->clocks, s->n);
    r->efficiency = cpl_median(s->efficiency, s->n);
    r->efficiency_min = cpl_percentile(s->efficiency, s->n, 0);
    r->efficiency_max = cpl_percentile(s->efficiency, s->n, 1);
    r->efficiency_unmarked = s->clean ? cpl_median(s->unmarked, s->clean) : NAN;
    r->cpu_share = cpl_median(s->cpu, s->n);
    r->control = cpl_median(s->control, s->n);
    r->control_min = cpl_percentile(s->control, s->n, 0);
}

static cpl_status take_samples(cpl_engine_bench *b, const cpl_engine_load *l, size_t window, cpl_engine_result *r,
                               cpl_error *err)
{
    samples *s = calloc(1, sizeof *s);
    if (!s) return cpl_fail_memory(err, sizeof *s);
    uint64_t ns, deadline = cpl_clock_ns() + (uint64_t)(b->seconds * 1e9);
    cpl_status st = run_once(b, b->scorer, l, 0, window, &ns, err); /* warm-up */
    size_t from = 0;
    while (!st && s->n < SAMPLES_MAX && (s->n < SAMPLES_MIN || cpl_clock_ns() < deadline)) {
        if (from + window > l->n) from = 0;
        st = take_sample(b, l, from, window, s, err);
        from += window;
    }
    if (!st) summarise(l, s, r);
    free(s);
    return st;
}

/* One sequence a call, one call at a time, over the load's sequences; at least LATENCIES_MIN of them. */
static cpl_status time_latency(cpl_engine_bench *b, const cpl_engine_load *l, cpl_engine_result *r, cpl_error *err)
{
    memset(&b->latency, 0, sizeof b->latency);
    uint64_t deadline = cpl_clock_ns() + (uint64_t)(b->seconds * 1e9 / 4), ns;
    for (size_t i = 0; i < LATENCIES_MIN + WARM || cpl_clock_ns() < deadline; i++) {
        cpl_status st = run_once(b, b->scorer, l, i % l->n, 1, &ns, err);
        if (st) return st;
        if (i >= WARM) cpl_histogram_add(&b->latency, ns);
    }
    r->latency_p50_ms = (double)cpl_histogram_at(&b->latency, 0.50) / 1e6;
    r->latency_p95_ms = (double)cpl_histogram_at(&b->latency, 0.95) / 1e6;
    r->latency_p99_ms = (double)cpl_histogram_at(&b->latency, 0.99) / 1e6;
    return CPL_OK;
}

/* Three windows, after one that warms up. */
static cpl_status count_stages(cpl_engine_bench *b, const cpl_engine_load *l, size_t window, cpl_engine_result *r,
                               cpl_error *err)
{
    cpl_stage before[CPL_ENGINE_STAGES_MAX];
    size_t had = 0, count = 0;
    uint64_t ns;
    cpl_status st = run_once(b, b->counting, l, 0, window, &ns, err);
    if (!st) st = cpl_scorer_stages(b->counting, before, CPL_ENGINE_STAGES_MAX, &had, err);
    for (size_t i = 0, from = 0; i < 3 && !st; i++, from += window) {
        if (from + window > l->n) from = 0;
        st = run_once(b, b->counting, l, from, window, &ns, err);
    }
    if (!st) st = cpl_scorer_stages(b->counting, r->stages, CPL_ENGINE_STAGES_MAX, &count, err);
    if (st) return st;
    r->stage_count = count < CPL_ENGINE_STAGES_MAX ? count : CPL_ENGINE_STAGES_MAX;
    for (size_t i = 0; i < r->stage_count; i++) {
        r->stages[i].seconds -= before[i].seconds;
        r->stages[i].ops -= before[i].ops;
    }
    return CPL_OK;
}

cpl_status cpl_engine_bench_measure(cpl_engine_bench *b, const cpl_engine_load *l, cpl_engine_result *r, cpl_error *err)
{
    size_t window = 0;
    *r = (cpl_engine_result){0};
    cpl_status st = choose_window(b, l, &window, err);
    if (!st) st = take_samples(b, l, window, r, err);
    if (!st) st = time_latency(b, l, r, err);
    if (!st && b->counting) st = count_stages(b, l, window, r, err);
    return st;
}
