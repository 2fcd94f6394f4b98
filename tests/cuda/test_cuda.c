/* SPDX-License-Identifier: Apache-2.0 */
/* test_cuda.c - the cuda backend on a device: golden models in every precision, a full-size random model against the
 * native backend, the same bits whatever the batch, the tiling, the launch path or the session beside it, and errors.
 * Skipped (77) where the plug-in can't run. The seed is printed; COUPLET_SEED sets it. */
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "backend/precision.h"
#include "backend/registry.h"
#include "cuda/random_model.h"
#include "golden/golden.h"

enum { TOKENS = 20000, SEQUENCES = 2048 };

static uint64_t seed;
static cpl_host host;
static cpl_backend_ref cuda;

static const cpl_precision precisions[] = {CPL_PRECISION_FP32, CPL_PRECISION_BF16, CPL_PRECISION_FP16,
                                           CPL_PRECISION_FP8,  CPL_PRECISION_INT8, CPL_PRECISION_INT4};
enum { PRECISIONS = sizeof precisions / sizeof *precisions };
static uint32_t runs_here; /* bit p: cpl_precision p */

static bool here(size_t p) { return runs_here >> precisions[p] & 1; }

static void check(cpl_status st, const cpl_error *err)
{
    if (st) fail_msg("%s", err->what);
}

/* ---- a loaded model with a session ------------------------------------------------------------------------------- */

typedef struct engine {
    const cpl_backend *backend;
    cpl_weights *weights;
    cpl_session *session;
} engine;

static engine open_engine(const cpl_backend *backend, const cpl_model *m, cpl_precision p, uint32_t tokens,
                          const char *setting)
{
    engine e = {.backend = backend};
    const char *settings[] = {setting, NULL};
    const cpl_load_options o = {.size = sizeof o,
                                .precision = p,
                                .batch_tokens_max = tokens,
                                .batch_sequences_max = SEQUENCES,
                                .settings = settings};
    cpl_load_report report;
    cpl_error err;
    check(backend->load(&e.weights, m, &o, &report, &host, &err), &err);
    assert_int_equal(report.precision, p);
    check(backend->open(&e.session, e.weights, &err), &err);
    return e;
}

static void close_engine(engine *e)
{
    e->backend->close(e->session);
    e->backend->unload(e->weights);
}

static void run(const engine *e, const cpl_batch *b, float *rows)
{
    cpl_error err;
    check(e->backend->run(e->session, b, NULL, rows, &err), &err);
}

/* ---- batches -------------------------------------------------------------------------------------------------------
 */

typedef struct room {
    int32_t ids[TOKENS];
    uint8_t types[TOKENS];
    uint32_t cu[SEQUENCES + 1];
    cpl_batch batch;
} room;

static room *make_room(cpl_want want)
{
    room *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->batch = (cpl_batch){r->ids, r->types, r->cu, 0, 0, want};
    return r;
}

static void add(room *r, const cpl_arch *a, uint32_t length, uint64_t *state)
{
    const uint32_t at = r->cu[r->batch.n];
    assert_true(at + length <= TOKENS && r->batch.n < SEQUENCES);
    for (uint32_t t = at; t < at + length; t++) {
        r->ids[t] = (int32_t)cpl_random_below(state, a->vocab);
        r->types[t] = (uint8_t)cpl_random_below(state, a->types);
    }
    r->cu[++r->batch.n] = at + length;
    if (length > r->batch.max_len) r->batch.max_len = length;
}

/* Sequences of up to `most` tokens until `tokens` are reached. */
static void fill(room *r, const cpl_arch *a, uint32_t tokens, uint32_t most, uint64_t *state)
{
    while (r->batch.n < SEQUENCES && r->cu[r->batch.n] + most <= tokens)
        add(r, a, 1 + cpl_random_below(state, most), state);
    if (!r->batch.n) add(r, a, most, state);
}

static cpl_batch one_of(const room *r, uint32_t i, uint32_t *cu)
{
    cu[0] = 0;
    cu[1] = r->cu[i + 1] - r->cu[i];
    return (cpl_batch){r->ids + r->cu[i], r->types + r->cu[i], cu, 1, cu[1], r->batch.want};
}

/* ---- golden models -------------------------------------------------------------------------------------------------
 */

