/* SPDX-License-Identifier: Apache-2.0 */
/* test_conform.c - what every backend must do, asked of each one that is here: built-in ones, plug-ins, the fake one
 * both ways and on padded rectangles. A backend that isn't installed is named and passed over.
 *
 * Sessions run on threads of their own, so the thread sanitizer sees what is shared; opening a hundred times is for the
 * leak sanitizer. The seed is printed; COUPLET_SEED sets it. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "backend/precision.h"
#include "backend/registry.h"
#include "golden/golden.h"

enum { TOKENS_MAX = 200, SEQUENCES_MAX = 24, GUARD = 16 };

typedef struct subject {
    const char *name; /* for cpl_backend_find */
    const char *setting;
} subject;

/* Every name couplet knows, and special ways in. */
static const subject subjects[] = {{"native", NULL},      {"cuda", NULL},           {"onnx", NULL},
                                   {"pytorch", NULL},     {"compiled", NULL},       {"mlx", NULL},
                                   {"mps", NULL},         {"openvino", NULL},       {"fake", NULL},
                                   {"plugin:fake", NULL}, {"fake", "rectangles=1"}, {"plugin:fake", "rectangles=1"}};
static const char *const models[] = {"cross-encoder", "cross-encoder-3-labels", "embedder-mean", "embedder-cls",
                                     "embedder-max"};
enum { MODELS = sizeof models / sizeof *models };

static uint64_t seed;
static cpl_host host;

/* ---- one backend with one model ---------------------------------------------------------------------------------- */

typedef struct bench {
    const subject *subject;
    cpl_backend_ref ref;
    cpl_caps caps;
    cpl_golden golden;
    cpl_model *model;
    cpl_weights *weights;
    cpl_precision precision;
    cpl_want want; /* what scoring needs */
} bench;

static void check(const bench *b, cpl_status st, const cpl_error *err)
{
    if (st) fail_msg("%s: %s", b->subject->name, err->what);
}

static uint32_t below(uint64_t *state, uint32_t n)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ z >> 31) % n);
}

static cpl_load_options options_of(const bench *b, const char *const *settings)
{
    return (cpl_load_options){.size = sizeof(cpl_load_options),
                              .precision = b->precision,
                              .batch_tokens_max = TOKENS_MAX,
                              .batch_sequences_max = SEQUENCES_MAX,
                              .settings = settings};
}

static void load(bench *b)
{
    const char *settings[] = {b->subject->setting, NULL};
    const cpl_load_options o = options_of(b, settings);
    cpl_load_report report = {0};
    cpl_error err;
    check(b, b->ref.backend->load(&b->weights, b->model, &o, &report, &host, &err), &err);
    assert_non_null(b->weights);
    assert_int_equal(report.precision, b->precision);
    assert_true(report.weight_bytes > 0);
    assert_true(report.kernels[0] != 0);
    assert_true(report.batch_tokens > 0 && report.batch_tokens <= b->caps.batch_tokens);
}

static void unload(bench *b)
{
    b->ref.backend->unload(b->weights);
    b->weights = NULL;
}

static size_t width_of(const bench *b, cpl_want want)
{
    return want == CPL_WANT_LOGITS ? b->model->arch.labels : b->model->arch.hidden;
}

/* Runs and checks that nothing was written behind the rows. */
static void run(const bench *b, cpl_session *s, const cpl_batch *batch, float *rows)
{
    cpl_error err;
    size_t n = (batch->want == CPL_WANT_TOKENS ? batch->cu_seqlens[batch->n] : batch->n) * width_of(b, batch->want);
    for (size_t i = 0; i < GUARD; i++) rows[n + i] = 12345.0f;
    check(b, b->ref.backend->run(s, batch, NULL, rows, &err), &err);
    for (size_t i = 0; i < GUARD; i++) assert_true(rows[n + i] == 12345.0f);
    for (size_t i = 0; i < n; i++) assert_true(isfinite(rows[i]));
}

/* ---- batches ------------------------------------------------------------------------------------------------------
 */

