/* SPDX-License-Identifier: Apache-2.0 */
/* submit.c - tasks and flows at the caller's side: open, submit, cancel, close.
 *
 * Submit admits before it works: a draining engine or a full queue refuses before a byte is tokenized. Between
 * admission and queue a task counts as preparing, so that requests being tokenized count against the bound too, and
 * drain waits for them.
 *
 * Who owns what: a task belongs to the engine from an OK submit to done; a flow lives until it was closed and its last
 * task ended. Cancelling a task that has ended (its done may be running on another thread) does nothing. Threads: any.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "engine/state.h"

enum { TASK_CHUNK_BYTES = 8 << 10, TASK_RETAINED_BYTES = 1 << 20 };

/* ---- tasks and flows ------------------------------------------------------------------------------------------ */

cpl_status cpl_task_open(cpl_task **out, cpl_error *err)
{
    cpl_task *t = *out = calloc(1, sizeof *t);
    if (!t) return cpl_fail_memory(err, sizeof *t);
    cpl_arena_init(&t->arena, TASK_CHUNK_BYTES, TASK_RETAINED_BYTES);
    return CPL_OK;
}

void cpl_task_close(cpl_task *t)
{
    if (!t) return;
    CPL_ASSERT(t->phase == CPL_TASK_IDLE || t->phase == CPL_TASK_ENDED);
    cpl_arena_deinit(&t->arena);
    free(t);
}

const cpl_task_result *cpl_task_get(const cpl_task *t) { return &t->result; }

size_t cpl_task_rest(cpl_task *t)
{
    CPL_ASSERT(t->phase == CPL_TASK_IDLE || t->phase == CPL_TASK_ENDED);
    t->result.rows = NULL;
    t->result.n = t->result.width = 0;
    return sizeof *t + cpl_arena_reset(&t->arena);
}

cpl_status cpl_flow_open(cpl_flow **out, cpl_engine *e, cpl_error *err)
{
    cpl_flow *f = *out = calloc(1, sizeof *f);
    if (!f) return cpl_fail_memory(err, sizeof *f);
    f->engine = e;
    f->references = 1;
    return CPL_OK;
}

void cpl_flow_let_go(cpl_flow *f)
{
    if (--f->references) return;
    for (uint32_t i = 0; i < CPL_ENGINE_MODELS_MAX; i++) free(f->queues[i]);
    free(f);
}

void cpl_flow_close(cpl_flow *f)
{
    if (!f) return;
    pthread_mutex_t *lock = &f->engine->lock;
    pthread_mutex_lock(lock);
    cpl_flow_let_go(f);
    pthread_mutex_unlock(lock);
}

/* ---- submit ---------------------------------------------------------------------------------------------------- */

static cpl_status admit(cpl_engine *e, cpl_task *t, const cpl_task_spec *spec, cpl_error *err)
{
    cpl_status st = CPL_OK;
    pthread_mutex_lock(&e->lock);
    cpl_loaded_model *m = e->models[spec->model];
    const cpl_batcher *b = &m->batcher;
    cpl_flow *flow = spec->flow ? spec->flow : e->flow;
    cpl_batch_flow **queue = &flow->queues[spec->model];
    if (!*queue) *queue = calloc(1, sizeof **queue); /* a connection's first request to this model */
    if (e->draining)
        st = cpl_fail(err, CPL_UNAVAILABLE, "engine takes no more requests: it is shutting down");
    else if (m->lost.status)
        st = cpl_fail(err, CPL_UNAVAILABLE, "%s", m->lost.what);
    else if (b->waiting_requests + e->preparing >= b->policy.queue_requests_max)
        st = cpl_fail(err, CPL_QUEUE_FULL, "queue full: %u requests wait", b->waiting_requests + e->preparing);
    else if (b->waiting_tokens >= b->policy.queue_tokens_max)
        st = cpl_fail(err, CPL_QUEUE_FULL, "queue full: %u tokens wait", b->policy.queue_tokens_max);
    else if (!*queue)
        st = cpl_fail_memory(err, sizeof **queue);
    if (st) {
        e->stats.tasks_refused++;
        m->stats.tasks_refused++;
    } else {
        cpl_model_refer(m);
        e->preparing++;
        e->in_flight_tasks++;
        e->stats.tasks_accepted++;
        t->flow = flow;
        t->flow->references++;
        t->phase = CPL_TASK_PREPARING;
    }
    pthread_mutex_unlock(&e->lock);
    return st;
}

