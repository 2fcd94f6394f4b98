/* SPDX-License-Identifier: Apache-2.0 */
/* quality.c - what a precision costs and gains, measured in one go.
 * The one idea: all precisions are open at once and take turns over the same blocks of pairs, in an order that rotates,
 * so that the scores to compare and the speeds to compare come from the same calls, and a neighbour that slows the
 * machine slows them all. Everything goes through the public library.
 * Invariants: the reference is run 0; scores are doubles made from the floats that the library returned; each query has
 * the same candidates in every precision. Threads: the caller's.
 * Rejected: one precision after the other (a clock that drifts then reads as a difference in speed). */
#include "cli/quality.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"

enum { BLOCK_PAIRS = 64, BLOCKS_MAX = 512 };

static bool embeds(const cpl_quality *q) { return q->runs[0].info->task == CPL_TASK_EMBEDDER; }

/* ---- running ----------------------------------------------------------------------------------------------------- */

/* Raw logits of n pairs. */
static cpl_status run_logits(const cpl_quality *q, cpl_quality_run *r, const cpl_pair *pairs, size_t n, double *scores,
                             cpl_error *err)
{
    cpl_score_options o = CPL_OPTIONS(cpl_score_options);
    o.form = CPL_SCORE_RAW;
    o.label = q->label;
    float *raw = malloc(n * sizeof *raw);
    if (!raw) return cpl_fail_memory(err, n * sizeof *raw);
    cpl_status st = cpl_scorer_score(r->scorer, pairs, n, &o, raw, err);
    for (size_t i = 0; !st && i < n; i++) scores[i] = (double)raw[i];
    free(raw);
    return st;
}

/* Vectors of n pairs' queries and documents, and their cosines. */
static cpl_status run_vectors(cpl_quality_run *r, const cpl_pair *pairs, size_t n, double *scores, float *vectors,
                              cpl_error *err)
{
    size_t hidden = r->info->hidden;
    cpl_text *texts = malloc(2 * n * sizeof *texts);
    if (!texts) return cpl_fail_memory(err, 2 * n * sizeof *texts);
    for (size_t i = 0; i < n; i++) {
        texts[2 * i] = pairs[i].query;
        texts[2 * i + 1] = pairs[i].document;
    }
    cpl_status st = cpl_scorer_embed(r->scorer, texts, 2 * n, vectors, err);
    for (size_t i = 0; !st && i < n; i++)
        scores[i] = cpl_cosine(vectors + 2 * i * hidden, vectors + (2 * i + 1) * hidden, hidden);
    free(texts);
    return st;
}

static cpl_status run_block(const cpl_quality *q, cpl_quality_run *r, size_t from, size_t n, double *seconds,
                            cpl_error *err)
{
    const cpl_pair *pairs = cpl_pool_pairs(q->pool) + from;
    uint64_t start = cpl_clock_ns();
    cpl_status st = embeds(q) ? run_vectors(r, pairs, n, r->scores + from, r->vectors + 2 * from * r->info->hidden, err)
                              : run_logits(q, r, pairs, n, r->scores + from, err);
    *seconds = (double)(cpl_clock_ns() - start) / 1e9;
    return st;
}

typedef struct timing {
    size_t blocks;
    double rate[CPL_QUALITY_RUNS_MAX][BLOCKS_MAX]; /* pairs/s */
} timing;

/* One block by every run, in turn. */
static cpl_status take_turns(cpl_quality *q, timing *t, size_t from, size_t n, cpl_error *err)
{
    size_t at = t->blocks;
    for (size_t i = 0; i < q->run_count; i++) {
        size_t k = (i + at) % q->run_count;
        double seconds;
        cpl_status st = run_block(q, &q->runs[k], from, n, &seconds, err);
        if (st) return st;
        if (at < BLOCKS_MAX) t->rate[k][at] = (double)n / (seconds > 0 ? seconds : 1e-9);
    }
    if (at < BLOCKS_MAX) t->blocks++;
    return CPL_OK;
}

static void show(const cpl_quality *q, double part)
{
    if (q->progress) q->progress(q->user, part);
}

