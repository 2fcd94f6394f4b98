/* SPDX-License-Identifier: Apache-2.0 */
/* The search for settings over servers that are formulas: where the best is known, it is found; what isn't allowed
 * never wins; what can't run is told. Seeded, no clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/random.h"
#include "lab/tune.h"

typedef struct world {
    double of[CPL_TUNE_DIMENSIONS][CPL_TUNE_VALUES_MAX]; /* the rate is the product, times noise */
    double noise;
    uint64_t seed;
    uint32_t measured, finals, fail_at;
    uint32_t last[CPL_TUNE_DIMENSIONS];
    bool same_twice; /* a finalist came twice in a row */
} world;

static double uniform(uint64_t *state) { return (double)(cpl_random_next(state) >> 11) * 0x1p-53; }

static double truth(const world *w, const uint32_t *at)
{
    double rate = 1000;
    for (int d = 0; d < CPL_TUNE_DIMENSIONS; d++) rate *= w->of[d][at[d]];
    return rate;
}

static cpl_status measure(void *user, cpl_tune_tried *t, uint32_t round, cpl_error *err)
{
    world *w = user;
    if (++w->measured == w->fail_at) return cpl_fail(err, CPL_IO, "no more processes");
    if (round) {
        if (w->finals++ && !memcmp(w->last, t->at, sizeof w->last)) w->same_twice = true;
        memcpy(w->last, t->at, sizeof w->last);
    }
    t->rate = truth(w, t->at) * (1 + w->noise * (2 * uniform(&w->seed) - 1));
    t->latency_ms = 1;
    if (t->rate <= 0) snprintf(t->why, sizeof t->why, "doesn't run");
    return CPL_OK;
}

static cpl_tune_space make_space(void)
{
    cpl_tune_space s = {
        .counts = {4, 5, 3, 5}, .start = {0, 1, 2, 2}, .tokens = {2, 2, 2, 2}, .finalists = 3, .rounds = 3};
    for (int v = 0; v < 4; v++) s.allowed[v] = true;
    return s;
}

/* Each dimension has one top, as threads, tokens and waiting have. */
static void make_world(world *w, uint64_t seed, const cpl_tune_space *s)
{
    *w = (world){.seed = seed};
    for (int d = 0; d < CPL_TUNE_DIMENSIONS; d++) {
        const uint32_t top = (uint32_t)(cpl_random_next(&w->seed) % s->counts[d]);
        for (uint32_t i = 0; i < s->counts[d]; i++) {
            const double away = i > top ? i - top : top - i;
            w->of[d][i] = 1 / (1 + (0.05 + 0.3 * uniform(&w->seed)) * away);
            if (i == top) w->of[d][i] = 1;
        }
        /* Falls to both sides. */
        for (uint32_t i = top; i + 1 < s->counts[d]; i++)
            if (w->of[d][i + 1] > w->of[d][i] * 0.96) w->of[d][i + 1] = w->of[d][i] * 0.96;
        for (uint32_t i = top; i > 0; i--)
            if (w->of[d][i - 1] > w->of[d][i] * 0.96) w->of[d][i - 1] = w->of[d][i] * 0.96;
    }
}

static void the_best_is_found(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        static cpl_tune t;
        const cpl_tune_space space = make_space();
        world w;
        make_world(&w, seed, &space);
        w.noise = seed % 2 ? 0 : 0.015;
        assert_int_equal(cpl_tune_search(&t, &space, measure, &w, NULL), CPL_OK);
        assert_true(t.best >= 0);
        const double got = truth(&w, t.tried[t.best].at); /* the best is 1000 */
        if (got < (w.noise > 0 ? 950 : 999.9)) fail_msg("seed %lu: found %g of 1000", seed, got);
        assert_true(t.count < 60); /* of 300 */
        assert_int_equal(w.finals, 9);
        assert_false(w.same_twice); /* interleaved */
        assert_int_equal(t.tried[t.best].round_count, 3);
    }
}

static void what_is_not_allowed_never_wins(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        static cpl_tune t;
        cpl_tune_space space = make_space();
        world w;
        make_world(&w, seed, &space);
        uint32_t top = 0, seen = 0;
        for (uint32_t v = 0; v < 4; v++)
            if (w.of[CPL_TUNE_VARIANT][v] == 1) top = v;
        space.allowed[top] = false;
        assert_int_equal(cpl_tune_search(&t, &space, measure, &w, NULL), CPL_OK);
        assert_true(t.best >= 0 && t.tried[t.best].at[CPL_TUNE_VARIANT] != top);
        for (uint32_t i = 0; i < t.count; i++) seen += t.tried[i].at[CPL_TUNE_VARIANT] == top;
        assert_int_equal(seen, 1); /* measured once: what the loss would have bought */
    }
}

static void what_does_not_run(void **state)
{
    (void)state;
    static cpl_tune t;
    cpl_tune_space space = make_space();
    world w;
    cpl_error err;
    make_world(&w, 5, &space);
    w.of[CPL_TUNE_VARIANT][0] = w.of[CPL_TUNE_VARIANT][2] = 0;
    assert_int_equal(cpl_tune_search(&t, &space, measure, &w, NULL), CPL_OK);
    assert_true(t.best >= 0 && t.tried[t.best].at[CPL_TUNE_VARIANT] % 2 == 1);
    assert_string_equal(t.tried[0].why, "doesn't run");
    for (int v = 0; v < 4; v++) w.of[CPL_TUNE_VARIANT][v] = 0;
    assert_int_equal(cpl_tune_search(&t, &space, measure, &w, NULL), CPL_OK);
    assert_int_equal(t.best, -1);
    for (uint32_t at = 1; at < 30; at += 7) { /* a failure of measuring itself ends it, wherever it comes */
        make_world(&w, 5, &space);
        w.fail_at = at;
        assert_int_equal(cpl_tune_search(&t, &space, measure, &w, &err), CPL_IO);
    }
    const cpl_tune_space one = {.counts = {1, 1, 1, 1}, .allowed = {true}, .finalists = 3, .rounds = 2};
    make_world(&w, 5, &one);
    assert_int_equal(cpl_tune_search(&t, &one, measure, &w, NULL), CPL_OK);
    assert_true(t.best == 0 && t.count == 1 && w.measured == 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_is_found),
        cmocka_unit_test(what_is_not_allowed_never_wins),
        cmocka_unit_test(what_does_not_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
