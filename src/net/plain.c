/* SPDX-License-Identifier: Apache-2.0 */
/* plain.c - calls that are plain HTTP requests: found by path and verb, one body in, one reply out.
 *
 * The idea: to a service and to the limits (message size, memory budget, deadline, cancellation) such a call is like
 * any other, so it is the same cpl_call; only finding the method, collecting the body and writing the reply differ, and
 * of these only the last knows which HTTP it is: HTTP/2 here, HTTP/1.1 in http1.c. Requests keep HTTP/2's form, pseudo
 * headers included.
 *
 * grpc-timeout is honoured as on gRPC calls. Threads: the connection's loop. */
#include <stdio.h>

#include "base/error.h"
#include "net/server_internal.h"
#include "net/status_map.h"

static bool is(cpl_text t, const char *word) { return t.size == strlen(word) && !memcmp(t.data, word, t.size); }

static bool verb_fits(cpl_verb verb, cpl_text said)
{
    return verb == CPL_VERB_GET ? is(said, "GET") || is(said, "HEAD") : is(said, "POST");
}

/* A '*' in the method's path takes a segment. */
static bool fits(cpl_text path, const char *method)
{
    const char *star = strchr(method, '*');
    if (!star) return is(path, method);
    const size_t before = (size_t)(star - method), after = strlen(star + 1);
    return path.size > before + after && !memcmp(path.data, method, before) &&
           !memcmp(path.data + path.size - after, star + 1, after) &&
           !memchr(path.data + before, '/', path.size - before - after);
}

bool cpl_plain_headers(cpl_call *call)
{
    static const char grpc[] = "application/grpc";
    const cpl_server_options *o = &call->conn->home->server->options;
    const cpl_text type = cpl_call_metadata(call, "content-type");
    if (type.size >= sizeof grpc - 1 && !memcmp(type.data, grpc, sizeof grpc - 1)) return false;
    cpl_text path = cpl_call_metadata(call, ":path"), verb = cpl_call_metadata(call, ":method");
    const char *query = path.size ? memchr(path.data, '?', path.size) : NULL;
    if (query) path.size = (size_t)(query - path.data);
    const cpl_method *found = NULL, *other = NULL;
    for (size_t i = 0; i < o->method_count && !found; i++) {
        const cpl_method *m = &o->methods[i];
        if (m->verb == CPL_VERB_GRPC || !fits(path, m->path)) continue;
        if (verb_fits(m->verb, verb))
            found = m;
        else
            other = m;
    }
    if (!found && !other) return false;
    call->plain = true;
    call->method = found ? found : other;
    call->head = is(verb, "HEAD");
    if (!found) {
        const bool get = other->verb == CPL_VERB_GET;
        cpl_call_header(call, "allow", get ? "GET, HEAD" : "POST");
        cpl_call_refuse(call, 405, get ? "this path takes GET" : "this path takes POST");
        return true;
    }
    cpl_text encoding = cpl_call_metadata(call, "content-encoding");
    if (encoding.size && !is(encoding, "identity"))
        cpl_call_refuse(call, 415, "content-encoding is not supported: send the body as it is");
    else
        cpl_call_start_deadline(call);
    return true;
}

void cpl_plain_refuse_path(cpl_call *call)
{
    const cpl_server_options *o = &call->conn->home->server->options;
    char text[320] = "nothing is served at this path";
    for (size_t i = 0, n = strlen(text), listed = 0; i < o->method_count && n + 1 < sizeof text; i++) {
        if (o->methods[i].verb == CPL_VERB_GRPC) continue;
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", listed++ ? ", " : "; paths are ", o->methods[i].path);
    }
    cpl_call_refuse(call, 404, text);
}

void cpl_plain_data(cpl_call *call, const uint8_t *data, size_t n)
{
    const uint32_t limit = call->conn->home->server->options.message_bytes_max;
    if (call->body.size + n > limit) {
        char text[96];
        snprintf(text, sizeof text, "the request's body is larger than the limit of %u bytes", limit);
        cpl_call_refuse(call, 413, text);
        return;
    }
    cpl_buf_add(&call->body, data, n);
    if (call->body.failed) cpl_call_refuse(call, 503, "out of memory");
}

void cpl_plain_whole(cpl_call *call)
{
    call->half_closed = true;
    if (call->finished) return;
    call->received_ns = call->conn->home->loop.read_ns;
    if (call->deadline.when_ns <= call->received_ns) {
        cpl_call_abort(call, CPL_GRPC_DEADLINE_EXCEEDED, "the call's deadline had passed when its request was whole");
        return;
    }
    call->service_has = true;
    const char *body = call->body.size ? call->body.data : "";
    call->method->message(call, (const uint8_t *)body, call->body.size, call->method->service);
}

/* ---- the reply over HTTP/2 ----------------------------------------------------------------------------------- */

