/* SPDX-License-Identifier: Apache-2.0 */
/* load.c - one run: connect, let the scenario send, log three times a request, compute at the end.
 * The one idea: requests are numbered as they start, and the window is [start of the first measured one, start of the
 * first one after them). Starts before it are warm-up, starts after it cool-down; the load never changes at its edges,
 * so the rate needs no correction for ramps.
 * Invariants: each slot has one request in flight at most; a slot whose request failed goes on, unless so many failed
 * in a row that the server is plainly gone; the server's totals are asked for at both edges of the window, on the same
 * connections. Threads: everything on the caller's.
 * Rejected: draining between warm-up and window (it measures the ramp twice); one thread a client (its own scheduling
 * would be part of the latency). */
#include "load/load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "load/priority.h"
#include "load/scenario.h"
#include "load/settle.h"
#include "net/client.h"

typedef struct load_slot {
    cpl_load *run;
    struct load_slot *next; /* open loop: in the free list */
    uint32_t index;
    uint64_t due_ns;
    bool measured;
} load_slot;

typedef struct load_edge {
    cpl_load *run;
    uint64_t at_ns, cpu_ns;
    cpl_server_totals totals;
    bool open;     /* reached */
    bool answered; /* the server's totals are here, or won't come */
} load_edge;

struct cpl_load {
    const cpl_load_run_options *options;
    const cpl_scenario *scenario;
    const cpl_workload *workload;
    const cpl_dialect *dialect;
    const char *path;
    const char *headers[2 * CPL_LOAD_HEADERS_MAX + 3]; /* the caller's, and the model's */
    cpl_client *client;
    cpl_load_result *result;
    load_slot **slots, *free_slots;
    uint32_t slot_count, slot_cap;
    void *scenario_state;
    load_edge from, to;
    cpl_sample *samples;
    size_t sample_count, sample_cap;
    cpl_slo_watch watch;
    cpl_settle settle;
    uint64_t begun_ns;
    uint64_t started, measured_started, measured_done, failures_in_a_row, timeout_ns;
    cpl_status status; /* why the run can't go on; CPL_OK while it can */
    cpl_error error;
};

uint32_t cpl_load_concurrency(const cpl_load *run) { return run->options->concurrency; }
const cpl_load_run_options *cpl_load_options_of(const cpl_load *run) { return run->options; }
void **cpl_load_scenario_state(cpl_load *run) { return &run->scenario_state; }
void cpl_load_at(cpl_load *run, uint64_t when_ns, void (*fn)(void *user), void *user)
{
    cpl_client_timer(run->client, when_ns, fn, user);
}

static void fatal(cpl_load *run, cpl_status st, const cpl_error *e)
{
    if (run->status) return;
    run->status = st;
    run->error = *e;
    cpl_client_stop(run->client);
}

bool cpl_load_over(const cpl_load *run)
{
    return run->status || run->result->gave_up || (run->to.open && run->measured_done == run->measured_started);
}

/* What is still in flight then is cool-down: the connections are closed on it. */
static void stop_when_over(cpl_load *run)
{
    if (cpl_load_over(run) && (!run->to.open || run->to.answered)) cpl_client_stop(run->client);
}

static void on_totals(void *user, const cpl_reply *reply)
{
    load_edge *edge = user;
    cpl_error e;
    edge->answered = true;
    if (reply->code == CPL_GRPC_OK) {
        if (cpl_server_totals_decode(&edge->totals, reply->data, reply->size, &e))
            snprintf(edge->totals.why, sizeof edge->totals.why, "%.190s", e.what);
    } else if (reply->code == CPL_GRPC_UNIMPLEMENTED) {
        snprintf(edge->totals.why, sizeof edge->totals.why, "the server doesn't offer couplet.v1.Stats");
    } else {
        snprintf(edge->totals.why, sizeof edge->totals.why, "couplet.v1.Stats answered %s: %.140s",
                 cpl_grpc_code_name(reply->code), reply->message);
    }
    stop_when_over(edge->run);
}

