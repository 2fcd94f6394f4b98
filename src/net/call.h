/* SPDX-License-Identifier: Apache-2.0 */
/* call.h - one call as a service sees it: of gRPC, messages in, messages out, a status at the end; of plain HTTP, one
 * body in, one reply out, over HTTP/2 and HTTP/1.1 alike.
 *
 * A call lives on its loop's thread and every function here must be called there (loop.h's cpl_loop_post brings other
 * threads' results over). It stays valid until BOTH the transport is through with it AND the service has called
 * cpl_call_finish or, after `cancelled`, cpl_call_release; so a service with work in flight never holds a dangling
 * call. */
#ifndef CPL_NET_CALL_H
#define CPL_NET_CALL_H

#include <stdbool.h>

#include "base/buf.h"
#include "couplet.h"

typedef struct cpl_call cpl_call;
typedef struct cpl_loop cpl_loop;

/* gRPC status codes, as on the wire. */
typedef enum cpl_grpc_code {
    CPL_GRPC_OK = 0,
    CPL_GRPC_CANCELLED = 1,
    CPL_GRPC_UNKNOWN = 2,
    CPL_GRPC_INVALID_ARGUMENT = 3,
    CPL_GRPC_DEADLINE_EXCEEDED = 4,
    CPL_GRPC_NOT_FOUND = 5,
    CPL_GRPC_ALREADY_EXISTS = 6,
    CPL_GRPC_PERMISSION_DENIED = 7,
    CPL_GRPC_RESOURCE_EXHAUSTED = 8,
    CPL_GRPC_FAILED_PRECONDITION = 9,
    CPL_GRPC_ABORTED = 10,
    CPL_GRPC_OUT_OF_RANGE = 11,
    CPL_GRPC_UNIMPLEMENTED = 12,
    CPL_GRPC_INTERNAL = 13,
    CPL_GRPC_UNAVAILABLE = 14,
    CPL_GRPC_DATA_LOSS = 15,
    CPL_GRPC_UNAUTHENTICATED = 16
} cpl_grpc_code;

/* How a method is called. GET also answers HEAD. */
typedef enum cpl_verb { CPL_VERB_GRPC, CPL_VERB_GET, CPL_VERB_POST } cpl_verb;

cpl_grpc_code cpl_grpc_code_of(cpl_status status);
const char *cpl_grpc_code_name(cpl_grpc_code code);

/* One method of a service. A unary method gets exactly one `message`, after which nothing more arrives; a streaming
 * one gets any number and then `half_closed`. `cancelled` comes at most once, when the client reset the stream, the
 * connection was lost or the deadline passed: replies are then dropped. */
typedef struct cpl_method {
    /* "/inference.InferenceService/Infer"; of plain HTTP a '*' in it stands for one segment that isn't empty. */
    const char *path;
    int streams_in; /* 1: client or bidirectional streaming */
    /* Data is the decompressed message: of a unary method valid until the call is finished or released, of a streaming
     * one until this returns. */
    void (*message)(cpl_call *call, const uint8_t *data, size_t n, void *service);
    void (*half_closed)(cpl_call *call, void *service); /* NULL for unary methods */
    void (*cancelled)(cpl_call *call, void *service);   /* NULL: nothing in flight ever; the call then just goes */
    void *service;
    cpl_verb verb; /* not GRPC: plain HTTP; `message` gets the body, "" for GET, and replies by cpl_call_respond */
    /* Plain HTTP: writes the JSON body of an error that the transport answers (a body too large, a deadline) or that
     * the service gave to cpl_call_finish. */
    void (*error_body)(cpl_buf *out, int http_status, const char *message);
} cpl_method;

/* The value of a request header (lower-case name), not terminated; {NULL, 0} when absent. */
cpl_text cpl_call_metadata(const cpl_call *call, const char *name);
/* From grpc-timeout; UINT64_MAX: none. The transport itself answers DEADLINE_EXCEEDED and then calls `cancelled`. */
uint64_t cpl_call_deadline_ns(const cpl_call *call);
/* When the request's last byte was there. */
uint64_t cpl_call_received_ns(const cpl_call *call);
const char *cpl_call_path(const cpl_call *call); /* its method's */
bool cpl_call_is_plain(const cpl_call *call);    /* plain HTTP, not gRPC */
/* Does the client run on this machine: does it come over the loopback interface or a unix socket? */
bool cpl_call_is_local(const cpl_call *call);
cpl_loop *cpl_call_loop(const cpl_call *call);
/* One pointer for the service per call, and one per connection (with a destructor, run on the loop's thread once the
 * connection has ended and its last call is through). */
void **cpl_call_user(cpl_call *call);
void **cpl_call_connection_user(cpl_call *call, void (*destroy)(void *));

/* Plain HTTP: the whole reply (copied), headers by cpl_call_header before it. Ends the call as cpl_call_finish does,
 * which on such a call answers with the code's HTTP status and error_body. content_type is not copied. */
void cpl_call_respond(cpl_call *call, int http_status, const char *content_type, const void *body, size_t n);

/* Plain HTTP: ends the call with an error: error_body, and Retry-After where trying again makes sense. */
void cpl_call_fail(cpl_call *call, int http_status, const char *message);
/* Plain HTTP: begins a reply of unknown length (a stream of events, say), after which pieces follow by cpl_call_write
 * and cpl_call_finish ends it; a code other than OK then cuts it off. A client that leaves 1 MiB of it unread is cut
 * off by the transport, and `cancelled` comes. */
void cpl_call_stream(cpl_call *call, const char *content_type);
void cpl_call_write(cpl_call *call, const void *data, size_t n);

/* Initial metadata; before the first send. CPL_INVALID: not a header, one of gRPC's own, or the 33rd. */
cpl_status cpl_call_header(cpl_call *call, const char *name, const char *value);
/* Trailing metadata; before finish. */
cpl_status cpl_call_trailer(cpl_call *call, const char *name, const char *value);
/* Queues one message (copied). Dropped silently once the call was cancelled. What the client doesn't read stays queued
 * here; a streaming client that sends more messages and leaves 1 MiB of replies unread is cut off by the transport, so
 * a service that answers message by message needs no limit of its own. */
cpl_status cpl_call_send(cpl_call *call, const void *message, size_t n);
/* Ends the call; `call` must not be used afterwards. message may be NULL. After `cancelled` the same as release. */
void cpl_call_finish(cpl_call *call, cpl_grpc_code code, const char *message);
/* After `cancelled`, instead of finish: the service is through with it. */
void cpl_call_release(cpl_call *call);

#endif
