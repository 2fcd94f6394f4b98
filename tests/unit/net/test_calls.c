/* SPDX-License-Identifier: Apache-2.0 */
/* test_calls.c - server and client of this floor against each other, over real sockets: replies, failures, deadlines,
 * cancellation, many calls at once, drain, lost connections. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "net/client.h"
#include "unit/net/echo_service.h"

typedef struct result {
    int calls, ok, bad;
    cpl_grpc_code code;
    char message[256];
    char data[64];
    size_t size;
    uint64_t sent_ns, done_ns;
    const void *want; /* what an OK reply must hold; NULL: not checked */
    size_t want_size;
} result;

static void on_done(void *user, const cpl_reply *reply)
{
    result *r = user;
    r->calls++;
    r->code = reply->code;
    r->sent_ns = reply->sent_ns;
    r->done_ns = reply->done_ns;
    snprintf(r->message, sizeof r->message, "%s", reply->message);
    r->size = reply->size;
    memcpy(r->data, reply->data ? reply->data : (const uint8_t *)"", reply->size < 64 ? reply->size : 0);
    bool same = !r->want || (reply->size == r->want_size && !memcmp(reply->data, r->want, r->want_size));
    if (reply->code == CPL_GRPC_OK && same)
        r->ok++;
    else
        r->bad++;
}

static cpl_client *open_client(const char *target, uint32_t connections)
{
    cpl_client *c;
    cpl_error err;
    cpl_client_options options = {.target = target, .connections = connections};
    if (cpl_client_open(&c, &options, &err)) fail_msg("%s", err.what);
    return c;
}

static void start_call(cpl_client *c, uint32_t connection, const char *path, const void *data, size_t n,
                       const char *const *headers, uint64_t timeout_ns, result *r)
{
    cpl_error err;
    if (cpl_client_call(c, connection, path, data, n, headers, timeout_ns, on_done, r, &err)) fail_msg("%s", err.what);
}

static uint64_t in_seconds(uint64_t s) { return cpl_clock_ns() + s * 1000000000; }

static result one_call(cpl_client *c, const char *path, const void *data, size_t n, const char *const *headers,
                       uint64_t timeout_ns)
{
    result r = {0};
    start_call(c, 0, path, data, n, headers, timeout_ns, &r);
    cpl_client_run(c, in_seconds(30), true);
    assert_int_equal(r.calls, 1);
    return r;
}

/* ---- single calls ------------------------------------------------------------------------------------------- */

static void calls_are_answered(void **state)
{
    (void)state;
    cpl_client *c = open_client(echo_start((cpl_server_options){0}), 1);
    result r = one_call(c, "/t.Echo/Echo", "hello", 5, NULL, 0);
    assert_int_equal(r.code, CPL_GRPC_OK);
    assert_int_equal(r.size, 5);
    assert_memory_equal(r.data, "hello", 5);
    assert_true(r.sent_ns > 0 && r.done_ns >= r.sent_ns);
    assert_true(atomic_load(&echo.last_deadline_ns) == UINT64_MAX);
    r = one_call(c, "/t.Echo/Echo", "", 0, NULL, 0);
    assert_int_equal(r.code, CPL_GRPC_OK);
    assert_int_equal(r.size, 0);
    static const char *const headers[] = {"x-reply", "from metadata", NULL};
    r = one_call(c, "/t.Echo/Echo", "hello", 5, headers, 5000000000);
    assert_memory_equal(r.data, "from metadata", 13);
    assert_true(atomic_load(&echo.last_deadline_ns) != UINT64_MAX);
    cpl_server_stats stats;
    cpl_server_stats_get(echo.server, &stats);
    assert_int_equal(stats.calls, 3);
    assert_int_equal(stats.connections, 1);
    assert_int_equal(stats.connections_now, 1);
    assert_true(stats.bytes_in > 100 && stats.bytes_out > 100);
    cpl_client_close(c);
    echo_stop();
}

static void large_messages_pass(void **state)
{
    (void)state;
    cpl_client *c = open_client(echo_start((cpl_server_options){0}), 2);
    size_t n = 4 * 1024 * 1024;
    char *data = malloc(n);
    for (size_t i = 0; i < n; i++) data[i] = (char)(i * 31 + (i >> 9));
    result r = {.want = data, .want_size = n};
    for (uint32_t i = 0; i < 8; i++) start_call(c, i, "/t.Echo/Echo", data, n, NULL, 0, &r);
    cpl_client_run(c, in_seconds(60), true);
    assert_int_equal(r.ok, 8);
    free(data);
    cpl_client_close(c);
    echo_stop();
}

