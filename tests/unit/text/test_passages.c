/* SPDX-License-Identifier: Apache-2.0 */
/* test_passages.c - the generated passages are the same everywhere, all different, UTF-8, and English has as many
 * different words as real passages have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/utf8.h"
#include "text/passages.h"

enum { PASSAGES = 3000, WORDS_MAX = 400000 };

static uint64_t hash(const char *p, size_t n)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ (uint8_t)p[i]) * 0x100000001B3u;
    return h;
}

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void deterministic_and_distinct(void **state)
{
    (void)state;
    static const uint64_t want[CPL_SCRIPT_COUNT] = {0x95C1076852828BBFu, 0x9177F14452F6CB34u, 0x6DD60B1FCBF21BCAu,
                                                    0xDFA44509C1938020u};
    static uint64_t lines[PASSAGES];
    static cpl_passages p;
    cpl_buf out = {0};
    for (int script = 0; script < CPL_SCRIPT_COUNT; script++) {
        uint64_t all = 0;
        size_t bytes = 0;
        cpl_passages_init(&p, 42);
        for (size_t i = 0; i < PASSAGES; i++) {
            cpl_buf_clear(&out);
            assert_int_equal(cpl_passages_next(&p, (cpl_script)script, &out, NULL), CPL_OK);
            assert_int_equal(cpl_utf8_valid_prefix(out.data, out.size), out.size);
            assert_null(memchr(out.data, '\n', out.size));
            bytes += out.size;
            lines[i] = hash(out.data, out.size);
            all = all * 31 + lines[i];
        }
        qsort(lines, PASSAGES, sizeof *lines, by_value);
        for (size_t i = 1; i < PASSAGES; i++) assert_true(lines[i] != lines[i - 1]);
        print_message("%s: mean %.0f bytes, hash %llX\n", cpl_script_name((cpl_script)script), (double)bytes / PASSAGES,
                      (unsigned long long)all);
        assert_int_equal(all, want[script]);
    }
    cpl_buf_deinit(&out);
}

/* MS MARCO: 86,949 words in 0.436 MB, punctuation apart; 50.9 % are one of the 100 most frequent, 65.5 % of the 500. */
static void word_frequencies(void **state)
{
    (void)state;
    static uint64_t words[WORDS_MAX], counts[WORDS_MAX];
    static cpl_passages p;
    cpl_buf out = {0};
    size_t n = 0, distinct = 0;
    cpl_passages_init(&p, 7);
    while (out.size < 436000) assert_int_equal(cpl_passages_next(&p, CPL_SCRIPT_ENGLISH, &out, NULL), CPL_OK);
    for (size_t i = 0, from = 0; i <= out.size; i++) {
        char c = i < out.size ? out.data[i] : ' ';
        if (c >= 'A' && c <= 'Z') out.data[i] = (char)(c + 32);
        if ((c | 32) >= 'a' && (c | 32) <= 'z') continue;
        if (i > from) words[n++] = hash(out.data + from, i - from);
        from = i + 1;
        assert_true(n < WORDS_MAX);
    }
    qsort(words, n, sizeof *words, by_value);
    for (size_t i = 0, start = 0; i < n; i++) {
        if (i + 1 < n && words[i + 1] == words[i]) continue;
        counts[distinct++] = i + 1 - start;
        start = i + 1;
    }
    qsort(counts, distinct, sizeof *counts, by_value);
    size_t hundred = 0, five_hundred = 0;
    for (size_t i = 0; i < 500; i++) {
        size_t count = (size_t)counts[distinct - 1 - i];
        hundred += i < 100 ? count : 0;
        five_hundred += count;
    }
    print_message("%zu words, %zu distinct, %.3f of the 100 most frequent, %.3f of the 500\n", n, distinct,
                  (double)hundred / (double)n, (double)five_hundred / (double)n);
    assert_true(distinct > 9000 && distinct < 13000);
    assert_true(hundred * 100 > n * 40 && hundred * 100 < n * 55 && five_hundred * 100 > n * 55 &&
                five_hundred * 100 < n * 70);
    cpl_buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(deterministic_and_distinct),
                                       cmocka_unit_test(word_frequencies)};
    return cmocka_run_group_tests_name("passages", tests, NULL, NULL);
}
