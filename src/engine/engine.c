/* SPDX-License-Identifier: Apache-2.0 */
/* engine.c - opening and closing: models, workers with their sessions, tokenizer pool, timer; and what can be asked.
 *
 * Everything is sized and opened before the first task is taken, so a running engine allocates nothing. Closing goes
 * the other way round: refuse, end what waits, let passes finish, stop the threads, close sessions, unload.
 *
 * Threads: cpl_engine_open's and _close's caller; the rest any. */
#include "engine/engine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/system.h"
#include "engine/state.h"

/* How many tokenizer threads there are to be. */
static uint32_t tokenizer_threads(const cpl_engine *e, uint32_t asked)
{
    enum { AUTO_MAX = 32 };
    if (asked != CPL_TOKENIZER_THREADS_AUTO) return asked;
    for (uint32_t i = 0; i < cpl_engine_model_count(e); i++)
        if (!e->models[i]->caps.sessions_per_device || e->models[i]->caps.own_threads) return 0;
    uint32_t cores = cpl_cpu_count(), left = cores > e->worker_count ? cores - e->worker_count : 1;
    return left < AUTO_MAX ? left : AUTO_MAX;
}

/* ---- open, drain, close --------------------------------------------------------------------------------------- */

static void init_locks(cpl_engine *e)
{
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->drained, NULL);
    pthread_cond_init(&e->opened, NULL);
    cpl_system_cond_init(&e->timer_wake);
    pthread_mutex_init(&e->pool.lock, NULL);
    pthread_cond_init(&e->pool.wake, NULL);
    pthread_mutex_init(&e->registry.lock, NULL);
    pthread_mutex_init(&e->registry.loading, NULL);
    pthread_cond_init(&e->registry.let_go, NULL);
}

cpl_status cpl_engine_open(cpl_engine **out, const cpl_engine_options *o, cpl_error *err)
{
    *out = NULL;
    cpl_engine *e = calloc(1, sizeof *e);
    if (!e) return cpl_fail_memory(err, sizeof *e);
    init_locks(e);
    e->log = o->log;
    e->inline_text_bytes = o->inline_text_bytes ? o->inline_text_bytes : 16384;
    cpl_host_init(&e->host, o->log);
    if (o->topology)
        e->topology = *o->topology;
    else
        cpl_topology_read(&e->topology, NULL);
    cpl_status st = cpl_models_open(e, o, err);
    if (!st) st = cpl_flow_open(&e->flow, e, err);
    if (!st) st = cpl_workers_open(e, o->pin_workers, err);
    if (!st) st = cpl_token_pool_open(e, tokenizer_threads(e, o->tokenizer_threads), err);
    if (!st) st = cpl_thread_start(&e->timer, "cpl-timer", -1, cpl_timer_main, e, err);
    if (st) {
        cpl_engine_close(e);
        return st;
    }
    *out = e;
    return CPL_OK;
}

void cpl_engine_drain(cpl_engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->draining = true;
    while (e->in_flight_tasks) pthread_cond_wait(&e->drained, &e->lock);
    pthread_mutex_unlock(&e->lock);
}

/* (locked) Ends what waits in the queues. */
static void end_queued(cpl_engine *e, cpl_task **ended)
{
    cpl_error why;
    cpl_fail(&why, CPL_UNAVAILABLE, "engine is closing");
    for (uint32_t i = 0; i < cpl_engine_model_count(e); i++) {
        for (int p = 0; e->models[i] && p < CPL_BATCH_PRIORITIES; p++) {
            cpl_batch_request *r;
            while ((r = e->models[i]->batcher.levels[p].oldest))
                cpl_dispatch_drop(e, cpl_task_of_request(r), &why, ended);
        }
    }
}

static void stop_threads(cpl_engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->stopping = true;
    pthread_cond_broadcast(&e->timer_wake);
    pthread_cond_broadcast(&e->opened);
    for (cpl_worker *w = e->idle_stack; w; w = w->idle_next) {
        w->woken = true;
        pthread_cond_signal(&w->wake);
    }
    e->idle_stack = NULL;
    pthread_mutex_unlock(&e->lock);
    cpl_thread_join(&e->timer);
}

void cpl_engine_close(cpl_engine *e)
{
    if (!e) return;
    cpl_task *ended = NULL;
    pthread_mutex_lock(&e->lock);
    e->draining = e->closing = true;
    end_queued(e, &ended);
    pthread_mutex_unlock(&e->lock);
    cpl_dispatch_finish(e, ended);
    cpl_engine_drain(e);
    stop_threads(e);
    cpl_token_pool_close(e);
    cpl_workers_close(e);
    cpl_flow_close(e->flow);
    cpl_models_close(e);
    pthread_mutex_destroy(&e->lock);
    pthread_cond_destroy(&e->drained);
    pthread_cond_destroy(&e->opened);
    pthread_cond_destroy(&e->timer_wake);
    pthread_mutex_destroy(&e->pool.lock);
    pthread_cond_destroy(&e->pool.wake);
    pthread_mutex_destroy(&e->registry.lock);
    pthread_mutex_destroy(&e->registry.loading);
    pthread_cond_destroy(&e->registry.let_go);
    free(e);
}

/* ---- questions ------------------------------------------------------------------------------------------------ */

uint32_t cpl_engine_worker_count(const cpl_engine *e) { return e->worker_count; }

uint32_t cpl_engine_tokenizer_threads(const cpl_engine *e) { return e->pool.threads; }

