/* SPDX-License-Identifier: Apache-2.0 */
/* client.c - what client.h promises: opening, calls, running, one timer.
 *
 * The client is a loop without a thread: cpl_client_run turns it. Requests are borrowed, not copied, and go from the
 * caller's memory into nghttp2's frame; calls and their buffers are pooled; a turn's frames leave in one write a
 * connection. So what a call costs is nghttp2's headers and its share of two system calls.
 *
 * Rejected: transparent retries. The load generator must see what the server did. */
#include "net/client.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "net/client_internal.h"
#include "net/grpc_text.h"

enum { OWN_HEADERS_MAX = 32 };

/* ---- opening and closing ----------------------------------------------------------------------------------- */

/* Connects slot and waits for it. */
static cpl_status connect_and_wait(cpl_client *c, uint32_t slot, cpl_error *err)
{
    cpl_status st = cpl_client_connect(c, slot, err);
    if (st) return st;
    while (c->slots[slot] && c->slots[slot]->channel.state == CPL_CHANNEL_CONNECTING) cpl_loop_turn(&c->loop, true);
    if (c->slots[slot]) return CPL_OK;
    return cpl_fail(err, CPL_UNAVAILABLE, "can't connect to '%s': %s", c->authority, c->why);
}

static cpl_status connect_all(cpl_client *c, cpl_error *err)
{
    cpl_address found[CPL_ADDRESSES_MAX];
    size_t count;
    cpl_status st = cpl_address_resolve(c->options.target, false, found, &count, err);
    if (st) return st;
    for (size_t i = 0; i < count; i++) { /* the first address that answers is the server's */
        c->address = found[i];
        cpl_address_print(&found[i], c->authority);
        st = connect_and_wait(c, 0, err);
        if (!st) break;
    }
    for (uint32_t i = 1; i < c->options.connections && !st; i++) st = cpl_client_connect(c, i, err);
    for (uint32_t i = 1; i < c->options.connections && !st; i++) {
        while (c->slots[i] && c->slots[i]->channel.state == CPL_CHANNEL_CONNECTING) cpl_loop_turn(&c->loop, true);
        if (!c->slots[i])
            st = cpl_fail(err, CPL_UNAVAILABLE, "connection %u to '%s' can't be made: %s", i + 1, c->authority, c->why);
    }
    if (c->address.storage.ss_family == AF_UNIX) snprintf(c->authority, sizeof c->authority, "localhost");
    return st;
}

/* The client's own two timers never leave the heap (unset: at the end of time), so setting one can't run out of memory:
 * the place it takes is the one it has just given up. */
static void set_timer(cpl_client *c, cpl_deadline *d, uint64_t when_ns)
{
    cpl_deadline_remove(&c->loop.deadlines, d);
    d->when_ns = when_ns;
    bool added = cpl_deadline_add(&c->loop.deadlines, d);
    CPL_ASSERT(added);
}

static void on_until(cpl_deadline *d)
{
    cpl_client *c = (cpl_client *)((char *)d - offsetof(cpl_client, until));
    set_timer(c, d, UINT64_MAX);
    c->time_up = true;
}

static void on_timer(cpl_deadline *d)
{
    cpl_client *c = (cpl_client *)((char *)d - offsetof(cpl_client, timer));
    set_timer(c, d, UINT64_MAX);
    c->timer_fn(c->timer_user);
}

cpl_status cpl_client_open(cpl_client **out, const cpl_client_options *options, cpl_error *err)
{
    *out = NULL;
    cpl_client *c = calloc(1, sizeof *c);
    if (!c) return cpl_fail_memory(err, sizeof *c);
    c->options = *options;
    if (!c->options.connections) c->options.connections = 1;
    if (!c->options.connect_timeout_ms) c->options.connect_timeout_ms = 5000;
    if (!c->options.message_bytes_max) c->options.message_bytes_max = 64 * 1024 * 1024;
    c->until = (cpl_deadline){.when_ns = UINT64_MAX, .expired = on_until};
    c->timer = (cpl_deadline){.when_ns = UINT64_MAX, .expired = on_timer};
    cpl_status st = cpl_loop_init(&c->loop, err);
    if (st) {
        free(c);
        return st;
    }
    if (c->options.connections_max < c->options.connections || !c->options.http1)
        c->options.connections_max = c->options.connections;
    const uint32_t most = c->options.connections_max;
    c->slots = calloc(most, sizeof *c->slots);
    c->free_slots = calloc(most, sizeof *c->free_slots);
    if (!c->slots || !c->free_slots) st = cpl_fail_memory(err, most * sizeof *c->slots);
    for (uint32_t i = 0; !st && i < most; i++) cpl_client_slot_free(c, most - 1 - i);
    if (!cpl_deadline_add(&c->loop.deadlines, &c->until) || !cpl_deadline_add(&c->loop.deadlines, &c->timer))
        st = cpl_fail_memory(err, sizeof(void *));
    if (!st) st = cpl_client_callbacks(&c->callbacks, err);
    if (!st) st = connect_all(c, err);
    c->options.target = NULL;
    if (st) {
        cpl_client_close(c);
        return st;
    }
    *out = c;
    return CPL_OK;
}

