/* SPDX-License-Identifier: Apache-2.0 */
/* client_link.c - one connection of a client: nghttp2's client side, replies put together, calls ended. What of it is
 * HTTP/1.1's is in client_http1.c.
 *
 * A link serves new calls while it is its slot's current one. When it is lost, or the server says GOAWAY, the slot is
 * empty again and the next call makes a new link; a link that was told to go stays until its calls are through. A call
 * that timed out has been answered but stays hooked, deaf, until nghttp2 closes its stream. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/system.h"
#include "net/client_internal.h"
#include "net/grpc_text.h"
#include "net/status_map.h"

enum { STREAM_WINDOW_BYTES = 4 * 1024 * 1024, CONNECTION_WINDOW_BYTES = 16 * 1024 * 1024, RETAINED_BYTES = 64 * 1024 };

/* ---- calls ------------------------------------------------------------------------------------------------- */

static void on_timeout(cpl_deadline *d)
{
    client_call *call = (client_call *)((char *)d - offsetof(client_call, timeout));
    static const char why[] = "no reply came within the call's timeout";
    cpl_channel *ch = &call->link->channel;
    ch->loop->read_ns = cpl_clock_ns();
    if (call->link->http1) { /* a late reply would be taken for the next call's: the connection goes with the call */
        client_link *link = call->link;
        cpl_client_leave_slot(link);
        cpl_client_slot_free(link->client, link->slot);
        cpl_client_answer(call, CPL_GRPC_DEADLINE_EXCEEDED, why);
        cpl_channel_end(ch, why);
        return;
    }
    nghttp2_submit_rst_stream(ch->session, NGHTTP2_FLAG_NONE, call->stream_id, NGHTTP2_CANCEL);
    cpl_channel_touch(ch);
    cpl_client_answer(call, CPL_GRPC_DEADLINE_EXCEEDED, why);
}

void cpl_client_slot_free(cpl_client *c, uint32_t slot) { c->free_slots[c->free_count++] = slot; }

client_call *cpl_client_call_take(client_link *link)
{
    cpl_client *c = link->client;
    client_call *call = c->free_calls;
    if (call) {
        c->free_calls = call->next;
        cpl_frame_reader reader = call->reader;
        cpl_buf message = call->message;
        *call = (client_call){.reader = reader, .message = message};
    } else {
        call = calloc(1, sizeof *call);
        if (!call) return NULL;
    }
    cpl_frame_reader_reset(&call->reader, c->options.message_bytes_max, &c->loop.inflater);
    cpl_buf_clear(&call->message);
    call->grpc_status = -1;
    call->timeout.expired = on_timeout;
    call->link = link;
    call->next = link->calls;
    if (call->next) call->next->prev = call;
    link->calls = call;
    c->calls_now++;
    return call;
}

void cpl_client_call_drop(client_call *call)
{
    client_link *link = call->link;
    cpl_client *c = link->client;
    cpl_deadline_remove(&c->loop.deadlines, &call->timeout);
    if (!call->answered) c->calls_now--;
    if (call->prev) call->prev->next = call->next;
    if (call->next) call->next->prev = call->prev;
    if (link->calls == call) link->calls = call->next;
    cpl_frame_reader_trim(&call->reader, RETAINED_BYTES);
    call->prev = NULL;
    call->next = c->free_calls;
    c->free_calls = call;
}

void cpl_client_answer(client_call *call, cpl_grpc_code code, const char *message)
{
    if (call->answered) return;
    cpl_client *c = call->link->client;
    call->answered = true;
    call->request = NULL;
    c->calls_now--;
    cpl_deadline_remove(&c->loop.deadlines, &call->timeout);
    cpl_reply reply = {.code = code,
                       .http_status = call->link->http1 ? call->http_status : 0,
                       .message = message,
                       .data = call->has_reply ? call->reply.data : NULL,
                       .size = call->has_reply ? call->reply.size : 0,
                       .sent_ns = call->sent_ns,
                       .done_ns = c->loop.read_ns};
    if (!c->closing) call->done(call->user, &reply);
    /* An answer may come while frames are written (a reset stream): the run must then not go on to wait. */
    if (c->until_idle && !c->calls_now) cpl_client_stop(c);
}

/* ---- nghttp2's callbacks ----------------------------------------------------------------------------------- */

static bool is(const uint8_t *name, size_t n, const char *word) { return n == strlen(word) && !memcmp(name, word, n); }

