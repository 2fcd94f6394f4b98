/* SPDX-License-Identifier: Apache-2.0 */
/* compare.c - old against new, row by row. The one idea: percentiles are those of the rounds' merged histograms, also
 * inside the bootstrap, where a resample merges the rounds it drew; a percentile is never averaged.
 * Invariant: nothing is called better or worse whose interval holds 1, and a row measured once has no verdict but on
 * throughput. Threads: no state. */
#include "lab/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "lab/bootstrap.h"
#include "lab/findings.h"
#include "lab/sparse.h"

#define SEED        20
#define BUCKET_STEP 0.004 /* 256 steps a doubling are 0.2 to 0.4 % wide */

const char *const cpl_lab_metric_names[CPL_LAB_METRICS] = {"throughput", "latency p50", "latency p95", "latency p99"};
static const double quantiles[CPL_LAB_METRICS] = {0, 0.50, 0.95, 0.99};

const char *cpl_lab_change_name(cpl_lab_change c)
{
    static const char *const names[] = {"no difference", "better", "worse", "not known"};
    return names[c];
}

/* ---- one metric ----------------------------------------------------------------------------------------------- */

static double log_throughput(void *user, int side, const uint8_t *times, size_t rounds)
{
    const cpl_lab_point *const *rows = user;
    double sum = 0, n = 0;
    for (size_t i = 0; i < rounds; i++) {
        if (!times[i]) continue;
        sum += times[i] * log(rows[side]->round_throughput[i]);
        n += times[i];
    }
    return sum / n;
}

cpl_interval cpl_lab_throughput_ratio(const cpl_lab_point *old, const cpl_lab_point *new, bool paired)
{
    if (old->rounds < 2 || new->rounds < 2) return cpl_lab_compare(old, new, false);
    const cpl_lab_point *rows[] = {old, new};
    const cpl_bootstrap b = {log_throughput, rows, {old->rounds, new->rounds}, paired, 0, SEED};
    return cpl_bootstrap_ratio(&b);
}

/* The rounds of one row over the buckets that any of them uses. */
typedef struct latency_rounds {
    uint32_t *buckets;
    uint64_t *times; /* bucket by round */
    size_t count, rounds;
} latency_rounds;

typedef struct latency_pair {
    latency_rounds side[2];
    double q;
} latency_pair;

static double log_quantile(void *user, int side, const uint8_t *times, size_t rounds)
{
    const latency_pair *p = user;
    const latency_rounds *l = &p->side[side];
    uint64_t total = 0, seen = 0;
    for (size_t k = 0; k < l->count; k++)
        for (size_t i = 0; i < rounds; i++) total += times[i] * l->times[k * l->rounds + i];
    if (!total) return NAN;
    uint64_t rank = (uint64_t)ceil(p->q * (double)total);
    if (!rank) rank = 1;
    for (size_t k = 0; k < l->count; k++) {
        for (size_t i = 0; i < rounds; i++) seen += times[i] * l->times[k * l->rounds + i];
        if (seen >= rank) return log((double)cpl_histogram_upper(l->buckets[k]));
    }
    return NAN;
}

/* False when a round isn't there or memory is out. */
static bool latency_open(latency_rounds *l, const cpl_lab_point *p)
{
    uint64_t *all = calloc(CPL_HISTOGRAM_BUCKETS, sizeof *all);
    *l = (latency_rounds){.rounds = p->rounds};
    bool good = all != NULL && p->rounds > 0;
    for (size_t pass = 0; good && pass < 2; pass++) {
        for (size_t i = 0; good && i < p->rounds; i++) {
            const char *at = p->round_latency[i];
            cpl_sparse_bucket b = {0};
            good = at && *at;
            while (good && cpl_sparse_next(&at, b.bucket, &b))
                if (!pass)
                    all[b.bucket] = 1;
                else
                    l->times[all[b.bucket] * l->rounds + i] += b.times;
            good = good && !*at;
        }
        if (!good || pass) continue;
        size_t n = 0;
        for (size_t k = 0; k < CPL_HISTOGRAM_BUCKETS; k++) n += all[k] != 0;
        l->buckets = calloc(n, sizeof *l->buckets);
        l->times = calloc(n * l->rounds, sizeof *l->times);
        good = l->buckets && l->times;
        for (uint32_t k = 0; good && k < CPL_HISTOGRAM_BUCKETS; k++) {
            if (!all[k]) continue;
            l->buckets[l->count] = k;
            all[k] = l->count++; /* from here on: where the bucket is */
        }
    }
    free(all);
    return good;
}

static void latency_close(latency_rounds *l)
{
    free(l->buckets);
    free(l->times);
}

cpl_interval cpl_lab_latency_ratio(const cpl_lab_point *old, const cpl_lab_point *new, double q, bool paired)
{
    latency_pair p = {.q = q};
    cpl_interval out = {0};
    const bool good_old = latency_open(&p.side[0], old), good_new = latency_open(&p.side[1], new);
    const bool good = good_old && good_new;
    if (good) {
        const cpl_bootstrap b = {log_quantile, &p, {old->rounds, new->rounds}, paired, BUCKET_STEP, SEED};
        out = cpl_bootstrap_ratio(&b);
    }
    latency_close(&p.side[0]);
    latency_close(&p.side[1]);
    return out;
}

