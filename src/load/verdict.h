/* SPDX-License-Identifier: Apache-2.0 */
/* verdict.h - whether a run's figures may be relied on. */
#ifndef CPL_LOAD_VERDICT_H
#define CPL_LOAD_VERDICT_H

#include "load/load.h"

/* A run is VALID when all of this holds:
 *   - at most 1 measured request in 1,000 failed, and the run was not given up;
 *   - it is at least 6 mean latencies long, and the fastest third of it was at most 10 % faster
 *     than the slowest (throughput);
 *   - at least 90 % of the concurrency asked for was really in flight;
 *   - the native engine's workers had the CPU for at least 90 % of the time they were computing;
 *   - the generator used at most 90 % of its core, and in the self-test before the run it did at least twice the
 *     requests a second against a null server, in an open loop keeping 95 % of its schedule.
 * In an open loop the rate is the schedule's and neither thirds nor concurrency say anything; instead
 *   - requests went out on time: the generator's 99th percentile of delay is at most 1 ms, or a tenth of the median
 *     latency;
 *   - the queue did not grow: with 100 requests in each third of the run (else it can't be told, and `note` says so),
 *     the last third didn't take more than 1.5 times as long as the first with the middle one between them.
 * A rate that the server can't keep up with is a finding and not a fault of the run: where the queue grew and its
 * workers were computing for 90 % of the time, or it answered less than 95 % of what was offered, or the only failures
 * are its refusals, the row is VALID and `beyond`: its throughput is what the server takes, and its percentiles are
 * INVALID, because they grow with the length of the run.
 * Each percentile stands or falls by itself as well: cpl_verdict_percentile. */
typedef struct cpl_verdict {
    bool valid;
    bool beyond;       /* open loop: more was offered than the server takes */
    bool again;        /* not valid for nothing but the machine's unrest: another try may be */
    char reasons[400]; /* "; " between them; "" when valid */
    char note[200];    /* what the rate did to the server, where it is beyond; else what could not be tested; or "" */
    bool p50, p95, p99;
    double highest;        /* of p50, p90, p95, p99, p99.9 and p99.99 the highest that has its samples; 0: none */
    char percentiles[160]; /* which lack samples: "p99 needs 459 samples, has 200"; "" when none does */
} cpl_verdict;

void cpl_verdict_of(cpl_verdict *out, const cpl_load_result *r);
/* One more reason at the end of a text of `cap` bytes, after "; " if it isn't the first; what doesn't fit is cut off.
 */
void cpl_verdict_add(char *text, size_t cap, const char *fmt, ...) CPL_PRINTF(3, 4);
/* The percentile part alone, from a number of samples. */
void cpl_verdict_samples(cpl_verdict *out, uint64_t samples);

enum { CPL_PERCENTILE_WHY = 80 };
/* May percentile q (0.99) of a run with this verdict be relied on? Where not, `why` says it in a few words. */
bool cpl_verdict_percentile(const cpl_verdict *v, double q, uint64_t samples, char why[CPL_PERCENTILE_WHY]);

#endif