void cpl_engine_stats_get(cpl_engine *e, cpl_engine_stats *out)
{
    pthread_mutex_lock(&e->lock);
    *out = e->stats;
    out->in_flight_tasks = e->in_flight_tasks;
    out->queued_tokens = out->queued_requests = 0;
    for (uint32_t i = 0; i < cpl_engine_model_count(e); i++) {
        if (!e->models[i]) continue;
        out->queued_tokens += e->models[i]->batcher.waiting_tokens;
        out->queued_requests += e->models[i]->batcher.waiting_requests;
    }
    pthread_mutex_unlock(&e->lock);
}

void cpl_engine_model_stats_get(cpl_engine *e, uint32_t model, cpl_engine_model_stats *out)
{
    pthread_mutex_lock(&e->lock);
    const cpl_loaded_model *m = e->models[model];
    *out = m->stats;
    out->queued_tokens = m->batcher.waiting_tokens;
    out->queued_requests = m->batcher.waiting_requests;
    pthread_mutex_unlock(&e->lock);
    if (m->ids) cpl_id_cache_count(m->ids, &out->ids_found, &out->ids_made);
}

uint32_t cpl_engine_stages(const cpl_engine *e, uint32_t model, cpl_stage *out, uint32_t cap)
{
    enum { MOST = 64 };
    const cpl_loaded_model *m = e->models[model];
    cpl_stage one[MOST];
    uint32_t count = 0, seen = 0;
    if (!m->backend.backend->stages) return 0;
    for (uint32_t k = 0; k < e->worker_count; k++) {
        if (!e->workers[k].sessions[model]) continue;
        count = m->backend.backend->stages(e->workers[k].sessions[model], one, MOST);
        CPL_ASSERT(count <= MOST);
        for (uint32_t i = 0; i < count && i < cap; i++) {
            if (!seen) {
                out[i] = one[i];
                continue;
            }
            out[i].seconds += one[i].seconds;
            out[i].ops += one[i].ops;
        }
        seen++;
    }
    return count;
}

/* ---- lost models ------------------------------------------------------------------------------------------------- */

bool cpl_engine_model_alive(cpl_engine *e, uint32_t index, char *why, size_t cap)
{
    pthread_mutex_lock(&e->lock);
    const cpl_loaded_model *m = e->models[index];
    bool lost = m && m->lost.status;
    snprintf(why, cap, "%s", lost ? m->lost.what : "");
    pthread_mutex_unlock(&e->lock);
    return !lost;
}

bool cpl_engine_alive(cpl_engine *e, char *why, size_t cap)
{
    bool alive = false, lost = false;
    why[0] = 0;
    pthread_mutex_lock(&e->lock);
    for (uint32_t i = 0; i < cpl_engine_model_count(e); i++) {
        const cpl_loaded_model *m = e->models[i];
        if (!m) continue;
        if (!m->lost.status)
            alive = true;
        else if (!lost)
            snprintf(why, cap, "%s", m->lost.what);
        lost |= m->lost.status != CPL_OK;
    }
    pthread_mutex_unlock(&e->lock);
    return alive || !lost;
}

/* ---- canary --------------------------------------------------------------------------------------------------- */

typedef struct canary {
    pthread_mutex_t lock;
    pthread_cond_t done;
    bool finished;
} canary;

static void canary_done(cpl_task *t, void *user)
{
    canary *c = user;
    (void)t;
    pthread_mutex_lock(&c->lock);
    c->finished = true;
    pthread_cond_signal(&c->done);
    pthread_mutex_unlock(&c->lock);
}

static cpl_status try_model(cpl_engine *e, uint32_t model, cpl_task *t, cpl_tokenizer_scratch *scratch, cpl_error *err)
{
    canary c = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    cpl_pair pair = {cpl_text_of("how tall is mount everest?"), cpl_text_of("Mount Everest is 8,849 m tall.")};
    cpl_task_spec spec = {.op = CPL_OP_SCORE,
                          .model = model,
                          .pairs = &pair,
                          .n = 1,
                          .label = CPL_LABEL_ALL,
                          .deadline_ns = UINT64_MAX,
                          .done = canary_done,
                          .user = &c};
    cpl_status st = cpl_engine_submit(e, t, &spec, scratch, err);
    if (!st) {
        pthread_mutex_lock(&c.lock);
        while (!c.finished) pthread_cond_wait(&c.done, &c.lock);
        pthread_mutex_unlock(&c.lock);
        const cpl_task_result *r = cpl_task_get(t);
        st = r->status;
        if (st && err) *err = r->error;
        for (size_t i = 0; !st && i < r->width; i++)
            if (!isfinite(r->rows[i])) st = cpl_fail(err, CPL_INTERNAL, "score is not a finite number");
    }
    pthread_mutex_destroy(&c.lock);
    pthread_cond_destroy(&c.done);
    if (st) cpl_error_prefix(err, "canary on model '%s'", e->models[model]->name);
    return st;
}

cpl_status cpl_model_try(cpl_engine *e, uint32_t model, cpl_error *err)
{
    cpl_task *t = NULL;
    cpl_tokenizer_scratch *scratch = NULL;
    cpl_status st = cpl_task_open(&t, err);
    if (!st) st = cpl_tokenizer_scratch_open(&scratch, err);
    if (!st) st = try_model(e, model, t, scratch, err);
    cpl_tokenizer_scratch_close(scratch);
    cpl_task_close(t);
    return st;
}

cpl_status cpl_engine_canary(cpl_engine *e, cpl_error *err)
{
    cpl_status st = CPL_OK;
    for (uint32_t i = 0; i < cpl_engine_model_count(e) && !st; i++) {
        if (!cpl_engine_model_hold_at(e, i)) continue;
        st = cpl_model_try(e, i, err);
        cpl_engine_model_release(e, i);
    }
    return st;
}
