/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_bench_engine.c - `couplet bench engine`: in-process speed of one model through the public library, with the
 * machine's own peak measured in the same run.
 * The one idea: a sample is one call of some third of a second, with the peak loop run right before and right
 * after it on the same cores; its efficiency is useful operations over the mean of those two peaks, so a neighbour or a
 * clock that slows both cancels out. Medians of the samples are printed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/histogram.h"
#include "base/json.h"
#include "cli/peak_threads.h"
#include "cli/progress.h"
#include "cli/scorer_flags.h"
#include "kernel/cpu.h"
#include "kernel/peak.h"
#include "base/records.h"

enum {
    SAMPLES_MIN = 5,
    SAMPLES_MAX = 200,
    LATENCIES_MIN = 50,
    LENGTHS_MAX = 32,
    WINDOW_MIN = 64,        /* sequences a sample has at least */
    FIXED_TOKENS = 1 << 21, /* in a load of one length */
    PEAK_NS = 2000000,
    REST_NS = 4000000
};
#define SAMPLE_S 0.35

/* Sequences that a sample runs, and what they cost. */
typedef struct bench_load {
    char name[32]; /* "32", or "mix" */
    int32_t *ids;
    uint8_t *type_ids;
    uint32_t *cu_seqlens;
    size_t n;
    size_t window; /* sequences a sample runs: the next so many, round and round */
} bench_load;

typedef struct bench_result {
    char name[32];
    double mean_length;
    double pairs_per_s, tokens_per_s, useful_ops_per_s, nominal_ops_per_s; /* medians over samples */
    double peak_ops_per_s, peak_rest_ops_per_s, efficiency, efficiency_min, efficiency_max;
    double latency_p50_ms, latency_p95_ms, latency_p99_ms; /* one sequence a call, one call at a time */
    uint32_t samples;
} bench_result;

typedef struct bench {
    cpl_scorer *scorer;
    const cpl_scorer_info *info;
    bool on_cpu;
    cpl_peak_loop loop; /* the peak beside: that of the precision that runs */
    char loop_name[96];
    double seconds;
    float *rows;
    size_t rows_cap;
    cpl_histogram *latency;
    bench_result results[LENGTHS_MAX + 1];
    size_t count;
} bench;

/* ---- counting -------------------------------------------------------------------------------------------------- */

/* Multiply-adds of one sequence of s tokens, as 2 operations each. useful: the last layer counts only what its [CLS]
 * row needs, where only that row is wanted. */
static double sequence_ops(const cpl_scorer_info *m, double s, bool useful)
{
    double h = m->hidden, i = m->intermediate;
    double layer = s * (4 * h * h + 2 * h * i) + 2 * s * s * h;
    double last = layer;
    if (useful && m->cls_only) last = s * 2 * h * h + 2 * h * h + 2 * s * h + 2 * h * i;
    double head = m->task == CPL_TASK_CROSS_ENCODER ? h * h + h * m->labels : 0;
    return 2 * ((m->layers - 1) * layer + last + head);
}

/* Of sequences [from, from + n). */
static double count_ops(const bench_load *l, size_t from, size_t n, const cpl_scorer_info *m, bool useful)
{
    double ops = 0;
    for (size_t i = from; i < from + n; i++) ops += sequence_ops(m, l->cu_seqlens[i + 1] - l->cu_seqlens[i], useful);
    return ops;
}

/* ---- what is run ------------------------------------------------------------------------------------------------ */

static void free_load(bench_load *l)
{
    free(l->ids);
    free(l->type_ids);
    free(l->cu_seqlens);
}

