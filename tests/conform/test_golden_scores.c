/* SPDX-License-Identifier: Apache-2.0 */
/* test_golden_scores.c - texts in, scores out, through tokenizer, batcher, native backend and reducers, against what
 * sentence-transformers computed: scores within 1e-4, vectors by cosine 0.999999. All cases of a model go in as one
 * request and again one by one, and must come out with the same bits. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "golden/golden.h"

typedef struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
} waiter;

static void on_done(cpl_task *t, void *user)
{
    waiter *w = user;
    (void)t;
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

static const cpl_task_result *run(cpl_engine *e, cpl_task *t, cpl_task_spec spec, cpl_tokenizer_scratch *scratch)
{
    waiter w = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    cpl_error err;
    spec.deadline_ns = UINT64_MAX;
    spec.done = on_done;
    spec.user = &w;
    if (cpl_engine_submit(e, t, &spec, scratch, &err)) fail_msg("%s", err.what);
    pthread_mutex_lock(&w.lock);
    while (!w.done) pthread_cond_wait(&w.changed, &w.lock);
    pthread_mutex_unlock(&w.lock);
    const cpl_task_result *r = cpl_task_get(t);
    if (r->status) fail_msg("%s", r->error.what);
    return r;
}

static void check_row(const cpl_golden *g, const cpl_golden_case *c, const float *row, double *worst, double *least)
{
    const float *expected = c->final ? c->final : c->row; /* a vector before normalising: its direction only */
    double ab = 0, aa = 0, bb = 0;
    for (size_t k = 0; k < g->width; k++) {
        if (c->final) *worst = fmax(*worst, fabs((double)row[k] - (double)c->final[k]));
        ab += (double)row[k] * (double)expected[k];
        aa += (double)row[k] * (double)row[k];
        bb += (double)expected[k] * (double)expected[k];
    }
    if (!g->cross_encoder) *least = fmin(*least, ab / sqrt(aa * bb));
}

static void check_model(const char *name, const char *needs)
{
    char path[128];
    cpl_golden g;
    if (needs && access(needs, R_OK)) {
        print_message("skipped: %s is not there (make model)\n", needs);
        skip();
    }
    snprintf(path, sizeof path, "tests/golden/%s.json", name);
    assert_true(cpl_golden_load(path, &g));
    cpl_engine_model_options m = {.dir = g.model};
    cpl_engine_options o = {
        .models = &m, .model_count = 1, .workers = 2, .tokenizer_threads = 1, .inline_text_bytes = 2000};
    cpl_engine *e = NULL;
    cpl_error err;
    if (cpl_engine_open(&e, &o, &err)) fail_msg("%s", err.what);
    cpl_task *t = NULL, *alone = NULL;
    cpl_tokenizer_scratch *scratch = NULL;
    assert_int_equal(cpl_task_open(&t, NULL) | cpl_task_open(&alone, NULL), CPL_OK);
    assert_int_equal(cpl_tokenizer_scratch_open(&scratch, NULL), CPL_OK);
    cpl_pair *pairs = calloc(g.count, sizeof *pairs);
    cpl_text *texts = calloc(g.count, sizeof *texts);
    size_t *from = calloc(g.count, sizeof *from), n = 0;
    assert_true(pairs && texts && from);
    for (size_t i = 0; i < g.count; i++) {
        const cpl_golden_case *c = &g.cases[i];
        if (g.cross_encoder ? !c->document || !c->final : !c->text) continue;
        if (g.cross_encoder)
            pairs[n] = (cpl_pair){cpl_text_of(c->query), cpl_text_of(c->document)};
        else
            texts[n] = cpl_text_of(c->text);
        from[n++] = i;
    }
    assert_true(n > 0);
    cpl_task_spec spec = {.op = g.cross_encoder ? CPL_OP_SCORE : CPL_OP_EMBED,
                          .pairs = pairs,
                          .texts = texts,
                          .n = n,
                          .label = CPL_LABEL_ALL};
    const cpl_task_result *all = run(e, t, spec, scratch);
    assert_int_equal(all->n, n);
    assert_int_equal(all->width, g.width);
    double worst = 0, least = 1;
    for (size_t i = 0; i < n; i++) {
        check_row(&g, &g.cases[from[i]], all->rows + i * g.width, &worst, &least);
        spec.pairs = &pairs[i];
        spec.texts = &texts[i];
        spec.n = 1;
        assert_memory_equal(run(e, alone, spec, scratch)->rows, all->rows + i * g.width, g.width * sizeof(float));
    }
    print_message("%-22s %zu texts: max abs %.2e  min cosine %.9f\n", name, n, worst, least);
    assert_true(worst <= 1e-4 && least >= 0.999999);
    free(pairs);
    free(texts);
    free(from);
    cpl_tokenizer_scratch_close(scratch);
    cpl_task_close(t);
    cpl_task_close(alone);
    cpl_engine_close(e);
    cpl_golden_free(&g);
}

static const struct {
    const char *name, *needs;
} models[] = {{"cross-encoder", NULL},
              {"cross-encoder-3-labels", NULL},
              {"embedder-mean", NULL},
              {"embedder-cls", NULL},
              {"embedder-max", NULL},
              {"all-MiniLM-L6-v2", "models/all-MiniLM-L6-v2/model.safetensors"},
              {"seeded-cross-encoder", "models/seeded-cross-encoder/model.safetensors"}};

static void test_model(void **state)
{
    size_t i = (size_t)*state;
    check_model(models[i].name, models[i].needs);
}

int main(void)
{
    enum { MODELS = sizeof models / sizeof *models };
    struct CMUnitTest tests[MODELS];
    for (size_t i = 0; i < MODELS; i++)
        tests[i] = (struct CMUnitTest){models[i].name, test_model, NULL, NULL, (void *)i};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
