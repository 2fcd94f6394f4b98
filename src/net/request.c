/* SPDX-License-Identifier: Apache-2.0 */
/* request.c - from nghttp2's callbacks to a service's messages: headers are kept, checked once whole, and the method
 * found; data is reassembled, counted against the server's budget, and given to the service.
 *
 * Flow control: nghttp2 reopens no window by itself. Bytes are "consumed" as soon as they are copied out, while the
 * budget has room; past it they are owed (call->unconsumed) and a poll every THIRST_NS pays when there is room again.
 * Partial requests alone can fill the budget and wait for each other, so one that has starved for STARVED_NS_MAX is
 * answered RESOURCE_EXHAUSTED; and since windows already granted may overshoot, past 5/4 of the budget a call that
 * brings more bytes is answered at once. A stream's replies count too, and end it once 1 MiB of them waits:
 * a few bytes of request can ask for thousands of reply.
 *
 * Codes are those of gRPC's own table (doc/statuscodes.md), but for a message cut short, which is the client's doing
 * and says so: INVALID_ARGUMENT. */
#include <stdio.h>

#include "base/clock.h"
#include "base/error.h"
#include "net/grpc_text.h"
#include "net/server_internal.h"

static const uint64_t THIRST_NS = 5000000, STARVED_NS_MAX = 10000000000;
enum {
    HEADER_OVERHEAD = 32, /* a field's, as HTTP/2 counts header lists */
};

int cpl_request_begin(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    cpl_connection *c = user;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    /* Streams that were reset stay calls while a service works on them: they count, or a client could have any
     * number in work by resetting each (rapid reset). */
    cpl_call *call =
        c->call_count < 2 * c->home->server->options.streams_max ? cpl_call_take(c, frame->hd.stream_id) : NULL;
    if (!call) {
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_REFUSED_STREAM);
        return 0;
    }
    c->active_ns = c->home->loop.read_ns;
    nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, call);
    return 0;
}

int cpl_request_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_n,
                       const uint8_t *value, size_t value_n, uint8_t flags, void *user)
{
    (void)flags;
    cpl_connection *c = user;
    cpl_call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (!call || call->finished || frame->hd.type != NGHTTP2_HEADERS) return 0;
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0; /* request trailers mean nothing in gRPC */
    size_t limit = c->home->server->options.header_bytes_max;
    if (call->headers_over || call->headers.size + name_n + value_n + HEADER_OVERHEAD > limit) {
        call->headers_over = true;
        return 0;
    }
    cpl_record_add(&call->headers, name, name_n, value, value_n);
    return 0;
}

static const cpl_method *find_method(const cpl_server_options *o, cpl_text path)
{
    for (size_t i = 0; i < o->method_count; i++) {
        const char *p = o->methods[i].path;
        if (o->methods[i].verb != CPL_VERB_GRPC) continue;
        if (!strncmp(p, path.data, path.size) && !p[path.size]) return &o->methods[i];
    }
    return NULL;
}

static bool is(cpl_text t, const char *word) { return t.size == strlen(word) && !memcmp(t.data, word, t.size); }

/* HTTP's part of a request being gRPC at all; false: answered. */
static bool check_http(cpl_call *call)
{
    if (!is(cpl_call_metadata(call, ":method"), "POST")) {
        cpl_call_reject_http(call, 405, "gRPC calls are made with POST");
        return false;
    }
    static const char grpc[] = "application/grpc";
    enum { N = sizeof grpc - 1 };
    cpl_text type = cpl_call_metadata(call, "content-type");
    if (type.size < N || memcmp(type.data, grpc, N) || (type.size > N && type.data[N] != '+' && type.data[N] != ';')) {
        cpl_call_reject_http(call, 415, "content-type must be application/grpc");
        return false;
    }
    if (type.size > N && type.data[N] == '+' && (type.size < N + 6 || memcmp(type.data + N, "+proto", 6))) {
        cpl_call_abort(call, CPL_GRPC_UNIMPLEMENTED,
                       "content-type names a message format other than protobuf; use application/grpc+proto");
        return false;
    }
    return true;
}

