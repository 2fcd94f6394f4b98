/* SPDX-License-Identifier: Apache-2.0 */
/* test_pass.c - the AMX path whole, on models with random weights: near the fp32 rows, with the same bits in any batch
 * and with any team, with scores far outside what its softmax represents, and refused where halves could overflow.
 *
 * Run on tiles in software wherever AVX-512 has BF16 and VBMI, and on real ones where there are any. The seed is
 * printed; COUPLET_SEED sets it. */
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

#include "backend/native/amx.h"
#include "backend/registry.h"
#include "cuda/random_model.h"

#define AMX_MODEL(name) name##_model
CPL_AMX_DECLARE(AMX_MODEL);

enum { TOKENS = 260, SEQUENCES = 20, HIDDEN_MAX = 384 };

static uint64_t seed;
static cpl_host host;
static cpl_cpu cpu;

typedef struct subject {
    const char *name;
    const cpl_amx_kernels *kernels;
} subject;

static const subject subjects[] = {{"software", &AMX_MODEL(cpl_amx_table)}, {"hardware", &cpl_amx_table}};

static int runs(const subject *s)
{
    const uint32_t software = CPL_CPU_AVX512 | CPL_CPU_AVX512_VNNI | CPL_CPU_AVX512_BF16 | CPL_CPU_AVX512_VBMI;
    const uint32_t needs = software | (s->kernels == &cpl_amx_table ? CPL_CPU_AVX512_FP16 | CPL_CPU_AMX_TILE |
                                                                          CPL_CPU_AMX_INT8 | CPL_CPU_AMX_BF16
                                                                    : 0);
    return (cpu.features & needs) == needs && (s->kernels != &cpl_amx_table || cpl_amx_permit());
}