static double max_abs(const float *a, const float *b, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= worst)) worst = d; /* NaN too */
    }
    return worst;
}

static double relative(const float *a, const float *b, size_t n)
{
    double e = 0, s = 0;
    for (size_t i = 0; i < n; i++) {
        e += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        s += (double)b[i] * b[i];
    }
    return sqrt(e / s);
}

static void golden_model(const char *name, cpl_precision precision, const char *setting, double bound)
{
    char path[128];
    cpl_golden g;
    cpl_model *m;
    cpl_error err;
    float *rows = malloc(512 * 1024 * sizeof *rows);
    double worst = 0;
    snprintf(path, sizeof path, "tests/golden/%s.json", name);
    assert_true(cpl_golden_load(path, &g));
    check(cpl_model_open(&m, g.model, &err), &err);
    if (precision >= CPL_PRECISION_FP8 && (m->arch.hidden % 16 || m->arch.intermediate % 16)) {
        print_message("%-22s 8 bits take multiples of 16 only\n", name); /* refusals has that */
        cpl_model_close(m);
        cpl_golden_free(&g);
        free(rows);
        return;
    }
    engine e = open_engine(cuda.backend, m, precision, 600, setting);
    for (size_t i = 0; i < g.count; i++) {
        const cpl_golden_case *c = &g.cases[i];
        if (c->n > m->max_length) continue;
        const uint32_t cu[2] = {0, (uint32_t)c->n};
        cpl_batch b = {c->ids, c->type_ids, cu, 1, cu[1], g.cross_encoder ? CPL_WANT_LOGITS : CPL_WANT_POOLED};
        run(&e, &b, rows);
        worst = fmax(worst, max_abs(rows, c->row, g.width));
        if (!c->tokens) continue;
        b.want = CPL_WANT_TOKENS;
        run(&e, &b, rows);
        worst = fmax(worst, max_abs(rows, c->tokens, c->n * g.hidden));
    }
    print_message("%-22s %s %-9s max abs %.2e\n", name, cpl_precision_name(precision), setting, worst);
    close_engine(&e);
    cpl_model_close(m);
    cpl_golden_free(&g);
    free(rows);
    assert_true(worst <= bound);
}

static void golden(void **state)
{
    static const char *const names[] = {"cross-encoder", "cross-encoder-3-labels", "embedder-mean", "embedder-cls",
                                        "embedder-max"};
    /* hidden states of tiny random models are of size 1 to 4 */
    static const double bounds[] = {1e-4, 0.12, 0.015, 1.0, 0.3, 0.8};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (size_t p = 0; p < PRECISIONS; p++) {
            if (!here(p)) continue;
            golden_model(names[i], precisions[p], "gemm=auto", bounds[p]);
            if (p) golden_model(names[i], precisions[p], "gemm=mma", bounds[p]);
        }
}

/* ---- a full-size model ---------------------------------------------------------------------------------------------
 */

static void against_native(void **state)
{
    static const double bounds[] = {1e-4, 2e-2, 3e-3, 0.15, 0.05, 0.15};
    cpl_random_model m;
    cpl_arch arch = cpl_minilm_arch(1);
    uint64_t random = seed;
    (void)state;
    assert_true(cpl_random_model_make(&m, &arch, 512, seed));
    room *r = make_room(CPL_WANT_TOKENS);
    for (uint32_t length = 1; length <= 321; length += 40) add(r, &arch, length, &random);
    const size_t cells = (size_t)r->cu[r->batch.n] * arch.hidden;
    float *want = malloc(cells * sizeof *want), *got = malloc(cells * sizeof *got), logits[2][64];
    engine native = open_engine(&cpl_backend_native, &m.model, CPL_PRECISION_FP32, 2000, NULL);
    run(&native, &r->batch, want);
    r->batch.want = CPL_WANT_LOGITS;
    run(&native, &r->batch, logits[0]);
    static const char *const settings[] = {"gemm=auto", "small=off", "gemm=mma"};
    for (size_t p = 0; p < PRECISIONS; p++)
        for (int way = 0; here(p) && way < (p ? 3 : 1); way++) {
            engine e = open_engine(cuda.backend, &m.model, precisions[p], 2000, settings[way]);
            r->batch.want = CPL_WANT_TOKENS;
            run(&e, &r->batch, got);
            const double error = relative(got, want, cells);
            r->batch.want = CPL_WANT_LOGITS;
            run(&e, &r->batch, logits[1]);
            const double scores = max_abs(logits[1], logits[0], r->batch.n);
            print_message("MiniLM-L6 shape, %s %s: relative error %.2e, logits max abs %.2e\n",
                          cpl_precision_name(precisions[p]), settings[way], error, scores);
            close_engine(&e);
            assert_true(error <= bounds[p]);
            assert_true(scores <= 5 * bounds[p]);
        }
    close_engine(&native);
    cpl_random_model_free(&m);
    free(want);
    free(got);
    free(r);
}

