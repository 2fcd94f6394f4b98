/* SPDX-License-Identifier: Apache-2.0 */
/* client_internal.h - client > links (one connection each, for as long as it lasts) > calls. All on one thread. */
#ifndef CPL_NET_CLIENT_INTERNAL_H
#define CPL_NET_CLIENT_INTERNAL_H

#include "net/address.h"
#include "net/channel.h"
#include "net/client.h"

typedef struct client_link client_link;

typedef struct client_call {
    client_link *link;
    struct client_call *prev, *next; /* of the link; next also chains the free list */
    int32_t stream_id;
    uint8_t prefix[CPL_GRPC_PREFIX];
    const uint8_t *request;          /* borrowed until `done` */
    size_t request_size, request_at; /* request_at counts the prefix's bytes too */
    cpl_frame_reader reader;
    cpl_frame reply;
    bool has_reply;
    bool answered; /* `done` was called: what still comes is dropped */
    int http_status;
    int grpc_status;       /* -1: none came */
    cpl_grpc_code failure; /* found here, e.g. a reply over the limit; OK: none */
    cpl_buf message;
    uint64_t sent_ns;
    cpl_deadline timeout;
    void (*done)(void *user, const cpl_reply *reply);
    void *user;
} client_call;

struct client_link {
    cpl_channel channel; /* first */
    cpl_client *client;
    client_link *prev, *next;
    client_call *calls;
    uint32_t slot;
    bool current;               /* new calls of the slot go here */
    struct client_http1 *http1; /* NULL: HTTP/2 */
};

struct cpl_client {
    cpl_loop loop;
    cpl_client_options options; /* defaults filled in; target is not kept */
    cpl_address address;
    char authority[CPL_ADDRESS_TEXT];
    nghttp2_session_callbacks *callbacks;
    client_link *links;               /* all, the lost and the leaving too */
    client_link **slots;              /* options.connections; NULL: to be made by the next call */
    uint32_t *free_slots, free_count; /* HTTP/1.1: slots without a call, the last used on top */
    client_call *free_calls;
    uint32_t calls_now;
    char why[160]; /* the last connection ended so */
    bool stopped, time_up, until_idle, closing;
    cpl_deadline until, timer;
    void (*timer_fn)(void *user);
    void *timer_user;
};

/* ---- client_link.c ---- */
cpl_status cpl_client_callbacks(nghttp2_session_callbacks **out, cpl_error *err);
/* Starts connecting; the session takes calls at once. */
cpl_status cpl_client_connect(cpl_client *c, uint32_t slot, cpl_error *err);
client_call *cpl_client_call_take(client_link *link); /* NULL: no memory */
/* Unhooks the call, without a callback. */
void cpl_client_call_drop(client_call *call);
/* The link takes no new calls. */
void cpl_client_leave_slot(client_link *link);
/* HTTP/1.1: the slot's call is through. */
void cpl_client_slot_free(cpl_client *c, uint32_t slot);
/* Calls `done`, once. */
void cpl_client_answer(client_call *call, cpl_grpc_code code, const char *message);

/* ---- client_http1.c ---- */
cpl_status cpl_client_http1_open(client_link *link, cpl_error *err);
void cpl_client_http1_close(client_link *link); /* one of HTTP/2 is fine */
void cpl_client_http1_received(client_link *link, const uint8_t *data, size_t n);
/* Queues the call's request on its link; false: no memory. */
bool cpl_client_http1_call(client_call *call, const char *path, const char *const *headers);

#endif