typedef struct batch_room {
    int32_t ids[TOKENS_MAX + 512];
    uint8_t types[TOKENS_MAX + 512];
    uint32_t cu[SEQUENCES_MAX + 1];
    cpl_batch batch;
    float *rows, *alone;
} batch_room;

static void room_init(const bench *b, batch_room *r)
{
    size_t cells = (TOKENS_MAX + 512) * (size_t)(b->model->arch.hidden + b->model->arch.labels) + GUARD;
    r->rows = malloc(cells * sizeof *r->rows);
    r->alone = malloc(cells * sizeof *r->alone);
    assert_true(r->rows && r->alone);
}

static void room_deinit(batch_room *r)
{
    free(r->rows);
    free(r->alone);
}

static void begin(batch_room *r, cpl_want want)
{
    r->cu[0] = 0;
    r->batch = (cpl_batch){r->ids, r->types, r->cu, 0, 0, want};
}

static void add(const bench *b, batch_room *r, uint32_t length, uint64_t *state)
{
    uint32_t at = r->cu[r->batch.n];
    for (uint32_t k = at; k < at + length; k++) {
        r->ids[k] = (int32_t)below(state, b->model->arch.vocab);
        r->types[k] = (uint8_t)below(state, b->model->arch.types);
    }
    r->cu[++r->batch.n] = at + length;
    if (length > r->batch.max_len) r->batch.max_len = length;
}

/* Lengths as ragged as they come, full in tokens or in sequences. */
static void fill(const bench *b, batch_room *r, cpl_want want, uint64_t *state)
{
    uint32_t most = b->model->max_length < TOKENS_MAX ? b->model->max_length : TOKENS_MAX;
    bool short_ones = below(state, 2);
    begin(r, want);
    while (r->batch.n < SEQUENCES_MAX) {
        uint32_t left = TOKENS_MAX - r->cu[r->batch.n], length = 1 + below(state, short_ones ? 6 : most);
        if (length > left) length = left < most ? left : most;
        if (!length) break;
        add(b, r, length, state);
    }
}

/* Every row has the bits that its sequence has alone, and again the same in a second run. */
static void check_alone(const bench *b, cpl_session *s, batch_room *r)
{
    size_t width = width_of(b, r->batch.want);
    run(b, s, &r->batch, r->rows);
    for (uint32_t i = 0; i < r->batch.n; i++) {
        uint32_t n = r->cu[i + 1] - r->cu[i], cu[2] = {0, n};
        cpl_batch one = {r->ids + r->cu[i], r->types + r->cu[i], cu, 1, n, r->batch.want};
        size_t rows = r->batch.want == CPL_WANT_TOKENS ? n : 1, at = r->batch.want == CPL_WANT_TOKENS ? r->cu[i] : i;
        run(b, s, &one, r->alone);
        if (memcmp(r->alone, r->rows + at * width, rows * width * sizeof(float)))
            fail_msg("%s, seed %llu: sequence %u of %u differs from alone", b->subject->name, (unsigned long long)seed,
                     i, r->batch.n);
    }
}

/* ---- what is asked ------------------------------------------------------------------------------------------------
 */

static void check_caps(const bench *b)
{
    const cpl_caps *c = &b->caps;
    assert_true(c->precisions != 0 && c->precisions < 1u << CPL_PRECISION_COUNT);
    assert_true(c->wants != 0 && c->devices >= 1 && c->batch_tokens > 0 && c->isa[0] && c->device[0]);
    for (int p = 0; p < CPL_PRECISION_COUNT; p++) assert_true(c->precisions >> p & 1 || c->reason[p][0]);
}

