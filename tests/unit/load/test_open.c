/* SPDX-License-Identifier: Apache-2.0 */
/* Open loops: schedules and traces by themselves, and runs against a server in this process that answers at once,
 * stalls once, or never keeps up. No upper bound on a time is asserted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "load/load.h"
#include "load/schedule.h"
#include "load/verdict.h"
#include "net/server.h"
#include "proto/inference.pb-c.h"

/* ---- schedules --------------------------------------------------------------------------------------------------- */

static void constant_is_exact_however_long(void **state)
{
    (void)state;
    cpl_schedule s;
    cpl_schedule_init(&s, CPL_ARRIVALS_CONSTANT, 333, 1, NULL);
    for (uint64_t i = 0; i < 3330001; i++) {
        const uint64_t at = cpl_schedule_next(&s);
        if (i % 333 == 0 && llabs((long long)(at - i / 333 * 1000000000)) > 2) fail_msg("arrival %lu at %lu", i, at);
    }
}

static void poisson_has_the_rate_and_the_spread(void **state)
{
    (void)state;
    enum { N = 200000 };
    cpl_schedule a, same, other;
    cpl_schedule_init(&a, CPL_ARRIVALS_POISSON, 1000, 7, NULL);
    cpl_schedule_init(&same, CPL_ARRIVALS_POISSON, 1000, 7, NULL);
    cpl_schedule_init(&other, CPL_ARRIVALS_POISSON, 1000, 8, NULL);
    double sum = 0, squares = 0;
    uint64_t last = 0, equal = 0;
    for (int i = 0; i < N; i++) {
        const uint64_t at = cpl_schedule_next(&a);
        assert_int_equal(at, cpl_schedule_next(&same));
        equal += at == cpl_schedule_next(&other);
        assert_true(at >= last);
        const double gap = (double)(at - last) * 1e-6;
        if (i) sum += gap;
        if (i) squares += gap * gap;
        last = at;
    }
    const double mean = sum / (N - 1), variance = squares / (N - 1) - mean * mean;
    assert_true(mean > 0.99 && mean < 1.01); /* ms; 4.5 standard errors */
    assert_true(variance > 0.96 && variance < 1.04);
    assert_true(equal <= 1); /* the first, at 0 */
}

static void trace_of(cpl_trace *t, const char *text, cpl_status want, const char *says)
{
    const char *path = "test_open.trace";
    cpl_error err = {0};
    assert_int_equal(cpl_file_write(path, text, strlen(text), &err), CPL_OK);
    const cpl_status st = cpl_trace_load(t, path, &err);
    if (st != want || (says && !strstr(err.what, says))) fail_msg("'%s': status %d, %s", text, st, err.what);
    unlink(path);
}

static void traces_are_read_or_refused(void **state)
{
    (void)state;
    cpl_trace t;
    trace_of(&t, "# seconds\n10\n\n10.5\n{\"at_s\": 11, \"x\": 1}\n", CPL_OK, NULL);
    assert_int_equal(t.count, 3);
    assert_true(t.at_s[0] == 0 && t.at_s[1] == 0.5 && t.at_s[2] == 1);
    cpl_schedule s;
    cpl_schedule_init(&s, CPL_ARRIVALS_REPLAY, 0, 1, &t);
    const uint64_t want[] = {0, 500000000, 1000000000, 1500000000, 2000000000, 2500000000, 3000000000};
    for (size_t i = 0; i < 7; i++) assert_int_equal(cpl_schedule_next(&s), want[i]);
    cpl_trace_deinit(&t);
    trace_of(&t, "1\n", CPL_INVALID, "fewer than two");
    trace_of(&t, "", CPL_INVALID, "fewer than two");
    trace_of(&t, "1\n0.5\n", CPL_INVALID, ":2");
    trace_of(&t, "1\nsoon\n", CPL_INVALID, "'soon'");
    trace_of(&t, "1\n2 3\n", CPL_INVALID, "not a number of seconds");
    trace_of(&t, "-1e9\n1e9\n", CPL_INVALID, ":2: more than 1e+08 s after the first");
    trace_of(&t, "1\nnan\n", CPL_INVALID, "not a number of seconds");
    trace_of(&t, "1\n{\"at\": 2}\n", CPL_INVALID, "at_s");
    trace_of(&t, "1\n{\"at_s\": \n", CPL_CORRUPT, "not valid JSON");
    assert_null(t.at_s);
}

