/* SPDX-License-Identifier: Apache-2.0 */
/* dispatch.c - from the queue through the workers to the end of a task.
 *
 * A worker's turn has one locked section: account for the pass just run, then take the next batch. Everything slow -
 * assembling, the forward pass, scattering rows, reducers, callbacks - happens outside the lock. Rows of different
 * sequences never overlap, so workers write them without one, and the locked accounting that follows is what makes them
 * visible to whoever ends the task.
 *
 * A task ends when nothing of it waits and nothing is in flight, whatever the reason (done, failed, expired, cancelled,
 * closing): cpl_dispatch_end sees that moment, once, under the lock, and puts it on a list that its thread finishes
 * after unlocking. After done() the task is not touched again.
 *
 * Idle workers sleep on their own condition variable and are woken last idle first, as many as there is work for. A
 * small pass that leaves nothing waiting has seats for idle workers (crew.h): one that finds no work of its own takes a
 * free seat before it sleeps, and some are woken for that. Work that arrives calls them back, and they come at the
 * pass's next stage. Since waking takes longer than many a stage, the first of them is woken together with the pass's
 * own worker; whichever comes first leads. The timer sleeps until the next deadline or end of a wait.
 *
 * Rejected: one condition variable for all workers (with several models the one woken may have no session for the
 * work); queues per worker with stealing (fairness would hold per worker only). */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/system.h"
#include "engine/state.h"

/* ---- waking (locked) ------------------------------------------------------------------------------------------ */

/* How many workers the queue can keep busy. */
static uint64_t workers_wanted(const cpl_batcher *b)
{
    uint64_t grain = b->policy.kind == CPL_BATCH_OFF ? b->policy.tokens_max : CPL_BATCH_SHARE_TOKENS_MIN;
    uint64_t by_tokens = (b->waiting_tokens + grain - 1) / grain;
    if (b->policy.kind == CPL_BATCH_OFF && by_tokens < b->waiting_requests) by_tokens = b->waiting_requests;
    return by_tokens < b->waiting_sequences ? by_tokens : b->waiting_sequences;
}

static void count_lent(const cpl_worker *w, int change)
{
    w->engine->lent += (uint32_t)change;
    w->engine->lent_on[w->node] += (uint32_t)change;
}

static void expect(cpl_engine *e, cpl_worker *w)
{
    w->coming = true;
    e->coming++;
}

enum { ANY_NODE = CPL_TOPOLOGY_NODES };

/* Workers that can run m (NULL: all), of one node or any, until `wanted` are coming. Returns the last one woken, or
 * NULL. */
static const cpl_worker *wake_idle(cpl_engine *e, const cpl_loaded_model *m, uint32_t node, uint64_t wanted)
{
    const cpl_worker *last = NULL;
    for (cpl_worker **at = &e->idle_stack; *at && e->coming < wanted;) {
        cpl_worker *w = *at;
        if ((m && !w->queues[m->index]) || (node != ANY_NODE && w->node != node)) {
            at = &w->idle_next;
            continue;
        }
        *at = w->idle_next;
        w->woken = true;
        pthread_cond_signal(&w->wake);
        expect(e, w);
        last = w;
    }
    return last;
}

/* The same with lent ones. */
static void call_back(cpl_engine *e, const cpl_loaded_model *m, uint64_t wanted)
{
    for (uint32_t k = 0; k < e->worker_count && e->lent && e->coming < wanted; k++) {
        cpl_worker *w = &e->workers[k];
        if (!w->leader || w->coming || !w->queues[m->index]) continue;
        expect(e, w);
        count_lent(w, -1);
        atomic_store(&w->recalled, true);
        cpl_crew_nudge(w->leader->crew);
    }
}

/* How many workers a pass of so many tokens is for while nothing else comes: 1 is no team. */
static uint32_t team_for(const cpl_loaded_model *m, uint64_t tokens, uint32_t idle)
{
    if (!m->caps.teams || m->caps.own_threads) return 1;
    return cpl_batch_team(&m->batcher.policy, tokens, idle);
}

static void wake_workers(cpl_engine *e, cpl_loaded_model *m, uint64_t now_ns)
{
    if ((!e->idle_stack && !e->lent) || !cpl_batcher_ready(&m->batcher, now_ns)) return;
    uint64_t wanted = workers_wanted(&m->batcher);
    const cpl_worker *first = wake_idle(e, m, ANY_NODE, wanted);
    call_back(e, m, wanted);
    if (wanted == 1 && first && team_for(m, m->batcher.waiting_tokens, e->idle_on[first->node] - 1) > 1)
        wake_idle(e, NULL, first->node, 2);
}

