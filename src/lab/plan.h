/* SPDX-License-Identifier: Apache-2.0 */
/* plan.h - an experiment file turned into what will be run: servers, rows, rounds. */
#ifndef CPL_LAB_PLAN_H
#define CPL_LAB_PLAN_H

#include "base/arena.h"
#include "load/load.h"
#include "serve/config.h"

/* One combination of swept server settings. */
typedef struct cpl_lab_server {
    const char *label;       /* "batching.timeout_ms=5, workers=2"; "" without a sweep */
    const char *const *sets; /* the same as "key=value", NULL-terminated */
} cpl_lab_server;

/* Each server is driven with every batch size at every concurrency, `rounds` times; of several models each is a row. */
typedef struct cpl_lab_plan {
    const char *name; /* experiment.name, else the file's name without folder and suffix */
    cpl_lab_server *servers;
    size_t server_count;
    uint32_t *batches; /* pairs a request */
    size_t batch_count;
    uint32_t *levels; /* closed: requests in flight; poisson, constant: requests a second; replay: one, 0 */
    size_t level_count;
    uint64_t requests, warmup; /* a row and round; warm-up at least one request a client */
    double duration_s;         /* a row and round; 0: no limit */
    double duration_max_s;     /* it may be extended to so much; 0: it isn't */
    uint32_t rounds, connections;
    uint64_t quality_pairs; /* for the accuracy measured beside; 0: none */
    uint64_t seed;
    const cpl_scenario *scenario;
    const char **models; /* what requests call them, all driven at once; one NULL where there is only one */
    size_t model_count;
    const char *model_name; /* what a dialect that must name one calls the only model; NULL: none is named */
    bool inference_only;    /* experiment.mode */
    const char *trace;      /* NULL unless replay */
    cpl_slo slo;            /* ms 0: none */
    bool early_stop, warmup_stable;
    const cpl_dialect *dialect;
    cpl_arena arena;
} cpl_lab_plan;

/* What --quick leaves of a row: enough to see that it works, not enough to publish. */
enum {
    CPL_LAB_QUICK_REQUESTS = 20,
    CPL_LAB_QUICK_WARMUP = 2,
    CPL_LAB_QUICK_LIST = 3,   /* of swept settings, batch sizes, levels: first, middle, last */
    CPL_LAB_QUICK_PAIRS = 256 /* in flight in a closed loop, where a row with fewer is left */
};
#define CPL_LAB_QUICK_SECONDS 0.6
#define CPL_LAB_LATENCIES     6.5 /* a row is judged by its parts, which must each hold some: verdict.c */

/* The configuration is needed only here. More than 1,000 rows are CPL_INVALID. */
cpl_status cpl_lab_plan_open(cpl_lab_plan **out, const cpl_config *c, const char *file, bool quick, cpl_error *err);
void cpl_lab_plan_close(cpl_lab_plan *p); /* NULL is fine */
size_t cpl_lab_plan_rows(const cpl_lab_plan *p);
/* Seconds of a row with so many pairs in flight, where `rate` pairs/s are expected (0: nothing is known): the plan's,
 * or what CPL_LAB_LATENCIES of it take, within duration_max_s. */
double cpl_lab_plan_seconds(const cpl_lab_plan *p, uint64_t pairs_in_flight, double rate);
/* Files whose names start with the same number are compared with each other: "16a_x" and "16b_y" are. */
bool cpl_lab_plan_related(const char *name, const char *other);

#endif
