/* SPDX-License-Identifier: Apache-2.0 */
/* call.c - a call's life and its reply (a plain HTTP call's reply: plain.c).
 *
 * Two parties hold a call: the transport, while nghttp2 knows the stream, and the service, from the first message it is
 * given until it finishes or releases. The call goes back to its loop's free list when neither does. So a reset stream
 * leaves the call alive for a service that has work in flight, and a finished call stays until its last bytes are with
 * nghttp2. The transport may also end a call itself (deadline, oversized message): the client then has its answer and
 * the service is told `cancelled`.
 *
 * The reply is a HEADERS frame, DATA from `out`, and trailers; without any message it is trailers only. Buffers stay
 * with the pooled call up to RETAINED_BYTES, so that in the steady state a call allocates nothing of ours. */
#include "net/call.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "net/address.h"
#include "net/grpc_text.h"
#include "net/server_internal.h"
#include "net/status_map.h"

enum {
    RETAINED_BYTES = 64 * 1024,
    POOLED_CALLS_MAX = 1024,
    OWN_METADATA_MAX = 32,
    STATUS_MESSAGE_BYTES_MAX = 4096,
    CALL_OVERHEAD_BYTES = 1024 /* what an open call costs beside its bytes */
};

void cpl_record_add(cpl_buf *b, const void *name, size_t name_n, const void *value, size_t value_n)
{
    uint32_t sizes[2] = {(uint32_t)name_n, (uint32_t)value_n};
    if (!cpl_buf_reserve(b, sizeof sizes + name_n + value_n)) return;
    cpl_buf_add(b, sizes, sizeof sizes);
    cpl_buf_add(b, name, name_n);
    cpl_buf_add(b, value, value_n);
}

bool cpl_record_next(const cpl_buf *b, size_t *at, cpl_record *out)
{
    if (*at >= b->size) return false;
    uint32_t sizes[2];
    memcpy(sizes, b->data + *at, sizeof sizes);
    out->name_size = sizes[0];
    out->value_size = sizes[1];
    out->name = b->data + *at + sizeof sizes;
    out->value = out->name + sizes[0];
    *at += sizeof sizes + sizes[0] + sizes[1];
    return true;
}

static void on_deadline(cpl_deadline *d)
{
    cpl_call *call = (cpl_call *)((char *)d - offsetof(cpl_call, deadline));
    cpl_call_abort(call, CPL_GRPC_DEADLINE_EXCEEDED, "the call's deadline has passed");
}

void cpl_call_charge(cpl_call *call, size_t n)
{
    call->charged += n;
    atomic_fetch_add_explicit(&call->conn->home->server->request_bytes, n, memory_order_relaxed);
}

static void uncharge(cpl_call *call)
{
    if (!call->charged) return;
    atomic_fetch_sub_explicit(&call->conn->home->server->request_bytes, call->charged, memory_order_relaxed);
    call->charged = 0;
}

size_t cpl_call_unread(const cpl_call *call) { return call->out.size - call->out_at; }

void cpl_call_settle(cpl_call *call)
{
    size_t begun = cpl_frame_at_boundary(&call->reader) ? 0 : call->reader.wire.size;
    uncharge(call);
    cpl_call_charge(call, CALL_OVERHEAD_BYTES + begun + cpl_call_unread(call));
}

cpl_call *cpl_call_take(cpl_connection *c, int32_t stream_id)
{
    cpl_server_loop *l = c->home;
    cpl_call *call = l->free_calls;
    if (call) {
        l->free_calls = call->next;
        l->free_count--;
        cpl_call old = *call;
        *call = (cpl_call){.reader = old.reader,
                           .body = old.body,
                           .headers = old.headers,
                           .initial = old.initial,
                           .trailing = old.trailing,
                           .out = old.out,
                           .status_message = old.status_message};
    } else {
        call = calloc(1, sizeof *call);
        if (!call) return NULL;
    }
    cpl_frame_reader_reset(&call->reader, l->server->options.message_bytes_max, &l->loop.inflater);
    call->conn = c;
    call->stream_id = stream_id;
    call->stream_open = true;
    call->opened_ns = l->loop.read_ns;
    call->deadline.when_ns = UINT64_MAX;
    call->deadline.expired = on_deadline;
    call->next = c->calls;
    if (c->calls) c->calls->prev = call;
    c->calls = call;
    c->call_count++;
    call->counted = true;
    cpl_count(&l->stats.calls, 1);
    cpl_count(&l->stats.calls_now, 1);
    cpl_call_charge(call, CALL_OVERHEAD_BYTES);
    return call;
}

static void clear(cpl_buf *b)
{
    if (b->cap > RETAINED_BYTES) {
        cpl_buf_deinit(b);
    } else {
        cpl_buf_clear(b);
    }
}