static const struct shape {
    uint32_t layers, hidden, heads, intermediate, labels;
    cpl_activation activation;
    cpl_pooling pooling;
} shapes[] = {
    {2, 128, 4, 256, 1, CPL_ACTIVATION_GELU, CPL_POOLING_MEAN},
    {2, 64, 1, 192, 3, CPL_ACTIVATION_GELU_TANH, CPL_POOLING_MEAN},
    {1, 192, 6, 128, 0, CPL_ACTIVATION_RELU, CPL_POOLING_CLS},
    {1, 384, 12, 1536, 0, CPL_ACTIVATION_GELU, CPL_POOLING_MEAN},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

typedef struct fixture {
    cpl_random_model random;
    cpl_weights *weights, *exact; /* on tiles; on fp32 rows */
    cpl_session *session, *exact_session;
    cpl_want want;
} fixture;

static void check(cpl_status st, const cpl_error *err)
{
    if (st) fail_msg("%s", err->what);
}

static cpl_status load(fixture *f, const subject *s, cpl_precision precision, const cpl_amx_tuning *tuning,
                       cpl_error *err)
{
    const cpl_load_options o = {
        .size = sizeof o, .precision = precision, .batch_tokens_max = TOKENS, .batch_sequences_max = SEQUENCES};
    const cpl_native_settings settings = {.isa = CPL_ISA_AVX512};
    cpl_load_report report;
    return cpl_amx_load_with(&f->weights, &f->random.model, &o, &settings, &report, &host, s->kernels, tuning, err);
}

static void open_fixture(fixture *f, const subject *s, const struct shape *shape, cpl_precision precision,
                         const cpl_amx_tuning *tuning)
{
    cpl_arch a = cpl_minilm_arch(shape->labels);
    cpl_error err;
    a.layers = shape->layers;
    a.hidden = shape->hidden;
    a.heads = shape->heads;
    a.head_size = shape->hidden / shape->heads;
    a.intermediate = shape->intermediate;
    a.vocab = 500;
    a.positions = 200;
    a.activation = shape->activation;
    assert_true(cpl_random_model_make(&f->random, &a, 200, seed));
    f->random.model.pooling = shape->pooling;
    f->want = shape->labels ? CPL_WANT_LOGITS : CPL_WANT_POOLED;
    check(load(f, s, precision, tuning, &err), &err);
    check(cpl_native_amx.open(&f->session, f->weights, &err), &err);
    const cpl_load_options o = {.size = sizeof o, .batch_tokens_max = TOKENS, .batch_sequences_max = SEQUENCES};
    const cpl_native_settings settings = {.isa = CPL_ISA_AVX512};
    cpl_load_report report;
    check(cpl_native_rows.load(&f->exact, &f->random.model, &o, &settings, &report, &host, &err), &err);
    check(cpl_native_rows.open(&f->exact_session, f->exact, &err), &err);
}

static void close_fixture(fixture *f)
{
    cpl_native_amx.close(f->session);
    cpl_native_amx.unload(f->weights);
    cpl_native_rows.close(f->exact_session);
    cpl_native_rows.unload(f->exact);
    cpl_random_model_free(&f->random);
    memset(f, 0, sizeof *f);
}

typedef struct batch_room {
    int32_t ids[TOKENS];
    uint8_t types[TOKENS];
    uint32_t cu[SEQUENCES + 1];
    cpl_batch batch;
    float rows[TOKENS * HIDDEN_MAX], other[TOKENS * HIDDEN_MAX];
} batch_room;

static void fill(batch_room *r, const fixture *f, cpl_want want, uint32_t longest, uint64_t *state)
{
    r->batch = (cpl_batch){r->ids, r->types, r->cu, 0, 0, want};
    r->cu[0] = 0;
    while (r->batch.n < SEQUENCES) {
        uint32_t n = 1 + cpl_random_below(state, longest);
        const uint32_t left = TOKENS - r->cu[r->batch.n];
        if (n > left) n = left;
        if (!n) break;
        r->cu[r->batch.n + 1] = r->cu[r->batch.n] + n;
        r->batch.n++;
    }
    for (uint32_t t = 0; t < r->cu[r->batch.n]; t++) {
        r->ids[t] = (int32_t)cpl_random_below(state, f->random.model.arch.vocab);
        r->types[t] = (uint8_t)cpl_random_below(state, 2);
    }
}

static size_t width_of(const fixture *f, cpl_want want)
{
    return want == CPL_WANT_LOGITS ? f->random.model.arch.labels : f->random.model.arch.hidden;
}

static size_t row_count(const cpl_batch *b) { return b->want == CPL_WANT_TOKENS ? b->cu_seqlens[b->n] : b->n; }

static double cosine(const float *a, const float *b, size_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return ab / sqrt(aa * bb);
}

/* Largest difference over the deviation of the exact values, and least cosine of rows of more than 3. */
static void check_values(fixture *f, batch_room *r, const char *name, cpl_precision precision, int passes)
{
    uint64_t state = seed;
    double worst = 0, squares = 0, off = 0, least = 1;
    size_t count = 0;
    cpl_error err;
    for (int pass = 0; pass < passes; pass++) {
        const cpl_want want = pass % 2 ? f->want : CPL_WANT_TOKENS;
        fill(r, f, want, pass < passes / 2 ? 70 : 200, &state);
        check(cpl_native_amx.run(f->session, &r->batch, NULL, r->rows, &err), &err);
        check(cpl_native_rows.run(f->exact_session, &r->batch, NULL, r->other, &err), &err);
        const size_t width = width_of(f, want);
        for (size_t i = 0; i < row_count(&r->batch); i++) {
            if (width > 3) least = fmin(least, cosine(r->rows + i * width, r->other + i * width, width));
            for (size_t k = i * width; k < (i + 1) * width; k++) {
                const double d = fabs((double)r->rows[k] - r->other[k]);
                if (!(d <= worst)) worst = d;
                off += d * d;
                squares += (double)r->other[k] * r->other[k];
                count++;
            }
        }
    }
    print_message("%s: error %.4f of the values' size (worst %.3f), least cosine %.6f\n", name, sqrt(off / squares),
                  worst, least);
    assert_true(sqrt(off / squares) < (precision == CPL_PRECISION_INT8 ? 0.04 : 0.015));
    assert_true(least > (precision == CPL_PRECISION_INT8 ? 0.997 : 0.9995));
    assert_true(count > 0 && isfinite(worst));
}

/* Members one after the other, the last first: order must not matter. */
static void parallel_backwards(cpl_team *team, void (*fn)(void *, uint32_t), void *arg)
{
    for (uint32_t i = team->size; i-- > 0;) fn(arg, i);
}

typedef struct seat {
    void (*fn)(void *, uint32_t);
    void *arg;
    uint32_t member;
} seat;

static void *take_seat(void *x)
{
    const seat *s = x;
    s->fn(s->arg, s->member);
    return NULL;
}

/* A thread each. */
static void parallel_threads(cpl_team *team, void (*fn)(void *, uint32_t), void *arg)
{
    pthread_t thread[8];
    seat seats[8];
    for (uint32_t i = 0; i < team->size; i++) {
        seats[i] = (seat){fn, arg, i};
        assert_int_equal(pthread_create(&thread[i], NULL, take_seat, &seats[i]), 0);
    }
    for (uint32_t i = 0; i < team->size; i++) pthread_join(thread[i], NULL);
}

static void check_bits(fixture *f, batch_room *r, const char *name, int passes)
{
    uint64_t state = seed + 1;
    cpl_error err;
    for (int pass = 0; pass < passes; pass++) {
        const cpl_want want = pass % 2 ? f->want : CPL_WANT_TOKENS;
        const size_t width = width_of(f, want);
        cpl_team team = {.size = 2 + cpl_random_below(&state, 6), .parallel = parallel_backwards};
        if (pass % 4 == 1) team.parallel = parallel_threads;
        fill(r, f, want, pass % 4 < 2 ? 40 : 150, &state);
        check(cpl_native_amx.run(f->session, &r->batch, pass % 3 ? &team : NULL, r->rows, &err), &err);
        for (uint32_t i = 0; i < r->batch.n; i++) {
            const uint32_t n = r->cu[i + 1] - r->cu[i], cu[2] = {0, n};
            const cpl_batch one = {r->ids + r->cu[i], r->types + r->cu[i], cu, 1, n, want};
            const size_t at = want == CPL_WANT_TOKENS ? r->cu[i] : i, rows = want == CPL_WANT_TOKENS ? n : 1;
            check(cpl_native_amx.run(f->session, &one, NULL, r->other, &err), &err);
            if (memcmp(r->other, r->rows + at * width, rows * width * sizeof(float)))
                fail_msg("%s, seed %llu, pass %d: sequence %u of %u differs from alone", name, (unsigned long long)seed,
                         pass, i, r->batch.n);
        }
    }
}

static void check_subject(const subject *s)
{
    static const cpl_amx_tuning tunings[] = {
        {2, 512, 32, 0, 0, 3, 256, 512}, {2, 128, 96, 64, 64, 0, 256, 128}, {1, 64, 32, 96, 0, 1, 256, 320}};
    batch_room *r = malloc(sizeof *r);
    fixture f = {0};
    assert_non_null(r);
    for (size_t i = 0; i < SHAPES; i++) {
        for (int bf16 = 0; bf16 < 2; bf16++) {
            const cpl_precision precision = bf16 ? CPL_PRECISION_BF16 : CPL_PRECISION_INT8;
            char name[96];
            snprintf(name, sizeof name, "%s %s %ux%u heads of %u", s->name, bf16 ? "bf16" : "int8", shapes[i].hidden,
                     shapes[i].intermediate, shapes[i].hidden / shapes[i].heads);
            open_fixture(&f, s, &shapes[i], precision, &tunings[(i + (size_t)bf16) % 3]);
            /* tiles in software are some 500 times slower */
            const int few = s->kernels != &cpl_amx_table && i == SHAPES - 1;
            check_values(&f, r, name, precision, few ? 1 : 6);
            check_bits(&f, r, name, few ? 1 : 6);
            close_fixture(&f);
        }
    }
    free(r);
}

static void test_subject(void **state)
{
    const subject *s = *state;
    if (!runs(s)) {
        print_message("skipped: no %s here\n", s->kernels == &cpl_amx_table ? "AMX" : "AVX-512 with BF16 and VBMI");
        skip();
    }
    check_subject(s);
}

/* How the work is cut changes no bit. */
static void tuning_changes_nothing(void **state)
{
    const subject *s = &subjects[0];
    (void)state;
    if (!runs(s)) skip();
    batch_room *r = malloc(sizeof *r);
    assert_non_null(r);
    for (int bf16 = 0; bf16 < 2; bf16++) {
        for (uint32_t t = 1; t <= 3; t++) {
            const cpl_amx_tuning tuning = {1 + t % 2, 64 * t, 32 * t, 32 * (t - 1), 64 * (t / 2), t % 2, 256, 192};
            uint64_t random = seed + 2;
            fixture f = {0};
            cpl_error err;
            open_fixture(&f, s, &shapes[0], bf16 ? CPL_PRECISION_BF16 : CPL_PRECISION_INT8, &tuning);
            fill(r, &f, CPL_WANT_TOKENS, 100, &random);
            check(cpl_native_amx.run(f.session, &r->batch, NULL, t == 1 ? r->other : r->rows, &err), &err);
            if (t > 1) assert_memory_equal(r->rows, r->other, row_count(&r->batch) * shapes[0].hidden * sizeof(float));
            close_fixture(&f);
        }
    }
    free(r);
}

static void scale_tensor(const cpl_tensor *t, float by)
{
    float *x = (float *)(uintptr_t)t->data;
    for (size_t i = 0; i < cpl_tensor_count(t); i++) x[i] *= by;
}

static void set_tensor(const cpl_tensor *t, float to)
{
    float *x = (float *)(uintptr_t)t->data;
    for (size_t i = 0; i < cpl_tensor_count(t); i++) x[i] = to;
}

/* Scores around 2^290 in one layer and 2^-290 in the other: rows that the fast softmax can't do. */
static void scores_out_of_range(void **state)
{
    const subject *s = &subjects[0];
    (void)state;
    if (!runs(s)) skip();
    static const cpl_amx_tuning tuning = {2, 512, 32, 0, 0, 2, 256, 128};
    batch_room *r = malloc(sizeof *r);
    fixture f = {0};
    assert_non_null(r);
    open_fixture(&f, s, &shapes[0], CPL_PRECISION_BF16, &tuning);
    for (uint32_t l = 0; l < 2; l++) {
        set_tensor(&f.random.layers[l].q_bias, 6);
        set_tensor(&f.random.layers[l].k_bias, l ? -6 : 6);
    }
    cpl_random_model kept = f.random;
    memset(&f.random, 0, sizeof f.random);
    close_fixture(&f);
    f.random = kept;
    f.want = CPL_WANT_LOGITS;
    cpl_error err;
    check(load(&f, s, CPL_PRECISION_BF16, &tuning, &err), &err);
    check(cpl_native_amx.open(&f.session, f.weights, &err), &err);
    const cpl_load_options o = {.size = sizeof o, .batch_tokens_max = TOKENS, .batch_sequences_max = SEQUENCES};
    const cpl_native_settings settings = {.isa = CPL_ISA_AVX512};
    cpl_load_report report;
    check(cpl_native_rows.load(&f.exact, &f.random.model, &o, &settings, &report, &host, &err), &err);
    check(cpl_native_rows.open(&f.exact_session, f.exact, &err), &err);
    uint64_t random = seed;
    fill(r, &f, CPL_WANT_TOKENS, 60, &random);
    check(cpl_native_amx.run(f.session, &r->batch, NULL, r->rows, &err), &err);
    check(cpl_native_rows.run(f.exact_session, &r->batch, NULL, r->other, &err), &err);
    const size_t width = width_of(&f, CPL_WANT_TOKENS);
    double sum = 0;
    for (size_t i = 0; i < row_count(&r->batch); i++) sum += cosine(r->rows + i * width, r->other + i * width, width);
    print_message("scores out of range: mean cosine %.5f\n", sum / (double)row_count(&r->batch));
    assert_true(sum / (double)row_count(&r->batch) > 0.998); /* bf16 rounds numbers that large to 0.03 */
    close_fixture(&f);
    free(r);
}

/* Weights for which halves can't be proved large enough are refused, by name. */
static void halves_could_overflow(void **state)
{
    (void)state;
    fixture f = {0};
    cpl_error err;
    cpl_arch a = cpl_minilm_arch(1);
    a.layers = 1;
    a.vocab = 50;
    assert_true(cpl_random_model_make(&f.random, &a, 200, seed));
    scale_tensor(&f.random.layers[0].up_weight, 1e5f);
    assert_int_equal(load(&f, &subjects[0], CPL_PRECISION_INT8, &cpl_amx_tuned[0], &err), CPL_UNSUPPORTED);
    assert_null(f.weights);
    assert_non_null(strstr(err.what, "inner rows"));
    cpl_random_model_free(&f.random);
}

static void shapes_that_fit(void **state)
{
    (void)state;
    cpl_model m = {.arch = cpl_minilm_arch(1)};
    assert_true(cpl_amx_fits(&m));
    m.arch.intermediate = 1500;
    assert_false(cpl_amx_fits(&m));
    m.arch = cpl_minilm_arch(1);
    m.arch.head_size = 48;
    assert_false(cpl_amx_fits(&m));
}

int main(void)
{
    const char *given = getenv("COUPLET_SEED");
    seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    print_message("seed %llu\n", (unsigned long long)seed);
    cpl_host_init(&host, NULL);
    cpl_cpu_detect(&cpu);
    const struct CMUnitTest tests[] = {
        {"software", test_subject, NULL, NULL, (void *)(uintptr_t)&subjects[0]},
        {"hardware", test_subject, NULL, NULL, (void *)(uintptr_t)&subjects[1]},
        cmocka_unit_test(tuning_changes_nothing),
        cmocka_unit_test(scores_out_of_range),
        cmocka_unit_test(halves_could_overflow),
        cmocka_unit_test(shapes_that_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
