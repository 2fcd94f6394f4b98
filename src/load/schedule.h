/* SPDX-License-Identifier: Apache-2.0 */
/* schedule.h - when each request of an open loop is due: a sequence of times that depends on nothing but its kind, rate
 * and seed (or its trace), so it is fixed before the run and no server can slow it down. */
#ifndef CPL_LOAD_SCHEDULE_H
#define CPL_LOAD_SCHEDULE_H

#include "couplet.h"

typedef enum cpl_arrivals {
    CPL_ARRIVALS_POISSON,  /* independent: gaps are exponential with mean 1 / rate */
    CPL_ARRIVALS_CONSTANT, /* every 1 / rate */
    CPL_ARRIVALS_REPLAY    /* as in the trace, over and over, its mean gap between two rounds */
} cpl_arrivals;

/* Arrival times, seconds from the start, not falling. */
typedef struct cpl_trace {
    double *at_s;
    size_t count;
} cpl_trace;

/* A file of one arrival a line: seconds, or JSON lines {"at_s": seconds}. At least two; the first is made 0. Errors
 * name file and line. */
cpl_status cpl_trace_load(cpl_trace *out, const char *path, cpl_error *err);
void cpl_trace_deinit(cpl_trace *t);
/* Arrivals a second over the whole trace. */
double cpl_trace_rate(const cpl_trace *t);

typedef struct cpl_schedule {
    cpl_arrivals kind;
    double rate; /* arrivals a second; REPLAY: the trace's */
    const cpl_trace *trace;
    uint64_t state, count;
    double at_s;
} cpl_schedule;

/* The seed is of arrivals alone: texts have their own. trace is borrowed, NULL unless REPLAY. */
void cpl_schedule_init(cpl_schedule *s, cpl_arrivals kind, double rate, uint64_t seed, const cpl_trace *trace);
/* When the next request is due, in ns from the start; the first at 0. */
uint64_t cpl_schedule_next(cpl_schedule *s);

#endif
