/* SPDX-License-Identifier: Apache-2.0 */
/* client_http1.c - a client's connection that speaks HTTP/1.1: one POST at a time, llhttp takes the replies apart.
 *
 * The idea: a link has one call in flight and no queue, so what the client measures is the server and never its own
 * waiting; whoever needs more calls at once gets more connections (client.c keeps the free ones). Pipelining is not
 * used: the servers this is pointed at answer pipelined requests in their own ways, or not at all.
 *
 * A connection that the server closes after a reply ("Connection: close", HTTP/1.0) is made anew by the next call; one
 * that it closes while a call waits fails that call, and nothing is sent twice.
 * Invariant: between replies `call` is NULL and any byte that comes ends the connection. Threads: the client's. */
#include <llhttp.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "net/client_internal.h"

enum { RETAINED_BYTES = 256 * 1024, QUOTED_BYTES = 160 };

struct client_http1 {
    llhttp_t parser;
    client_call *call;
    cpl_buf body;
    cpl_buf fixed; /* of every request's head: from behind the path to the length */
    uint64_t bytes_max;
    bool over;    /* the reply was larger */
    bool leaving; /* the server won't take another request on this connection */
};

static client_link *link_of(llhttp_t *parser) { return parser->data; }

static int on_begin(llhttp_t *parser)
{
    struct client_http1 *h = link_of(parser)->http1;
    cpl_buf_clear(&h->body);
    h->over = false;
    return h->call ? HPE_OK : HPE_USER;
}

static int on_body(llhttp_t *parser, const char *at, size_t n)
{
    struct client_http1 *h = link_of(parser)->http1;
    if (h->body.size + n > h->bytes_max)
        h->over = true;
    else
        cpl_buf_add(&h->body, at, n);
    return HPE_OK;
}

/* What an HTTP status says, in gRPC's words: status_map.h has the direction of proxies, this is that of servers. */
static cpl_grpc_code code_of(int http_status)
{
    switch (http_status) {
    case 400:
    case 405:
    case 413:
    case 415:
    case 422: return CPL_GRPC_INVALID_ARGUMENT;
    case 401: return CPL_GRPC_UNAUTHENTICATED;
    case 403: return CPL_GRPC_PERMISSION_DENIED;
    case 404: return CPL_GRPC_NOT_FOUND;
    case 408:
    case 504: return CPL_GRPC_DEADLINE_EXCEEDED;
    case 429: return CPL_GRPC_RESOURCE_EXHAUSTED;
    case 501: return CPL_GRPC_UNIMPLEMENTED;
    case 502:
    case 503: return CPL_GRPC_UNAVAILABLE;
    default: return http_status >= 500 ? CPL_GRPC_INTERNAL : CPL_GRPC_UNKNOWN;
    }
}

static int on_whole(llhttp_t *parser)
{
    client_link *link = link_of(parser);
    struct client_http1 *h = link->http1;
    client_call *call = h->call;
    const int status = parser->status_code;
    char text[QUOTED_BYTES + 64] = "";
    if (status >= 100 && status < 200) return HPE_OK; /* the reply proper follows */
    h->call = NULL;
    h->leaving = !llhttp_should_keep_alive(parser);
    if (h->leaving) cpl_client_leave_slot(link);
    cpl_client_slot_free(link->client, link->slot);
    call->http_status = status;
    if (h->over || h->body.failed) {
        cpl_client_answer(call, CPL_GRPC_RESOURCE_EXHAUSTED, "the reply is larger than the client's limit");
    } else if (status >= 200 && status < 300) {
        call->reply.data = (const uint8_t *)(h->body.size ? h->body.data : "");
        call->reply.size = h->body.size;
        call->has_reply = true;
        cpl_client_answer(call, CPL_GRPC_OK, "");
    } else {
        const int quoted = h->body.size < QUOTED_BYTES ? (int)h->body.size : QUOTED_BYTES;
        snprintf(text, sizeof text, "HTTP status %d: %.*s", status, quoted, quoted ? h->body.data : "");
        cpl_client_answer(call, code_of(status), text);
    }
    cpl_client_call_drop(call);
    if (h->body.cap > RETAINED_BYTES) cpl_buf_deinit(&h->body);
    return HPE_OK;
}

cpl_status cpl_client_http1_open(client_link *link, cpl_error *err)
{
    static const llhttp_settings_t settings = {
        .on_message_begin = on_begin, .on_body = on_body, .on_message_complete = on_whole};
    struct client_http1 *h = calloc(1, sizeof *h);
    if (!h) return cpl_fail_memory(err, sizeof *h);
    llhttp_init(&h->parser, HTTP_RESPONSE, &settings);
    h->parser.data = link;
    cpl_buf_print(&h->fixed,
                  " HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
                  "User-Agent: couplet/" COUPLET_VERSION "\r\nContent-Length: ",
                  link->client->address.storage.ss_family == AF_UNIX ? "localhost" : link->client->authority);
    if (h->fixed.failed) {
        cpl_buf_deinit(&h->fixed);
        free(h);
        return cpl_fail_memory(err, 256);
    }
    h->bytes_max = link->client->options.message_bytes_max;
    link->http1 = h;
    return CPL_OK;
}

void cpl_client_http1_close(client_link *link)
{
    if (!link->http1) return;
    cpl_buf_deinit(&link->http1->body);
    cpl_buf_deinit(&link->http1->fixed);
    free(link->http1);
    link->http1 = NULL;
}

void cpl_client_http1_received(client_link *link, const uint8_t *data, size_t n)
{
    struct client_http1 *h = link->http1;
    if (!h->call) {
        cpl_channel_end(&link->channel, "the server sends without being asked");
        return;
    }
    const llhttp_errno_t e = llhttp_execute(&h->parser, (const char *)data, n);
    if (link->channel.state != CPL_CHANNEL_OPEN) return; /* a callback ended it */
    if (e != HPE_OK)
        cpl_channel_end(&link->channel, "what the server sends is not HTTP/1.1");
    else if (h->leaving)
        cpl_channel_end(&link->channel, "the server closed the connection after its reply");
}

/* In decimal, at the end of `room`. */
static const char *number_text(char room[24], size_t n)
{
    char *at = room + 24;
    do *--at = (char)('0' + n % 10);
    while (n /= 10);
    return at;
}

bool cpl_client_http1_call(client_call *call, const char *path, const char *const *headers)
{
    client_link *link = call->link;
    cpl_buf *out = &link->channel.unsent; /* between calls it is empty and keeps its memory */
    const cpl_buf *fixed = &link->http1->fixed;
    char length[24];
    cpl_buf_add(out, "POST ", 5);
    cpl_buf_text(out, path);
    cpl_buf_add(out, fixed->data, fixed->size);
    const char *digits = number_text(length, call->request_size);
    cpl_buf_add(out, digits, (size_t)(length + sizeof length - digits));
    for (size_t i = 0; headers && headers[i] && headers[i + 1]; i += 2) {
        cpl_buf_add(out, "\r\n", 2);
        cpl_buf_text(out, headers[i]);
        cpl_buf_add(out, ": ", 2);
        cpl_buf_text(out, headers[i + 1]);
    }
    cpl_buf_add(out, "\r\n\r\n", 4);
    cpl_channel_write(&link->channel, call->request, call->request_size);
    if (out->failed) return false;
    link->http1->call = call;
    return true;
}
