/* SPDX-License-Identifier: Apache-2.0 */
/* server.c - the server as a whole: its threads, the order of starting and stopping, its numbers.
 *
 * Starting: sockets are bound first, on the caller's thread, so that their errors are the caller's; then every loop
 * starts and runs loop_started; only when all have, loop 0 accepts. Stopping in three steps, each a post to every
 * loop: drain (GOAWAY; listeners close), cut (whatever is left is reset, services are told), close (a loop ends once
 * its last call was released). The calling thread waits for each on one condition variable; the hot path never takes
 * its lock. */
#include "net/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/system.h"
#include "net/server_internal.h"

static const uint64_t TICK_NS_MAX = 1000000000, TICK_NS_MIN = 5000000;

/* ---- one loop ---------------------------------------------------------------------------------------------- */

void cpl_server_loop_note(cpl_server_loop *l)
{
    if (!l->draining && !l->closing) return;
    pthread_mutex_lock(&l->server->lock);
    pthread_cond_broadcast(&l->server->changed);
    pthread_mutex_unlock(&l->server->lock);
    if (l->may_stop && !l->connections) cpl_loop_stop(&l->loop);
}

static void on_tick(cpl_deadline *d)
{
    cpl_server_loop *l = (cpl_server_loop *)((char *)d - offsetof(cpl_server_loop, tick));
    uint64_t now_ns = cpl_clock_ns();
    for (cpl_connection *c = l->connections, *next; c; c = next) {
        next = c->next;
        cpl_connection_tick(c, now_ns);
    }
    if (!l->connections) return; /* the next connection starts it again */
    d->when_ns = now_ns + l->server->tick_ns;
    cpl_deadline_add(&l->loop.deadlines, d);
}

static void run_drain(cpl_post *post)
{
    cpl_server_loop *l = (cpl_server_loop *)((char *)post - offsetof(cpl_server_loop, drain_post));
    l->draining = true;
    if (l->index == 0) cpl_listeners_close(l->server);
    for (cpl_connection *c = l->connections; c; c = c->next) cpl_connection_drain(c);
    cpl_server_loop_note(l);
}

static void run_cut(cpl_post *post)
{
    cpl_server_loop *l = (cpl_server_loop *)((char *)post - offsetof(cpl_server_loop, cut_post));
    l->closing = true;
    for (cpl_connection *c = l->connections, *next; c; c = next) {
        next = c->next;
        for (cpl_call *call = c->calls; call; call = call->next) cpl_count(&l->stats.cut_off, call->stream_open);
        cpl_channel_end(&c->channel, "the server stops");
    }
    pthread_mutex_lock(&l->server->lock);
    l->server->loops_quiet++;
    pthread_cond_broadcast(&l->server->changed);
    pthread_mutex_unlock(&l->server->lock);
}

static void run_close(cpl_post *post)
{
    cpl_server_loop *l = (cpl_server_loop *)((char *)post - offsetof(cpl_server_loop, close_post));
    l->may_stop = true; /* no descriptor is on its way from loop 0 any more: that one was quiet before this post */
    cpl_server_loop_note(l);
}

static void loop_main(void *arg)
{
    cpl_server_loop *l = arg;
    cpl_server *s = l->server;
    const cpl_server_options *o = &s->options;
    if (o->loop_started) l->start_status = o->loop_started(&l->loop, o->user, &l->start_error);
    pthread_mutex_lock(&s->lock);
    s->loops_ready++;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    cpl_loop_run(&l->loop);
    if (o->loop_started && !l->start_status && o->loop_stopped) o->loop_stopped(&l->loop, o->user);
}

static void run_watch(cpl_post *post)
{
    cpl_server_loop *l = (cpl_server_loop *)((char *)post - offsetof(cpl_server_loop, close_post));
    cpl_listeners_watch(l->server);
}

/* ---- opening ----------------------------------------------------------------------------------------------- */

static void fill_defaults(cpl_server_options *o)
{
    if (!o->loops) o->loops = cpl_cpu_count() / 8 ? cpl_cpu_count() / 8 : 1;
    if (!o->message_bytes_max) o->message_bytes_max = 4 * 1024 * 1024;
    if (!o->header_bytes_max) o->header_bytes_max = 16 * 1024;
    if (!o->streams_max) o->streams_max = 1024;
    uint64_t two_messages = 2 * (uint64_t)o->message_bytes_max, usual = 256ull * 1024 * 1024;
    if (!o->request_bytes_max) o->request_bytes_max = two_messages > usual ? two_messages : usual;
    if (!o->connections_max) o->connections_max = 65536;
    if (!o->request_timeout_ms) o->request_timeout_ms = 60000;
    if (!o->keepalive_ms) o->keepalive_ms = 7200000;
    if (!o->keepalive_timeout_ms) o->keepalive_timeout_ms = 20000;
}