/* The task goes back to the caller as if it had never come. */
static void turn_away(cpl_engine *e, cpl_task *t)
{
    pthread_mutex_lock(&e->lock);
    e->preparing--;
    e->stats.tasks_accepted--;
    e->stats.tasks_refused++;
    e->models[t->spec.model]->stats.tasks_refused++;
    cpl_flow_let_go(t->flow);
    t->flow = NULL;
    t->phase = CPL_TASK_IDLE;
    pthread_mutex_unlock(&e->lock);
    cpl_engine_model_release(e, t->spec.model);
    pthread_mutex_lock(&e->lock);
    if (!--e->in_flight_tasks) pthread_cond_broadcast(&e->drained);
    pthread_mutex_unlock(&e->lock);
}

/* On this thread: tokenize, queue. */
static cpl_status prepare_inline(cpl_engine *e, cpl_task *t, cpl_tokenizer_scratch *scratch, cpl_error *err)
{
    if (t->slice_count) {
        CPL_ASSERT(scratch);
        int32_t *room = cpl_arena_take(&t->arena, 2 * (size_t)t->max_length * sizeof *room, 64);
        if (!room) return cpl_fail(err, CPL_NO_MEMORY, "out of memory for %u tokens", 2 * t->max_length);
        uint64_t began = cpl_clock_thread_cpu_ns();
        for (uint32_t i = 0; i < t->slice_count; i++) {
            cpl_status st = cpl_task_tokenize(e, t, &t->slices[i], scratch, room, err);
            if (st) return st;
        }
        t->result.tokenize_ns = cpl_clock_thread_cpu_ns() - began;
    }
    cpl_task *ended = NULL;
    pthread_mutex_lock(&e->lock);
    cpl_status st = CPL_OK;
    if (t->result.status || t->spec.tokenize_only) { /* cancelled meanwhile: accepted, and ends by done */
        e->preparing--;
        t->result.queued_at_ns = t->result.status ? 0 : cpl_clock_ns();
        cpl_dispatch_end(e, t, &ended);
    } else if ((st = cpl_dispatch_add(e, t, err)) == CPL_OK) {
        e->preparing--;
    }
    pthread_mutex_unlock(&e->lock);
    cpl_dispatch_finish(e, ended);
    return st;
}

static void reset(cpl_engine *e, cpl_task *t, const cpl_task_spec *spec)
{
    CPL_ASSERT(t->phase == CPL_TASK_IDLE || t->phase == CPL_TASK_ENDED);
    cpl_arena_reset(&t->arena);
    t->engine = e;
    t->spec = *spec;
    memset(&t->result, 0, offsetof(cpl_task_result, error));
    cpl_error_clear(&t->result.error);
    t->result.rows = NULL;
    t->result.n = t->result.width = 0;
    t->result.tokens = t->result.tokenize_ns = t->result.queue_ns = t->result.compute_ns = t->result.passes = 0;
    t->result.queued_at_ns = 0;
    t->token_error.status = CPL_OK;
    t->slices = NULL;
    t->slice_count = t->in_flight = 0;
    t->text_bytes = 0;
    t->last_pass = t->queued_at_ns = t->dispatched_at_ns = 0;
}

cpl_status cpl_engine_submit(cpl_engine *e, cpl_task *t, const cpl_task_spec *spec, cpl_tokenizer_scratch *scratch,
                             cpl_error *err)
{
    CPL_ASSERT(spec->done);
    cpl_status st = cpl_task_check(e, spec, err);
    if (!st && spec->deadline_ns <= cpl_clock_ns())
        st = cpl_fail(err, CPL_DEADLINE, "deadline exceeded before the request was queued");
    if (st) {
        pthread_mutex_lock(&e->lock);
        e->stats.tasks_refused++;
        pthread_mutex_unlock(&e->lock);
        return st;
    }
    reset(e, t, spec);
    st = admit(e, t, spec, err);
    if (st) return st;
    st = cpl_task_lay_out(e, t, e->pool.threads ? 4 * e->pool.threads : 1, err);
    if (!st) {
        if (e->pool.threads && t->text_bytes >= e->inline_text_bytes)
            cpl_token_pool_add(&e->pool, t);
        else
            st = prepare_inline(e, t, scratch, err);
    }
    if (st) turn_away(e, t);
    return st;
}

void cpl_engine_cancel(cpl_engine *e, cpl_task *t)
{
    cpl_task *ended = NULL;
    cpl_error why;
    cpl_fail(&why, CPL_CANCELLED, "request was cancelled");
    pthread_mutex_lock(&e->lock);
    if (t->phase == CPL_TASK_PREPARING)
        cpl_dispatch_fail(t, &why);
    else if (t->phase == CPL_TASK_DISPATCHED)
        cpl_dispatch_drop(e, t, &why, &ended);
    pthread_mutex_unlock(&e->lock);
    cpl_dispatch_finish(e, ended);
}
