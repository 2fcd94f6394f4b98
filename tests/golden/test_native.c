/* SPDX-License-Identifier: Apache-2.0 */
/* test_native.c - the native backend against what PyTorch computed (tests/golden/README.md), on every ISA of this
 * machine: in fp32 logits and hidden states within 1e-4, vectors with cosine 0.999999 or better; in int8 what
 * `tolerances` says; and in both the same bits for a sequence whatever it is batched with and however a team shares the
 * work. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend/precision.h"
#include "backend/registry.h"
#include "golden/golden.h"
#include "kernel/cpu.h"
#include "seed.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

static uint64_t seed;

/* ---- teams: members in turn, last first; and real threads that live for one call ------------------------------- */

static void parallel_in_turn(cpl_team *team, void (*fn)(void *, uint32_t), void *arg)
{
    for (uint32_t i = team->size; i-- > 0;) fn(arg, i);
}

typedef struct member {
    void (*fn)(void *, uint32_t);
    void *arg;
    uint32_t index;
} member;

static void *member_main(void *arg)
{
    const member *m = arg;
    m->fn(m->arg, m->index);
    return NULL;
}

static void parallel_on_threads(cpl_team *team, void (*fn)(void *, uint32_t), void *arg)
{
    pthread_t threads[16];
    member members[16];
    for (uint32_t i = 1; i < team->size; i++) {
        members[i] = (member){fn, arg, i};
        assert_int_equal(pthread_create(&threads[i], NULL, member_main, &members[i]), 0);
    }
    fn(arg, 0);
    for (uint32_t i = 1; i < team->size; i++) pthread_join(threads[i], NULL);
}

/* ---- one model on one ISA ------------------------------------------------------------------------------------ */

typedef struct fixture {
    cpl_golden golden;
    cpl_model *model;
    cpl_weights *weights;
    cpl_session *session;
} fixture;

static void check(cpl_status st, const cpl_error *err)
{
    if (st) fail_msg("%s", err->what);
}

static void open_fixture(fixture *f, const char *name, cpl_isa isa, cpl_precision precision)
{
    char path[128], setting[32];
    cpl_error err;
    cpl_host host;
    cpl_load_report report = {0};
    snprintf(path, sizeof path, "tests/golden/%s.json", name);
    assert_true(cpl_golden_load(path, &f->golden));
    check(cpl_model_open(&f->model, f->golden.model, &err), &err);
    snprintf(setting, sizeof setting, "isa=%s", cpl_isa_name(isa));
    const char *settings[] = {setting, NULL};
    const cpl_load_options options = {
        .size = sizeof options, .precision = precision, .batch_tokens_max = 1200, .settings = settings};
    cpl_host_init(&host, NULL);
    check(cpl_backend_native.load(&f->weights, f->model, &options, &report, &host, &err), &err);
    check(cpl_backend_native.open(&f->session, f->weights, &err), &err);
    assert_int_equal(report.precision, precision);
    assert_true(report.weight_bytes > 0);
    if (isa > CPL_ISA_AVX2 && isa != CPL_ISA_AVX512) return;
    assert_memory_equal(report.kernels, cpl_isa_name(isa), strlen(cpl_isa_name(isa)));
    assert_int_equal(precision != CPL_PRECISION_FP32, strstr(report.kernels, cpl_precision_name(precision)) != NULL);
}

static void close_fixture(fixture *f)
{
    cpl_backend_native.close(f->session);
    cpl_backend_native.unload(f->weights);
    cpl_model_close(f->model);
    cpl_golden_free(&f->golden);
}

static cpl_want want_of(const fixture *f) { return f->golden.cross_encoder ? CPL_WANT_LOGITS : CPL_WANT_POOLED; }

static void run_one(const fixture *f, const cpl_golden_case *c, cpl_want want, cpl_team *team, float *rows)
{
    cpl_error err;
    const uint32_t cu[2] = {0, (uint32_t)c->n};
    const cpl_batch b = {c->ids, c->type_ids, cu, 1, (uint32_t)c->n, want};
    check(cpl_backend_native.run(f->session, &b, team, rows, &err), &err);
}

static double max_abs(const float *a, const float *b, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = fabs((double)a[i] - b[i]);
        if (!(d <= worst)) worst = d; /* NaN too */
    }
    return worst;
}

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

/* By precision: how far a logit may be off, how far an element of a hidden state or pooled vector (whose elements are
 * about 1 in size), and the least cosine. int8: the largest errors seen with these models
 * (0.14, 0.17, 0.9939, all on texts made to be hard), about doubled: a wrong scale or column gives far more. */
