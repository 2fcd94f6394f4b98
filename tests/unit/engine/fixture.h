/* SPDX-License-Identifier: Apache-2.0 */
/* fixture.h - an engine over the tiny golden models and the fake backend, tasks that can be waited for, and what their
 * rows must be. For the tests of this folder; everything is static. */
#ifndef CPL_TESTS_FIXTURE_H
#define CPL_TESTS_FIXTURE_H

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backend/fake/fake.h"
#include "base/clock.h"
#include "engine/engine.h"
#include "seed.h"

#define CROSS_ENCODER "tests/golden/models/cross-encoder"
#define THREE_LABELS  "tests/golden/models/cross-encoder-3-labels"
#define EMBEDDER      "tests/golden/models/embedder-mean"

/* A task, its texts and whether it is done. */
typedef struct call {
    cpl_task *task;
    cpl_task_spec spec;
    cpl_pair *pairs;
    cpl_text *texts;
    char *bytes;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int done; /* times */
} call;

static inline void on_done(cpl_task *t, void *user)
{
    call *c = user;
    assert_ptr_equal(t, c->task);
    pthread_mutex_lock(&c->lock);
    c->done++;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

static inline void call_init(call *c)
{
    memset(c, 0, sizeof *c);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    assert_int_equal(cpl_task_open(&c->task, NULL), CPL_OK);
    c->spec = (cpl_task_spec){.deadline_ns = UINT64_MAX, .done = on_done, .user = c};
}

static inline void call_deinit(call *c)
{
    cpl_task_close(c->task);
    free(c->pairs);
    free(c->texts);
    free(c->bytes);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->changed);
}

static inline const cpl_task_result *call_wait(call *c)
{
    pthread_mutex_lock(&c->lock);
    while (!c->done) pthread_cond_wait(&c->changed, &c->lock);
    assert_int_equal(c->done, 1);
    c->done = 0;
    pthread_mutex_unlock(&c->lock);
    return cpl_task_get(c->task);
}

static inline bool call_is_done(call *c)
{
    pthread_mutex_lock(&c->lock);
    bool done = c->done > 0;
    pthread_mutex_unlock(&c->lock);
    return done;
}

enum { TEXT_BYTES = 96 };

/* n random pairs (or texts) of letters and spaces. */
static inline void call_fill(call *c, cpl_task_op op, size_t n, uint64_t *seed)
{
    free(c->pairs);
    free(c->texts);
    free(c->bytes);
    c->pairs = calloc(n, sizeof *c->pairs);
    c->texts = calloc(n, sizeof *c->texts);
    c->bytes = malloc(2 * n * TEXT_BYTES);
    assert_true(c->pairs && c->texts && c->bytes);
    for (size_t i = 0; i < 2 * n * TEXT_BYTES; i++) c->bytes[i] = "abcdefgh th e of"[test_below(seed, 16)];
    for (size_t i = 0; i < n; i++) {
        const char *at = c->bytes + 2 * i * TEXT_BYTES;
        c->pairs[i] = (cpl_pair){{at, test_below(seed, TEXT_BYTES)}, {at + TEXT_BYTES, test_below(seed, TEXT_BYTES)}};
        c->texts[i] = c->pairs[i].document;
    }
    c->spec.op = op;
    c->spec.pairs = c->pairs;
    c->spec.texts = c->texts;
    c->spec.n = n;
}

/* Digest of what the tokenizer makes of a text or pair. */
static inline uint64_t digest_of(const cpl_engine_model *m, cpl_tokenizer_scratch *scratch, cpl_text a,
                                 const cpl_text *b, size_t max_length)
{
    int32_t a_ids[512], b_ids[512], ids[512];
    uint8_t types[512];
    size_t a_count = 0, b_count = 0, count = 0;
    assert_int_equal(cpl_tokenizer_encode(m->tokenizer, scratch, a, a_ids, 512, &a_count, NULL), CPL_OK);
    if (b) assert_int_equal(cpl_tokenizer_encode(m->tokenizer, scratch, *b, b_ids, 512, &b_count, NULL), CPL_OK);
    assert_int_equal(cpl_tokenizer_lay_out(m->tokenizer, a_ids, a_count, b ? b_ids : NULL, b_count, max_length, ids,
                                           types, 512, &count, NULL),
                     CPL_OK);
    return cpl_fake_digest(ids, types, count);
}

static inline float sigmoid(float x) { return (float)(1 / (1 + exp(-(double)x))); }

static inline double cosine_of(uint64_t a, uint64_t b, uint32_t width)
{
    double dot = 0, aa = 0, bb = 0;
    for (uint32_t k = 0; k < width; k++) {
        double x = (double)cpl_fake_value(a, k), y = (double)cpl_fake_value(b, k);
        dot += x * y;
        aa += x * x;
        bb += y * y;
    }
    return dot / sqrt(aa) / sqrt(bb);
}

