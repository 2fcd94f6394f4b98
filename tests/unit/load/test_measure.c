/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics over logs made by hand, where every figure can be worked out on paper. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "load/measure.h"
#include "load/verdict.h"

#define S 1000000000ull

static void near(double got, double want, double tolerance)
{
    if (fabs(got - want) > tolerance) fail_msg("got %.9g, wanted %.9g within %g", got, want, tolerance);
}

static cpl_measure *measure(const cpl_sample *s, size_t n, uint64_t from, uint64_t to, uint32_t pairs)
{
    cpl_measure *m = malloc(sizeof *m);
    assert_non_null(m);
    assert_int_equal(cpl_measure_samples(m, s, n, from, to, pairs, false, NULL), CPL_OK);
    return m;
}

static void medians_and_percentiles(void **state)
{
    (void)state;
    const double odd[] = {5, 1, 3}, even[] = {4, 1, 3, 2};
    near(cpl_median(odd, 3), 3, 0);
    near(cpl_median(even, 4), 2.5, 0);
    near(cpl_median(odd, 1), 5, 0);
    near(cpl_median(NULL, 0), 0, 0);
    double hundred[100];
    for (int i = 0; i < 100; i++) hundred[i] = 100 - i;
    near(cpl_percentile(hundred, 100, 0.95), 95, 0);
    near(cpl_percentile(hundred, 100, 1), 100, 0);
    near(cpl_percentile(hundred, 100, 0), 1, 0);
}

static void student_interval(void **state)
{
    (void)state;
    /* mean 10, standard deviation 1, t(2) = 4.303: half width 4.303 / sqrt(3). */
    const double v[] = {9, 10, 11};
    cpl_interval i = cpl_interval_of(v, 3);
    assert_true(i.known);
    near(i.mean, 10, 1e-12);
    near(i.high - i.mean, 4.303 / sqrt(3), 1e-9);
    near(i.mean - i.low, 4.303 / sqrt(3), 1e-9);
    assert_false(cpl_interval_of(v, 1).known);
    assert_false(cpl_interval_of(v, 0).known);
    cpl_interval far = {20, 17, 23, true}, unknown = {20, 20, 20, false};
    assert_false(cpl_interval_overlap(&i, &far));
    assert_true(cpl_interval_overlap(&i, &unknown));
    far.low = 12;
    assert_true(cpl_interval_overlap(&i, &far));
}

static void ratio_pairs_rounds(void **state)
{
    (void)state;
    /* The machine halves its speed in round 2; b is 10 % faster in each round, which only pairing shows. */
    const double a[] = {100, 50, 80}, b[] = {110, 55, 88};
    cpl_interval r = cpl_ratio_of(a, b, 3);
    near(r.mean, 1.1, 1e-9);
    near(r.low, 1.1, 1e-6);
    near(r.high, 1.1, 1e-6);
    cpl_interval x = cpl_interval_of(a, 3), y = cpl_interval_of(b, 3);
    assert_true(cpl_interval_overlap(&x, &y));
}

static void samples_for_percentiles(void **state)
{
    (void)state;
    assert_int_equal(cpl_samples_needed(0.99), 459);
    assert_int_equal(cpl_samples_needed(0.95), 90);
    assert_int_equal(cpl_samples_needed(0.50), 7);
    cpl_verdict v = {0};
    cpl_verdict_samples(&v, 90);
    assert_true(v.p50 && v.p95 && !v.p99);
    assert_string_equal(v.percentiles, "p99 needs 459 samples, has 90");
}

