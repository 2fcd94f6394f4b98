/* SPDX-License-Identifier: Apache-2.0 */
/* window.h - latencies of the last minute: a ring of histograms, merged when somebody asks. */
#ifndef CPL_WIRE_WINDOW_H
#define CPL_WIRE_WINDOW_H

#include "base/histogram.h"
#include "couplet.h"

typedef struct cpl_window cpl_window;

typedef struct cpl_window_sum {
    uint64_t requests, pairs;               /* since open */
    uint64_t recent_requests, recent_pairs; /* in the window */
    uint64_t recent_ns;                     /* how long the window reaches back */
    cpl_histogram latency_ns;               /* in the window */
} cpl_window_sum;

cpl_status cpl_window_open(cpl_window **out, uint64_t now_ns, cpl_error *err);
void cpl_window_close(cpl_window *w); /* NULL is fine */
/* Any thread; time must not go back by more than the window. */
void cpl_window_add(cpl_window *w, uint64_t now_ns, uint64_t latency_ns, uint64_t pairs);
/* Adds what w holds to *sum (zeroed by the caller before the first). Any thread. */
void cpl_window_merge(cpl_window_sum *sum, cpl_window *w, uint64_t now_ns);

#endif
