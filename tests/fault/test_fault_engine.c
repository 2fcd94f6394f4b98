/* SPDX-License-Identifier: Apache-2.0 */
/* test_fault_engine.c - opening an engine and scoring with it while the nth allocation, mapping or thread start fails,
 * for every n until nothing fails any more; once with that one failing and once with all from there on. Every time:
 * either it worked or there is a status and a sentence, nothing crashes, nothing leaks (the leak sanitizer says so at
 * the end), and with memory back the same engine and the same task work. And: a warm engine allocates nothing. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include <cmocka.h>

/* What the build wraps (cmake/tests.cmake reads these lines). */
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
int __wrap_posix_memalign(void **out, size_t align, size_t size);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int file, off_t offset);
int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);

#include "engine/engine.h"
#include "fault/fault.h"

#define CROSS_ENCODER "tests/golden/models/cross-encoder"
#define EMBEDDER      "tests/golden/models/embedder-mean"

enum { PAIRS = 40 };

typedef struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
} waiter;

static char texts[PAIRS][200];
static cpl_pair pairs[PAIRS];

static void make_texts(void)
{
    for (int i = 0; i < PAIRS; i++) {
        int n = snprintf(texts[i], sizeof texts[i], "how tall is number %d of %s", i, i % 3 ? "them" : "the river");
        pairs[i] = (cpl_pair){{texts[i % 5], 12}, {texts[i], (size_t)n}};
    }
}

