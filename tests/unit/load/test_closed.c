/* SPDX-License-Identifier: Apache-2.0 */
/* The closed loop against a server in this process, whose Infer answers as each test wants. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "load/load.h"
#include "load/verdict.h"
#include "net/server.h"
#include "proto/inference.pb-c.h"
#include "proto/stats.pb-c.h"

enum { HELD_MAX = 16 };

/* Written before a run, read on the loop's thread; counters the other way round. */
static struct {
    cpl_server *server;
    cpl_method methods[2];
    int barrier;     /* answers only when this many requests wait; 0: at once */
    int fail_every;  /* every n-th request is refused */
    int fail_all;    /* all are */
    int short_reply; /* one score too few */
    atomic_int calls, stats_calls;
    cpl_call *held[HELD_MAX];
    size_t held_pairs[HELD_MAX];
    int held_count;
} service;

static void answer(cpl_call *call, size_t pairs)
{
    uint8_t out[4096];
    float scores[512] = {0};
    Inference__InferResponse m = INFERENCE__INFER_RESPONSE__INIT;
    m.n_scores = pairs - (service.short_reply ? 1 : 0);
    m.scores = scores;
    m.num_pairs = (int32_t)pairs;
    size_t n = inference__infer_response__pack(&m, out);
    cpl_call_send(call, out, n);
    cpl_call_finish(call, CPL_GRPC_OK, NULL);
}

static void on_infer(cpl_call *call, const uint8_t *data, size_t n, void *user)
{
    (void)user;
    Inference__InferRequest *m = inference__infer_request__unpack(NULL, n, data);
    assert_non_null(m);
    size_t pairs = m->n_pairs;
    inference__infer_request__free_unpacked(m, NULL);
    int number = atomic_fetch_add(&service.calls, 1) + 1;
    if (service.fail_all || (service.fail_every && number % service.fail_every == 0)) {
        cpl_call_finish(call, CPL_GRPC_RESOURCE_EXHAUSTED, "queue full");
        return;
    }
    if (!service.barrier) {
        answer(call, pairs);
        return;
    }
    service.held[service.held_count] = call;
    service.held_pairs[service.held_count++] = pairs;
    if (service.held_count < service.barrier) return;
    service.held_count = 0;
    for (int i = 0; i < service.barrier; i++) answer(service.held[i], service.held_pairs[i]);
}

static void on_infer_cancelled(cpl_call *call, void *user)
{
    (void)user;
    for (int i = 0; i < service.held_count; i++) {
        if (service.held[i] != call) continue;
        service.held[i] = service.held[--service.held_count];
        service.held_pairs[i] = service.held_pairs[service.held_count];
        break;
    }
    cpl_call_release(call);
}

/* Totals that grow by 10 passes of 4 sequences a look. */
static void on_stats(cpl_call *call, const uint8_t *data, size_t n, void *user)
{
    (void)data, (void)n, (void)user;
    uint64_t looks = (uint64_t)atomic_fetch_add(&service.stats_calls, 1) + 1;
    uint8_t out[4096];
    uint32_t bucket[] = {cpl_histogram_bucket(4)};
    uint64_t times[] = {10 * looks};
    Couplet__V1__StatsHistogram h = COUPLET__V1__STATS_HISTOGRAM__INIT;
    h.count = times[0];
    h.sum = 4 * times[0];
    h.min = h.max = 4;
    h.n_bucket = h.n_times = 1;
    h.bucket = bucket;
    h.times = times;
    Couplet__V1__StatsReply m = COUPLET__V1__STATS_REPLY__INIT;
    m.pid = 77;
    m.monotonic_ns = looks * 1000000;
    m.passes = 10 * looks;
    m.sequences = 40 * looks;
    m.tokens = 400 * looks;
    m.tasks_done = looks;
    m.config = (char *)"a: b\n";
    m.pass_sequences = &h;
    size_t size = couplet__v1__stats_reply__pack(&m, out);
    cpl_call_send(call, out, size);
    cpl_call_finish(call, CPL_GRPC_OK, NULL);
}

static void start(int with_stats)
{
    memset(&service, 0, sizeof service);
    service.methods[0] =
        (cpl_method){.path = "/inference.InferenceService/Infer", .message = on_infer, .cancelled = on_infer_cancelled};
    service.methods[1] = (cpl_method){.path = CPL_SERVER_TOTALS_PATH, .message = on_stats};
    const char *listen[] = {"127.0.0.1:0", NULL};
    cpl_server_options o = {
        .listen = listen, .methods = service.methods, .method_count = with_stats ? 2 : 1, .loops = 1};
    cpl_error err;
    if (cpl_server_open(&service.server, &o, &err)) fail_msg("%s", err.what);
}

