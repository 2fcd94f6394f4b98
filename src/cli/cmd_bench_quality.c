/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_bench_quality.c - `couplet bench quality`: what a precision costs in accuracy, in the same row as what it gains
 * in speed. quality.c measures; this opens one scorer a precision, fp32 first, and prints. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "cli/progress.h"
#include "cli/quality.h"
#include "cli/scorer_flags.h"

enum { RANKED_CROSS_ENCODER = 50 }; /* 20 passes a query and precision: an embedder has them for nothing */

typedef struct quality_job {
    cpl_quality q;
    cpl_pool *pool;
    cpl_log log;
    cpl_progress bar;
} quality_job;

/* ---- setting up -------------------------------------------------------------------------------------------------- */

static cpl_status open_run(quality_job *j, const cpl_args *a, const char *precision, cpl_error *err)
{
    cpl_quality *q = &j->q;
    if (q->run_count == CPL_QUALITY_RUNS_MAX)
        return cpl_fail(err, CPL_INVALID, "'--precision': at most %d beside fp32", CPL_QUALITY_RUNS_MAX - 1);
    cpl_quality_run *r = &q->runs[q->run_count];
    cpl_status st = q->run_count
                        ? cpl_scorer_from_flags_in(&r->scorer, a, precision, 0, 0, &j->log, err)
                        : cpl_scorer_from_flags_plain(&r->scorer, a, cpl_args_text(a, "reference"), &j->log, err);
    if (st) return st;
    r->info = cpl_scorer_describe(r->scorer);
    q->run_count++;
    return CPL_OK;
}

/* Is the reference another backend than what is held against it? */
static bool other_reference(const cpl_args *a)
{
    const char *reference = cpl_args_text(a, "reference");
    return reference && strcmp(reference, cpl_args_text(a, "backend")) != 0;
}

/* fp32, then what the list names beside it: its own fp32 too, where the reference is another backend's. */
static cpl_status open_runs(quality_job *j, const cpl_args *a, cpl_error *err)
{
    char name[32];
    cpl_status st = open_run(j, a, "fp32", err);
    for (const char *p = cpl_args_text(a, "precision"); *p && !st;) {
        size_t n = strcspn(p, ",");
        snprintf(name, sizeof name, "%.*s", (int)(n < sizeof name ? n : sizeof name), p);
        if (strcmp(name, "fp32") != 0 || other_reference(a)) st = open_run(j, a, name, err);
        p += n + (p[n] == ',');
    }
    return st;
}

static cpl_status choose_label(cpl_quality *q, const cpl_args *a, cpl_error *err)
{
    q->label = (int32_t)cpl_args_count(a, "label");
    return cpl_scorer_check_label(a, q->runs[0].info, err);
}

static cpl_status open_pairs(quality_job *j, const cpl_args *a, cpl_error *err)
{
    cpl_quality *q = &j->q;
    size_t count = (size_t)cpl_args_count(a, "count");
    q->seed = cpl_args_count(a, "seed");
    cpl_status st = cpl_pool_open(&j->pool, cpl_args_text(a, "pairs"), q->seed, count, err);
    if (st) return st;
    q->pool = j->pool;
    q->count = cpl_pool_size(j->pool);
    if (count && count < q->count) q->count = count;
    q->ranked = (size_t)cpl_args_count(a, "ranked");
    if (!q->ranked) q->ranked = q->runs[0].info->task == CPL_TASK_EMBEDDER ? q->count : RANKED_CROSS_ENCODER;
    if (q->ranked > q->count) q->ranked = q->count;
    q->seconds = cpl_args_number(a, "seconds");
    return CPL_OK;
}

/* ---- printing ---------------------------------------------------------------------------------------------------- */

/* Why there is no MRR, or NULL when there is one. */
static const char *mrr_reason(const cpl_quality *q)
{
    if (!isnan(q->runs[0].mrr10)) return NULL;
    return q->width < 2 ? "too few different passages to draw from" : q->runs[0].info->model_note;
}