static void on_done(cpl_task *t, void *user)
{
    waiter *w = user;
    (void)t;
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

/* One request, waited for. */
static cpl_status score(cpl_engine *e, cpl_task *t, size_t n, cpl_tokenizer_scratch *scratch, cpl_error *err)
{
    waiter w = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    cpl_task_spec spec = {
        .op = CPL_OP_SCORE, .pairs = pairs, .n = n, .deadline_ns = UINT64_MAX, .done = on_done, .user = &w};
    cpl_status st = cpl_engine_submit(e, t, &spec, scratch, err);
    if (st) return st;
    pthread_mutex_lock(&w.lock);
    while (!w.done) pthread_cond_wait(&w.changed, &w.lock);
    pthread_mutex_unlock(&w.lock);
    if (cpl_task_get(t)->status) *err = cpl_task_get(t)->error;
    return cpl_task_get(t)->status;
}

static cpl_status open_engine(cpl_engine **out, const char *dir, const char *backend, uint32_t pool, cpl_error *err)
{
    cpl_engine_model_options m = {.dir = dir, .backend = backend};
    cpl_engine_options o = {
        .models = &m, .model_count = 1, .workers = 2, .tokenizer_threads = pool, .inline_text_bytes = pool ? 1 : 0};
    return cpl_engine_open(out, &o, err);
}

/* The whole life under fault n. True when n was beyond the last call. */
static bool live(const char *dir, const char *backend, uint32_t pool, long n, bool forever)
{
    cpl_engine *e = NULL;
    cpl_task *t = NULL;
    cpl_tokenizer_scratch *scratch = NULL;
    cpl_error err = {0};
    cpl_fault_arm(n, forever);
    cpl_status st = open_engine(&e, dir, backend, pool, &err);
    if (!st) st = cpl_task_open(&t, &err);
    if (!st) st = cpl_tokenizer_scratch_open(&scratch, &err);
    if (!st) st = score(e, t, PAIRS, scratch, &err);
    long hits = cpl_fault_disarm();
    if (st) {
        assert_true(hits > 0);
        assert_int_equal(err.status, st);
        assert_true(err.what[0] != 0);
    }
    if (e) { /* with memory back it works, on the task that failed too */
        if (!t) assert_int_equal(cpl_task_open(&t, NULL), CPL_OK);
        if (!scratch) assert_int_equal(cpl_tokenizer_scratch_open(&scratch, NULL), CPL_OK);
        if (score(e, t, PAIRS, scratch, &err)) fail_msg("fault %ld: %s", n, err.what);
        assert_int_equal(cpl_task_get(t)->n, PAIRS);
    } else {
        assert_true(st != CPL_OK);
    }
    cpl_tokenizer_scratch_close(scratch);
    cpl_task_close(t);
    cpl_engine_close(e);
    return hits == 0;
}

static void every_fault(const char *dir, const char *backend, uint32_t pool)
{
    for (int forever = 0; forever < 2; forever++) {
        long n = 0;
        while (!live(dir, backend, pool, n, forever)) n++;
        print_message("%s on %s, %u tokenizer threads: %ld faults%s\n", dir, backend, pool, n,
                      forever ? ", lasting" : "");
        assert_true(n > 20);
    }
}

/* A model is loaded, replaced and unloaded beside one that is served, under fault n. Whatever failed, what was served
 * before is served after. */
static bool come_and_go(const char *backend, long n, bool forever)
{
    cpl_engine *e = NULL;
    cpl_task *t = NULL;
    cpl_tokenizer_scratch *scratch = NULL;
    cpl_error err = {0};
    assert_int_equal(open_engine(&e, CROSS_ENCODER, backend, 1, &err), CPL_OK);
    assert_int_equal(cpl_task_open(&t, &err), CPL_OK);
    assert_int_equal(cpl_tokenizer_scratch_open(&scratch, &err), CPL_OK);
    cpl_engine_model_options m = {.name = "other", .dir = EMBEDDER, .backend = backend, .replicas = 2};
    cpl_fault_arm(n, forever);
    cpl_status st = cpl_engine_model_load(e, &m, &err);
    if (!st) st = cpl_engine_model_load(e, &m, &err);
    long hits = cpl_fault_disarm();
    if (st) {
        assert_true(hits > 0);
        assert_int_equal(err.status, st);
        assert_true(err.what[0] != 0);
    }
    if (score(e, t, PAIRS, scratch, &err)) fail_msg("fault %ld: %s", n, err.what);
    if (cpl_engine_model_load(e, &m, &err)) fail_msg("fault %ld: %s", n, err.what);
    if (cpl_engine_canary(e, &err)) fail_msg("fault %ld: %s", n, err.what);
    if (cpl_engine_model_unload(e, "other", 5, &err)) fail_msg("fault %ld: %s", n, err.what);
    uint32_t index;
    assert_int_equal(cpl_engine_model_hold(e, NULL, 0, &index, &err), CPL_OK); /* nothing else stayed */
    cpl_engine_model_release(e, index);
    cpl_tokenizer_scratch_close(scratch);
    cpl_task_close(t);
    cpl_engine_close(e);
    return hits == 0;
}

static void models_come_and_go(void **state)
{
    (void)state;
    static const char *const backends[] = {"fake", "native"};
    for (int b = 0; b < 2; b++) {
        for (int forever = 0; forever < 2; forever++) {
            long n = 0;
            while (!come_and_go(backends[b], n, forever)) n++;
            print_message("models come and go on %s: %ld faults%s\n", backends[b], n, forever ? ", lasting" : "");
            assert_true(n > 20);
        }
    }
}

static void fake_cross_encoder(void **state)
{
    (void)state;
    every_fault(CROSS_ENCODER, "fake", 0);
}

static void native_embedder_with_a_pool(void **state)
{
    (void)state;
    every_fault(EMBEDDER, "native", 1);
}

static void a_warm_engine_allocates_nothing(void **state)
{
    (void)state;
    const struct {
        const char *dir, *backend;
        uint32_t pool;
    } cases[] = {{CROSS_ENCODER, "native", 0}, {CROSS_ENCODER, "fake", 2}, {EMBEDDER, "native", 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cpl_engine *e = NULL;
        cpl_task *t = NULL;
        cpl_tokenizer_scratch *scratch = NULL;
        cpl_error err = {0};
        assert_int_equal(open_engine(&e, cases[i].dir, cases[i].backend, cases[i].pool, &err), CPL_OK);
        assert_int_equal(cpl_task_open(&t, &err), CPL_OK);
        assert_int_equal(cpl_tokenizer_scratch_open(&scratch, &err), CPL_OK);
        long calls = -1;
        for (int round = 0; round < 50 && calls; round++) { /* a pool thread's scratch is warm once it had its turn */
            cpl_fault_arm(-1, false);
            for (int k = 0; k < 40; k++) assert_int_equal(score(e, t, (size_t)(PAIRS - k % 7), scratch, &err), CPL_OK);
            calls = atomic_load(&cpl_fault_calls);
        }
        if (calls) fail_msg("%s on %s: %ld allocations in 40 requests", cases[i].dir, cases[i].backend, calls);
        cpl_tokenizer_scratch_close(scratch);
        cpl_task_close(t);
        cpl_engine_close(e);
    }
}

int main(void)
{
    make_texts();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_come_and_go),
        cmocka_unit_test(fake_cross_encoder),
        cmocka_unit_test(native_embedder_with_a_pool),
        cmocka_unit_test(a_warm_engine_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