static void windows_held_back_for_memory_open_again(void **state)
{
    (void)state;
    /* Two requests that a slow service holds fill the budget; the third has sent its first window and waits. */
    const char *target = echo_start((cpl_server_options){.request_bytes_max = 8 * 1024 * 1024});
    echo.delay_us = 150000;
    cpl_client *c = open_client(target, 3);
    size_t n = 3900000;
    char *data = calloc(1, n);
    result r = {.want = data, .want_size = n}, third = {.want = data, .want_size = 2000000};
    start_call(c, 0, "/t.Echo/Work", data, n, NULL, 0, &r);
    start_call(c, 1, "/t.Echo/Work", data, n, NULL, 0, &r);
    while (atomic_load(&echo.given) < 2) cpl_client_run(c, cpl_clock_ns() + 1000000, false);
    start_call(c, 2, "/t.Echo/Echo", data, third.want_size, NULL, 0, &third);
    cpl_client_run(c, in_seconds(60), true);
    assert_int_equal(r.ok, 2);
    assert_int_equal(third.ok, 1);
    free(data);
    cpl_client_close(c);
    echo_stop();
}

static void failures_have_code_and_sentence(void **state)
{
    (void)state;
    cpl_client *c = open_client(echo_start((cpl_server_options){.message_bytes_max = 1000}), 1);
    result r = one_call(c, "/t.Echo/Fail", "x", 1, NULL, 0);
    assert_int_equal(r.code, CPL_GRPC_INVALID_ARGUMENT);
    assert_string_equal(r.message, "pair 3: 100% wrong, \xc3\xa4");
    r = one_call(c, "/t.Echo/Nope", "x", 1, NULL, 0);
    assert_int_equal(r.code, CPL_GRPC_UNIMPLEMENTED);
    assert_string_equal(r.message, "unknown method '/t.Echo/Nope'");
    char big[1001] = {0};
    r = one_call(c, "/t.Echo/Echo", big, 1001, NULL, 0);
    assert_int_equal(r.code, CPL_GRPC_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(r.message, "1001 bytes"));
    r = one_call(c, "/t.Echo/Echo", big, 1000, NULL, 0);
    assert_int_equal(r.code, CPL_GRPC_OK);
    static const char *const brotli[] = {"grpc-encoding", "br", NULL};
    r = one_call(c, "/t.Echo/Echo", "x", 1, brotli, 0);
    assert_int_equal(r.code, CPL_GRPC_UNIMPLEMENTED);
    static const char *const soon[] = {"grpc-timeout", "soon", NULL};
    r = one_call(c, "/t.Echo/Echo", "x", 1, soon, 0);
    assert_int_equal(r.code, CPL_GRPC_INVALID_ARGUMENT);
    /* more replies than a unary caller may take */
    r = one_call(c, "/t.Echo/Many", "\2", 1, NULL, 0);
    assert_int_equal(r.code, CPL_GRPC_INTERNAL);
    char value[17000];
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = 0;
    const char *const large[] = {"x-large", value, NULL};
    r = one_call(c, "/t.Echo/Echo", "x", 1, large, 0);
    assert_int_equal(r.code, CPL_GRPC_RESOURCE_EXHAUSTED);
    r = one_call(c, "/t.Echo/Echo", "x", 1, NULL, 0); /* the connection is none the worse */
    assert_int_equal(r.code, CPL_GRPC_OK);
    cpl_client_close(c);
    echo_stop();
}

static void deadlines_pass_on_the_server(void **state)
{
    (void)state;
    cpl_client *c = open_client(echo_start((cpl_server_options){0}), 1);
    static const char *const headers[] = {"grpc-timeout", "20m", NULL}; /* unknown to our client's own timer */
    result r = one_call(c, "/t.Echo/Hang", "x", 1, headers, 0);
    assert_int_equal(r.code, CPL_GRPC_DEADLINE_EXCEEDED);
    assert_int_equal(wait_for(&echo.cancelled, 1), 1);
    static const char *const past[] = {"grpc-timeout", "0n", NULL};
    r = one_call(c, "/t.Echo/Hang", "x", 1, past, 0);
    assert_int_equal(r.code, CPL_GRPC_DEADLINE_EXCEEDED);
    cpl_client_close(c);
    echo_stop();
    assert_int_equal(atomic_load(&echo.cancelled), atomic_load(&echo.given));
}

