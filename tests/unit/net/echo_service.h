/* SPDX-License-Identifier: Apache-2.0 */
/* echo_service.h - a service for the net tests: echoes at once, from another thread, never, in part, or not at all; and
 * counts what happened, so that tests can check that nothing is lost or left. Included by test files only. */
#ifndef CPL_TESTS_ECHO_SERVICE_H
#define CPL_TESTS_ECHO_SERVICE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"
#include "net/server.h"

typedef struct job {
    cpl_post post; /* first */
    cpl_call *call;
    struct job *next;
    void *copy;
    size_t size;
    int cancelled; /* the loop's thread only */
} job;

typedef struct echo_service {
    cpl_server *server;
    cpl_method methods[12];
    int plain; /* the worker answers plain calls */
    pthread_mutex_t lock;
    pthread_cond_t more;
    job *jobs; /* waiting for the worker */
    int stop;
    uint32_t delay_us; /* the worker takes this long a job */
    cpl_thread worker;
    atomic_int given, finished, cancelled, released, half_closed, connections_destroyed, loops_started, loops_stopped;
    atomic_uint_least64_t last_deadline_ns;
} echo_service;

static echo_service echo;

static void on_echo(cpl_call *call, const uint8_t *data, size_t n, void *user)
{
    (void)user;
    atomic_fetch_add(&echo.given, 1);
    atomic_store(&echo.last_deadline_ns, cpl_call_deadline_ns(call));
    cpl_text reply = cpl_call_metadata(call, "x-reply");
    if (reply.data) cpl_call_header(call, "x-seen", "yes");
    cpl_call_trailer(call, "x-trailer", "t");
    cpl_call_send(call, reply.data ? reply.data : (const char *)data, reply.data ? reply.size : n);
    cpl_call_finish(call, CPL_GRPC_OK, NULL);
}

static void on_fail(cpl_call *call, const uint8_t *data, size_t n, void *user)
{
    (void)data, (void)n, (void)user;
    cpl_call_finish(call, CPL_GRPC_INVALID_ARGUMENT, "pair 3: 100% wrong, \xc3\xa4");
}

/* ---- replies from a worker thread -------------------------------------------------------------------------- */

static void deliver(cpl_post *post)
{
    job *j = (job *)post;
    if (j->cancelled) {
        atomic_fetch_add(&echo.released, 1);
        cpl_call_release(j->call);
    } else {
        atomic_fetch_add(&echo.finished, 1);
        if (echo.plain) {
            cpl_call_respond(j->call, 200, "text/plain", j->copy, j->size);
        } else {
            cpl_call_send(j->call, j->copy, j->size);
            cpl_call_finish(j->call, CPL_GRPC_OK, NULL);
        }
    }
    free(j->copy);
    free(j);
}

static void worker_main(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&echo.lock);
    while (!echo.stop || echo.jobs) {
        while (!echo.jobs && !echo.stop) pthread_cond_wait(&echo.more, &echo.lock);
        job *j = echo.jobs;
        if (!j) continue;
        echo.jobs = j->next;
        pthread_mutex_unlock(&echo.lock);
        if (echo.delay_us) usleep(echo.delay_us);
        cpl_loop_post(cpl_call_loop(j->call), &j->post);
        pthread_mutex_lock(&echo.lock);
    }
    pthread_mutex_unlock(&echo.lock);
}

static void on_work(cpl_call *call, const uint8_t *data, size_t n, void *user)
{
    (void)user;
    job *j = calloc(1, sizeof *j);
    *j = (job){.post = {.run = deliver}, .call = call, .copy = malloc(n + 1), .size = n};
    memcpy(j->copy, data, n);
    *cpl_call_user(call) = j;
    atomic_fetch_add(&echo.given, 1);
    pthread_mutex_lock(&echo.lock);
    j->next = echo.jobs;
    echo.jobs = j;
    pthread_cond_signal(&echo.more);
    pthread_mutex_unlock(&echo.lock);
}

static void on_work_cancelled(cpl_call *call, void *user)
{
    (void)user;
    atomic_fetch_add(&echo.cancelled, 1);
    ((job *)*cpl_call_user(call))->cancelled = 1;
}

/* ---- never answers; streams --------------------------------------------------------------------------------- */

static void on_connection_gone(void *user)
{
    free(user);
    atomic_fetch_add(&echo.connections_destroyed, 1);
}

static void on_hang(cpl_call *call, const uint8_t *data, size_t n, void *user)
{
    (void)data, (void)n, (void)user;
    void **mine = cpl_call_connection_user(call, on_connection_gone);
    if (!*mine) *mine = malloc(1);
    atomic_fetch_add(&echo.given, 1);
}

static void on_release(cpl_call *call, void *user)
{
    (void)user;
    atomic_fetch_add(&echo.cancelled, 1);
    cpl_call_release(call);
}

static void on_stream(cpl_call *call, const uint8_t *data, size_t n, void *user)
{
    (void)user;
    cpl_call_send(call, data, n);
}

static void on_half_closed(cpl_call *call, void *user)
{
    (void)user;
    atomic_fetch_add(&echo.half_closed, 1);
    cpl_call_finish(call, CPL_GRPC_OK, NULL);
}

/* One message in, as many out as its first byte says. */
static void on_many(cpl_call *call, const uint8_t *data, size_t n, void *user)
{
    (void)user;
    for (int i = 0; n && i < data[0]; i++) cpl_call_send(call, data, n);
    cpl_call_finish(call, CPL_GRPC_OK, NULL);
}

