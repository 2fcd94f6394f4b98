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

static cpl_status size_scratch(cpl_engine *e, cpl_worker *w, cpl_error *err)
{
    size_t tokens = e->length_max, sequences = 1, cells = 1;
    for (uint32_t i = 0; i < e->model_count; i++) {
        const cpl_loaded_model *m = &e->models[i];
        const cpl_batch_policy *p = &m->batcher.policy;
        size_t model_cells = (size_t)p->sequences_max * m->row_width;
        if (p->tokens_max > tokens) tokens = p->tokens_max;
        if (p->sequences_max > sequences) sequences = p->sequences_max;
        if (model_cells > cells) cells = model_cells;
    }
    w->slices = malloc(sequences * sizeof *w->slices);
    w->cu_seqlens = malloc((sequences + 1) * sizeof *w->cu_seqlens);
    w->ids = malloc(tokens * sizeof *w->ids);
    w->type_ids = malloc(tokens);
    w->rows = malloc(cells * sizeof *w->rows);
    if (!w->slices || !w->cu_seqlens || !w->ids || !w->type_ids || !w->rows)
        return cpl_fail(err, CPL_NO_MEMORY, "out of memory for a worker's scratch of %zu tokens and %zu rows", tokens,
                        sequences);
    return CPL_OK;
}

static cpl_status open_sessions(cpl_worker *w, cpl_error *err)
{
    cpl_engine *e = w->engine;
    cpl_status st = cpl_crew_open(&w->crew, err);
    if (st) return st;
    w->sessions = calloc(e->model_count, sizeof(cpl_session *));
    w->queues = calloc(e->model_count, sizeof(cpl_batcher *));
    if (!w->sessions || !w->queues) return cpl_fail_memory(err, e->model_count * sizeof(void *));
    for (uint32_t i = 0; i < e->model_count; i++) {
        cpl_loaded_model *m = &e->models[i];
        if (w->index >= m->sessions) continue;
        uint32_t device = m->caps.numa ? w->node : w->index % m->devices;
        st = m->backend.backend->open(&w->sessions[i], m->weights[device], err);
        if (st) return st;
        w->queues[i] = &m->batcher;
    }
    return size_scratch(e, w, err);
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
        for (uint32_t i = 0; w->sessions && i < e->model_count; i++)
            e->models[i].backend.backend->close(w->sessions[i]);
        cpl_crew_close(w->crew);
        free(w->sessions);
        free(w->queues);
        free(w->slices);
        free(w->cu_seqlens);
        free(w->ids);
        free(w->type_ids);
        free(w->rows);
        pthread_cond_destroy(&w->wake);
    }
    free(e->workers);
    e->workers = NULL;
}
