/* SPDX-License-Identifier: Apache-2.0 */
/* server.h - listens, speaks HTTP/2 and gRPC, calls the methods it was given. Everything about sockets, framing, flow
 * control, limits and deadlines stays below this line; everything about models above it. */
#ifndef CPL_NET_SERVER_H
#define CPL_NET_SERVER_H

#include "net/call.h"
#include "net/loop.h"

typedef struct cpl_server cpl_server;

typedef struct cpl_server_options {
    const char *const *listen; /* "HOST:PORT", "[V6]:PORT", "unix:PATH"; port 0: any; NULL-terminated */
    const cpl_method *methods; /* borrowed for the server's life */
    size_t method_count;
    uint32_t loops;                /* network threads; 0: max(1, cores / 8) */
    uint32_t message_bytes_max;    /* one gRPC message, after decompression; 0: 4 MiB */
    uint32_t header_bytes_max;     /* of one request; 0: 16 KiB */
    uint32_t streams_max;          /* concurrent, a connection; 0: 1024 */
    uint64_t request_bytes_max;    /* all requests' bytes held at once; windows close past it; at least twice
                                    * message_bytes_max; 0: 256 MiB or that */
    uint32_t connections_max;      /* 0: 65536 */
    uint32_t request_timeout_ms;   /* for a request to arrive whole (streaming methods: its headers); 0: 60,000 */
    uint32_t idle_timeout_ms;      /* a connection without streams; 0: none */
    uint32_t keepalive_ms;         /* PING after this much silence; 0: 7,200,000 */
    uint32_t keepalive_timeout_ms; /* 0: 20,000 */
    cpl_status (*loop_started)(cpl_loop *loop, void *user, cpl_error *err); /* on each loop's thread; may be NULL */
    void (*loop_stopped)(cpl_loop *loop, void *user);
    void *user;
    const cpl_log *log;
} cpl_server_options;

/* Binds and starts the network threads; calls may arrive before this returns. */
cpl_status cpl_server_open(cpl_server **out, const cpl_server_options *options, cpl_error *err);
/* The i-th bound address as "HOST:PORT" (the real port) or "unix:PATH"; NULL past the last. */
const char *cpl_server_address(const cpl_server *s, size_t i);
/* Stops accepting, sends GOAWAY, lets calls in flight end; returns when all have or grace_ms passed (the rest is then
 * reset). Returns how many were cut off. */
uint32_t cpl_server_drain(cpl_server *s, uint32_t grace_ms);
/* Drains with no grace if that wasn't done, then waits until services have released every call, so whatever releases
 * them (the engine) must still run. NULL is fine. */
void cpl_server_close(cpl_server *s);

typedef struct cpl_server_stats {
    uint64_t connections, connections_now, calls, calls_now, bytes_in, bytes_out, protocol_errors;
} cpl_server_stats;
void cpl_server_stats_get(cpl_server *s, cpl_server_stats *out);

#endif
