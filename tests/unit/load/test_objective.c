/* SPDX-License-Identifier: Apache-2.0 */
/* Objectives, the test that ends a run early, the peak search against a formula, when a warm-up has settled; all seeded
 * and without a clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/random.h"
#include "load/peak.h"
#include "load/settle.h"

static double uniform(uint64_t *state) { return (double)(cpl_random_next(state) >> 11) * 0x1p-53; }

static void objectives_are_read_or_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double ms, part;
    } good[] = {{"20", 20, 0},          {"20ms", 20, 0},      {"0.5s", 500, 0},
                {"p99=20ms", 20, 0.99}, {"p50=1.5", 1.5, .5}, {"p99.9=1s", 1000, 0.999}};
    static const char *const bad[] = {"",       "p99",    "p99=",    "p0=1ms", "p100=1ms", "20 ms",     "-1",
                                      "p99:20", "x=20ms", "p99=0ms", "ms",     "20us",     "p99=nanms", "inf"};
    cpl_slo slo;
    cpl_error err;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(cpl_slo_parse(&slo, good[i].text, &err), CPL_OK);
        assert_float_equal(slo.ms, good[i].ms, 1e-9);
        assert_float_equal(slo.part, good[i].part, 1e-9);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (cpl_slo_parse(&slo, bad[i], &err) != CPL_INVALID) fail_msg("'%s' was taken", bad[i]);
}

/* By hand: with p99 and no late one, 0.99^n <= 0.01 first at n = 459; with one late, n = 662. */
static void the_test_is_exact(void **state)
{
    (void)state;
    const cpl_slo slo = {10, 0.99};
    assert_int_equal(cpl_slo_test(&slo, 458, 0, 0.01), CPL_SLO_OPEN);
    assert_int_equal(cpl_slo_test(&slo, 459, 0, 0.01), CPL_SLO_HOLDS);
    assert_int_equal(cpl_slo_test(&slo, 661, 1, 0.01), CPL_SLO_OPEN);
    assert_int_equal(cpl_slo_test(&slo, 662, 1, 0.01), CPL_SLO_HOLDS);
    assert_int_equal(cpl_slo_test(&slo, 20, 0, 0.01), CPL_SLO_OPEN);
    assert_int_equal(cpl_slo_test(&slo, 20, 2, 0.01), CPL_SLO_OPEN); /* P(X >= 2) = 0.0169 */
    assert_int_equal(cpl_slo_test(&slo, 20, 3, 0.01), CPL_SLO_FAILS);
    assert_int_equal(cpl_slo_test(&slo, 0, 0, 0.01), CPL_SLO_OPEN);
}

/* Over 2,000 runs each: servers that are better or worse than the objective are told apart early, and the error stays
 * below its budget of 1 % also when the truth lies on the line. */
static void looking_often_does_not_find_what_is_not_there(void **state)
{
    (void)state;
    static const struct {
        double late;
        int wrong_max;
    } truths[] = {{0.05, 20}, {0.2, 20}, {0.01, 20}};
    const cpl_slo slo = {10, 0.95};
    for (size_t t = 0; t < sizeof truths / sizeof *truths; t++) {
        uint64_t seed = 77 + t, sum = 0;
        int holds = 0, fails = 0;
        for (int run = 0; run < 2000; run++) {
            cpl_slo_watch w;
            cpl_slo_watch_init(&w, &slo);
            for (int i = 0; i < 3000 && !cpl_slo_watch_add(&w, uniform(&seed) >= truths[t].late); i++) continue;
            holds += w.verdict == CPL_SLO_HOLDS;
            fails += w.verdict == CPL_SLO_FAILS;
            sum += w.n;
        }
        if (truths[t].late == 0.05) assert_true(holds + fails <= truths[t].wrong_max * 2);
        if (truths[t].late > 0.05) assert_true(holds == 0 && fails == 2000 && sum < 2000 * 120);
        if (truths[t].late < 0.05) assert_true(fails <= truths[t].wrong_max && holds > 1950 && sum < 2000 * 600);
    }
}

/* ---- peak search
 * ----------------------------------------------------------------------------------------------------- */

typedef struct world {
    double peak;    /* holds at rates up to it */
    double noise;   /* near the peak, by this part of it, answers are drawn */
    int invalid_of; /* one in so many probes isn't valid; 0: none */
    double broken;  /* from here on no probe is valid; 0: never */
    bool idle;
    uint64_t seed;
    int probes, fail_at;
} world;