static void check_batches(const bench *b)
{
    batch_room r;
    cpl_session *s = NULL;
    cpl_error err;
    uint64_t state = seed;
    room_init(b, &r);
    check(b, b->ref.backend->open(&s, b->weights, &err), &err);
    for (int want = CPL_WANT_LOGITS; want <= CPL_WANT_TOKENS; want++) {
        if (!(b->caps.wants >> want & 1) || (want == CPL_WANT_LOGITS && !b->model->arch.labels)) continue;
        for (int pass = 0; pass < 12; pass++) {
            fill(b, &r, (cpl_want)want, &state);
            check_alone(b, s, &r);
        }
        begin(&r, (cpl_want)want); /* one token; the longest, though it is above the budget */
        add(b, &r, 1, &state);
        check_alone(b, s, &r);
        begin(&r, (cpl_want)want);
        add(b, &r, b->model->max_length < 500 ? b->model->max_length : 500, &state);
        check_alone(b, s, &r);
    }
    b->ref.backend->close(s);
    room_deinit(&r);
}

/* Real backends give what PyTorch gave. */
static void check_golden(const bench *b)
{
    if (!strcmp(b->ref.backend->name, "fake") || b->precision != CPL_PRECISION_FP32) return;
    batch_room r;
    cpl_session *s = NULL;
    cpl_error err;
    double worst = 0;
    room_init(b, &r);
    check(b, b->ref.backend->open(&s, b->weights, &err), &err);
    for (size_t i = 0; i < b->golden.count; i++) {
        const cpl_golden_case *c = &b->golden.cases[i];
        if (c->n > b->model->max_length) continue;
        uint32_t cu[2] = {0, (uint32_t)c->n};
        cpl_batch one = {c->ids, c->type_ids, cu, 1, (uint32_t)c->n, b->want};
        run(b, s, &one, r.rows);
        for (size_t k = 0; k < b->golden.width; k++) worst = fmax(worst, fabs((double)r.rows[k] - (double)c->row[k]));
    }
    assert_true(worst <= 1e-4);
    b->ref.backend->close(s);
    room_deinit(&r);
}

static void check_reopening(const bench *b)
{
    batch_room r;
    cpl_error err;
    uint64_t state = seed;
    room_init(b, &r);
    begin(&r, b->want);
    add(b, &r, 5, &state);
    add(b, &r, 3, &state);
    for (int i = 0; i < 100; i++) {
        cpl_session *s = NULL;
        check(b, b->ref.backend->open(&s, b->weights, &err), &err);
        run(b, s, &r.batch, i ? r.alone : r.rows);
        if (i) assert_memory_equal(r.rows, r.alone, 2 * width_of(b, b->want) * sizeof(float));
        b->ref.backend->close(s);
    }
    room_deinit(&r);
}

typedef struct runner {
    const bench *bench;
    pthread_t thread;
    cpl_session *session;
    batch_room *room;
    float *rows;
} runner;

static void *runner_main(void *arg)
{
    runner *me = arg;
    for (int i = 0; i < 10; i++) run(me->bench, me->session, &me->room->batch, me->rows);
    return NULL;
}

static void check_two_sessions(const bench *b)
{
    batch_room r;
    runner runners[2];
    cpl_error err;
    uint64_t state = seed;
    room_init(b, &r);
    fill(b, &r, b->want, &state);
    for (int i = 0; i < 2; i++) {
        runners[i] = (runner){.bench = b, .room = &r, .rows = i ? r.alone : r.rows};
        check(b, b->ref.backend->open(&runners[i].session, b->weights, &err), &err);
    }
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&runners[i].thread, NULL, runner_main, &runners[i]), 0);
    for (int i = 0; i < 2; i++) {
        pthread_join(runners[i].thread, NULL);
        b->ref.backend->close(runners[i].session);
    }
    assert_memory_equal(r.rows, r.alone, r.batch.n * width_of(b, b->want) * sizeof(float));
    room_deinit(&r);
}

