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
#include "base/flat_json.h"
#include "base/json.h"
#include "base/random.h"
#include "base/records.h"
#include "base/utf8.h"

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

/* What the quick reader accepts is what jansson reads; what it doesn't it leaves alone. Lines are mutated from ones it
 * knows and ones it doesn't. */
static void flat_objects_are_read_as_jansson_does(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "{\"query\": \"what is \\u00e9\\ud83d\\ude00\", \"document\": \"a \\\"b\\\" \\\\ c\\n\xC3\xA4\"}",
        "{\"id\":17,\"query\":\"\",\"document\":\"\\u0000x\",\"label\":null,\"t\":true,\"s\":\"v\"}",
        " { \"document\" : \"d\" , \"query\" : \"q\" } ",
        "{\"query\":\"a\",\"document\":\"b\",\"query\":\"c\"}",
        "{\"query\":\"a\",\"document\":\"b\",\"x\":[1],\"y\":{\"query\":\"n\"}}",
        "{\"query\":\"a\\ud800\",\"document\":\"b\",\"x\":01,\"y\":-1.5e3}",
    };
    static const char bits[] = "\"\\{}:,ue0d8 \t\x01[]n1";
    static const char *const keys[] = {"query", "document"};
    uint64_t seed = 7;
    uint32_t taken = 0;
    print_message("seed %llu\n", (unsigned long long)seed);
    for (uint32_t round = 0; round < 60000; round++) {
        char line[256];
        const char *from = lines[round % 6];
        size_t n = strlen(from);
        memcpy(line, from, n);
        for (uint64_t k = round < 6 ? 0 : cpl_random_next(&seed) % 4; k; k--)
            line[cpl_random_next(&seed) % n] = bits[cpl_random_next(&seed) % (sizeof bits - 1)];
        if (cpl_utf8_valid_prefix(line, n) < n) continue;
        cpl_buf a = {0}, b = {0};
        cpl_buf *const out[] = {&a, &b};
        cpl_buf_text(&a, "before");
        if (cpl_flat_json_take(line, n, keys, 2, out)) {
            cpl_error e;
            json_t *object = NULL;
            taken++;
            if (cpl_json_parse(&object, "line", line, n, &e)) fail_msg("'%.*s' taken, but: %s", (int)n, line, e.what);
            for (size_t k = 0; k < 2; k++) {
                const json_t *v = json_object_get(object, keys[k]);
                size_t skip = k ? 0 : 6;
                assert_true(json_is_string(v));
                assert_int_equal(out[k]->size - skip, json_string_length(v));
                if (out[k]->size > skip)
                    assert_memory_equal(out[k]->data + skip, json_string_value(v), out[k]->size - skip);
            }
            json_decref(object);
        } else {
            assert_string_equal(a.data, "before");
            assert_int_equal(b.size, 0);
        }
        cpl_buf_deinit(&a);
        cpl_buf_deinit(&b);
    }
    assert_in_range(taken, 5000, 50000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tsv_pairs),
        cmocka_unit_test(jsonl_pairs_and_texts),
        cmocka_unit_test(bad_records_name_their_line),
        cmocka_unit_test(flat_objects_are_read_as_jansson_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