static int small_number(const uint8_t *value, size_t n, int otherwise)
{
    int number = 0;
    if (!n || n > 3) return otherwise;
    for (size_t i = 0; i < n; i++) {
        if (value[i] < '0' || value[i] > '9') return otherwise;
        number = number * 10 + (value[i] - '0');
    }
    return number;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_n,
                     const uint8_t *value, size_t value_n, uint8_t flags, void *user)
{
    (void)flags, (void)user;
    client_call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (!call || call->answered) return 0;
    if (is(name, name_n, ":status")) {
        call->http_status = small_number(value, value_n, 0);
    } else if (is(name, name_n, "grpc-status")) {
        call->grpc_status = small_number(value, value_n, CPL_GRPC_UNKNOWN);
        if (call->grpc_status > CPL_GRPC_UNAUTHENTICATED) call->grpc_status = CPL_GRPC_UNKNOWN;
    } else if (is(name, name_n, "grpc-message")) {
        cpl_buf_clear(&call->message);
        cpl_grpc_percent_decode(&call->message, (const char *)value, value_n);
    } else if (is(name, name_n, "grpc-encoding")) {
        call->reader.has_encoding = cpl_encoding_of((const char *)value, value_n, &call->reader.encoding);
    }
    return 0;
}

static void fail_call(client_call *call, cpl_grpc_code code, const char *why)
{
    call->failure = code;
    cpl_buf_clear(&call->message);
    cpl_buf_text(&call->message, why);
    cpl_channel *ch = &call->link->channel;
    nghttp2_submit_rst_stream(ch->session, NGHTTP2_FLAG_NONE, call->stream_id, NGHTTP2_CANCEL);
    cpl_channel_touch(ch);
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data, size_t n, void *user)
{
    (void)flags, (void)user;
    client_call *call = nghttp2_session_get_stream_user_data(session, stream);
    if (!call || call->answered || call->http_status != 200) return 0;
    while (n && !call->failure) {
        if (call->has_reply) {
            fail_call(call, CPL_GRPC_INTERNAL, "the server sent more than one reply message");
            return 0;
        }
        size_t used;
        bool ready;
        cpl_error err;
        cpl_grpc_code code = cpl_frame_feed(&call->reader, data, n, &used, &ready, &call->reply, &err);
        if (code) {
            fail_call(call, code, err.what);
            return 0;
        }
        if (ready) call->has_reply = true;
        data += used;
        n -= used;
    }
    return 0;
}

void cpl_client_leave_slot(client_link *link)
{
    if (link->current) link->client->slots[link->slot] = NULL;
    link->current = false;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    (void)session;
    if (frame->hd.type == NGHTTP2_GOAWAY) cpl_client_leave_slot(user);
    return 0;
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    if (frame->hd.type != NGHTTP2_HEADERS) return 0;
    client_call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (call) call->sent_ns = ((client_link *)user)->channel.loop->write_ns;
    return 0;
}

static cpl_grpc_code code_of_reset(uint32_t error)
{
    switch (error) {
    case NGHTTP2_REFUSED_STREAM: return CPL_GRPC_UNAVAILABLE;
    case NGHTTP2_CANCEL: return CPL_GRPC_CANCELLED;
    case NGHTTP2_ENHANCE_YOUR_CALM: return CPL_GRPC_RESOURCE_EXHAUSTED;
    case NGHTTP2_INADEQUATE_SECURITY: return CPL_GRPC_PERMISSION_DENIED;
    default: return CPL_GRPC_INTERNAL;
    }
}

static void conclude(client_call *call, uint32_t error)
{
    char text[96];
    const char *said = call->message.size ? call->message.data : "";
    if (call->failure) {
        cpl_client_answer(call, call->failure, said);
    } else if (call->grpc_status > 0) {
        cpl_client_answer(call, (cpl_grpc_code)call->grpc_status, said);
    } else if (call->grpc_status == 0) {
        bool whole = call->has_reply && cpl_frame_at_boundary(&call->reader);
        cpl_client_answer(call, whole ? CPL_GRPC_OK : CPL_GRPC_INTERNAL,
                          whole ? said : "the server said OK and sent no whole reply message");
    } else if (call->http_status && call->http_status != 200) {
        snprintf(text, sizeof text, "the server answered with HTTP status %d", call->http_status);
        cpl_client_answer(call, cpl_grpc_code_of_http(call->http_status), text);
    } else if (error) {
        snprintf(text, sizeof text, "the server reset the call: %s", nghttp2_http2_strerror(error));
        cpl_client_answer(call, code_of_reset(error), text);
    } else {
        cpl_client_answer(call, CPL_GRPC_INTERNAL, "the reply has no grpc-status");
    }
}

static int on_stream_closed(nghttp2_session *session, int32_t stream, uint32_t error, void *user)
{
    (void)user;
    client_call *call = nghttp2_session_get_stream_user_data(session, stream);
    if (!call) return 0;
    nghttp2_session_set_stream_user_data(session, stream, NULL);
    conclude(call, error);
    cpl_client_call_drop(call);
    return 0;
}

