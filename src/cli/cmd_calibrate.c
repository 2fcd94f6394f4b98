/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_calibrate.c - `couplet calibrate`: what of a model to keep in a better precision so that int8 or int4 loses no
 * more than it may, written beside the model for the native backend's setting keep=auto.
 *
 * The idea: each candidate (a layer's matrices of one kind) is kept alone and the pairs are scored; then candidates are
 * kept together, the one that helped most first, until the goal is met. fp32's scores, which all are held against, are
 * made once. Measured here and nowhere at load: what a server starts with was decided before, and can be read.
 * Rejected: all subsets (2^24); each matrix's own rounding error as the measure (it says nothing about the scores). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "cli/progress.h"
#include "cli/quality.h"
#include "cli/scorer_flags.h"
#include "model/kept.h"

enum { ITEMS = 4, ITEM_TEXT = 32, PAIRS_MIN = 20 };

static const char *const items[ITEMS] = {"qkv", "out", "up", "down"};

typedef struct candidate {
    char text[ITEM_TEXT];
    double reached; /* NAN: keeping it changes nothing */
} candidate;

typedef struct calibration {
    const cpl_args *args;
    cpl_quality q; /* run 0: fp32 */
    cpl_kept kept;
    bool by_cosine;
    candidate *candidates;
    size_t count;
    cpl_model *model;
    cpl_pool *pool;
    cpl_log log;
    cpl_progress bar;
} calibration;

/* How near the scores come to fp32's with this kept. CPL_INVALID: it is as good already. */
static cpl_status measure(calibration *c, const char *keep, double *out, cpl_error *err)
{
    char setting[sizeof c->kept.keep + sizeof "keep="];
    cpl_quality_run r = {0};
    snprintf(setting, sizeof setting, "keep=%s", keep);
    cpl_status st = cpl_scorer_from_flags_with(&r.scorer, c->args, c->kept.precision, setting, &c->log, err);
    if (st) return st;
    r.info = cpl_scorer_describe(r.scorer);
    if (strcmp(r.info->precision_effective, c->kept.precision) != 0)
        st = cpl_fail(err, CPL_UNSUPPORTED, "%s", r.info->precision_reason);
    snprintf(c->kept.kernels, sizeof c->kept.kernels, "%s", r.info->isa);
    if (!st) st = cpl_quality_score(&c->q, &r, err);
    if (!st) st = cpl_quality_compare(&c->q, &r, err);
    *out = c->by_cosine ? r.cosine_mean : r.spearman;
    if (!st && isnan(*out)) st = cpl_fail(err, CPL_PRECONDITION, "the scores of these pairs are all the same");
    cpl_quality_run_deinit(&r);
    cpl_scorer_close(r.scorer);
    return st;
}

static int better_first(const void *x, const void *y)
{
    const candidate *a = x, *b = y;
    if (isnan(a->reached) || isnan(b->reached)) return isnan(a->reached) - isnan(b->reached);
    if (a->reached != b->reached) return a->reached < b->reached ? 1 : -1;
    return strcmp(a->text, b->text);
}

static cpl_status try_candidates(calibration *c, cpl_error *err)
{
    const char *in = cpl_args_text(c->args, "better");
    const uint32_t layers = c->q.runs[0].info->layers;
    c->candidates = calloc((size_t)layers * ITEMS, sizeof *c->candidates);
    if (!c->candidates) return cpl_fail_memory(err, (size_t)layers * ITEMS * sizeof *c->candidates);
    c->count = (size_t)layers * ITEMS;
    cpl_progress_init(&c->bar, "calibrating", c->count);
    cpl_status st = CPL_OK;
    for (size_t i = 0; i < c->count && !st; i++) {
        candidate *x = &c->candidates[i];
        snprintf(x->text, sizeof x->text, "%s.%zu%s%s", items[i % ITEMS], i / ITEMS, in ? "=" : "", in ? in : "");
        st = measure(c, x->text, &x->reached, err);
        if (st == CPL_INVALID) { /* flags and file are known to be good: no better than what it has */
            x->reached = NAN;
            st = CPL_OK;
        }
        cpl_progress_update(&c->bar, i + 1);
    }
    cpl_progress_finish(&c->bar);
    qsort(c->candidates, c->count, sizeof *c->candidates, better_first);
    return st;
}

static cpl_status add_until_met(calibration *c, cpl_error *err)
{
    cpl_kept *k = &c->kept;
    size_t used = 0;
    cpl_status st = CPL_OK;
    for (size_t i = 0; i < c->count && !st && k->reached < k->goal && !isnan(c->candidates[i].reached); i++) {
        const int n = snprintf(k->keep + used, sizeof k->keep - used, "%s%s", used ? "," : "", c->candidates[i].text);
        if ((size_t)n >= sizeof k->keep - used) return cpl_fail(err, CPL_UNSUPPORTED, "too many matrices to name");
        used += (size_t)n;
        st = measure(c, k->keep, &k->reached, err);
        if (!st) printf("%s %.5f with %s kept\n", k->measure, k->reached, k->keep);
    }
    if (!st && k->reached < k->goal)
        return cpl_fail(err, CPL_PRECONDITION,
                        "the goal of %g isn't met with everything kept that helps (%.5f): nothing was written", k->goal,
                        k->reached);
    return st;
}

static cpl_status choose(calibration *c, cpl_error *err)
{
    cpl_kept *k = &c->kept;
    cpl_status st = cpl_quality_score(&c->q, &c->q.runs[0], err);
    if (!st) st = measure(c, "none", &k->before, err);
    if (st) return st;
    k->reached = k->before;
    snprintf(k->keep, sizeof k->keep, "none");
    printf("%s, %s (%s), %zu pairs of %s: %s %.5f with nothing kept, goal %g\n", c->q.runs[0].info->model, k->precision,
           k->kernels, c->q.count, k->source, k->measure, k->before, k->goal);
    if (k->before >= k->goal) return CPL_OK;
    st = try_candidates(c, err);
    for (size_t i = 0; i < c->count && !st && !isnan(c->candidates[i].reached); i++)
        printf("  %-16s %.5f\n", c->candidates[i].text, c->candidates[i].reached);
    return st ? st : add_until_met(c, err);
}

static cpl_status check_flags(calibration *c, cpl_error *err)
{
    static const char *const better[] = {"fp32", "bf16", "fp16", "int8"};
    const char *precision = cpl_args_text(c->args, "precision"), *in = cpl_args_text(c->args, "better");
    const char *settings = cpl_args_text(c->args, "settings");
    bool known = !in;
    if (strcmp(precision, "int8") != 0 && strcmp(precision, "int4") != 0)
        return cpl_fail(err, CPL_INVALID, "'--precision %s': only int8 and int4 keep anything better", precision);
    for (size_t i = 0; in && i < sizeof better / sizeof *better; i++) known |= !strcmp(in, better[i]);
    if (!known) return cpl_fail(err, CPL_INVALID, "'--better %s': fp32, bf16, fp16 or int8", in);
    if (!cpl_args_text(c->args, "pairs"))
        return cpl_fail(err, CPL_INVALID, "'--pairs FILE' is needed: texts like those that the model will see");
    if (settings && strstr(settings, "keep="))
        return cpl_fail(err, CPL_INVALID, "'--settings %s': what to keep is what is looked for", settings);
    if (strcmp(cpl_args_text(c->args, "backend"), "native") != 0)
        return cpl_fail(err, CPL_UNSUPPORTED, "only the native backend keeps matrices better");
    return CPL_OK;
}

/* What the file says of how the choice was made. */
static cpl_status describe(calibration *c, cpl_error *err)
{
    cpl_kept *k = &c->kept;
    const char *settings = cpl_args_text(c->args, "settings"), *by = cpl_args_text(c->args, "by");
    const bool embedder = c->q.runs[0].info->task == CPL_TASK_EMBEDDER;
    if (!by) by = embedder ? "cosine" : "spearman";
    if (strcmp(by, "spearman") != 0 && (strcmp(by, "cosine") != 0 || !embedder))
        return cpl_fail(err, CPL_INVALID, "'--by %s': spearman%s", by, embedder ? " or cosine" : " of a cross-encoder");
    const char *group = settings ? strstr(settings, "group_size=") : NULL;
    if (!strcmp(k->precision, "int4"))
        k->group_size = group ? (uint32_t)strtoul(group + strlen("group_size="), NULL, 10) : 32;
    c->by_cosine = !strcmp(by, "cosine");
    snprintf(k->measure, sizeof k->measure, "%s", by);
    snprintf(k->source, sizeof k->source, "%s", cpl_pool_source(c->pool));
    k->goal = cpl_args_number(c->args, "goal");
    if (!(k->goal > 0 && k->goal <= 1)) return cpl_fail(err, CPL_INVALID, "'--goal' is more than 0 and at most 1");
    if (c->q.count < PAIRS_MIN)
        return cpl_fail(err, CPL_INVALID, "%zu pairs are too few to choose by: %d at least", c->q.count, PAIRS_MIN);
    k->pairs = c->q.count;
    return CPL_OK;
}

static cpl_status open_all(calibration *c, cpl_error *err)
{
    cpl_quality *q = &c->q;
    const size_t count = (size_t)cpl_args_count(c->args, "count");
    snprintf(c->kept.precision, sizeof c->kept.precision, "%s", cpl_args_text(c->args, "precision"));
    cpl_status st = cpl_scorer_from_flags_plain(&q->runs[0].scorer, c->args, NULL, &c->log, err);
    if (st) return st;
    q->run_count = 1;
    q->runs[0].info = cpl_scorer_describe(q->runs[0].scorer);
    st = cpl_model_open(&c->model, q->runs[0].info->model, err);
    if (!st) st = cpl_pool_open(&c->pool, cpl_args_text(c->args, "pairs"), cpl_args_count(c->args, "seed"), count, err);
    if (st) return st;
    q->pool = c->pool;
    q->count = cpl_pool_size(c->pool);
    if (count && count < q->count) q->count = count;
    return CPL_OK;
}

static cpl_status calibrate(calibration *c, cpl_error *err)
{
    cpl_status st = check_flags(c, err);
    if (!st) st = open_all(c, err);
    if (!st) st = describe(c, err);
    if (!st) st = choose(c, err);
    if (!st) st = cpl_kept_put(c->model, &c->kept, err);
    if (!st)
        printf("%s/%s: %s keeps %s; load with keep=auto\n", c->model->dir, CPL_KEPT_FILE, c->kept.precision,
               c->kept.keep);
    return st;
}

static int run(const cpl_args *a)
{
    cpl_error err;
    calibration *c = calloc(1, sizeof *c);
    const cpl_status st = c ? (c->args = a, calibrate(c, &err)) : cpl_fail_memory(&err, sizeof *c);
    if (c) {
        cpl_quality_deinit(&c->q);
        if (c->q.run_count) cpl_scorer_close(c->q.runs[0].scorer);
        cpl_pool_close(c->pool);
        cpl_model_close(c->model);
        free(c->candidates);
        free(c);
    }
    return st ? cpl_cli_fail(&err) : 0;
}

static const cpl_flag flags[] = {
    CPL_SCORER_FLAGS_WITH("int8", "int8 or int4"),
    {"pairs", CPL_FLAG_TEXT, "FILE", NULL, "pairs of texts like those the model will see (TSV or JSON lines); needed"},
    {"goal", CPL_FLAG_NUMBER, "X", "0.999", "how near to fp32 to come"},
    {"by", CPL_FLAG_TEXT, "MEASURE", NULL,
     "spearman of the scores, or mean cosine of an embedder's vectors; default: cosine for those, else spearman"},
    {"better", CPL_FLAG_TEXT, "P", NULL, "precision to keep in: fp32, bf16, fp16 or int8; default: the next better"},
    {"count", CPL_FLAG_COUNT, "N", "200", "pairs to take, in an order drawn by the seed; 0: all of the file"},
    {"seed", CPL_FLAG_COUNT, "N", "1", "of the pairs' order"},
    {0},
};

const cpl_command cpl_command_calibrate = {
    .name = "calibrate",
    .summary = "chooses what of an int8 or int4 model to keep in a better precision",
    .flags = flags,
    .details =
        "Scores the pairs in fp32 and in the precision asked for. Where that doesn't come as near as the goal, each\n"
        "layer's qkv, out, up and down matrices are kept better alone, then together, those that help most first,\n"
        "until it does. The choice is written to couplet_keep.json in the model's directory, with what was reached\n"
        "and the digest of the weights. 'keep=auto' of the native backend (model.native.keep in a configuration,\n"
        "--settings elsewhere) loads by it, and fails where the file is missing or was made for other weights. A\n"
        "second precision is added to the file. Takes four loads a layer and more.",
    .run = run,
};
