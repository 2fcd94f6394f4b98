/* SPDX-License-Identifier: Apache-2.0 */
/* Intervals hold what they promise: simulated rounds with a known ratio, from seeds; and what a comparison says. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "lab/bootstrap.h"
#include "lab/compare.h"
#include "lab/sparse.h"

static double uniform(uint64_t *s) { return ((double)(cpl_random_next(s) >> 11) + 0.5) / 9007199254740992.0; }
static double normal(uint64_t *s) { return sqrt(-2 * log(uniform(s))) * cos(6.283185307179586 * uniform(s)); }

/* ---- throughput ----------------------------------------------------------------------------------------------- */

/* Statistics need many trials, and a sanitizer, which slows them twentyfold, only the code: a tenth is enough for it.
 * What is asked of a count is three standard errors of so many trials. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { TRIALS = 150, LATENCY_TRIALS = 40 };
#else
enum { TRIALS = 1500, LATENCY_TRIALS = 300 };
#endif

/* Is a count of `trials` within three standard errors of part p? */
static void near_part(size_t count, size_t trials, double p)
{
    const double error = 3 * sqrt(p * (1 - p) / (double)trials), got = (double)count / (double)trials;
    if (fabs(got - p) > error) fail_msg("%zu of %zu, wanted %.3f within %.3f", count, trials, p, error);
}

/* Rounds of two systems, `ratio` apart, on a machine whose speed drifts from round to round. */
static void rounds_of(cpl_lab_point *a, cpl_lab_point *b, size_t n, double ratio, double drift, uint64_t *s)
{
    *a = *b = (cpl_lab_point){.rounds = n};
    for (size_t i = 0; i < n; i++) {
        const double hour = drift * normal(s);
        a->round_throughput[i] = 100 * exp(hour + 0.02 * normal(s));
        b->round_throughput[i] = 100 * ratio * exp(hour + 0.02 * normal(s));
    }
}

/* Part of the trials in which the interval holds the truth. */
static double coverage(size_t n, double ratio, double drift, bool paired, double *width)
{
    uint64_t seed = 42 + n;
    size_t held = 0;
    *width = 0;
    for (size_t t = 0; t < TRIALS; t++) {
        cpl_lab_point a, b;
        rounds_of(&a, &b, n, ratio, drift, &seed);
        const cpl_interval v = cpl_lab_throughput_ratio(&a, &b, paired);
        assert_true(v.known);
        held += v.low <= ratio && v.high >= ratio;
        *width += (v.high - v.low) / TRIALS;
    }
    return (double)held / TRIALS;
}

static void intervals_cover(void **state)
{
    (void)state;
    double width, apart;
    for (size_t n = 2; n <= 6; n++) {
        const double got = coverage(n, 1.1, 0.2, true, &width);
        print_message("%zu paired rounds: %.1f %% hold the truth, width %.3f\n", n, got * 100, width);
        near_part((size_t)(got * TRIALS + 0.5), TRIALS, 0.95);
    }
    for (size_t n = 3; n <= 6; n += 3) {
        const double got = coverage(n, 1.1, 0.02, false, &width);
        print_message("%zu rounds apart: %.1f %%, width %.3f\n", n, got * 100, width);
        assert_true(got > 0.95 - 3 * sqrt(0.05 * 0.95 / TRIALS)); /* Welch errs to the safe side with few rounds */
    }
    /* What alternating is for: the same noise, and the drift of the machine falls out. */
    coverage(4, 1.1, 0.2, true, &width);
    coverage(4, 1.1, 0.2, false, &apart);
    assert_true(apart > 4 * width);
}

static void equal_systems_are_called_equal(void **state)
{
    (void)state;
    uint64_t seed = 7;
    size_t better = 0, worse = 0, found = 0;
    for (size_t t = 0; t < TRIALS; t++) {
        cpl_lab_point a, b;
        rounds_of(&a, &b, 5, 1, 0.1, &seed);
        cpl_interval v = cpl_lab_throughput_ratio(&a, &b, true);
        better += cpl_lab_change_of(&v, true) == CPL_LAB_BETTER;
        worse += cpl_lab_change_of(&v, true) == CPL_LAB_WORSE;
        rounds_of(&a, &b, 5, 1.15, 0.1, &seed);
        v = cpl_lab_throughput_ratio(&a, &b, true);
        found += cpl_lab_change_of(&v, true) == CPL_LAB_BETTER;
    }
    print_message("equal: %zu better, %zu worse of %d; 15 %% faster: found %zu\n", better, worse, TRIALS, found);
    near_part(better, TRIALS, 0.025);
    near_part(worse, TRIALS, 0.025);
    assert_true(found > TRIALS * 95 / 100);
}

/* ---- latency -------------------------------------------------------------------------------------------------- */

enum { LATENCY_ROUNDS = 5, LATENCY_REQUESTS = 400 };

typedef struct latency_side {
    cpl_lab_point point;
    cpl_buf text[LATENCY_ROUNDS];
} latency_side;

