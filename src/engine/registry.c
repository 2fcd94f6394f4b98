/* SPDX-License-Identifier: Apache-2.0 */
/* registry.c - which models there are: found by name, loaded and unloaded while requests run.
 *
 * The one idea: references. A slot's model is there as long as somebody has one: the registry while it is served,
 * whoever looked it up until he lets go, each task until it has ended. So replacing a model is one step under
 * registry->lock (the old one can't be found any more, the new one can), nobody waits for it, and what was accepted for
 * the old one runs to its end on the old one. Whoever unloads waits for the last reference, then takes the sessions
 * away from the workers, which by then have no work of that model, and frees.
 *
 * A new model's sessions are opened, and its first pair scored, before it can be found. A worker's scratch may have to
 * grow for it: the new one is laid beside the old, and the worker changes over before its next pass.
 *
 * Threads: finding and letting go any; loading and unloading one at a time (registry->loading). Rejected: an immutable
 * list of models behind an atomic pointer (a lock held for a few comparisons of names, by network threads only, is not
 * where the time goes, and reclaiming such lists needs the same counts). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/random.h"
#include "engine/state.h"

/* ---- finding -------------------------------------------------------------------------------------------------- */

uint32_t cpl_engine_model_count(const cpl_engine *e) { return atomic_load(&e->model_count); }

const cpl_engine_model *cpl_engine_model_at(const cpl_engine *e, uint32_t index)
{
    CPL_ASSERT(index < CPL_ENGINE_MODELS_MAX && e->models[index]);
    return &e->models[index]->public;
}

void cpl_model_refer(cpl_loaded_model *m) { atomic_fetch_add_explicit(&m->references, 1, memory_order_relaxed); }

/* The first served replica of each model that `name` may mean: NULL in *only when there are several names. (locked) */
static cpl_loaded_model *find_first(const cpl_engine *e, const char *name, size_t name_size)
{
    cpl_loaded_model *found = NULL;
    for (uint32_t i = 0; i < cpl_engine_model_count(e); i++) {
        cpl_loaded_model *m = e->models[i];
        if (!m || !m->served || m->public.replica) continue;
        if (!name_size) {
            if (found) return NULL;
            found = m;
        } else if (strlen(m->name) == name_size && !memcmp(m->name, name, name_size)) {
            return m;
        }
    }
    return found;
}

/* "'a', 'b' and 'c'", as many as fit; returns how many there are. (locked) */
static uint32_t list_names(const cpl_engine *e, char *out, size_t cap)
{
    uint32_t total = 0, seen = 0;
    size_t at = 0;
    out[0] = 0;
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < cpl_engine_model_count(e); i++) {
            const cpl_loaded_model *m = e->models[i];
            if (!m || !m->served || m->public.replica) continue;
            if (!round) {
                total++;
                continue;
            }
            seen++;
            const char *between = seen == 1 ? "" : seen == total ? " and " : ", ";
            int n = at < cap ? snprintf(out + at, cap - at, "%s'%s'", between, m->name) : 0;
            at += n > 0 ? (size_t)n : 0;
        }
    }
    return total;
}

/* (locked) */
static cpl_loaded_model *replica_at(const cpl_engine *e, const cpl_loaded_model *first, uint32_t replica)
{
    for (uint32_t i = 0; i < cpl_engine_model_count(e); i++) {
        cpl_loaded_model *m = e->models[i];
        if (m && m->served && m->public.replica == replica && !strcmp(m->name, first->name)) return m;
    }
    CPL_ASSERT(!"the replicas of a model are served together");
    return NULL;
}

/* (locked) */
static cpl_loaded_model *choose_replica(cpl_engine *e, cpl_loaded_model *first)
{
    cpl_registry *r = &e->registry;
    uint32_t n = first->public.replicas, chosen = 0;
    if (n == 1) return first;
    switch (r->routing) {
    case CPL_ROUTE_ROUND_ROBIN: chosen = first->turn++ % n; break;
    case CPL_ROUTE_RANDOM: chosen = (uint32_t)(cpl_random_next(&r->dice) % n); break;
    case CPL_ROUTE_LEAST_LOADED: {
        uint32_t least = UINT32_MAX;
        for (uint32_t k = 0; k < n; k++) {
            uint32_t load = atomic_load(&replica_at(e, first, k)->references);
            if (load >= least) continue;
            least = load;
            chosen = k;
        }
        break;
    }
    }
    return chosen ? replica_at(e, first, chosen) : first;
}

