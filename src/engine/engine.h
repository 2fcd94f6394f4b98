/* SPDX-License-Identifier: Apache-2.0 */
/* engine.h - models, their queues, the workers that run them, the tokenizer pool and the deadline timer.
 *
 * Models come and go while requests run. A model has a number (an index below cpl_engine_model_count) that stays its
 * own until it is unloaded and nobody holds it any more: whoever looks one up holds it until he lets go, and so does
 * every task from its submit to its end. Programs that never unload one need not hold anything.
 *
 * Threads: every function may be called from any thread. No lock is held across a forward pass. */
#ifndef CPL_ENGINE_ENGINE_H
#define CPL_ENGINE_ENGINE_H

#include "base/histogram.h"
#include "base/topology.h"
#include "engine/batcher.h"
#include "engine/task.h"
#include "text/tokenizer.h"

typedef struct cpl_engine cpl_engine;

enum { CPL_ENGINE_MODELS_MAX = 32 }; /* replicas counted, and those that still drain */

typedef struct cpl_engine_model_options {
    const char *name; /* what requests call it; NULL: the directory's last part */
    const char *dir;
    const char *backend;     /* NULL: "native" */
    cpl_precision precision; /* AUTO allowed */
    bool fallback;           /* on_unsupported: fallback */
    uint32_t max_length;     /* 0: the model's */
    const char *score_label; /* name or number of the label that is the score; NULL, "": not said */
    uint32_t replicas;       /* copies, each with weights, a queue and its part of the workers; 0: 1 */
    uint32_t weight_milli;   /* share of the workers beside other models, in thousandths; 0: 1000 */
    bool count_stages;
    const char *const *settings; /* "key=value" for the backend, NULL-terminated; may be NULL */
} cpl_engine_model_options;

/* tokenizer_threads: the cores that no worker has, where every backend bounds its sessions (a device computes, and its
 * workers wait for it); 0 where the workers are what keeps the cores busy. */
#define CPL_TOKENIZER_THREADS_AUTO UINT32_MAX

/* Which replica a request goes to. */
typedef enum cpl_engine_routing { CPL_ROUTE_ROUND_ROBIN, CPL_ROUTE_LEAST_LOADED, CPL_ROUTE_RANDOM } cpl_engine_routing;

typedef struct cpl_engine_options {
    const cpl_engine_model_options *models;
    uint32_t model_count; /* at least 1 */
    uint32_t workers;     /* 0: cores; cut to what the backend allows */
    bool pin_workers;
    uint32_t tokenizer_threads; /* 0: everything inline on the submitting thread; or CPL_TOKENIZER_THREADS_AUTO */
    uint32_t inline_text_bytes; /* tasks with less text than this are tokenized inline; 0: 16384 */
    cpl_batch_policy policy;    /* zeroed fields: defaults (greedy, backend's token budget) */
    cpl_engine_routing routing;
    uint64_t id_cache_bytes; /* a model keeps ids of texts it has seen in so much memory; 0: it doesn't */
    const char *plugin_dir;
    const cpl_topology *topology; /* NULL: this machine's */
    const cpl_log *log;           /* borrowed for the engine's life */
} cpl_engine_options;

/* Loads every model and starts the threads. On failure *out is NULL and nothing is left behind. */
cpl_status cpl_engine_open(cpl_engine **out, const cpl_engine_options *options, cpl_error *err);
/* Refuses new tasks with CPL_UNAVAILABLE, waits until all accepted ones are done. */
void cpl_engine_drain(cpl_engine *e);
/* Drains what is running, ends what is queued with CPL_UNAVAILABLE, joins the threads, unloads. NULL is fine. */
void cpl_engine_close(cpl_engine *e);

/* What runs, per model; valid for the engine's life. `tokenizer` and `model` may be used by other threads. */
typedef struct cpl_engine_model {
    const char *name;
    const cpl_model *model;
    const cpl_tokenizer *tokenizer;
    const char *backend;
    cpl_precision requested, effective;
    char reason[160];
    char isa[64];
    char kernels[160]; /* what the backend says it loaded for, "" if nothing: "avx512, int8 products avx512-vnni" */
    uint64_t weight_bytes;
    uint32_t max_length; /* in effect */
    uint32_t workers, batch_tokens;
    uint32_t devices;           /* copies of the weights */
    int32_t score_label;        /* which label is the score; CPL_LABEL_UNSET: nobody said */
    uint32_t replica, replicas; /* this is number `replica` of so many */
    uint32_t weight_milli;
    bool length_aware; /* passes prefer sequences of similar length */
} cpl_engine_model;
uint32_t cpl_engine_tokenizer_threads(const cpl_engine *e);
uint32_t cpl_engine_worker_count(const cpl_engine *e);
/* Numbers of models are below this; some may be nobody's. */
uint32_t cpl_engine_model_count(const cpl_engine *e);
/* The model of a number that is held, or that is never unloaded. */
const cpl_engine_model *cpl_engine_model_at(const cpl_engine *e, uint32_t index);
/* The model called `name`, of several replicas the one whose turn it is; NULL or "" names the only one. It is held.
 * CPL_NOT_FOUND says what is served. */