/* Rows of `r` by e against the same sequences alone by `alone`: bit by bit. */
static void same_bits(const engine *e, const engine *alone, const room *r, uint32_t width, const char *what)
{
    const size_t n = r->batch.want == CPL_WANT_TOKENS ? r->cu[r->batch.n] : r->batch.n;
    float *rows = malloc(n * width * sizeof *rows), *one = malloc(512 * (size_t)width * sizeof *one);
    assert_true(rows && one);
    memset(rows, 0xff, n * width * sizeof *rows);
    run(e, &r->batch, rows);
    const uint32_t step = r->batch.n > 60 ? r->batch.n / 60 : 1;
    for (uint32_t i = 0; i < r->batch.n; i += step) {
        uint32_t cu[2];
        const cpl_batch b = one_of(r, i, cu);
        const size_t at = r->batch.want == CPL_WANT_TOKENS ? r->cu[i] : i,
                     k = r->batch.want == CPL_WANT_TOKENS ? cu[1] : 1;
        run(alone, &b, one);
        if (memcmp(one, rows + at * width, k * width * sizeof *rows) != 0)
            fail_msg("%s, seed %llu: sequence %u of %u (%u tokens) differs from alone: %g, %g", what,
                     (unsigned long long)seed, i, r->batch.n, cu[1], (double)rows[at * width], (double)one[0]);
    }
    free(rows);
    free(one);
}

static void bits_over_batches(void **state)
{
    static const uint32_t sizes[] = {100, 700, 3000, 9000, 17000, 20000};
    static const uint32_t longest[] = {24, 64, 160, 512};
    cpl_random_model m;
    cpl_arch arch = cpl_minilm_arch(2);
    uint64_t random = seed;
    (void)state;
    arch.layers = 2;
    assert_true(cpl_random_model_make(&m, &arch, 512, seed));
    for (size_t way = 0; way < 10; way++) {
        static const char *const settings[] = {"graphs=auto", "graphs=auto", "small=off",   "gemm=mma", "graphs=on",
                                               "graphs=auto", "graphs=auto", "graphs=auto", "gemm=mma", "gemm=mma"};
        static const size_t kinds[] = {0, 1, 2, 1, 1, 3, 4, 5, 3, 4};
        const size_t p = kinds[way];
        if (!here(p)) continue;
        engine e = open_engine(cuda.backend, &m.model, precisions[p], TOKENS, settings[way]);
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
            for (int want = CPL_WANT_LOGITS; want <= CPL_WANT_TOKENS; want++) {
                room *r = make_room((cpl_want)want);
                fill(r, &arch, sizes[s], longest[(s + (size_t)want) % 4], &random);
                same_bits(&e, &e, r, want == CPL_WANT_LOGITS ? 2 : arch.hidden, settings[way]);
                free(r);
            }
        close_engine(&e);
    }
    cpl_random_model_free(&m);
}