/* Two clients, each request half a second: 10 s at 4 requests/s of 3 pairs. */
static void steady_load(void **state)
{
    (void)state;
    cpl_sample s[64];
    size_t n = 0;
    for (uint64_t t = 0; t < 12 * S; t += S / 2)
        for (int client = 0; client < 2; client++) s[n++] = (cpl_sample){t, t, t + S / 2, t >= S && t < 11 * S, true};
    cpl_measure *m = measure(s, n, S, 11 * S, 3);
    assert_int_equal(m->requests, 40);
    assert_int_equal(m->failed, 0);
    near(m->seconds, 10, 1e-9);
    near(m->pairs_per_s, 12, 1e-9);
    near(m->throughput.mean, 12, 1e-9);
    assert_true(m->throughput.known);
    near(m->throughput.low, 12, 1e-6);
    near(m->in_flight_mean, 2, 1e-9);
    assert_int_equal(m->in_flight_max, 2);
    near(m->window_s, 1, 0);
    assert_int_equal(m->windows, 10);
    near(m->window_p95, 12, 1e-6);
    near(m->drift_ratio, 1, 1e-6);
    near((double)cpl_histogram_at(&m->latency_ns, 0.5), 0.5 * S, 0.005 * S);
    free(m);
}

/* Requests of 2 s don't show as bursts of 256 and 0 in windows of a second. */
static void long_requests_are_spread(void **state)
{
    (void)state;
    cpl_sample s[8];
    for (uint64_t i = 0; i < 8; i++) s[i] = (cpl_sample){2 * i * S, 2 * i * S, 2 * (i + 1) * S, i > 0 && i < 7, true};
    cpl_measure *m = measure(s, 8, 2 * S, 14 * S, 256);
    near(m->pairs_per_s, 128, 1e-9);
    for (uint32_t i = 0; i < m->windows; i++) near(m->window_rate[i], 128, 1e-6);
    near(m->window_p95, 128, 1e-6);
    free(m);
}

static void short_runs_have_short_windows(void **state)
{
    (void)state;
    cpl_sample s[20];
    for (uint64_t i = 0; i < 20; i++) s[i] = (cpl_sample){i * S / 10, i * S / 10, (i + 1) * S / 10, true, true};
    cpl_measure *m = measure(s, 20, 0, 2 * S, 1);
    near(m->window_s, 0.2, 1e-12);
    assert_int_equal(m->windows, 10);
    near(m->window_p95, 10, 1e-6);
    free(m);
}

static void failures_count_apart(void **state)
{
    (void)state;
    cpl_sample s[10];
    for (uint64_t i = 0; i < 10; i++) s[i] = (cpl_sample){i * S, i * S, (i + 1) * S, true, i != 4};
    s[4].done_ns = s[4].due_ns + 5; /* a failure is quick, and must not improve the latency */
    cpl_measure *m = measure(s, 10, 0, 10 * S, 1);
    assert_int_equal(m->requests, 9);
    assert_int_equal(m->failed, 1);
    near(m->pairs_per_s, 0.9, 1e-9);
    assert_true(m->latency_ns.min == S);
    near(m->in_flight_mean, 0.9, 1e-6);
    free(m);
}

/* Waiting in the client before the first byte goes out is latency, but not in flight. */
static void waiting_to_send(void **state)
{
    (void)state;
    cpl_sample s[4];
    for (uint64_t i = 0; i < 4; i++) s[i] = (cpl_sample){i * S, i * S + S / 2, (i + 1) * S, true, true};
    cpl_measure *m = measure(s, 4, 0, 4 * S, 1);
    near(m->in_flight_mean, 0.5, 1e-9);
    assert_true(m->latency_ns.min == S);
    free(m);
}

