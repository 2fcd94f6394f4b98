/* SPDX-License-Identifier: Apache-2.0 */
/* http1.c - a connection that speaks HTTP/1.1: llhttp takes requests apart, each becomes a plain call (plain.c).
 *
 * The idea: one request at a time. When one is whole the parser pauses and what follows it on the connection waits in
 * `in`; the reply written and its call gone, the parser goes on. So requests that a client pipelines are answered in
 * order by construction, and a client that sends on without reading is cut off at IN_BYTES_MAX.
 *
 * Strict, so that no proxy in front can see other requests than we do: llhttp's leniencies stay off, a request without
 * Host is refused, and whatever isn't clean ends the connection after its answer. Upgrades are not taken: the request
 * is answered as it stands.
 *
 * Invariant: `call` is the call of the request being read or answered, NULL between; its `half_closed` tells which.
 * Replies may come from inside `run` (a service that answers at once) or later; `running` keeps them from nesting.
 * Rejected: keeping bytes that wait in the socket (the peer's close would go unnoticed). Threads: the loop's. */
#include <llhttp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/error.h"
#include "net/server_internal.h"

enum { IN_BYTES_MAX = 1024 * 1024 };

struct cpl_http1 {
    llhttp_t parser;
    cpl_call *call;
    cpl_buf target, name, value; /* of the head being read */
    cpl_buf in;                  /* bytes after the request being answered */
    bool running, head_read, whole, keep_alive;
};

static cpl_connection *connection_of(llhttp_t *parser) { return parser->data; }

/* Another request on this connection makes no sense any more; what is written goes out first. */
static void end_after_writing(cpl_connection *c) { cpl_channel_end_flushed(&c->channel); }

/* ---- reading a request --------------------------------------------------------------------------------------- */

static int on_begin(llhttp_t *parser)
{
    cpl_connection *c = connection_of(parser);
    c->active_ns = c->home->loop.read_ns;
    c->http1->head_read = c->http1->whole = false;
    cpl_buf_clear(&c->http1->target);
    cpl_buf_clear(&c->http1->name);
    cpl_buf_clear(&c->http1->value);
    c->http1->call = cpl_call_take(c, 0);
    return c->http1->call ? HPE_OK : HPE_USER;
}

/* What only HTTP/2's preface begins with isn't waited for any longer. */
static int on_verb(llhttp_t *parser) { return parser->method == HTTP_PRI ? HPE_USER : HPE_OK; }

/* A piece of the head into *to; past the limit only the fact is kept. */
static int keep(llhttp_t *parser, cpl_buf *to, const char *at, size_t n)
{
    cpl_connection *c = connection_of(parser);
    cpl_call *call = c->http1->call;
    if (c->http1->head_read) return HPE_OK; /* trailers of a chunked body */
    if (call->headers.size + c->http1->target.size + c->http1->name.size + c->http1->value.size + n >
        c->home->server->options.header_bytes_max)
        call->headers_over = true;
    else
        cpl_buf_add(to, at, n);
    return HPE_OK;
}

static int on_target(llhttp_t *parser, const char *at, size_t n)
{
    return keep(parser, &connection_of(parser)->http1->target, at, n);
}
static int on_name(llhttp_t *parser, const char *at, size_t n)
{
    return keep(parser, &connection_of(parser)->http1->name, at, n);
}
static int on_value(llhttp_t *parser, const char *at, size_t n)
{
    return keep(parser, &connection_of(parser)->http1->value, at, n);
}

static int on_header(llhttp_t *parser)
{
    cpl_http1 *h = connection_of(parser)->http1;
    if (h->head_read) return HPE_OK;
    for (size_t i = 0; i < h->name.size; i++)
        if (h->name.data[i] >= 'A' && h->name.data[i] <= 'Z') h->name.data[i] += 'a' - 'A';
    cpl_record_add(&h->call->headers, h->name.size ? h->name.data : "", h->name.size,
                   h->value.size ? h->value.data : "", h->value.size);
    cpl_buf_clear(&h->name);
    cpl_buf_clear(&h->value);
    return HPE_OK;
}

/* The head is whole and may be too large, lack Host, or name nothing of ours; false: answered. */
static bool accept_head(cpl_connection *c, cpl_call *call)
{
    cpl_http1 *h = c->http1;
    char text[96];
    if (call->headers_over || call->headers.failed || h->target.failed) {
        snprintf(text, sizeof text, "request headers are larger than the limit of %u bytes",
                 c->home->server->options.header_bytes_max);
        cpl_call_refuse(call, 431, text);
    } else if (h->parser.http_minor > 0 && !cpl_call_metadata(call, "host").data) {
        cpl_call_refuse(call, 400, "an HTTP/1.1 request needs a Host header");
    } else if ((h->parser.flags & F_CONTENT_LENGTH) &&
               h->parser.content_length > c->home->server->options.message_bytes_max) {
        snprintf(text, sizeof text, "the request's body is larger than the limit of %u bytes",
                 c->home->server->options.message_bytes_max);
        cpl_call_refuse(call, 413, text);
    } else if (!cpl_plain_headers(call)) {
        cpl_plain_refuse_path(call);
    }
    return h->call && !h->call->finished;
}

