/* SPDX-License-Identifier: Apache-2.0 */
/* pool.c - threads that tokenize what is too large to be done on a network thread.
 *
 * A task is laid out in slices before it comes here; threads take slices from the first task of the queue, so one large
 * request uses all of them and the next begins as soon as its last slice is taken. Whoever finishes a task's last slice
 * queues it for the workers. Small requests never come here, so none waits behind a large one.
 *
 * Threads: pool->lock around the queue and the slice counters; texts and rooms are disjoint. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "engine/state.h"

void cpl_token_pool_add(cpl_token_pool *p, cpl_task *t)
{
    pthread_mutex_lock(&p->lock);
    t->slice_next = 0;
    t->slices_left = t->slice_count;
    t->pool_next = NULL;
    if (p->last)
        p->last->pool_next = t;
    else
        p->first = t;
    p->last = t;
    if (t->slice_count < p->threads)
        for (uint32_t i = 0; i < t->slice_count; i++) pthread_cond_signal(&p->wake);
    else
        pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

/* All slices are done: on to the batcher, or to the end. */
static void hand_over(cpl_engine *e, cpl_task *t)
{
    cpl_task *ended = NULL;
    cpl_error err = {0};
    pthread_mutex_lock(&e->lock);
    e->preparing--;
    e->stats.tasks_pooled++;
    if (t->token_error.status) cpl_dispatch_fail(t, &t->token_error);
    bool last = t->spec.tokenize_only; /* that was all */
    if (t->result.status == CPL_OK && !last && cpl_dispatch_add(e, t, &err)) cpl_dispatch_fail(t, &err);
    if (t->result.status == CPL_OK && last) t->result.queued_at_ns = cpl_clock_ns();
    if (t->result.status || last) cpl_dispatch_end(e, t, &ended);
    pthread_mutex_unlock(&e->lock);
    cpl_dispatch_finish(e, ended);
}

/* (pool->lock) The next slice, or NULL. */
static cpl_task *take_slice(cpl_token_pool *p, uint32_t *slice)
{
    cpl_task *t = p->first;
    if (!t) return NULL;
    *slice = t->slice_next++;
    if (t->slice_next == t->slice_count) {
        p->first = t->pool_next;
        if (!p->first) p->last = NULL;
    }
    return t;
}

/* Room for the ids of two texts of this task's model. */
static cpl_status make_room(cpl_pool_thread *self, uint32_t length, cpl_error *err)
{
    if (length <= self->room_length) return CPL_OK;
    int32_t *larger = realloc(self->room, 2 * (size_t)length * sizeof *larger);
    if (!larger) return cpl_fail_memory(err, 2 * (size_t)length * sizeof *larger);
    self->room = larger;
    self->room_length = length;
    return CPL_OK;
}

static void pool_main(void *arg)
{
    cpl_pool_thread *self = arg;
    cpl_engine *e = self->engine;
    cpl_token_pool *p = &e->pool;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        uint32_t slice = 0;
        cpl_task *t = take_slice(p, &slice);
        if (!t) {
            if (p->stopping) break;
            pthread_cond_wait(&p->wake, &p->lock);
            continue;
        }
        bool skip = t->token_error.status != CPL_OK;
        pthread_mutex_unlock(&p->lock);
        cpl_error err = {0};
        uint64_t began = cpl_clock_thread_cpu_ns();
        if (!skip && !make_room(self, t->max_length, &err))
            cpl_task_tokenize(e, t, &t->slices[slice], self->scratch, self->room, &err);
        uint64_t took = cpl_clock_thread_cpu_ns() - began;
        pthread_mutex_lock(&p->lock);
        t->result.tokenize_ns += took;
        if (err.status && !t->token_error.status) t->token_error = err;
        if (--t->slices_left) continue;
        pthread_mutex_unlock(&p->lock);
        hand_over(e, t);
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
}

cpl_status cpl_token_pool_open(cpl_engine *e, uint32_t threads, cpl_error *err)
{
    cpl_token_pool *p = &e->pool;
    if (!threads) return CPL_OK;
    p->members = calloc(threads, sizeof *p->members);
    if (!p->members) return cpl_fail_memory(err, threads * sizeof *p->members);
    p->threads = threads;
    for (uint32_t i = 0; i < threads; i++) {
        cpl_pool_thread *m = &p->members[i];
        m->engine = e;
        uint32_t longest = 0;
        for (uint32_t k = 0; k < cpl_engine_model_count(e); k++)
            if (e->models[k]->public.max_length > longest) longest = e->models[k]->public.max_length;
        cpl_status st = make_room(m, longest, err);
        if (!st) st = cpl_tokenizer_scratch_open(&m->scratch, err);
        if (!st) st = cpl_thread_start(&m->thread, "cpl-token", -1, pool_main, m, err);
        if (st) return st;
    }
    return CPL_OK;
}

void cpl_token_pool_close(cpl_engine *e)
{
    cpl_token_pool *p = &e->pool;
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (uint32_t i = 0; p->members && i < p->threads; i++) {
        cpl_thread_join(&p->members[i].thread);
        cpl_tokenizer_scratch_close(p->members[i].scratch);
        free(p->members[i].room);
    }
    free(p->members);
    p->members = NULL;
}