static bool check_encoding(cpl_call *call)
{
    cpl_text encoding = cpl_call_metadata(call, "grpc-encoding");
    if (!encoding.data) return true;
    call->reader.has_encoding = true;
    if (cpl_encoding_of(encoding.data, encoding.size, &call->reader.encoding)) return true;
    char text[160];
    snprintf(text, sizeof text, "grpc-encoding '%.*s' is not supported; this server reads %s",
             (int)(encoding.size < 64 ? encoding.size : 64), encoding.data, CPL_GRPC_ACCEPT_ENCODING);
    cpl_call_abort(call, CPL_GRPC_UNIMPLEMENTED, text);
    return false;
}

bool cpl_call_start_deadline(cpl_call *call)
{
    cpl_text timeout = cpl_call_metadata(call, "grpc-timeout");
    if (!timeout.data) return true;
    uint64_t ns;
    if (!cpl_grpc_timeout_parse(timeout.data, timeout.size, &ns)) {
        char text[128];
        snprintf(text, sizeof text, "grpc-timeout '%.*s' is not 1 to 8 digits and a unit (H, M, S, m, u or n)",
                 (int)(timeout.size < 32 ? timeout.size : 32), timeout.data);
        cpl_call_abort(call, CPL_GRPC_INVALID_ARGUMENT, text);
        return false;
    }
    uint64_t now_ns = call->conn->home->loop.read_ns;
    call->deadline.when_ns = ns > UINT64_MAX - 1 - now_ns ? UINT64_MAX - 1 : now_ns + ns;
    if (cpl_deadline_add(&call->conn->home->loop.deadlines, &call->deadline)) return true;
    cpl_call_abort(call, CPL_GRPC_RESOURCE_EXHAUSTED, "out of memory");
    return false;
}

static void headers_whole(cpl_connection *c, cpl_call *call)
{
    if (call->headers_over || call->headers.failed) {
        char text[96];
        snprintf(text, sizeof text, "request headers are larger than the limit of %u bytes",
                 c->home->server->options.header_bytes_max);
        cpl_call_abort(call, CPL_GRPC_RESOURCE_EXHAUSTED, text);
        return;
    }
    if (cpl_plain_headers(call) || !check_http(call)) return;
    cpl_text path = cpl_call_metadata(call, ":path");
    call->method = find_method(&c->home->server->options, path);
    if (!call->method) {
        char text[256];
        snprintf(text, sizeof text, "unknown method '%.*s'", (int)(path.size < 200 ? path.size : 200), path.data);
        cpl_call_abort(call, CPL_GRPC_UNIMPLEMENTED, text);
        return;
    }
    if (check_encoding(call)) cpl_call_start_deadline(call);
}

static void end_of_request(cpl_call *call)
{
    call->half_closed = true;
    if (call->plain) {
        cpl_plain_whole(call);
        return;
    }
    if (call->finished) return;
    call->received_ns = call->conn->home->loop.read_ns;
    if (!cpl_frame_at_boundary(&call->reader)) {
        cpl_call_abort(call, CPL_GRPC_INVALID_ARGUMENT, "the request ends in the middle of a message");
        return;
    }
    const cpl_method *m = call->method;
    if (m->streams_in) {
        if (!m->half_closed) return;
        call->service_has = true;
        m->half_closed(call, m->service);
    } else if (!call->has_message) {
        cpl_call_abort(call, CPL_GRPC_UNIMPLEMENTED, "the method takes one request message and none was sent");
    } else if (call->deadline.when_ns <= call->received_ns) {
        cpl_call_abort(call, CPL_GRPC_DEADLINE_EXCEEDED, "the call's deadline had passed when its request was whole");
    } else {
        call->service_has = true;
        m->message(call, call->unary.data, call->unary.size, m->service);
    }
}

void cpl_request_frame(cpl_connection *c, cpl_call *call, const nghttp2_frame *frame)
{
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) headers_whole(c, call);
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) end_of_request(call);
}

/* ---- data -------------------------------------------------------------------------------------------------- */