static cpl_status check_options(const cpl_server_options *o, cpl_error *err)
{
    if (o->request_bytes_max < 2 * (uint64_t)o->message_bytes_max)
        return cpl_fail(err, CPL_INVALID,
                        "memory for requests (%llu bytes) must be at least twice the largest message (%u bytes)",
                        (unsigned long long)o->request_bytes_max, o->message_bytes_max);
    return CPL_OK;
}

static uint64_t tick_ns_of(const cpl_server_options *o)
{
    uint32_t least_ms = o->keepalive_ms < o->keepalive_timeout_ms ? o->keepalive_ms : o->keepalive_timeout_ms;
    if (o->idle_timeout_ms && o->idle_timeout_ms < least_ms) least_ms = o->idle_timeout_ms;
    if (o->request_timeout_ms < least_ms) least_ms = o->request_timeout_ms;
    uint64_t ns = (uint64_t)least_ms * 1000000 / 4;
    return ns < TICK_NS_MIN ? TICK_NS_MIN : ns > TICK_NS_MAX ? TICK_NS_MAX : ns;
}

static cpl_status make_protocol(cpl_server *s, cpl_error *err)
{
    cpl_status st = cpl_connection_callbacks(&s->callbacks, err);
    if (st) return st;
    if (nghttp2_option_new(&s->option)) return cpl_fail_memory(err, sizeof(void *));
    nghttp2_option_set_no_auto_window_update(s->option, 1);
    nghttp2_option_set_no_closed_streams(s->option, 1);
    /* Clients that cancel (deadlines, hedging) reset streams often; what a reset can cost is bounded by the count of
     * calls a connection may have in work, so this only stops floods. nghttp2's own default, 33 a second, would end
     * the connection of an honest client under overload. */
    nghttp2_option_set_stream_reset_rate_limit(s->option, 10000, 1000);
    return CPL_OK;
}

static cpl_status init_loops(cpl_server *s, cpl_error *err)
{
    s->loops = calloc(s->options.loops, sizeof *s->loops);
    if (!s->loops) return cpl_fail_memory(err, s->options.loops * sizeof *s->loops);
    cpl_status st = CPL_OK;
    for (uint32_t i = 0; i < s->options.loops && !st; i++) {
        cpl_server_loop *l = &s->loops[i];
        st = cpl_loop_init(&l->loop, err);
        if (st) break;
        l->server = s;
        l->index = i;
        l->tick.expired = on_tick;
        l->thirst.expired = cpl_request_thirst;
        l->drain_post.run = run_drain;
        l->cut_post.run = run_cut;
        l->close_post.run = run_watch;
        s->loop_count++;
    }
    return st;
}

static cpl_status start_loops(cpl_server *s, cpl_error *err)
{
    cpl_status st = CPL_OK;
    for (uint32_t i = 0; i < s->loop_count && !st; i++) {
        char name[16];
        snprintf(name, sizeof name, "net-%u", i);
        st = cpl_thread_start(&s->loops[i].thread, name, -1, loop_main, &s->loops[i], err);
        if (!st) s->loops_started++;
    }
    pthread_mutex_lock(&s->lock);
    while (s->loops_ready < s->loops_started) pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
    for (uint32_t i = 0; i < s->loops_started && !st; i++) {
        st = s->loops[i].start_status;
        if (st && err) *err = s->loops[i].start_error;
    }
    return st;
}

cpl_status cpl_server_new(cpl_server **out, const cpl_server_options *options, cpl_error *err)
{
    *out = NULL;
    cpl_server *s = calloc(1, sizeof *s);
    if (!s) return cpl_fail_memory(err, sizeof *s);
    s->options = *options;
    fill_defaults(&s->options);
    s->tick_ns = tick_ns_of(&s->options);
    pthread_mutex_init(&s->lock, NULL);
    cpl_system_cond_init(&s->changed);
    cpl_status st = check_options(&s->options, err);
    if (!st) st = make_protocol(s, err);
    if (!st) st = init_loops(s, err);
    if (st) {
        cpl_server_free(s);
        return st;
    }
    *out = s;
    return CPL_OK;
}