static void reach_edge(cpl_load *run, load_edge *edge, uint64_t now)
{
    edge->run = run;
    edge->open = true;
    edge->at_ns = now;
    edge->cpu_ns = cpl_clock_thread_cpu_ns();
    if (run->dialect->http1) {
        snprintf(edge->totals.why, sizeof edge->totals.why, "dialect '%s' has no totals", run->dialect->name);
        edge->answered = true;
        return;
    }
    snprintf(edge->totals.why, sizeof edge->totals.why, "the server did not answer couplet.v1.Stats");
    cpl_error e;
    cpl_status st =
        cpl_client_call(run->client, 0, CPL_SERVER_TOTALS_PATH, "", 0, NULL, run->timeout_ns, on_totals, edge, &e);
    if (st) fatal(run, st, &e);
}

static bool warm(cpl_load *run, uint64_t now)
{
    run->result->warmup = run->started;
    run->result->warmup_s = run->begun_ns && now > run->begun_ns ? (double)(now - run->begun_ns) / 1e9 : 0;
    if (!run->options->warmup_stable || run->settle.settled) return true;
    run->result->warmup_unstable = run->result->warmup_s >= CPL_LOAD_WARMUP_MAX_S;
    return run->result->warmup_unstable;
}

void cpl_load_close_window(cpl_load *run)
{
    if (run->from.open && !run->to.open) reach_edge(run, &run->to, cpl_clock_ns());
}

/* Opens or closes the window where request number `started` says so; true when that request is a measured one. */
static bool place_request(cpl_load *run, uint64_t now)
{
    const cpl_load_run_options *o = run->options;
    if (!run->from.open && run->started >= o->warmup && warm(run, now)) reach_edge(run, &run->from, now);
    if (!run->from.open) return false;
    if (!run->to.open && !run->scenario->at_once) {
        bool by_count = o->requests && run->measured_started >= o->requests;
        bool by_time =
            o->duration_s > 0 && (double)(now - run->from.at_ns) >= o->duration_s * 1e9 && run->measured_started > 0;
        const bool decided = o->early_stop && run->watch.verdict != CPL_SLO_OPEN;
        if (by_count || by_time || decided) {
            run->result->cut_by_time = !by_count && !decided && o->requests;
            reach_edge(run, &run->to, now);
        }
    }
    return !run->to.open;
}

static void log_sample(cpl_load *run, const cpl_sample *s)
{
    if (run->sample_count == run->sample_cap) {
        size_t cap = run->sample_cap * 2;
        cpl_sample *grown = realloc(run->samples, cap * sizeof *grown);
        if (!grown) {
            cpl_error e;
            fatal(run, cpl_fail_memory(&e, cap * sizeof *grown), &e);
            return;
        }
        run->samples = grown;
        run->sample_cap = cap;
    }
    run->samples[run->sample_count++] = *s;
}

const char *cpl_load_error_name(const cpl_load_errors *e, char out[32])
{
    if (e->http_status)
        snprintf(out, 32, "HTTP %d", e->http_status);
    else
        snprintf(out, 32, "%s", cpl_grpc_code_name(e->code));
    return out;
}

static void log_error(cpl_load *run, cpl_grpc_code code, int http_status, const char *message)
{
    cpl_load_result *r = run->result;
    uint32_t i = 0;
    while (i < r->error_kinds && (r->errors[i].code != code || r->errors[i].http_status != http_status)) i++;
    if (i == CPL_LOAD_ERROR_KINDS) i--; /* the last kind takes the rest */
    if (i == r->error_kinds) {
        r->error_kinds++;
        r->errors[i].code = code;
        r->errors[i].http_status = http_status;
        snprintf(r->errors[i].message, sizeof r->errors[i].message, "%.239s", message ? message : "");
    }
    r->errors[i].count++;
}

