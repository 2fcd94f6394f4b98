/* SPDX-License-Identifier: Apache-2.0 */
/* A server's whole connection, from bytes to services, without a socket, HTTP/2 or HTTP/1.1. Whatever comes, every call
 * must come back, every byte of the budget be returned and the connection be gone in the end. Input: a byte of
 * switches, the size of the pieces, then what a client sends (after the preface, if the first switch is set). */
#include <stdint.h>
#include <stdlib.h>

#include "net/server_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { GIVE_PREFACE = 1, DRAIN_FIRST = 2, ANSWER_LATE = 4, EXPIRE = 8, HELD_MAX = 64 };

static cpl_call *held[HELD_MAX]; /* calls that a service answers later */

static void on_echo(cpl_call *call, const uint8_t *message, size_t n, void *user)
{
    (void)user;
    cpl_call_header(call, "x-header", "1");
    cpl_call_send(call, message, n);
    cpl_call_trailer(call, "x-trailer", "2");
    cpl_call_finish(call, CPL_GRPC_OK, "fine");
}

static void on_plain(cpl_call *call, const uint8_t *body, size_t n, void *user)
{
    (void)user;
    cpl_call_header(call, "x-header", "1");
    cpl_call_respond(call, 200, "text/plain", body, n);
}

static void on_pieces(cpl_call *call, const uint8_t *body, size_t n, void *user)
{
    (void)user;
    cpl_call_stream(call, "text/plain");
    cpl_call_write(call, body, n);
    cpl_call_write(call, "more", 4);
    cpl_call_finish(call, n == 3 ? CPL_GRPC_ABORTED : CPL_GRPC_OK, NULL);
}

static void answer(cpl_call *call, const uint8_t *message, size_t n, void *user)
{
    cpl_text path = cpl_call_metadata(call, ":path");
    if (path.size > 1 && path.data[1] == 'g')
        on_plain(call, message, n, user);
    else
        on_echo(call, message, n, user);
}

static void on_late(cpl_call *call, const uint8_t *message, size_t n, void *user)
{
    for (size_t i = 0; i < HELD_MAX; i++) {
        if (held[i]) continue;
        held[i] = call;
        *cpl_call_user(call) = &held[i];
        return;
    }
    answer(call, message, n, user);
}

static void on_late_cancelled(cpl_call *call, void *user)
{
    (void)user;
    *(cpl_call **)*cpl_call_user(call) = NULL;
    cpl_call_release(call);
}

static void on_stream(cpl_call *call, const uint8_t *message, size_t n, void *user)
{
    (void)user;
    cpl_call_send(call, message, n);
    if (n == 3) cpl_call_finish(call, CPL_GRPC_ABORTED, "three");
}

static void on_half_closed(cpl_call *call, void *user)
{
    (void)user;
    cpl_call_finish(call, CPL_GRPC_OK, NULL);
}

static void on_cancelled(cpl_call *call, void *user)
{
    (void)user;
    cpl_call_release(call);
}

static cpl_server *make_server(void)
{
    static const cpl_method methods[] = {
        {.path = "/e", .message = on_echo},
        {.path = "/l", .message = on_late, .cancelled = on_late_cancelled},
        {.path = "/s", .streams_in = 1, .message = on_stream, .half_closed = on_half_closed, .cancelled = on_cancelled},
        {.path = "/p", .verb = CPL_VERB_POST, .message = on_plain},
        {.path = "/c", .verb = CPL_VERB_POST, .message = on_pieces},
        {.path = "/g", .verb = CPL_VERB_GET, .message = on_late, .cancelled = on_late_cancelled}};
    cpl_server_options options = {.methods = methods,
                                  .method_count = 6,
                                  .loops = 1,
                                  .message_bytes_max = 10000,
                                  .header_bytes_max = 2000,
                                  .streams_max = 20,
                                  .request_bytes_max = 40000};
    cpl_server *s;
    cpl_error err;
    if (cpl_server_new(&s, &options, &err)) abort();
    return s;
}

static void feed(cpl_server_loop *l, cpl_connection *c, const uint8_t *data, size_t size, size_t piece)
{
    while (size && l->connections == c) {
        size_t n = size < piece ? size : piece;
        cpl_connection_received(&c->channel, data, n);
        cpl_loop_flush(&l->loop);
        data += n;
        size -= n;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    static cpl_server *s;
    if (!s) s = make_server();
    if (size < 2) return 0;
    cpl_server_loop *l = &s->loops[0];
    cpl_connection *c;
    cpl_error err;
    uint8_t switches = data[0];
    atomic_fetch_add(&s->connections_now, 1);
    if (cpl_connection_open(&c, l, -1, &err)) abort();
    if (switches & GIVE_PREFACE) feed(l, c, (const uint8_t *)preface, sizeof preface - 1, 1000);
    if ((switches & DRAIN_FIRST) && l->connections == c) cpl_connection_drain(c);
    feed(l, c, data + 2, size - 2, (size_t)data[1] * 4 + 1);
    if (l->thirst.place) { /* once, by hand: it would come again and again */
        cpl_deadline_remove(&l->loop.deadlines, &l->thirst);
        cpl_request_thirst(&l->thirst);
        cpl_deadline_remove(&l->loop.deadlines, &l->thirst);
    }
    if (switches & EXPIRE) cpl_deadline_run(&l->loop.deadlines, UINT64_MAX - 1);
    for (size_t i = 0; i < HELD_MAX && (switches & ANSWER_LATE); i++) {
        if (!held[i]) continue;
        cpl_call *call = held[i];
        held[i] = NULL;
        answer(call, (const uint8_t *)"late", 4, NULL);
    }
    cpl_loop_flush(&l->loop);
    if (l->connections == c) cpl_connection_tick(c, UINT64_MAX / 2);
    cpl_loop_flush(&l->loop);
    if (l->connections == c) cpl_channel_end(&c->channel, "the test ends");
    cpl_deadline_remove(&l->loop.deadlines, &l->thirst);
    if (l->connections || atomic_load(&s->connections_now) || atomic_load(&s->request_bytes)) abort();
    if (atomic_load(&l->stats.calls_now) || l->loop.deadlines.count || l->loop.dirty) abort();
    return 0;
}
