/* SPDX-License-Identifier: Apache-2.0 */
/* state.h - what the engine's own files share: the insides of cpl_engine, cpl_flow and cpl_task.
 *
 * Three locks. engine->lock guards queues, counts, phases and statistics and is never held across tokenizing, a forward
 * pass, a reducer or a callback. pool->lock guards the tokenizer pool's queue and slice counters. registry->lock guards
 * which models are served. engine->lock may be taken inside registry->lock; else none is taken while another is held.
 *
 * A model's slot (engine->models[i]) is written with both registry->lock and engine->lock held, so either is enough to
 * read any of them; and whoever has a reference reads that one without a lock. */
#ifndef CPL_ENGINE_STATE_H
#define CPL_ENGINE_STATE_H

#include "backend/registry.h"
#include "base/arena.h"
#include "base/thread.h"
#include "base/topology.h"
#include "engine/crew.h"
#include "engine/engine.h"
#include "engine/id_cache.h"

/* ---- task ---------------------------------------------------------------------------------------------------- */

typedef enum cpl_task_phase {
    CPL_TASK_IDLE,       /* the caller's */
    CPL_TASK_PREPARING,  /* being laid out and tokenized */
    CPL_TASK_DISPATCHED, /* waiting in the batcher, in passes, or both */
    CPL_TASK_ENDED       /* everything is back; done was called or is about to be */
} cpl_task_phase;

/* What turns the sequences' rows into an item's. */
typedef enum cpl_reducer {
    CPL_REDUCE_ROW,   /* item i is sequence i */
    CPL_REDUCE_COSINE /* item i is the cosine of sequence queries + i with sequence query_of[i] */
} cpl_reducer;

/* Sequences [first, end) are tokenized by one thread, their ids from `at` on. */
typedef struct cpl_token_slice {
    uint32_t first, end;
    size_t at;
} cpl_token_slice;

struct cpl_task {
    cpl_batch_request batch;
    cpl_task_spec spec;
    cpl_task_result result;
    cpl_arena arena;
    cpl_engine *engine;
    cpl_flow *flow; /* referenced from admission to the end */

    cpl_reducer reducer;
    uint32_t sequences, queries; /* COSINE: sequences [0, queries) are the distinct queries */
    uint32_t max_length;
    uint32_t *query_of;   /* COSINE: by item */
    uint32_t *query_pair; /* COSINE: by distinct query, a pair that has it */
    uint32_t *lengths;    /* by sequence */
    size_t *offsets;      /* by sequence, into ids and type_ids */
    const int32_t *ids;
    const uint8_t *type_ids; /* NULL: all 0 */
    int32_t *ids_room;       /* where tokenizing writes; ids then points there */
    uint8_t *type_ids_room;
    float *raw; /* sequences x raw_width, as the backend returned them */
    uint32_t raw_width;
    uint64_t text_bytes;

    /* tokenizing: pool->lock, or the submitting thread alone */
    cpl_token_slice *slices;
    uint32_t slice_count, slice_next, slices_left;
    cpl_error token_error;
    cpl_task *pool_next;

    /* engine->lock */
    cpl_task_phase phase;
    uint32_t in_flight; /* sequences inside passes */
    uint64_t last_pass;
    uint64_t queued_at_ns, dispatched_at_ns;
    cpl_task *ended_next;
};

/* ---- engine --------------------------------------------------------------------------------------------------- */

struct cpl_flow {
    cpl_engine *engine;
    uint32_t references;                           /* engine->lock: the opener's and one a task */
    cpl_batch_flow *queues[CPL_ENGINE_MODELS_MAX]; /* by model; NULL until its first task */
};

typedef struct cpl_loaded_model {
    cpl_engine_model public;
    uint32_t index;         /* its slot */
    bool served;            /* registry->lock: can be found */
    uint32_t turn;          /* registry->lock; of the first replica: whose turn it is */
    atomic_uint references; /* the registry's, each holder's, each task's */
    char name[128], dir[512];
    cpl_model *model;
    cpl_tokenizer *tokenizer;
    cpl_id_cache *ids; /* NULL: none */
    cpl_backend_ref backend;
    cpl_caps caps;
    cpl_weights **weights; /* one a device; of a CPU backend one a node */
    uint32_t devices;
    uint32_t sessions; /* how many workers have one: cpl_model_runs_on says which */
    uint32_t spread;   /* over so many workers */
    cpl_want want;
    uint32_t row_width;
    cpl_batcher batcher;          /* engine->lock */
    cpl_engine_model_stats stats; /* engine->lock; but what is there now */
    cpl_error lost;               /* engine->lock; why it can't run any more, status CPL_OK while it can */
} cpl_loaded_model;