/* Whatever leaves the queue can move its next event forward: a group that was complete may be followed by one that
 * must wait. */
static void wake_timer(cpl_engine *e, const cpl_loaded_model *m, uint64_t now_ns)
{
    if (cpl_batcher_next_event(&m->batcher, now_ns) < e->timer_at_ns) pthread_cond_signal(&e->timer_wake);
}

/* After a look at the queues. A worker that was counted as coming for one model may have gone to another, or back to
 * sleep. */
static void wake_all(cpl_engine *e, uint64_t now_ns)
{
    for (uint32_t i = 0; i < cpl_engine_model_count(e); i++) {
        if (!e->models[i]) continue;
        wake_workers(e, e->models[i], now_ns);
        wake_timer(e, e->models[i], now_ns);
    }
}

cpl_status cpl_dispatch_add(cpl_engine *e, cpl_task *t, cpl_error *err)
{
    cpl_loaded_model *m = e->models[t->spec.model];
    uint64_t now = cpl_clock_ns();
    if (e->closing) return cpl_fail(err, CPL_UNAVAILABLE, "engine is closing");
    t->batch.lengths = t->lengths;
    t->batch.count = t->sequences;
    t->batch.want = m->want;
    t->batch.priority = t->spec.priority;
    t->batch.deadline_ns = t->spec.deadline_ns;
    t->queued_at_ns = now;
    cpl_status st = cpl_batcher_add(&m->batcher, t->flow->queues[t->spec.model], &t->batch, now, err);
    if (st) return st;
    t->phase = CPL_TASK_DISPATCHED;
    t->result.queued_at_ns = now;
    wake_workers(e, m, now);
    wake_timer(e, m, now);
    return CPL_OK;
}

/* ---- the end of a task ------------------------------------------------------------------------------------------ */

static void count_end(cpl_engine *e, cpl_task *t)
{
    cpl_engine_stats *s = &e->stats;
    cpl_engine_model_stats *own = &e->models[t->spec.model]->stats;
    switch (t->result.status) {
    case CPL_OK: s->tasks_done++, own->tasks_done++; break;
    case CPL_CANCELLED: s->tasks_cancelled++, own->tasks_cancelled++; break;
    case CPL_DEADLINE: s->tasks_expired++, own->tasks_expired++; break;
    default: s->tasks_failed++, own->tasks_failed++; break;
    }
    own->tokenize_ns += t->result.tokenize_ns;
    if (t->result.tokenize_ns) cpl_histogram_add(&s->tokenize_ns, t->result.tokenize_ns);
    if (!t->dispatched_at_ns) return;
    own->tasks_run++;
    own->queue_ns += t->result.queue_ns;
    own->compute_ns += t->result.compute_ns;
    cpl_histogram_add(&s->queue_ns, t->result.queue_ns);
    cpl_histogram_add(&s->compute_ns, t->result.compute_ns);
}

void cpl_dispatch_end(cpl_engine *e, cpl_task *t, cpl_task **ended)
{
    if (t->batch.lane || t->in_flight || t->phase == CPL_TASK_ENDED) return;
    t->phase = CPL_TASK_ENDED;
    count_end(e, t);
    cpl_flow_let_go(t->flow);
    t->flow = NULL;
    t->ended_next = *ended;
    *ended = t;
}

void cpl_dispatch_fail(cpl_task *t, const cpl_error *why)
{
    if (t->result.status) return; /* the first reason stays */
    t->result.status = why->status;
    t->result.error = *why;
}

void cpl_dispatch_drop(cpl_engine *e, cpl_task *t, const cpl_error *why, cpl_task **ended)
{
    cpl_loaded_model *m = e->models[t->spec.model];
    cpl_dispatch_fail(t, why);
    if (cpl_batcher_remove(&m->batcher, &t->batch)) wake_timer(e, m, cpl_clock_ns());
    cpl_dispatch_end(e, t, ended);
}

void cpl_dispatch_finish(cpl_engine *e, cpl_task *ended)
{
    uint64_t count = 0;
    while (ended) {
        cpl_task *t = ended;
        uint32_t model = t->spec.model;
        ended = t->ended_next; /* after done the task is the caller's */
        const bool reduces = t->result.status == CPL_OK && !t->spec.tokenize_only;
        if (reduces) {
            cpl_task_reduce(e->models[model], t);
        } else {
            t->result.rows = NULL;
            t->result.n = t->result.width = 0;
        }
        if (t->result.status == CPL_OK && !reduces)
            for (uint32_t i = 0; i < t->sequences; i++) t->result.tokens += t->lengths[i];
        t->spec.done(t, t->spec.user);
        cpl_engine_model_release(e, model);
        count++;
    }
    if (!count) return;
    pthread_mutex_lock(&e->lock);
    e->in_flight_tasks -= count;
    if (!e->in_flight_tasks) pthread_cond_broadcast(&e->drained);
    pthread_mutex_unlock(&e->lock);
}