cpl_status cpl_engine_model_hold(cpl_engine *e, const char *name, size_t name_size, uint32_t *index, cpl_error *err)
{
    char names[200];
    uint32_t served = 0;
    if (!name) name_size = 0;
    *index = 0;
    pthread_mutex_lock(&e->registry.lock);
    cpl_loaded_model *m = find_first(e, name, name_size);
    if (m) {
        m = choose_replica(e, m);
        cpl_model_refer(m);
        *index = m->index;
    } else {
        served = list_names(e, names, sizeof names);
    }
    pthread_mutex_unlock(&e->registry.lock);
    if (m) return CPL_OK;
    if (!name_size) return cpl_fail(err, CPL_NOT_FOUND, "request names no model, and several are served: %s", names);
    return cpl_fail(err, CPL_NOT_FOUND, "model '%.*s' is not served here: %s %s",
                    (int)(name_size > 100 ? 100 : name_size), name, names, served == 1 ? "is" : "are");
}

const cpl_engine_model *cpl_engine_model_hold_at(cpl_engine *e, uint32_t index)
{
    pthread_mutex_lock(&e->registry.lock);
    cpl_loaded_model *m = index < CPL_ENGINE_MODELS_MAX ? e->models[index] : NULL;
    if (m && !m->served) m = NULL;
    if (m) cpl_model_refer(m);
    pthread_mutex_unlock(&e->registry.lock);
    return m ? &m->public : NULL;
}

void cpl_engine_model_release(cpl_engine *e, uint32_t index)
{
    cpl_loaded_model *m = e->models[index];
    if (atomic_fetch_sub_explicit(&m->references, 1, memory_order_acq_rel) != 1) return;
    pthread_mutex_lock(&e->registry.lock);
    pthread_cond_broadcast(&e->registry.let_go);
    pthread_mutex_unlock(&e->registry.lock);
}

/* ---- slots ---------------------------------------------------------------------------------------------------- */

/* Puts a model that can't be found yet into a free slot. */
static cpl_status take_slot(cpl_engine *e, cpl_loaded_model *m, cpl_error *err)
{
    cpl_status st = CPL_OK;
    uint32_t i = 0;
    pthread_mutex_lock(&e->registry.lock);
    while (i < CPL_ENGINE_MODELS_MAX && e->models[i]) i++;
    if (i == CPL_ENGINE_MODELS_MAX) {
        st = cpl_fail(err, CPL_PRECONDITION, "no room for another model: %d (replicas counted) are loaded",
                      CPL_ENGINE_MODELS_MAX);
    } else {
        m->index = i;
        atomic_store(&m->references, 1);
        pthread_mutex_lock(&e->lock);
        e->models[i] = m;
        if (i >= cpl_engine_model_count(e)) atomic_store(&e->model_count, i + 1);
        pthread_mutex_unlock(&e->lock);
    }
    pthread_mutex_unlock(&e->registry.lock);
    return st;
}

/* Nobody refers to it: out of the workers' hands, out of its slot, gone. */
static void give_up_slot(cpl_engine *e, cpl_loaded_model *m)
{
    const cpl_backend *b = m->backend.backend;
    pthread_mutex_lock(&e->lock);
    for (uint32_t k = 0; k < e->worker_count; k++) e->workers[k].queues[m->index] = NULL;
    pthread_mutex_unlock(&e->lock);
    for (uint32_t k = 0; k < e->worker_count; k++) {
        cpl_session **session = &e->workers[k].sessions[m->index];
        if (*session) b->close(*session);
        *session = NULL;
    }
    pthread_mutex_lock(&e->registry.lock);
    pthread_mutex_lock(&e->lock);
    e->models[m->index] = NULL;
    pthread_mutex_unlock(&e->lock);
    pthread_mutex_unlock(&e->registry.lock);
    cpl_model_slot_close(m);
}

