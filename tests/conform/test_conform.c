/* SPDX-License-Identifier: Apache-2.0 */
/* test_conform.c - what every backend must do in each precision it says it has: built-in ones, plug-ins, the fake one
 * both ways and on padded rectangles. A backend that isn't installed is named and passed over, as is a foreign one in a
 * build with the thread sanitizer, which can't see into it. What a precision loses against PyTorch's fp32 rows is
 * printed and held to a bound.
 *
 * Each backend has a process of its own, because two foreign runtimes need not get on. Sessions run on threads of their
 * own, so the thread sanitizer sees what is shared; opening a hundred times is for the leak sanitizer. The seed is
 * printed; COUPLET_SEED sets it, COUPLET_BACKEND takes one backend alone, COUPLET_PRECISION one precision. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend/precision.h"
#include "backend/registry.h"
#include "golden/golden.h"
#include "seed.h"

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
static const char *const models[] = {"cross-encoder", "cross-encoder-3-labels", "embedder-mean",
                                     "embedder-cls",  "embedder-max",           "all-MiniLM-L6-v2"};

/* How far a row may lie from PyTorch's in fp32: an element (logits, or a pooled vector's), the vector's cosine, and for
 * the real model the cosine alone. `company`: how far, where a backend is inexact, from the same sequence alone. The
 * tiny models are random and shaped to be hard: bounds are some twice the worst seen of any backend (bf16: libtorch and
 * OpenVINO keep the residual stream in it too). */
typedef struct bound {
    double element, cosine, real_cosine, company, company_cosine;
} bound;
static const bound bounds[CPL_PRECISION_COUNT] = {
    [CPL_PRECISION_FP32] = {1e-4, 0.999999, 0.999999, 2e-5, 0.999999},
    [CPL_PRECISION_BF16] = {0.3, 0.999, 0.999, 0.3, 0.999},
    [CPL_PRECISION_FP16] = {0.02, 0.99999, 0.99999, 0.02, 0.99999},
    [CPL_PRECISION_FP8] = {0.6, 0.97, 0.99, 0.6, 0.97},
    [CPL_PRECISION_INT8] = {0.7, 0.95, 0.94, 0.7, 0.95},
    [CPL_PRECISION_INT4] = {1.5, 0.5, 0.5, 1.5, 0.5},
};
enum { MODELS = sizeof models / sizeof *models };
/* The real model, the last of them, has nothing for the thread sanitizer that the small ones haven't: the same code and
 * the same threads, for a hundred times the arithmetic. */
#if defined(__SANITIZE_THREAD__)
enum { REAL_LEFT_OUT = 1 };
#else
enum { REAL_LEFT_OUT = 0 };
#endif

static uint64_t seed;
static cpl_host host;
static void *(*allocate_really)(size_t size, size_t align);
static _Atomic bool no_memory; /* the host's allocator fails */

static void *allocate(size_t size, size_t align) { return no_memory ? NULL : allocate_really(size, align); }

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
    bool real;     /* the model is a trained one, of full size */
} bench;

static void check(const bench *b, cpl_status st, const cpl_error *err)
{
    if (st) fail_msg("%s: %s", b->subject->name, err->what);
}

static cpl_load_options options_of(const bench *b, const char *const *settings)
{
    return (cpl_load_options){.size = sizeof(cpl_load_options),
                              .precision = b->precision,
                              .batch_tokens_max = TOKENS_MAX,
                              .batch_sequences_max = SEQUENCES_MAX,
                              .settings = settings};
}

static bool eight_bits(cpl_precision p)
{
    return p == CPL_PRECISION_FP8 || p == CPL_PRECISION_INT8 || p == CPL_PRECISION_INT4;
}

/* False: the model lacks a file that this precision needs, or has a size that its instructions don't take; which the
 * backend said. */
static bool load(bench *b)
{
    const char *settings[] = {b->subject->setting, NULL};
    const cpl_load_options o = options_of(b, settings);
    cpl_load_report report = {0};
    cpl_error err;
    cpl_status st = b->ref.backend->load(&b->weights, b->model, &o, &report, &host, &err);
    if (st == CPL_NOT_FOUND) {
        print_message("%-9s %-4s not run: %s\n", b->ref.backend->name, cpl_precision_name(b->precision), err.what);
        assert_null(b->weights);
        return false;
    }
    /* Tiny models have odd sizes; a device's 8-bit instructions may not. What fits must load. */
    if (st == CPL_UNSUPPORTED && eight_bits(b->precision) &&
        (b->model->arch.hidden % 16 || b->model->arch.intermediate % 16)) {
        print_message("%-9s %-4s not run: %s\n", b->ref.backend->name, cpl_precision_name(b->precision), err.what);
        assert_null(b->weights);
        return false;
    }
    check(b, st, &err);
    assert_non_null(b->weights);
    assert_int_equal(report.precision, b->precision);
    assert_true(report.weight_bytes > 0);
    assert_true(report.kernels[0] != 0);
    assert_true(report.batch_tokens > 0 && report.batch_tokens <= b->caps.batch_tokens);
    return true;
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
        r->ids[k] = (int32_t)test_below(state, b->model->arch.vocab);
        r->types[k] = (uint8_t)test_below(state, b->model->arch.types);
    }
    r->cu[++r->batch.n] = at + length;
    if (length > r->batch.max_len) r->batch.max_len = length;
}