static void bits_over_tilings(void **state)
{
    static const char *const settings[] = {
        "tile=256x192", "tile=128x192", "tile=128x64", "tile=resident", "tile=resident2", "tile=resident4", "graphs=on",
        "graphs=off",   "wait=spin",    "wait=block",  "overlap=off",   "small=off",      "gemm=mma"};
    cpl_random_model m;
    cpl_arch arch = cpl_minilm_arch(1);
    uint64_t random = seed;
    (void)state;
    arch.layers = 2;
    assert_true(cpl_random_model_make(&m, &arch, 512, seed));
    for (size_t p = 1; p < PRECISIONS; p += 2) {
        if (!here(p)) continue;
        engine plain = open_engine(cuda.backend, &m.model, precisions[p], TOKENS, "tile=auto");
        for (size_t s = 0; s < sizeof settings / sizeof *settings; s++) {
            /* wgmma adds e4m3 products with fewer bits than mma.sync; of the others both have the same */
            if (precisions[p] == CPL_PRECISION_FP8 && !strcmp(settings[s], "gemm=mma")) continue;
            engine e = open_engine(cuda.backend, &m.model, precisions[p], TOKENS, settings[s]);
            for (uint32_t tokens = 600; tokens <= 19000; tokens += 9100) {
                room *r = make_room(CPL_WANT_TOKENS);
                fill(r, &arch, tokens, 150, &random);
                same_bits(&e, &plain, r, arch.hidden, settings[s]);
                same_bits(&e, &plain, r, arch.hidden, settings[s]); /* again, now through a graph */
                free(r);
            }
            close_engine(&e);
        }
        close_engine(&plain);
    }
    cpl_random_model_free(&m);
}

/* Passes of up to 32 tokens, one kernel, against the large kernels: every want, pooling and split into sequences. */
static void bits_of_small_passes(void **state)
{
    static const cpl_pooling poolings[] = {CPL_POOLING_MEAN, CPL_POOLING_CLS, CPL_POOLING_MAX};
    uint64_t random = seed;
    (void)state;
    for (size_t p = 1; p < 3; p++)
        for (int labels = 0; labels <= 3; labels += 3)
            for (size_t pooling = 0; pooling < 3; pooling++) {
                cpl_random_model m;
                cpl_arch arch = cpl_minilm_arch((uint32_t)labels);
                arch.layers = 2;
                assert_true(cpl_random_model_make(&m, &arch, 512, seed + pooling));
                m.model.pooling = poolings[pooling];
                engine e = open_engine(cuda.backend, &m.model, precisions[p], 600, "small=auto");
                engine large = open_engine(cuda.backend, &m.model, precisions[p], 600, "small=off");
                for (int i = 0; i < 24; i++) {
                    const int want = i % 3;
                    if (want == CPL_WANT_LOGITS && !labels) continue;
                    room *r = make_room((cpl_want)want);
                    for (uint32_t most; (most = 32 - r->cu[r->batch.n]) > 0 && r->batch.n < (uint32_t)i % 7 + 1;)
                        add(r, &arch, i < 3 ? 32 : i < 6 ? 1 : 1 + cpl_random_below(&random, most), &random);
                    same_bits(&e, &large, r, want == CPL_WANT_LOGITS ? arch.labels : arch.hidden, "small pass");
                    free(r);
                }
                close_engine(&large);
                close_engine(&e);
                cpl_random_model_free(&m);
            }
}

/* One small pass and one larger one, each precision: short enough for compute-sanitizer's slowest tool. */
static void a_little_of_everything(void **state)
{
    cpl_random_model m;
    cpl_arch arch = cpl_minilm_arch(1);
    uint64_t random = seed;
    (void)state;
    arch.layers = 1;
    arch.vocab = 300;
    assert_true(cpl_random_model_make(&m, &arch, 512, seed));
    for (size_t p = 1; p < PRECISIONS; p++)
        for (int mma = 0; here(p) && mma < 2; mma++) {
            engine e = open_engine(cuda.backend, &m.model, precisions[p], 600, mma ? "gemm=mma" : NULL);
            room *r = make_room(CPL_WANT_LOGITS);
            add(r, &arch, 20, &random);
            same_bits(&e, &e, r, 1, "small pass");
            add(r, &arch, 70, &random);
            same_bits(&e, &e, r, 1, "larger pass");
            free(r);
            close_engine(&e);
        }
    cpl_random_model_free(&m);
}

