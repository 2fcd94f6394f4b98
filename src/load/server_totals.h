/* SPDX-License-Identifier: Apache-2.0 */
/* server_totals.h - what the server counted between two looks at it (couplet.v1.Stats, proto/stats.proto). */
#ifndef CPL_LOAD_SERVER_TOTALS_H
#define CPL_LOAD_SERVER_TOTALS_H

#include <stdbool.h>

#include "base/histogram.h"
#include "couplet.h"

#define CPL_SERVER_TOTALS_PATH "/couplet.v1.Stats/Get"

typedef struct cpl_server_totals {
    bool known; /* false: nothing was read, and `why` says so */
    char why[200];
    char version[32];
    uint64_t pid, monotonic_ns, rss_bytes, cpu_ns;
    uint64_t tasks_done, tasks_failed, sequences, tokens, passes, busy_ns;
    uint64_t padding_tokens; /* computed beside tokens by backends that pad */
    uint64_t ids_made;       /* mode inference: sequences that had to be tokenized after all */
    char mode[16];           /* full, tokenize, inference */
    cpl_histogram pass_sequences, pass_tokens, queue_ns, compute_ns, tokenize_ns;
    char model[256] /* folder, or name where that isn't told */, model_note[256], architecture[64], backend[64],
        isa[64];
    char precision_requested[16], precision_effective[16], precision_reason[200];
    uint64_t weight_bytes;
    uint32_t max_length, workers, batch_tokens, net_threads;
    char *config; /* owned; NULL when none came */
} cpl_server_totals;

/* A StatsReply as it came. On failure out->known is false. Release with cpl_server_totals_deinit. */
cpl_status cpl_server_totals_decode(cpl_server_totals *out, const uint8_t *data, size_t size, cpl_error *err);
void cpl_server_totals_deinit(cpl_server_totals *t);

/* after - before: counters and histograms; everything else as `after` says (config is not copied). Where either isn't
 * known, or they are not of the same process, out->known is false. */
void cpl_server_totals_between(cpl_server_totals *out, const cpl_server_totals *before, const cpl_server_totals *after);

/* Counters and histograms of `from` added to `into` (rounds of one point). */
void cpl_server_totals_merge(cpl_server_totals *into, const cpl_server_totals *from);

#endif