static const struct tolerance {
    double logit, element, cosine;
} tolerances[CPL_PRECISION_COUNT] = {
    [CPL_PRECISION_FP32] = {1e-4, 1e-4, 0.999999}, [CPL_PRECISION_INT4] = {1.5, 1.2, 0.5},
    [CPL_PRECISION_INT8] = {0.28, 0.35, 0.987},    [CPL_PRECISION_BF16] = {0.1, 0.1, 0.9997},
    [CPL_PRECISION_FP16] = {0.02, 0.01, 0.99999},
};

static void check_values(const fixture *f, const char *name, cpl_isa isa, cpl_precision precision)
{
    const struct tolerance *allowed = &tolerances[precision];
    double worst_logit = 0, worst = 0, least = 1;
    float *rows = malloc(512 * f->golden.hidden * sizeof(float));
    for (size_t i = 0; i < f->golden.count; i++) {
        const cpl_golden_case *c = &f->golden.cases[i];
        if (c->n > f->model->max_length) continue;
        run_one(f, c, want_of(f), NULL, rows);
        const double d = max_abs(rows, c->row, f->golden.width);
        double *into = f->golden.cross_encoder ? &worst_logit : &worst;
        if (!(d <= *into)) *into = d;
        if (!f->golden.cross_encoder) least = fmin(least, cosine(rows, c->row, f->golden.width));
        if (!c->tokens) continue;
        run_one(f, c, CPL_WANT_TOKENS, NULL, rows);
        const double t = max_abs(rows, c->tokens, c->n * f->golden.hidden);
        if (!(t <= worst)) worst = t;
    }
    free(rows);
    print_message("%-22s %-7s %s max abs: logits %.2e, elements %.2e; min cosine %.9f\n", name, cpl_isa_name(isa),
                  cpl_precision_name(precision), worst_logit, worst, least);
    assert_true(worst_logit <= allowed->logit);
    assert_true(worst <= allowed->element);
    assert_true(least >= allowed->cosine);
}

/* Random passes made of the golden sequences, some with a team: each row must have the bits it has alone. */
static void check_bits(const fixture *f, cpl_want want, int passes)
{
    enum { TOKENS = 1200, SEQUENCES = 64 };
    const size_t width = want == CPL_WANT_TOKENS ? f->golden.hidden : f->golden.width;
    int32_t ids[TOKENS];
    uint8_t types[TOKENS];
    float *rows = malloc(TOKENS * width * sizeof(float)), *alone[SEQUENCES] = {0};
    uint64_t state = seed;
    assert_true(f->golden.count <= SEQUENCES);
    for (int pass = 0; pass < passes; pass++) {
        uint32_t cu[SEQUENCES + 1] = {0}, from[SEQUENCES], n = 0, longest = 0;
        cpl_error err;
        cpl_team team = {.size = 2 + test_below(&state, 6), .parallel = parallel_in_turn};
        for (uint32_t tries = 1 + test_below(&state, SEQUENCES); tries; tries--) {
            const uint32_t pick = test_below(&state, (uint32_t)f->golden.count);
            const cpl_golden_case *c = &f->golden.cases[pick];
            if (c->n > f->model->max_length || cu[n] + c->n > TOKENS) continue;
            memcpy(ids + cu[n], c->ids, c->n * sizeof *ids);
            memcpy(types + cu[n], c->type_ids, c->n);
            from[n] = pick;
            if (c->n > longest) longest = (uint32_t)c->n;
            cu[n + 1] = cu[n] + (uint32_t)c->n;
            n++;
        }
        const cpl_batch b = {ids, types, cu, n, longest, want};
        check(cpl_backend_native.run(f->session, &b, pass % 3 == 1 ? &team : NULL, rows, &err), &err);
        for (uint32_t i = 0; i < n; i++) {
            const cpl_golden_case *c = &f->golden.cases[from[i]];
            const size_t count = want == CPL_WANT_TOKENS ? c->n * width : width;
            const float *row = rows + (want == CPL_WANT_TOKENS ? cu[i] : i) * width;
            if (!alone[from[i]]) {
                alone[from[i]] = malloc(count * sizeof(float));
                run_one(f, c, want, NULL, alone[from[i]]);
            }
            if (memcmp(row, alone[from[i]], count * sizeof(float)))
                fail_msg("seed %llu, pass %d: sequence %u of %u differs from alone", (unsigned long long)seed, pass, i,
                         n);
        }
    }
    free(rows);
    for (size_t i = 0; i < SEQUENCES; i++) free(alone[i]);
}