static void free_call(cpl_call *call)
{
    cpl_frame_reader_trim(&call->reader, 0);
    cpl_buf_deinit(&call->body);
    cpl_buf_deinit(&call->headers);
    cpl_buf_deinit(&call->initial);
    cpl_buf_deinit(&call->trailing);
    cpl_buf_deinit(&call->out);
    cpl_buf_deinit(&call->status_message);
    free(call);
}

void cpl_call_free_pool(cpl_server_loop *l)
{
    while (l->free_calls) {
        cpl_call *call = l->free_calls;
        l->free_calls = call->next;
        free_call(call);
    }
    l->free_count = 0;
}

static void uncount(cpl_call *call)
{
    if (call->counted) cpl_count(&call->conn->home->stats.calls_now, -1);
    call->counted = false;
}

/* Back to the pool when neither the transport nor the service holds it. */
static void drop_if_unheld(cpl_call *call)
{
    if (call->stream_open || call->service_has) return;
    cpl_connection *c = call->conn;
    cpl_server_loop *l = c->home;
    cpl_deadline_remove(&l->loop.deadlines, &call->deadline);
    uncharge(call);
    uncount(call);
    if (call->prev) call->prev->next = call->next;
    if (call->next) call->next->prev = call->prev;
    if (c->calls == call) c->calls = call->next;
    cpl_frame_reader_trim(&call->reader, RETAINED_BYTES);
    clear(&call->body);
    clear(&call->headers);
    clear(&call->initial);
    clear(&call->trailing);
    clear(&call->out);
    clear(&call->status_message);
    call->prev = NULL;
    if (l->free_count < POOLED_CALLS_MAX) {
        call->next = l->free_calls;
        l->free_calls = call;
        l->free_count++;
    } else {
        free_call(call);
    }
    c->call_count--;
    cpl_connection_call_gone(c);
}

/* The service is through with the request's bytes. */
static void service_done(cpl_call *call)
{
    call->service_has = false;
    cpl_frame_reader_trim(&call->reader, RETAINED_BYTES);
    clear(&call->body);
    uncharge(call);
}

static void tell_cancelled(cpl_call *call)
{
    if (!call->service_has || call->cancelled_told) return;
    call->cancelled_told = true;
    if (call->method->cancelled) {
        call->method->cancelled(call, call->method->service);
        return; /* the call may be gone */
    }
    service_done(call);
    drop_if_unheld(call);
}

void cpl_call_stream_gone(cpl_call *call)
{
    call->stream_open = false;
    call->finished = true;
    uncount(call);
    cpl_deadline_remove(&call->conn->home->loop.deadlines, &call->deadline);
    if (call->service_has) {
        tell_cancelled(call);
    } else {
        drop_if_unheld(call);
    }
}

/* ---- the reply -------------------------------------------------------------------------------------------- */

static nghttp2_nv pair_of(const void *name, size_t name_n, const void *value, size_t value_n, uint8_t flags)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, name_n, value_n, flags};
}
#define FIXED                     (NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE)
#define PAIR_OF_TEXT(name, value) pair_of(name, sizeof(name) - 1, value, sizeof(value) - 1, FIXED)

size_t cpl_record_pairs(nghttp2_nv *nva, size_t n, const cpl_buf *records)
{
    cpl_record r;
    for (size_t at = 0; cpl_record_next(records, &at, &r);)
        nva[n++] = pair_of(r.name, r.name_size, r.value, r.value_size, 0);
    return n;
}

static size_t add_status(nghttp2_nv *nva, size_t n, const cpl_call *call)
{
    static const char *const digits[] = {"0", "1",  "2",  "3",  "4",  "5",  "6",  "7", "8",
                                         "9", "10", "11", "12", "13", "14", "15", "16"};
    const char *status = digits[call->status];
    nva[n++] = pair_of("grpc-status", 11, status, strlen(status), FIXED);
    if (call->status_message.size)
        nva[n++] = pair_of("grpc-message", 12, call->status_message.data, call->status_message.size,
                           NGHTTP2_NV_FLAG_NO_COPY_NAME);
    return cpl_record_pairs(nva, n, &call->trailing);
}

static void fail_stream(cpl_call *call)
{
    nghttp2_submit_rst_stream(call->conn->channel.session, NGHTTP2_FLAG_NONE, call->stream_id, NGHTTP2_INTERNAL_ERROR);
}