/* Heads of 64, sizes that fit no tile. */
static void odd_shapes(void **state)
{
    static const struct {
        uint32_t hidden, heads, intermediate;
        cpl_activation activation;
    } shapes[] = {{768, 12, 3072, CPL_ACTIVATION_GELU},       {96, 6, 176, CPL_ACTIVATION_RELU},
                  {1024, 16, 4096, CPL_ACTIVATION_GELU_TANH}, {312, 12, 1200, CPL_ACTIVATION_GELU},
                  {200, 5, 264, CPL_ACTIVATION_RELU},         {40, 1, 8, CPL_ACTIVATION_GELU}};
    uint64_t random = seed;
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        cpl_random_model m;
        cpl_arch arch = cpl_minilm_arch(1);
        arch.layers = 2;
        arch.vocab = 1000;
        arch.hidden = shapes[i].hidden;
        arch.heads = shapes[i].heads;
        arch.head_size = arch.hidden / arch.heads;
        arch.intermediate = shapes[i].intermediate;
        arch.activation = shapes[i].activation;
        assert_true(cpl_random_model_make(&m, &arch, 512, seed + i));
        room *r = make_room(CPL_WANT_TOKENS);
        fill(r, &arch, 1500, 140, &random);
        const size_t cells = (size_t)r->cu[r->batch.n] * arch.hidden;
        float *want = malloc(cells * sizeof *want), *got = malloc(cells * sizeof *got);
        engine native = open_engine(&cpl_backend_native, &m.model, CPL_PRECISION_FP32, 2000, NULL);
        run(&native, &r->batch, want);
        for (size_t p = 0; p < PRECISIONS; p++) {
            if (!here(p)) continue;
            if (p >= 3 && (arch.hidden % 16 || arch.intermediate % 16)) continue;
            engine e = open_engine(cuda.backend, &m.model, precisions[p], 2000, NULL);
            run(&e, &r->batch, got);
            const double error = relative(got, want, cells);
            print_message("hidden %u, %u heads of %u, intermediate %u, %s: relative error %.2e\n", arch.hidden,
                          arch.heads, arch.head_size, arch.intermediate, cpl_precision_name(precisions[p]), error);
            static const double bounds[] = {1e-4, 2e-2, 3e-3, 0.15, 0.05, 0.15};
            assert_true(error <= bounds[p]);
            same_bits(&e, &e, r, arch.hidden, "odd shape");
            close_engine(&e);
        }
        close_engine(&native);
        cpl_random_model_free(&m);
        free(want);
        free(got);
        free(r);
    }
}

static void four_bits_take_less_memory(void **state)
{
    cpl_random_model m;
    cpl_arch arch = cpl_minilm_arch(1);
    uint64_t bytes[2];
    (void)state;
    assert_true(cpl_random_model_make(&m, &arch, 512, seed));
    for (int four = 0; four < 2; four++) {
        const cpl_load_options o = {
            .size = sizeof o, .precision = four ? CPL_PRECISION_INT4 : CPL_PRECISION_INT8, .batch_tokens_max = 1000};
        cpl_load_report report;
        cpl_error err;
        cpl_weights *w;
        check(cuda.backend->load(&w, &m.model, &o, &report, &host, &err), &err);
        bytes[four] = report.weight_bytes;
        cuda.backend->unload(w);
    }
    print_message("weights: int8 %.1f MB, int4 %.1f MB\n", (double)bytes[0] / 1e6, (double)bytes[1] / 1e6);
    assert_true(bytes[1] + 1.4 * arch.layers * arch.hidden * arch.intermediate < (double)bytes[0]);
    cpl_random_model_free(&m);
}

/* ---- sessions side by side ----------------------------------------------------------------------------------------
 */

typedef struct runner {
    const engine *engine;
    const room *room;
    float *rows;
    pthread_t thread;
} runner;

static void *runner_main(void *arg)
{
    const runner *me = arg;
    for (int i = 0; i < 20; i++) run(me->engine, &me->room->batch, me->rows);
    return NULL;
}