static void a_slower_third_shows(void **state)
{
    (void)state;
    cpl_sample s[64];
    size_t n = 0;
    uint64_t t = 0;
    for (int third = 0; third < 3; third++)
        for (uint64_t end = (uint64_t)(third + 1) * 4 * S; t < end;) {
            uint64_t length = third == 2 ? S / 2 : S / 4;
            s[n++] = (cpl_sample){t, t, t + length, true, true};
            t += length;
        }
    cpl_measure *m = measure(s, n, 0, 12 * S, 1);
    near(m->drift_ratio, 2, 0.01);
    cpl_load_result *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->measure = *m;
    r->concurrency = 1;
    cpl_verdict v;
    cpl_verdict_of(&v, r);
    assert_false(v.valid);
    assert_non_null(strstr(v.reasons, "not stable: the fastest third ran 2.00 times"));
    r->measure.drift_ratio = 1.05;
    cpl_verdict_of(&v, r);
    assert_true(v.valid);
    assert_string_equal(v.reasons, "");
    r->concurrency = 2;
    cpl_verdict_of(&v, r);
    assert_non_null(strstr(v.reasons, "1.0 requests were in flight, not 2"));
    r->concurrency = 1;
    r->measure.failed = 1;
    cpl_verdict_of(&v, r);
    assert_non_null(strstr(v.reasons, "1 of 41 requests failed"));
    r->measure.failed = 0;
    r->client_cpu_cores = 0.95;
    cpl_verdict_of(&v, r);
    assert_non_null(strstr(v.reasons, "load generator used 95 %"));
    r->client_cpu_cores = 0;
    r->server = (cpl_server_totals){.known = true, .backend = "native", .busy_ns = 20 * S, .cpu_ns = 10 * S};
    cpl_verdict_of(&v, r);
    assert_non_null(strstr(v.reasons, "other work had the machine"));
    r->measure.drift_ratio = 0;
    cpl_verdict_of(&v, r);
    assert_non_null(strstr(v.reasons, "shorter than 6 mean latencies"));
    free(r);
    free(m);
}

/* Requests by a schedule, ten a second for 60 s, each third with a latency of its own. */
static cpl_load_result *by_schedule(uint64_t first, uint64_t second, uint64_t third)
{
    static cpl_sample s[600];
    const uint64_t ms[] = {first, second, third};
    for (size_t i = 0; i < 600; i++) {
        const uint64_t due = i * S / 10;
        s[i] = (cpl_sample){due, due, due + ms[i / 200] * 1000000, true, true};
    }
    cpl_load_result *r = calloc(1, sizeof *r);
    assert_non_null(r);
    assert_int_equal(cpl_measure_samples(&r->measure, s, 600, 0, 60 * S, 1, true, NULL), CPL_OK);
    r->open = true;
    r->offered = 10;
    r->pairs_per_request = 1;
    return r;
}

static void more_than_the_server_takes(void **state)
{
    (void)state;
    char why[CPL_PERCENTILE_WHY];
    cpl_verdict v;
    cpl_load_result *r = by_schedule(10, 20, 30);
    near(r->measure.latency_drift_ratio, 3, 1e-9);
    /* The queue grew on a server that had time to spare: a fault of the run. */
    r->server = (cpl_server_totals){.known = true, .workers = 2, .busy_ns = 30 * S, .monotonic_ns = 60 * S};
    cpl_verdict_of(&v, r);
    assert_true(!v.valid && !v.beyond);
    assert_non_null(strstr(v.reasons, "the queue grew, and not for want of a faster server"));
    /* On one whose workers always computed: a finding, with a throughput and without percentiles. */
    r->server.busy_ns = 115 * S;
    cpl_verdict_of(&v, r);
    assert_true(v.valid && v.beyond);
    assert_string_equal(v.reasons, "");
    assert_non_null(strstr(v.note, "beyond capacity: the queue grew"));
    assert_false(cpl_verdict_percentile(&v, 0.5, 600, why));
    assert_non_null(strstr(why, "beyond capacity"));
    near(v.highest, 0, 0);
    /* A server that tells nothing of itself and answers fewer than are sent. */
    r->server.known = false;
    r->offered = 12;
    cpl_verdict_of(&v, r);
    assert_true(v.valid && v.beyond);
    /* Refusals alone are the server's word; other failures are not. */
    r->measure.latency_drift_ratio = 1;
    r->measure.failed = 50;
    r->error_kinds = 1;
    r->errors[0] = (cpl_load_errors){.code = CPL_GRPC_RESOURCE_EXHAUSTED, .count = 50};
    cpl_verdict_of(&v, r);
    assert_true(v.valid && v.beyond);
    r->errors[0].code = CPL_GRPC_UNAVAILABLE;
    cpl_verdict_of(&v, r);
    assert_true(!v.valid && !v.beyond && !v.again);
    free(r);
}

