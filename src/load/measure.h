/* SPDX-License-Identifier: Apache-2.0 */
/* measure.h - figures from the log of a run: pure functions over samples, no clock, no sockets. */
#ifndef CPL_LOAD_MEASURE_H
#define CPL_LOAD_MEASURE_H

#include <stdbool.h>

#include "base/histogram.h"
#include "couplet.h"

/* One request. Times are monotonic nanoseconds. */
typedef struct cpl_sample {
    uint64_t due_ns;  /* when it should have gone out; latency counts from here */
    uint64_t sent_ns; /* its first byte handed to the socket */
    uint64_t done_ns;
    bool measured; /* started inside the window; the others are warm-up and cool-down */
    bool ok;
} cpl_sample;

/* A mean with the interval that holds it with 95 % confidence; known is false where there is too little to say. */
typedef struct cpl_interval {
    double mean, low, high;
    bool known;
} cpl_interval;

/* Student's t over n independent values (n of at least 2, else not known). */
cpl_interval cpl_interval_of(const double *values, size_t n);
bool cpl_interval_overlap(const cpl_interval *a, const cpl_interval *b); /* true where either isn't known */
double cpl_median(const double *values, size_t n);                       /* 0 when n is 0 */
/* Nearest rank; 0 when n is 0. */
double cpl_percentile(const double *values, size_t n, double q);
/* The ratio b / a from rounds run side by side (geometric mean of b[i] / a[i], interval over the logarithms). */
cpl_interval cpl_ratio_of(const double *a, const double *b, size_t n);

/* How many samples a percentile needs, so that with 99 % confidence at least one lies above it: ln 0.01 / ln q. 459
 * for p99, 90 for p95, 7 for p50. */
uint64_t cpl_samples_needed(double q);

enum { CPL_WINDOWS_MAX = 4096 };

typedef struct cpl_measure {
    uint64_t requests, failed; /* of the measured ones: answered well, not so */
    double seconds;            /* length of the window */
    double pairs_per_s;        /* pairs of the answered requests over it; open loop: of those answered in it */
    cpl_interval throughput;   /* over equal stretches of the window, each at least two mean latencies long */
    cpl_histogram latency_ns;  /* due to done, answered requests only */
    double in_flight_mean;     /* time-weighted, sent to done, warm-up and cool-down requests included */
    uint32_t in_flight_max;
    double window_s; /* 1, or shorter where the run has fewer than three whole seconds */
    uint32_t windows;
    double window_rate[CPL_WINDOWS_MAX]; /* pairs/s in each */
    double window_p95;                   /* 95th percentile over the windows */
    double latency_drift_ratio; /* mean latency of the last third of the requests over the first's; 0: too few */
    bool latency_rose;          /* the middle third's is between them */
    double drift_ratio;         /* fastest third of the run over the slowest, throughput; 0 where there is too little */
} cpl_measure;

/* [from_ns, to_ns) is the window: from the start of the first measured request to the start of the first one after
 * them, so the load is whole at both ends. A request's pairs are spread evenly over its time in flight wherever a part
 * of the window is looked at (windows, thirds, stretches), so requests longer than a window don't show as bursts.
 * `open`: requests went out by a schedule. Only CPL_NO_MEMORY can happen. */
cpl_status cpl_measure_samples(cpl_measure *out, const cpl_sample *samples, size_t n, uint64_t from_ns, uint64_t to_ns,
                               uint32_t pairs_per_request, bool open, cpl_error *err);

#endif