/* Lengths as ragged as they come, full in tokens or in sequences. */
static void fill(const bench *b, batch_room *r, cpl_want want, uint64_t *state)
{
    uint32_t most = b->model->max_length < TOKENS_MAX ? b->model->max_length : TOKENS_MAX;
    bool short_ones = test_below(state, 2);
    begin(r, want);
    while (r->batch.n < SEQUENCES_MAX) {
        uint32_t left = TOKENS_MAX - r->cu[r->batch.n], length = 1 + test_below(state, short_ones ? 6 : most);
        if (length > left) length = left < most ? left : most;
        if (!length) break;
        add(b, r, length, state);
    }
}

static double cosine_of(const float *a, const float *b, size_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return ab / sqrt(aa * bb + 1e-30);
}

static double worst_of(const float *a, const float *b, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++) worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
    return worst;
}

/* A row beside the same sequence's in other company. */
static bool same(const bench *b, cpl_want want, const float *x, const float *y, size_t n)
{
    if (!b->caps.inexact) return memcmp(x, y, n * sizeof *x) == 0;
    const bound *t = &bounds[b->precision];
    if (want == CPL_WANT_LOGITS || b->precision == CPL_PRECISION_FP32) return worst_of(x, y, n) <= t->company;
    return cosine_of(x, y, n) >= t->company_cosine;
}

/* Every row has the bits that its sequence has alone, or where the backend is inexact lies within its precision of
 * them. Alone, a second run has the bits of the first in either case. */
static void check_alone(const bench *b, cpl_session *s, batch_room *r)
{
    size_t width = width_of(b, r->batch.want);
    run(b, s, &r->batch, r->rows);
    for (uint32_t i = 0; i < r->batch.n; i++) {
        uint32_t n = r->cu[i + 1] - r->cu[i], cu[2] = {0, n};
        cpl_batch one = {r->ids + r->cu[i], r->types + r->cu[i], cu, 1, n, r->batch.want};
        bool tokens = r->batch.want == CPL_WANT_TOKENS;
        const float *row = r->rows + (size_t)(tokens ? r->cu[i] : i) * width;
        run(b, s, &one, r->alone);
        for (uint32_t k = 0; k < (tokens ? n : 1); k++, row += width)
            if (!same(b, r->batch.want, row, r->alone + k * width, width))
                fail_msg("%s %s, seed %llu: sequence %u of %u differs from alone: by %g, cosine %g", b->subject->name,
                         cpl_precision_name(b->precision), (unsigned long long)seed, i, r->batch.n,
                         worst_of(row, r->alone + k * width, width), cosine_of(row, r->alone + k * width, width));
    }
}

