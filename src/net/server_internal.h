/* SPDX-License-Identifier: Apache-2.0 */
/* server_internal.h - the server's own structures: server > loops > connections > calls. Everything below the server
 * belongs to one loop's thread, but for what is atomic. */
#ifndef CPL_NET_SERVER_INTERNAL_H
#define CPL_NET_SERVER_INTERNAL_H

#include <pthread.h>

#include "base/thread.h"
#include "net/channel.h"
#include "net/server.h"

typedef struct cpl_server_loop cpl_server_loop;

typedef struct cpl_http1 cpl_http1;

enum { CPL_UNREAD_BYTES_MAX = 1024 * 1024 }; /* of a stream's replies */

typedef struct cpl_connection {
    cpl_channel channel; /* first: events find the connection by it */
    cpl_http1 *http1;    /* not NULL: it speaks HTTP/1.1, and the channel has no session */
    cpl_server_loop *home;
    struct cpl_connection *prev, *next; /* of the loop */
    struct cpl_call *calls;             /* all that refer to this connection */
    uint32_t call_count;
    void *user;
    void (*user_destroy)(void *);
    uint8_t preface_size; /* bytes of HTTP/2's client preface seen */
    bool ended, closed;   /* the channel's */
    bool draining, goaway_final, pinging;
    uint64_t opened_ns, active_ns, drain_ns, ping_ns;
} cpl_connection;

struct cpl_call {
    cpl_connection *conn;
    struct cpl_call *prev, *next; /* of the connection; `next` also chains the free list */
    const cpl_method *method;     /* NULL until the headers are whole, or when there is none */
    int32_t stream_id;
    cpl_deadline deadline;           /* when_ns UINT64_MAX: none */
    uint64_t opened_ns, received_ns; /* first header byte; last byte of the request */
    cpl_frame_reader reader;
    cpl_frame unary;   /* the message of a unary method, until END_STREAM */
    cpl_buf body;      /* plain HTTP: the request's */
    uint64_t charged;  /* bytes of the server's budget */
    size_t unconsumed; /* flow control bytes held back while the budget is used up */
    uint64_t starved_ns;
    cpl_buf headers;           /* records, see cpl_record */
    cpl_buf initial, trailing; /* the same */
    cpl_buf out;               /* framed messages; plain HTTP over HTTP/2: the reply's body */
    size_t out_at;             /* of them, given to nghttp2 */
    cpl_buf status_message;    /* percent-encoded */
    cpl_grpc_code status;
    void *user;
    bool plain;          /* plain HTTP, not gRPC */
    bool head;           /* ... and the reply's body is not wanted */
    bool streaming;      /* ... and the reply comes in pieces */
    bool stream_open;    /* nghttp2 knows the stream; HTTP/1.1: the reply isn't written yet */
    bool has_message;    /* unary: `unary` is filled */
    bool half_closed;    /* END_STREAM came */
    bool headers_over;   /* past the limit */
    bool service_has;    /* the service must finish or release */
    bool cancelled_told; /* ... and was told of the cancellation */
    bool finished;       /* the status is decided */
    bool responded;      /* response headers are submitted */
    bool counted;        /* in calls_now */
};

/* Counters of one loop: written by its thread only, read by any. */
typedef struct cpl_loop_stats {
    atomic_uint_least64_t connections, calls, calls_now, protocol_errors, cut_off;
} cpl_loop_stats;

struct cpl_server_loop {
    cpl_loop loop; /* first: cpl_call_loop and events find it by it */
    cpl_server *server;
    uint32_t index;
    cpl_thread thread;
    cpl_connection *connections;
    struct cpl_call *free_calls;
    uint32_t free_count;
    cpl_deadline tick, thirst;
    cpl_loop_stats stats;
    bool draining, closing, may_stop;
    cpl_post drain_post, cut_post, close_post;
    cpl_status start_status;
    cpl_error start_error;
};

typedef struct cpl_listener {
    int fd;
    uv_poll_t poll;
    char name[128]; /* as cpl_server_address gives it */
    char path[108]; /* of a unix socket, to be unlinked; "" else */
    cpl_server *server;
} cpl_listener;

struct cpl_server {
    cpl_server_options options; /* defaults filled in */
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    cpl_server_loop *loops;
    uint32_t loop_count, loops_started;
    cpl_listener *listeners;
    size_t listener_count;
    uint32_t next_loop;        /* loop 0's */
    cpl_deadline accept_again; /* loop 0's: after running out of descriptors */
    uint64_t tick_ns;
    atomic_uint_least64_t request_bytes; /* of the budget, in use */
    atomic_uint_least32_t connections_now;
    pthread_mutex_t lock; /* for `changed`, loops ready and quiet */
    pthread_cond_t changed;
    uint32_t loops_ready, loops_quiet;
    bool drained;
};

/* ---- server.c ---- */
/* A server with neither sockets nor threads yet: connections without a descriptor can be opened on its loops and fed
 * (fuzz_http2.c). */
cpl_status cpl_server_new(cpl_server **out, const cpl_server_options *options, cpl_error *err);
void cpl_server_free(cpl_server *s); /* joins the threads, which have been told to stop */