static void two_sessions(void **state)
{
    cpl_random_model m;
    cpl_arch arch = cpl_minilm_arch(1);
    uint64_t random = seed;
    cpl_error err;
    float rows[3][SEQUENCES];
    (void)state;
    assert_true(cpl_random_model_make(&m, &arch, 512, seed));
    engine a = open_engine(cuda.backend, &m.model, CPL_PRECISION_BF16, TOKENS, NULL), b = a;
    check(cuda.backend->open(&b.session, a.weights, &err), &err);
    room *r = make_room(CPL_WANT_LOGITS);
    fill(r, &arch, 16384, 128, &random);
    run(&a, &r->batch, rows[2]);
    runner runners[2] = {{.engine = &a, .room = r, .rows = rows[0]}, {.engine = &b, .room = r, .rows = rows[1]}};
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&runners[i].thread, NULL, runner_main, &runners[i]), 0);
    for (int i = 0; i < 2; i++) pthread_join(runners[i].thread, NULL);
    assert_memory_equal(rows[0], rows[2], r->batch.n * sizeof(float));
    assert_memory_equal(rows[1], rows[2], r->batch.n * sizeof(float));
    cuda.backend->close(b.session);
    close_engine(&a);
    cpl_random_model_free(&m);
    free(r);
}

/* ---- errors --------------------------------------------------------------------------------------------------------
 */

static void refuse_load(const cpl_model *m, cpl_load_options o, cpl_status status, const char *word)
{
    cpl_load_report report;
    cpl_error err = {0};
    cpl_weights *w = (cpl_weights *)&report;
    assert_int_equal(cuda.backend->load(&w, m, &o, &report, &host, &err), status);
    assert_null(w);
    if (!strstr(err.what, word)) fail_msg("'%s' does not say '%s'", err.what, word);
}

static void refusals(void **state)
{
    cpl_random_model m;
    cpl_arch arch = cpl_minilm_arch(1);
    const char *unknown[] = {"speed=high", NULL}, *bad[] = {"tile=7x7", NULL};
    cpl_error err = {0};
    cpl_session *s = NULL;
    cpl_load_report report;
    float row[4];
    (void)state;
    arch.layers = 1;
    assert_true(cpl_random_model_make(&m, &arch, 512, seed));
    cpl_load_options o = {.size = sizeof o, .precision = CPL_PRECISION_BF16, .batch_tokens_max = 1000};
    cpl_load_options other = o;
    other.device = 1000;
    refuse_load(&m.model, other, CPL_INVALID, "no device 1000");
    other = o;
    other.settings = unknown;
    refuse_load(&m.model, other, CPL_INVALID, "speed=high");
    other.settings = bad;
    refuse_load(&m.model, other, CPL_INVALID, "tile=7x7");
    other = o;
    other.precision = CPL_PRECISION_COUNT;
    refuse_load(&m.model, other, CPL_INVALID, "none that the cuda backend knows");
    m.model.arch.intermediate = 1528;
    for (int p = CPL_PRECISION_FP8; p <= CPL_PRECISION_INT4; p++) {
        other.precision = (cpl_precision)p;
        refuse_load(&m.model, other, CPL_UNSUPPORTED, "multiples of 16");
    }
    m.model.arch = arch;
    m.model.arch.head_size = 128;
    m.model.arch.heads = 3;
    refuse_load(&m.model, o, CPL_UNSUPPORTED, "heads");
    m.model.arch = arch;

    o.batch_tokens_max = 400u << 20; /* more than any card holds */
    cpl_weights *w = NULL;
    check(cuda.backend->load(&w, &m.model, &o, &report, &host, &err), &err);
    assert_int_equal(cuda.backend->open(&s, w, &err), CPL_NO_MEMORY);
    assert_null(s);
    print_message("%s\n", err.what);
    cuda.backend->unload(w);

    engine e = open_engine(cuda.backend, &m.model, CPL_PRECISION_BF16, 1000, NULL); /* and the device works on */
    int32_t ids[2] = {1, 30522};
    uint8_t types[2] = {0, 0};
    uint32_t cu[2] = {0, 2};
    cpl_batch b = {ids, types, cu, 1, 2, CPL_WANT_LOGITS};
    assert_int_equal(cuda.backend->run(e.session, &b, NULL, row, &err), CPL_INVALID);
    ids[1] = -1;
    assert_int_equal(cuda.backend->run(e.session, &b, NULL, row, &err), CPL_INVALID);
    ids[1] = 5;
    types[0] = 2;
    assert_int_equal(cuda.backend->run(e.session, &b, NULL, row, &err), CPL_INVALID);
    types[0] = 1;
    cu[1] = 513;
    assert_int_equal(cuda.backend->run(e.session, &b, NULL, row, &err), CPL_INVALID);
    cu[1] = 0;
    assert_int_equal(cuda.backend->run(e.session, &b, NULL, row, &err), CPL_INVALID);
    cu[1] = 2;
    run(&e, &b, row);
    close_engine(&e);
    cuda.backend->close(NULL);
    cuda.backend->unload(NULL);
    cpl_random_model_free(&m);
}

