/* SPDX-License-Identifier: Apache-2.0 */
/* connection.c - a server's connection from its first bytes to its end: HTTP/2 or not, settings, drain, timeouts.
 *
 * The first bytes decide the protocol: HTTP/2's preface, or else HTTP/1.1 (http1.c). A drain is HTTP/2's graceful one:
 * a GOAWAY that forbids nothing yet, a PING, and, once its answer proves that the client has read the GOAWAY, a second
 * one with the last stream that counts, so that no request in flight is lost in between.
 *
 * Life: the connection's memory stays until its channel is closed and its last call gone; nghttp2's session until the
 * channel is closed, because channels also end inside nghttp2's callbacks. */
#include <stdlib.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "net/server_internal.h"

enum {
    STREAM_WINDOW_BYTES = 1024 * 1024,
    CONNECTION_WINDOW_BYTES = 8 * 1024 * 1024,
    RESET_BURST = 10000,
    RESETS_A_SECOND = 1000
};
static const uint64_t HANDSHAKE_NS = 10000000000, DRAIN_PING_NS = 1000000000;
static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
static const uint8_t drain_ping[8] = {'d', 'r', 'a', 'i', 'n', 0, 0, 0};
static const uint8_t alive_ping[8] = {'a', 'l', 'i', 'v', 'e', 0, 0, 0};

/* ---- nghttp2's callbacks ----------------------------------------------------------------------------------- */

static void final_goaway(cpl_connection *c)
{
    if (c->goaway_final || !c->channel.session) return;
    c->goaway_final = true;
    nghttp2_submit_goaway(c->channel.session, NGHTTP2_FLAG_NONE,
                          nghttp2_session_get_last_proc_stream_id(c->channel.session), NGHTTP2_NO_ERROR, NULL, 0);
    cpl_channel_touch(&c->channel);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    cpl_connection *c = user;
    if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK)) {
        if (!memcmp(frame->ping.opaque_data, drain_ping, sizeof drain_ping)) final_goaway(c);
        c->pinging = false;
    }
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) return 0;
    cpl_call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (call) cpl_request_frame(c, call, frame);
    return 0;
}

/* What the client did wrong shows in what we tell it. */
static bool is_complaint(const nghttp2_frame *frame)
{
    uint32_t error = NGHTTP2_NO_ERROR;
    if (frame->hd.type == NGHTTP2_GOAWAY) error = frame->goaway.error_code;
    if (frame->hd.type == NGHTTP2_RST_STREAM) error = frame->rst_stream.error_code;
    return error != NGHTTP2_NO_ERROR && error != NGHTTP2_INTERNAL_ERROR && error != NGHTTP2_REFUSED_STREAM &&
           error != NGHTTP2_CANCEL;
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    if (is_complaint(frame)) cpl_count(&((cpl_connection *)user)->home->stats.protocol_errors, 1);
    /* Only now: nghttp2 lets a PING overtake a GOAWAY that is queued, and the answer would prove nothing. */
    if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.last_stream_id == INT32_MAX)
        nghttp2_submit_ping(session, NGHTTP2_FLAG_NONE, drain_ping);
    if (frame->hd.type != NGHTTP2_HEADERS || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) return 0;
    cpl_call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    /* The answer is whole and the client still sends: it may stop. */
    if (call && !call->half_closed)
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
    return 0;
}

static int on_stream_closed(nghttp2_session *session, int32_t stream, uint32_t error, void *user)
{
    (void)error;
    cpl_connection *c = user;
    cpl_call *call = nghttp2_session_get_stream_user_data(session, stream);
    c->active_ns = cpl_clock_ns();
    if (!call) return 0;
    if (call->unconsumed) {
        nghttp2_session_consume_connection(session, call->unconsumed);
        call->unconsumed = 0;
    }
    cpl_call_stream_gone(call);
    return 0;
}

static int on_invalid(nghttp2_session *session, const nghttp2_frame *frame, int error, void *user)
{
    (void)session;
    cpl_connection *c = user;
    cpl_log_write(c->home->server->options.log, CPL_LOG_DEBUG, "net: invalid HTTP/2 frame of type %u on stream %d: %s",
                  frame->hd.type, frame->hd.stream_id, nghttp2_strerror(error));
    return 0;
}

