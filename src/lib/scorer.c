/* SPDX-License-Identifier: Apache-2.0 */
/* scorer.c - the public library: one model, one engine, calls that block.
 * The one idea: a call is cut into tasks and keeps a few of them in flight, so that the next ones are tokenized while
 * the workers compute; any number of calls share the same workers and queue. What a call needs (a few tasks, a
 * tokenizer scratch) is a `caller`, kept on a free list: a warm call allocates nothing.
 *
 * Where the workers are what keeps the cores busy, the calling thread tokenizes, as its share of the work. In front of
 * a device, which takes more text than one thread can tokenize, the cores that no worker uses do it (the engine's
 * pool), and enough tasks are in flight to fill the passes that run, those that wait and the tokenizers.
 * Threads: everything but close is safe from any thread; a caller belongs to one call at a time. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "backend/precision.h"
#include "base/error.h"
#include "couplet.h"
#include "engine/engine.h"
#include "model/locate.h"

enum {
    SLICE = 128,        /* items a task has at least, while there are as many */
    SLICE_MAX = 4096,   /* and at most, however short */
    BYTES_A_TOKEN = 4,  /* of text, about */
    IN_FLIGHT_MAX = 64, /* tasks of a call */
    DEVICE_SLOTS = 8    /* tasks of half a pass for each session of a device: two run, two wait, four are tokenized */
};

typedef struct caller caller;

typedef struct slot {
    cpl_task *task;
    caller *owner;
    size_t from;  /* first item of the call in this task */
    bool running; /* submitted and not yet collected; the caller's thread only */
    bool done;    /* under owner->lock */
} slot;

struct caller {
    caller *next; /* on the free list */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    cpl_tokenizer_scratch *scratch;
    slot *slots;
};

struct cpl_scorer {
    cpl_engine *engine;
    cpl_scorer_info info;
    uint32_t slot_count;
    size_t slice_tokens;  /* a task goes on beyond SLICE items until it holds about so many */
    pthread_mutex_t lock; /* guards idle */
    caller *idle;
};

static void free_caller(cpl_scorer *s, caller *c)
{
    for (uint32_t i = 0; c->slots && i < s->slot_count; i++) cpl_task_close(c->slots[i].task);
    cpl_tokenizer_scratch_close(c->scratch);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    free(c->slots);
    free(c);
}

static cpl_status new_caller(cpl_scorer *s, caller **out, cpl_error *err)
{
    caller *c = calloc(1, sizeof *c);
    if (!c) return cpl_fail_memory(err, sizeof *c);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    c->slots = calloc(s->slot_count, sizeof *c->slots);
    cpl_status st = c->slots ? CPL_OK : cpl_fail_memory(err, sizeof *c->slots);
    if (!st) st = cpl_tokenizer_scratch_open(&c->scratch, err);
    for (uint32_t i = 0; !st && i < s->slot_count; i++) {
        c->slots[i].owner = c;
        st = cpl_task_open(&c->slots[i].task, err);
    }
    if (st)
        free_caller(s, c);
    else
        *out = c;
    return st;
}

static cpl_status borrow_caller(cpl_scorer *s, caller **out, cpl_error *err)
{
    pthread_mutex_lock(&s->lock);
    caller *c = s->idle;
    if (c) s->idle = c->next;
    pthread_mutex_unlock(&s->lock);
    if (!c) return new_caller(s, out, err);
    *out = c;
    return CPL_OK;
}

static void return_caller(cpl_scorer *s, caller *c)
{
    pthread_mutex_lock(&s->lock);
    c->next = s->idle;
    s->idle = c;
    pthread_mutex_unlock(&s->lock);
}

static void fill_info(cpl_scorer *s, const char *precision_requested)
{
    const cpl_engine_model *m = cpl_engine_model_at(s->engine, 0);
    const cpl_arch *a = &m->model->arch;
    s->info = (cpl_scorer_info){
        .model = m->model->dir,
        .model_note = m->model->note,
        .architecture = m->model->architecture,
        .task = m->model->task,
        .labels = m->model->task == CPL_TASK_CROSS_ENCODER ? a->labels : 0,
        .layers = a->layers,
        .hidden = a->hidden,
        .heads = a->heads,
        .intermediate = a->intermediate,
        .vocab = a->vocab,
        .max_length = m->max_length,
        .cls_only = m->model->task == CPL_TASK_CROSS_ENCODER || m->model->pooling == CPL_POOLING_CLS,
        .backend = m->backend,
        .precision_requested = precision_requested,
        .precision_effective = cpl_precision_name(m->effective),
        .precision_reason = m->reason,
        .isa = m->isa,
        .threads = m->workers,
        .weight_bytes = m->weight_bytes,
    };
}

/* The caller's struct may be older (shorter) than ours: what it lacks is zero. */
static cpl_status take_open_options(cpl_open_options *out, const cpl_open_options *given, cpl_error *err)
{
    *out = CPL_OPTIONS(cpl_open_options);
    if (!given) return CPL_OK;
    if (given->struct_size < sizeof(size_t) || given->struct_size > 4096)
        return cpl_fail(err, CPL_INVALID, "cpl_open_options.struct_size is %zu: set it with CPL_OPTIONS",
                        given->struct_size);
    memcpy(out, given, given->struct_size < sizeof *out ? given->struct_size : sizeof *out);
    return CPL_OK;
}