/* ---- plain HTTP ---------------------------------------------------------------------------------------------- */

static void on_plain(cpl_call *call, const uint8_t *data, size_t n, void *user)
{
    (void)user;
    atomic_fetch_add(&echo.given, 1);
    cpl_call_header(call, "x-seen", "yes");
    cpl_text reply = cpl_call_metadata(call, "x-reply");
    cpl_call_respond(call, 200, "text/plain", reply.data ? reply.data : (const char *)data,
                     reply.data ? reply.size : n);
}

/* As many pieces of 10 bytes as x-reply says, and the end; none said: pieces without end, until nobody reads them. */
static void on_pieces(cpl_call *call, const uint8_t *data, size_t n, void *user)
{
    (void)data, (void)n, (void)user;
    const cpl_text count = cpl_call_metadata(call, "x-reply");
    const int pieces = count.data ? atoi(count.data) : 1 << 20;
    cpl_call_stream(call, "text/plain");
    for (int i = 0; i < pieces && (count.data || !atomic_load(&echo.cancelled)); i++)
        cpl_call_write(call, "0123456789", 10);
    if (count.data) cpl_call_finish(call, CPL_GRPC_OK, NULL);
}

static void plain_error(cpl_buf *out, int http_status, const char *message)
{
    cpl_buf_print(out, "{%d: %s}", http_status, message);
}

/* ---- the server ---------------------------------------------------------------------------------------------- */

static cpl_status on_loop_started(cpl_loop *loop, void *user, cpl_error *err)
{
    (void)user, (void)err;
    *cpl_loop_user(loop) = &echo;
    atomic_fetch_add(&echo.loops_started, 1);
    return CPL_OK;
}

static void on_loop_stopped(cpl_loop *loop, void *user)
{
    (void)user;
    if (*cpl_loop_user(loop) == &echo) atomic_fetch_add(&echo.loops_stopped, 1);
}

/* options: what a test wants other than the defaults. */
static const char *echo_start(cpl_server_options options)
{
    static const char *const any[] = {"127.0.0.1:0", NULL};
    memset(&echo, 0, sizeof echo);
    pthread_mutex_init(&echo.lock, NULL);
    pthread_cond_init(&echo.more, NULL);
    const cpl_method methods[] = {
        {.path = "/t.Echo/Echo", .message = on_echo},
        {.path = "/t.Echo/Fail", .message = on_fail},
        {.path = "/t.Echo/Work", .message = on_work, .cancelled = on_work_cancelled},
        {.path = "/t.Echo/Hang", .message = on_hang, .cancelled = on_release},
        {.path = "/t.Echo/Stream",
         .streams_in = 1,
         .message = on_stream,
         .half_closed = on_half_closed,
         .cancelled = on_release},
        {.path = "/t.Echo/Many", .message = on_many, .cancelled = on_release},
        {.path = "/plain/echo", .verb = CPL_VERB_POST, .message = on_plain},
        {.path = "/plain/get", .verb = CPL_VERB_GET, .message = on_plain, .error_body = plain_error},
        {.path = "/plain/fail", .verb = CPL_VERB_POST, .message = on_fail, .error_body = plain_error},
        {.path = "/plain/work", .verb = CPL_VERB_POST, .message = on_work, .cancelled = on_work_cancelled},
        {.path = "/plain/pieces", .verb = CPL_VERB_GET, .message = on_pieces, .cancelled = on_release},
        {.path = "/plain/hang", .verb = CPL_VERB_POST, .message = on_hang, .cancelled = on_release}};
    memcpy(echo.methods, methods, sizeof methods);
    if (!options.listen) options.listen = any;
    options.methods = echo.methods;
    options.method_count = sizeof methods / sizeof methods[0];
    options.loop_started = on_loop_started;
    options.loop_stopped = on_loop_stopped;
    cpl_error err;
    if (cpl_server_open(&echo.server, &options, &err)) {
        fprintf(stderr, "%s\n", err.what);
        abort();
    }
    if (cpl_thread_start(&echo.worker, "worker", -1, worker_main, NULL, &err)) abort();
    return cpl_server_address(echo.server, 0);
}

static void echo_stop(void)
{
    cpl_server_close(echo.server); /* while the worker still runs: it holds calls */
    echo.server = NULL;
    pthread_mutex_lock(&echo.lock);
    echo.stop = 1;
    pthread_cond_signal(&echo.more);
    pthread_mutex_unlock(&echo.lock);
    cpl_thread_join(&echo.worker);
    pthread_mutex_destroy(&echo.lock);
    pthread_cond_destroy(&echo.more);
}

/* Drains with 20 s of grace, beside the test. */
typedef struct drainer {
    cpl_thread thread;
    uint32_t cut;
    atomic_int done;
} drainer;

static void drain_main(void *arg)
{
    drainer *d = arg;
    d->cut = cpl_server_drain(echo.server, 20000);
    atomic_store(&d->done, 1);
}

static void drain_start(drainer *d)
{
    cpl_error err;
    if (cpl_thread_start(&d->thread, "drainer", -1, drain_main, d, &err)) abort();
}

/* A failed test's server must not meddle with the next test. */
static int echo_teardown(void **state)
{
    (void)state;
    if (echo.server) echo_stop();
    return 0;
}

/* Polls until `value` is `want` (or 20 s have passed: then the test's own check fails). */
static int wait_for(atomic_int *value, int want)
{
    for (int i = 0; i < 20000 && atomic_load(value) != want; i++) usleep(1000);
    return atomic_load(value);
}

#endif