/* What left the queue because its time ran out. */
static void end_expired(cpl_engine *e, cpl_batch_request *expired, cpl_task **ended)
{
    cpl_error why;
    if (expired) cpl_fail(&why, CPL_DEADLINE, "deadline exceeded while waiting in the queue");
    while (expired) {
        cpl_batch_request *r = expired;
        expired = r->ring_next;
        r->ring_next = NULL;
        cpl_task *t = cpl_task_of_request(r);
        cpl_dispatch_fail(t, &why);
        cpl_dispatch_end(e, t, ended);
    }
}

/* ---- workers ---------------------------------------------------------------------------------------------------- */

/* One pass, from taking to accounting. */
typedef struct pass {
    cpl_loaded_model *model;
    uint32_t model_index;
    cpl_batch_take take;
    cpl_team *team;       /* workers lent to it; NULL: alone */
    uint64_t shares_late; /* of theirs, done by this one */
    uint64_t padding;     /* tokens that the backend computed beside the batch's */
    uint64_t began_ns, ended_ns;
    cpl_error error;
} pass;

/* (locked) */
static void account_taken(cpl_engine *e, const pass *p, uint64_t now_ns)
{
    cpl_engine_stats *s = &e->stats;
    cpl_engine_model_stats *own = &p->model->stats;
    s->passes++, own->passes++;
    s->sequences += p->take.sequences, own->sequences += p->take.sequences;
    s->tokens += p->take.tokens, own->tokens += p->take.tokens;
    if (p->take.sequences > s->pass_sequences_max) s->pass_sequences_max = p->take.sequences;
    if (p->take.tokens > s->pass_tokens_max) s->pass_tokens_max = p->take.tokens;
    cpl_histogram_add(&s->pass_sequences, p->take.sequences);
    cpl_histogram_add(&s->pass_tokens, p->take.tokens);
    for (uint32_t i = 0; i < p->take.slice_count; i++) {
        const cpl_batch_slice *slice = &p->take.slices[i];
        cpl_task *t = cpl_task_of_request(slice->request);
        t->in_flight += slice->count;
        if (!t->dispatched_at_ns) {
            t->dispatched_at_ns = now_ns;
            t->result.queue_ns = now_ns - t->queued_at_ns;
        }
        if (t->last_pass != s->passes) t->result.passes++;
        t->last_pass = s->passes;
        for (uint32_t k = 0; k < slice->count; k++) t->result.tokens += t->lengths[slice->first + k];
    }
}

/* (locked) Seats for idle workers in the pass just taken, when nothing waits that may run. */
static void make_team(cpl_worker *w, pass *p, uint64_t now_ns)
{
    cpl_engine *e = w->engine;
    p->team = NULL;
    for (uint32_t i = 0; i < cpl_engine_model_count(e); i++)
        if (e->models[i] && cpl_batcher_ready(&e->models[i]->batcher, now_ns)) return;
    uint32_t members = team_for(p->model, p->take.tokens, e->idle_on[w->node] - e->lent_on[w->node]);
    if (members < 2) return;
    w->crew_pass = cpl_crew_begin(w->crew, members);
    w->seats_taken = 1;
    e->seats_free += members - 1;
    p->team = &w->crew->team;
    wake_idle(e, NULL, w->node, members - 1);
}

/* (locked) The pass is over: nobody else sits down. */
static void end_team(cpl_worker *w, const pass *p)
{
    cpl_engine *e = w->engine;
    e->seats_free -= p->team->size - w->seats_taken;
    if (w->seats_taken > 1) {
        e->stats.team_passes++;
        e->stats.team_members += w->seats_taken;
    }
    w->seats_taken = 0;
}

/* (locked) A larger scratch, if one was laid out for a model that has come. */
static void take_fresh_scratch(cpl_worker *w)
{
    if (!w->fresh) return;
    w->scratch->next = w->stale;
    w->stale = w->scratch;
    w->scratch = w->fresh;
    w->fresh = NULL;
}

static void free_stale_scratch(cpl_worker *w)
{
    for (cpl_scratch *s = w->stale, *next; s; s = next) {
        next = s->next;
        cpl_scratch_close(s);
    }
    w->stale = NULL;
}