cpl_status cpl_engine_model_hold(cpl_engine *e, const char *name, size_t name_size, uint32_t *index, cpl_error *err);
/* Holds the model of this number if it is served now; else NULL. */
const cpl_engine_model *cpl_engine_model_hold_at(cpl_engine *e, uint32_t index);
void cpl_engine_model_release(cpl_engine *e, uint32_t index);

/* Loads a model while others are served, tries it with a pair, and serves it; one of that name is replaced: requests
 * that came before go on with the old one, which is unloaded before this returns. On failure everything is as it was.
 * It gets at most as many workers as there are. Blocks, for as long as loading takes; several calls wait for each
 * other. */
cpl_status cpl_engine_model_load(cpl_engine *e, const cpl_engine_model_options *model, cpl_error *err);
/* Requests that came before are answered, later ones don't find it; returns once it is gone. CPL_NOT_FOUND;
 * CPL_PRECONDITION for the last one. Blocks. */
cpl_status cpl_engine_model_unload(cpl_engine *e, const char *name, size_t name_size, cpl_error *err);

/* Tokenizes (inline when the text is small, else on the pool), enqueues, returns at once. On failure (INVALID with the
 * number of the pair, counted from 0; QUEUE_FULL, DEADLINE, UNAVAILABLE) done is not called and the task stays the
 * caller's. What is tokenized on the pool may also meet a full queue after this returned: done says so then. done may
 * have been called when this returns. `scratch` is the calling thread's; NULL is fine for CPL_OP_IDS. */
cpl_status cpl_engine_submit(cpl_engine *e, cpl_task *t, const cpl_task_spec *spec, cpl_tokenizer_scratch *scratch,
                             cpl_error *err);
/* Asks for an early end: what isn't dispatched is dropped, done follows with CPL_CANCELLED (or what it had become). */
void cpl_engine_cancel(cpl_engine *e, cpl_task *t);

cpl_status cpl_flow_open(cpl_flow **out, cpl_engine *e, cpl_error *err);
void cpl_flow_close(cpl_flow *f); /* its tasks need not be done; NULL is fine */

/* A model whose backend said in a pass that it can't go on (CPL_UNAVAILABLE: its device was lost) takes no more
 * requests: they are refused at once, with what it said. Other models are not affected. Whether any model can still
 * run; where one can't, why, "" otherwise. Any thread. */
bool cpl_engine_alive(cpl_engine *e, char *why, size_t cap);
/* The same of one model. */
bool cpl_engine_model_alive(cpl_engine *e, uint32_t index, char *why, size_t cap);

/* Scores a fixed pair on every model: readiness and health. Blocks. */
cpl_status cpl_engine_canary(cpl_engine *e, cpl_error *err);

/* What the workers' passes of a model spent by stage since open, summed; at most cap of them, returns how many there
 * are, 0 when the backend doesn't count. Only while nothing of that model is submitted or running. */
uint32_t cpl_engine_stages(const cpl_engine *e, uint32_t model, cpl_stage *out, uint32_t cap);

/* Running totals since open, and what is there now. */
typedef struct cpl_engine_stats {
    uint64_t tasks_pooled; /* accepted, and tokenized by the pool rather than by whoever submitted them */
    uint64_t tasks_accepted, tasks_done, tasks_failed, tasks_cancelled, tasks_expired, tasks_refused;
    uint64_t sequences, tokens, passes;
    uint64_t padding_tokens; /* that rectangle backends computed for nothing, beside `tokens` */
    uint64_t pass_sequences_max, pass_tokens_max;
    uint64_t busy_ns;                                         /* workers inside forward passes, summed */
    uint64_t team_passes, team_members;                       /* passes run by teams; their workers, summed */
    uint64_t team_shares_late;                                /* of a lent worker, done by the pass's own instead */
    uint64_t queued_tokens, queued_requests, in_flight_tasks; /* now */
    cpl_histogram queue_ns, compute_ns, tokenize_ns, pass_sequences, pass_tokens;
} cpl_engine_stats;
void cpl_engine_stats_get(cpl_engine *e, cpl_engine_stats *out);

/* The same of one model (of one replica), without histograms: sums and what they are sums of. */
typedef struct cpl_engine_model_stats {
    uint64_t tasks_done, tasks_failed, tasks_cancelled, tasks_expired, tasks_refused;
    uint64_t sequences, tokens, padding_tokens, passes, busy_ns;
    uint64_t tasks_run; /* that reached a worker: what queue_ns and compute_ns are sums of */
    uint64_t queue_ns, compute_ns, tokenize_ns;
    uint64_t ids_found, ids_made; /* with an id cache: sequences whose ids were there, and that weren't */
    uint64_t queued_tokens, queued_requests, in_flight_tasks; /* now */
} cpl_engine_model_stats;
/* `model` is held, or never unloaded. */
void cpl_engine_model_stats_get(cpl_engine *e, uint32_t model, cpl_engine_model_stats *out);

#endif