static cpl_status run_pairs(cpl_quality *q, timing *t, cpl_error *err)
{
    size_t block = 32 * (size_t)q->runs[0].info->threads;
    if (block < BLOCK_PAIRS) block = BLOCK_PAIRS;
    if (block > q->count) block = q->count;
    cpl_status st = CPL_OK;
    double unused;
    for (size_t i = 0; i < q->run_count && !st; i++) st = run_block(q, &q->runs[i], 0, block, &unused, err);
    uint64_t until = cpl_clock_ns() + (uint64_t)(q->seconds * 1e9);
    bool first = true;
    while (!st && (first || (cpl_clock_ns() < until && t->blocks < BLOCKS_MAX))) {
        for (size_t from = 0, n; from < q->count && !st; from += n) {
            n = q->count - from < block ? q->count - from : block;
            if (n * 2 < block && t->blocks) { /* a short rest is too short to time */
                for (size_t i = 0; i < q->run_count && !st; i++) st = run_block(q, &q->runs[i], from, n, &unused, err);
            } else {
                st = take_turns(q, t, from, n, err);
            }
            if (first) show(q, (double)(from + n) / (double)q->count);
        }
        first = false;
    }
    return st;
}

/* ---- ranking task ------------------------------------------------------------------------------------------------ */

static bool same_text(cpl_text a, cpl_text b) { return a.size == b.size && memcmp(a.data, b.data, a.size) == 0; }

/* Another pair, whose passage says something else than the query's own and isn't among the candidates. */
static bool fits(const cpl_quality *q, const uint32_t *list, size_t n, uint32_t drawn)
{
    const cpl_pair *pairs = cpl_pool_pairs(q->pool);
    for (size_t i = 0; i < n; i++)
        if (list[i] == drawn || same_text(pairs[list[i]].document, pairs[drawn].document)) return false;
    return true;
}

/* Fewer candidates than asked for, the same number for every query, when the pairs don't hold enough. */
static cpl_status draw_candidates(cpl_quality *q, cpl_error *err)
{
    enum { TRIES = 400 };
    q->candidates = malloc(q->ranked * CPL_QUALITY_CANDIDATES * sizeof *q->candidates);
    if (!q->candidates) return cpl_fail_memory(err, q->ranked * CPL_QUALITY_CANDIDATES * sizeof *q->candidates);
    uint64_t state = q->seed;
    q->width = CPL_QUALITY_CANDIDATES;
    for (size_t i = 0; i < q->ranked; i++) {
        uint32_t *list = q->candidates + i * CPL_QUALITY_CANDIDATES;
        size_t n = 1;
        list[0] = (uint32_t)i;
        for (int t = 0; t < TRIES && n < q->width; t++) {
            uint32_t drawn = (uint32_t)(cpl_random_next(&state) % q->count);
            if (fits(q, list, n, drawn)) list[n++] = drawn;
        }
        if (n < q->width) q->width = n;
    }
    return CPL_OK;
}

/* Logits of query i with its candidates, for one run. */
static cpl_status rank_logits(const cpl_quality *q, cpl_quality_run *r, size_t i, cpl_error *err)
{
    const cpl_pair *pairs = cpl_pool_pairs(q->pool);
    cpl_pair list[CPL_QUALITY_CANDIDATES];
    for (size_t c = 0; c < q->width; c++)
        list[c] = (cpl_pair){pairs[i].query, pairs[q->candidates[i * CPL_QUALITY_CANDIDATES + c]].document};
    return run_logits(q, r, list, q->width, r->ranking + i * CPL_QUALITY_CANDIDATES, err);
}

static void rank_vectors(const cpl_quality *q, cpl_quality_run *r, size_t i)
{
    size_t hidden = r->info->hidden;
    for (size_t c = 0; c < q->width; c++) {
        size_t at = i * CPL_QUALITY_CANDIDATES + c;
        r->ranking[at] =
            cpl_cosine(r->vectors + 2 * i * hidden, r->vectors + (2 * (size_t)q->candidates[at] + 1) * hidden, hidden);
    }
}

static cpl_status run_ranking(cpl_quality *q, cpl_error *err)
{
    cpl_status st = draw_candidates(q, err);
    if (st || q->width < 2) return st;
    for (size_t k = 0; k < q->run_count; k++) {
        cpl_quality_run *r = &q->runs[k];
        r->ranking = malloc(q->ranked * CPL_QUALITY_CANDIDATES * sizeof *r->ranking);
        if (!r->ranking) return cpl_fail_memory(err, q->ranked * CPL_QUALITY_CANDIDATES * sizeof *r->ranking);
        for (size_t i = 0; i < q->ranked && !st; i++) {
            if (embeds(q))
                rank_vectors(q, r, i);
            else
                st = rank_logits(q, r, i, err);
        }
        if (st) return st;
    }
    return CPL_OK;
}

/* ---- figures -------------------------------------------------------------------------------------------------------
 */