/* Memory for a worker's passes, sized to the largest model it runs. */
typedef struct cpl_scratch {
    struct cpl_scratch *next; /* of those to be freed */
    size_t tokens, sequences, cells;
    cpl_batch_slice *slices;
    uint32_t *cu_seqlens;
    int32_t *ids;
    uint8_t *type_ids;
    float *rows;
} cpl_scratch;

typedef struct cpl_worker {
    _Alignas(128) cpl_engine *engine;
    uint32_t index;
    uint32_t node; /* of engine->topology */
    bool pinned;
    cpl_status open_status; /* of its sessions and scratch, which it opens itself */
    cpl_error open_error;
    cpl_thread thread;
    pthread_cond_t wake;
    bool woken;
    bool coming; /* counted in engine->coming */
    struct cpl_worker *idle_next;
    cpl_crew *crew;                               /* its own, for passes that it leads */
    uint64_t crew_pass;                           /* the one that runs */
    uint32_t seats_taken;                         /* in it, its own included */
    struct cpl_worker *leader;                    /* lent to; NULL: not lent */
    atomic_bool recalled;                         /* lent, and wanted back */
    cpl_session *sessions[CPL_ENGINE_MODELS_MAX]; /* by model; NULL where it has none */
    cpl_batcher *queues[CPL_ENGINE_MODELS_MAX];   /* by model; NULL where it has no session. engine->lock */
    cpl_scratch *scratch;                         /* its own */
    cpl_scratch *fresh;                           /* engine->lock: a larger one, to be taken before the next pass */
    cpl_scratch *stale;                           /* its own: to be freed */
} cpl_worker;

typedef struct cpl_token_pool {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    cpl_task *first, *last;
    bool stopping;
    uint32_t threads;
    struct cpl_pool_thread *members;
} cpl_token_pool;

typedef struct cpl_pool_thread {
    cpl_engine *engine;
    cpl_thread thread;
    cpl_tokenizer_scratch *scratch;
    int32_t *room; /* 2 x room_length */
    uint32_t room_length;
} cpl_pool_thread;

typedef struct cpl_registry {
    pthread_mutex_t lock;
    pthread_cond_t let_go;   /* a model's last reference */
    pthread_mutex_t loading; /* held by whoever loads or unloads, outside all other locks */
    cpl_engine_routing routing;
    uint64_t dice; /* of CPL_ROUTE_RANDOM */
    /* what models loaded later need */
    cpl_batch_policy policy;
    char *plugin_dir;
    uint32_t workers; /* asked for */
    uint64_t id_cache_bytes;
} cpl_registry;

struct cpl_engine {
    pthread_mutex_t lock;
    pthread_cond_t drained, opened, timer_wake;
    const cpl_log *log;
    cpl_host host;
    cpl_registry registry;
    cpl_loaded_model *models[CPL_ENGINE_MODELS_MAX]; /* NULL: the slot is free */
    atomic_uint model_count;                         /* slots ever used */
    cpl_flow *flow;                                  /* of tasks that name none */
    cpl_worker *workers;
    uint32_t worker_count;
    cpl_thread timer;
    cpl_token_pool pool;
    uint32_t inline_text_bytes;
    cpl_topology topology;

    /* lock */
    uint32_t workers_opened;
    bool serving; /* all did */
    cpl_batch_picker picker;
    cpl_worker *idle_stack; /* not woken, last idle first: its caches are warmest */
    uint32_t idle;          /* workers with no pass of their own: asleep, coming or lent */
    uint32_t coming;        /* woken or called back, not looking for work yet */
    uint32_t lent;          /* to crews, and not called back */
    uint32_t seats_free;    /* in the crews of running passes */
    uint32_t idle_on[CPL_TOPOLOGY_NODES], lent_on[CPL_TOPOLOGY_NODES]; /* idle and lent, by node */
    uint32_t preparing;                                                /* tasks between admission and queue */
    uint64_t in_flight_tasks;
    uint64_t timer_at_ns;
    bool draining; /* refuse */
    bool closing;  /* end what comes out of the tokenizer */
    bool stopping; /* threads go home */
    cpl_engine_stats stats;
};