static void check_refusals(bench *b)
{
    const cpl_backend *k = b->ref.backend;
    const char *unknown[] = {"no_such_setting=1", NULL};
    cpl_load_report report;
    cpl_error err = {0};
    cpl_weights *w = b->weights;
    cpl_load_options o = options_of(b, unknown);
    assert_int_equal(k->load(&w, b->model, &o, &report, &host, &err), CPL_INVALID);
    assert_null(w);
    assert_non_null(strstr(err.what, "no_such_setting"));
    for (int p = 0; p < CPL_PRECISION_COUNT; p++) {
        if (b->caps.precisions >> p & 1) continue;
        o = options_of(b, NULL);
        o.precision = (cpl_precision)p;
        assert_int_equal(k->load(&w, b->model, &o, &report, &host, &err), CPL_UNSUPPORTED);
        assert_null(w);
    }
    k->close(NULL);
    k->unload(NULL);
    if (b->model->arch.labels) return;
    batch_room r;
    cpl_session *s = NULL;
    uint64_t state = seed;
    room_init(b, &r);
    check(b, k->open(&s, b->weights, &err), &err);
    begin(&r, CPL_WANT_LOGITS); /* a model without a head has none */
    add(b, &r, 4, &state);
    assert_int_not_equal(k->run(s, &r.batch, NULL, r.rows, &err), CPL_OK);
    assert_true(err.what[0] != 0);
    r.batch.want = b->want; /* and the session works on */
    run(b, s, &r.batch, r.rows);
    k->close(s);
    room_deinit(&r);
}

/* ---- all of them ---------------------------------------------------------------------------------------------------
 */

static void conform(bench *b, const char *model)
{
    char path[128];
    cpl_error err;
    snprintf(path, sizeof path, "tests/golden/%s.json", model);
    assert_true(cpl_golden_load(path, &b->golden));
    check(b, cpl_model_open(&b->model, b->golden.model, &err), &err);
    b->want = b->golden.cross_encoder ? CPL_WANT_LOGITS : CPL_WANT_POOLED;
    for (int p = 0; p < CPL_PRECISION_COUNT; p++) {
        if (!(b->caps.precisions >> p & 1)) continue;
        b->precision = (cpl_precision)p;
        load(b);
        check_batches(b);
        check_golden(b);
        check_reopening(b);
        check_two_sessions(b);
        check_refusals(b);
        unload(b);
    }
    cpl_model_close(b->model);
    cpl_golden_free(&b->golden);
}

static void test_subject(void **state)
{
    const subject *s = *state;
    bench b = {.subject = s};
    cpl_error err = {0};
    cpl_status st = cpl_backend_find(&b.ref, s->name, NULL, &host, &err);
    if (!st) st = b.ref.backend->probe(&b.caps, &host, &err);
    if (st == CPL_NOT_FOUND || st == CPL_UNSUPPORTED) {
        if (!strncmp(s->name, "plugin:", 7) && getenv("COUPLET_BUILD")) fail_msg("%s", err.what); /* it was built */
        print_message("skipped: %s\n", err.what);
        cpl_backend_release(&b.ref);
        skip();
    }
    check(&b, st, &err);
    check_caps(&b);
    for (size_t i = 0; i < MODELS; i++) conform(&b, models[i]);
    cpl_backend_release(&b.ref);
}

static void every_known_name_is_a_subject(void **state)
{
    (void)state;
    const char *const *names = cpl_backend_names();
    for (size_t i = 0; names[i]; i++) {
        bool found = false;
        for (size_t k = 0; k < sizeof subjects / sizeof *subjects; k++) found |= !strcmp(subjects[k].name, names[i]);
        if (!found) fail_msg("'%s' is not tested here", names[i]);
    }
}

int main(void)
{
    enum { SUBJECTS = sizeof subjects / sizeof *subjects };
    const char *given = getenv("COUPLET_SEED");
    seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    print_message("seed %llu\n", (unsigned long long)seed);
    cpl_host_init(&host, NULL);
    struct CMUnitTest tests[SUBJECTS + 1] = {cmocka_unit_test(every_known_name_is_a_subject)};
    char names[SUBJECTS][64];
    for (size_t i = 0; i < SUBJECTS; i++) {
        snprintf(names[i], sizeof names[i], "%s %s", subjects[i].name, subjects[i].setting ? subjects[i].setting : "");
        tests[i + 1] = (struct CMUnitTest){names[i], test_subject, NULL, NULL, (void *)(uintptr_t)&subjects[i]};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