static void on_reply(void *user, const cpl_reply *reply)
{
    load_slot *slot = user;
    cpl_load *run = slot->run;
    cpl_error e = {0};
    cpl_grpc_code code = reply->code;
    const char *message = reply->message;
    int http_status = reply->http_status;
    if (code == CPL_GRPC_OK &&
        run->dialect->check(reply->data, reply->size, cpl_workload_pairs_per_request(run->workload), &e)) {
        code = CPL_GRPC_DATA_LOSS;
        message = e.what;
        http_status = 0;
    }
    uint64_t sent = reply->sent_ns > slot->due_ns ? reply->sent_ns : slot->due_ns;
    uint64_t done = reply->done_ns > sent ? reply->done_ns : cpl_clock_ns();
    cpl_sample s = {slot->due_ns, sent, done, slot->measured, code == CPL_GRPC_OK};
    log_sample(run, &s);
    run->measured_done += slot->measured;
    if (run->options->early_stop && slot->measured)
        cpl_slo_watch_add(&run->watch, s.ok && (double)(done - slot->due_ns) <= run->options->slo.ms * 1e6);
    if (run->options->warmup_stable && !run->from.open && s.ok) cpl_settle_add(&run->settle, done, done - slot->due_ns);
    if (code == CPL_GRPC_OK) {
        run->failures_in_a_row = 0;
    } else {
        log_error(run, code, http_status, message);
        /* A server that is offered too much refuses many in a row and is not gone. */
        uint64_t limit =
            run->scenario->open || run->scenario->at_once ? 10000 : 4 * (uint64_t)run->options->concurrency;
        if (++run->failures_in_a_row >= (limit > 100 ? limit : 100)) run->result->gave_up = true;
    }
    if (run->options->progress && slot->measured)
        run->options->progress(run->options->user, run->measured_done, run->options->requests);
    if (!cpl_load_over(run)) run->scenario->done(run, slot->index);
    stop_when_over(run);
}

/* ---- slots --------------------------------------------------------------------------------------------------- */

static bool add_slot(cpl_load *run)
{
    if (run->slot_count == run->slot_cap) {
        const uint32_t cap = run->slot_cap ? run->slot_cap * 2 : 64;
        load_slot **grown = realloc(run->slots, cap * sizeof *grown);
        if (!grown) return false;
        run->slots = grown;
        run->slot_cap = cap;
    }
    load_slot *slot = calloc(1, sizeof *slot);
    if (!slot) return false;
    *slot = (load_slot){.run = run, .index = run->slot_count};
    run->slots[run->slot_count++] = slot;
    return true;
}

uint32_t cpl_load_slot_take(cpl_load *run)
{
    load_slot *slot = run->free_slots;
    if (slot) {
        run->free_slots = slot->next;
        return slot->index;
    }
    cpl_error e;
    if (run->slot_count == CPL_LOAD_IN_FLIGHT_MAX) {
        run->result->gave_up = run->result->too_far_behind = true;
        cpl_client_stop(run->client);
    } else if (add_slot(run)) {
        return run->slot_count - 1;
    } else {
        fatal(run, cpl_fail_memory(&e, sizeof *slot), &e);
    }
    return UINT32_MAX;
}

void cpl_load_slot_give(cpl_load *run, uint32_t index)
{
    load_slot *slot = run->slots[index];
    slot->next = run->free_slots;
    run->free_slots = slot;
}

void cpl_load_send(cpl_load *run, uint32_t index, uint64_t due_ns)
{
    if (cpl_load_over(run)) return;
    load_slot *slot = run->slots[index];
    slot->due_ns = due_ns;
    if (!run->begun_ns) run->begun_ns = due_ns;
    slot->measured = place_request(run, due_ns);
    if (cpl_load_over(run)) { /* the window closed with nothing left to wait for */
        stop_when_over(run);
        return;
    }
    const uint32_t connection = run->scenario->open || run->scenario->at_once ? (uint32_t)run->started : index;
    cpl_text request = cpl_workload_request(run->workload, run->started++);
    run->measured_started += slot->measured;
    cpl_error e;
    cpl_status st = cpl_client_call(run->client, connection, run->path, request.data, request.size, run->headers,
                                    run->timeout_ns, on_reply, slot, &e);
    if (st == CPL_QUEUE_FULL) { /* every connection waits for an answer */
        run->result->gave_up = run->result->too_far_behind = true;
        cpl_client_stop(run->client);
    } else if (st) {
        fatal(run, st, &e);
    }
}

