/* SPDX-License-Identifier: Apache-2.0 */
/* test_scorer.c - the public library over the tiny models: scores whatever the slicing, threads, callers; errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "couplet.h"

#define CROSS_ENCODER "tests/golden/models/cross-encoder"
#define THREE_LABELS  "tests/golden/models/cross-encoder-3-labels"
#define EMBEDDER      "tests/golden/models/embedder-mean"

enum { N = 700 }; /* several slices of a call */

static char texts[N][48];
static cpl_pair pairs[N];

static void make_pairs(void)
{
    for (int i = 0; i < N; i++) {
        snprintf(texts[i], sizeof texts[i], "text %d of %s length", i, i % 3 ? "some" : "quite some more");
        pairs[i] = (cpl_pair){cpl_text_of(i % 2 ? "the query" : "another query"), cpl_text_of(texts[i])};
    }
}

static cpl_scorer *open_model(const char *dir, uint32_t threads)
{
    cpl_error e;
    cpl_scorer *s;
    cpl_open_options o = CPL_OPTIONS(cpl_open_options);
    o.threads = threads;
    if (cpl_scorer_open(&s, dir, &o, &e)) fail_msg("%s", e.what);
    return s;
}

static void scores_do_not_depend_on_the_call(void **state)
{
    (void)state;
    static float all[N], one, again[N];
    cpl_error e;
    const char *const models[] = {CROSS_ENCODER, EMBEDDER};
    for (int m = 0; m < 2; m++) {
        cpl_scorer *s = open_model(models[m], 1), *t = open_model(models[m], 3);
        assert_int_equal(cpl_scorer_score(s, pairs, N, NULL, all, &e), CPL_OK);
        assert_int_equal(cpl_scorer_score(t, pairs, N, NULL, again, &e), CPL_OK);
        assert_memory_equal(all, again, sizeof all);
        for (int i = 0; i < N; i += 37) {
            assert_int_equal(cpl_scorer_score(t, &pairs[i], 1, NULL, &one, &e), CPL_OK);
            assert_memory_equal(&one, &all[i], sizeof one);
        }
        assert_int_equal(cpl_scorer_score(s, pairs, 0, NULL, NULL, &e), CPL_OK);
        cpl_scorer_close(s);
        cpl_scorer_close(t);
    }
}

typedef struct caller {
    cpl_scorer *scorer;
    const float *expected;
    int wrong;
} caller;

static void *call_often(void *p)
{
    caller *c = p;
    static _Thread_local float got[N];
    for (int i = 0; i < 12; i++) {
        size_t n = 1 + (size_t)i * 53;
        if (cpl_scorer_score(c->scorer, pairs, n, NULL, got, NULL) || memcmp(got, c->expected, n * sizeof *got) != 0)
            c->wrong++;
    }
    return NULL;
}

static void any_number_of_callers(void **state)
{
    (void)state;
    static float expected[N];
    cpl_scorer *s = open_model(CROSS_ENCODER, 2);
    assert_int_equal(cpl_scorer_score(s, pairs, N, NULL, expected, NULL), CPL_OK);
    pthread_t threads[6];
    caller callers[6];
    for (int i = 0; i < 6; i++) {
        callers[i] = (caller){s, expected, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, call_often, &callers[i]), 0);
    }
    for (int i = 0; i < 6; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(callers[i].wrong, 0);
    }
    cpl_scorer_close(s);
}

static void labels_are_chosen(void **state)
{
    (void)state;
    float three[3], one;
    cpl_error e;
    cpl_scorer *s = open_model(THREE_LABELS, 1);
    assert_int_equal(cpl_scorer_describe(s)->labels, 3);
    assert_int_equal(cpl_scorer_score(s, pairs, 1, NULL, three, &e), CPL_PRECONDITION);
    cpl_score_options o = CPL_OPTIONS(cpl_score_options);
    o.label = -1;
    assert_int_equal(cpl_scorer_score(s, pairs, 1, &o, three, &e), CPL_OK);
    for (int i = 0; i < 3; i++) {
        o.label = i;
        assert_int_equal(cpl_scorer_score(s, pairs, 1, &o, &one, &e), CPL_OK);
        assert_true(one == three[i]);
    }
    o.label = 3;
    assert_int_equal(cpl_scorer_score(s, pairs, 1, &o, &one, &e), CPL_INVALID);
    cpl_scorer_close(s);
}

static void vectors_and_cosine_agree(void **state)
{
    (void)state;
    cpl_error e;
    cpl_scorer *s = open_model(EMBEDDER, 2);
    uint32_t h = cpl_scorer_describe(s)->hidden;
    cpl_text t[2] = {pairs[1].query, pairs[1].document};
    float *v = calloc(2 * h, sizeof *v), score;
    assert_int_equal(cpl_scorer_embed(s, t, 2, v, &e), CPL_OK);
    assert_int_equal(cpl_scorer_score(s, &pairs[1], 1, NULL, &score, &e), CPL_OK);
    double dot = 0, norm = 0;
    for (uint32_t i = 0; i < h; i++) {
        dot += (double)v[i] * (double)v[h + i];
        norm += (double)v[i] * (double)v[i];
    }
    assert_true(norm > 0.9999 && norm < 1.0001);
    assert_true(dot - (double)score < 1e-6 && (double)score - dot < 1e-6);
    free(v);
    cpl_scorer_close(s);
}