static void stop(void)
{
    cpl_server_close(service.server);
    service.server = NULL;
}

static cpl_load_result *drive(cpl_load_run_options o, uint32_t pairs_per_request)
{
    cpl_pool *pool;
    cpl_workload *w;
    cpl_load_result *r;
    cpl_error err;
    o.target = cpl_server_address(service.server, 0);
    assert_int_equal(cpl_pool_open(&pool, NULL, 1, 200, NULL), CPL_OK);
    assert_int_equal(
        cpl_workload_open(&w, pool, &cpl_dialect_couplet_grpc, pairs_per_request, o.requests + o.warmup, NULL), CPL_OK);
    cpl_status st = cpl_load_run(&r, &o, w, &err);
    if (st) fail_msg("%s", err.what);
    cpl_workload_close(w);
    cpl_pool_close(pool);
    return r;
}

static void counts_are_exact(void **state)
{
    (void)state;
    start(1);
    cpl_load_result *r = drive((cpl_load_run_options){.concurrency = 4, .requests = 200, .warmup = 20}, 3);
    assert_int_equal(r->measure.requests, 200);
    assert_int_equal(r->measure.failed, 0);
    assert_int_equal(r->measure.latency_ns.count, 200);
    assert_int_equal(r->asked, 200);
    assert_false(r->cut_by_time);
    assert_false(r->gave_up);
    assert_int_equal(r->connections, 4);
    assert_int_equal(r->error_kinds, 0);
    assert_true(r->sent >= 220 && r->sent < 220 + 200);
    assert_true(r->measure.pairs_per_s > 0);
    assert_true(r->measure.in_flight_max <= 4);
    assert_true(r->repeats == (r->sent * 3 > 200 ? r->sent * 3 - 200 : 0));
    /* Two looks at the totals: what lay between them. */
    assert_true(r->server.known);
    assert_int_equal(atomic_load(&service.stats_calls), 2);
    assert_int_equal(r->server.passes, 10);
    assert_int_equal(r->server.sequences, 40);
    assert_int_equal(r->server.pass_sequences.count, 10);
    assert_int_equal(cpl_histogram_at(&r->server.pass_sequences, 0.5), 4);
    assert_string_equal(r->server_config, "a: b\n");
    cpl_load_result_close(r);
    stop();
}

/* The service answers only when eight requests wait: it gets nowhere unless they really are in flight together. */
static void concurrency_is_real(void **state)
{
    (void)state;
    start(0);
    service.barrier = 8;
    cpl_load_result *r =
        drive((cpl_load_run_options){.concurrency = 8, .connections = 2, .requests = 80, .warmup = 8}, 1);
    assert_int_equal(r->measure.requests, 80);
    assert_int_equal(r->measure.in_flight_max, 8);
    assert_int_equal(r->connections, 2);
    assert_false(r->server.known);
    assert_non_null(strstr(r->server.why, "doesn't offer couplet.v1.Stats"));
    assert_null(r->server_config);
    cpl_load_result_close(r);
    stop();
}

static void failures_are_counted_and_shown(void **state)
{
    (void)state;
    start(0);
    service.fail_every = 10;
    /* One at a time: with two in flight the server may count them in another order than the window does. */
    cpl_load_result *r = drive((cpl_load_run_options){.concurrency = 1, .requests = 100}, 1);
    assert_int_equal(r->measure.requests + r->measure.failed, 100);
    assert_int_equal(r->measure.failed, 10);
    assert_int_equal(r->error_kinds, 1);
    assert_int_equal(r->errors[0].code, CPL_GRPC_RESOURCE_EXHAUSTED);
    assert_true(r->errors[0].count >= 10);
    assert_string_equal(r->errors[0].message, "queue full");
    cpl_verdict v;
    cpl_verdict_of(&v, r);
    assert_false(v.valid);
    assert_non_null(strstr(v.reasons, "10 of 100 requests failed"));
    cpl_load_result_close(r);
    stop();
}

static void gives_up_on_a_server_that_only_fails(void **state)
{
    (void)state;
    start(0);
    service.fail_all = 1;
    cpl_load_result *r = drive((cpl_load_run_options){.concurrency = 2, .requests = 100000, .warmup = 5}, 1);
    assert_true(r->gave_up);
    assert_int_equal(r->measure.requests, 0);
    assert_true(r->errors[0].count >= 100 && r->errors[0].count < 110);
    cpl_load_result_close(r);
    stop();
}