static void a_client_timeout_cancels(void **state)
{
    (void)state;
    cpl_client *c = open_client(echo_start((cpl_server_options){0}), 1);
    result r = {0};
    for (int i = 0; i < 50; i++) start_call(c, 0, "/t.Echo/Hang", "x", 1, NULL, 10000000 + (uint64_t)i * 100000, &r);
    cpl_client_run(c, in_seconds(30), true);
    assert_int_equal(r.bad, 50);
    assert_int_equal(r.code, CPL_GRPC_DEADLINE_EXCEEDED);
    assert_int_equal(one_call(c, "/t.Echo/Echo", "x", 1, NULL, 0).code, CPL_GRPC_OK);
    assert_int_equal(wait_for(&echo.cancelled, 50), 50);
    cpl_client_close(c);
    echo_stop();
}

/* ---- many ---------------------------------------------------------------------------------------------------- */

typedef struct closed_loop {
    cpl_client *client;
    const char *path;
    int left, ok, bad;
    char data[200];
} closed_loop;

static void closed_loop_next(void *user, const cpl_reply *reply)
{
    closed_loop *l = user;
    if (reply && reply->code == CPL_GRPC_OK && reply->size == sizeof l->data) {
        l->ok++;
    } else if (reply) {
        l->bad++;
        l->left = 0;
    }
    if (!l->left) return;
    l->left--;
    cpl_error err;
    if (cpl_client_call(l->client, (uint32_t)l->left, l->path, l->data, sizeof l->data, NULL, 0, closed_loop_next, l,
                        &err)) {
        l->bad++;
        l->left = 0;
    }
}

static void run_closed_loop(const char *target, const char *path, uint32_t connections, int in_flight, int calls)
{
    closed_loop l = {.client = open_client(target, connections), .path = path, .left = calls};
    for (int i = 0; i < in_flight; i++) closed_loop_next(&l, NULL);
    cpl_client_run(l.client, in_seconds(120), true);
    assert_int_equal(l.ok, calls);
    assert_int_equal(l.bad, 0);
    cpl_client_close(l.client);
}

static void many_streams_at_once(void **state)
{
    (void)state;
    /* more than the server allows at once: the client's nghttp2 holds the rest back */
    const char *target = echo_start((cpl_server_options){.loops = 3, .streams_max = 100});
    run_closed_loop(target, "/t.Echo/Echo", 4, 1000, 10000);
    run_closed_loop(target, "/t.Echo/Work", 7, 300, 10000);
    echo_stop();
    assert_int_equal(atomic_load(&echo.given), 20000);
    assert_int_equal(atomic_load(&echo.finished), 10000);
    assert_int_equal(atomic_load(&echo.loops_started), 3);
    assert_int_equal(atomic_load(&echo.loops_stopped), 3);
}

static void other_transports_work(void **state)
{
    (void)state;
    char path[64];
    snprintf(path, sizeof path, "unix:/tmp/couplet-test-%d.sock", (int)getpid());
    const char *const listen[] = {path, "127.0.0.1:0", "localhost:0", NULL};
    echo_start((cpl_server_options){.listen = listen, .loops = 2});
    assert_string_equal(cpl_server_address(echo.server, 0), path);
    int calls = 0;
    for (size_t i = 0; cpl_server_address(echo.server, i); i++) {
        run_closed_loop(cpl_server_address(echo.server, i), "/t.Echo/Echo", 2, 10, 100);
        calls += 100;
    }
    assert_true(calls >= 300);
    /* a second server on the same path must not steal it */
    cpl_server *second;
    cpl_error err;
    cpl_server_options options = {.listen = listen, .methods = echo.methods, .method_count = 1};
    assert_int_equal(cpl_server_open(&second, &options, &err), CPL_IO);
    assert_null(second);
    echo_stop();
    assert_int_not_equal(access(path + 5, F_OK), 0);
}