static cpl_status take_load(bench_load *l, size_t n, size_t tokens, cpl_error *err)
{
    l->n = n;
    l->ids = malloc(tokens * sizeof *l->ids);
    l->type_ids = calloc(tokens, 1);
    l->cu_seqlens = calloc(n + 1, sizeof *l->cu_seqlens);
    if (l->ids && l->type_ids && l->cu_seqlens) return CPL_OK;
    free_load(l);
    return cpl_fail_memory(err, tokens * sizeof *l->ids);
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* n sequences of one length, ids drawn from the whole vocabulary. */
static cpl_status fixed_load(bench_load *l, uint32_t length, size_t n, const cpl_scorer_info *m, cpl_error *err)
{
    cpl_status st = take_load(l, n, n * length, err);
    if (st) return st;
    uint64_t state = length;
    for (size_t i = 0; i < n * length; i++) l->ids[i] = (int32_t)(next_random(&state) % m->vocab);
    for (size_t i = 0; i <= n; i++) l->cu_seqlens[i] = (uint32_t)(i * length);
    snprintf(l->name, sizeof l->name, "%u", length);
    return CPL_OK;
}

static cpl_status add_pair(bench *b, bench_load *l, size_t *tokens, size_t *cap, cpl_text q, cpl_text d, cpl_error *err)
{
    if (*tokens + b->info->max_length > *cap) {
        *cap = *cap * 2 + b->info->max_length;
        int32_t *ids = realloc(l->ids, *cap * sizeof *ids);
        if (ids) l->ids = ids;
        uint8_t *types = realloc(l->type_ids, *cap);
        if (types) l->type_ids = types;
        if (!ids || !types) return cpl_fail_memory(err, *cap * sizeof *ids);
    }
    uint32_t *cu = realloc(l->cu_seqlens, (l->n + 2) * sizeof *cu);
    if (!cu) return cpl_fail_memory(err, (l->n + 2) * sizeof *cu);
    l->cu_seqlens = cu;
    size_t count = 0;
    cpl_status st = cpl_scorer_tokenize(b->scorer, q, &d, b->info->max_length, l->ids + *tokens, l->type_ids + *tokens,
                                        b->info->max_length, &count, err);
    if (st) return st;
    if (l->n == 0) cu[0] = 0;
    *tokens += count;
    cu[++l->n] = (uint32_t)*tokens;
    return CPL_OK;
}

/* All pairs of a file, in its order. */
static cpl_status file_load(bench *b, bench_load *l, const char *path, cpl_error *err)
{
    cpl_records *records;
    cpl_status st = cpl_records_open(&records, path, CPL_RECORDS_BY_NAME, true, err);
    if (st) return st;
    cpl_buf q = {0}, d = {0};
    size_t tokens = 0, cap = 0;
    bool end = false;
    while (!st && tokens < (1u << 22)) {
        cpl_buf_clear(&q);
        cpl_buf_clear(&d);
        st = cpl_records_next(records, &q, &d, &end, err);
        if (st || end) break;
        st = add_pair(b, l, &tokens, &cap, (cpl_text){q.data ? q.data : "", q.size},
                      (cpl_text){d.data ? d.data : "", d.size}, err);
    }
    cpl_buf_deinit(&q);
    cpl_buf_deinit(&d);
    cpl_records_close(records);
    if (!st && !l->n) st = cpl_fail_file(err, CPL_INVALID, path, "no pairs in it");
    if (st) {
        free_load(l);
        return st;
    }
    snprintf(l->name, sizeof l->name, "mix");
    return CPL_OK;
}

/* ---- samples ----------------------------------------------------------------------------------------------------- */

static int ascending(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, ascending);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static cpl_status run_once(bench *b, const bench_load *l, size_t from, size_t n, uint64_t *ns, cpl_error *err)
{
    cpl_ids in = {l->ids, l->type_ids, l->cu_seqlens + from, n};
    uint64_t start = cpl_clock_ns();
    cpl_status st = cpl_scorer_run_ids(b->scorer, &in, b->rows, NULL, err);
    *ns = cpl_clock_ns() - start;
    return st;
}

static cpl_status room_for_rows(bench *b, size_t n, cpl_error *err)
{
    size_t width = b->info->task == CPL_TASK_CROSS_ENCODER ? b->info->labels : b->info->hidden;
    if (n * width <= b->rows_cap) return CPL_OK;
    float *grown = realloc(b->rows, n * width * sizeof *grown);
    if (!grown) return cpl_fail_memory(err, n * width * sizeof *grown);
    b->rows = grown;
    b->rows_cap = n * width;
    return CPL_OK;
}

typedef struct samples {
    size_t n;
    double pairs[SAMPLES_MAX], tokens[SAMPLES_MAX], useful[SAMPLES_MAX], nominal[SAMPLES_MAX]; /* a second */
    double peaks[SAMPLES_MAX], efficiency[SAMPLES_MAX];
} samples;

static cpl_status time_peak(const bench *b, double *ops_per_s, uint64_t ns, cpl_error *err)
{
    *ops_per_s = NAN;
    return b->on_cpu ? cpl_peak_threads(ops_per_s, b->loop, b->info->isa, b->info->threads, ns, err) : CPL_OK;
}

/* One sample: peak, work, peak. */
static cpl_status take_sample(bench *b, const bench_load *l, size_t from, size_t n, samples *s, cpl_error *err)
{
    double before, after;
    uint64_t ns;
    cpl_status st = time_peak(b, &before, PEAK_NS, err);
    if (!st) st = run_once(b, l, from, n, &ns, err);
    if (!st) st = time_peak(b, &after, PEAK_NS, err);
    if (st) return st;
    double seconds = (double)ns / 1e9;
    s->pairs[s->n] = (double)n / seconds;
    s->tokens[s->n] = (l->cu_seqlens[from + n] - l->cu_seqlens[from]) / seconds;
    s->useful[s->n] = count_ops(l, from, n, b->info, true) / seconds;
    s->nominal[s->n] = count_ops(l, from, n, b->info, false) / seconds;
    s->peaks[s->n] = (before + after) / 2;
    s->efficiency[s->n] = s->useful[s->n] / s->peaks[s->n];
    s->n++;
    return CPL_OK;
}

static cpl_status take_samples(bench *b, const bench_load *l, samples *s, bench_result *r, cpl_error *err)
{
    uint64_t ns, deadline = cpl_clock_ns() + (uint64_t)(b->seconds * 1e9);
    cpl_status st = run_once(b, l, 0, l->window, &ns, err); /* warm-up */
    cpl_clock_sleep_until_ns(cpl_clock_ns() + 50000000u);
    if (!st) st = time_peak(b, &r->peak_rest_ops_per_s, REST_NS, err);
    size_t from = 0;
    s->n = 0;
    while (!st && s->n < SAMPLES_MAX && (s->n < SAMPLES_MIN || cpl_clock_ns() < deadline)) {
        if (from + l->window > l->n) from = 0;
        st = take_sample(b, l, from, l->window, s, err);
        from += l->window;
    }
    if (st) return st;
    memcpy(r->name, l->name, sizeof r->name);
    r->samples = (uint32_t)s->n;
    r->mean_length = (double)l->cu_seqlens[l->n] / (double)l->n;
    r->pairs_per_s = median(s->pairs, s->n);
    r->tokens_per_s = median(s->tokens, s->n);
    r->useful_ops_per_s = median(s->useful, s->n);
    r->nominal_ops_per_s = median(s->nominal, s->n);
    r->peak_ops_per_s = median(s->peaks, s->n);
    r->efficiency = median(s->efficiency, s->n);
    r->efficiency_min = s->efficiency[0];
    r->efficiency_max = s->efficiency[s->n - 1];
    return CPL_OK;
}

/* One sequence a call, one call at a time, over the load's sequences; at least LATENCIES_MIN of them. */
static cpl_status time_latency(bench *b, const bench_load *l, bench_result *r, cpl_error *err)
{
    memset(b->latency, 0, sizeof *b->latency);
    uint64_t deadline = cpl_clock_ns() + (uint64_t)(b->seconds * 1e9 / 4), ns;
    for (size_t i = 0; i < LATENCIES_MIN + 5 || cpl_clock_ns() < deadline; i++) {
        cpl_status st = run_once(b, l, i % l->n, 1, &ns, err);
        if (st) return st;
        if (i >= 5) cpl_histogram_add(b->latency, ns);
    }
    r->latency_p50_ms = (double)cpl_histogram_at(b->latency, 0.50) / 1e6;
    r->latency_p95_ms = (double)cpl_histogram_at(b->latency, 0.95) / 1e6;
    r->latency_p99_ms = (double)cpl_histogram_at(b->latency, 0.99) / 1e6;
    return CPL_OK;
}

/* How many of the load's sequences take about SAMPLE_S, found by running a few. */
static cpl_status choose_window(bench *b, bench_load *l, cpl_error *err)
{
    size_t n = l->n < WINDOW_MIN ? l->n : WINDOW_MIN;
    uint64_t ns = 0;
    cpl_status st = room_for_rows(b, l->n, err);
    for (int i = 0; i < 2 && !st; i++) st = run_once(b, l, 0, n, &ns, err);
    if (st) return st;
    double want = SAMPLE_S * (double)n / ((double)ns / 1e9 + 1e-9) / WINDOW_MIN;
    l->window = want < 1 ? n : (size_t)want * WINDOW_MIN;
    if (l->window > l->n) l->window = l->n;
    return CPL_OK;
}

static cpl_status measure(bench *b, bench_load *l, cpl_error *err)
{
    bench_result *r = &b->results[b->count];
    samples *s = malloc(sizeof *s);
    cpl_status st = s ? choose_window(b, l, err) : cpl_fail_memory(err, sizeof *s);
    if (!st) st = take_samples(b, l, s, r, err);
    if (!st) st = time_latency(b, l, r, err);
    if (!st) b->count++;
    free(s);
    free_load(l);
    return st;
}

static cpl_status measure_length(bench *b, uint32_t length, cpl_error *err)
{
    bench_load l = {0};
    cpl_status st = fixed_load(&l, length, FIXED_TOKENS / length + WINDOW_MIN, b->info, err);
    return st ? st : measure(b, &l, err);
}

/* ---- command ----------------------------------------------------------------------------------------------------- */

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

static void add_result(const bench *b, const bench_result *r, cpl_json_writer *w)
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
    cpl_json_double(w, "peak_ops_per_s", r->peak_ops_per_s);
    cpl_json_double(w, "peak_rest_ops_per_s", r->peak_rest_ops_per_s);
    cpl_json_double(w, "efficiency", r->efficiency);
    cpl_json_double(w, "efficiency_min", r->efficiency_min);
    cpl_json_double(w, "efficiency_max", r->efficiency_max);
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
    cpl_json_int(w, "samples", r->samples);
    cpl_json_close(w, '}');
}

