/* SPDX-License-Identifier: Apache-2.0 */
/* result.h - what one experiment gave: the document NAME.json, from which every page is made. */
#ifndef CPL_LAB_RESULT_H
#define CPL_LAB_RESULT_H

#include "base/arena.h"
#include "base/json.h"
#include "load/measure.h"

enum { CPL_LAB_ROUNDS_MAX = 20, CPL_LAB_PRECISIONS_MAX = 8, CPL_LAB_VERDICT = 100 };

/* One row: a server setting, pairs a request, requests in flight. Times in milliseconds, rates in pairs a second;
 * counts and times are over all rounds. */
typedef struct cpl_lab_point {
    const char *server; /* swept settings, "batching.timeout_ms=5"; "" when none */
    uint64_t batch, concurrency, connections, rounds;
    uint64_t rate;              /* open loop: requests a second asked for, 0 for a trace; concurrency is 0 then */
    double offered, lag_p99_ms; /* open loop: requests a second that were due; the generator's own delay */
    double slo_ms, goodput,
        within_slo; /* pairs/s of requests answered in time, and their part; slo_ms 0: not counted */
    uint64_t asked, requests, failed, pairs, repeats; /* asked and requests: measured ones */
    double seconds;
    double latency_mean_ms, latency_p50_ms, latency_p95_ms, latency_p99_ms, latency_max_ms;
    double throughput, throughput_low, throughput_high; /* 95 % interval; equal to throughput where not known */
    bool interval_known;
    double throughput_p95, window_s;
    double in_flight_mean;
    uint64_t in_flight_max;
    bool server_known; /* what follows up to rss came from the server */
    double pass_sequences_mean, pass_sequences_p95, pass_tokens_mean, tokens_per_sequence;
    double sequences_per_pair; /* 1 for a cross-encoder, up to 2 for an embedder */
    uint64_t passes;
    double pass_mean_ms; /* a worker's time in a pass */
    double pass_padding; /* of the tokens a backend worked on, the part that was padding */
    bool padding_known;  /* a packed engine has none and says 0; not known: the backend doesn't tell */
    const char
        *pass_sequences_counts; /* sparse.h: passes by their sequences; buckets below 256 are the number itself */
    double queue_mean_ms, queue_p95_ms, compute_mean_ms, tokenize_mean_ms;
    double server_cores, busy_cores, rss_mb;
    double client_cores;
    bool valid;
    bool beyond_capacity; /* open loop: more was offered than the server takes; throughput says what it does take */
    bool p50_enough, p95_enough, p99_enough;       /* the percentile has its samples and isn't of a queue that grew */
    double highest_percentile, latency_highest_ms; /* of p50 to p99.99 the highest that has them, 95 say; 0: none */
    uint64_t retaken;    /* rounds that were measured again because the machine was unsteady */
    const char *reasons; /* why it isn't valid, which percentiles lack samples, what failed; "" */
    const char *errors;  /* "UNAVAILABLE x 3: message"; "" */
    const char *not_run; /* why this row can't be run here; "" when it was. It has no request then */
    double watts;        /* over the row, warm-up included; 0: not known */
    double round_throughput[CPL_LAB_ROUNDS_MAX];
    const char *round_latency[CPL_LAB_ROUNDS_MAX]; /* ns, sparse.h: what percentiles are merged and compared from */
} cpl_lab_point;

typedef struct cpl_lab_machine {
    const char *cpu, *isa, *governor, *system, *virtualization;
    uint64_t cores;
    double memory_gib;
} cpl_lab_machine;

typedef struct cpl_lab_build {
    const char *version, *compiler, *flags, *commit;
    const char *program; /* digest of the executable: equal ones are the same program */
} cpl_lab_build;

/* A backend as probed on that machine: a word for each precision, "yes" or why not. */
typedef struct cpl_lab_probe {
    const char *backend, *device, *reason; /* reason: why it isn't available; "" when it is */
    bool available;
    const char *precisions[CPL_LAB_PRECISIONS_MAX]; /* by cpl_precision; "yes" or the reason */
} cpl_lab_probe;

/* Accuracy of the precision that ran against fp32 of the same engine, on the experiment's own pairs. */
typedef struct cpl_lab_quality {
    uint64_t pairs;                                                /* 0: not measured */
    double spearman, kendall, ndcg10, cosine_mean, max_difference; /* the last over fp32's standard deviation */
} cpl_lab_quality;

typedef struct cpl_lab_result {
    const char *name, *file, *description, *phase, *date, *command;
    const char *status;      /* "ran", "not run", "failed" */
    const char *reason;      /* of the last two */
    const char *overrides;   /* "--set model.backend=native ..." or "" */
    const char *interleaved; /* names of the experiments its rounds alternated with, "" when none */
    bool quick;
    const char *target; /* server that was up already; "" when started by the runner */
    const char *backend_asked, *backend, *device, *isa;
    const char *precision_requested, *precision_effective, *precision_reason;
    const char *mode;     /* of the server: "full" or "" everything; tokenize, inference: a part of the work */
    uint64_t models;      /* driven at once, a row each; 0 in results from before that could be */
    const char *scenario; /* "" in results from before there was more than the closed loop */
    const char *model_asked, *model, *model_note, *batching;
    const char *pairs_source, *config;
    uint64_t seed, weight_bytes, workers, pass_tokens_max;
    double duration_s;
    uint64_t requests_asked, warmup, ready_ms_max;
    cpl_lab_machine machine;
    cpl_lab_build build;
    cpl_lab_quality quality;
    const char *energy; /* what watts were read from, or why they weren't */
    cpl_lab_probe *probes;
    size_t probe_count;
    cpl_lab_point *points;
    size_t point_count;
    cpl_arena arena; /* texts and arrays */
    json_t *root;    /* of a result that was read */
} cpl_lab_result;

/* A zeroed result with an arena. */
cpl_status cpl_lab_result_open(cpl_lab_result **out, cpl_error *err);
void cpl_lab_result_close(cpl_lab_result *r); /* NULL is fine */
/* Copies into the arena; "" when memory is out. */
const char *cpl_lab_text(cpl_lab_result *r, const char *fmt, ...) CPL_PRINTF(2, 3);

void cpl_lab_result_write(const cpl_lab_result *r, cpl_buf *out);
/* `data` is a whole document; `file` for errors. */
cpl_status cpl_lab_result_parse(cpl_lab_result **out, const char *file, const char *data, size_t n, cpl_error *err);

typedef struct cpl_lab_results {
    cpl_lab_result **at; /* by name, rising */
    size_t count, cap;
} cpl_lab_results;
/* Every *.json of the folder that is a result; other JSON files are left alone. */
cpl_status cpl_lab_results_load(cpl_lab_results *out, const char *dir, cpl_error *err);
cpl_status cpl_lab_results_add(cpl_lab_results *out, cpl_lab_result *take,
                               cpl_error *err); /* takes it, also on failure */
void cpl_lab_results_deinit(cpl_lab_results *r);

/* The row with the highest throughput among the VALID ones, or where there is none among the others; NULL when none has
 * an answer. */
const cpl_lab_point *cpl_lab_best(const cpl_lab_result *r);
cpl_interval cpl_lab_interval(const cpl_lab_point *p);
/* "VALID", or "INVALID: " and why, of the row's p50, p95 or p99 (50, 95, 99). */
void cpl_lab_percentile_verdict(const cpl_lab_point *p, int percentile, char out[CPL_LAB_VERDICT]);
/* "VALID", "VALID, beyond capacity", "INVALID". */
const char *cpl_lab_verdict_name(const cpl_lab_point *p);

#endif