static void wrong_options_are_errors(void **state)
{
    (void)state;
    static const char *const bad[] = {"127.0.0.1", NULL};
    cpl_server *s;
    cpl_error err;
    cpl_server_options options = {.listen = bad};
    assert_int_equal(cpl_server_open(&s, &options, &err), CPL_INVALID);
    options.listen = NULL;
    assert_int_equal(cpl_server_open(&s, &options, &err), CPL_INVALID);
    static const char *const good[] = {"127.0.0.1:0", NULL};
    options.listen = good;
    options.request_bytes_max = 1000;
    assert_int_equal(cpl_server_open(&s, &options, &err), CPL_INVALID);
    cpl_client *c;
    cpl_client_options to = {.target = "127.0.0.1:1"}; /* nobody listens on tcpmux here */
    assert_int_equal(cpl_client_open(&c, &to, &err), CPL_UNAVAILABLE);
    assert_null(c);
}

/* ---- ends ---------------------------------------------------------------------------------------------------- */

static void a_closed_client_cancels_its_calls(void **state)
{
    (void)state;
    const char *target = echo_start((cpl_server_options){.loops = 2});
    cpl_client *c = open_client(target, 4);
    result r = {0};
    for (uint32_t i = 0; i < 40; i++) start_call(c, i, "/t.Echo/Hang", "x", 1, NULL, 0, &r);
    cpl_client_run(c, cpl_clock_ns() + 1000000, true); /* gets them out */
    while (atomic_load(&echo.given) < 40) cpl_client_run(c, cpl_clock_ns() + 1000000, true);
    cpl_client_close(c);
    assert_int_equal(r.calls, 0);
    assert_int_equal(wait_for(&echo.cancelled, 40), 40);
    assert_int_equal(wait_for(&echo.connections_destroyed, 4), 4);
    echo_stop();
}

static void results_that_come_too_late_are_dropped(void **state)
{
    (void)state;
    const char *target = echo_start((cpl_server_options){.loops = 2});
    echo.delay_us = 2000;
    cpl_client *c = open_client(target, 4);
    result r = {0};
    for (uint32_t i = 0; i < 100; i++) start_call(c, i, "/t.Echo/Work", "x", 1, NULL, 20000000, &r);
    cpl_client_run(c, in_seconds(30), true);
    assert_int_equal(r.calls, 100);
    cpl_client_close(c);
    echo_stop(); /* waits until the worker has brought every call back */
    assert_int_equal(atomic_load(&echo.finished) + atomic_load(&echo.released), 100);
    assert_int_equal(atomic_load(&echo.released), atomic_load(&echo.cancelled));
}

static void a_lost_server_fails_calls_and_a_new_one_is_found(void **state)
{
    (void)state;
    char target[128];
    snprintf(target, sizeof target, "%s", echo_start((cpl_server_options){0}));
    cpl_client *c = open_client(target, 2);
    result r = {0};
    for (uint32_t i = 0; i < 10; i++) start_call(c, i, "/t.Echo/Hang", "x", 1, NULL, 0, &r);
    while (atomic_load(&echo.given) < 10) cpl_client_run(c, cpl_clock_ns() + 1000000, true);
    assert_int_equal(cpl_server_drain(echo.server, 0), 10);
    echo_stop();
    cpl_client_run(c, in_seconds(30), true);
    assert_int_equal(r.bad, 10);
    assert_int_equal(r.code, CPL_GRPC_UNAVAILABLE);
    assert_true(r.message[0]);
    /* nobody there: the call fails, by its status or its reply */
    cpl_error err;
    result lost = {0};
    if (!cpl_client_call(c, 0, "/t.Echo/Echo", "x", 1, NULL, 0, on_done, &lost, &err)) {
        cpl_client_run(c, in_seconds(30), true);
        assert_int_equal(lost.code, CPL_GRPC_UNAVAILABLE);
    }
    const char *const again[] = {target, NULL};
    echo_start((cpl_server_options){.listen = again});
    assert_int_equal(one_call(c, "/t.Echo/Echo", "x", 1, NULL, 0).code, CPL_GRPC_OK);
    cpl_client_close(c);
    echo_stop();
}

