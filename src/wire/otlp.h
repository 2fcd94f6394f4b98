/* SPDX-License-Identifier: Apache-2.0 */
/* otlp.h - spans of finished requests to an OpenTelemetry collector: OTLP over HTTP, as JSON.
 *
 * Recording copies a fixed record into a bounded queue and never waits; a full queue drops and counts. A thread of its
 * own sends batches. */
#ifndef CPL_WIRE_OTLP_H
#define CPL_WIRE_OTLP_H

#include "base/buf.h"
#include "wire/trace.h"

typedef struct cpl_otlp cpl_otlp;

typedef struct cpl_otlp_options {
    const char *endpoint; /* "http://HOST:PORT" or with a path; without one "/v1/traces" */
    const char *service;  /* service.name */
    uint32_t queue_max;   /* requests that wait to be sent */
    uint32_t batch_max;   /* requests a message */
    uint32_t interval_ms; /* a message at least that often while something waits */
    const cpl_log *log;
} cpl_otlp_options;

/* One request: a span of the server and one below it for each stage that took time. */
typedef struct cpl_otlp_record {
    cpl_trace_context context; /* trace; span: the server's own */
    uint8_t parent[8];         /* all 0: none */
    cpl_trace_times times;
    const char *method; /* constant: "/rerank" */
    char model[64];
    uint32_t items;
    uint64_t tokens, passes;
    int grpc_status; /* 0: ok */
    char error[96];
} cpl_otlp_record;

typedef struct cpl_otlp_counts {
    uint64_t sent, dropped, refused; /* requests: sent; lost to a full queue or at the end; refused by the collector */
    uint64_t failures;               /* messages that didn't get through and were tried again */
} cpl_otlp_counts;

/* CPL_INVALID when the endpoint is none. The collector need not be there. */
cpl_status cpl_otlp_open(cpl_otlp **out, const cpl_otlp_options *options, cpl_error *err);
/* Sends what waits, in one last try of two seconds at most. NULL is fine. */
void cpl_otlp_close(cpl_otlp *o);
/* Any thread. */
void cpl_otlp_record_add(cpl_otlp *o, const cpl_otlp_record *r);
void cpl_otlp_count(cpl_otlp *o, cpl_otlp_counts *out);

/* The message for n records; wall_ns: what the monotonic clock's 0 is in Unix time. */
void cpl_otlp_encode(cpl_buf *out, const cpl_otlp_record *records, size_t n, const char *service, uint64_t wall_ns);

/* otlp_post.c: one POST of a JSON body, blocking. CPL_OK: *http_status is the answer's. */
typedef struct cpl_otlp_target {
    char host[256], path[512]; /* "HOST:PORT" */
} cpl_otlp_target;
cpl_status cpl_otlp_target_parse(cpl_otlp_target *out, const char *endpoint, cpl_error *err);
cpl_status cpl_otlp_post(const cpl_otlp_target *to, const char *body, size_t n, uint32_t timeout_ms, int *http_status,
                         cpl_error *err);

#endif