void cpl_client_close(cpl_client *c)
{
    if (!c) return;
    c->closing = true;
    for (client_link *link = c->links; link; link = link->next) {
        if (link->channel.state != CPL_CHANNEL_OPEN || link->http1) continue;
        nghttp2_session_terminate_session(link->channel.session, NGHTTP2_NO_ERROR);
        cpl_channel_touch(&link->channel);
    }
    cpl_loop_flush(&c->loop); /* says GOAWAY if the sockets take it */
    for (client_link *link = c->links, *next; link; link = next) {
        next = link->next;
        cpl_channel_end(&link->channel, "the client was closed");
    }
    cpl_loop_deinit(&c->loop);
    while (c->free_calls) {
        client_call *call = c->free_calls;
        c->free_calls = call->next;
        cpl_frame_reader_trim(&call->reader, 0);
        cpl_buf_deinit(&call->message);
        free(call);
    }
    nghttp2_session_callbacks_del(c->callbacks);
    free(c->free_slots);
    free(c->slots);
    free(c);
}

/* ---- calls ------------------------------------------------------------------------------------------------- */

static ssize_t read_request(nghttp2_session *session, int32_t stream_id, uint8_t *buf, size_t length,
                            uint32_t *data_flags, nghttp2_data_source *source, void *user)
{
    (void)session, (void)stream_id, (void)user;
    client_call *call = source->ptr;
    if (call->answered) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* the request is the caller's again */
    size_t n = 0;
    while (call->request_at < CPL_GRPC_PREFIX && n < length) buf[n++] = call->prefix[call->request_at++];
    size_t left = CPL_GRPC_PREFIX + call->request_size - call->request_at;
    size_t take = left < length - n ? left : length - n;
    if (take) memcpy(buf + n, call->request + (call->request_at - CPL_GRPC_PREFIX), take);
    call->request_at += take;
    if (take == left) *data_flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)(n + take);
}

static nghttp2_nv pair_of(const char *name, const char *value, uint8_t flags)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name), strlen(value), flags};
}

static cpl_status submit(cpl_client *c, client_call *call, const char *path, const char *const *headers,
                         uint64_t timeout_ns, cpl_error *err)
{
    enum { FIXED = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE };
    nghttp2_nv nva[OWN_HEADERS_MAX + 9];
    char timeout[CPL_GRPC_TIMEOUT_TEXT];
    size_t n = 0;
    nva[n++] = pair_of(":method", "POST", FIXED);
    nva[n++] = pair_of(":scheme", "http", FIXED);
    nva[n++] = pair_of(":path", path, NGHTTP2_NV_FLAG_NO_COPY_NAME);
    nva[n++] = pair_of(":authority", c->authority, FIXED); /* lives as long as the sessions */
    nva[n++] = pair_of("te", "trailers", FIXED);
    nva[n++] = pair_of("content-type", "application/grpc", FIXED);
    nva[n++] = pair_of("user-agent", "couplet/" COUPLET_VERSION, FIXED);
    if (timeout_ns) {
        cpl_grpc_timeout_format(timeout_ns, timeout);
        nva[n++] = pair_of("grpc-timeout", timeout, NGHTTP2_NV_FLAG_NO_COPY_NAME);
    }
    for (size_t i = 0; headers && headers[i]; i += 2) {
        if (!headers[i + 1] || i / 2 == OWN_HEADERS_MAX)
            return cpl_fail(err, CPL_INVALID, "request headers must be at most %d pairs of name and value",
                            OWN_HEADERS_MAX);
        nva[n++] = pair_of(headers[i], headers[i + 1], NGHTTP2_NV_FLAG_NONE);
    }
    nghttp2_data_provider provider = {.source = {.ptr = call}, .read_callback = read_request};
    int32_t stream = nghttp2_submit_request(call->link->channel.session, NULL, nva, n, &provider, call);
    if (stream < 0)
        return cpl_fail(err, CPL_UNAVAILABLE, "a call can't be started on this connection: %s",
                        nghttp2_strerror(stream));
    call->stream_id = stream;
    return CPL_OK;
}

