/* SPDX-License-Identifier: Apache-2.0 */
/* Dialects against themselves, the null server, and the generator's clock under simulated time. No time is asserted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "load/scenario.h"
#include "load/schedule.h"
#include "load/selftest.h"
#include "load/verdict.h"

/* ---- dialects ------------------------------------------------------------------------------------------------------
 */

static void what_a_dialect_answers_it_takes(void **state)
{
    (void)state;
    cpl_error err;
    for (size_t k = 0; cpl_dialects()[k]; k++) {
        const cpl_dialect *d = cpl_dialects()[k];
        for (size_t n = 1; n < 200; n += n < 5 ? 1 : 61) {
            cpl_buf reply = {0};
            d->answer(n, &reply);
            const uint8_t *data = (const uint8_t *)reply.data;
            if (d->check(data, reply.size, n, &err)) fail_msg("%s of %zu: %s", d->name, n, err.what);
            /* A vector list for n pairs is one for 2 n - 1 as well (one query); otherwise the number decides. */
            assert_int_equal(d->check(data, reply.size, 3 * n, &err), CPL_CORRUPT);
            if (n > 2) assert_int_equal(d->check(data, reply.size, n - 1, &err), CPL_CORRUPT);
            for (size_t cut = 1; cut < 40 && cut < reply.size; cut++)
                if (d->check(data, reply.size - cut, n, &err) == CPL_OK && !strchr("]}", data[reply.size - cut]))
                    assert_true(!strcmp(d->name, "couplet-grpc") &&
                                (cut == 2 || cut == 3)); /* num_pairs, which the scores repeat */
            cpl_buf_deinit(&reply);
        }
    }
}

static void against_the_null_server(void **state)
{
    (void)state;
    cpl_error err;
    cpl_shape shape;
    cpl_pool *pool;
    assert_int_equal(cpl_shape_parse(&shape, "20", 3, 0, NULL), CPL_OK);
    assert_int_equal(cpl_pool_open_shaped(&pool, NULL, &shape, 1, 300, NULL), CPL_OK);
    for (size_t k = 0; cpl_dialects()[k]; k++) {
        cpl_workload *w;
        cpl_selftest t;
        if (cpl_workload_open_model(&w, pool, cpl_dialects()[k], "m", 3, 0, &err)) fail_msg("%s", err.what);
        for (int open = 0; open < 2; open++) {
            cpl_load_run_options o = {.target = "nowhere:1",
                                      .scenario = open ? &cpl_scenario_poisson : &cpl_scenario_closed,
                                      .concurrency = open ? 0 : 4,
                                      .rate = 800,
                                      .requests = 10};
            if (cpl_selftest_run(&t, &o, w, &err)) fail_msg("%s: %s", cpl_dialects()[k]->name, err.what);
            assert_true(t.ran && t.open == open);
            assert_true(t.requests_per_s > 0 && t.cpu_us > 0);
            if (open) assert_true(t.achieved > 0 && t.lag_p99_ms >= t.lag_p50_ms);
        }
        cpl_workload_close(w);
    }
    cpl_pool_close(pool);
}

static void the_verdict_hears_the_self_test(void **state)
{
    (void)state;
    cpl_load_result *r = calloc(1, sizeof *r);
    cpl_verdict v;
    assert_non_null(r);
    r->open = true;
    r->measure.requests = 1000;
    r->measure.seconds = 1;
    r->selftest = (cpl_selftest){.ran = true, .open = true, .requests_per_s = 2500, .achieved = 1};
    cpl_verdict_of(&v, r);
    assert_true(v.valid);
    r->selftest.requests_per_s = 1900;
    cpl_verdict_of(&v, r);
    assert_false(v.valid);
    assert_non_null(strstr(v.reasons, "53 % of what the generator does against a null server"));
    r->selftest = (cpl_selftest){.ran = true, .open = true, .requests_per_s = 2500, .achieved = 0.8};
    cpl_verdict_of(&v, r);
    assert_non_null(strstr(v.reasons, "kept only 80 % of its schedule"));
    free(r);
}

/* ---- simulated time ------------------------------------------------------------------------------------------------
 */

enum { SERVICE_NS = 200000, STALL_NS = 50000000, RATE = 1000, N = 2000 };

/* A server of one worker that stands still for STALL_NS from `stall_ns` on. */
static uint64_t serve(uint64_t arrives_ns, uint64_t *free_ns, uint64_t stall_ns)
{
    uint64_t start = arrives_ns > *free_ns ? arrives_ns : *free_ns;
    if (start >= stall_ns && start < stall_ns + STALL_NS) start = stall_ns + STALL_NS;
    if (start < stall_ns && start + SERVICE_NS > stall_ns) start += STALL_NS; /* it comes in the middle of one */
    *free_ns = start + SERVICE_NS;
    return *free_ns;
}

static int by_size(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* A stall of 50 ms in two seconds at 1,000 a second: one request in forty was due in it, so p99 must show most of it,
 * to the histogram's 0.4 %; and the same server under a closed loop of one hides it, which is why nobody should be
 * shown that as a user's latency. */
static void a_stall_is_in_p99(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        static cpl_sample samples[N];
        static uint64_t exact[N];
        cpl_measure *m = malloc(sizeof *m);
        cpl_schedule s;
        uint64_t free_ns = 0;
        const uint64_t stall_ns = 300000000 + cpl_seed_for(seed, CPL_SEED_ORDER) % 7 * 200000000;
        assert_non_null(m);
        cpl_schedule_init(&s, seed % 2 ? CPL_ARRIVALS_POISSON : CPL_ARRIVALS_CONSTANT, RATE, seed, NULL);
        for (size_t i = 0; i < N; i++) {
            const uint64_t due = cpl_schedule_next(&s) + 1;
            samples[i] = (cpl_sample){due, due, serve(due, &free_ns, stall_ns), true, true};
            exact[i] = samples[i].done_ns - due;
        }
        assert_int_equal(cpl_measure_samples(m, samples, N, 1, samples[N - 1].due_ns + 1, 1, true, NULL), CPL_OK);
        qsort(exact, N, sizeof *exact, by_size);
        const double truth = (double)exact[N * 99 / 100 - 1], said = (double)cpl_histogram_at(&m->latency_ns, 0.99);
        if (truth < 15e6 || truth > STALL_NS + 20e6) fail_msg("seed %lu: the simulation itself says %g", seed, truth);
        if (said < truth * 0.995 || said > truth * 1.005) fail_msg("seed %lu: p99 %g, really %g", seed, said, truth);
        /* Closed: the next is sent when the last is answered. */
        uint64_t now = 1;
        free_ns = 0;
        for (size_t i = 0; i < N; i++) {
            samples[i] = (cpl_sample){now, now, serve(now, &free_ns, 100000000), true, true};
            now = samples[i].done_ns;
        }
        assert_int_equal(cpl_measure_samples(m, samples, N, 1, now, 1, false, NULL), CPL_OK);
        assert_true(cpl_histogram_at(&m->latency_ns, 0.99) < 2 * SERVICE_NS);
        assert_true(cpl_histogram_at(&m->latency_ns, 1) >= STALL_NS);
        free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_dialect_answers_it_takes),
        cmocka_unit_test(against_the_null_server),
        cmocka_unit_test(the_verdict_hears_the_self_test),
        cmocka_unit_test(a_stall_is_in_p99),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