/* submit.c: one reference less. */
void cpl_flow_let_go(cpl_flow *f); /* (locked) */

/* prepare.c - from a spec to sequences that can be queued. */
cpl_status cpl_task_check(const cpl_engine *e, const cpl_task_spec *spec, cpl_error *err);
/* Takes all memory the task will need from its arena, in `slices_max` slices at most. */
cpl_status cpl_task_lay_out(cpl_engine *e, cpl_task *t, uint32_t slices_max, cpl_error *err);
/* Tokenizes one slice; room has twice the model's max_length entries. Touches nothing that another slice touches. */
cpl_status cpl_task_tokenize(cpl_engine *e, cpl_task *t, const cpl_token_slice *slice, cpl_tokenizer_scratch *scratch,
                             int32_t *room, cpl_error *err);

/* reduce.c - rows to results. */
void cpl_task_reduce(const cpl_loaded_model *m, cpl_task *t);

/* pool.c */
cpl_status cpl_token_pool_open(cpl_engine *e, uint32_t threads, cpl_error *err);
void cpl_token_pool_close(cpl_engine *e);
void cpl_token_pool_add(cpl_token_pool *p, cpl_task *t);

/* dispatch.c - queue to workers to the end of a task. Functions marked (locked) want engine->lock held. */
cpl_status cpl_dispatch_add(cpl_engine *e, cpl_task *t, cpl_error *err);                    /* (locked) */
void cpl_dispatch_end(cpl_engine *e, cpl_task *t, cpl_task **ended);                        /* (locked) */
void cpl_dispatch_fail(cpl_task *t, const cpl_error *why);                                  /* (locked) */
void cpl_dispatch_drop(cpl_engine *e, cpl_task *t, const cpl_error *why, cpl_task **ended); /* (locked) */
/* Reduces, calls done, lets go. Not locked. */
void cpl_dispatch_finish(cpl_engine *e, cpl_task *ended);
void cpl_worker_main(void *worker);
void cpl_timer_main(void *engine);

/* engine.c: scores a fixed pair on one model, served or not. */
cpl_status cpl_model_try(cpl_engine *e, uint32_t model, cpl_error *err);

/* workers.c - opens every worker's sessions on its own thread. */
cpl_status cpl_workers_open(cpl_engine *e, bool pin, cpl_error *err);
void cpl_workers_close(cpl_engine *e);

/* models.c - one model: what it is made of. A zeroed one can be closed. */
cpl_status cpl_model_slot_open(cpl_engine *e, cpl_loaded_model *m, const cpl_engine_model_options *o, cpl_error *err);
void cpl_model_slot_close(cpl_loaded_model *m); /* its sessions are closed */

/* registry.c - all of them, coming and going. */
cpl_status cpl_models_open(cpl_engine *e, const cpl_engine_options *o, cpl_error *err);
void cpl_models_close(cpl_engine *e);
/* A task's reference, beside one that is held. */
void cpl_model_refer(cpl_loaded_model *m);

/* Opens this worker's session of a model, on the calling thread. */
cpl_status cpl_worker_open_session(const cpl_worker *w, const cpl_loaded_model *m, cpl_session **out, cpl_error *err);
/* NULL when memory is out. */
cpl_scratch *cpl_scratch_open(size_t tokens, size_t sequences, size_t cells);
void cpl_scratch_close(cpl_scratch *s); /* NULL is fine */
/* Raises the three to what a model's passes need. */
void cpl_scratch_need(const cpl_loaded_model *m, size_t *tokens, size_t *sequences, size_t *cells);

/* Replicas take the workers in turn: number r of n has those whose index leaves r; of more replicas than workers some
 * share one. Without replicas it is the first `sessions` workers. */
static inline bool cpl_model_runs_on(const cpl_loaded_model *m, uint32_t worker)
{
    uint32_t n = m->public.replicas, r = m->public.replica;
    if (n > m->spread) return worker == r % m->spread;
    return worker % n == r && worker / n < m->sessions;
}
/* Which copy of the weights it uses there. */
static inline uint32_t cpl_model_device_of(const cpl_loaded_model *m, uint32_t worker, uint32_t node)
{
    return m->caps.numa ? node : (worker / m->public.replicas + m->public.replica) % m->devices;
}

static inline cpl_task *cpl_task_of_request(cpl_batch_request *r)
{
    return (cpl_task *)(void *)((char *)r - offsetof(cpl_task, batch));
}

#endif
