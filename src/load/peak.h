/* SPDX-License-Identifier: Apache-2.0 */
/* peak.h - the highest rate at which an objective holds. */
#ifndef CPL_LOAD_PEAK_H
#define CPL_LOAD_PEAK_H

#include "load/load.h"

typedef enum cpl_peak_answer { CPL_PEAK_HOLDS, CPL_PEAK_FAILS, CPL_PEAK_INVALID } cpl_peak_answer;

/* One run at a rate. */
typedef struct cpl_peak_trial {
    double rate; /* requests a second, as asked */
    cpl_peak_answer answer;
    double latency_ms; /* at the objective's percentile */
    uint64_t requests;
    bool idle;     /* of one that fails: the server had next to nothing to do, so no lower rate can help */
    char why[200]; /* of one that failed or wasn't valid */
} cpl_peak_trial;

enum { CPL_PEAK_PROBES_MAX = 40 };

typedef struct cpl_peak {
    double rate; /* the highest that held; 0: none did */
    double next; /* the lowest above it that did not; 0: none was tried */
    cpl_peak_trial probes[CPL_PEAK_PROBES_MAX];
    uint32_t count;
} cpl_peak;

/* Doubles from start_rate while the objective holds (halves while it doesn't), then halves the bracket (geometrically)
 * until its ends differ by `within` (0.05: 5 %). A probe that isn't valid is made once more and then counts as not
 * holding: a rate that can't be measured isn't promised. The best rate is probed again at the end, and given up for the
 * next lower one that held when it fails then. `probe` fills answer, latency, requests and why. */
cpl_status cpl_peak_find(cpl_peak *out, double start_rate, double within,
                         cpl_status (*probe)(void *user, cpl_peak_trial *p, cpl_error *err), void *user,
                         cpl_error *err);

/* The search with real runs: poisson arrivals, each run ended early by the objective's own test. options: target, slo
 * (with a percentile), rate (where to start; 0: a quarter of what a short closed loop gives), connections, seed,
 * timeout, requests (a probe at most; 0: 20 times what the percentile needs), duration_s (of a probe; 0: 10;
 * longer where the percentile needs it, and a rate at which that is more than 30 s counts as not holding). */
typedef void cpl_peak_report(void *user, const cpl_peak_trial *p);
cpl_status cpl_peak_run(cpl_peak *out, const cpl_load_run_options *options, const cpl_workload *workload,
                        cpl_peak_report *report, void *user, cpl_error *err);

#endif