/* Requests of a round share its luck, as in life: resampling them one by one would give intervals far too narrow. */
static void latency_rounds(latency_side *side, double scale, const double *hours, uint64_t *s)
{
    static cpl_histogram h;
    side->point = (cpl_lab_point){.rounds = LATENCY_ROUNDS};
    for (size_t i = 0; i < LATENCY_ROUNDS; i++) {
        const double own = 0.02 * normal(s);
        memset(&h, 0, sizeof h);
        for (size_t k = 0; k < LATENCY_REQUESTS; k++)
            cpl_histogram_add(&h, (uint64_t)(5e6 * scale * exp(hours[i] + own + 0.4 * normal(s))));
        cpl_buf_clear(&side->text[i]);
        cpl_sparse_write(&h, &side->text[i]);
        side->point.round_latency[i] = side->text[i].data;
    }
}

static void latency_intervals_cover(void **state)
{
    (void)state;
    latency_side a = {0}, b = {0};
    uint64_t seed = 11;
    size_t held = 0;
    for (size_t t = 0; t < LATENCY_TRIALS; t++) {
        double hours[LATENCY_ROUNDS];
        for (size_t i = 0; i < LATENCY_ROUNDS; i++) hours[i] = 0.1 * normal(&seed);
        latency_rounds(&a, 1, hours, &seed);
        latency_rounds(&b, 1.2, hours, &seed);
        const cpl_interval v = cpl_lab_latency_ratio(&a.point, &b.point, 0.95, true);
        assert_true(v.known);
        held += v.low <= 1.2 && v.high >= 1.2;
    }
    print_message("p95 over %d rounds: %zu of %d hold the truth\n", LATENCY_ROUNDS, held, LATENCY_TRIALS);
    near_part(held, LATENCY_TRIALS, 0.95);
    /* The percentile is that of all rounds together: the mean of the rounds' would be another number. */
    static cpl_histogram low, high;
    for (int i = 0; i < 99; i++) cpl_histogram_add(&low, 100);
    for (int i = 0; i < 99; i++) cpl_histogram_add(&high, 200);
    const cpl_histogram *kinds[] = {&low, &high};
    for (size_t i = 0; i < 2; i++) {
        cpl_buf_clear(&a.text[i]);
        cpl_sparse_write(kinds[i], &a.text[i]);
        cpl_buf_clear(&b.text[i]);
        cpl_sparse_write(&low, &b.text[i]);
        a.point.round_latency[i] = a.text[i].data;
        b.point.round_latency[i] = b.text[i].data;
    }
    a.point.rounds = b.point.rounds = 2;
    assert_float_equal(cpl_lab_latency_ratio(&b.point, &a.point, 0.95, false).mean, 2, 0.01);
    for (size_t i = 0; i < LATENCY_ROUNDS; i++) {
        cpl_buf_deinit(&a.text[i]);
        cpl_buf_deinit(&b.text[i]);
    }
}

static void same_seed_same_interval(void **state)
{
    (void)state;
    uint64_t seed = 3;
    cpl_lab_point a, b;
    rounds_of(&a, &b, 8, 1.05, 0.1, &seed);
    const cpl_interval v = cpl_lab_throughput_ratio(&a, &b, true), w = cpl_lab_throughput_ratio(&a, &b, true);
    assert_true(v.low == w.low && v.high == w.high && v.mean == w.mean);
}

static void once_is_not_known(void **state)
{
    (void)state;
    const cpl_lab_point once = {.rounds = 1, .throughput = 100, .round_throughput = {100}, .round_latency = {"5*100"}};
    cpl_interval v = cpl_lab_throughput_ratio(&once, &once, true);
    assert_int_equal(cpl_lab_change_of(&v, true), CPL_LAB_NOT_KNOWN);
    v = cpl_lab_latency_ratio(&once, &once, 0.5, true);
    assert_false(v.known);
    assert_true(v.mean == 1);
}

/* ---- histograms as text --------------------------------------------------------------------------------------- */

static void sparse_is_read_back(void **state)
{
    (void)state;
    static cpl_histogram h;
    cpl_buf text = {0};
    uint64_t seed = 5, total = 0;
    for (int i = 0; i < 5000; i++) cpl_histogram_add(&h, cpl_random_next(&seed) >> (cpl_random_next(&seed) % 50 + 14));
    cpl_sparse_write(&h, &text);
    const char *at = text.data;
    cpl_sparse_bucket b = {0};
    while (cpl_sparse_next(&at, b.bucket, &b)) {
        assert_int_equal(h.buckets[b.bucket], b.times);
        total += b.times;
    }
    assert_int_equal(*at, 0);
    assert_int_equal(total, 5000);
    cpl_buf_deinit(&text);
    static const char *const broken[] = {"x", "5*", "5*0", "-3", "99999999", "5 +99999999", "5,6", "+"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        at = broken[i];
        b = (cpl_sparse_bucket){0};
        while (cpl_sparse_next(&at, b.bucket, &b)) {
        }
        assert_int_not_equal(*at, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(intervals_cover),         cmocka_unit_test(equal_systems_are_called_equal),
        cmocka_unit_test(latency_intervals_cover), cmocka_unit_test(same_seed_same_interval),
        cmocka_unit_test(once_is_not_known),       cmocka_unit_test(sparse_is_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
