/* SPDX-License-Identifier: Apache-2.0 */
/* test_generator.c - the same text for the same seed, no line twice, and (where the real tokenizer is there) the
 * lengths that generator.h promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "text/generator.h"
#include "text/tokenizer.h"

enum { PAIRS = 4000 };

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static uint64_t hash(const cpl_buf *b)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < b->size; i++) h = (h ^ (uint8_t)b->data[i]) * 0x100000001B3u;
    return h;
}

static void deterministic_and_distinct(void **state)
{
    (void)state;
    static uint64_t queries[PAIRS], documents[PAIRS];
    uint64_t all = 0;
    cpl_text_generator g;
    cpl_buf q = {0}, d = {0};
    cpl_text_generator_init(&g, 42);
    for (size_t i = 0; i < PAIRS; i++) {
        cpl_buf_clear(&q);
        cpl_buf_clear(&d);
        assert_int_equal(cpl_text_generator_pair(&g, &q, &d, NULL), CPL_OK);
        for (size_t k = 0; k < d.size; k++) assert_true(d.data[k] >= ' ' && d.data[k] < 0x7F);
        for (size_t k = 0; k < q.size; k++) assert_true(q.data[k] >= ' ' && q.data[k] < 0x7F);
        queries[i] = hash(&q);
        documents[i] = hash(&d);
        all = all * 31 + queries[i] + documents[i];
    }
    assert_int_equal(all, 0xC76F7D73F9C1FA4u);
    qsort(queries, PAIRS, sizeof *queries, by_value);
    qsort(documents, PAIRS, sizeof *documents, by_value);
    for (size_t i = 1; i < PAIRS; i++) assert_true(queries[i] != queries[i - 1] && documents[i] != documents[i - 1]);
    cpl_buf_deinit(&q);
    cpl_buf_deinit(&d);
}

static void lengths(void **state)
{
    (void)state;
    static uint64_t tokens[PAIRS];
    cpl_tokenizer *t = NULL;
    cpl_tokenizer_scratch *s = NULL;
    cpl_error err = {0};
    if (!cpl_file_exists("models/all-MiniLM-L6-v2/tokenizer.json")) {
        print_message("skipped: no models/all-MiniLM-L6-v2 here (make model fetches it)\n");
        skip();
    }
    if (cpl_tokenizer_open(&t, "models/all-MiniLM-L6-v2", &err)) fail_msg("%s", err.what);
    assert_int_equal(cpl_tokenizer_scratch_open(&s, &err), CPL_OK);
    cpl_text_generator g;
    cpl_buf q = {0}, d = {0};
    double sum = 0, asked = 0;
    cpl_text_generator_init(&g, 7);
    for (size_t i = 0; i < PAIRS; i++) {
        size_t n = 0, m = 0;
        cpl_buf_clear(&q);
        cpl_buf_clear(&d);
        assert_int_equal(cpl_text_generator_pair(&g, &q, &d, &err), CPL_OK);
        assert_int_equal(cpl_tokenizer_count(t, s, (cpl_text){q.data, q.size}, &n, &err), CPL_OK);
        assert_int_equal(cpl_tokenizer_count(t, s, (cpl_text){d.data, d.size}, &m, &err), CPL_OK);
        tokens[i] = n + m + 3;
        sum += (double)tokens[i];
        asked += (double)n;
    }
    qsort(tokens, PAIRS, sizeof *tokens, by_value);
    unsigned median = (unsigned)tokens[PAIRS / 2], p95 = (unsigned)tokens[PAIRS * 95 / 100];
    print_message("tokens a pair: mean %.1f, median %u, p95 %u, %u to %u; a query %.1f\n", sum / PAIRS, median, p95,
                  (unsigned)tokens[0], (unsigned)tokens[PAIRS - 1], asked / PAIRS);
    assert_true(sum / PAIRS > 98 && sum / PAIRS < 108);
    assert_true(median >= 96 && median <= 105 && p95 >= 148 && p95 <= 166);
    assert_true(tokens[0] >= 16 && tokens[PAIRS - 1] <= 256 && asked / PAIRS > 7 && asked / PAIRS < 9);
    cpl_buf_deinit(&q);
    cpl_buf_deinit(&d);
    cpl_tokenizer_scratch_close(s);
    cpl_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(deterministic_and_distinct), cmocka_unit_test(lengths)};
    return cmocka_run_group_tests_name("text generator", tests, NULL, NULL);
}