static cpl_status print_json(const bench *b, cpl_error *err)
{
    cpl_buf out = {0};
    cpl_json_writer w = {.out = &out, .pretty = true};
    cpl_json_open(&w, NULL, '{');
    cpl_json_text(&w, "model", b->info->model);
    cpl_json_text(&w, "model_note", b->info->model_note);
    cpl_json_text(&w, "backend", b->info->backend);
    cpl_json_text(&w, "peak", b->loop_name);
    cpl_json_open(&w, "results", '[');
    for (size_t i = 0; i < b->count; i++) add_result(b, &b->results[i], &w);
    cpl_json_close(&w, ']');
    cpl_json_close(&w, '}');
    cpl_status st = cpl_buf_status(&out, err);
    if (!st) printf("%s\n", out.data);
    cpl_buf_deinit(&out);
    return st;
}

static void print_table(const bench *b)
{
    printf("%s, %s %s (%s), %u threads; peak: %s\n", b->info->model, b->info->backend, b->info->precision_effective,
           b->info->isa, b->info->threads, b->loop_name);
    printf(
        "length   pairs/s   tokens/s     useful GOP/s  nominal  peak beside (from rest)  of peak (min-max)    one pair "
        "p50/p95/p99 ms\n");
    for (size_t i = 0; i < b->count; i++) {
        const bench_result *r = &b->results[i];
        printf("%6s %9.1f %10.0f %15.1f %8.1f %12.1f (%9.1f)   %5.1f %% (%.1f-%.1f)   %.2f / %.2f / %.2f\n", r->name,
               r->pairs_per_s, r->tokens_per_s, r->useful_ops_per_s / 1e9, r->nominal_ops_per_s / 1e9,
               r->peak_ops_per_s / 1e9, r->peak_rest_ops_per_s / 1e9, r->efficiency * 100, r->efficiency_min * 100,
               r->efficiency_max * 100, r->latency_p50_ms, r->latency_p95_ms, r->latency_p99_ms);
    }
}

