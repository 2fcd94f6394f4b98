/* SPDX-License-Identifier: Apache-2.0 */
/* workers.c - the threads that run passes: where they stand, what they own, how they start and end.
 *
 * A worker opens its sessions and takes its scratch itself, on the CPUs where it will run, so that what it touches
 * first is memory near to it. The engine waits until all have done so, and what fails for one fails the engine's
 * opening; until then nobody looks at the queues. On a machine with several NUMA nodes a worker stays on its node,
 * pinned or not, next to that node's copy of the weights.
 *
 * Threads: open and close the engine's; in between each worker its own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "engine/state.h"

void cpl_scratch_need(const cpl_loaded_model *m, size_t *tokens, size_t *sequences, size_t *cells)
{
    const cpl_batch_policy *p = &m->batcher.policy;
    size_t rows = (size_t)p->sequences_max * m->row_width;
    if (m->public.max_length > *tokens) *tokens = m->public.max_length;
    if (p->tokens_max > *tokens) *tokens = p->tokens_max;
    if (p->sequences_max > *sequences) *sequences = p->sequences_max;
    if (rows > *cells) *cells = rows;
}

cpl_scratch *cpl_scratch_open(size_t tokens, size_t sequences, size_t cells)
{
    cpl_scratch *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->tokens = tokens;
    s->sequences = sequences;
    s->cells = cells;
    s->slices = malloc(sequences * sizeof *s->slices);
    s->cu_seqlens = malloc((sequences + 1) * sizeof *s->cu_seqlens);
    s->ids = malloc(tokens * sizeof *s->ids);
    s->type_ids = malloc(tokens);
    s->rows = malloc(cells * sizeof *s->rows);
    if (s->slices && s->cu_seqlens && s->ids && s->type_ids && s->rows) return s;
    cpl_scratch_close(s);
    return NULL;
}

void cpl_scratch_close(cpl_scratch *s)
{
    if (!s) return;
    free(s->slices);
    free(s->cu_seqlens);
    free(s->ids);
    free(s->type_ids);
    free(s->rows);
    free(s);
}

cpl_status cpl_worker_open_session(const cpl_worker *w, const cpl_loaded_model *m, cpl_session **out, cpl_error *err)
{
    return m->backend.backend->open(out, m->weights[cpl_model_device_of(m, w->index, w->node)], err);
}

static cpl_status open_sessions(cpl_worker *w, cpl_error *err)
{
    cpl_engine *e = w->engine;
    size_t tokens = 1, sequences = 1, cells = 1;
    cpl_status st = cpl_crew_open(&w->crew, err);
    for (uint32_t i = 0; i < cpl_engine_model_count(e) && !st; i++) {
        cpl_loaded_model *m = e->models[i];
        if (!cpl_model_runs_on(m, w->index)) continue;
        st = cpl_worker_open_session(w, m, &w->sessions[i], err);
        w->queues[i] = &m->batcher;
        cpl_scratch_need(m, &tokens, &sequences, &cells);
    }
    if (st) return st;
    w->scratch = cpl_scratch_open(tokens, sequences, cells);
    if (w->scratch) return CPL_OK;
    return cpl_fail(err, CPL_NO_MEMORY, "out of memory for a worker's scratch of %zu tokens and %zu rows", tokens,
                    sequences);
}

/* Opens, says so, waits for the others, runs. */
static void worker_thread(void *arg)
{
    cpl_worker *w = arg;
    cpl_engine *e = w->engine;
    if (e->topology.nodes > 1 && !w->pinned) cpl_topology_stay(&e->topology, w->node);
    cpl_error err = {0};
    cpl_status st = open_sessions(w, &err);
    pthread_mutex_lock(&e->lock);
    w->open_status = st;
    w->open_error = err;
    e->workers_opened++;
    pthread_cond_broadcast(&e->opened);
    while (!e->serving && !e->stopping) pthread_cond_wait(&e->opened, &e->lock);
    bool run = e->serving;
    pthread_mutex_unlock(&e->lock);
    if (run) cpl_worker_main(w);
}

static cpl_status start(cpl_engine *e, bool pin, uint32_t *started, cpl_error *err)
{
    for (uint32_t k = 0; k < e->worker_count; k++) {
        cpl_worker *w = &e->workers[k];
        char name[24];
        int cpu;
        w->engine = e;
        w->index = k;
        w->node = cpl_topology_place(&e->topology, e->worker_count, k, &cpu);
        w->pinned = pin && cpu >= 0;
        pthread_cond_init(&w->wake, NULL);
        snprintf(name, sizeof name, "cpl-work-%u", k);
        cpl_status st = cpl_thread_start(&w->thread, name, w->pinned ? cpu : -1, worker_thread, w, err);
        if (st) return st;
        ++*started;
    }
    return CPL_OK;
}

cpl_status cpl_workers_open(cpl_engine *e, bool pin, cpl_error *err)
{
    void *p = NULL;
    size_t bytes = e->worker_count * sizeof(cpl_worker);
    if (posix_memalign(&p, _Alignof(cpl_worker), bytes)) return cpl_fail_memory(err, bytes);
    memset(p, 0, bytes);
    e->workers = p;
    uint32_t started = 0;
    cpl_status st = start(e, pin, &started, err);
    pthread_mutex_lock(&e->lock);
    while (e->workers_opened < started) pthread_cond_wait(&e->opened, &e->lock);
    for (uint32_t k = 0; !st && k < started; k++) {
        st = e->workers[k].open_status;
        if (st && err) *err = e->workers[k].open_error;
    }
    e->serving = !st;
    pthread_cond_broadcast(&e->opened);
    pthread_mutex_unlock(&e->lock);
    return st;
}

void cpl_workers_close(cpl_engine *e)
{
    /* all first: one that was lent may be leaving another's crew */
    for (uint32_t k = 0; e->workers && k < e->worker_count; k++) cpl_thread_join(&e->workers[k].thread);
    for (uint32_t k = 0; e->workers && k < e->worker_count; k++) {
        cpl_worker *w = &e->workers[k];
        if (!w->engine) break;
        for (uint32_t i = 0; i < cpl_engine_model_count(e); i++)
            if (w->sessions[i]) e->models[i]->backend.backend->close(w->sessions[i]);
        cpl_crew_close(w->crew);
        cpl_scratch_close(w->scratch);
        cpl_scratch_close(w->fresh);
        cpl_scratch_close(w->stale);
        pthread_cond_destroy(&w->wake);
    }
    free(e->workers);
    e->workers = NULL;
}