/* The call's messages in [data, data + n). The service may finish the call in between. */
static void feed(cpl_call *call, const uint8_t *data, size_t n)
{
    while (n && !call->finished) {
        if (call->has_message) {
            cpl_call_abort(call, CPL_GRPC_UNIMPLEMENTED, "the method takes one request message and more were sent");
            return;
        }
        if (call->method->streams_in && cpl_call_unread(call) > CPL_UNREAD_BYTES_MAX) {
            cpl_call_abort(call, CPL_GRPC_RESOURCE_EXHAUSTED, "the client sends on and doesn't read the replies");
            return;
        }
        size_t used;
        bool ready;
        cpl_frame frame;
        cpl_error err;
        cpl_grpc_code code = cpl_frame_feed(&call->reader, data, n, &used, &ready, &frame, &err);
        if (code) {
            cpl_call_abort(call, code, err.what);
            return;
        }
        data += used;
        n -= used;
        if (!ready) continue;
        if (call->method->streams_in) {
            call->service_has = true;
            call->received_ns = call->conn->home->loop.read_ns;
            call->method->message(call, frame.data, frame.size, call->method->service);
            /* finished or not, nghttp2's stream keeps the call's memory */
        } else {
            call->unary = frame;
            call->has_message = true;
            if (call->reader.plain.size) cpl_call_charge(call, call->reader.plain.size);
        }
    }
}

bool cpl_server_has_room(const cpl_server *s, uint64_t quarters)
{
    uint64_t held = atomic_load_explicit(&s->request_bytes, memory_order_relaxed);
    return held <= s->options.request_bytes_max / 4 * quarters;
}

/* False when there is no memory for the timer: then nothing may be held back. */
static bool start_thirst(cpl_server_loop *l)
{
    if (l->thirst.place) return true;
    l->thirst.when_ns = cpl_clock_ns() + THIRST_NS;
    return cpl_deadline_add(&l->loop.deadlines, &l->thirst);
}

int cpl_request_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data, size_t n, void *user)
{
    (void)flags;
    cpl_connection *c = user;
    cpl_call *call = nghttp2_session_get_stream_user_data(session, stream);
    const cpl_server *s = c->home->server;
    c->active_ns = c->home->loop.read_ns;
    if (!call || call->finished)
        return nghttp2_session_consume(session, stream, n) == NGHTTP2_ERR_NOMEM ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
    cpl_call_charge(call, n);
    if (!cpl_server_has_room(s, 5)) {
        cpl_call_abort(call, CPL_GRPC_RESOURCE_EXHAUSTED, "the server's memory for requests is used up; try again");
    } else if (call->plain) {
        cpl_plain_data(call, data, n);
    } else {
        feed(call, data, n);
        if (!call->finished && call->method->streams_in) cpl_call_settle(call);
    }
    if (cpl_server_has_room(s, 4) || call->finished || !start_thirst(c->home)) {
        nghttp2_session_consume(session, stream, n);
        return 0;
    }
    if (!call->unconsumed) call->starved_ns = c->home->loop.read_ns;
    call->unconsumed += n;
    return 0;
}

/* True while the connection still has a call that waits. */
static bool quench(cpl_connection *c, uint64_t now_ns)
{
    bool waiting = false;
    for (cpl_call *call = c->calls, *next; call; call = next) {
        next = call->next;
        if (!call->unconsumed || !call->stream_open) continue;
        if (!call->finished && !call->half_closed && !cpl_server_has_room(c->home->server, 4)) {
            waiting = true;
            if (now_ns - call->starved_ns < STARVED_NS_MAX) continue;
            cpl_call_abort(call, CPL_GRPC_RESOURCE_EXHAUSTED, "the server's memory for requests is used up");
        } else if (!call->finished && !cpl_server_has_room(c->home->server, 4)) {
            waiting = true; /* whole, and being worked on */
            continue;
        }
        size_t n = call->unconsumed;
        call->unconsumed = 0;
        nghttp2_session_consume(c->channel.session, call->stream_id, n);
        cpl_channel_touch(&c->channel);
    }
    return waiting;
}

void cpl_request_thirst(cpl_deadline *d)
{
    cpl_server_loop *l = (cpl_server_loop *)((char *)d - offsetof(cpl_server_loop, thirst));
    uint64_t now_ns = cpl_clock_ns();
    bool waiting = false;
    for (cpl_connection *c = l->connections; c; c = c->next)
        if (!c->ended) waiting |= quench(c, now_ns);
    if (!waiting) return;
    d->when_ns = now_ns + THIRST_NS;
    cpl_deadline_add(&l->loop.deadlines, d);
}