static ssize_t read_reply(nghttp2_session *session, int32_t stream_id, uint8_t *buf, size_t length,
                          uint32_t *data_flags, nghttp2_data_source *source, void *user)
{
    (void)user;
    cpl_call *call = source->ptr;
    size_t n = call->out.size - call->out_at;
    if (n > length) n = length;
    if (n) memcpy(buf, call->out.data + call->out_at, n);
    call->out_at += n;
    if (call->out_at < call->out.size) return (ssize_t)n;
    clear(&call->out);
    call->out_at = 0;
    if (!call->finished) {
        if (call->method->streams_in) cpl_call_settle(call);
        return n ? (ssize_t)n : NGHTTP2_ERR_DEFERRED;
    }
    *data_flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    nghttp2_nv nva[CPL_REPLY_PAIRS_MAX];
    size_t count = add_status(nva, 0, call);
    if (nghttp2_submit_trailer(session, stream_id, nva, count)) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    return (ssize_t)n;
}

static size_t response_head(nghttp2_nv *nva, const cpl_call *call)
{
    nva[0] = PAIR_OF_TEXT(":status", "200");
    nva[1] = PAIR_OF_TEXT("content-type", "application/grpc");
    nva[2] = PAIR_OF_TEXT("grpc-accept-encoding", CPL_GRPC_ACCEPT_ENCODING);
    return cpl_record_pairs(nva, 3, &call->initial);
}

static void start_reply(cpl_call *call)
{
    call->responded = true;
    nghttp2_nv nva[CPL_REPLY_PAIRS_MAX];
    nghttp2_data_provider provider = {.source = {.ptr = call}, .read_callback = read_reply};
    if (nghttp2_submit_response(call->conn->channel.session, call->stream_id, nva, response_head(nva, call), &provider))
        fail_stream(call);
}

static void trailers_only(cpl_call *call)
{
    call->responded = true;
    nghttp2_nv nva[CPL_REPLY_PAIRS_MAX];
    size_t n = add_status(nva, response_head(nva, call), call);
    if (nghttp2_submit_response(call->conn->channel.session, call->stream_id, nva, n, NULL)) fail_stream(call);
}

void cpl_call_decide(cpl_call *call, cpl_grpc_code code, const char *message)
{
    call->finished = true;
    call->status = (unsigned)code <= CPL_GRPC_UNAUTHENTICATED ? code : CPL_GRPC_UNKNOWN;
    cpl_buf_clear(&call->status_message);
    if (message && *message)
        cpl_grpc_percent_encode(&call->status_message, message, strlen(message), STATUS_MESSAGE_BYTES_MAX);
    cpl_deadline_remove(&call->conn->home->loop.deadlines, &call->deadline);
    uncount(call);
}

static void end_reply(cpl_call *call)
{
    if (!call->responded && !call->out.size) {
        trailers_only(call);
    } else if (!call->responded) {
        start_reply(call);
    } else {
        nghttp2_session_resume_data(call->conn->channel.session, call->stream_id);
    }
    cpl_channel_touch(&call->conn->channel);
}

/* After the transport's own answer; on HTTP/1.1, where nothing else holds it, the call may be gone. */
static void end_service(cpl_call *call)
{
    if (call->service_has) {
        tell_cancelled(call);
    } else {
        service_done(call);
        drop_if_unheld(call);
    }
}

void cpl_call_abort(cpl_call *call, cpl_grpc_code code, const char *message)
{
    if (call->finished) return;
    if (call->plain) {
        cpl_call_refuse(call, cpl_http_status_of_grpc(code), message);
        return;
    }
    cpl_call_decide(call, code, message);
    /* What nghttp2 hasn't taken of the messages is not sent any more; a message cut in two would be an error of its
     * own, so in that case the stream is reset instead. */
    if (call->out_at) {
        nghttp2_submit_rst_stream(call->conn->channel.session, NGHTTP2_FLAG_NONE, call->stream_id, NGHTTP2_CANCEL);
        cpl_channel_touch(&call->conn->channel);
    } else {
        clear(&call->out);
        end_reply(call);
    }
    end_service(call);
}

void cpl_call_refuse(cpl_call *call, int http_status, const char *message)
{
    if (call->finished) return;
    if (call->streaming)
        cpl_plain_end(call, false);
    else
        cpl_plain_fail(call, http_status, message);
    end_service(call);
}

void cpl_call_reject_http(cpl_call *call, int http_status, const char *message)
{
    cpl_call_decide(call, CPL_GRPC_INTERNAL, message);
    call->responded = true;
    char digits[4];
    snprintf(digits, sizeof digits, "%d", http_status);
    nghttp2_nv nva[6];
    size_t n = 0;
    nva[n++] = pair_of(":status", 7, digits, 3, NGHTTP2_NV_FLAG_NO_COPY_NAME);
    if (http_status == 405) nva[n++] = PAIR_OF_TEXT("allow", "POST");
    nva[n++] = PAIR_OF_TEXT("content-type", "text/plain; charset=utf-8");
    /* gRPC clients show these; others show the status. */
    nva[n++] = PAIR_OF_TEXT("grpc-status", "13");
    nva[n++] = pair_of("grpc-message", 12, call->status_message.data, call->status_message.size, 0);
    if (nghttp2_submit_response(call->conn->channel.session, call->stream_id, nva, n, NULL)) fail_stream(call);
    cpl_channel_touch(&call->conn->channel);
    service_done(call);
}

