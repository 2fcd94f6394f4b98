/* SPDX-License-Identifier: Apache-2.0 */
/* The sliding minute under a turned clock: what is younger than 55 s counts, what is older than 60 s doesn't, totals
 * never forget, and several threads may add while one merges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "base/thread.h"
#include "wire/window.h"

#define S UINT64_C(1000000000)

static cpl_window_sum *merged(cpl_window *w, uint64_t now_ns)
{
    cpl_window_sum *sum = calloc(1, sizeof *sum);
    assert_non_null(sum);
    cpl_window_merge(sum, w, now_ns);
    return sum;
}

static void test_slides(void **state)
{
    (void)state;
    cpl_window *w;
    uint64_t t0 = 1003 * S;
    assert_int_equal(cpl_window_open(&w, t0, NULL), CPL_OK);
    cpl_window_sum *sum = merged(w, t0);
    assert_int_equal(sum->requests, 0);
    assert_int_equal(sum->recent_requests, 0);
    free(sum);
    for (int second = 0; second < 300; second++) cpl_window_add(w, t0 + (uint64_t)second * S, (uint64_t)second + 1, 2);
    sum = merged(w, t0 + 299 * S);
    assert_int_equal(sum->requests, 300);
    assert_int_equal(sum->pairs, 600);
    assert_in_range(sum->recent_requests, 55, 60);
    assert_int_equal(sum->recent_pairs, 2 * sum->recent_requests);
    assert_in_range(sum->recent_ns, 55 * S, 60 * S);
    assert_int_equal(sum->latency_ns.count, sum->recent_requests);
    assert_int_equal(sum->latency_ns.max, 300);
    assert_in_range(sum->latency_ns.min, 300 - 60, 300 - 54);
    free(sum);
    /* Long silence: nothing recent is left, the ring's old slots don't come back. */
    for (uint64_t gap = 61; gap < 700; gap += 7) {
        sum = merged(w, t0 + (299 + gap) * S);
        assert_int_equal(sum->recent_requests, 0);
        assert_int_equal(sum->requests, 300);
        free(sum);
    }
    cpl_window_close(w);
}

static void test_young(void **state)
{
    (void)state;
    cpl_window *w;
    assert_int_equal(cpl_window_open(&w, 7 * S, NULL), CPL_OK);
    cpl_window_add(w, 9 * S, 5, 3);
    cpl_window_sum *sum = merged(w, 11 * S);
    assert_int_equal(sum->recent_ns, 4 * S);
    assert_int_equal(sum->recent_pairs, 3);
    free(sum);
    cpl_window_close(w);
}

static void adder(void *arg)
{
    cpl_window *w = arg;
    for (uint64_t i = 0; i < 20000; i++) cpl_window_add(w, i * 10000000, i, 1);
}

static void test_threads(void **state)
{
    (void)state;
    cpl_window *w;
    cpl_thread threads[3] = {{0}};
    assert_int_equal(cpl_window_open(&w, 0, NULL), CPL_OK);
    for (int i = 0; i < 3; i++) assert_int_equal(cpl_thread_start(&threads[i], "adder", -1, adder, w, NULL), CPL_OK);
    for (int i = 0; i < 20; i++) free(merged(w, 100 * S));
    for (int i = 0; i < 3; i++) cpl_thread_join(&threads[i]);
    cpl_window_sum *sum = merged(w, 199 * S);
    assert_int_equal(sum->requests, 60000);
    free(sum);
    cpl_window_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slides),
        cmocka_unit_test(test_young),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