/* A call that can't be sent as a whole takes its connection with it; its slot is free for another. */
static void abandon_http1(client_call *call)
{
    client_link *link = call->link;
    cpl_client_slot_free(link->client, link->slot);
    call->answered = true; /* so the end of the link doesn't free the slot again */
    link->client->calls_now--;
    cpl_channel_end(&link->channel, "out of memory");
}

static cpl_status submit_http1(cpl_client *c, client_call *call, const char *path, const char *const *headers,
                               cpl_error *err)
{
    c->free_count--;
    if (cpl_client_http1_call(call, path, headers)) return CPL_OK;
    abandon_http1(call);
    return cpl_fail_memory(err, 256);
}

cpl_status cpl_client_call(cpl_client *c, uint32_t connection, const char *path, const void *request, size_t n,
                           const char *const *headers, uint64_t timeout_ns,
                           void (*done)(void *user, const cpl_reply *reply), void *user, cpl_error *err)
{
    const bool http1 = c->options.http1;
    if (n > UINT32_MAX) return cpl_fail(err, CPL_INVALID, "request of %zu bytes doesn't fit a gRPC message", n);
    if (http1 && !c->free_count)
        return cpl_fail(err, CPL_QUEUE_FULL, "all %u connections are busy", c->options.connections_max);
    const uint32_t slot = http1 ? c->free_slots[c->free_count - 1] : connection % c->options.connections;
    if (!c->slots[slot]) {
        cpl_status st = cpl_client_connect(c, slot, err);
        if (st) return st;
    }
    client_call *call = cpl_client_call_take(c->slots[slot]);
    if (!call) return cpl_fail_memory(err, sizeof *call);
    cpl_frame_prefix(call->prefix, (uint32_t)n);
    call->request = request;
    call->request_size = n;
    call->done = done;
    call->user = user;
    if (timeout_ns) {
        uint64_t now_ns = cpl_clock_ns();
        call->timeout.when_ns = timeout_ns > UINT64_MAX - 1 - now_ns ? UINT64_MAX - 1 : now_ns + timeout_ns;
    }
    cpl_status st = http1 ? submit_http1(c, call, path, headers, err) : submit(c, call, path, headers, timeout_ns, err);
    if (!st && timeout_ns && !cpl_deadline_add(&c->loop.deadlines, &call->timeout)) {
        if (http1) {
            abandon_http1(call);
            return cpl_fail_memory(err, sizeof(void *));
        }
        nghttp2_submit_rst_stream(call->link->channel.session, NGHTTP2_FLAG_NONE, call->stream_id, NGHTTP2_CANCEL);
        call->answered = true; /* stays hooked until its stream is closed */
        c->calls_now--;
        return cpl_fail_memory(err, sizeof(void *));
    }
    if (st && http1) return st; /* the call went with its connection */
    if (st) {
        cpl_client_call_drop(call);
        return st;
    }
    cpl_channel_touch(&call->link->channel);
    return CPL_OK;
}

/* ---- running ----------------------------------------------------------------------------------------------- */

void cpl_client_run(cpl_client *c, uint64_t until_ns, bool until_idle)
{
    c->stopped = c->time_up = false;
    c->until_idle = until_idle;
    set_timer(c, &c->until, until_ns);
    while (!c->stopped && !c->time_up && !(until_idle && !c->calls_now)) cpl_loop_turn(&c->loop, true);
    c->until_idle = false;
    set_timer(c, &c->until, UINT64_MAX);
}

void cpl_client_stop(cpl_client *c)
{
    c->stopped = true;
    cpl_loop_turn_end(&c->loop);
}

void cpl_client_timer(cpl_client *c, uint64_t when_ns, void (*fn)(void *user), void *user)
{
    c->timer_fn = fn;
    c->timer_user = user;
    set_timer(c, &c->timer, when_ns ? when_ns : UINT64_MAX);
}