static void a_drain_under_load_loses_nothing(void **state)
{
    (void)state;
    const char *target = echo_start((cpl_server_options){.loops = 2});
    echo.delay_us = 50;
    closed_loop l = {.client = open_client(target, 8), .path = "/t.Echo/Work", .left = 1000000};
    for (int i = 0; i < 64; i++) closed_loop_next(&l, NULL);
    cpl_client_run(l.client, cpl_clock_ns() + 100000000, true);
    drainer d = {.cut = 99};
    drain_start(&d);
    /* After GOAWAY the client makes new connections, which are refused: those calls fail and end the loop. Calls that
     * the server took before must all be answered. */
    cpl_client_run(l.client, in_seconds(60), true);
    cpl_client_close(l.client);
    cpl_thread_join(&d.thread);
    assert_int_equal(d.cut, 0);
    assert_int_equal(atomic_load(&echo.cancelled), 0);
    assert_int_equal(atomic_load(&echo.finished), atomic_load(&echo.given));
    assert_int_equal(l.ok, atomic_load(&echo.finished));
    print_message("%d calls answered\n", l.ok);
    echo_stop();
}

static void an_idle_drain_is_quick(void **state)
{
    (void)state;
    const char *target = echo_start((cpl_server_options){.loops = 2});
    cpl_client *c = open_client(target, 4);
    assert_int_equal(one_call(c, "/t.Echo/Echo", "x", 1, NULL, 0).code, CPL_GRPC_OK);
    drainer d = {.cut = 99};
    drain_start(&d);
    while (!atomic_load(&d.done)) cpl_client_run(c, cpl_clock_ns() + 1000000, false); /* answers the drain's pings */
    cpl_thread_join(&d.thread);
    assert_int_equal(d.cut, 0);
    cpl_server_stats stats;
    cpl_server_stats_get(echo.server, &stats);
    assert_int_equal(stats.connections_now, 0);
    cpl_client_close(c);
    echo_stop();
}

/* ---- the client's own ---------------------------------------------------------------------------------------- */

static int timer_times;
static void on_timer(void *user)
{
    cpl_client *c = user;
    if (++timer_times < 3)
        cpl_client_timer(c, cpl_clock_ns() + 100000, on_timer, c);
    else
        cpl_client_stop(c);
}

static void the_timer_and_the_end_of_a_run(void **state)
{
    (void)state;
    cpl_client *c = open_client(echo_start((cpl_server_options){0}), 1);
    timer_times = 0;
    uint64_t start_ns = cpl_clock_ns();
    cpl_client_timer(c, start_ns + 1000000, on_timer, c);
    cpl_client_run(c, UINT64_MAX, false);
    assert_int_equal(timer_times, 3);
    assert_true(cpl_clock_ns() >= start_ns + 1200000);
    cpl_client_timer(c, cpl_clock_ns() + 1000000, on_timer, c);
    cpl_client_timer(c, 0, NULL, NULL);
    uint64_t until_ns = cpl_clock_ns() + 5000000;
    cpl_client_run(c, until_ns, false);
    assert_true(cpl_clock_ns() >= until_ns);
    assert_int_equal(timer_times, 3);
    cpl_client_run(c, UINT64_MAX, true); /* idle already */
    cpl_client_close(c);
    echo_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(calls_are_answered, echo_teardown),
        cmocka_unit_test_teardown(large_messages_pass, echo_teardown),
        cmocka_unit_test_teardown(windows_held_back_for_memory_open_again, echo_teardown),
        cmocka_unit_test_teardown(failures_have_code_and_sentence, echo_teardown),
        cmocka_unit_test_teardown(deadlines_pass_on_the_server, echo_teardown),
        cmocka_unit_test_teardown(a_client_timeout_cancels, echo_teardown),
        cmocka_unit_test_teardown(many_streams_at_once, echo_teardown),
        cmocka_unit_test_teardown(other_transports_work, echo_teardown),
        cmocka_unit_test_teardown(wrong_options_are_errors, echo_teardown),
        cmocka_unit_test_teardown(a_closed_client_cancels_its_calls, echo_teardown),
        cmocka_unit_test_teardown(results_that_come_too_late_are_dropped, echo_teardown),
        cmocka_unit_test_teardown(a_lost_server_fails_calls_and_a_new_one_is_found, echo_teardown),
        cmocka_unit_test_teardown(a_drain_under_load_loses_nothing, echo_teardown),
        cmocka_unit_test_teardown(an_idle_drain_is_quick, echo_teardown),
        cmocka_unit_test_teardown(the_timer_and_the_end_of_a_run, echo_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
