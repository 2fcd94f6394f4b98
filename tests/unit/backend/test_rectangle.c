/* SPDX-License-Identifier: Apache-2.0 */
/* test_rectangle.c - random batches cut into rectangles: every sequence once, limits kept, tokens unchanged, padding
 * counted right, and worth it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backend/rectangle.h"
#include "seed.h"

enum { N_MAX = 200, LENGTH_MAX = 64, CELLS = N_MAX * (LENGTH_MAX + 16) };

static uint64_t state_of_random;

static uint32_t below(uint32_t n) { return test_below(&state_of_random, n); }

static int32_t ids[N_MAX * LENGTH_MAX];
static uint8_t types[N_MAX * LENGTH_MAX];
static uint32_t cu[N_MAX + 1], order[N_MAX];
static cpl_rectangle rectangles[N_MAX];
static int64_t out_ids[CELLS], out_types[CELLS], out_mask[CELLS];

static void make_batch(cpl_batch *b)
{
    *b = (cpl_batch){ids, types, cu, 1 + below(N_MAX), 0, CPL_WANT_LOGITS};
    for (uint32_t i = 0; i < b->n; i++) cu[i + 1] = cu[i] + 1 + below(LENGTH_MAX);
    for (uint32_t k = 0; k < cu[b->n]; k++) {
        ids[k] = 1 + (int32_t)below(1000);
        types[k] = (uint8_t)below(2);
    }
}

static void check_rectangle(const cpl_rectangle_plan *p, uint32_t at, const cpl_batch *b, uint8_t *seen)
{
    const cpl_rectangle *r = &p->rectangles[at];
    cpl_rectangle_tensors t = {out_ids, out_types, out_mask};
    assert_true((size_t)r->rows * r->width <= CELLS);
    cpl_rectangle_fill(p, at, b, -7, &t);
    for (uint32_t row = 0; row < r->rows; row++) {
        uint32_t i = p->order[r->first + row], n = cu[i + 1] - cu[i];
        assert_int_equal(seen[i]++, 0);
        assert_true(n <= r->width);
        for (uint32_t k = 0; k < r->width; k++) {
            size_t cell = (size_t)row * r->width + k;
            assert_int_equal(out_mask[cell], k < n);
            assert_int_equal(out_ids[cell], k < n ? ids[cu[i] + k] : -7);
            assert_int_equal(out_types[cell], k < n ? types[cu[i] + k] : 0);
        }
    }
}

static void random_batches(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        state_of_random = seed;
        cpl_batch b;
        make_batch(&b);
        cpl_rectangle_limits l = {.rows_max = below(2) ? 1 + below(20) : 0,
                                  .tokens_max = below(2) ? 1 + below(500) : 0,
                                  .width_multiple = below(2) ? 1 + below(16) : 0,
                                  .launch_tokens = below(2) ? below(300) : 0};
        cpl_rectangle_plan p = {.order = order, .rectangles = rectangles, .n_max = N_MAX};
        assert_int_equal(cpl_rectangles.make(&p, &b, &l, NULL), CPL_OK);
        uint8_t seen[N_MAX] = {0};
        uint64_t cells = 0, padding = 0;
        uint32_t rows = 0;
        for (uint32_t i = 0; i < p.count; i++) {
            const cpl_rectangle *r = &p.rectangles[i];
            check_rectangle(&p, i, &b, seen);
            assert_int_equal(r->first, rows);
            assert_true(!l.rows_max || r->rows <= l.rows_max);
            assert_true(!l.tokens_max || r->rows == 1 || (uint64_t)r->rows * r->width <= l.tokens_max);
            assert_true(!l.width_multiple || r->width % l.width_multiple == 0);
            rows += r->rows;
            cells += (uint64_t)r->rows * r->width;
        }
        padding = cells - cu[b.n];
        assert_int_equal(rows, b.n);
        assert_int_equal(p.tokens_real, cu[b.n]);
        assert_int_equal(p.tokens_padding, padding);
        if (!l.launch_tokens && !l.width_multiple) assert_int_equal(padding, 0);
    }
}

static void equal_lengths_make_one(void **state)
{
    (void)state;
    cpl_batch b = {ids, types, cu, 40, 10, CPL_WANT_POOLED};
    for (uint32_t i = 0; i < 40; i++) cu[i + 1] = cu[i] + (i < 20 ? 10 : 40);
    cpl_rectangle_limits l = {.launch_tokens = 100};
    cpl_rectangle_plan p = {.order = order, .rectangles = rectangles, .n_max = N_MAX};
    assert_int_equal(cpl_rectangle_plan_make(&p, &b, &l, NULL), CPL_OK);
    assert_int_equal(p.count, 2); /* up to three of the short ones ride along: 3 x 30 <= 100 */
    assert_int_equal(p.rectangles[0].rows, 23);
    assert_int_equal(p.tokens_padding, 90);
    assert_int_equal(p.order[0], 20); /* equal lengths stay in order */
    p.n_max = 39;
    cpl_error err;
    assert_int_equal(cpl_rectangle_plan_make(&p, &b, &l, &err), CPL_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_batches), cmocka_unit_test(equal_lengths_make_one)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