/* ---- runs ----------------------------------------------------------------------------------------------------------
 */

static struct {
    cpl_server *server;
    cpl_method methods[1];
    int stall_at, stall_us; /* this request holds up the loop's thread so long */
    int never;              /* no answers */
    atomic_int calls;
} service;

static void on_infer(cpl_call *call, const uint8_t *data, size_t n, void *user)
{
    (void)data, (void)n, (void)user;
    const int number = atomic_fetch_add(&service.calls, 1) + 1;
    if (service.never) return;
    if (service.stall_at && number == service.stall_at) usleep((useconds_t)service.stall_us);
    uint8_t out[64];
    float score = 0;
    Inference__InferResponse m = INFERENCE__INFER_RESPONSE__INIT;
    m.n_scores = 1;
    m.scores = &score;
    m.num_pairs = 1;
    cpl_call_send(call, out, inference__infer_response__pack(&m, out));
    cpl_call_finish(call, CPL_GRPC_OK, NULL);
}

static void on_cancelled(cpl_call *call, void *user)
{
    (void)user;
    cpl_call_release(call);
}

static cpl_load_result *drive(const char *scenario, cpl_load_run_options o)
{
    static const char *const listen[] = {"127.0.0.1:0", NULL};
    cpl_pool *pool;
    cpl_workload *w;
    cpl_load_result *r;
    cpl_error err;
    service.methods[0] =
        (cpl_method){.path = "/inference.InferenceService/Infer", .message = on_infer, .cancelled = on_cancelled};
    cpl_server_options server = {
        .listen = listen, .methods = service.methods, .method_count = 1, .loops = 1, .streams_max = 100000};
    if (cpl_server_open(&service.server, &server, &err)) fail_msg("%s", err.what);
    o.target = cpl_server_address(service.server, 0);
    assert_int_equal(cpl_scenario_find(&o.scenario, scenario, &err), CPL_OK);
    assert_int_equal(cpl_pool_open(&pool, NULL, 1, 200, NULL), CPL_OK);
    assert_int_equal(cpl_workload_open(&w, pool, &cpl_dialect_couplet_grpc, 1, 200, NULL), CPL_OK);
    if (cpl_load_run(&r, &o, w, &err)) fail_msg("%s", err.what);
    cpl_workload_close(w);
    cpl_pool_close(pool);
    cpl_server_close(service.server);
    return r;
}

static void counts_and_window_follow_the_schedule(void **state)
{
    (void)state;
    memset(&service, 0, sizeof service);
    const char *const scenarios[] = {"poisson", "constant"};
    for (size_t i = 0; i < 2; i++) {
        cpl_load_result *r =
            drive(scenarios[i],
                  (cpl_load_run_options){.rate = 2000, .seed = 3, .requests = 400, .warmup = 20, .slo = {.ms = 1e6}});
        cpl_schedule s;
        cpl_schedule_init(&s, i ? CPL_ARRIVALS_CONSTANT : CPL_ARRIVALS_POISSON, 2000, 3, NULL);
        uint64_t from = 0, to = 0;
        for (int k = 0; k <= 420; k++) {
            const uint64_t at = cpl_schedule_next(&s);
            if (k == 20) from = at;
            if (k == 420) to = at;
        }
        assert_int_equal(r->measure.requests, 400);
        assert_int_equal(r->measure.failed, 0);
        assert_true(r->open);
        assert_true(r->measure.seconds > (double)(to - from) * 0.999e-9 &&
                    r->measure.seconds < (double)(to - from) * 1.001e-9);
        assert_true(r->offered > 400 / r->measure.seconds * 0.999 && r->offered < 400 / r->measure.seconds * 1.001);
        assert_int_equal(r->lag_ns.count, 400);
        assert_true(r->within_slo == 1);
        cpl_load_result_close(r);
    }
}

/* Requests that were due while the server stood still waited for it, every one, although the generator had only to
 * send them late in a closed loop to hide it. */