/* The caller's headers and, where the dialect wants the model's name in the metadata, that. */
static cpl_status gather_headers(cpl_load *run, cpl_error *err)
{
    const char *const *given = run->options->headers, *model = cpl_workload_model(run->workload);
    size_t n = 0;
    for (; given && given[n] && given[n + 1]; n += 2) {
        if (n / 2 == CPL_LOAD_HEADERS_MAX)
            return cpl_fail(err, CPL_INVALID, "more than %d headers", CPL_LOAD_HEADERS_MAX);
        run->headers[n] = given[n];
        run->headers[n + 1] = given[n + 1];
    }
    if (model && run->dialect->model_metadata) {
        run->headers[n] = "model";
        run->headers[n + 1] = model;
    }
    return CPL_OK;
}

static cpl_status check_options(const cpl_load_run_options *o, cpl_error *err)
{
    const bool open = o->scenario && (o->scenario->open || o->scenario->at_once);
    if (o->scenario && o->scenario->at_once && !o->requests)
        return cpl_fail(err, CPL_INVALID, "scenario '%s' needs a number of requests", o->scenario->name);
    if (o->scenario && o->scenario->at_once && o->requests + o->warmup > CPL_LOAD_IN_FLIGHT_MAX)
        return cpl_fail(err, CPL_INVALID, "scenario '%s' sends at most %d requests at once", o->scenario->name,
                        CPL_LOAD_IN_FLIGHT_MAX);
    if (o->early_stop && !(o->slo.part > 0))
        return cpl_fail(err, CPL_INVALID, "stopping early needs an objective with a percentile: p99=20ms");
    if ((!open && !o->concurrency) || o->concurrency > 100000)
        return cpl_fail(err, CPL_INVALID, "concurrency is %u: it must be between 1 and 100000", o->concurrency);
    if (!o->requests && o->duration_s <= 0)
        return cpl_fail(err, CPL_INVALID, "a run needs an end: give a number of requests, a duration, or both");
    return CPL_OK;
}

static cpl_status open_run(cpl_load *run, cpl_error *err)
{
    const cpl_load_run_options *o = run->options;
    cpl_load_result *r = run->result;
    r->concurrency = o->concurrency;
    r->open = run->scenario->open;
    r->scenario = run->scenario->name;
    r->slo = o->slo;
    r->at_once = run->scenario->at_once;
    if (o->selftest) r->selftest = *o->selftest;
    const bool http1 = run->dialect->http1;
    r->connections = o->connections                                  ? o->connections
                     : o->concurrency < 8 && !r->open && !r->at_once ? o->concurrency
                                                                     : 8;
    if (http1 && !r->open && !r->at_once) r->connections = o->concurrency; /* one request each at a time */
    r->pairs_per_request = cpl_workload_pairs_per_request(run->workload);
    r->asked = o->requests;
    cpl_slo_watch_init(&run->watch, &o->slo);
    run->timeout_ns = (uint64_t)((o->timeout_s > 0 ? o->timeout_s : 120) * 1e9);
    run->sample_cap = (size_t)(o->requests ? o->requests + o->warmup : 65536) + 4 * (size_t)o->concurrency;
    run->samples = malloc(run->sample_cap * sizeof *run->samples);
    if (!run->samples) return cpl_fail_memory(err, run->sample_cap * sizeof *run->samples);
    for (uint32_t i = 0; i < o->concurrency && !r->open && !r->at_once; i++)
        if (!add_slot(run)) return cpl_fail_memory(err, o->concurrency * sizeof **run->slots);
    cpl_client_options c = {.target = o->target, .connections = r->connections, .http1 = http1, .log = o->log};
    if (http1 && !o->connections) c.connections_max = CPL_LOAD_CONNECTIONS_MAX;
    return cpl_client_open(&run->client, &c, err);
}