static void chance_is_no_growth(void **state)
{
    (void)state;
    char why[CPL_PERCENTILE_WHY];
    cpl_verdict v;
    cpl_load_result *r = by_schedule(10, 40, 20); /* the last third took twice as long, but nothing grew */
    r->offered = 20;
    cpl_verdict_of(&v, r);
    assert_true(v.valid && !v.beyond);
    assert_true(cpl_verdict_percentile(&v, 0.99, 600, why));
    assert_string_equal(why, "");
    assert_false(cpl_verdict_percentile(&v, 0.999, 600, why));
    assert_string_equal(why, "needs 4603 samples, has 600");
    near(v.highest, 0.99, 0);
    free(r);
    r = by_schedule(10, 20, 30);
    cpl_sample few[60];
    for (size_t i = 0; i < 60; i++) few[i] = (cpl_sample){i * S, i * S, i * S + (i + 1) * 1000000, true, true};
    assert_int_equal(cpl_measure_samples(&r->measure, few, 60, 0, 60 * S, 1, true, NULL), CPL_OK);
    r->offered = 1;
    cpl_verdict_of(&v, r);
    assert_true(v.valid);
    assert_non_null(strstr(v.note, "too few requests to see whether the queue grew"));
    free(r);
}

/* What another try may mend, and what it won't. */
static void unrest_is_told_apart(void **state)
{
    (void)state;
    cpl_verdict v;
    cpl_load_result *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->concurrency = 1;
    r->measure = (cpl_measure){.requests = 1000, .seconds = 10, .in_flight_mean = 1, .drift_ratio = 1.5};
    cpl_verdict_of(&v, r);
    assert_true(!v.valid && v.again);
    r->measure.failed = 100;
    cpl_verdict_of(&v, r);
    assert_true(!v.valid && !v.again);
    r->measure.failed = 0;
    r->measure.drift_ratio = 0; /* too short: the next would be as short */
    cpl_verdict_of(&v, r);
    assert_true(!v.valid && !v.again);
    free(r);
}

static void nothing_measured(void **state)
{
    (void)state;
    cpl_measure *m = measure(NULL, 0, 0, 0, 1);
    assert_int_equal(m->requests, 0);
    free(m);
    cpl_sample s = {0, 0, S, false, true};
    m = measure(&s, 1, S, S, 1);
    assert_int_equal(m->requests, 0);
    near(m->seconds, 0, 0);
    free(m);
}

/* The deepest moment against counting at every start, over random logs. */
static void deepest_moment(void **state)
{
    (void)state;
    unsigned seed = 20240607;
    print_message("seed %u\n", seed);
    srand(seed);
    for (int world = 0; world < 200; world++) {
        cpl_sample s[40];
        uint64_t from = 1000, to = 3000;
        for (int i = 0; i < 40; i++) {
            uint64_t start = (uint64_t)(rand() % 4000), length = 1 + (uint64_t)(rand() % 900);
            s[i] = (cpl_sample){start, start, start + length, true, true};
        }
        uint32_t most = 0;
        for (uint64_t at = from; at < to; at++) {
            uint32_t now = 0;
            for (int i = 0; i < 40; i++) now += s[i].sent_ns <= at && at < s[i].done_ns;
            if (now > most) most = now;
        }
        cpl_measure *m = measure(s, 40, from, to, 1);
        assert_int_equal(m->in_flight_max, most);
        free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(medians_and_percentiles),
        cmocka_unit_test(student_interval),
        cmocka_unit_test(ratio_pairs_rounds),
        cmocka_unit_test(samples_for_percentiles),
        cmocka_unit_test(steady_load),
        cmocka_unit_test(long_requests_are_spread),
        cmocka_unit_test(short_runs_have_short_windows),
        cmocka_unit_test(failures_count_apart),
        cmocka_unit_test(waiting_to_send),
        cmocka_unit_test(a_slower_third_shows),
        cmocka_unit_test(more_than_the_server_takes),
        cmocka_unit_test(chance_is_no_growth),
        cmocka_unit_test(unrest_is_told_apart),
        cmocka_unit_test(nothing_measured),
        cmocka_unit_test(deepest_moment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