static const struct {
    const char *name, *needs;
    int passes;
} models[] = {
    {"cross-encoder", NULL, 24},
    {"cross-encoder-3-labels", NULL, 24},
    {"embedder-mean", NULL, 24},
    {"embedder-cls", NULL, 24},
    {"embedder-max", NULL, 24},
    {"all-MiniLM-L6-v2", "models/all-MiniLM-L6-v2/model.safetensors", 3},
    {"seeded-cross-encoder", "models/seeded-cross-encoder/model.safetensors", 3},
};

static void check_model(size_t i, cpl_isa isa, cpl_precision precision, int passes)
{
    fixture f = {0};
    open_fixture(&f, models[i].name, isa, precision);
    check_values(&f, models[i].name, isa, precision);
    check_bits(&f, want_of(&f), passes);
    if (!models[i].needs) check_bits(&f, CPL_WANT_TOKENS, passes);
    close_fixture(&f);
}

static void test_model(void **state)
{
    const size_t i = (size_t)*state;
    cpl_cpu cpu;
    if (models[i].needs && access(models[i].needs, R_OK)) {
        print_message("skipped: %s is not there (make model)\n", models[i].needs);
        skip();
    }
    cpl_cpu_detect(&cpu);
    for (int isa = 0; isa < CPL_ISA_COUNT; isa++) {
        if (!cpl_isa_runs((cpl_isa)isa, &cpu)) continue;
        if (SANITIZED && models[i].needs && isa == CPL_ISA_REF)
            continue; /* minutes in plain C with every load checked */
        int passes = models[i].needs && isa == CPL_ISA_REF ? 0 : models[i].passes; /* the small ones do for ref */
        if (SANITIZED) passes = isa == CPL_ISA_REF || models[i].needs ? 1 : passes / 3;
        for (int p = 0; p < CPL_PRECISION_COUNT; p++)
            /* Plain C takes minutes over a real model: fp32 speaks for the rest there. */
            if (tolerances[p].logit > 0 && !(models[i].needs && isa == CPL_ISA_REF && p != CPL_PRECISION_FP32))
                check_model(i, (cpl_isa)isa, (cpl_precision)p, passes);
    }
}

/* All sequences in one pass, by a team of real threads: groups of different sizes follow one another. */
static void check_threads_together(const fixture *f, cpl_team *team)
{
    enum { TOKENS = 1200, SEQUENCES = 64 };
    int32_t ids[TOKENS];
    uint8_t types[TOKENS];
    uint32_t cu[SEQUENCES + 1] = {0}, n = 0;
    float alone[SEQUENCES * 8], together[SEQUENCES * 8];
    cpl_error err;
    for (size_t i = 0; i < f->golden.count && n < SEQUENCES; i++) {
        const cpl_golden_case *c = &f->golden.cases[i];
        if (c->n < 24 || c->n > f->model->max_length || cu[n] + c->n > TOKENS) continue;
        memcpy(ids + cu[n], c->ids, c->n * sizeof *ids);
        memcpy(types + cu[n], c->type_ids, c->n);
        cu[n + 1] = cu[n] + (uint32_t)c->n;
        n++;
    }
    assert_true(n > 1);
    const cpl_batch b = {ids, types, cu, n, f->model->max_length, CPL_WANT_LOGITS};
    check(cpl_backend_native.run(f->session, &b, NULL, alone, &err), &err);
    check(cpl_backend_native.run(f->session, &b, team, together, &err), &err);
    assert_memory_equal(alone, together, n * f->golden.width * sizeof(float));
}

