/* SPDX-License-Identifier: Apache-2.0 */
/* otlp.c - the exporter: a bounded queue of finished requests, and a thread that turns them into OTLP's JSON.
 *
 * The one idea: a request pays for copying a record of fixed size under an uncontended lock, and nothing else; text,
 * sockets and waiting are the thread's. A message that doesn't get through is tried again, later each time (to half a
 * minute), while new requests fill the queue; what then finds no room is dropped and counted, oldest kept, since a
 * collector that was away wants to know how it began. What the collector refuses (4xx other than 429) is not sent
 * twice.
 *
 * Threads: any for adding and counting; the exporter's own. */
#include "wire/otlp.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/system.h"
#include "base/thread.h"

enum { TIMEOUT_MS = 5000, LAST_TIMEOUT_MS = 2000, PAUSE_MS_MAX = 30000 };

struct cpl_otlp {
    cpl_otlp_options options;
    cpl_otlp_target target;
    char service[128];
    cpl_thread thread;
    cpl_buf body; /* the thread's */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    cpl_otlp_record *ring; /* queue_max of them */
    size_t first, count;
    bool stopping;
    cpl_otlp_counts counts;
};

/* ---- JSON ------------------------------------------------------------------------------------------------------ */

static void put_hex(cpl_json_writer *w, const char *key, const uint8_t *bytes, size_t n)
{
    char text[33];
    for (size_t i = 0; i < n; i++) {
        text[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        text[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    text[2 * n] = 0;
    cpl_json_text(w, key, text);
}

/* 64 bit numbers are strings in protobuf's JSON. */
static void put_number(cpl_json_writer *w, const char *key, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    cpl_json_text(w, key, text);
}

static void put_text_attribute(cpl_json_writer *w, const char *key, const char *value)
{
    cpl_json_open(w, NULL, '{');
    cpl_json_text(w, "key", key);
    cpl_json_open(w, "value", '{');
    cpl_json_text(w, "stringValue", value);
    cpl_json_close(w, '}');
    cpl_json_close(w, '}');
}

static void put_number_attribute(cpl_json_writer *w, const char *key, uint64_t value)
{
    cpl_json_open(w, NULL, '{');
    cpl_json_text(w, "key", key);
    cpl_json_open(w, "value", '{');
    put_number(w, "intValue", value);
    cpl_json_close(w, '}');
    cpl_json_close(w, '}');
}

static bool is_set(const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i]) return true;
    return false;
}

static void put_request(cpl_json_writer *w, const cpl_otlp_record *r, uint64_t wall_ns)
{
    enum { KIND_SERVER = 2, CODE_ERROR = 2 };
    cpl_json_open(w, NULL, '{');
    put_hex(w, "traceId", r->context.trace, 16);
    put_hex(w, "spanId", r->context.span, 8);
    if (is_set(r->parent, 8)) put_hex(w, "parentSpanId", r->parent, 8);
    cpl_json_text(w, "name", r->method);
    cpl_json_int(w, "kind", KIND_SERVER);
    put_number(w, "startTimeUnixNano", wall_ns + r->times.began_ns);
    put_number(w, "endTimeUnixNano", wall_ns + r->times.began_ns + cpl_trace_total_ns(&r->times));
    cpl_json_open(w, "attributes", '[');
    put_text_attribute(w, "couplet.model", r->model);
    put_number_attribute(w, "couplet.items", r->items);
    put_number_attribute(w, "couplet.tokens", r->tokens);
    put_number_attribute(w, "couplet.passes", r->passes);
    put_number_attribute(w, "rpc.grpc.status_code", (uint64_t)r->grpc_status);
    cpl_json_close(w, ']');
    if (r->grpc_status) {
        cpl_json_open(w, "status", '{');
        cpl_json_int(w, "code", CODE_ERROR);
        cpl_json_text(w, "message", r->error);
        cpl_json_close(w, '}');
    }
    cpl_json_close(w, '}');
}

/* A stage's span has the request's id with the stage's number in its last byte changed: unique within the trace. */
static void put_stage(cpl_json_writer *w, const cpl_otlp_record *r, int stage, uint64_t began_ns)
{
    enum { KIND_INTERNAL = 1 };
    uint8_t span[8];
    memcpy(span, r->context.span, 8);
    span[7] ^= (uint8_t)(stage + 1);
    cpl_json_open(w, NULL, '{');
    put_hex(w, "traceId", r->context.trace, 16);
    put_hex(w, "spanId", span, 8);
    put_hex(w, "parentSpanId", r->context.span, 8);
    cpl_json_text(w, "name", cpl_trace_stage_name((cpl_trace_stage)stage));
    cpl_json_int(w, "kind", KIND_INTERNAL);
    put_number(w, "startTimeUnixNano", began_ns);
    put_number(w, "endTimeUnixNano", began_ns + r->times.ns[stage]);
    cpl_json_close(w, '}');
}

void cpl_otlp_encode(cpl_buf *out, const cpl_otlp_record *records, size_t n, const char *service, uint64_t wall_ns)
{
    cpl_json_writer w = {.out = out};
    cpl_json_open(&w, NULL, '{');
    cpl_json_open(&w, "resourceSpans", '[');
    cpl_json_open(&w, NULL, '{');
    cpl_json_open(&w, "resource", '{');
    cpl_json_open(&w, "attributes", '[');
    put_text_attribute(&w, "service.name", service);
    put_text_attribute(&w, "service.version", COUPLET_VERSION);
    cpl_json_close(&w, ']');
    cpl_json_close(&w, '}');
    cpl_json_open(&w, "scopeSpans", '[');
    cpl_json_open(&w, NULL, '{');
    cpl_json_open(&w, "scope", '{');
    cpl_json_text(&w, "name", "couplet");
    cpl_json_text(&w, "version", COUPLET_VERSION);
    cpl_json_close(&w, '}');
    cpl_json_open(&w, "spans", '[');
    for (size_t i = 0; i < n; i++) {
        put_request(&w, &records[i], wall_ns);
        uint64_t at = wall_ns + records[i].times.began_ns;
        for (int k = 0; k < CPL_TRACE_STAGES; k++) {
            if (records[i].times.ns[k]) put_stage(&w, &records[i], k, at);
            at += records[i].times.ns[k];
        }
    }
    cpl_json_close(&w, ']');
    cpl_json_close(&w, '}');
    cpl_json_close(&w, ']');
    cpl_json_close(&w, '}');
    cpl_json_close(&w, ']');
    cpl_json_close(&w, '}');
}

/* ---- the thread ------------------------------------------------------------------------------------------------ */

static uint64_t wall_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* (locked) Sleeps until there is a batch, something to send and the interval over, or the end. */
static void sleep_for(cpl_otlp *o, uint64_t ms)
{
    uint64_t until = cpl_clock_ns() + ms * 1000000;
    cpl_system_cond_wait_until(&o->wake, &o->lock, until);
}

typedef enum outcome { SENT, AGAIN, REFUSED } outcome;

static outcome send_batch(cpl_otlp *o, uint32_t timeout_ms, cpl_error *err)
{
    int http_status = 0;
    if (cpl_buf_status(&o->body, err)) return REFUSED;
    if (cpl_otlp_post(&o->target, o->body.data, o->body.size, timeout_ms, &http_status, err)) return AGAIN;
    if (http_status / 100 == 2) return SENT;
    cpl_fail(err, CPL_UNAVAILABLE, "%s answers %d", o->target.host, http_status);
    return http_status == 429 || http_status >= 500 ? AGAIN : REFUSED;
}

/* (locked) The first n of the queue as a message. They stay in it: whoever adds only appends. */
static size_t write_batch(cpl_otlp *o)
{
    size_t n = o->count < o->options.batch_max ? o->count : o->options.batch_max;
    size_t whole = o->options.queue_max - o->first; /* up to the ring's end */
    if (n > whole) n = whole;
    const cpl_otlp_record *records = o->ring + o->first;
    pthread_mutex_unlock(&o->lock);
    cpl_buf_clear(&o->body);
    o->body.failed = false;
    cpl_otlp_encode(&o->body, records, n, o->service, wall_now_ns() - cpl_clock_ns());
    pthread_mutex_lock(&o->lock);
    return n;
}

/* (locked, gives the lock up meanwhile) True: the queue is shorter now. */
static bool export_some(cpl_otlp *o, bool last, bool *failing)
{
    cpl_error err = {0};
    size_t n = write_batch(o);
    pthread_mutex_unlock(&o->lock);
    outcome how = send_batch(o, last ? LAST_TIMEOUT_MS : TIMEOUT_MS, &err);
    if (how != SENT && !*failing)
        cpl_log_write(o->options.log, CPL_LOG_WARN, "spans can't be exported (server.otlp.endpoint): %s", err.what);
    if (how == SENT && *failing)
        cpl_log_write(o->options.log, CPL_LOG_INFO, "spans are exported to %s again", o->target.host);
    *failing = how != SENT;
    pthread_mutex_lock(&o->lock);
    if (how == AGAIN) {
        o->counts.failures++;
        return false;
    }
    *(how == SENT ? &o->counts.sent : &o->counts.refused) += n;
    o->first = (o->first + n) % o->options.queue_max;
    o->count -= n;
    return true;
}

static void run(void *arg)
{
    cpl_otlp *o = arg;
    uint64_t pause_ms = o->options.interval_ms;
    bool failing = false;
    pthread_mutex_lock(&o->lock);
    while (!o->stopping) {
        sleep_for(o, pause_ms);
        bool through = true;
        while (!o->stopping && through && o->count) through = export_some(o, false, &failing);
        pause_ms = through ? o->options.interval_ms : pause_ms * 2 < PAUSE_MS_MAX ? pause_ms * 2 : PAUSE_MS_MAX;
    }
    while (o->count && export_some(o, true, &failing)) continue;
    o->counts.dropped += o->count;
    pthread_mutex_unlock(&o->lock);
}

/* ---- open, add, close ------------------------------------------------------------------------------------------ */

cpl_status cpl_otlp_open(cpl_otlp **out, const cpl_otlp_options *options, cpl_error *err)
{
    *out = NULL;
    cpl_otlp *o = calloc(1, sizeof *o);
    if (!o) return cpl_fail_memory(err, sizeof *o);
    o->options = *options;
    snprintf(o->service, sizeof o->service, "%s", options->service);
    cpl_status st = cpl_otlp_target_parse(&o->target, options->endpoint, err);
    o->ring = st ? NULL : calloc(options->queue_max, sizeof *o->ring);
    if (!st && !o->ring) st = cpl_fail_memory(err, options->queue_max * sizeof *o->ring);
    pthread_mutex_init(&o->lock, NULL);
    cpl_system_cond_init(&o->wake);
    if (!st) st = cpl_thread_start(&o->thread, "cpl-otlp", -1, run, o, err);
    if (st) {
        cpl_otlp_close(o);
        return st;
    }
    *out = o;
    return CPL_OK;
}

void cpl_otlp_close(cpl_otlp *o)
{
    if (!o) return;
    pthread_mutex_lock(&o->lock);
    o->stopping = true;
    pthread_cond_broadcast(&o->wake);
    pthread_mutex_unlock(&o->lock);
    cpl_thread_join(&o->thread);
    if (o->counts.dropped || o->counts.refused)
        cpl_log_write(o->options.log, CPL_LOG_WARN, "spans of %llu requests were not exported, of %llu they were",
                      (unsigned long long)(o->counts.dropped + o->counts.refused), (unsigned long long)o->counts.sent);
    pthread_mutex_destroy(&o->lock);
    pthread_cond_destroy(&o->wake);
    cpl_buf_deinit(&o->body);
    free(o->ring);
    free(o);
}

void cpl_otlp_record_add(cpl_otlp *o, const cpl_otlp_record *r)
{
    pthread_mutex_lock(&o->lock);
    if (o->count == o->options.queue_max) {
        o->counts.dropped++;
    } else {
        o->ring[(o->first + o->count++) % o->options.queue_max] = *r;
        if (o->count == o->options.batch_max) pthread_cond_signal(&o->wake);
    }
    pthread_mutex_unlock(&o->lock);
}

void cpl_otlp_count(cpl_otlp *o, cpl_otlp_counts *out)
{
    pthread_mutex_lock(&o->lock);
    *out = o->counts;
    pthread_mutex_unlock(&o->lock);
}
