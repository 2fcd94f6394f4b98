/* SPDX-License-Identifier: Apache-2.0 */
/* test_fault_net.c - a server and a client, gRPC and HTTP/1.1, while the nth allocation or thread start fails, for
 * every n until nothing fails any more; once with that one failing and once with all from there on. Every call that was
 * started is answered, with some code; what can't be started says why; nothing crashes, hangs or leaks; and with memory
 * back the same server and client, if they could be opened, work. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include <cmocka.h>

/* What the build wraps (cmake/tests.cmake reads these lines). */
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
int __wrap_posix_memalign(void **out, size_t align, size_t size);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int file, off_t offset);
int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);

#include "base/clock.h"
#include "fault/fault.h"
#include "net/client.h"
#include "net/server.h"

enum { CALLS = 66, CALLS_HTTP1 = 8 /* a connection each */, BYTES = 3000 };

static char request[BYTES];
static int answered, good;

static void on_echo(cpl_call *call, const uint8_t *data, size_t n, void *user)
{
    (void)user;
    cpl_call_trailer(call, "x-trailer", "1");
    cpl_status st = cpl_call_send(call, data, n);
    cpl_call_finish(call, cpl_grpc_code_of(st), st ? "no memory for the reply" : NULL);
}

static void on_plain(cpl_call *call, const uint8_t *data, size_t n, void *user)
{
    (void)user;
    cpl_call_header(call, "x-header", "1");
    cpl_call_respond(call, 200, "text/plain", data, n);
}

static void on_pieces(cpl_call *call, const uint8_t *data, size_t n, void *user)
{
    (void)user;
    cpl_call_stream(call, "text/plain");
    cpl_call_write(call, data, n / 2);
    cpl_call_write(call, data + n / 2, n - n / 2);
    cpl_call_finish(call, CPL_GRPC_OK, NULL);
}

static void on_done(void *user, const cpl_reply *reply)
{
    (void)user;
    answered++;
    if (reply->code == CPL_GRPC_OK && reply->size == BYTES && !memcmp(reply->data, request, BYTES)) good++;
}

/* Starts calls and waits for their answers; returns how many could be started. */
static int make_calls(cpl_client *c, bool http1)
{
    int started = 0;
    answered = good = 0;
    for (uint32_t i = 0; i < (http1 ? CALLS_HTTP1 : CALLS); i++) {
        cpl_error err = {0};
        const char *path = !http1 ? "/t.T/Echo" : i % 2 ? "/plain" : "/pieces";
        cpl_status st = cpl_client_call(c, i, path, request, BYTES, NULL, 20000000000, on_done, NULL, &err);
        if (st) assert_true(err.what[0]);
        started += st == CPL_OK;
    }
    cpl_client_run(c, cpl_clock_ns() + 60000000000, true);
    assert_int_equal(answered, started);
    return started;
}

static long run(long n, bool forever, bool http1)
{
    static const cpl_method methods[] = {{.path = "/t.T/Echo", .message = on_echo},
                                         {.path = "/plain", .verb = CPL_VERB_POST, .message = on_plain},
                                         {.path = "/pieces", .verb = CPL_VERB_POST, .message = on_pieces}};
    static const char *const listen[] = {"127.0.0.1:0", NULL};
    cpl_server_options options = {.listen = listen, .methods = methods, .method_count = 3, .loops = 2};
    cpl_server *s = NULL;
    cpl_client *c = NULL;
    cpl_error err = {0};
    cpl_fault_arm(n, forever);
    cpl_status st = cpl_server_open(&s, &options, &err);
    if (st) assert_true(!s && err.what[0]);
    if (s) {
        cpl_client_options to = {
            .target = cpl_server_address(s, 0), .connections = 2, .http1 = http1, .connections_max = CALLS_HTTP1};
        st = cpl_client_open(&c, &to, &err);
        if (st) assert_true(!c && err.what[0]);
    }
    if (c) make_calls(c, http1);
    long hits = cpl_fault_disarm();
    if (c) { /* lost connections may take a round to be noticed */
        const int calls = http1 ? CALLS_HTTP1 : CALLS;
        make_calls(c, http1);
        assert_int_equal(make_calls(c, http1), calls);
        assert_int_equal(good, calls);
    }
    cpl_client_close(c);
    cpl_server_close(s);
    return hits;
}

static void every_fault(bool http1)
{
    long failures = 0;
    for (int forever = 0; forever <= 1; forever++) {
        long n = 0;
        for (;; n++) {
            long hits = run(n, forever, http1);
            failures += hits > 0;
            if (!hits) break;
        }
        print_message("%s: %ld places\n", http1 ? "HTTP/1.1" : "gRPC", n);
    }
    assert_true(failures > 20);
}

static void every_allocation_of_grpc_fails_once(void **state)
{
    (void)state;
    every_fault(false);
}

static void every_allocation_of_http1_fails_once(void **state)
{
    (void)state;
    every_fault(true);
}

int main(void)
{
    for (size_t i = 0; i < BYTES; i++) request[i] = (char)(i * 13);
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation_of_grpc_fails_once),
                                       cmocka_unit_test(every_allocation_of_http1_fails_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