/* For the thread sanitizer: members really run at once. */
static void test_threads(void **state)
{
    (void)state;
    fixture f = {0};
    cpl_cpu cpu;
    float alone[8], together[8];
    cpl_team team = {.size = 3, .parallel = parallel_on_threads};
    cpl_cpu_detect(&cpu);
    for (int p = 0; p < CPL_PRECISION_COUNT; p++) {
        if (!(tolerances[p].logit > 0)) continue;
        open_fixture(&f, "cross-encoder-3-labels", cpl_isa_best(&cpu), (cpl_precision)p);
        for (size_t i = 0; i < f.golden.count; i += 3) {
            run_one(&f, &f.golden.cases[i], CPL_WANT_LOGITS, NULL, alone);
            run_one(&f, &f.golden.cases[i], CPL_WANT_LOGITS, &team, together);
            assert_memory_equal(alone, together, f.golden.width * sizeof(float));
        }
        check_threads_together(&f, &team);
        close_fixture(&f);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    fixture f = {0};
    cpl_error err;
    float row[512];
    open_fixture(&f, "embedder-mean", CPL_ISA_REF, CPL_PRECISION_FP32);
    int32_t ids[] = {1, 2};
    uint8_t types[] = {0, 0};
    uint32_t cu[] = {0, 2};
    cpl_batch b = {ids, types, cu, 1, 2, CPL_WANT_LOGITS};
    assert_int_equal(cpl_backend_native.run(f.session, &b, NULL, row, &err), CPL_PRECONDITION);
    b.want = CPL_WANT_POOLED;
    ids[1] = 103;
    assert_int_equal(cpl_backend_native.run(f.session, &b, NULL, row, &err), CPL_INVALID);
    ids[1] = -1;
    assert_int_equal(cpl_backend_native.run(f.session, &b, NULL, row, &err), CPL_INVALID);
    ids[1] = 2;
    types[1] = 2;
    assert_int_equal(cpl_backend_native.run(f.session, &b, NULL, row, &err), CPL_INVALID);
    types[1] = 0;
    cu[1] = 0;
    assert_int_equal(cpl_backend_native.run(f.session, &b, NULL, row, &err), CPL_INVALID);
    cu[1] = 5000;
    assert_int_equal(cpl_backend_native.run(f.session, &b, NULL, row, &err), CPL_INVALID);
    cu[1] = 2;
    assert_int_equal(cpl_backend_native.run(f.session, &b, NULL, row, &err), CPL_OK);

    cpl_host host;
    cpl_weights *w = NULL;
    cpl_load_report report;
    cpl_host_init(&host, NULL);
    const char *unknown[] = {"speed=high", NULL}, *bad_isa[] = {"isa=mmx", NULL};
    cpl_load_options o = {.size = sizeof o, .settings = unknown};
    assert_int_equal(cpl_backend_native.load(&w, f.model, &o, &report, &host, &err), CPL_INVALID);
    o.settings = bad_isa;
    assert_int_equal(cpl_backend_native.load(&w, f.model, &o, &report, &host, &err), CPL_INVALID);
    assert_non_null(strstr(err.what, "ref, avx2"));
    o.settings = NULL;
    o.precision = CPL_PRECISION_FP8;
    assert_int_equal(cpl_backend_native.load(&w, f.model, &o, &report, &host, &err), CPL_UNSUPPORTED);
    assert_null(w);
    cpl_backend_native.close(NULL);
    cpl_backend_native.unload(NULL);
    close_fixture(&f);
}

/* ---- what of int8 and int4 is kept better ---------------------------------------------------------------------- */

static cpl_status load_kept(fixture *f, cpl_precision precision, const char *keep, cpl_load_report *report,
                            cpl_error *err)
{
    char setting[64];
    cpl_host host;
    snprintf(setting, sizeof setting, "keep=%s", keep);
    const char *settings[] = {setting, NULL};
    const cpl_load_options o = {
        .size = sizeof o, .precision = precision, .batch_tokens_max = 1200, .settings = settings};
    cpl_host_init(&host, NULL);
    *report = (cpl_load_report){0};
    const cpl_status st = cpl_backend_native.load(&f->weights, f->model, &o, report, &host, err);
    if (!st) check(cpl_backend_native.open(&f->session, f->weights, err), err);
    return st;
}

/* The largest error of a logit over all sequences, and how many logits changed from `before`, which becomes them. */
static double kept_error(fixture *f, cpl_precision precision, const char *keep, const char *named, float *before,
                         size_t *changed)
{
    cpl_load_report report;
    cpl_error err;
    double worst = 0;
    check(load_kept(f, precision, keep, &report, &err), &err);
    assert_int_equal(report.precision, precision);
    if (!strstr(report.kernels, named)) fail_msg("\"%s\" doesn't say \"%s\"", report.kernels, named);
    *changed = 0;
    for (size_t i = 0; i < f->golden.count; i++) {
        float row[8];
        const cpl_golden_case *c = &f->golden.cases[i];
        if (c->n > f->model->max_length) continue;
        run_one(f, c, CPL_WANT_LOGITS, NULL, row);
        worst = fmax(worst, max_abs(row, c->row, f->golden.width));
        *changed += row[0] != before[i];
        before[i] = row[0];
    }
    check_bits(f, CPL_WANT_LOGITS, 9);
    cpl_backend_native.close(f->session);
    cpl_backend_native.unload(f->weights);
    f->session = NULL;
    f->weights = NULL;
    return worst;
}

/* Each item kept runs in the kind that is named: the logits change every time, and with everything in fp32 all that is
 * left of int8 is the word table. */
static void test_keep(void **state)
{
    (void)state;
    static const char *const one[] = {"qkv.0=fp32", "out.1=fp32", "up.0=fp32", "down.1=bf16", "down.0=fp16"};
    static const char *const named[] = {", kept: qkv.0 fp32", ", kept: out.1 fp32", ", kept: up.0 fp32",
                                        ", kept: down.1 bf16", ", kept: down.0 fp16"};
    static const char *const wrong[] = {"",    "foo",   "up.99",  "up=int8",    "down.1x",
                                        "up,", "=fp32", "up=fp8", "attention.0"};
    fixture f = {0};
    cpl_error err;
    cpl_load_report report;
    float logits[64] = {0}, plain[64];
    size_t changed;
    assert_true(cpl_golden_load("tests/golden/cross-encoder.json", &f.golden));
    check(cpl_model_open(&f.model, f.golden.model, &err), &err);
    assert_true(f.golden.count <= 64);
    const double all = kept_error(&f, CPL_PRECISION_INT8, "none", "int8 products", logits, &changed);
    for (size_t i = 0; i < sizeof one / sizeof *one; i++) {
        memcpy(plain, logits, sizeof plain);
        kept_error(&f, CPL_PRECISION_INT8, one[i], named[i], plain, &changed);
        if (changed * 2 < f.golden.count)
            fail_msg("keep=%s changed %zu of %zu logits", one[i], changed, f.golden.count);
    }
    const double none =
        kept_error(&f, CPL_PRECISION_INT8, "layer=fp32,attention", ", kept: qkv.0 fp32, out.0 fp32", logits, &changed);
    print_message("int8: logits off by %.2e; all matrices kept in fp32: %.2e\n", all, none);
    assert_true(none < all / 3);
    kept_error(&f, CPL_PRECISION_INT4, "down.0", ", kept: down.0 int8", logits, &changed);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(load_kept(&f, CPL_PRECISION_INT8, wrong[i], &report, &err), CPL_INVALID);
        assert_null(f.weights);
    }
    assert_int_equal(load_kept(&f, CPL_PRECISION_FP32, "up.0=fp32", &report, &err), CPL_INVALID);
    close_fixture(&f);
}

