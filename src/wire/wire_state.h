/* SPDX-License-Identifier: Apache-2.0 */
/* wire_state.h - what the dialects share; for the wire floor's own files. */
#ifndef CPL_WIRE_WIRE_STATE_H
#define CPL_WIRE_WIRE_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/buf.h"
#include "base/thread.h"
#include "wire/descriptors.h"
#include "wire/window.h"
#include "wire/wire.h"

typedef struct cpl_wire_op cpl_wire_op;
typedef struct cpl_wire_loop cpl_wire_loop;
typedef struct cpl_wire_stream cpl_wire_stream;

enum { CPL_WIRE_METHODS = 22 };

typedef struct cpl_wire_job cpl_wire_job;

/* The thread that loads and unloads models (admin.c). */
typedef struct cpl_wire_admin {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    cpl_wire_job *first;
    bool stopping;
    cpl_thread thread;
} cpl_wire_admin;

struct cpl_wire {
    cpl_wire_options options;
    char *config;
    cpl_descriptors descriptors;
    cpl_method methods[CPL_WIRE_METHODS];
    atomic_bool serving, draining, loss_told;
    pthread_mutex_t lock; /* of `loops` */
    cpl_wire_loop *loops;
    cpl_wire_admin admin;
};

/* One a network thread; all but `window` and `told` is that thread's own. */
struct cpl_wire_loop {
    cpl_wire *wire;
    cpl_loop *loop;
    cpl_wire_loop *next;
    cpl_tokenizer_scratch *scratch;
    cpl_window *window;
    cpl_buf out;              /* the reply being encoded */
    cpl_wire_op *free_ops;    /* tasks waiting for their next request */
    size_t free_bytes;        /* what those hold */
    cpl_wire_stream *streams; /* open streaming calls */
    cpl_post told;            /* health has changed */
    uint64_t dice;            /* for ids of spans and traces */
    cpl_deadline live;        /* the next event of /live, while somebody looks */
    atomic_bool told_pending;
};

/* A streaming call. */
struct cpl_wire_stream {
    cpl_wire_loop *home;
    cpl_wire_stream *next, **link;
    cpl_call *call;
    void (*told)(cpl_wire_stream *s); /* health has changed or draining began; may close the stream */
    bool known;                       /* Watch: the service asked about is one of ours */
    int last;                         /* Watch: status sent last */
};

/* A request ended with this: watchers of health hear of a lost device with the first request that meets it. */
void cpl_wire_check_loss(cpl_call *call, cpl_status status);

cpl_wire_loop *cpl_wire_loop_of(const cpl_call *call);
/* Binds a stream to the call (cpl_call_user); NULL and the call finished when memory is out. */
cpl_wire_stream *cpl_wire_stream_open(cpl_call *call, void (*told)(cpl_wire_stream *s));
/* Finishes or, with code < 0, releases the call. */
void cpl_wire_stream_end(cpl_wire_stream *s, int code, const char *message);
/* Finishes with the status's code and the error's sentence. */
void cpl_wire_fail(cpl_call *call, const cpl_error *err);
/* Sends *out as the only message and finishes, or fails the call when out has run out of memory. */
void cpl_wire_reply(cpl_call *call, const cpl_buf *out);

/* The methods, by file. */
void cpl_infer_message(cpl_call *call, const uint8_t *data, size_t n, void *wire);
void cpl_wire_op_close(cpl_wire_op *op);
cpl_wire_op *cpl_wire_op_next(cpl_wire_op *op);
void cpl_metrics_message(cpl_call *call, const uint8_t *data, size_t n, void *wire);
void cpl_stats_message(cpl_call *call, const uint8_t *data, size_t n, void *wire);
void cpl_health_check_message(cpl_call *call, const uint8_t *data, size_t n, void *wire);
void cpl_health_list_message(cpl_call *call, const uint8_t *data, size_t n, void *wire);
void cpl_health_watch_message(cpl_call *call, const uint8_t *data, size_t n, void *wire);
void cpl_reflection_message(cpl_call *call, const uint8_t *data, size_t n, void *wire);
void cpl_reflection_half_closed(cpl_call *call, void *wire);
void cpl_stream_cancelled(cpl_call *call, void *wire);
/* admin.c */
cpl_status cpl_wire_admin_open(cpl_wire *w, cpl_error *err);
void cpl_wire_admin_close(cpl_wire *w);
void cpl_admin_load(cpl_call *call, const uint8_t *data, size_t n, void *wire);
void cpl_admin_unload(cpl_call *call, const uint8_t *data, size_t n, void *wire);
void cpl_admin_cancelled(cpl_call *call, void *wire);
/* Load or unload the model of this name, with what else is said of it (JSON, a map; taken over; unload: nothing). An
 * empty object answers. */
void cpl_admin_named(cpl_call *call, cpl_wire *w, bool unloads, const char *name, cpl_buf *text);
/* ---- oip_repository.c ---- */
void cpl_oip_index(cpl_call *call, const uint8_t *data, size_t n, void *wire);
void cpl_oip_load(cpl_call *call, const uint8_t *data, size_t n, void *wire);
void cpl_oip_unload(cpl_call *call, const uint8_t *data, size_t n, void *wire);
void cpl_admin_error_body(cpl_buf *out, int http_status, const char *message);
/* TEI's dialect (tei.c, tei_info.c) and Prometheus's (prometheus.c). */
void cpl_tei_rerank(cpl_call *call, const uint8_t *data, size_t n, void *wire);
void cpl_tei_embed(cpl_call *call, const uint8_t *data, size_t n, void *wire);
void cpl_tei_health(cpl_call *call, const uint8_t *data, size_t n, void *wire);
void cpl_tei_info(cpl_call *call, const uint8_t *data, size_t n, void *wire);
void cpl_tei_error_body(cpl_buf *out, int http_status, const char *message);
void cpl_live_page(cpl_call *call, const uint8_t *data, size_t n, void *wire);
void cpl_live_events(cpl_call *call, const uint8_t *data, size_t n, void *wire);
void cpl_live_tick(cpl_deadline *timer);
void cpl_prometheus_message(cpl_call *call, const uint8_t *data, size_t n, void *wire);
/* Latency windows of all network threads, merged. *sum is zeroed by the caller; 72 KB. */
void cpl_wire_window_sum(cpl_window_sum *sum, cpl_wire *w);
/* The models served now, held; replicas one by one. */
typedef struct cpl_wire_models {
    cpl_engine *engine;
    uint32_t count;
    uint32_t index[CPL_ENGINE_MODELS_MAX];
    const cpl_engine_model *at[CPL_ENGINE_MODELS_MAX];
    cpl_engine_model_stats stats[CPL_ENGINE_MODELS_MAX];
} cpl_wire_models;
void cpl_wire_models_take(cpl_wire_models *m, cpl_wire *w);
void cpl_wire_models_let_go(cpl_wire_models *m);
/* What the server has done, for pages that show it. On the heap (half a megabyte); NULL: no memory. */
typedef struct cpl_wire_totals {
    cpl_engine_stats engine;
    cpl_window_sum window;
    cpl_wire_models models;
} cpl_wire_totals;
cpl_wire_totals *cpl_wire_totals_take(cpl_wire *w);
void cpl_wire_totals_let_go(cpl_wire_totals *t); /* NULL is fine */
/* Resident bytes of this process; 0 where the system has no /proc. */
uint64_t cpl_wire_resident_bytes(void);
/* The answer to `call` from the loop's reply buffer, as JSON or text; fails the call when the buffer ran out of memory.
 */
void cpl_wire_respond(cpl_call *call, int http_status, const char *content_type, const cpl_buf *body);

#endif