static int on_head(llhttp_t *parser)
{
    cpl_connection *c = connection_of(parser);
    cpl_http1 *h = c->http1;
    cpl_call *call = h->call;
    const char *verb = llhttp_method_name((llhttp_method_t)parser->method);
    h->head_read = true;
    h->keep_alive = llhttp_should_keep_alive(parser);
    parser->upgrade = 0;
    call->plain = true;
    cpl_record_add(&call->headers, ":method", 7, verb, strlen(verb));
    cpl_record_add(&call->headers, ":path", 5, h->target.size ? h->target.data : "", h->target.size);
    if (!accept_head(c, call)) return HPE_USER;
    const cpl_text expect = cpl_call_metadata(call, "expect");
    if (expect.size == 12 && !strncasecmp(expect.data, "100-continue", 12) && parser->http_minor > 0) {
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        cpl_channel_write(&c->channel, go_on, sizeof go_on - 1);
    }
    return HPE_OK;
}

static int on_body(llhttp_t *parser, const char *at, size_t n)
{
    cpl_connection *c = connection_of(parser);
    cpl_call_charge(c->http1->call, n);
    if (cpl_server_has_room(c->home->server, 5))
        cpl_plain_data(c->http1->call, (const uint8_t *)at, n);
    else
        cpl_call_refuse(c->http1->call, 503, "the server's memory for requests is used up; try again");
    return c->http1->call && !c->http1->call->finished ? HPE_OK : HPE_USER;
}

static int on_whole(llhttp_t *parser)
{
    connection_of(parser)->http1->whole = true;
    return HPE_PAUSED;
}

/* ---- the connection ------------------------------------------------------------------------------------------ */

static bool may_read(const cpl_connection *c)
{
    return !c->ended && !c->channel.end_when_flushed && !(c->http1->call && c->http1->call->half_closed);
}