static void add_run(const cpl_quality_run *r, cpl_json_writer *w)
{
    double scale = r->differences.deviation;
    cpl_json_open(w, NULL, '{');
    cpl_json_open(w, "precision", '{');
    cpl_json_text(w, "requested", r->info->precision_requested);
    cpl_json_text(w, "effective", r->info->precision_effective);
    cpl_json_close(w, '}');
    cpl_json_double(w, "pairs_per_s", r->pairs_per_s);
    cpl_json_open(w, "over_fp32", '{');
    cpl_json_double(w, "mean", r->over_fp32.mean);
    cpl_json_double(w, "low", r->over_fp32.known ? r->over_fp32.low : NAN);
    cpl_json_double(w, "high", r->over_fp32.known ? r->over_fp32.high : NAN);
    cpl_json_close(w, '}');
    cpl_json_int(w, "weight_bytes", (int64_t)r->info->weight_bytes);
    cpl_json_double(w, "spearman", r->spearman);
    cpl_json_double(w, "kendall", r->kendall);
    cpl_json_double(w, "max_abs", r->differences.max_abs);
    cpl_json_double(w, "mean_abs", r->differences.mean_abs);
    cpl_json_double(w, "fp32_deviation", scale);
    cpl_json_double(w, "max_abs_over_deviation", scale > 0 ? r->differences.max_abs / scale : NAN);
    cpl_json_double(w, "mean_abs_over_deviation", scale > 0 ? r->differences.mean_abs / scale : NAN);
    cpl_json_double(w, "cosine_mean", r->cosine_mean);
    cpl_json_double(w, "cosine_min", r->cosine_min);
    cpl_json_double(w, "ndcg10", r->ndcg10);
    cpl_json_double(w, "mrr10", r->mrr10);
    cpl_json_close(w, '}');
}

static cpl_status print_json(const cpl_quality *q, cpl_error *err)
{
    const cpl_scorer_info *info = q->runs[0].info;
    cpl_buf out = {0};
    cpl_json_writer w = {.out = &out, .pretty = true};
    cpl_json_open(&w, NULL, '{');
    cpl_json_text(&w, "model", info->model);
    cpl_json_text(&w, "model_note", info->model_note);
    cpl_json_text(&w, "backend", q->runs[q->run_count - 1].info->backend);
    cpl_json_text(&w, "reference", info->backend);
    cpl_json_text(&w, "isa", info->isa);
    cpl_json_int(&w, "threads", info->threads);
    cpl_json_text(&w, "pairs", cpl_pool_source(q->pool));
    cpl_json_int(&w, "pair_count", (int64_t)q->count);
    cpl_json_int(&w, "blocks", (int64_t)q->blocks);
    cpl_json_int(&w, "ranked_queries", (int64_t)q->ranked);
    cpl_json_int(&w, "candidates", (int64_t)q->width);
    cpl_json_text(&w, "mrr10_missing", mrr_reason(q));
    cpl_json_open(&w, "results", '[');
    for (size_t i = 0; i < q->run_count; i++) add_run(&q->runs[i], &w);
    cpl_json_close(&w, ']');
    cpl_json_close(&w, '}');
    cpl_status st = cpl_buf_status(&out, err);
    if (!st) printf("%s\n", out.data);
    cpl_buf_deinit(&out);
    return st;
}

/* A figure, or a dash of the same width. */
static void cell(double v, int width, int digits)
{
    if (isnan(v))
        printf(" %*s", width, "-");
    else
        printf(" %*.*f", width, digits, v);
}

static void print_table(const cpl_quality *q)
{
    const cpl_scorer_info *info = q->runs[0].info;
    bool embedder = info->task == CPL_TASK_EMBEDDER;
    const char *of = q->runs[q->run_count - 1].info->backend;
    printf("%s, %s%s%s (%s), %u threads; %zu pairs of %s; ranking: %zu queries, %zu candidates each\n", info->model,
           strcmp(of, info->backend) != 0 ? of : "", strcmp(of, info->backend) != 0 ? " against " : "", info->backend,
           info->isa, info->threads, q->count, cpl_pool_source(q->pool), q->ranked, q->width);
    printf("precision  pairs/s  over fp32 (95 %%)     Spearman  Kendall  max diff mean diff  /sd: max    mean  "
           "cos mean   cos min  nDCG@10  MRR@10\n");
    for (size_t i = 0; i < q->run_count; i++) {
        const cpl_quality_run *r = &q->runs[i];
        double scale = r->differences.deviation;
        printf("%-9s %8.1f %5.2f (%5.2f-%5.2f)", r->info->precision_effective, r->pairs_per_s, r->over_fp32.mean,
               r->over_fp32.low, r->over_fp32.high);
        cell(r->spearman, 12, 5);
        cell(r->kendall, 8, 5);
        cell(r->differences.max_abs, 9, 5);
        cell(r->differences.mean_abs, 9, 5);
        cell(embedder || scale <= 0 ? NAN : r->differences.max_abs / scale, 9, 4);
        cell(embedder || scale <= 0 ? NAN : r->differences.mean_abs / scale, 7, 4);
        cell(r->cosine_mean, 9, 6);
        cell(r->cosine_min, 9, 6);
        cell(r->ndcg10, 8, 5);
        cell(r->mrr10, 7, 4);
        printf("\n");
    }
    if (mrr_reason(q)) printf("no MRR@10: %s\n", mrr_reason(q));
}

