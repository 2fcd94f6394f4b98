/* SPDX-License-Identifier: Apache-2.0 */
/* load.h - drives a server with a workload and says how it went. One run: warm-up, the measured window, cool-down (the
 * load is kept up until the last measured request is answered), all over one set of connections on the calling thread.
 */
#ifndef CPL_LOAD_LOAD_H
#define CPL_LOAD_LOAD_H

#include "load/measure.h"
#include "load/server_totals.h"
#include "load/slo.h"
#include "load/workload.h"
#include "net/call.h"

typedef struct cpl_load cpl_load; /* a run under way; scenario.h */

/* When requests go out. */
typedef struct cpl_scenario {
    const char *name;
    bool open;    /* sends by a schedule, not by answers */
    bool at_once; /* sends everything at once: only the throughput means something */
    /* Begins to send; cpl_load_send and cpl_load_finished tell it what it needs. */
    cpl_status (*begin)(cpl_load *run, cpl_error *err);
    /* A request came back; `slot` is what it was sent with. */
    void (*done)(cpl_load *run, uint32_t slot);
    void (*end)(cpl_load *run); /* frees what begin made, also after it failed; may be NULL */
} cpl_scenario;

/* One that is still to come is CPL_UNSUPPORTED by name; a wrong name lists the right ones. */
cpl_status cpl_scenario_find(const cpl_scenario **out, const char *name, cpl_error *err);

/* What the generator did against a server that answers at once (selftest.h). */
typedef struct cpl_selftest {
    bool ran, open;
    double requests_per_s;         /* closed loop */
    double cpu_us;                 /* of the generator's thread, a request */
    double lag_p50_ms, lag_p99_ms; /* open: from due to sent */
    double achieved;               /* open: answered over due */
} cpl_selftest;

typedef struct cpl_load_run_options {
    const char *target;           /* client.h */
    const cpl_scenario *scenario; /* NULL: closed */
    uint32_t concurrency;         /* requests in flight; an open loop has no such number, 0 then */
    uint32_t connections;         /* 0: one for each in flight, at most 8 */
    uint64_t requests;            /* measured ones; 0: no limit */
    uint64_t warmup;              /* sent before, not measured */
    double duration_s;            /* of the measured window; 0: no limit. One of the two limits must be there */
    double timeout_s;             /* a request; 0: 120 */
    double rate;                  /* open loops: requests a second */
    uint64_t seed;                /* ... of their arrivals */
    const char *trace;            /* replay: file of arrivals (schedule.h) */
    const char *const *headers;   /* sent with every request: {name, value, ..., NULL}; may be NULL */
    const char *path;             /* of the requests, instead of the dialect's; NULL: the dialect's */
    const cpl_selftest *selftest; /* kept in the result and judged with it; NULL: none was made */
    cpl_slo slo;                  /* goodput counts requests answered within slo.ms; 0: not counted */
    bool early_stop;              /* ends the window once slo (with a part) holds or fails with 99 % confidence */
    bool warmup_stable;           /* warm up until latency has settled as well, for at most CPL_LOAD_WARMUP_MAX_S */
    void (*progress)(void *user, uint64_t measured, uint64_t asked); /* asked 0: limited by time only; may be NULL */
    void *user;
    const cpl_log *log;
} cpl_load_run_options;

#define CPL_LOAD_WARMUP_MAX_S 10.0

enum { CPL_LOAD_ERROR_KINDS = 32, CPL_LOAD_HEADERS_MAX = 16, CPL_LOAD_CONNECTIONS_MAX = 8192 };

/* Failed requests of one kind: a gRPC code, or an HTTP status. */
typedef struct cpl_load_errors {
    cpl_grpc_code code;
    int http_status;   /* 0: not from an HTTP reply */
    uint64_t count;    /* in the whole run, warm-up included */
    char message[240]; /* of the first */
} cpl_load_errors;

typedef struct cpl_load_result {
    cpl_measure measure;
    uint64_t asked;      /* measured requests asked for; 0: by time only */
    uint64_t sent;       /* in all, warm-up and cool-down included */
    uint64_t repeats;    /* pairs among those sent that had been sent before */
    bool cut_by_time;    /* the duration ended the window before `asked` requests had been started */
    bool gave_up;        /* too many failures in a row */
    bool too_far_behind; /* open loop: as many in flight as can be */
    bool open;
    const char *scenario;
    uint32_t concurrency, connections, pairs_per_request;
    double offered;              /* open loop: requests a second that were due in the window */
    cpl_slo slo;                 /* as asked */
    cpl_slo_verdict slo_verdict; /* with early_stop: what ended the window, OPEN when something else did */
    bool at_once;
    uint64_t warmup; /* requests before the window */
    double warmup_s;
    bool warmup_unstable;    /* warmup_stable was asked for and time was up first */
    double goodput;          /* pairs/s of requests answered within it */
    double within_slo;       /* part of the measured requests that were */
    cpl_histogram lag_ns;    /* open loop, measured requests: from due to sent, the generator's own delay */
    double client_cpu_cores; /* of the generator's thread, over the window */
    const char *priority;    /* of that thread: "real-time", "nice -15" or "normal" */
    cpl_selftest selftest;   /* ran: false when none was made */
    cpl_load_errors errors[CPL_LOAD_ERROR_KINDS];
    uint32_t error_kinds;
    cpl_server_totals server; /* over the window */
    char *server_config;      /* its effective configuration, owned; NULL when not known */
} cpl_load_result;

/* "RESOURCE_EXHAUSTED", "HTTP 429": what is counted, for reports. */
const char *cpl_load_error_name(const cpl_load_errors *e, char out[32]);

/* *out is filled also when some requests failed: that is a result. Fails when the server can't be reached or the
 * options make no sense. Release *out with cpl_load_result_close in any case. */
cpl_status cpl_load_run(cpl_load_result **out, const cpl_load_run_options *options, const cpl_workload *workload,
                        cpl_error *err);
void cpl_load_result_close(cpl_load_result *r); /* NULL is fine */

#endif
