/* SPDX-License-Identifier: Apache-2.0 */
/* selftest.c - a null server in this process and two short runs against it. The one idea: the generator is measured by
 * itself, with the code, sizes and connections of the run that follows, so nothing about it has to be assumed.
 * Threads: the server's one loop; the runs are on the caller's. Its replies are written once and only copied. */
#include "load/selftest.h"

#include <stdlib.h>

#include "base/error.h"
#include "load/scenario.h"
#include "net/server.h"

enum { CLOSED_REQUESTS = 5000, OPEN_IN_FLIGHT = 64 };
#define CLOSED_SECONDS 0.2
#define OPEN_SECONDS   0.25

struct cpl_null_server {
    cpl_server *server;
    cpl_method method;
    cpl_buf reply;
    bool http1;
};

static void answer(cpl_call *call, const uint8_t *data, size_t n, void *service)
{
    (void)data, (void)n;
    const cpl_null_server *s = service;
    if (s->http1) {
        cpl_call_respond(call, 200, "application/json", s->reply.data, s->reply.size);
    } else {
        cpl_call_send(call, s->reply.data, s->reply.size);
        cpl_call_finish(call, CPL_GRPC_OK, NULL);
    }
}

cpl_status cpl_null_server_open(cpl_null_server **out, const cpl_workload *workload, const char *path, cpl_error *err)
{
    static const char *const listen[] = {"127.0.0.1:0", NULL};
    const cpl_dialect *d = cpl_workload_dialect(workload);
    *out = NULL;
    cpl_null_server *s = calloc(1, sizeof *s);
    if (!s) return cpl_fail_memory(err, sizeof *s);
    s->http1 = d->http1;
    s->method =
        (cpl_method){.path = path, .message = answer, .service = s, .verb = d->http1 ? CPL_VERB_POST : CPL_VERB_GRPC};
    d->answer(cpl_workload_pairs_per_request(workload), &s->reply);
    const cpl_server_options o = {.listen = listen,
                                  .methods = &s->method,
                                  .method_count = 1,
                                  .loops = 1,
                                  .message_bytes_max = 256u << 20,
                                  .streams_max = CPL_LOAD_IN_FLIGHT_MAX};
    cpl_status st = cpl_buf_status(&s->reply, err);
    if (!st) st = cpl_server_open(&s->server, &o, err);
    if (st) {
        cpl_null_server_close(s);
        return st;
    }
    *out = s;
    return CPL_OK;
}

const char *cpl_null_server_address(const cpl_null_server *s) { return cpl_server_address(s->server, 0); }

void cpl_null_server_close(cpl_null_server *s)
{
    if (!s) return;
    cpl_server_close(s->server);
    cpl_buf_deinit(&s->reply);
    free(s);
}

static cpl_status run(cpl_selftest *out, const cpl_load_run_options *o, const cpl_workload *workload, cpl_error *err)
{
    cpl_load_result *r = NULL;
    cpl_status st = cpl_load_run(&r, o, workload, err);
    if (!st && r->measure.failed)
        st = cpl_fail(err, CPL_INTERNAL, "the generator's self-test had %llu failed requests: %s",
                      (unsigned long long)r->measure.failed, r->errors[0].message);
    const cpl_measure *m = r ? &r->measure : NULL;
    if (!st && m->seconds > 0 && m->requests && !o->scenario->open) {
        out->requests_per_s = (double)m->requests / m->seconds;
        out->cpu_us = r->client_cpu_cores * m->seconds * 1e6 / (double)m->requests;
    } else if (!st && o->scenario->open) {
        out->open = true;
        out->lag_p50_ms = (double)cpl_histogram_at(&r->lag_ns, 0.5) / 1e6;
        out->lag_p99_ms = (double)cpl_histogram_at(&r->lag_ns, 0.99) / 1e6;
        out->achieved = r->offered > 0 && m->seconds > 0 ? (double)m->requests / m->seconds / r->offered : 0;
    }
    cpl_load_result_close(r);
    return st;
}

cpl_status cpl_selftest_run(cpl_selftest *out, const cpl_load_run_options *options, const cpl_workload *workload,
                            cpl_error *err)
{
    *out = (cpl_selftest){0};
    cpl_null_server *server;
    const bool open = options->scenario && options->scenario->open && (options->rate > 0 || options->trace);
    cpl_status st =
        cpl_null_server_open(&server, workload, options->path ? options->path : cpl_workload_path(workload), err);
    if (st) return st;
    cpl_load_run_options o = *options;
    o.target = cpl_null_server_address(server);
    o.progress = NULL;
    o.slo = (cpl_slo){0};
    o.early_stop = o.warmup_stable = false;
    o.selftest = NULL;
    if (open) {
        o.requests = 0;
        o.warmup = 2;
        o.duration_s = OPEN_SECONDS;
        st = run(out, &o, workload, err);
    }
    o.scenario = &cpl_scenario_closed;
    if (!o.concurrency) o.concurrency = OPEN_IN_FLIGHT;
    o.requests = CLOSED_REQUESTS;
    o.warmup = o.concurrency;
    o.duration_s = CLOSED_SECONDS;
    if (!st) st = run(out, &o, workload, err);
    out->ran = !st;
    cpl_null_server_close(server);
    return st;
}