/* ---- what services call ----------------------------------------------------------------------------------- */

cpl_text cpl_call_metadata(const cpl_call *call, const char *name)
{
    size_t n = strlen(name);
    cpl_record r;
    for (size_t at = 0; cpl_record_next(&call->headers, &at, &r);)
        if (r.name_size == n && !memcmp(r.name, name, n)) return (cpl_text){r.value, r.value_size};
    return (cpl_text){NULL, 0};
}

uint64_t cpl_call_deadline_ns(const cpl_call *call) { return call->deadline.when_ns; }
uint64_t cpl_call_received_ns(const cpl_call *call) { return call->received_ns; }
cpl_loop *cpl_call_loop(const cpl_call *call) { return &call->conn->home->loop; }
const char *cpl_call_path(const cpl_call *call) { return call->method->path; }
bool cpl_call_is_plain(const cpl_call *call) { return call->plain; }

bool cpl_call_is_local(const cpl_call *call)
{
    cpl_address peer = {.size = sizeof peer.storage};
    const int fd = call->conn->channel.fd;
    return fd >= 0 && !getpeername(fd, (struct sockaddr *)&peer.storage, &peer.size) && cpl_address_is_local(&peer);
}

void **cpl_call_user(cpl_call *call) { return &call->user; }

void **cpl_call_connection_user(cpl_call *call, void (*destroy)(void *))
{
    call->conn->user_destroy = destroy;
    return &call->conn->user;
}

static cpl_status add_metadata(cpl_buf *records, const char *name, const char *value)
{
    size_t n = strlen(name), used = 0;
    if (!n || !nghttp2_check_header_name((const uint8_t *)name, n) || name[0] == ':' || !strncmp(name, "grpc-", 5) ||
        !nghttp2_check_header_value((const uint8_t *)value, strlen(value)))
        return CPL_INVALID;
    cpl_record r;
    for (size_t at = 0; cpl_record_next(records, &at, &r);) used++;
    if (used == OWN_METADATA_MAX) return CPL_INVALID;
    cpl_record_add(records, name, n, value, strlen(value));
    return records->failed ? CPL_NO_MEMORY : CPL_OK;
}

cpl_status cpl_call_header(cpl_call *call, const char *name, const char *value)
{
    return call->responded ? CPL_PRECONDITION : add_metadata(&call->initial, name, value);
}

cpl_status cpl_call_trailer(cpl_call *call, const char *name, const char *value)
{
    return call->finished && !call->cancelled_told ? CPL_PRECONDITION : add_metadata(&call->trailing, name, value);
}

cpl_status cpl_call_send(cpl_call *call, const void *message, size_t n)
{
    CPL_ASSERT(!call->plain);
    if (call->finished) return CPL_OK;
    if (n > UINT32_MAX) return CPL_INVALID;
    if (!cpl_buf_reserve(&call->out, CPL_GRPC_PREFIX + n)) {
        call->out.failed = false; /* what was queued before is whole */
        return CPL_NO_MEMORY;
    }
    cpl_frame_write(&call->out, message, n);
    if (call->responded) {
        nghttp2_session_resume_data(call->conn->channel.session, call->stream_id);
    } else {
        start_reply(call);
    }
    cpl_channel_touch(&call->conn->channel);
    return CPL_OK;
}

void cpl_call_finish(cpl_call *call, cpl_grpc_code code, const char *message)
{
    CPL_ASSERT(call->service_has);
    if (!call->finished && call->streaming) {
        cpl_plain_end(call, code == CPL_GRPC_OK);
    } else if (!call->finished && call->plain) {
        cpl_plain_fail(call, cpl_http_status_of_grpc(code), message);
    } else if (!call->finished) {
        cpl_call_decide(call, code, message);
        end_reply(call);
    }
    service_done(call);
    drop_if_unheld(call);
}

void cpl_call_respond(cpl_call *call, int http_status, const char *content_type, const void *body, size_t n)
{
    CPL_ASSERT(call->service_has && call->plain);
    if (!call->finished) cpl_plain_reply(call, http_status, content_type, body, n);
    service_done(call);
    drop_if_unheld(call);
}

void cpl_call_fail(cpl_call *call, int http_status, const char *message)
{
    CPL_ASSERT(call->service_has && call->plain);
    if (!call->finished) cpl_plain_fail(call, http_status, message);
    service_done(call);
    drop_if_unheld(call);
}

void cpl_call_release(cpl_call *call)
{
    CPL_ASSERT(call->service_has && call->cancelled_told);
    service_done(call);
    drop_if_unheld(call);
}