/* ---- command -------------------------------------------------------------------------------------------------------
 */

static void progress(void *user, double part)
{
    quality_job *j = user;
    cpl_progress_update(&j->bar, (uint64_t)(part * 100));
}

static cpl_status run_job(quality_job *j, const cpl_args *a, cpl_error *err)
{
    cpl_status st = open_runs(j, a, err);
    if (!st) st = choose_label(&j->q, a, err);
    if (!st) st = open_pairs(j, a, err);
    if (st) return st;
    cpl_progress_init(&j->bar, "comparing", 100);
    j->q.progress = progress;
    j->q.user = j;
    st = cpl_quality_measure(&j->q, err);
    cpl_progress_finish(&j->bar);
    if (st) return st;
    if (cpl_args_switch(a, "json")) return print_json(&j->q, err);
    print_table(&j->q);
    return CPL_OK;
}

static int run(const cpl_args *a)
{
    cpl_error err;
    quality_job *j = calloc(1, sizeof *j);
    cpl_status st = j ? run_job(j, a, &err) : cpl_fail_memory(&err, sizeof *j);
    if (j) {
        cpl_quality_deinit(&j->q);
        for (size_t i = 0; i < j->q.run_count; i++) cpl_scorer_close(j->q.runs[i].scorer);
        cpl_pool_close(j->pool);
        free(j);
    }
    return st ? cpl_cli_fail(&err) : 0;
}

static const cpl_flag flags[] = {
    CPL_SCORER_FLAGS_WITH("int8", "which to hold against fp32: one, or several as int8,bf16"),
    {"reference", CPL_FLAG_TEXT, "NAME", NULL,
     "backend whose fp32 is the reference; default: the one compared (one that has no fp32 needs another)"},
    {"pairs", CPL_FLAG_TEXT, "FILE", NULL, "pairs of texts (TSV or JSON lines); default: the seeded generator's"},
    {"count", CPL_FLAG_COUNT, "N", "1000", "pairs to take, in an order drawn by the seed; 0: all of the file"},
    {"ranked", CPL_FLAG_COUNT, "N", "0", "queries of the ranking task; 0: all for an embedder, 50 for a cross-encoder"},
    {"label", CPL_FLAG_COUNT, "N", "0", "whose logit, of a cross-encoder with several labels"},
    {"seed", CPL_FLAG_COUNT, "N", "1", "of the generator, the pairs' order and the drawn passages"},
    {"seconds", CPL_FLAG_NUMBER, "S", "0", "go on for at least S seconds; all pairs are run once in any case"},
    {"json", CPL_FLAG_SWITCH, NULL, NULL, "one JSON document on stdout"},
    {0},
};

const cpl_command cpl_command_bench_quality = {
    .name = "bench quality",
    .summary = "accuracy and speed of a precision against fp32, on pairs of texts",
    .flags = flags,
    .details =
        "All precisions are loaded at once and take turns over the same blocks of pairs, text to scores; speed is the\n"
        "median over blocks, and its ratio to fp32's has a 95 % interval. Scores are raw logits, or cosines of an\n"
        "embedder's vectors. Differences are absolute; '/sd' is over the standard deviation of fp32's logits. Cosine\n"
        "is that of each text's vector with its fp32 vector. Ranking: each query against its own passage and 19 drawn\n"
        "by the seed; nDCG@10 takes fp32's order as the truth (gains 10 to 1), MRR@10 the query's own passage. There\n"
        "is no MRR where a cross-encoder's head means nothing. The first result is the reference itself.",
    .run = run,
};
