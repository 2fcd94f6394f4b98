/* SPDX-License-Identifier: Apache-2.0 */
/* client.h - gRPC over HTTP/2, or JSON over HTTP/1.1, as a client: connections on one event loop, calls with callbacks.
 * What the load generator and our own tools drive servers with. Everything on one thread: the one that calls
 * cpl_client_run. */
#ifndef CPL_NET_CLIENT_H
#define CPL_NET_CLIENT_H

#include <stdbool.h>

#include "net/call.h"

typedef struct cpl_client cpl_client;

typedef struct cpl_client_options {
    const char *target;          /* "HOST:PORT", "http://HOST:PORT", "unix:PATH" */
    uint32_t connections;        /* 0: 1 */
    bool http1;                  /* POST over HTTP/1.1, one call a connection at a time; false: gRPC */
    uint32_t connections_max;    /* http1: more are made when all are busy, up to so many; 0: `connections` */
    uint32_t connect_timeout_ms; /* 0: 5,000 */
    uint32_t message_bytes_max;  /* replies; 0: 64 MiB */
    const cpl_log *log;
} cpl_client_options;

typedef struct cpl_reply {
    cpl_grpc_code code;  /* CPL_GRPC_UNAVAILABLE with a reason when the connection failed; http1: by the status */
    int http_status;     /* http1: of the reply; 0: none came, or gRPC */
    const char *message; /* grpc-message, decoded; http1: of an error, how its body begins; "" when none */
    const uint8_t *data; /* the reply message or body; borrowed for the callback */
    size_t size;
    uint64_t sent_ns, done_ns; /* first byte handed to the socket; trailers read */
} cpl_reply;

/* Connects all connections; fails when the first attempt of any does. */
cpl_status cpl_client_open(cpl_client **out, const cpl_client_options *options, cpl_error *err);
void cpl_client_close(cpl_client *c); /* NULL is fine; outstanding calls get no callback */

/* Starts one unary call on `connection` (modulo their number; http1: on any that is free, CPL_QUEUE_FULL when all of
 * connections_max are busy). `request` is borrowed until the callback, which runs inside cpl_client_run and may start
 * more calls. timeout_ns 0: none. headers: {name, value, ..., NULL}; may be NULL.
 * A lost connection is made anew for the next call. */
cpl_status cpl_client_call(cpl_client *c, uint32_t connection, const char *path, const void *request, size_t n,
                           const char *const *headers, uint64_t timeout_ns,
                           void (*done)(void *user, const cpl_reply *reply), void *user, cpl_error *err);

/* Runs callbacks until `until_ns` (monotonic), or until stop() was called, or, with until_idle, no call is left. */
void cpl_client_run(cpl_client *c, uint64_t until_ns, bool until_idle);
void cpl_client_stop(cpl_client *c);
/* Calls fn(user) inside cpl_client_run at `when_ns`; one timer a client, set anew by each call; 0 clears it. */
void cpl_client_timer(cpl_client *c, uint64_t when_ns, void (*fn)(void *user), void *user);

#endif