/* ---- a lost device: a kernel of somebody else's in this process traps; last, since nothing runs after that
 * ----------- */

static void *driver_symbol(void *library, const char *name)
{
    void *p = dlsym(library, name);
    if (!p) fail_msg("no %s in the driver", name);
    return p;
}

static void trap_device(void)
{
    static const char ptx[] = ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry stop() { trap; ret; }\n";
    void *library = dlopen("libcuda.so.1", RTLD_NOW), *context = NULL, *module = NULL, *function = NULL;
    assert_non_null(library);
    int (*retain)(void **, int), (*current)(void *), (*load)(void **, const void *);
    int (*get)(void **, void *, const char *), (*synchronise)(void);
    int (*launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **,
                  void **);
    *(void **)&retain = driver_symbol(library, "cuDevicePrimaryCtxRetain");
    *(void **)&current = driver_symbol(library, "cuCtxSetCurrent");
    *(void **)&load = driver_symbol(library, "cuModuleLoadData");
    *(void **)&get = driver_symbol(library, "cuModuleGetFunction");
    *(void **)&launch = driver_symbol(library, "cuLaunchKernel");
    *(void **)&synchronise = driver_symbol(library, "cuCtxSynchronize");
    assert_int_equal(retain(&context, 0), 0);
    assert_int_equal(current(context), 0);
    assert_int_equal(load(&module, ptx), 0);
    assert_int_equal(get(&function, module, "stop"), 0);
    assert_int_equal(launch(function, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL), 0);
    assert_int_not_equal(synchronise(), 0);
}

static void lost_device(void **state)
{
    cpl_random_model m;
    cpl_arch arch = cpl_minilm_arch(1);
    uint64_t random = seed;
    cpl_error err = {0};
    float rows[64];
    (void)state;
    arch.layers = 1;
    assert_true(cpl_random_model_make(&m, &arch, 512, seed));
    engine e = open_engine(cuda.backend, &m.model, CPL_PRECISION_BF16, 1000, NULL);
    room *r = make_room(CPL_WANT_LOGITS);
    fill(r, &arch, 900, 64, &random);
    run(&e, &r->batch, rows);
    trap_device();
    for (int i = 0; i < 2; i++) { /* and it stays so */
        assert_int_equal(cuda.backend->run(e.session, &r->batch, NULL, rows, &err), CPL_UNAVAILABLE);
        if (!strstr(err.what, "device lost")) fail_msg("'%s' does not say that the device is lost", err.what);
    }
    print_message("%s\n", err.what);
    close_engine(&e); /* must not hang or crash */
    cpl_random_model_free(&m);
    free(r);
}

int main(void)
{
    const char *given = getenv("COUPLET_SEED");
    cpl_caps caps;
    cpl_error err = {0};
    seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    print_message("seed %llu\n", (unsigned long long)seed);
    cpl_host_init(&host, NULL);
    cpl_status st = cpl_backend_find(&cuda, "cuda", NULL, &host, &err);
    if (!st) st = cuda.backend->probe(&caps, &host, &err);
    if (st) {
        print_message("skipped: %s\n", err.what);
        return 77;
    }
    print_message("%s, %s\n", caps.device, caps.isa);
    runs_here = caps.precisions;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden),
        cmocka_unit_test(against_native),
        cmocka_unit_test(bits_over_batches),
        cmocka_unit_test(bits_over_tilings),
        cmocka_unit_test(bits_of_small_passes),
        cmocka_unit_test(a_little_of_everything),
        cmocka_unit_test(odd_shapes),
        cmocka_unit_test(two_sessions),
        cmocka_unit_test(four_bits_take_less_memory),
        cmocka_unit_test(refusals),
        cmocka_unit_test(lost_device),
    };
    const char *only = getenv("COUPLET_ONLY"); /* a pattern, for runs under a sanitizer */
    if (only) cmocka_set_test_filter(only);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    cpl_backend_release(&cuda);
    return failed;
}