/* Opens all replicas of a model into slots, without sessions; `count` says how many there are, in either case. */
static cpl_status open_replicas(cpl_engine *e, const cpl_engine_model_options *o, cpl_loaded_model **out,
                                uint32_t *count, cpl_error *err)
{
    uint32_t n = o->replicas ? o->replicas : 1;
    *count = 0;
    if (n > CPL_ENGINE_MODELS_MAX)
        return cpl_fail(err, CPL_INVALID, "%u replicas asked for: %d are possible", n, CPL_ENGINE_MODELS_MAX);
    for (uint32_t r = 0; r < n; r++) {
        cpl_loaded_model *m = calloc(1, sizeof *m);
        if (!m) return cpl_fail_memory(err, sizeof *m);
        m->public.replica = r;
        m->public.replicas = n;
        cpl_status st = cpl_model_slot_open(e, m, o, err);
        if (!st) st = take_slot(e, m, err);
        if (st) {
            cpl_model_slot_close(m);
            return st;
        }
        out[(*count)++] = m;
    }
    return CPL_OK;
}

/* ---- while the engine opens and closes ------------------------------------------------------------------------ */

cpl_status cpl_models_open(cpl_engine *e, const cpl_engine_options *o, cpl_error *err)
{
    cpl_registry *r = &e->registry;
    if (!o->model_count) return cpl_fail(err, CPL_INVALID, "no model given");
    r->routing = o->routing;
    r->policy = o->policy;
    r->id_cache_bytes = o->id_cache_bytes;
    r->workers = o->workers ? o->workers : cpl_cpu_count();
    r->plugin_dir = o->plugin_dir ? strdup(o->plugin_dir) : NULL;
    if (o->plugin_dir && !r->plugin_dir) return cpl_fail_memory(err, strlen(o->plugin_dir));
    for (uint32_t i = 0; i < o->model_count; i++) {
        cpl_loaded_model *opened[CPL_ENGINE_MODELS_MAX];
        uint32_t count;
        cpl_status st = open_replicas(e, &o->models[i], opened, &count, err);
        if (st) return st;
        if (find_first(e, opened[0]->name, strlen(opened[0]->name)))
            return cpl_fail(err, CPL_INVALID, "two models are called '%s': give each its own name", opened[0]->name);
        for (uint32_t k = 0; k < count; k++) opened[k]->served = true;
        for (uint32_t k = 0; k < count; k++)
            for (uint32_t w = e->worker_count; w < r->workers; w++)
                if (cpl_model_runs_on(opened[k], w)) e->worker_count = w + 1;
    }
    return CPL_OK;
}

void cpl_models_close(cpl_engine *e)
{
    for (uint32_t i = 0; i < cpl_engine_model_count(e); i++) {
        if (e->models[i]) cpl_model_slot_close(e->models[i]);
        e->models[i] = NULL;
    }
    free(e->registry.plugin_dir);
}

/* ---- while it runs -------------------------------------------------------------------------------------------- */

typedef struct opening {
    cpl_engine *engine;
    const cpl_worker *worker;
    const cpl_loaded_model *model;
    cpl_session *session;
    cpl_status status;
    cpl_error error;
} opening;

static void open_near(void *arg)
{
    opening *o = arg;
    if (o->engine->topology.nodes > 1) cpl_topology_stay(&o->engine->topology, o->worker->node);
    o->status = cpl_worker_open_session(o->worker, o->model, &o->session, &o->error);
}

/* A worker's session, opened by a thread that stands where the worker does. The worker doesn't look at it before its
 * queue is there. */
static cpl_status open_session(cpl_engine *e, cpl_worker *w, const cpl_loaded_model *m, cpl_error *err)
{
    opening o = {.engine = e, .worker = w, .model = m};
    cpl_thread t = {0};
    cpl_status st = cpl_thread_start(&t, "cpl-load", -1, open_near, &o, err);
    if (st) return st;
    cpl_thread_join(&t);
    w->sessions[m->index] = o.session;
    if (o.status && err) *err = o.error;
    return o.status;
}

/* Session, room for its passes, then its queue. */
static cpl_status join_worker(cpl_engine *e, cpl_worker *w, cpl_loaded_model *m, cpl_error *err)
{
    cpl_status st = open_session(e, w, m, err);
    if (st) return st;
    pthread_mutex_lock(&e->lock);
    const cpl_scratch *has = w->fresh ? w->fresh : w->scratch;
    size_t tokens = has->tokens, sequences = has->sequences, cells = has->cells;
    cpl_scratch_need(m, &tokens, &sequences, &cells);
    bool enough = tokens == has->tokens && sequences == has->sequences && cells == has->cells;
    pthread_mutex_unlock(&e->lock); /* nobody else makes it larger: one loads at a time */
    cpl_scratch *larger = enough ? NULL : cpl_scratch_open(tokens, sequences, cells);
    if (!enough && !larger) return cpl_fail(err, CPL_NO_MEMORY, "out of memory for a worker's scratch");
    pthread_mutex_lock(&e->lock);
    cpl_scratch *unused = larger ? w->fresh : NULL;
    if (larger) w->fresh = larger;
    w->queues[m->index] = &m->batcher;
    pthread_mutex_unlock(&e->lock);
    cpl_scratch_close(unused);
    return CPL_OK;
}

