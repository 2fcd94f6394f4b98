/* SPDX-License-Identifier: Apache-2.0 */
/* slo.h - a latency objective, and when enough requests have been seen to say whether it holds. */
#ifndef CPL_LOAD_SLO_H
#define CPL_LOAD_SLO_H

#include <stdbool.h>
#include <stdint.h>

#include "couplet.h"

/* At least `part` of the requests are answered within `ms`. */
typedef struct cpl_slo {
    double ms;   /* 0: none */
    double part; /* 0.99 for p99; 0: the time alone was given, for goodput */
} cpl_slo;

/* "20", "20ms", "0.5s", "p99=20ms", "p99.9=1s". */
cpl_status cpl_slo_parse(cpl_slo *out, const char *text, cpl_error *err);

typedef enum cpl_slo_verdict { CPL_SLO_OPEN, CPL_SLO_HOLDS, CPL_SLO_FAILS } cpl_slo_verdict;

/* Of n requests `late` took longer. With confidence 1 - alpha: HOLDS when more than `part` of all such requests would
 * be in time, FAILS when fewer, OPEN when n is too small to tell. Exact binomial tails. */
cpl_slo_verdict cpl_slo_test(const cpl_slo *slo, uint64_t n, uint64_t late, double alpha);

/* The same while requests come in: looks at n = 20, 25, 31, ... (a quarter more each time), the k-th with
 * alpha 0.01 / (k (k + 1)), so that all looks together err in one run of a hundred at most. */
typedef struct cpl_slo_watch {
    cpl_slo slo;
    uint64_t n, late, next_look;
    uint32_t looks;
    cpl_slo_verdict verdict;
} cpl_slo_watch;

void cpl_slo_watch_init(cpl_slo_watch *w, const cpl_slo *slo);
/* One more request; true once the verdict is there, which then stays. */
bool cpl_slo_watch_add(cpl_slo_watch *w, bool in_time);

#endif