/* (locked) Looks for work; true with *p filled. Expired requests go to *ended in either case. */
static bool take_pass(cpl_worker *w, pass *p, cpl_task **ended)
{
    cpl_engine *e = w->engine;
    uint64_t now = cpl_clock_ns();
    uint32_t models = cpl_engine_model_count(e);
    take_fresh_scratch(w);
    for (;;) {
        uint32_t i = cpl_batch_pick(&e->picker, w->queues, models, now);
        if (i == models) {
            wake_all(e, now);
            return false;
        }
        p->model = e->models[i];
        p->model_index = i;
        p->take.slices = w->scratch->slices;
        uint32_t idle = e->idle + 1 < p->model->sessions ? e->idle + 1 : p->model->sessions;
        bool taken = cpl_batcher_take(&p->model->batcher, now, idle, &p->take);
        end_expired(e, p->take.expired, ended);
        if (!taken) continue; /* all that was ready had expired */
        account_taken(e, p, now);
        wake_all(e, now);
        make_team(w, p, now);
        return true;
    }
}

/* Copies the batch's sequences end to end. */
static void assemble(cpl_worker *worker, const pass *p, cpl_batch *out)
{
    cpl_scratch *w = worker->scratch;
    uint32_t n = 0, at = 0;
    w->cu_seqlens[0] = 0;
    for (uint32_t i = 0; i < p->take.slice_count; i++) {
        const cpl_batch_slice *slice = &p->take.slices[i];
        const cpl_task *t = cpl_task_of_request(slice->request);
        for (uint32_t k = slice->first; k < slice->first + slice->count; k++) {
            uint32_t length = t->lengths[k];
            memcpy(w->ids + at, t->ids + t->offsets[k], length * sizeof *w->ids);
            if (t->type_ids)
                memcpy(w->type_ids + at, t->type_ids + t->offsets[k], length);
            else
                memset(w->type_ids + at, 0, length);
            at += length;
            w->cu_seqlens[++n] = at;
        }
    }
    CPL_ASSERT(n == p->take.sequences && at == p->take.tokens);
    *out = (cpl_batch){w->ids, w->type_ids, w->cu_seqlens, n, p->take.length_max, p->take.want};
}

static void scatter(const cpl_worker *w, const pass *p)
{
    size_t width = p->model->row_width;
    const float *from = w->scratch->rows;
    for (uint32_t i = 0; i < p->take.slice_count; i++) {
        const cpl_batch_slice *slice = &p->take.slices[i];
        cpl_task *t = cpl_task_of_request(slice->request);
        memcpy(t->raw + slice->first * width, from, slice->count * width * sizeof *from);
        from += slice->count * width;
    }
}

static void run_pass(cpl_worker *w, pass *p)
{
    cpl_batch batch;
    const cpl_backend *b = p->model->backend.backend;
    cpl_session *session = w->sessions[p->model_index];
    uint64_t padded = b->padding ? b->padding(session) : 0;
    cpl_error_clear(&p->error);
    assemble(w, p, &batch);
    p->began_ns = cpl_clock_ns();
    cpl_status st = b->run(session, &batch, p->team, w->scratch->rows, &p->error);
    p->ended_ns = cpl_clock_ns();
    p->shares_late = p->team ? cpl_crew_end(w->crew) : 0;
    p->padding = b->padding ? b->padding(session) - padded : 0;
    if (st == CPL_OK) {
        scatter(w, p);
        return;
    }
    if (p->error.status != st) cpl_fail(&p->error, st, "backend gave no reason");
    cpl_error_prefix(&p->error, "model '%s'", p->model->name);
    cpl_log_write(w->engine->log, CPL_LOG_ERROR, "forward pass failed: %s", p->error.what);
}

/* (locked) */
static void account_done(cpl_worker *w, const pass *p, cpl_task **ended)
{
    cpl_engine *e = w->engine;
    uint64_t ns = p->ended_ns - p->began_ns;
    uint32_t workers = p->team ? w->seats_taken : 1;
    if (p->team) end_team(w, p);
    e->stats.busy_ns += ns;
    e->stats.padding_tokens += p->padding;
    e->stats.team_shares_late += p->shares_late;
    p->model->stats.busy_ns += ns;
    p->model->stats.padding_tokens += p->padding;
    if (p->error.status == CPL_UNAVAILABLE && !p->model->lost.status) p->model->lost = p->error;
    if (p->error.status == CPL_OK) cpl_batcher_settle(&p->model->batcher, &p->take, ns * workers);
    for (uint32_t i = 0; i < p->take.slice_count; i++) {
        const cpl_batch_slice *slice = &p->take.slices[i];
        cpl_task *t = cpl_task_of_request(slice->request);
        t->in_flight -= slice->count;
        t->result.compute_ns = p->ended_ns - t->dispatched_at_ns;
        if (p->error.status)
            cpl_dispatch_drop(e, t, &p->error, ended);
        else
            cpl_dispatch_end(e, t, ended);
    }
}