cpl_status cpl_scorer_open(cpl_scorer **out, const char *dir, const cpl_open_options *options, cpl_error *err)
{
    *out = NULL;
    cpl_open_options o;
    cpl_status st = take_open_options(&o, options, err);
    if (st) return st;
    cpl_precision precision = CPL_PRECISION_FP32;
    if (o.precision) st = cpl_precision_parse(&precision, o.precision, err);
    char path[4096];
    if (!st) st = cpl_model_locate(path, sizeof path, dir, false, NULL, err);
    if (st) return st;
    cpl_scorer *s = calloc(1, sizeof *s);
    if (!s) return cpl_fail_memory(err, sizeof *s);
    cpl_engine_model_options model = {.dir = path,
                                      .backend = o.backend,
                                      .precision = precision,
                                      .fallback = o.fallback != 0,
                                      .max_length = o.max_length,
                                      .settings = o.settings,
                                      .count_stages = o.count_stages != 0};
    cpl_engine_options eo = {.models = &model,
                             .model_count = 1,
                             .workers = o.threads,
                             .tokenizer_threads = CPL_TOKENIZER_THREADS_AUTO,
                             .policy = {.tokens_max = o.batch_tokens_max, .team_max = o.team_max},
                             .plugin_dir = o.plugin_dir,
                             .log = o.log};
    st = cpl_engine_open(&s->engine, &eo, err);
    if (st) {
        free(s);
        return st;
    }
    pthread_mutex_init(&s->lock, NULL);
    fill_info(s, cpl_precision_name(precision));
    s->slice_tokens = cpl_engine_model_at(s->engine, 0)->batch_tokens / 2;
    s->slot_count = cpl_engine_tokenizer_threads(s->engine) ? s->info.threads * DEVICE_SLOTS : s->info.threads * 2 + 1;
    if (s->slot_count > IN_FLIGHT_MAX) s->slot_count = IN_FLIGHT_MAX;
    *out = s;
    return CPL_OK;
}

void cpl_scorer_close(cpl_scorer *s)
{
    if (!s) return;
    cpl_engine_close(s->engine);
    for (caller *c = s->idle, *next; c; c = next) {
        next = c->next;
        free_caller(s, c);
    }
    pthread_mutex_destroy(&s->lock);
    free(s);
}

const cpl_scorer_info *cpl_scorer_describe(const cpl_scorer *s) { return &s->info; }
const char *cpl_version(void) { return COUPLET_VERSION; }

/* ---- one call ------------------------------------------------------------------------------------------------ */

typedef struct call {
    cpl_task_spec spec; /* the whole call; slices are cut from it */
    float *rows;
    cpl_stage_times *stages; /* may be NULL */
    cpl_status status;       /* first failure */
    cpl_error *err;
} call;

static void on_done(cpl_task *task, void *user)
{
    (void)task;
    slot *s = user;
    pthread_mutex_lock(&s->owner->lock);
    s->done = true;
    pthread_cond_signal(&s->owner->changed);
    pthread_mutex_unlock(&s->owner->lock);
}

static void collect(call *c, slot *s)
{
    const cpl_task_result *r = cpl_task_get(s->task);
    s->running = false;
    if (r->status) {
        if (!c->status && c->err) *c->err = r->error;
        if (!c->status) c->status = r->status;
        return;
    }
    memcpy(c->rows + s->from * r->width, r->rows, r->n * r->width * sizeof *r->rows);
    if (!c->stages) return;
    c->stages->queue_ns += r->queue_ns;
    c->stages->compute_ns += r->compute_ns;
    c->stages->passes += r->passes;
    c->stages->tokens += r->tokens;
}

/* Waits until a running slot is done and collects all that are; returns a slot that is free, or NULL when none runs
 * and `all` is asked for. */
static slot *next_free(cpl_scorer *s, caller *k, call *c, bool all)
{
    for (;;) {
        slot *idle = NULL;
        bool running = false;
        pthread_mutex_lock(&k->lock);
        for (uint32_t i = 0; i < s->slot_count; i++) {
            slot *t = &k->slots[i];
            if (t->running && t->done) collect(c, t);
            if (t->running)
                running = true;
            else if (!idle)
                idle = t;
        }
        bool ready = all ? !running : idle != NULL;
        if (!ready) pthread_cond_wait(&k->changed, &k->lock);
        pthread_mutex_unlock(&k->lock);
        if (ready) return all ? NULL : idle;
    }
}

/* Hands items [from, from + n) to the engine. A full queue waits for one of our own tasks when any runs. */
static cpl_status submit_slice(cpl_scorer *s, caller *k, slot *t, const call *c, size_t from, size_t n)
{
    cpl_task_spec spec = c->spec;
    cpl_ids ids;
    spec.n = n;
    spec.item_base = from;
    if (spec.pairs) spec.pairs += from;
    if (spec.texts) spec.texts += from;
    if (spec.ids) {
        ids = *c->spec.ids;
        ids.cu_seqlens += from;
        ids.n = n;
        spec.ids = &ids;
    }
    spec.done = on_done;
    spec.user = t;
    t->from = from;
    t->done = false;
    cpl_status st = cpl_engine_submit(s->engine, t->task, &spec, k->scratch, c->err);
    t->running = st == CPL_OK;
    return st;
}