/* int8 is held against the int8 loop of its instructions, everything else against fp32's. */
static void choose_loop(bench *b)
{
    cpl_cpu cpu;
    cpl_isa isa;
    cpl_cpu_detect(&cpu);
    /* A backend that doesn't compute with this CPU's vector units names no ISA of theirs: there is no peak of ours to
     * hold it against. */
    b->on_cpu = cpl_isa_choose(&isa, b->info->isa, &cpu, NULL) == CPL_OK;
    if (!b->on_cpu) {
        snprintf(b->loop_name, sizeof b->loop_name, "none (%s is no instruction set of this CPU)", b->info->isa);
        return;
    }
    b->loop = strcmp(b->info->precision_effective, "int8") ? CPL_PEAK_FP32 : CPL_PEAK_INT8;
    snprintf(b->loop_name, sizeof b->loop_name, "%s multiply-adds, %s", b->loop == CPL_PEAK_INT8 ? "int8" : "fp32",
             b->loop == CPL_PEAK_INT8 ? cpl_peak_int8_name(isa) : cpl_isa_name(isa));
}

static cpl_status run_bench(bench *b, const cpl_args *a, cpl_log *log, cpl_error *err)
{
    uint32_t lengths[LENGTHS_MAX];
    size_t n = 0;
    uint64_t tokens = cpl_args_count(a, "batch-tokens");
    if (tokens > 1u << 24) return cpl_fail(err, CPL_INVALID, "'--batch-tokens': at most %u", 1u << 24);
    cpl_status st = cpl_scorer_from_flags(&b->scorer, a, (uint32_t)tokens, 0, log, err);
    if (st) return st;
    b->info = cpl_scorer_describe(b->scorer);
    b->seconds = cpl_args_number(a, "seconds");
    choose_loop(b);
    const char *pairs = cpl_args_text(a, "pairs");
    if (!st && (!pairs || cpl_args_given(a, "lengths")))
        st = parse_lengths(cpl_args_text(a, "lengths"), lengths, &n, b->info->max_length, err);
    b->latency = calloc(1, sizeof *b->latency);
    if (!st && !b->latency) st = cpl_fail_memory(err, sizeof *b->latency);
    cpl_progress bar;
    cpl_progress_init(&bar, "measuring", n + (pairs ? 1 : 0));
    for (size_t i = 0; i < n && !st; i++) {
        st = measure_length(b, lengths[i], err);
        cpl_progress_update(&bar, i + 1);
    }
    if (!st && pairs) {
        bench_load l = {0};
        st = file_load(b, &l, pairs, err);
        if (!st) st = measure(b, &l, err);
    }
    cpl_progress_finish(&bar);
    if (st) return st;
    if (cpl_args_switch(a, "json")) return print_json(b, err);
    print_table(b);
    return CPL_OK;
}