cpl_status cpl_client_callbacks(nghttp2_session_callbacks **out, cpl_error *err)
{
    if (nghttp2_session_callbacks_new(out)) return cpl_fail_memory(err, sizeof(void *));
    nghttp2_session_callbacks_set_on_header_callback(*out, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(*out, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(*out, on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(*out, on_frame_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(*out, on_stream_closed);
    return CPL_OK;
}

/* ---- the channel's events ---------------------------------------------------------------------------------- */

static void on_received(cpl_channel *ch, const uint8_t *data, size_t n)
{
    client_link *link = (client_link *)ch;
    if (link->http1) {
        cpl_client_http1_received(link, data, n);
        return;
    }
    ssize_t done = nghttp2_session_mem_recv(ch->session, data, n);
    if (done < 0) {
        cpl_channel_end(ch, "the server doesn't speak HTTP/2 as agreed");
        return;
    }
    cpl_channel_touch(ch);
}

/* HTTP/1.1: what is queued goes to the socket now. */
static void on_writing(cpl_channel *ch)
{
    client_link *link = (client_link *)ch;
    for (client_call *call = link->calls; call; call = call->next)
        if (!call->sent_ns) call->sent_ns = ch->loop->write_ns;
}

static void on_ended(cpl_channel *ch, const char *why)
{
    client_link *link = (client_link *)ch;
    cpl_client *c = link->client;
    const bool was_current = link->current;
    cpl_client_leave_slot(link);
    for (client_call *call = link->calls; call && link->http1 && was_current; call = call->next)
        if (!call->answered) cpl_client_slot_free(c, link->slot);
    snprintf(c->why, sizeof c->why, "%s", why);
    char text[200];
    snprintf(text, sizeof text, "connection lost: %s", c->why);
    c->loop.read_ns = cpl_clock_ns();
    while (link->calls) {
        client_call *call = link->calls;
        cpl_client_answer(call, CPL_GRPC_UNAVAILABLE, text);
        cpl_client_call_drop(call);
    }
}

static void on_closed(cpl_channel *ch)
{
    client_link *link = (client_link *)ch;
    nghttp2_session_del(ch->session);
    cpl_client_http1_close(link);
    if (link->prev) link->prev->next = link->next;
    if (link->next) link->next->prev = link->prev;
    if (link->client->links == link) link->client->links = link->next;
    free(link);
}

static cpl_status start_session(client_link *link, cpl_error *err)
{
    cpl_channel *ch = &link->channel;
    nghttp2_option *option;
    if (nghttp2_option_new(&option)) return cpl_fail_memory(err, sizeof(void *));
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                         {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES}};
    int rc = nghttp2_session_client_new2(&ch->session, link->client->callbacks, link, option);
    nghttp2_option_del(option);
    if (!rc) rc = nghttp2_submit_settings(ch->session, NGHTTP2_FLAG_NONE, settings, 2);
    if (!rc) rc = nghttp2_session_set_local_window_size(ch->session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW_BYTES);
    return rc ? cpl_fail_memory(err, sizeof(void *)) : CPL_OK;
}

/* A non-blocking socket, connecting or connected; -1 with errno. */
static int start_socket(const cpl_address *a)
{
    int yes = 1, fd = cpl_system_socket(a->storage.ss_family, false);
    if (fd < 0) return -1;
    if (a->storage.ss_family != AF_UNIX) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
#ifdef TCP_CONGESTION
        /* Where the system's default paces (bbr), each send costs a timer, for a path that can't be congested. */
        if (cpl_address_is_local(a)) setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
#endif
    }
    if (connect(fd, (const struct sockaddr *)&a->storage, a->size) == 0 || errno == EINPROGRESS) return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

cpl_status cpl_client_connect(cpl_client *c, uint32_t slot, cpl_error *err)
{
    static const cpl_channel_events http2 = {.received = on_received, .ended = on_ended, .closed = on_closed};
    static const cpl_channel_events http1 = {
        .received = on_received, .writing = on_writing, .ended = on_ended, .closed = on_closed};
    const cpl_channel_events *events = c->options.http1 ? &http1 : &http2;
    client_link *link = calloc(1, sizeof *link);
    if (!link) return cpl_fail_memory(err, sizeof *link);
    int fd = start_socket(&c->address);
    if (fd < 0) {
        free(link);
        return cpl_fail(err, CPL_UNAVAILABLE, "can't connect to '%s': %s", c->authority, strerror(errno));
    }
    link->client = c;
    link->slot = slot;
    uint64_t deadline_ns = cpl_clock_ns() + (uint64_t)c->options.connect_timeout_ms * 1000000;
    cpl_status st = cpl_channel_open(&link->channel, &c->loop, fd, true, deadline_ns, events, err);
    if (st) {
        free(link);
        return st;
    }
    link->next = c->links;
    if (link->next) link->next->prev = link;
    c->links = link;
    st = c->options.http1 ? cpl_client_http1_open(link, err) : start_session(link, err);
    if (st) {
        cpl_channel_end(&link->channel, "out of memory");
        return st;
    }
    link->current = true;
    c->slots[slot] = link;
    return CPL_OK;
}