static void keep_line(void *user, cpl_log_level level, const char *line)
{
    assert_int_equal(level, CPL_LOG_INFO);
    snprintf(user, 1024, "%s", line);
}

static void test_stages(void **state)
{
    (void)state;
    fixture f = {0};
    cpl_error err;
    char line[1024] = "";
    float row[512];
    const cpl_log log = {keep_line, line, CPL_LOG_INFO};
    cpl_host host;
    cpl_load_report report;
    cpl_weights *w = NULL;
    const char *settings[] = {"stages=1", NULL}, *wrong[] = {"stages=2", NULL};
    cpl_load_options o = {.size = sizeof o, .settings = wrong};
    open_fixture(&f, "cross-encoder", CPL_ISA_REF, CPL_PRECISION_FP32);
    cpl_host_init(&host, &log);
    assert_int_equal(cpl_backend_native.load(&w, f.model, &o, &report, &host, &err), CPL_INVALID);
    o.settings = settings;
    check(cpl_backend_native.load(&w, f.model, &o, &report, &host, &err), &err);
    cpl_session *own = f.session;
    check(cpl_backend_native.open(&f.session, w, &err), &err);
    for (size_t i = 0; i < f.golden.count; i++) run_one(&f, &f.golden.cases[i], CPL_WANT_LOGITS, NULL, row);
    cpl_backend_native.close(f.session);
    cpl_backend_native.unload(w);
    f.session = own;
    close_fixture(&f);
    assert_non_null(strstr(line, "18 passes"));
    assert_non_null(strstr(line, "ffn down"));
}

int main(void)
{
    seed = test_seed();
    enum { MODELS = sizeof models / sizeof models[0] };
    struct CMUnitTest tests[MODELS + 4];
    for (size_t i = 0; i < MODELS; i++)
        tests[i] = (struct CMUnitTest){models[i].name, test_model, NULL, NULL, (void *)i};
    tests[MODELS] = (struct CMUnitTest)cmocka_unit_test(test_threads);
    tests[MODELS + 1] = (struct CMUnitTest)cmocka_unit_test(test_refusals);
    tests[MODELS + 2] = (struct CMUnitTest)cmocka_unit_test(test_stages);
    tests[MODELS + 3] = (struct CMUnitTest)cmocka_unit_test(test_keep);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
