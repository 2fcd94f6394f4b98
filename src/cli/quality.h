/* SPDX-License-Identifier: Apache-2.0 */
/* quality.h - one model in several precisions over the same pairs: what each costs in accuracy and gains in speed. */
#ifndef CPL_CLI_QUALITY_H
#define CPL_CLI_QUALITY_H

#include "load/agreement.h"
#include "load/measure.h"
#include "load/workload.h"

/* 19 drawn passages and a query's own. */
enum { CPL_QUALITY_RUNS_MAX = 8, CPL_QUALITY_CANDIDATES = 20, CPL_QUALITY_DEPTH = 10 };

/* One precision. What isn't defined for this model or these pairs is NAN. */
typedef struct cpl_quality_run {
    cpl_scorer *scorer; /* the caller's */
    const cpl_scorer_info *info;
    double *scores;  /* a pair: raw logit, or cosine of its two vectors */
    float *vectors;  /* embedder: query and document of each pair in turn */
    double *ranking; /* ranked x candidates */

    double pairs_per_s;     /* text to scores (embedder: to both vectors), median over the blocks */
    cpl_interval over_fp32; /* speed over the first run's, block by block */
    cpl_differences differences;
    double spearman, kendall;
    double cosine_mean, cosine_min;
    double ndcg10, mrr10;
} cpl_quality_run;

typedef struct cpl_quality {
    const cpl_pool *pool;
    size_t count;  /* pairs: the pool's first so many */
    size_t ranked; /* queries of the ranking task: the first so many */
    int32_t label; /* whose logit, of a cross-encoder */
    uint64_t seed; /* of the 19 passages */
    double seconds;
    cpl_quality_run runs[CPL_QUALITY_RUNS_MAX]; /* the first is the reference */
    size_t run_count;
    void (*progress)(void *user, double part); /* may be NULL */
    void *user;

    uint32_t *candidates; /* pair numbers, ranked x candidates, a query's own first */
    size_t width;         /* candidates a query: CPL_QUALITY_CANDIDATES, fewer where the pairs are few */
    size_t blocks;        /* timed, of each run */
} cpl_quality;

/* Scores all pairs with every run, block by block in turn, round and round for at least `seconds` (one round whole),
 * then the ranking task, and fills in the runs' figures. Release with cpl_quality_deinit, after a failure too. */
cpl_status cpl_quality_measure(cpl_quality *q, cpl_error *err);
void cpl_quality_deinit(cpl_quality *q);

/* One run's scores and vectors of all pairs, made once and untimed, into r->scores and r->vectors, which are taken when
 * NULL. */
cpl_status cpl_quality_score(const cpl_quality *q, cpl_quality_run *r, cpl_error *err);
/* From those and run 0's: spearman and, of an embedder, the cosines. */
cpl_status cpl_quality_compare(const cpl_quality *q, cpl_quality_run *r, cpl_error *err);
void cpl_quality_run_deinit(cpl_quality_run *r);

#endif