/* Every row of an OK result is what the fake backend answers for that text, in its place. */
static inline void check_rows(const cpl_engine *e, const call *c, cpl_tokenizer_scratch *scratch)
{
    const cpl_engine_model *m = cpl_engine_model_at(e, c->spec.model);
    const cpl_task_result *r = cpl_task_get(c->task);
    uint32_t max_length = c->spec.max_length ? c->spec.max_length : m->max_length, hidden = m->model->arch.hidden;
    bool embedder = m->model->task == CPL_TASK_EMBEDDER;
    assert_int_equal(r->status, CPL_OK);
    assert_int_equal(r->n, c->spec.n);
    for (size_t i = 0; i < r->n; i++) {
        const float *row = r->rows + i * r->width;
        if (c->spec.op == CPL_OP_EMBED) {
            uint64_t d = digest_of(m, scratch, c->texts[i], NULL, max_length);
            double sum = 0;
            for (uint32_t k = 0; k < hidden; k++) sum += (double)cpl_fake_value(d, k) * (double)cpl_fake_value(d, k);
            assert_int_equal(r->width, hidden);
            double norm = m->model->normalize ? sqrt(sum) : 1;
            for (uint32_t k = 0; k < hidden; k++)
                assert_true(fabs((double)cpl_fake_value(d, k) / norm - (double)row[k]) < 1e-6);
        } else if (embedder) {
            uint64_t q = digest_of(m, scratch, c->pairs[i].query, NULL, max_length);
            uint64_t d = digest_of(m, scratch, c->pairs[i].document, NULL, max_length);
            assert_int_equal(r->width, 1);
            assert_true(fabs(cosine_of(q, d, hidden) - (double)*row) < 1e-6);
        } else {
            uint64_t d = digest_of(m, scratch, c->pairs[i].query, &c->pairs[i].document, max_length);
            uint32_t first = c->spec.label > 0 ? (uint32_t)c->spec.label : 0;
            bool activate = c->spec.form == CPL_SCORE_DEFAULT && m->model->activation == CPL_SCORE_SIGMOID;
            for (uint32_t k = 0; k < r->width; k++) {
                float raw = cpl_fake_value(d, first + k), expected = activate ? sigmoid(raw) : raw;
                assert_memory_equal(&expected, &row[k], sizeof expected);
            }
        }
    }
}

static inline cpl_engine *open_engine(const char *dir, const char *const *settings, cpl_engine_options *o)
{
    cpl_engine_model_options model = {.dir = dir, .backend = "fake", .settings = settings};
    cpl_engine_options options = o ? *o : (cpl_engine_options){.workers = 2};
    options.models = &model;
    options.model_count = 1;
    cpl_engine *e = NULL;
    cpl_error err = {0};
    if (cpl_engine_open(&e, &options, &err)) fail_msg("%s", err.what);
    return e;
}

static inline cpl_tokenizer_scratch *open_scratch(void)
{
    cpl_tokenizer_scratch *s = NULL;
    assert_int_equal(cpl_tokenizer_scratch_open(&s, NULL), CPL_OK);
    return s;
}

/* Holds an engine's only worker up for as long as a test likes, whatever the machine is busy with: a task whose `done`
 * waits. What is submitted meanwhile waits too. */
typedef struct gate {
    call holder;
    bool reached, open; /* under holder.lock */
} gate;

static inline void on_gate(cpl_task *t, void *user)
{
    gate *g = user;
    pthread_mutex_lock(&g->holder.lock);
    g->reached = true;
    pthread_cond_broadcast(&g->holder.changed);
    while (!g->open) pthread_cond_wait(&g->holder.changed, &g->holder.lock);
    pthread_mutex_unlock(&g->holder.lock);
    on_done(t, &g->holder);
}

static inline void gate_shut(gate *g, cpl_engine *e, cpl_tokenizer_scratch *scratch)
{
    uint64_t seed = 1;
    *g = (gate){0};
    call_init(&g->holder);
    call_fill(&g->holder, CPL_OP_SCORE, 1, &seed);
    g->holder.spec.done = on_gate;
    g->holder.spec.user = g;
    assert_int_equal(cpl_engine_submit(e, g->holder.task, &g->holder.spec, scratch, NULL), CPL_OK);
    pthread_mutex_lock(&g->holder.lock);
    while (!g->reached) pthread_cond_wait(&g->holder.changed, &g->holder.lock);
    pthread_mutex_unlock(&g->holder.lock);
}

static inline void gate_open(gate *g)
{
    pthread_mutex_lock(&g->holder.lock);
    g->open = true;
    pthread_cond_broadcast(&g->holder.changed);
    pthread_mutex_unlock(&g->holder.lock);
}

/* After gate_open. */
static inline void gate_deinit(gate *g)
{
    assert_int_equal(call_wait(&g->holder)->status, CPL_OK);
    call_deinit(&g->holder);
}

#endif