static int run(const cpl_args *a)
{
    cpl_error err;
    cpl_log log;
    bench *b = calloc(1, sizeof *b);
    cpl_status st = b ? run_bench(b, a, &log, &err) : cpl_fail_memory(&err, sizeof *b);
    if (b) {
        cpl_scorer_close(b->scorer);
        free(b->latency);
        free(b->rows);
        free(b);
    }
    return st ? cpl_cli_fail(&err) : 0;
}

static const cpl_flag flags[] = {
    CPL_SCORER_FLAGS,
    {"lengths", CPL_FLAG_TEXT, "N,N,..", "17,32,64,128", "tokens a sequence, each measured on its own"},
    {"pairs", CPL_FLAG_TEXT, "FILE", NULL,
     "measure the real length mix of these pairs (TSV or JSON lines) instead, or too"},
    {"batch-tokens", CPL_FLAG_COUNT, "N", "0", "tokens a pass may hold; 0: what the backend recommends"},
    {"seconds", CPL_FLAG_NUMBER, "S", "5", "for each length"},
    {"json", CPL_FLAG_SWITCH, NULL, NULL, "one JSON document on stdout"},
    {0},
};

const cpl_command cpl_command_bench_engine = {
    .name = "bench engine",
    .summary = "in-process speed of one model, beside the machine's own peak",
    .flags = flags,
    .details =
        "Useful operations are 2 x multiply-adds on real tokens; where only the [CLS] row is wanted, the last layer\n"
        "counts what that row needs. Nominal operations count all layers in full. The peak is the machine's\n"
        "multiply-add loop, fp32 or int8 as the model runs, with the kernels' instructions on as many threads, timed\n"
        "right before and after each sample; 'from rest' after 50 ms of sleep. Latency is one sequence a call, one "
        "call at a time. Ids are drawn from the whole vocabulary.",
    .run = run,
};