static cpl_status probe(void *user, cpl_peak_trial *p, cpl_error *err)
{
    world *w = user;
    if (++w->probes == w->fail_at) return cpl_fail(err, CPL_UNAVAILABLE, "gone");
    const double edge = w->peak * (1 + w->noise * (2 * uniform(&w->seed) - 1));
    p->answer = p->rate <= edge ? CPL_PEAK_HOLDS : CPL_PEAK_FAILS;
    if (w->invalid_of && cpl_random_next(&w->seed) % (uint64_t)w->invalid_of == 0) p->answer = CPL_PEAK_INVALID;
    p->idle = w->idle && p->answer == CPL_PEAK_FAILS;
    if (w->broken > 0 && p->rate >= w->broken) p->answer = CPL_PEAK_INVALID;
    return CPL_OK;
}

static void the_peak_is_found_from_anywhere(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        uint64_t rng = seed;
        world w = {.peak = 1 + uniform(&rng) * 5000, .noise = seed % 3 ? 0 : 0.05, .seed = seed};
        const double start = w.peak * (seed % 2 ? 0.02 + uniform(&rng) : 1 + 20 * uniform(&rng));
        cpl_peak peak;
        assert_int_equal(cpl_peak_find(&peak, start, 0.05, probe, &w, NULL), CPL_OK);
        const double low = w.noise > 0 ? 0.75 : 0.95, high = 1 + w.noise;
        if (peak.rate < w.peak * low || peak.rate > w.peak * high)
            fail_msg("seed %lu: peak %g, found %g", seed, w.peak, peak.rate);
        assert_true(peak.next > peak.rate);
        assert_true(peak.count <= 25);
        assert_true(peak.probes[peak.count - 1].answer == CPL_PEAK_HOLDS &&
                    peak.probes[peak.count - 1].rate == peak.rate);
    }
}

static void what_is_not_valid_is_not_promised(void **state)
{
    (void)state;
    cpl_peak peak;
    world broken = {.peak = 1e5, .broken = 700, .seed = 1};
    assert_int_equal(cpl_peak_find(&peak, 10, 0.05, probe, &broken, NULL), CPL_OK);
    assert_true(peak.rate >= 660 && peak.rate < 700);
    world never = {.peak = 0, .seed = 1};
    assert_int_equal(cpl_peak_find(&peak, 100, 0.05, probe, &never, NULL), CPL_OK);
    assert_true(peak.rate == 0 && peak.next > 0);
    for (uint64_t seed = 1; seed <= 50; seed++) { /* now and then a neighbour spoils a probe: it is made again */
        world w = {.peak = 1000, .invalid_of = 8, .seed = seed};
        assert_int_equal(cpl_peak_find(&peak, 90, 0.05, probe, &w, NULL), CPL_OK);
        assert_true(peak.rate <= 1000 && peak.count <= CPL_PEAK_PROBES_MAX);
    }
    world idle = {.peak = 0, .idle = true, .seed = 1};
    assert_int_equal(cpl_peak_find(&peak, 100, 0.05, probe, &idle, NULL), CPL_OK);
    assert_true(peak.rate == 0 && peak.count == 1); /* a server that is too slow at rest isn't asked for less */
    cpl_error err;
    world gone = {.peak = 1000, .fail_at = 4, .seed = 1};
    assert_int_equal(cpl_peak_find(&peak, 90, 0.05, probe, &gone, &err), CPL_UNAVAILABLE);
}

/* ---- warm-up
 * --------------------------------------------------------------------------------------------------------- */

static void settles_when_latency_does(void **state)
{
    (void)state;
    cpl_settle s = {0};
    uint64_t now = 1000000000;
    int added = 0;
    /* Falls from 50 ms to 10 ms over the first 1.5 s. */
    for (; !s.settled && added < 100000; added++, now += 5000000) {
        const double seconds = (double)(now - 1000000000) / 1e9;
        cpl_settle_add(&s, now, (uint64_t)(1e6 * (seconds < 1.5 ? 50 - 40 * seconds / 1.5 : 10)));
    }
    const double at = (double)(now - 1000000000) / 1e9;
    assert_true(at > 1.9 && at < 2.6); /* the stretch in which it ended and three quarters of a second */
    cpl_settle never = {0};
    for (int i = 0; i < 20000; i++)
        assert_false(cpl_settle_add(&never, 1 + 5000000ull * i, i / 50 % 2 ? 20000000 : 10000000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objectives_are_read_or_refused),
        cmocka_unit_test(the_test_is_exact),
        cmocka_unit_test(looking_often_does_not_find_what_is_not_there),
        cmocka_unit_test(the_peak_is_found_from_anywhere),
        cmocka_unit_test(what_is_not_valid_is_not_promised),
        cmocka_unit_test(settles_when_latency_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
