/* SPDX-License-Identifier: Apache-2.0 */
/* test_records.c - pairs and texts from TSV and JSON lines; repair; errors with their line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/records.h"

static char path[64];

static void put(const char *ending, const char *data, size_t n)
{
    cpl_error e;
    snprintf(path, sizeof path, "/tmp/couplet-records-%ld%s", (long)getpid(), ending);
    assert_int_equal(cpl_file_write(path, data, n, &e), CPL_OK);
}

static void expect(cpl_records *r, const char *first, size_t first_size, const char *second)
{
    cpl_error e;
    cpl_buf a = {0}, b = {0};
    bool end;
    assert_int_equal(cpl_records_next(r, &a, &b, &end, &e), CPL_OK);
    assert_false(end);
    assert_int_equal(a.size, first_size);
    if (first_size) assert_memory_equal(a.data, first, first_size);
    assert_int_equal(b.size, strlen(second));
    if (b.size) assert_memory_equal(b.data, second, b.size);
    cpl_buf_deinit(&a);
    cpl_buf_deinit(&b);
}

static void expect_end(cpl_records *r)
{
    cpl_error e;
    cpl_buf a = {0}, b = {0};
    bool end = false;
    assert_int_equal(cpl_records_next(r, &a, &b, &end, &e), CPL_OK);
    assert_true(end);
    cpl_buf_deinit(&a);
    cpl_buf_deinit(&b);
}

static void tsv_pairs(void **state)
{
    (void)state;
    cpl_error e;
    cpl_records *r;
    put(".tsv", "q\td\te\n\t\nbad\xFFq\tx", 15);
    assert_int_equal(cpl_records_open(&r, path, CPL_RECORDS_BY_NAME, true, &e), CPL_OK);
    expect(r, "q", 1, "d\te");
    expect(r, "", 0, "");
    expect(r, "bad\xEF\xBF\xBDq", 7, "x");
    expect_end(r);
    assert_int_equal(cpl_records_repaired(r), 1);
    cpl_records_close(r);
    unlink(path);
}

static void jsonl_pairs_and_texts(void **state)
{
    (void)state;
    cpl_error e;
    cpl_records *r;
    static const char pairs[] =
        "{\"query\":\"a\\u0000b\",\"document\":\"\\u00e4\",\"id\":7}\n \t\n{\"document\":\"\",\"query\":\"\"}";
    put(".jsonl", pairs, sizeof pairs - 1);
    assert_int_equal(cpl_records_open(&r, path, CPL_RECORDS_BY_NAME, true, &e), CPL_OK);
    expect(r, "a\0b", 3, "\xC3\xA4");
    expect(r, "", 0, "");
    expect_end(r);
    cpl_records_close(r);
    unlink(path);
    put(".txt", "{\"text\":\"t\"}\n", 13);
    assert_int_equal(cpl_records_open(&r, path, CPL_RECORDS_JSONL, false, &e), CPL_OK);
    expect(r, "t", 1, "");
    expect_end(r);
    cpl_records_close(r);
    assert_int_equal(cpl_records_open(&r, path, CPL_RECORDS_BY_NAME, false, &e), CPL_OK);
    expect(r, "{\"text\":\"t\"}", 12, "");
    cpl_records_close(r);
    unlink(path);
}

static void bad_records_name_their_line(void **state)
{
    (void)state;
    static const struct {
        const char *ending, *data, *says;
    } cases[] = {
        {".tsv", "a\tb\nno tab here\n", ":2: expected query<TAB>document"},
        {".jsonl", "{\"query\":\"a\",\"document\":\"b\"}\n{\"query\":\"a\"}\n",
         ":2: expected a JSON object with a string \"document\""},
        {".jsonl", "{\"query\":\"a\",\"document\":\"b\"}\n\n[1]\n", ":3: expected a JSON object"},
        {".jsonl", "{\"query\":\"a\",\"document\":\"b\"}\n{\"query\":\n", ":2: "},
        {".jsonl", "{\"query\":\"a\",\"document\":\"b\"}\n{\"query\":3,\"document\":\"\"}", "\"query\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cpl_error e;
        cpl_records *r;
        cpl_buf a = {0}, b = {0};
        bool end;
        put(cases[i].ending, cases[i].data, strlen(cases[i].data));
        assert_int_equal(cpl_records_open(&r, path, CPL_RECORDS_BY_NAME, true, &e), CPL_OK);
        assert_int_equal(cpl_records_next(r, &a, &b, &end, &e), CPL_OK);
        assert_int_equal(cpl_records_next(r, &a, &b, &end, &e), CPL_INVALID);
        if (!strstr(e.what, cases[i].says)) fail_msg("case %zu: '%s' lacks '%s'", i, e.what, cases[i].says);
        cpl_records_close(r);
        cpl_buf_deinit(&a);
        cpl_buf_deinit(&b);
        unlink(path);
    }
    cpl_record_format f;
    cpl_error e;
    assert_int_equal(cpl_record_format_parse(&f, "csv", &e), CPL_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tsv_pairs),
        cmocka_unit_test(jsonl_pairs_and_texts),
        cmocka_unit_test(bad_records_name_their_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
