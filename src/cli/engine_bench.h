/* SPDX-License-Identifier: Apache-2.0 */
/* engine_bench.h - one load timed beside the machine's own peak, and its stages. */
#ifndef CPL_CLI_ENGINE_BENCH_H
#define CPL_CLI_ENGINE_BENCH_H

#include "base/histogram.h"
#include "cli/engine_load.h"
#include "cli/peak_team.h"

enum { CPL_ENGINE_STAGES_MAX = 16 };

/* What the machine gives when it has rested. */
typedef struct cpl_engine_rest {
    cpl_peak_probe probe; /* medians over probes */
    double expected;      /* instructions a cycle, by theory; 0: unknown */
    double ratio;         /* measured over expected; NAN when unknown */
} cpl_engine_rest;

typedef struct cpl_engine_result {
    char name[32];
    double mean_length;
    double pairs_per_s, tokens_per_s, useful_ops_per_s, nominal_ops_per_s; /* medians over samples */
    double peak_ops_per_s;                                                 /* beside, median */
    double clock_hz;                                                       /* beside, median */
    double efficiency, efficiency_min, efficiency_max; /* useful over the peak beside, sample by sample */
    double control, control_min; /* L2-fed loop a cycle beside, over the same from rest: median, least; NAN: none */
    double cpu_share; /* of the threads' time the process was given while samples ran, median: below 1 others ran */
    uint32_t samples, marked;                              /* marked: beside a control below CPL_ENGINE_CONTROL_LEAST */
    double efficiency_unmarked;                            /* median over the others; NAN when all are marked */
    double latency_p50_ms, latency_p95_ms, latency_p99_ms; /* one sequence a call, one call at a time */
    cpl_stage stages[CPL_ENGINE_STAGES_MAX];               /* of one more stretch, with counting on */
    size_t stage_count;                                    /* 0: the backend doesn't count, or wasn't asked to */
} cpl_engine_result;

#define CPL_ENGINE_CONTROL_LEAST 0.9

typedef struct cpl_engine_bench {
    cpl_scorer *scorer;
    cpl_scorer *counting; /* the same model and precision with stages counted; NULL: no table by stage */
    const cpl_scorer_info *info;
    cpl_peak_team *team; /* NULL: nothing of this CPU's to hold it against */
    cpl_engine_rest rest;
    double seconds; /* for each load */
    float *rows;
    size_t rows_cap;
    cpl_histogram latency;
} cpl_engine_bench;

/* Probes the machine from rest and holds what it gives against theory; needs team. */
void cpl_engine_bench_rest(cpl_engine_bench *b);
cpl_status cpl_engine_bench_measure(cpl_engine_bench *b, const cpl_engine_load *l, cpl_engine_result *r,
                                    cpl_error *err);

#endif