static void judge_ranking(const cpl_quality *q, cpl_quality_run *r)
{
    r->ndcg10 = r->mrr10 = NAN;
    if (!r->ranking || !q->ranked) return;
    r->ndcg10 = r->mrr10 = 0;
    for (size_t i = 0; i < q->ranked; i++) {
        size_t at = i * CPL_QUALITY_CANDIDATES;
        const double *reference = q->runs[0].ranking + at;
        r->ndcg10 += cpl_ndcg(reference, r->ranking + at, q->width, CPL_QUALITY_DEPTH);
        r->mrr10 += cpl_reciprocal_rank(r->ranking + at, q->width, 0, CPL_QUALITY_DEPTH);
    }
    r->ndcg10 /= (double)q->ranked;
    r->mrr10 /= (double)q->ranked;
    /* What a cross-encoder with a note prefers means nothing: that is what the note says. */
    if (!embeds(q) && *r->info->model_note) r->mrr10 = NAN;
}

static void judge_vectors(const cpl_quality *q, cpl_quality_run *r)
{
    r->cosine_mean = r->cosine_min = NAN;
    if (!embeds(q)) return;
    size_t hidden = r->info->hidden, texts = 2 * q->count;
    r->cosine_mean = 0;
    r->cosine_min = 1;
    for (size_t i = 0; i < texts; i++) {
        double c = cpl_cosine(q->runs[0].vectors + i * hidden, r->vectors + i * hidden, hidden);
        r->cosine_mean += c;
        if (isnan(c) || c < r->cosine_min) r->cosine_min = c;
    }
    r->cosine_mean /= (double)texts;
}

static cpl_status judge(cpl_quality *q, const timing *t, cpl_error *err)
{
    q->blocks = t->blocks;
    for (size_t k = 0; k < q->run_count; k++) {
        cpl_quality_run *r = &q->runs[k];
        const double *reference = q->runs[0].scores;
        r->pairs_per_s = cpl_median(t->rate[k], t->blocks);
        r->over_fp32 = cpl_ratio_of(t->rate[0], t->rate[k], t->blocks);
        r->differences = cpl_differences_of(reference, r->scores, q->count);
        cpl_status st = cpl_spearman(&r->spearman, reference, r->scores, q->count, err);
        if (!st) st = cpl_kendall(&r->kendall, reference, r->scores, q->count, err);
        if (st) return st;
        judge_vectors(q, r);
        judge_ranking(q, r);
    }
    return CPL_OK;
}

static cpl_status take_memory(const cpl_quality *q, cpl_quality_run *r, cpl_error *err)
{
    const size_t floats = embeds(q) ? 2 * q->count * r->info->hidden : 1;
    if (!r->scores) r->scores = malloc(q->count * sizeof *r->scores);
    if (!r->vectors) r->vectors = malloc(floats * sizeof *r->vectors);
    return r->scores && r->vectors ? CPL_OK : cpl_fail_memory(err, floats * sizeof *r->vectors);
}

cpl_status cpl_quality_measure(cpl_quality *q, cpl_error *err)
{
    timing *t = calloc(1, sizeof *t);
    cpl_status st = t ? CPL_OK : cpl_fail_memory(err, sizeof *t);
    for (size_t k = 0; k < q->run_count && !st; k++) st = take_memory(q, &q->runs[k], err);
    if (!st) st = run_pairs(q, t, err);
    if (!st) st = run_ranking(q, err);
    if (!st) st = judge(q, t, err);
    free(t);
    return st;
}

cpl_status cpl_quality_score(const cpl_quality *q, cpl_quality_run *r, cpl_error *err)
{
    double unused;
    cpl_status st = take_memory(q, r, err);
    for (size_t from = 0, n; from < q->count && !st; from += n) {
        n = q->count - from < BLOCK_PAIRS ? q->count - from : BLOCK_PAIRS;
        st = run_block(q, r, from, n, &unused, err);
    }
    return st;
}

cpl_status cpl_quality_compare(const cpl_quality *q, cpl_quality_run *r, cpl_error *err)
{
    judge_vectors(q, r);
    return cpl_spearman(&r->spearman, q->runs[0].scores, r->scores, q->count, err);
}

void cpl_quality_run_deinit(cpl_quality_run *r)
{
    free(r->scores);
    free(r->vectors);
    free(r->ranking);
    r->scores = r->ranking = NULL;
    r->vectors = NULL;
}

void cpl_quality_deinit(cpl_quality *q)
{
    free(q->candidates);
    for (size_t k = 0; k < q->run_count; k++) cpl_quality_run_deinit(&q->runs[k]);
}