static bool any_running(cpl_scorer *s, const caller *k)
{
    for (uint32_t i = 0; i < s->slot_count; i++)
        if (k->slots[i].running) return true;
    return false;
}

/* How many of the items [from, n) make the next task. */
static size_t cut_slice(const cpl_scorer *s, const cpl_task_spec *spec, size_t from, size_t n)
{
    size_t tokens = 0, i = from, most = n - from < SLICE_MAX ? n : from + SLICE_MAX;
    while (i < most && (i - from < SLICE || tokens < s->slice_tokens)) {
        if (spec->ids)
            tokens += spec->ids->cu_seqlens[i + 1] - spec->ids->cu_seqlens[i];
        else
            tokens += (spec->pairs ? spec->pairs[i].query.size + spec->pairs[i].document.size : spec->texts[i].size) /
                      BYTES_A_TOKEN;
        i++;
    }
    return i - from;
}

static cpl_status run_call(cpl_scorer *s, call *c, size_t n)
{
    caller *k;
    cpl_status st = borrow_caller(s, &k, c->err);
    if (st) return st;
    size_t at = 0;
    while (at < n && !c->status) {
        slot *t = next_free(s, k, c, false);
        if (c->status) break;
        size_t take = cut_slice(s, &c->spec, at, n);
        st = submit_slice(s, k, t, c, at, take);
        if (st == CPL_QUEUE_FULL && any_running(s, k)) {
            pthread_mutex_lock(&k->lock);
            bool some_done = false;
            for (uint32_t i = 0; i < s->slot_count; i++) some_done |= k->slots[i].running && k->slots[i].done;
            if (!some_done) pthread_cond_wait(&k->changed, &k->lock);
            pthread_mutex_unlock(&k->lock);
            continue;
        }
        if (st) {
            c->status = st;
            break;
        }
        at += take;
    }
    next_free(s, k, c, true);
    return_caller(s, k);
    return c->status;
}

cpl_status cpl_scorer_score(cpl_scorer *s, const cpl_pair *pairs, size_t n, const cpl_score_options *options,
                            float *scores, cpl_error *err)
{
    cpl_score_options o = {.struct_size = sizeof o, .form = CPL_SCORE_DEFAULT, .label = 0};
    if (options) memcpy(&o, options, options->struct_size < sizeof o ? options->struct_size : sizeof o);
    if (n == 0) return CPL_OK;
    if (!options && s->info.labels > 1)
        return cpl_fail(err, CPL_PRECONDITION,
                        "'%s' has %u labels: choose one in cpl_score_options.label, or -1 for all of them",
                        s->info.model, s->info.labels);
    call c = {.spec = {.op = CPL_OP_SCORE, .pairs = pairs, .form = o.form, .label = o.label, .deadline_ns = UINT64_MAX},
              .rows = scores,
              .err = err};
    return run_call(s, &c, n);
}

cpl_status cpl_scorer_embed(cpl_scorer *s, const cpl_text *texts, size_t n, float *vectors, cpl_error *err)
{
    if (n == 0) return CPL_OK;
    call c = {.spec = {.op = CPL_OP_EMBED, .texts = texts, .deadline_ns = UINT64_MAX}, .rows = vectors, .err = err};
    return run_call(s, &c, n);
}

cpl_status cpl_scorer_run_ids(cpl_scorer *s, const cpl_ids *in, float *rows, cpl_stage_times *stages, cpl_error *err)
{
    if (stages) *stages = (cpl_stage_times){0};
    if (in->n == 0) return CPL_OK;
    call c = {
        .spec = {.op = CPL_OP_IDS, .ids = in, .deadline_ns = UINT64_MAX}, .rows = rows, .stages = stages, .err = err};
    return run_call(s, &c, in->n);
}

cpl_status cpl_scorer_tokenize(cpl_scorer *s, cpl_text query, const cpl_text *document, size_t max_length, int32_t *ids,
                               uint8_t *type_ids, size_t cap, size_t *count, cpl_error *err)
{
    caller *k;
    cpl_status st = borrow_caller(s, &k, err);
    if (st) return st;
    st = cpl_tokenizer_pair(cpl_engine_model_at(s->engine, 0)->tokenizer, k->scratch, query, document, max_length, ids,
                            type_ids, cap, count, err);
    return_caller(s, k);
    return st;
}

cpl_status cpl_scorer_stages(cpl_scorer *s, cpl_stage *stages, size_t cap, size_t *count, cpl_error *err)
{
    *count = cpl_engine_stages(s->engine, 0, stages, cap > UINT32_MAX ? UINT32_MAX : (uint32_t)cap);
    if (*count) return CPL_OK;
    return cpl_fail(err, CPL_UNSUPPORTED, "backend '%s' doesn't count time by stage", s->info.backend);
}