/* What only the log tells: how late requests went out, and how many were answered in time. */
static void measure_schedule(cpl_load *run, double seconds)
{
    cpl_load_result *r = run->result;
    uint64_t measured = 0, within = 0;
    for (size_t i = 0; i < run->sample_count; i++) {
        const cpl_sample *s = &run->samples[i];
        if (!s->measured) continue;
        measured++;
        if (r->open) cpl_histogram_add(&r->lag_ns, s->sent_ns - s->due_ns);
        within += s->ok && (double)(s->done_ns - s->due_ns) <= r->slo.ms * 1e6;
    }
    if (seconds > 0 && r->open) r->offered = (double)measured / seconds;
    if (!(r->slo.ms > 0) || !measured) return;
    r->within_slo = (double)within / (double)measured;
    if (seconds > 0) r->goodput = (double)(within * r->pairs_per_request) / seconds;
}

static cpl_status finish_run(cpl_load *run, cpl_error *err)
{
    cpl_load_result *r = run->result;
    if (!run->from.open) run->from.at_ns = run->to.at_ns = 0; /* the warm-up never ended: nothing was measured */
    if (run->from.open && !run->to.open) {
        run->to.at_ns = cpl_clock_ns();
        run->to.cpu_ns = cpl_clock_thread_cpu_ns();
        snprintf(run->to.totals.why, sizeof run->to.totals.why, "the run was given up");
    }
    r->sent = run->started;
    r->slo_verdict = run->watch.verdict;
    r->repeats = cpl_workload_repeats(run->workload, run->started);
    cpl_server_totals_between(&r->server, &run->from.totals, &run->to.totals);
    r->server_config = run->from.totals.config;
    run->from.totals.config = NULL;
    double seconds = (double)(run->to.at_ns - run->from.at_ns) / 1e9;
    if (seconds > 0) r->client_cpu_cores = (double)(run->to.cpu_ns - run->from.cpu_ns) / 1e9 / seconds;
    measure_schedule(run, seconds);
    return cpl_measure_samples(&r->measure, run->samples, run->sample_count, run->from.at_ns, run->to.at_ns,
                               r->pairs_per_request, r->open, err);
}

cpl_status cpl_load_run(cpl_load_result **out, const cpl_load_run_options *options, const cpl_workload *workload,
                        cpl_error *err)
{
    *out = NULL;
    cpl_status st = check_options(options, err);
    if (st) return st;
    cpl_load *run = calloc(1, sizeof *run);
    cpl_load_result *r = calloc(1, sizeof *r);
    if (!run || !r) {
        free(run);
        free(r);
        return cpl_fail_memory(err, sizeof *run + sizeof *r);
    }
    run->options = options;
    run->scenario = options->scenario ? options->scenario : &cpl_scenario_closed;
    run->workload = workload;
    run->dialect = cpl_workload_dialect(workload);
    run->result = r;
    run->path = options->path ? options->path : cpl_workload_path(workload);
    st = gather_headers(run, err);
    if (!st) st = open_run(run, err);
    cpl_priority priority = {.name = "normal"};
    if (!st && run->scenario->open) cpl_priority_raise(&priority);
    r->priority = priority.name;
    if (!st) st = run->scenario->begin(run, err);
    if (!st) cpl_client_run(run->client, UINT64_MAX, !run->scenario->open && !run->scenario->at_once);
    cpl_priority_restore(&priority);
    if (run->scenario->end) run->scenario->end(run);
    if (!st && run->status) {
        st = run->status;
        if (err) *err = run->error;
    }
    if (!st) st = finish_run(run, err);
    cpl_client_close(run->client);
    cpl_server_totals_deinit(&run->from.totals);
    cpl_server_totals_deinit(&run->to.totals);
    for (uint32_t i = 0; i < run->slot_count; i++) free(run->slots[i]);
    free(run->slots);
    free(run->samples);
    free(run);
    *out = r;
    return st;
}

void cpl_load_result_close(cpl_load_result *r)
{
    if (!r) return;
    cpl_server_totals_deinit(&r->server);
    free(r->server_config);
    free(r);
}
