/* SPDX-License-Identifier: Apache-2.0 */
/* Rank statistics against values that scipy.stats gives, against a count over all pairs, and by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "load/agreement.h"

static bool near(double got, double want, double error) { return fabs(got - want) <= error; }

static double spearman(const double *a, const double *b, size_t n)
{
    double v;
    assert_int_equal(cpl_spearman(&v, a, b, n, NULL), CPL_OK);
    return v;
}

static double kendall(const double *a, const double *b, size_t n)
{
    double v;
    assert_int_equal(cpl_kendall(&v, a, b, n, NULL), CPL_OK);
    return v;
}

static void known_values(void **state)
{
    (void)state;
    /* scipy.stats.spearmanr and kendalltau (tau-b) of the same lists */
    const double a[] = {1, 2, 2, 3, 5, 4}, b[] = {2, 1, 4, 4, 3, 6};
    assert_true(near(spearman(a, b, 6), 0.4852941176470589, 1e-12));
    assert_true(near(kendall(a, b, 6), 0.35714285714285715, 1e-12));
    const double c[] = {1, 2, 3, 4, 5}, d[] = {5, 6, 7, 8, 7};
    assert_true(near(spearman(c, d, 5), 0.8207826816681233, 1e-12));
    assert_true(near(kendall(c, d, 5), 0.7378647873726218, 1e-12));
    const double e[] = {12, 2, 1, 12, 2}, f[] = {1, 4, 7, 1, 0};
    assert_true(near(spearman(e, f, 5), -0.5407380704358752, 1e-12));
    assert_true(near(kendall(e, f, 5), -0.4714045207910316, 1e-12));
}

static void extremes(void **state)
{
    (void)state;
    const double up[] = {1, 2, 3, 4}, down[] = {4, 3, 2, 1}, flat[] = {7, 7, 7, 7}, bad[] = {1, NAN, 2, 3};
    assert_true(spearman(up, up, 4) == 1 && kendall(up, up, 4) == 1);
    assert_true(spearman(up, down, 4) == -1 && kendall(up, down, 4) == -1);
    assert_true(isnan(spearman(up, flat, 4)) && isnan(kendall(flat, up, 4)));
    assert_true(isnan(spearman(up, up, 1)) && isnan(kendall(up, up, 0)));
    assert_true(isnan(spearman(up, bad, 4)) && isnan(kendall(bad, up, 4)));
}

/* tau-b by its definition, over all pairs. */
static double kendall_of_pairs(const double *a, const double *b, size_t n)
{
    double balance = 0, only_a = 0, only_b = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < i; j++) {
            int x = (a[i] > a[j]) - (a[i] < a[j]), y = (b[i] > b[j]) - (b[i] < b[j]);
            balance += x * y;
            only_a += x != 0;
            only_b += y != 0;
        }
    }
    return balance / sqrt(only_a * only_b);
}

static void random_lists_with_ties(void **state)
{
    (void)state;
    double a[300], b[300];
    for (uint64_t seed = 1; seed <= 200; seed++) {
        uint64_t s = seed;
        size_t n = 2 + cpl_random_next(&s) % 299;
        uint64_t kinds = 2 + cpl_random_next(&s) % 400;
        for (size_t i = 0; i < n; i++) {
            a[i] = (double)(cpl_random_next(&s) % kinds);
            b[i] = seed % 2 ? a[i] + (double)(cpl_random_next(&s) % 5) : (double)(cpl_random_next(&s) % kinds);
        }
        double want = kendall_of_pairs(a, b, n), got = kendall(a, b, n);
        if (!(fabs(want - got) < 1e-12) && !(isnan(want) && isnan(got)))
            fail_msg("seed %d: %.15g, by all pairs %.15g", (int)seed, got, want);
    }
}

static void differences(void **state)
{
    (void)state;
    const double a[] = {1, 3, 5, 7}, b[] = {1.5, 3, 4, 7};
    cpl_differences d = cpl_differences_of(a, b, 4);
    assert_true(near(d.max_abs, 1, 0));
    assert_true(near(d.mean_abs, 0.375, 1e-15));
    assert_true(near(d.deviation, sqrt(5), 1e-15));
    const double lost[] = {1, NAN, 5, 7};
    d = cpl_differences_of(a, lost, 4);
    assert_true(isnan(d.max_abs) && isnan(d.mean_abs)); /* a NaN score must show */
}

static void cosines(void **state)
{
    (void)state;
    const float x[] = {3, 4, 0}, y[] = {4, 3, 0}, z[] = {0, 0, 0};
    assert_true(near(cpl_cosine(x, y, 3), 24.0 / 25, 1e-15));
    assert_true(cpl_cosine(x, x, 3) == 1);
    assert_true(isnan(cpl_cosine(x, z, 3)));
}

static void rankings(void **state)
{
    (void)state;
    const double reference[] = {0.1, 0.9, 0.5, 0.3}, swapped[] = {0.1, 0.5, 0.9, 0.3}, flat[] = {1, 1, 1, 1};
    assert_true(cpl_ndcg(reference, reference, 4, 10) == 1);
    /* gains 4 3 2 1; with k = 2, 2 1 0 0: best first two exchanged */
    double second = 1 / log2(3);
    assert_true(near(cpl_ndcg(reference, swapped, 4, 2), (1 + 2 * second) / (2 + second), 1e-15));
    assert_true(near(cpl_ndcg(reference, flat, 4, 2), (0 + 2 * second) / (2 + second), 1e-15));
    assert_true(cpl_reciprocal_rank(reference, 4, 1, 10) == 1);
    assert_true(cpl_reciprocal_rank(reference, 4, 3, 10) == 1.0 / 3);
    assert_true(cpl_reciprocal_rank(reference, 4, 3, 2) == 0);
    assert_true(cpl_reciprocal_rank(flat, 4, 0, 10) == 0.25); /* a tie is no success */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_values), cmocka_unit_test(extremes), cmocka_unit_test(random_lists_with_ties),
        cmocka_unit_test(differences),  cmocka_unit_test(cosines),  cmocka_unit_test(rankings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
