/* SPDX-License-Identifier: Apache-2.0 */
/* tune.h - the search for a server's settings: which of backend x precision, threads, tokens a pass and batching policy
 * answers most within an objective. Pure: measuring is a function the caller gives. */
#ifndef CPL_LAB_TUNE_H
#define CPL_LAB_TUNE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "couplet.h"

/* What is varied; a candidate is an index into the values of each. */
enum { CPL_TUNE_VARIANT, CPL_TUNE_POLICY, CPL_TUNE_WORKERS, CPL_TUNE_TOKENS, CPL_TUNE_DIMENSIONS };
enum { CPL_TUNE_VALUES_MAX = 16, CPL_TUNE_TRIED_MAX = 128, CPL_TUNE_ROUNDS_MAX = 9 };

typedef struct cpl_tune_space {
    uint32_t counts[CPL_TUNE_DIMENSIONS]; /* values of each, 1 to CPL_TUNE_VALUES_MAX */
    uint32_t start[CPL_TUNE_DIMENSIONS];  /* defaults; of VARIANT and TOKENS unused */
    uint32_t tokens[CPL_TUNE_VALUES_MAX]; /* of each variant, where its TOKENS start: what it takes by itself */
    bool allowed[CPL_TUNE_VALUES_MAX];    /* variants that may win; the others are measured once, to show the price */
    uint32_t finalists;                   /* measured again, in turn */
    uint32_t rounds;                      /* ... so often */
} cpl_tune_space;

typedef struct cpl_tune_tried {
    uint32_t at[CPL_TUNE_DIMENSIONS];
    double rate; /* pairs a second within the objective; 0: at no rate, or it doesn't run. Finalists: the median */
    double latency_ms;
    double rounds[CPL_TUNE_ROUNDS_MAX]; /* of a finalist */
    uint32_t round_count;
    char why[200]; /* of rate 0 */
} cpl_tune_tried;

typedef struct cpl_tune {
    cpl_tune_tried tried[CPL_TUNE_TRIED_MAX]; /* in the order in which they were tried */
    uint32_t count;
    int best; /* in tried; -1: no allowed candidate holds the objective at any rate */
} cpl_tune;

/* Fills rate, latency_ms and why of *t, whose `at` says what to measure. round 0: the search, else a finalist's n-th.
 * A candidate that can't run is rate 0 with a reason, not a failure. */
typedef cpl_status cpl_tune_measure(void *user, cpl_tune_tried *t, uint32_t round, cpl_error *err);

/* Coarse: every variant with the default settings; then every policy with the allowed variants that came within a third
 * of the best. Local: from the best one step along workers, tokens and policy in turn, as long as that gains. Then
 * the best `finalists` again, in turn, `rounds` times; the highest median wins. Each candidate is searched once. */
cpl_status cpl_tune_search(cpl_tune *out, const cpl_tune_space *space, cpl_tune_measure *measure, void *user,
                           cpl_error *err);

#endif