/* Takes models that were made unfindable off, once what was accepted for them has ended. */
static void retire(cpl_engine *e, cpl_loaded_model **models, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        cpl_loaded_model *m = models[i];
        pthread_mutex_lock(&e->registry.lock);
        atomic_fetch_sub(&m->references, 1); /* the registry's */
        while (atomic_load(&m->references)) pthread_cond_wait(&e->registry.let_go, &e->registry.lock);
        pthread_mutex_unlock(&e->registry.lock);
        give_up_slot(e, m);
    }
}

/* (registry locked) Nobody finds the model of this name any more; returns how many replicas it had. */
static uint32_t hide(cpl_engine *e, const char *name, size_t name_size, cpl_loaded_model **out)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < cpl_engine_model_count(e); i++) {
        cpl_loaded_model *m = e->models[i];
        if (!m || !m->served || strlen(m->name) != name_size || memcmp(m->name, name, name_size) != 0) continue;
        m->served = false;
        out[n++] = m;
    }
    return n;
}

static cpl_status join_all(cpl_engine *e, cpl_loaded_model **models, uint32_t n, cpl_error *err)
{
    cpl_status st = CPL_OK;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < e->worker_count && !st; k++)
            if (cpl_model_runs_on(models[i], k)) st = join_worker(e, &e->workers[k], models[i], err);
    for (uint32_t i = 0; i < n && !st; i++) st = cpl_model_try(e, models[i]->index, err);
    return st;
}

cpl_status cpl_engine_model_load(cpl_engine *e, const cpl_engine_model_options *o, cpl_error *err)
{
    cpl_loaded_model *fresh[CPL_ENGINE_MODELS_MAX], *old[CPL_ENGINE_MODELS_MAX];
    uint32_t count = 0, replaced = 0;
    pthread_mutex_lock(&e->registry.loading);
    e->registry.workers = e->worker_count;
    cpl_status st = open_replicas(e, o, fresh, &count, err);
    if (!st) st = join_all(e, fresh, count, err);
    if (!st) {
        pthread_mutex_lock(&e->registry.lock);
        replaced = hide(e, fresh[0]->name, strlen(fresh[0]->name), old);
        for (uint32_t i = 0; i < count; i++) fresh[i]->served = true;
        pthread_mutex_unlock(&e->registry.lock);
        cpl_log_write(e->log, CPL_LOG_INFO, "model '%s' is served%s", fresh[0]->name,
                      replaced ? " in place of the one of that name" : "");
    }
    if (st)
        retire(e, fresh, count);
    else
        retire(e, old, replaced);
    pthread_mutex_unlock(&e->registry.loading);
    return st;
}

cpl_status cpl_engine_model_unload(cpl_engine *e, const char *name, size_t name_size, cpl_error *err)
{
    cpl_loaded_model *old[CPL_ENGINE_MODELS_MAX];
    char names[200];
    uint32_t n = 0;
    cpl_status st = CPL_OK;
    pthread_mutex_lock(&e->registry.loading);
    pthread_mutex_lock(&e->registry.lock);
    uint32_t served = list_names(e, names, sizeof names);
    if (!name_size || !find_first(e, name, name_size))
        st = cpl_fail(err, CPL_NOT_FOUND, "model '%.*s' is not served here: %s %s",
                      (int)(name_size > 100 ? 100 : name_size), name, names, served == 1 ? "is" : "are");
    else if (served == 1)
        st = cpl_fail(err, CPL_PRECONDITION, "model %s is the only one served: load another first", names);
    else
        n = hide(e, name, name_size, old);
    pthread_mutex_unlock(&e->registry.lock);
    if (!st) cpl_log_write(e->log, CPL_LOG_INFO, "model '%s' is unloaded", old[0]->name);
    retire(e, old, n);
    pthread_mutex_unlock(&e->registry.loading);
    return st;
}