static void ids_in_rows_out_whole_or_in_parts(void **state)
{
    (void)state;
    enum { SEQUENCES = 300, LENGTH = 9 };
    static int32_t ids[SEQUENCES * LENGTH];
    static uint32_t cu[SEQUENCES + 1];
    static float rows[SEQUENCES], part[SEQUENCES];
    cpl_error e;
    cpl_stage_times times;
    for (int i = 0; i < SEQUENCES * LENGTH; i++) ids[i] = i * 7 % 100;
    for (uint32_t i = 0; i <= SEQUENCES; i++) cu[i] = i * LENGTH;
    cpl_scorer *s = open_model(CROSS_ENCODER, 2);
    cpl_ids in = {ids, NULL, cu, SEQUENCES};
    assert_int_equal(cpl_scorer_run_ids(s, &in, rows, &times, &e), CPL_OK);
    assert_int_equal(times.tokens, SEQUENCES * LENGTH);
    assert_true(times.passes > 0 && times.compute_ns > 0);
    cpl_ids tail = {ids, NULL, cu + 100, 150};
    assert_int_equal(cpl_scorer_run_ids(s, &tail, part, NULL, &e), CPL_OK);
    assert_memory_equal(part, rows + 100, 150 * sizeof *part);
    ids[2000] = 1 << 20;
    assert_int_equal(cpl_scorer_run_ids(s, &in, rows, NULL, &e), CPL_INVALID);
    assert_non_null(strstr(e.what, "vocabulary"));
    cpl_scorer_close(s);
}

/* In front of a device the engine's pool tokenizes: the same rows as the same fake backend gives with inline
 * tokenizing, from several callers, and a bad text's number counts from the call's first pair. */
static void a_device_has_its_text_tokenized_for_it(void **state)
{
    (void)state;
    enum { MANY = 6000 };
    cpl_error e;
    cpl_scorer *inlined = NULL, *pooled = NULL;
    cpl_open_options o = CPL_OPTIONS(cpl_open_options);
    o.threads = 2;
    o.backend = "fake";
    if (cpl_scorer_open(&inlined, CROSS_ENCODER, &o, &e)) fail_msg("%s", e.what);
    o.backend = "device";
    const char *build = getenv("COUPLET_BUILD");
    char dir[512];
    if (!build) {
        print_message("skipped: COUPLET_BUILD names no build directory\n");
        skip();
    }
    snprintf(dir, sizeof dir, "%s/test-plugins", build);
    o.plugin_dir = dir;
    o.batch_tokens_max = 4096;
    if (cpl_scorer_open(&pooled, CROSS_ENCODER, &o, &e)) fail_msg("%s", e.what);
    cpl_pair *many = malloc(MANY * sizeof *many);
    float *expected = malloc(MANY * sizeof *expected), *got = malloc(MANY * sizeof *got);
    assert_true(many && expected && got);
    for (int i = 0; i < MANY; i++) many[i] = (cpl_pair){pairs[i % 13].query, pairs[(i * 7) % N].document};
    assert_int_equal(cpl_scorer_score(inlined, many, MANY, NULL, expected, &e), CPL_OK);
    for (int round = 0; round < 5; round++) {
        memset(got, 0, MANY * sizeof *got);
        assert_int_equal(cpl_scorer_score(pooled, many, MANY, NULL, got, &e), CPL_OK);
        assert_memory_equal(expected, got, MANY * sizeof *got);
    }
    many[5000].query = cpl_text_of("caf\xE9");
    assert_int_equal(cpl_scorer_score(pooled, many, MANY, NULL, got, &e), CPL_INVALID);
    assert_non_null(strstr(e.what, "pair 5000: query is not valid UTF-8"));
    free(many);
    free(expected);
    free(got);
    cpl_scorer_close(inlined);
    cpl_scorer_close(pooled);
}

static void tokenize_counts_what_does_not_fit(void **state)
{
    (void)state;
    int32_t ids[64];
    uint8_t types[64];
    size_t whole, cut, none;
    cpl_error e;
    cpl_scorer *s = open_model(CROSS_ENCODER, 1);
    assert_int_equal(cpl_scorer_tokenize(s, pairs[0].query, &pairs[0].document, 0, ids, types, 64, &whole, &e), CPL_OK);
    assert_int_equal(cpl_scorer_tokenize(s, pairs[0].query, &pairs[0].document, 0, NULL, NULL, 0, &none, &e), CPL_OK);
    assert_int_equal(whole, none);
    assert_int_equal(cpl_scorer_tokenize(s, pairs[0].query, &pairs[0].document, 6, ids, types, 64, &cut, &e), CPL_OK);
    assert_int_equal(cut, 6);
    cpl_scorer_close(s);
}