/* ---- connection.c ---- */
/* Takes fd (-1 in tests: feed cpl_connection_received). The connection is counted in connections_now already. */
cpl_status cpl_connection_open(cpl_connection **out, cpl_server_loop *home, int fd, cpl_error *err);
void cpl_connection_received(cpl_channel *ch, const uint8_t *data, size_t n);
/* Says GOAWAY twice, a round trip apart; closes once its streams are through. */
void cpl_connection_drain(cpl_connection *c);
/* Keepalive, idle and handshake timeouts. */
void cpl_connection_tick(cpl_connection *c, uint64_t now_ns);
/* A call has gone; frees a closed connection without calls. */
void cpl_connection_call_gone(cpl_connection *c);
cpl_status cpl_connection_callbacks(nghttp2_session_callbacks **out, cpl_error *err);
/* Wakes whoever waits in drain or close, if this loop has become quiet. */
void cpl_server_loop_note(cpl_server_loop *l);

/* ---- request.c: nghttp2 callbacks for what a client sends ---- */
int cpl_request_begin(nghttp2_session *session, const nghttp2_frame *frame, void *user);
int cpl_request_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_n,
                       const uint8_t *value, size_t value_n, uint8_t flags, void *user);
int cpl_request_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data, size_t n,
                     void *user);
/* HEADERS or DATA is whole. */
void cpl_request_frame(cpl_connection *c, cpl_call *call, const nghttp2_frame *frame);
/* Reopens windows that were held back, if there is room again. */
void cpl_request_thirst(cpl_deadline *d);

/* ---- call.c ---- */
cpl_call *cpl_call_take(cpl_connection *c, int32_t stream_id); /* NULL: no memory */
/* The stream is gone: cancels, or frees. */
void cpl_call_stream_gone(cpl_call *call);
/* The transport ends the call itself; the service, if it has it, is cancelled. */
void cpl_call_abort(cpl_call *call, cpl_grpc_code code, const char *message);
/* The same for a plain call, by HTTP status. On HTTP/1.1 the call may then be gone, after cpl_call_abort too. */
void cpl_call_refuse(cpl_call *call, int http_status, const char *message);
/* Answers what is no gRPC request, on HTTP/2. */
void cpl_call_reject_http(cpl_call *call, int http_status, const char *message);
/* The status is decided and the deadline off; call.c's half of a plain reply. */
void cpl_call_decide(cpl_call *call, cpl_grpc_code code, const char *message);
/* The server reads grpc-timeout on plain calls too. False: answered. */
bool cpl_call_start_deadline(cpl_call *call);
size_t cpl_record_pairs(nghttp2_nv *nva, size_t n, const cpl_buf *records);
enum { CPL_REPLY_PAIRS_MAX = 2 * 32 + 8 };

/* ---- plain.c: calls that are plain HTTP ---- */
/* Headers are whole. False: gRPC, or no method of that path, and `call` is as it was. True: it is plain, perhaps
 * answered. */
bool cpl_plain_headers(cpl_call *call);
void cpl_plain_refuse_path(cpl_call *call); /* 404, with the paths there are */
void cpl_plain_data(cpl_call *call, const uint8_t *data, size_t n);
void cpl_plain_whole(cpl_call *call); /* the request's end */
/* Decides the call and answers; it must not be finished. On HTTP/1.1 the caller drops it. */
void cpl_plain_reply(cpl_call *call, int http_status, const char *content_type, const void *body, size_t n);
/* A streamed reply's end; whole: in good order. Decides the call. */
void cpl_plain_end(cpl_call *call, bool whole);
/* As cpl_plain_reply, with the method's error_body. */
void cpl_plain_fail(cpl_call *call, int http_status, const char *message);
bool cpl_server_has_room(const cpl_server *s, uint64_t quarters); /* request.c's */

/* ---- http1.c: connections that speak HTTP/1.1 ---- */
/* The connection's first bytes are no HTTP/2 preface. */
cpl_status cpl_http1_open(cpl_connection *c, cpl_error *err);
void cpl_http1_close(cpl_http1 *h); /* NULL is fine */
void cpl_http1_received(cpl_connection *c, const uint8_t *data, size_t n);
/* Writes the reply; the connection goes on with the next request once the call is gone. */
void cpl_http1_reply(cpl_call *call, int http_status, const char *content_type, const void *body, size_t n);
/* A reply in pieces: its head, one piece, and its end, after which the connection goes on or, if not whole, ends. */
void cpl_http1_stream(cpl_call *call, const char *content_type);
void cpl_http1_piece(cpl_call *call, const void *data, size_t n);
void cpl_http1_stream_end(cpl_call *call, bool whole);
/* A call has gone: the next request, if one waits. May end the connection. */
void cpl_http1_call_gone(cpl_connection *c);
/* No new request; ends the connection unless one is being answered. */
void cpl_http1_drain(cpl_connection *c);
void cpl_call_charge(cpl_call *call, size_t n);
/* Charges a streaming call for what it holds now, its messages being used up: a begun one and unread replies. */
void cpl_call_settle(cpl_call *call);
size_t cpl_call_unread(const cpl_call *call); /* bytes of replies that nghttp2 hasn't taken */
void cpl_call_free_pool(cpl_server_loop *l);

/* Header records: two sizes, then name and value end to end. */
typedef struct cpl_record {
    uint32_t name_size, value_size;
    const char *name, *value;
} cpl_record;
void cpl_record_add(cpl_buf *b, const void *name, size_t name_n, const void *value, size_t value_n);
/* False past the last. *at starts at 0. */
bool cpl_record_next(const cpl_buf *b, size_t *at, cpl_record *out);

/* ---- listen.c ---- */
cpl_status cpl_listeners_open(cpl_server *s, cpl_error *err);
void cpl_listeners_watch(cpl_server *s); /* on loop 0's thread */
void cpl_listeners_close(cpl_server *s); /* on loop 0's thread, or before it runs */

#endif