cpl_lab_change cpl_lab_change_of(const cpl_interval *ratio, bool more_is_better)
{
    if (!ratio->known) return CPL_LAB_NOT_KNOWN;
    if (ratio->low <= 1 && ratio->high >= 1) return CPL_LAB_NO_DIFFERENCE;
    return (ratio->mean > 1) == more_is_better ? CPL_LAB_BETTER : CPL_LAB_WORSE;
}

/* ---- all rows ------------------------------------------------------------------------------------------------- */

static bool enough(const cpl_lab_point *p, size_t metric)
{
    return metric == 0 || (metric == 1 ? p->p50_enough : metric == 2 ? p->p95_enough : p->p99_enough);
}

static void compare_rows(cpl_lab_comparisons *all, const cpl_lab_result *a, const cpl_lab_point *p,
                         const cpl_lab_result *b, const cpl_lab_point *q)
{
    cpl_lab_comparison *c = &all->at[all->count++];
    *c = (cpl_lab_comparison){a, b, p, q, .paired = a == b || cpl_lab_interleaved(a, b)};
    for (size_t m = 0; m < CPL_LAB_METRICS; m++) {
        const bool more = m == 0;
        c->ratio[m] =
            more ? cpl_lab_throughput_ratio(p, q, c->paired) : cpl_lab_latency_ratio(p, q, quantiles[m], c->paired);
        c->enough[m] = enough(p, m) && enough(q, m);
        c->change[m] = c->enough[m] ? cpl_lab_change_of(&c->ratio[m], more) : CPL_LAB_NOT_KNOWN;
        all->changes[c->change[m]]++;
        c->regress[m] = c->change[m] == CPL_LAB_WORSE &&
                        (more ? c->ratio[m].high < 1 - all->threshold : c->ratio[m].low > 1 + all->threshold);
        all->regressions += c->regress[m];
    }
}

static bool same_load(const cpl_lab_point *a, const cpl_lab_point *b)
{
    return a->batch == b->batch && a->concurrency == b->concurrency && a->rate == b->rate;
}

static const cpl_lab_point *row_like(const cpl_lab_result *r, const cpl_lab_point *like)
{
    for (size_t i = 0; i < r->point_count; i++)
        if (r->points[i].requests && same_load(&r->points[i], like) && !strcmp(r->points[i].server, like->server))
            return &r->points[i];
    return NULL;
}

static const cpl_lab_result *result_like(const cpl_lab_results *all, const cpl_lab_result *like, bool single)
{
    if (single) return all->at[0];
    for (size_t i = 0; i < all->count; i++)
        if (!strcmp(all->at[i]->name, like->name)) return all->at[i];
    return NULL;
}

/* Each swept setting against the first one at the same load. */
static void compare_sweep(cpl_lab_comparisons *out, const cpl_lab_result *r)
{
    for (size_t i = 0; i < r->point_count; i++) {
        const cpl_lab_point *p = &r->points[i], *first = NULL;
        for (size_t k = 0; k < i && !first; k++)
            if (r->points[k].requests && same_load(&r->points[k], p)) first = &r->points[k];
        if (p->requests && first && strcmp(first->server, p->server) != 0) compare_rows(out, r, first, r, p);
    }
}

cpl_status cpl_lab_comparisons_make(cpl_lab_comparisons *out, const cpl_lab_results *old, const cpl_lab_results *next,
                                    double threshold, cpl_error *err)
{
    size_t rows = 0;
    for (size_t i = 0; i < old->count; i++) rows += old->at[i]->point_count;
    *out = (cpl_lab_comparisons){.threshold = threshold};
    out->at = calloc(rows ? rows : 1, sizeof *out->at);
    if (!out->at) return cpl_fail_memory(err, rows * sizeof *out->at);
    const bool single = next && old->count == 1 && next->count == 1;
    for (size_t i = 0; i < old->count; i++) {
        const cpl_lab_result *a = old->at[i], *b = next ? result_like(next, a, single) : NULL;
        if (!next) compare_sweep(out, a);
        for (size_t k = 0; next && k < a->point_count; k++) {
            const cpl_lab_point *q = b ? row_like(b, &a->points[k]) : NULL;
            if (a->points[k].requests && q)
                compare_rows(out, a, &a->points[k], b, q);
            else
                out->alone += a->points[k].requests > 0;
        }
    }
    if (out->count) return CPL_OK;
    cpl_lab_comparisons_deinit(out);
    return cpl_fail(err, CPL_NOT_FOUND,
                    next ? "no measured row is in both: nothing was compared"
                         : "no swept setting was measured beside another: give a second result to compare with");
}

void cpl_lab_comparisons_deinit(cpl_lab_comparisons *c)
{
    free(c->at);
    *c = (cpl_lab_comparisons){0};
}