static void failures_name_what_and_leave_nothing(void **state)
{
    (void)state;
    cpl_error e;
    cpl_scorer *s = NULL;
    assert_int_equal(cpl_scorer_open(&s, "no/such/model", NULL, &e), CPL_NOT_FOUND);
    assert_null(s);
    assert_non_null(strstr(e.what, "no/such/model"));
    cpl_open_options o = CPL_OPTIONS(cpl_open_options);
    o.precision = "int9";
    assert_int_equal(cpl_scorer_open(&s, CROSS_ENCODER, &o, &e), CPL_INVALID);
    o.precision = "fp8";
    assert_int_equal(cpl_scorer_open(&s, CROSS_ENCODER, &o, &e), CPL_UNSUPPORTED);
    o.fallback = 1;
    assert_int_equal(cpl_scorer_open(&s, CROSS_ENCODER, &o, &e), CPL_OK);
    assert_string_equal(cpl_scorer_describe(s)->precision_effective, "int8");
    assert_non_null(strstr(cpl_scorer_describe(s)->precision_reason, "fp8 requested"));
    cpl_pair bad[200];
    for (int i = 0; i < 200; i++) bad[i] = pairs[i];
    bad[150].document = cpl_text_of("caf\xE9");
    float scores[200];
    assert_int_equal(cpl_scorer_score(s, bad, 200, NULL, scores, &e), CPL_INVALID);
    assert_non_null(strstr(e.what, "pair 150: document is not valid UTF-8 at byte 3"));
    assert_int_equal(cpl_scorer_score(s, bad, 150, NULL, scores, &e), CPL_OK);
    float vector[96];
    assert_int_not_equal(cpl_scorer_embed(s, &bad[0].query, 1, vector, &e), CPL_OK);
    cpl_scorer_close(s);
    cpl_scorer_close(NULL);
}

/* Each matrix's multiply-adds, by hand from the shapes; time where there is work. */
static void stages_are_counted_when_asked_for(void **state)
{
    (void)state;
    enum { SEQUENCES = 40, TOKENS = 7 };
    cpl_error e;
    cpl_scorer *s;
    cpl_open_options o = CPL_OPTIONS(cpl_open_options);
    o.threads = 3;
    o.count_stages = 1;
    if (cpl_scorer_open(&s, EMBEDDER, &o, &e)) fail_msg("%s", e.what);
    const cpl_scorer_info *m = cpl_scorer_describe(s);
    int32_t ids[SEQUENCES * TOKENS];
    uint8_t types[SEQUENCES * TOKENS] = {0};
    uint32_t cu[SEQUENCES + 1];
    float *rows = calloc(SEQUENCES * m->hidden, sizeof *rows);
    for (int i = 0; i < SEQUENCES * TOKENS; i++) ids[i] = 5 + i % 20;
    for (uint32_t i = 0; i <= SEQUENCES; i++) cu[i] = i * TOKENS;
    cpl_stage stages[32];
    size_t count = 0;
    for (int runs = 0; runs <= 2; runs++) {
        const cpl_ids in = {ids, types, cu, SEQUENCES};
        if (runs) assert_int_equal(cpl_scorer_run_ids(s, &in, rows, NULL, &e), CPL_OK);
        assert_int_equal(cpl_scorer_stages(s, stages, 32, &count, &e), CPL_OK);
        const double t = runs * SEQUENCES * TOKENS * (double)m->layers, h = m->hidden, f = m->intermediate;
        for (size_t i = 0; i < count; i++) {
            const char *name = stages[i].name;
            const double want = !strcmp(name, "qkv")         ? 6 * t * h * h
                                : !strcmp(name, "attention") ? 4 * t * TOKENS * h
                                : !strcmp(name, "out")       ? 2 * t * h * h
                                : !strncmp(name, "ffn", 3)   ? 2 * t * h * f
                                                             : 0;
            assert_true(stages[i].ops == want);
            assert_true(want <= 0 || stages[i].seconds > 0);
        }
    }
    size_t fewer = 0;
    assert_int_equal(cpl_scorer_stages(s, stages, 1, &fewer, &e), CPL_OK);
    assert_int_equal(fewer, count);
    free(rows);
    cpl_scorer_close(s);
    o.backend = "fake";
    if (cpl_scorer_open(&s, EMBEDDER, &o, &e)) fail_msg("%s", e.what);
    assert_int_equal(cpl_scorer_stages(s, stages, 32, &count, &e), CPL_UNSUPPORTED);
    cpl_scorer_close(s);
}

int main(void)
{
    make_pairs();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_do_not_depend_on_the_call),
        cmocka_unit_test(any_number_of_callers),
        cmocka_unit_test(labels_are_chosen),
        cmocka_unit_test(vectors_and_cosine_agree),
        cmocka_unit_test(ids_in_rows_out_whole_or_in_parts),
        cmocka_unit_test(a_device_has_its_text_tokenized_for_it),
        cmocka_unit_test(tokenize_counts_what_does_not_fit),
        cmocka_unit_test(stages_are_counted_when_asked_for),
        cmocka_unit_test(failures_name_what_and_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