void cpl_server_free(cpl_server *s)
{
    for (uint32_t i = 0; i < s->loops_started; i++) cpl_thread_join(&s->loops[i].thread);
    if (s->listeners) cpl_listeners_close(s); /* those that no loop watched */
    for (uint32_t i = 0; i < s->loop_count; i++) {
        cpl_call_free_pool(&s->loops[i]);
        cpl_loop_deinit(&s->loops[i].loop);
    }
    nghttp2_session_callbacks_del(s->callbacks);
    nghttp2_option_del(s->option);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->changed);
    free(s->listeners);
    free(s->loops);
    free(s);
}

cpl_status cpl_server_open(cpl_server **out, const cpl_server_options *options, cpl_error *err)
{
    *out = NULL;
    cpl_server *s;
    cpl_status st = cpl_server_new(&s, options, err);
    if (st) return st;
    st = cpl_listeners_open(s, err);
    if (!st) st = start_loops(s, err);
    if (st) {
        for (uint32_t i = 0; i < s->loops_started; i++) cpl_loop_stop(&s->loops[i].loop);
        cpl_server_free(s);
        return st;
    }
    cpl_loop_post(&s->loops[0].loop, &s->loops[0].close_post);
    *out = s;
    return CPL_OK;
}

const char *cpl_server_address(const cpl_server *s, size_t i)
{
    return i < s->listener_count ? s->listeners[i].name : NULL;
}

/* ---- stopping ---------------------------------------------------------------------------------------------- */

/* Waits until no connection is left or when_ns; true: none is. */
static bool wait_for_connections(cpl_server *s, uint64_t when_ns)
{
    pthread_mutex_lock(&s->lock);
    int rc = 0;
    while (atomic_load(&s->connections_now) && !rc) rc = cpl_system_cond_wait_until(&s->changed, &s->lock, when_ns);
    bool none = !atomic_load(&s->connections_now);
    pthread_mutex_unlock(&s->lock);
    return none;
}

uint32_t cpl_server_drain(cpl_server *s, uint32_t grace_ms)
{
    if (s->drained) return 0;
    s->drained = true;
    uint64_t until_ns = cpl_clock_ns() + (uint64_t)grace_ms * 1000000;
    for (uint32_t i = 0; i < s->loop_count; i++) cpl_loop_post(&s->loops[i].loop, &s->loops[i].drain_post);
    if (grace_ms) wait_for_connections(s, until_ns);
    for (uint32_t i = 0; i < s->loop_count; i++) cpl_loop_post(&s->loops[i].loop, &s->loops[i].cut_post);
    pthread_mutex_lock(&s->lock);
    while (s->loops_quiet < s->loop_count) pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
    uint64_t cut = 0;
    for (uint32_t i = 0; i < s->loop_count; i++)
        cut += atomic_load_explicit(&s->loops[i].stats.cut_off, memory_order_relaxed);
    return (uint32_t)cut;
}

void cpl_server_close(cpl_server *s)
{
    if (!s) return;
    cpl_server_drain(s, 0);
    for (uint32_t i = 0; i < s->loop_count; i++) {
        s->loops[i].close_post.run = run_close;
        cpl_loop_post(&s->loops[i].loop, &s->loops[i].close_post);
    }
    cpl_server_free(s);
}

void cpl_server_stats_get(cpl_server *s, cpl_server_stats *out)
{
    *out = (cpl_server_stats){.connections_now = atomic_load(&s->connections_now)};
    for (uint32_t i = 0; i < s->loop_count; i++) {
        cpl_loop_stats *l = &s->loops[i].stats;
        out->connections += atomic_load_explicit(&l->connections, memory_order_relaxed);
        out->calls += atomic_load_explicit(&l->calls, memory_order_relaxed);
        out->calls_now += atomic_load_explicit(&l->calls_now, memory_order_relaxed);
        out->bytes_in += atomic_load_explicit(&s->loops[i].loop.bytes_in, memory_order_relaxed);
        out->bytes_out += atomic_load_explicit(&s->loops[i].loop.bytes_out, memory_order_relaxed);
        out->protocol_errors += atomic_load_explicit(&l->protocol_errors, memory_order_relaxed);
    }
}