/* (locked) Who leads a pass with a free seat on this worker's node, whose cache has the rows and weights; NULL: nobody.
 */
static cpl_worker *find_seat(const cpl_worker *w)
{
    cpl_engine *e = w->engine;
    for (uint32_t k = 0; e->seats_free && k < e->worker_count; k++) {
        cpl_worker *x = &e->workers[k];
        if (x->node == w->node && x->seats_taken && x->seats_taken < x->crew->team.size) return x;
    }
    return NULL;
}

/* (locked, gives the lock up meanwhile) Works for another's pass until that is over or somebody wants this one back. */
static void serve(cpl_worker *w, cpl_worker *leader)
{
    cpl_engine *e = w->engine;
    uint64_t number = leader->crew_pass;
    uint32_t seat = leader->seats_taken++;
    e->seats_free--;
    count_lent(w, 1);
    w->leader = leader;
    atomic_store(&w->recalled, false);
    pthread_mutex_unlock(&e->lock);
    cpl_crew_serve(leader->crew, number, seat, &w->recalled);
    pthread_mutex_lock(&e->lock);
    w->leader = NULL;
    if (!w->coming) count_lent(w, -1);
}

/* (locked, gives the lock up while asleep or lent) */
static void sleep_idle(cpl_worker *w)
{
    cpl_engine *e = w->engine;
    e->idle++;
    e->idle_on[w->node]++;
    cpl_worker *leader = find_seat(w);
    if (leader) {
        serve(w, leader);
    } else {
        w->woken = false;
        w->idle_next = e->idle_stack;
        e->idle_stack = w;
        while (!w->woken) pthread_cond_wait(&w->wake, &e->lock);
    }
    if (w->coming) e->coming--;
    w->coming = false;
    e->idle--;
    e->idle_on[w->node]--;
}

void cpl_worker_main(void *worker)
{
    cpl_worker *w = worker;
    cpl_engine *e = w->engine;
    pass p = {0};
    bool ran = false;
    pthread_mutex_lock(&e->lock);
    for (;;) {
        cpl_task *ended = NULL;
        if (ran) account_done(w, &p, &ended);
        ran = take_pass(w, &p, &ended);
        if (!ran && !ended) {
            if (e->stopping) break;
            sleep_idle(w);
            continue;
        }
        pthread_mutex_unlock(&e->lock);
        free_stale_scratch(w);
        cpl_dispatch_finish(e, ended);
        if (ran) run_pass(w, &p);
        pthread_mutex_lock(&e->lock);
    }
    pthread_mutex_unlock(&e->lock);
}

/* ---- timer ------------------------------------------------------------------------------------------------------ */

/* (locked, gives the lock up while asleep) */
static void sleep_until(cpl_engine *e, uint64_t at_ns)
{
    e->timer_at_ns = at_ns;
    if (at_ns == UINT64_MAX) {
        pthread_cond_wait(&e->timer_wake, &e->lock);
    } else {
        cpl_system_cond_wait_until(&e->timer_wake, &e->lock, at_ns);
    }
    e->timer_at_ns = 0; /* awake: whoever adds need not signal */
}

void cpl_timer_main(void *engine)
{
    cpl_engine *e = engine;
    pthread_mutex_lock(&e->lock);
    while (!e->stopping) {
        cpl_task *ended = NULL;
        uint64_t now = cpl_clock_ns(), next = UINT64_MAX;
        for (uint32_t i = 0; i < cpl_engine_model_count(e); i++) {
            cpl_loaded_model *m = e->models[i];
            if (!m) continue;
            end_expired(e, cpl_batcher_expire(&m->batcher, now), &ended);
            wake_workers(e, m, now);
            uint64_t at = cpl_batcher_next_event(&m->batcher, now);
            if (at < next) next = at;
        }
        if (ended) {
            pthread_mutex_unlock(&e->lock);
            cpl_dispatch_finish(e, ended);
            pthread_mutex_lock(&e->lock);
            continue;
        }
        sleep_until(e, next);
    }
    pthread_mutex_unlock(&e->lock);
}