static void a_stall_shows_in_full(void **state)
{
    (void)state;
    enum { RATE = 500, STALL_MS = 200 };
    memset(&service, 0, sizeof service);
    service.stall_at = 100;
    service.stall_us = STALL_MS * 1000;
    cpl_load_result *r =
        drive("constant", (cpl_load_run_options){.rate = RATE, .connections = 4, .requests = 400, .slo = {.ms = 100}});
    assert_int_equal(r->measure.requests, 400);
    /* 100 requests were due in these 200 ms, evenly: half of them waited 100 ms or longer, a quarter 150. */
    assert_true(cpl_histogram_at(&r->measure.latency_ns, 1) >= (STALL_MS - 5) * 1000000ull);
    assert_true(cpl_histogram_at(&r->measure.latency_ns, 1 - 45.0 / 400) >= 100000000);
    assert_true(cpl_histogram_at(&r->measure.latency_ns, 1 - 20.0 / 400) >= 150000000);
    assert_true(r->within_slo <= 1 - 45.0 / 400);
    cpl_load_result_close(r);
}

static void offline_ends_with_the_last_answer(void **state)
{
    (void)state;
    memset(&service, 0, sizeof service);
    cpl_load_result *r = drive("offline", (cpl_load_run_options){.requests = 900, .warmup = 30});
    assert_int_equal(r->measure.requests, 900);
    assert_int_equal(r->sent, 930);
    assert_int_equal(service.calls, 930);
    assert_true(r->at_once && r->measure.in_flight_max > 100);
    /* The window is from the first sent to the last answered. */
    assert_true(r->measure.seconds * 1e9 >= (double)r->measure.latency_ns.max * 0.99);
    cpl_load_result_close(r);
    r = drive("offline", (cpl_load_run_options){.requests = 50});
    assert_int_equal(r->measure.requests, 50);
    cpl_load_result_close(r);
}

static void an_objective_ends_the_run(void **state)
{
    (void)state;
    memset(&service, 0, sizeof service);
    /* p95 within a minute: 20 looks need 104 good ones for the first error budgets; far fewer than asked for. */
    cpl_load_result *r = drive(
        "poisson",
        (cpl_load_run_options){.rate = 2000, .seed = 3, .requests = 100000, .slo = {60000, 0.95}, .early_stop = true});
    assert_int_equal(r->slo_verdict, CPL_SLO_HOLDS);
    assert_in_range(r->measure.requests, 90, 2000);
    assert_false(r->cut_by_time);
    cpl_load_result_close(r);
    r = drive("poisson", (cpl_load_run_options){
                             .rate = 2000, .seed = 3, .requests = 100000, .slo = {1e-6, 0.95}, .early_stop = true});
    assert_int_equal(r->slo_verdict, CPL_SLO_FAILS);
    assert_in_range(r->measure.requests, 20, 2000);
    cpl_load_result_close(r);
}

static void who_never_answers_ends_the_run(void **state)
{
    (void)state;
    memset(&service, 0, sizeof service);
    service.never = 1;
    cpl_load_result *r =
        drive("poisson", (cpl_load_run_options){.rate = 1000, .requests = 20, .timeout_s = 0.05, .warmup = 5});
    assert_int_equal(r->measure.requests, 0);
    assert_int_equal(r->measure.failed, 20);
    assert_int_equal(r->errors[0].code, CPL_GRPC_DEADLINE_EXCEEDED);
    cpl_verdict v;
    cpl_verdict_of(&v, r);
    assert_false(v.valid);
    cpl_load_result_close(r);
}

static void wrong_options(void **state)
{
    (void)state;
    const cpl_scenario *s;
    cpl_error err;
    assert_int_equal(cpl_scenario_find(&s, "replay", &err), CPL_OK);
    assert_int_equal(cpl_scenario_find(&s, "offline", &err), CPL_OK);
    assert_int_equal(cpl_scenario_find(&s, "sometimes", &err), CPL_INVALID);
    assert_non_null(strstr(err.what, "poisson"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(constant_is_exact_however_long),
        cmocka_unit_test(poisson_has_the_rate_and_the_spread),
        cmocka_unit_test(traces_are_read_or_refused),
        cmocka_unit_test(counts_and_window_follow_the_schedule),
        cmocka_unit_test(a_stall_shows_in_full),
        cmocka_unit_test(offline_ends_with_the_last_answer),
        cmocka_unit_test(an_objective_ends_the_run),
        cmocka_unit_test(who_never_answers_ends_the_run),
        cmocka_unit_test(wrong_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
