/* SPDX-License-Identifier: Apache-2.0 */
/* row.h - the rounds of one row taken together. */
#ifndef CPL_LAB_ROW_H
#define CPL_LAB_ROW_H

#include "lab/result.h"
#include "load/load.h"

typedef struct cpl_lab_row {
    cpl_histogram latency_ns; /* of all rounds: percentiles are never averaged */
    cpl_histogram lag_ns;
    bool open;
    double due, slo_ms, in_time_pairs, within; /* requests due, pairs answered in time, requests so */
    cpl_server_totals server;
    double window_rate[CPL_WINDOWS_MAX];
    size_t windows;
    double window_s;
    cpl_interval inside; /* of the last round, which is the only one where rounds is 1 */
    double throughput[CPL_LAB_ROUNDS_MAX];
    uint32_t rounds, invalid_rounds, beyond_rounds;
    uint32_t retaken; /* rounds that were measured a second time */
    uint64_t asked, requests, failed, repeats, connections;
    double seconds, in_flight_seconds, client_cpu_s;
    uint32_t in_flight_max;
    char reasons[400]; /* of the first round that wasn't valid */
    char note[200];    /* of the first round that had one */
    cpl_load_errors errors[CPL_LOAD_ERROR_KINDS];
    uint32_t error_kinds;
    const char *round_latency[CPL_LAB_ROUNDS_MAX];
    double joules, energy_seconds; /* seconds 0: not metered */
    bool shared_server;            /* its totals are of other rows too: not kept */
    const char *not_run;           /* why its server can't be; NULL when it can */
} cpl_lab_row;

/* The round's latencies are kept in into's arena as well. */
void cpl_lab_row_add(cpl_lab_row *row, const cpl_load_result *r, cpl_lab_result *into);
/* Everything but server, batch and concurrency. Texts go to r's arena. */
void cpl_lab_row_finish(const cpl_lab_row *row, uint64_t batch, cpl_lab_point *out, cpl_lab_result *r);

#endif