static void wrong_replies_are_failures(void **state)
{
    (void)state;
    start(0);
    service.short_reply = 1;
    cpl_load_result *r = drive((cpl_load_run_options){.concurrency = 1, .requests = 5}, 4);
    assert_int_equal(r->measure.failed, 5);
    assert_int_equal(r->errors[0].code, CPL_GRPC_DATA_LOSS);
    assert_string_equal(r->errors[0].message, "the reply holds 3 scores for 4 pairs");
    cpl_load_result_close(r);
    stop();
}

static void time_cuts(void **state)
{
    (void)state;
    start(0);
    cpl_load_result *r = drive((cpl_load_run_options){.concurrency = 2, .requests = 1u << 20, .duration_s = 0.2}, 1);
    assert_true(r->cut_by_time);
    assert_true(r->measure.requests > 0 && r->measure.requests < 1u << 20);
    assert_true(r->measure.seconds >= 0.2);
    cpl_load_result_close(r);
    r = drive((cpl_load_run_options){.concurrency = 2, .duration_s = 0.1}, 1);
    assert_false(r->cut_by_time); /* it was all that was asked for */
    assert_true(r->measure.requests > 0);
    cpl_load_result_close(r);
    stop();
}

static void a_request_may_time_out(void **state)
{
    (void)state;
    start(0);
    service.barrier = 2; /* never reached with one in flight */
    cpl_load_result *r = drive((cpl_load_run_options){.concurrency = 1, .requests = 3, .timeout_s = 0.05}, 1);
    assert_int_equal(r->measure.failed, 3);
    assert_int_equal(r->errors[0].code, CPL_GRPC_DEADLINE_EXCEEDED);
    cpl_load_result_close(r);
    stop();
}

static void wrong_options(void **state)
{
    (void)state;
    cpl_pool *pool;
    cpl_workload *w;
    cpl_load_result *r;
    cpl_error err;
    assert_int_equal(cpl_pool_open(&pool, NULL, 1, 2, NULL), CPL_OK);
    assert_int_equal(cpl_workload_open(&w, pool, &cpl_dialect_couplet_grpc, 1, 2, NULL), CPL_OK);
    cpl_load_run_options o = {.target = "127.0.0.1:1", .concurrency = 1};
    assert_int_equal(cpl_load_run(&r, &o, w, &err), CPL_INVALID);
    assert_non_null(strstr(err.what, "a run needs an end"));
    o = (cpl_load_run_options){.target = "127.0.0.1:1", .requests = 1};
    assert_int_equal(cpl_load_run(&r, &o, w, &err), CPL_INVALID);
    o.concurrency = 1;
    assert_int_not_equal(cpl_load_run(&r, &o, w, &err), CPL_OK); /* nobody listens on port 1 */
    cpl_load_result_close(r);
    cpl_workload_close(w);
    cpl_pool_close(pool);
}

static void hostile_totals(void **state)
{
    (void)state;
    cpl_server_totals *t = calloc(1, sizeof *t);
    assert_non_null(t);
    uint8_t out[256];
    uint32_t bucket[] = {CPL_HISTOGRAM_BUCKETS};
    uint64_t times[] = {1};
    Couplet__V1__StatsHistogram h = COUPLET__V1__STATS_HISTOGRAM__INIT;
    h.n_bucket = h.n_times = 1;
    h.bucket = bucket;
    h.times = times;
    Couplet__V1__StatsReply m = COUPLET__V1__STATS_REPLY__INIT;
    m.pass_tokens = &h;
    size_t n = couplet__v1__stats_reply__pack(&m, out);
    assert_int_equal(cpl_server_totals_decode(t, out, n, NULL), CPL_CORRUPT);
    assert_false(t->known);
    bucket[0] = 5;
    h.n_times = 0;
    n = couplet__v1__stats_reply__pack(&m, out);
    assert_int_equal(cpl_server_totals_decode(t, out, n, NULL), CPL_CORRUPT);
    assert_int_equal(cpl_server_totals_decode(t, (const uint8_t *)"\xff\xff\xff", 3, NULL), CPL_CORRUPT);
    free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_are_exact),
        cmocka_unit_test(concurrency_is_real),
        cmocka_unit_test(failures_are_counted_and_shown),
        cmocka_unit_test(gives_up_on_a_server_that_only_fails),
        cmocka_unit_test(wrong_replies_are_failures),
        cmocka_unit_test(time_cuts),
        cmocka_unit_test(a_request_may_time_out),
        cmocka_unit_test(wrong_options),
        cmocka_unit_test(hostile_totals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