static ssize_t read_body(nghttp2_session *session, int32_t stream_id, uint8_t *buf, size_t length, uint32_t *data_flags,
                         nghttp2_data_source *source, void *user)
{
    (void)session, (void)stream_id, (void)user;
    cpl_call *call = source->ptr;
    size_t n = call->out.size - call->out_at;
    if (n > length) n = length;
    if (n) memcpy(buf, call->out.data + call->out_at, n);
    call->out_at += n;
    if (call->out_at < call->out.size) return (ssize_t)n;
    if (!call->streaming || call->finished) {
        *data_flags |= NGHTTP2_DATA_FLAG_EOF;
        return (ssize_t)n;
    }
    cpl_buf_clear(&call->out);
    call->out_at = 0;
    return n ? (ssize_t)n : NGHTTP2_ERR_DEFERRED;
}

static nghttp2_nv pair_of(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name), strlen(value),
                        NGHTTP2_NV_FLAG_NO_COPY_NAME};
}

static void reply_http2(cpl_call *call, int http_status, const char *content_type, const void *body, size_t n)
{
    char status[8], length[24];
    snprintf(status, sizeof status, "%d", http_status);
    snprintf(length, sizeof length, "%zu", n);
    nghttp2_nv nva[CPL_REPLY_PAIRS_MAX];
    nva[0] = pair_of(":status", status);
    nva[1] = pair_of("content-type", content_type);
    nva[2] = pair_of("content-length", length);
    const size_t count = cpl_record_pairs(nva, 3, &call->initial);
    cpl_buf_clear(&call->out);
    call->out_at = 0;
    if (!call->head) cpl_buf_add(&call->out, body, n);
    nghttp2_data_provider provider = {.source = {.ptr = call}, .read_callback = read_body};
    nghttp2_session *session = call->conn->channel.session;
    if (call->out.failed ||
        nghttp2_submit_response(session, call->stream_id, nva, count, call->out.size ? &provider : NULL))
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, call->stream_id, NGHTTP2_INTERNAL_ERROR);
    cpl_channel_touch(&call->conn->channel);
}

static void stream_http2(cpl_call *call, const char *content_type)
{
    nghttp2_nv nva[CPL_REPLY_PAIRS_MAX];
    nva[0] = pair_of(":status", "200");
    nva[1] = pair_of("content-type", content_type);
    const size_t count = cpl_record_pairs(nva, 2, &call->initial);
    nghttp2_data_provider provider = {.source = {.ptr = call}, .read_callback = read_body};
    nghttp2_session *session = call->conn->channel.session;
    if (nghttp2_submit_response(session, call->stream_id, nva, count, call->head ? NULL : &provider))
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, call->stream_id, NGHTTP2_INTERNAL_ERROR);
    cpl_channel_touch(&call->conn->channel);
}

/* ---- both ---------------------------------------------------------------------------------------------------- */

void cpl_plain_reply(cpl_call *call, int http_status, const char *content_type, const void *body, size_t n)
{
    cpl_call_decide(call, CPL_GRPC_OK, NULL);
    call->responded = true;
    if (call->conn->http1)
        cpl_http1_reply(call, http_status, content_type, body, n);
    else
        reply_http2(call, http_status, content_type, body, n);
}

void cpl_plain_fail(cpl_call *call, int http_status, const char *message)
{
    cpl_buf body = {0};
    if (!message || !*message) message = "the request failed";
    if (http_status == 429 || http_status == 503) cpl_call_header(call, "retry-after", "1");
    const bool json = call->method && call->method->error_body;
    if (json)
        call->method->error_body(&body, http_status, message);
    else
        cpl_buf_print(&body, "%s\n", message);
    cpl_plain_reply(call, http_status, json ? "application/json" : "text/plain; charset=utf-8", body.data,
                    body.failed ? 0 : body.size);
    cpl_buf_deinit(&body);
}

/* ---- replies in pieces --------------------------------------------------------------------------------------- */

void cpl_call_stream(cpl_call *call, const char *content_type)
{
    CPL_ASSERT(call->service_has && call->plain);
    if (call->finished || call->responded) return;
    call->responded = call->streaming = true;
    if (call->conn->http1)
        cpl_http1_stream(call, content_type);
    else
        stream_http2(call, content_type);
}

void cpl_call_write(cpl_call *call, const void *data, size_t n)
{
    CPL_ASSERT(call->plain);
    if (call->finished || !call->streaming || call->head || !n) return;
    if (call->conn->http1) {
        cpl_http1_piece(call, data, n);
        return;
    }
    cpl_buf_add(&call->out, data, n);
    if (call->out.failed || cpl_call_unread(call) > CPL_UNREAD_BYTES_MAX)
        nghttp2_submit_rst_stream(call->conn->channel.session, NGHTTP2_FLAG_NONE, call->stream_id, NGHTTP2_CANCEL);
    else
        nghttp2_session_resume_data(call->conn->channel.session, call->stream_id);
    cpl_channel_touch(&call->conn->channel);
}

void cpl_plain_end(cpl_call *call, bool whole)
{
    cpl_call_decide(call, CPL_GRPC_OK, NULL);
    if (call->conn->http1) {
        cpl_http1_stream_end(call, whole);
        return;
    }
    nghttp2_session *session = call->conn->channel.session;
    if (!whole)
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, call->stream_id, NGHTTP2_CANCEL);
    else if (!call->head)
        nghttp2_session_resume_data(session, call->stream_id);
    cpl_channel_touch(&call->conn->channel);
}