static bool is_foreign(const subject *s)
{
    const char *name = s->name;
    return strcmp(name, "native") && strcmp(name, "fake") && strcmp(name, "plugin:fake");
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
        if (want != (int)b->want && b->caps.inexact) { /* a graph made for scoring may give nothing else */
            begin(&r, (cpl_want)want);
            add(b, &r, 3, &state);
            if (b->ref.backend->run(s, &r.batch, NULL, r.rows, &err) == CPL_UNSUPPORTED) continue;
        }
        for (int pass = 0; pass < (b->real ? 2 : 12); pass++) {
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

/* The worst and the mean of what a precision loses. */
typedef struct loss {
    double element, cosine, cosine_sum;
    size_t rows, swapped, orders; /* of `orders` pairs of rows that PyTorch tells apart, ranked the other way */
} loss;

/* Rows are ranked by their first logit, or by the cosine with the first row. */
static void count_orders(const bench *b, const float *got, loss *l)
{
    const size_t width = b->golden.width, n = b->golden.count;
    for (size_t i = 1; i < n; i++) {
        for (size_t k = i + 1; k < n; k++) {
            const float *wi = b->golden.cases[i].row, *wk = b->golden.cases[k].row, *w0 = b->golden.cases[0].row;
            const float *gi = got + i * width, *gk = got + k * width;
            double want, have;
            if (b->want == CPL_WANT_LOGITS) {
                want = (double)wi[0] - (double)wk[0], have = (double)gi[0] - (double)gk[0];
            } else {
                want = cosine_of(wi, w0, width) - cosine_of(wk, w0, width);
                have = cosine_of(gi, got, width) - cosine_of(gk, got, width);
            }
            if (fabs(want) < 2e-4) continue; /* nearer than fp32's own bound */
            l->orders++;
            l->swapped += (want > 0) != (have > 0);
        }
    }
}

/* What PyTorch gave, within the precision's bound; in fp32 in the same order. */
static void check_golden(const bench *b)
{
    if (!strcmp(b->ref.backend->name, "fake")) return;
    const size_t width = b->golden.width;
    float *got = calloc(b->golden.count * width + GUARD, sizeof *got);
    cpl_session *s = NULL;
    cpl_error err;
    loss l = {.cosine = 1};
    assert_non_null(got);
    check(b, b->ref.backend->open(&s, b->weights, &err), &err);
    for (size_t i = 0; i < b->golden.count; i++) {
        const cpl_golden_case *c = &b->golden.cases[i];
        uint32_t cu[2] = {0, (uint32_t)c->n};
        cpl_batch one = {c->ids, c->type_ids, cu, 1, (uint32_t)c->n, b->want};
        float *row = got + i * width, keep[GUARD];
        if (c->n > b->model->max_length) {
            memcpy(row, c->row, width * sizeof *row);
            continue;
        }
        memcpy(keep, row + width, sizeof keep);
        run(b, s, &one, row);
        memcpy(row + width, keep, sizeof keep);
        double cosine = cosine_of(row, c->row, width);
        l.element = fmax(l.element, worst_of(row, c->row, width));
        l.cosine = fmin(l.cosine, cosine);
        l.cosine_sum += cosine;
        l.rows++;
    }
    count_orders(b, got, &l);
    b->ref.backend->close(s);
    free(got);
    bool vectors = b->want == CPL_WANT_POOLED;
    print_message("%-9s %-4s %-22s lost: element %.2g", b->ref.backend->name, cpl_precision_name(b->precision),
                  b->real ? "all-MiniLM-L6-v2" : strrchr(b->golden.model, '/') + 1, l.element);
    if (vectors) print_message(", cosine %.7f worst, %.7f mean", l.cosine, l.cosine_sum / (double)l.rows);
    print_message(", %zu of %zu orders\n", l.swapped, l.orders);
    const bound *t = &bounds[b->precision];
    assert_true(l.rows > 4 && l.orders > 4);
    if (b->precision == CPL_PRECISION_FP32) assert_true(l.element <= t->element && l.swapped == 0);
    assert_true(vectors ? l.cosine >= (b->real ? t->real_cosine : t->cosine) : l.element <= t->element);
}

static double resident_mb(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%*d %ld", &pages) != 1) pages = 0;
    if (f) fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / 1e6;
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
    double settled = 0;
    for (int i = 0; i < (b->real ? 3 : 100); i++) {
        if (i == 20) settled = resident_mb();
        cpl_session *s = NULL;
        check(b, b->ref.backend->open(&s, b->weights, &err), &err);
        run(b, s, &r.batch, i ? r.alone : r.rows);
        for (size_t k = 0; i && k < 2; k++) {
            size_t width = width_of(b, b->want);
            assert_true(same(b, b->want, r.rows + k * width, r.alone + k * width, width));
        }
        b->ref.backend->close(s);
    }
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    /* The leak sanitizer can't run some runtimes. Eighty sessions that stayed would be more than this. */
    if (settled > 0 && resident_mb() > settled + 4)
        fail_msg("%s: %.1f MB resident after 20 sessions, %.1f after 100", b->subject->name, settled, resident_mb());
#else
    (void)settled;
#endif
    room_deinit(&r);
}

/* No memory for a session: one line, nothing left behind, and the next one opens. */
static void check_failed_open(const bench *b)
{
    cpl_session *s = NULL;
    cpl_error err = {0};
    no_memory = true;
    cpl_status st = b->ref.backend->open(&s, b->weights, &err);
    no_memory = false;
    if (st) {
        assert_int_equal(st, CPL_NO_MEMORY);
        assert_null(s);
        assert_true(err.what[0] != 0);
    } else { /* it takes none of the host's for a session */
        assert_true(is_foreign(b->subject));
        b->ref.backend->close(s);
    }
    s = NULL;
    check(b, b->ref.backend->open(&s, b->weights, &err), &err);
    b->ref.backend->close(s);
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
    for (size_t k = 0, width = width_of(b, b->want); k < r.batch.n; k++)
        assert_true(same(b, b->want, r.rows + k * width, r.alone + k * width, width));
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

/* The most sequences a pass may have, and padding that is told. */
static void check_full(const bench *b)
{
    batch_room r;
    cpl_session *s = NULL;
    cpl_error err;
    uint64_t state = seed;
    room_init(b, &r);
    check(b, b->ref.backend->open(&s, b->weights, &err), &err);
    begin(&r, b->want);
    for (uint32_t i = 0; i < SEQUENCES_MAX; i++) add(b, &r, 1 + i % 5, &state);
    check_alone(b, s, &r);
    if (b->ref.backend->padding && b->caps.rectangles) {
        uint64_t before = b->ref.backend->padding(s), tokens = r.cu[r.batch.n];
        run(b, s, &r.batch, r.rows);
        uint64_t paid = b->ref.backend->padding(s) - before;
        assert_true(paid <= (uint64_t)SEQUENCES_MAX * ((r.batch.max_len + 15) / 16 * 16) - tokens);
        begin(&r, b->want); /* equal lengths that nobody rounds up: nothing to pad */
        for (uint32_t i = 0; i < 4; i++) add(b, &r, 16, &state);
        before = b->ref.backend->padding(s);
        run(b, s, &r.batch, r.rows);
        assert_true(b->ref.backend->padding(s) == before);
    }
    b->ref.backend->close(s);
    room_deinit(&r);
}

static void conform(bench *b, const char *model)
{
    char path[128];
    cpl_error err;
    snprintf(path, sizeof path, "tests/golden/%s.json", model);
    assert_true(cpl_golden_load(path, &b->golden));
    b->real = !strncmp(b->golden.model, "models/", 7);
    if (b->real && access(b->golden.model, R_OK)) {
        print_message("%s: not here (make model)\n", b->golden.model);
        cpl_golden_free(&b->golden);
        return;
    }
    check(b, cpl_model_open(&b->model, b->golden.model, &err), &err);
    b->want = b->golden.cross_encoder ? CPL_WANT_LOGITS : CPL_WANT_POOLED;
    for (int p = 0; p < CPL_PRECISION_COUNT; p++) {
        const char *only = getenv("COUPLET_PRECISION");
        if (!(b->caps.precisions >> p & 1) || (only && strcmp(only, cpl_precision_name((cpl_precision)p)) != 0))
            continue;
        b->precision = (cpl_precision)p;
        if (!load(b)) continue;
        check_golden(b);
        check_batches(b);
        check_full(b);
        check_failed_open(b);
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
    for (size_t i = 0; i < MODELS - REAL_LEFT_OUT; i++) conform(&b, models[i]);
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

/* One subject, in this process. */
static int test_one(const subject *s)
{
    char name[64];
    snprintf(name, sizeof name, "%s %s", s->name, s->setting ? s->setting : "");
    struct CMUnitTest tests[] = {{name, test_subject, NULL, NULL, (void *)(uintptr_t)s}};
    return cmocka_run_group_tests_name(s->name, tests, NULL, NULL);
}

/* The same in a child. */
static void each_in_a_process(void **state)
{
    const subject *s = *state;
#if defined(__SANITIZE_THREAD__)
    if (is_foreign(s)) {
        print_message("skipped: %s: the thread sanitizer doesn't see into foreign runtimes\n", s->name);
        skip();
    }
#endif
#if defined(__SANITIZE_ADDRESS__)
    if (!strcmp(s->name, "openvino")) {
        print_message(
            "skipped: openvino: it loads a library with RTLD_DEEPBIND, which the address sanitizer forbids\n");
        skip();
    }
#endif
    if (!is_foreign(s)) {
        test_subject(state);
        return;
    }
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        int failures = test_one(s);
        fflush(NULL);
        exit(failures ? 1 : 0); /* by exit, so that the leak sanitizer looks */
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status)) fail_msg("%s: ended by signal %d", s->name, WTERMSIG(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    enum { SUBJECTS = sizeof subjects / sizeof *subjects };
    const char *only = getenv("COUPLET_BACKEND");
    seed = test_seed();
    cpl_host_init(&host, NULL);
    allocate_really = host.allocate;
    host.allocate = allocate;
    struct CMUnitTest tests[SUBJECTS + 1] = {cmocka_unit_test(every_known_name_is_a_subject)};
    char names[SUBJECTS][64];
    size_t count = 1;
    for (size_t i = 0; i < SUBJECTS; i++) {
        if (only && strcmp(only, subjects[i].name)) continue;
        snprintf(names[i], sizeof names[i], "%s %s", subjects[i].name, subjects[i].setting ? subjects[i].setting : "");
        tests[count++] = (struct CMUnitTest){names[i], each_in_a_process, NULL, NULL, (void *)(uintptr_t)&subjects[i]};
    }
    return _cmocka_run_group_tests("conformance", tests, count, NULL, NULL);
}