cpl_status cpl_connection_callbacks(nghttp2_session_callbacks **out, cpl_error *err)
{
    if (nghttp2_session_callbacks_new(out)) return cpl_fail_memory(err, sizeof(void *));
    nghttp2_session_callbacks_set_on_begin_headers_callback(*out, cpl_request_begin);
    nghttp2_session_callbacks_set_on_header_callback(*out, cpl_request_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(*out, cpl_request_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(*out, on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(*out, on_frame_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(*out, on_stream_closed);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(*out, on_invalid);
    return CPL_OK;
}

/* ---- the channel's events ---------------------------------------------------------------------------------- */

static bool start_session(cpl_connection *c)
{
    const cpl_server *s = c->home->server;
    if (nghttp2_session_server_new2(&c->channel.session, s->callbacks, c, s->option)) return false;
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, s->options.streams_max},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, s->options.header_bytes_max},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };
    if (nghttp2_submit_settings(c->channel.session, NGHTTP2_FLAG_NONE, settings,
                                sizeof settings / sizeof settings[0]) ||
        nghttp2_session_set_local_window_size(c->channel.session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW_BYTES))
        return false;
    if (!c->draining) return true;
    c->draining = false; /* the drain began before the preface was here */
    cpl_connection_drain(c);
    return true;
}

/* What came isn't HTTP/2's preface, `seen` bytes of which came before: HTTP/1.1, or nothing that this port speaks. */
static void speak_http1(cpl_connection *c, const uint8_t *data, size_t n)
{
    const uint8_t first = c->preface_size ? (uint8_t)preface[0] : data[0];
    if (first < 'A' || first > 'Z') {
        cpl_count(&c->home->stats.protocol_errors, 1);
        cpl_channel_end(&c->channel, "the peer speaks neither HTTP/2 nor HTTP/1.1");
        return;
    }
    if (cpl_http1_open(c, NULL)) {
        cpl_channel_end(&c->channel, "out of memory");
        return;
    }
    cpl_http1_received(c, (const uint8_t *)preface, c->preface_size);
    cpl_http1_received(c, data, n);
}

void cpl_connection_received(cpl_channel *ch, const uint8_t *data, size_t n)
{
    cpl_connection *c = (cpl_connection *)ch;
    if (ch->end_when_flushed) return;
    if (c->http1) {
        cpl_http1_received(c, data, n);
        return;
    }
    if (!ch->session) {
        size_t left = sizeof preface - 1 - c->preface_size;
        size_t take = n < left ? n : left;
        if (memcmp(preface + c->preface_size, data, take)) {
            speak_http1(c, data, n);
            return;
        }
        c->preface_size += (uint8_t)take;
        if (c->preface_size < sizeof preface - 1) return;
        if (!start_session(c) ||
            nghttp2_session_mem_recv(ch->session, (const uint8_t *)preface, sizeof preface - 1) < 0) {
            cpl_channel_end(ch, "out of memory");
            return;
        }
        data += take;
        n -= take;
    }
    ssize_t done = n ? nghttp2_session_mem_recv(ch->session, data, n) : 0;
    if (done < 0) {
        cpl_count(&c->home->stats.protocol_errors, 1);
        cpl_channel_end(ch, nghttp2_strerror((int)done));
        return;
    }
    cpl_channel_touch(ch);
}

static void on_ended(cpl_channel *ch, const char *why)
{
    cpl_connection *c = (cpl_connection *)ch;
    c->ended = true;
    cpl_log_write(c->home->server->options.log, CPL_LOG_DEBUG, "net: connection ended with %u calls: %s", c->call_count,
                  why);
    /* A callback may drop any call but the one it is told of (its own service's), so start over after each. */
    for (cpl_call *call = c->calls; call;) {
        if (!call->stream_open) {
            call = call->next;
            continue;
        }
        cpl_call_stream_gone(call);
        call = c->calls;
    }
}

static void free_if_through(cpl_connection *c)
{
    if (!c->closed || c->call_count) return;
    cpl_server_loop *l = c->home;
    if (c->user && c->user_destroy) c->user_destroy(c->user);
    if (c->prev) c->prev->next = c->next;
    if (c->next) c->next->prev = c->prev;
    if (l->connections == c) l->connections = c->next;
    free(c);
    cpl_server_loop_note(l);
}

static void on_closed(cpl_channel *ch)
{
    cpl_connection *c = (cpl_connection *)ch;
    nghttp2_session_del(ch->session);
    ch->session = NULL;
    cpl_http1_close(c->http1);
    c->http1 = NULL;
    c->closed = true;
    atomic_fetch_sub(&c->home->server->connections_now, 1);
    cpl_server_loop_note(c->home);
    free_if_through(c);
}

void cpl_connection_call_gone(cpl_connection *c)
{
    if (c->http1 && !c->ended)
        cpl_http1_call_gone(c);
    else
        free_if_through(c);
}

cpl_status cpl_connection_open(cpl_connection **out, cpl_server_loop *home, int fd, cpl_error *err)
{
    static const cpl_channel_events events = {
        .received = cpl_connection_received, .ended = on_ended, .closed = on_closed};
    cpl_connection *c = calloc(1, sizeof *c);
    if (!c) {
        if (fd >= 0) close(fd);
        return cpl_fail_memory(err, sizeof *c);
    }
    c->home = home;
    cpl_status st = cpl_channel_open(&c->channel, &home->loop, fd, false, 0, &events, err);
    if (st) {
        free(c);
        return st;
    }
    c->opened_ns = c->active_ns = c->channel.heard_ns;
    c->next = home->connections;
    if (c->next) c->next->prev = c;
    home->connections = c;
    cpl_count(&home->stats.connections, 1);
    *out = c;
    return CPL_OK;
}

/* ---- drain and timeouts ------------------------------------------------------------------------------------ */

void cpl_connection_drain(cpl_connection *c)
{
    if (c->draining || c->ended) return;
    c->draining = true;
    c->drain_ns = cpl_clock_ns();
    if (c->http1) cpl_http1_drain(c);
    if (!c->channel.session) return;
    nghttp2_submit_shutdown_notice(c->channel.session);
    cpl_channel_touch(&c->channel);
}

static uint64_t ns_of_ms(uint32_t ms) { return (uint64_t)ms * 1000000; }

/* A client that opens a request and never ends it must not hold a stream for good. One stuck inside its header block
 * blocks the whole connection, since no other frame may come between: false when that ended it, and with it *c. */
static bool end_slow_requests(cpl_connection *c, uint64_t now_ns)
{
    uint32_t limit_ms = c->home->server->options.request_timeout_ms;
    for (cpl_call *call = c->calls, *next; call; call = next) {
        next = call->next;
        if (call->half_closed || call->finished || now_ns < call->opened_ns + ns_of_ms(limit_ms)) continue;
        if (!call->method) {
            cpl_channel_end(&c->channel, "a request's headers did not arrive in time");
            return false;
        }
        if (call->method->streams_in) continue;
        char text[96];
        snprintf(text, sizeof text, "the request did not arrive whole within %u ms", limit_ms);
        cpl_call_abort(call, CPL_GRPC_DEADLINE_EXCEEDED, text);
        cpl_channel_touch(&c->channel);
    }
    return true;
}

void cpl_connection_tick(cpl_connection *c, uint64_t now_ns)
{
    const cpl_server_options *o = &c->home->server->options;
    if (c->ended) return;
    if (c->http1) {
        if (!end_slow_requests(c, now_ns)) return;
        if (o->idle_timeout_ms && !c->call_count && now_ns - c->active_ns > ns_of_ms(o->idle_timeout_ms))
            cpl_connection_drain(c);
        return;
    }
    if (!c->channel.session) {
        if (now_ns - c->opened_ns > HANDSHAKE_NS || (c->draining && now_ns - c->drain_ns > DRAIN_PING_NS))
            cpl_channel_end(&c->channel, "no HTTP request came");
        return;
    }
    if (!end_slow_requests(c, now_ns)) return;
    if (c->draining && now_ns - c->drain_ns > DRAIN_PING_NS) final_goaway(c);
    if (o->idle_timeout_ms && !c->call_count && now_ns - c->active_ns > ns_of_ms(o->idle_timeout_ms))
        cpl_connection_drain(c);
    if (c->pinging && c->channel.heard_ns > c->ping_ns) c->pinging = false;
    if (c->pinging && now_ns - c->ping_ns > ns_of_ms(o->keepalive_timeout_ms)) {
        cpl_channel_end(&c->channel, "no answer to a keepalive ping");
    } else if (!c->pinging && now_ns > c->channel.heard_ns + ns_of_ms(o->keepalive_ms)) {
        c->pinging = true;
        c->ping_ns = now_ns;
        nghttp2_submit_ping(c->channel.session, NGHTTP2_FLAG_NONE, alive_ping);
        cpl_channel_touch(&c->channel);
    }
}