static void refuse_garbage(cpl_connection *c)
{
    cpl_http1 *h = c->http1;
    char text[128];
    const char *reason = llhttp_get_error_reason(&h->parser);
    cpl_count(&c->home->stats.protocol_errors, 1);
    snprintf(text, sizeof text, "the request is not HTTP/1.1: %.80s", reason ? reason : "unreadable");
    if (h->call && !h->call->finished) {
        h->call->plain = true;
        cpl_call_refuse(h->call, 400, text);
        return;
    }
    static const char reply[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    cpl_channel_write(&c->channel, reply, sizeof reply - 1);
    end_after_writing(c);
}

/* Parses until a request has to be answered first; returns how many bytes are through. */
static size_t run(cpl_connection *c, const char *data, size_t n)
{
    cpl_http1 *h = c->http1;
    size_t done = 0;
    h->running = true;
    while (done < n && may_read(c)) {
        const llhttp_errno_t e = llhttp_execute(&h->parser, data + done, n - done);
        done = e == HPE_OK ? n : (size_t)(llhttp_get_error_pos(&h->parser) - data);
        if (e == HPE_PAUSED && h->whole) {
            llhttp_resume(&h->parser);
            h->whole = false;
            cpl_plain_whole(h->call);
        } else if (e != HPE_OK && may_read(c)) {
            refuse_garbage(c);
        }
    }
    h->running = false;
    return c->channel.end_when_flushed ? n : done;
}

/* What waits, now that a request is answered. */
static void go_on(cpl_connection *c)
{
    cpl_http1 *h = c->http1;
    if (h->running || !h->in.size || !may_read(c)) return;
    cpl_buf waiting = h->in;
    h->in = (cpl_buf){0};
    const size_t done = run(c, waiting.data, waiting.size);
    if (done < waiting.size) cpl_buf_add(&h->in, waiting.data + done, waiting.size - done);
    cpl_buf_deinit(&waiting);
    if (h->in.failed) cpl_channel_end(&c->channel, "out of memory");
}

cpl_status cpl_http1_open(cpl_connection *c, cpl_error *err)
{
    static const llhttp_settings_t settings = {
        .on_message_begin = on_begin,
        .on_method_complete = on_verb,
        .on_url = on_target,
        .on_header_field = on_name,
        .on_header_value = on_value,
        .on_header_value_complete = on_header,
        .on_headers_complete = on_head,
        .on_body = on_body,
        .on_message_complete = on_whole,
    };
    cpl_http1 *h = calloc(1, sizeof *h);
    if (!h) return cpl_fail_memory(err, sizeof *h);
    llhttp_init(&h->parser, HTTP_REQUEST, &settings);
    h->parser.data = c;
    c->http1 = h;
    return CPL_OK;
}

void cpl_http1_close(cpl_http1 *h)
{
    if (!h) return;
    cpl_buf_deinit(&h->target);
    cpl_buf_deinit(&h->name);
    cpl_buf_deinit(&h->value);
    cpl_buf_deinit(&h->in);
    free(h);
}

void cpl_http1_received(cpl_connection *c, const uint8_t *data, size_t n)
{
    cpl_http1 *h = c->http1;
    if (!n || c->channel.end_when_flushed) return;
    const size_t done = h->in.size ? 0 : run(c, (const char *)data, n);
    if (done == n) return;
    cpl_buf_add(&h->in, data + done, n - done);
    if (h->in.failed || h->in.size > IN_BYTES_MAX)
        cpl_channel_end(&c->channel, "the peer sends requests and doesn't wait for their answers");
    else
        go_on(c);
}

void cpl_http1_call_gone(cpl_connection *c)
{
    c->http1->call = NULL;
    c->active_ns = cpl_clock_ns();
    go_on(c);
}

void cpl_http1_drain(cpl_connection *c)
{
    if (!c->http1->call) end_after_writing(c);
}

/* ---- replies ------------------------------------------------------------------------------------------------- */

static const char *reason_of(int http_status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        {200, "OK"},
        {204, "No Content"},
        {400, "Bad Request"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {422, "Unprocessable Content"},
        {424, "Failed Dependency"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
    };
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if (reasons[i].status == http_status) return reasons[i].reason;
    return "Other";
}

/* n: the body's length; SIZE_MAX: not known. */
static void write_head(cpl_buf *out, const cpl_call *call, int http_status, const char *content_type, size_t n,
                       bool close)
{
    static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    const time_t now = time(NULL);
    struct tm t;
    gmtime_r(&now, &t);
    cpl_buf_print(out, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\n", http_status, reason_of(http_status), content_type);
    if (n < SIZE_MAX)
        cpl_buf_print(out, "Content-Length: %zu\r\n", n);
    else if (call->conn->http1->parser.http_minor > 0)
        cpl_buf_text(out, "Transfer-Encoding: chunked\r\n");
    cpl_buf_print(out, "Date: %s, %02d %s %d %02d:%02d:%02d GMT\r\n", days[t.tm_wday], t.tm_mday, months[t.tm_mon],
                  1900 + t.tm_year, t.tm_hour, t.tm_min, t.tm_sec);
    cpl_record r;
    for (size_t at = 0; cpl_record_next(&call->initial, &at, &r);)
        cpl_buf_print(out, "%.*s: %.*s\r\n", (int)r.name_size, r.name, (int)r.value_size, r.value);
    if (close)
        cpl_buf_text(out, "Connection: close\r\n");
    else if (call->conn->http1->parser.http_minor == 0)
        cpl_buf_text(out, "Connection: keep-alive\r\n");
    cpl_buf_text(out, "\r\n");
}

void cpl_http1_reply(cpl_call *call, int http_status, const char *content_type, const void *body, size_t n)
{
    cpl_connection *c = call->conn;
    const bool close = !call->half_closed || !c->http1->keep_alive || c->draining;
    cpl_buf head = {0};
    write_head(&head, call, http_status, content_type, n, close);
    call->stream_open = false;
    if (!head.failed) {
        cpl_channel_write(&c->channel, head.data, head.size);
        if (!call->head && n) cpl_channel_write(&c->channel, body, n);
    }
    if (close || head.failed) end_after_writing(c);
    cpl_buf_deinit(&head);
}

/* HTTP/1.0 knows no chunks: there the connection's end is the reply's. */
void cpl_http1_stream(cpl_call *call, const char *content_type)
{
    cpl_connection *c = call->conn;
    cpl_http1 *h = c->http1;
    if (h->parser.http_minor == 0) h->keep_alive = false;
    cpl_buf head = {0};
    write_head(&head, call, 200, content_type, SIZE_MAX, !h->keep_alive || c->draining);
    if (head.failed)
        cpl_channel_lose(&c->channel, "out of memory");
    else
        cpl_channel_write(&c->channel, head.data, head.size);
    cpl_buf_deinit(&head);
}

void cpl_http1_piece(cpl_call *call, const void *data, size_t n)
{
    cpl_connection *c = call->conn;
    const bool chunked = c->http1->parser.http_minor > 0;
    char size[24];
    const int size_n = snprintf(size, sizeof size, "%zx\r\n", n);
    if (c->channel.unsent.size - c->channel.unsent_at > CPL_UNREAD_BYTES_MAX) {
        cpl_channel_lose(&c->channel, "the client doesn't read the stream it asked for");
        return;
    }
    if (chunked) cpl_channel_write(&c->channel, size, (size_t)size_n);
    cpl_channel_write(&c->channel, data, n);
    if (chunked) cpl_channel_write(&c->channel, "\r\n", 2);
}

void cpl_http1_stream_end(cpl_call *call, bool whole)
{
    cpl_connection *c = call->conn;
    call->stream_open = false;
    if (whole && c->http1->parser.http_minor > 0 && !call->head) cpl_channel_write(&c->channel, "0\r\n\r\n", 5);
    if (!whole || !c->http1->keep_alive || c->draining) end_after_writing(c);
}
