/* SPDX-License-Identifier: Apache-2.0 */
/* test_files.c - whole files, lines (plain, gzip, zstd, damaged), JSON in and out, threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/lines.h"
#include "base/thread.h"

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/couplet-test-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", dir);
    return system(command);
}

static const char *in_dir(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void files_are_written_whole(void **state)
{
    (void)state;
    cpl_error e;
    cpl_map m;
    cpl_buf b = {0};
    assert_int_equal(cpl_file_write(in_dir("f"), "hello", 5, &e), CPL_OK);
    assert_int_equal(cpl_file_map(&m, in_dir("f"), &e), CPL_OK);
    assert_int_equal(m.size, 5);
    assert_memory_equal(m.data, "hello", 5);
    cpl_file_unmap(&m);
    cpl_file_unmap(&m);
    assert_int_equal(cpl_file_read(&b, in_dir("f"), 4, &e), CPL_INVALID);
    cpl_buf_clear(&b);
    assert_int_equal(cpl_file_read(&b, in_dir("f"), 5, &e), CPL_OK);
    assert_string_equal(b.data, "hello");
    cpl_buf_deinit(&b);
    assert_int_equal(cpl_file_map(&m, in_dir("absent"), &e), CPL_NOT_FOUND);
    assert_non_null(strstr(e.what, "absent"));
    assert_int_equal(cpl_file_map(&m, dir, &e), CPL_INVALID);
    assert_int_equal(cpl_file_write(in_dir("no/such/f"), "x", 1, &e), CPL_NOT_FOUND);
    assert_int_equal(cpl_file_make_dirs(in_dir("p/q/r"), &e), CPL_OK);
    assert_true(cpl_file_exists(in_dir("p/q/r")));
    assert_int_equal(cpl_file_make_dirs(in_dir("f/g"), &e), CPL_NOT_FOUND);
    assert_int_equal(cpl_file_write(in_dir("empty"), "", 0, &e), CPL_OK);
    assert_int_equal(cpl_file_map(&m, in_dir("empty"), &e), CPL_OK);
    assert_int_equal(m.size, 0);
    cpl_file_unmap(&m);
}

static void put(const char *name, const void *data, size_t n)
{
    cpl_error e;
    assert_int_equal(cpl_file_write(in_dir(name), data, n, &e), CPL_OK);
}

static void expect_lines(const char *name, const char *const *expected, size_t count)
{
    cpl_error e;
    cpl_lines *l;
    bool end = false;
    assert_int_equal(cpl_lines_open(&l, in_dir(name), &e), CPL_OK);
    for (size_t i = 0; i < count; i++) {
        const char *line;
        size_t n;
        assert_int_equal(cpl_lines_next(l, &line, &n, &end, &e), CPL_OK);
        assert_false(end);
        assert_int_equal(n, strlen(expected[i]));
        assert_memory_equal(line, expected[i], n);
        assert_int_equal(cpl_lines_number(l), i + 1);
    }
    const char *line;
    size_t n;
    for (int again = 0; again < 2; again++) {
        assert_int_equal(cpl_lines_next(l, &line, &n, &end, &e), CPL_OK);
        assert_true(end);
    }
    cpl_lines_close(l);
}

static void put_gzip(const char *name, const char *text, const char *mode)
{
    gzFile g = gzopen(in_dir(name), mode);
    assert_non_null(g);
    assert_int_equal(gzwrite(g, text, (unsigned)strlen(text)), (int)strlen(text));
    gzclose(g);
}

static void lines_from_every_coding(void **state)
{
    (void)state;
    static const char text[] = "\xEF\xBB\xBFone\r\n\ntwo\rtwo\nlast";
    static const char *const expected[] = {"one", "", "two\rtwo", "last"};
    put("plain", text, sizeof text - 1);
    expect_lines("plain", expected, 4);
    put_gzip("gz", text, "wb");
    expect_lines("gz", expected, 4);
    char packed[256];
    size_t n = ZSTD_compress(packed, sizeof packed, text, sizeof text - 1, 3);
    put("zst", packed, n);
    expect_lines("zst", expected, 4);
    put("none", "", 0);
    expect_lines("none", expected, 0);
    /* Members and frames one after the other are one text. */
    put_gzip("members", "a\nb", "wb");
    put_gzip("members", "c\nd", "ab");
    expect_lines("members", (const char *const[]){"a", "bc", "d"}, 3);
}

static void long_lines_cross_every_boundary(void **state)
{
    (void)state;
    size_t sizes[] = {0, 1, 131071, 131072, 131073, 1, 700000, 3, 262144};
    cpl_buf text = {0};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (size_t k = 0; k < sizes[i]; k++) cpl_buf_add(&text, &(char){(char)('a' + (i + k) % 26)}, 1);
        cpl_buf_add(&text, "\n", 1);
    }
    put("long", text.data, text.size);
    cpl_error e;
    cpl_lines *l;
    assert_int_equal(cpl_lines_open(&l, in_dir("long"), &e), CPL_OK);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const char *line;
        size_t n;
        bool end;
        assert_int_equal(cpl_lines_next(l, &line, &n, &end, &e), CPL_OK);
        assert_false(end);
        assert_int_equal(n, sizes[i]);
        for (size_t k = 0; k < n; k++) assert_int_equal(line[k], 'a' + (i + k) % 26);
    }
    cpl_lines_close(l);
    cpl_buf_deinit(&text);
}

/* Cut or flipped compressed files end in an error or in fewer bytes, never in a crash or an endless loop. */
static void damaged_files_are_told(void **state)
{
    (void)state;
    cpl_error e;
    cpl_buf gz = {0};
    char text[4000];
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)(i * i % 95 + 32);
    text[sizeof text - 1] = 0;
    put_gzip("whole", text, "wb");
    assert_int_equal(cpl_file_read(&gz, in_dir("whole"), 1 << 20, &e), CPL_OK);
    for (size_t cut = 2; cut < gz.size; cut += 7) {
        put("cut", gz.data, cut);
        cpl_lines *l;
        const char *line;
        size_t n;
        bool end = false;
        cpl_status st = CPL_OK;
        assert_int_equal(cpl_lines_open(&l, in_dir("cut"), &e), CPL_OK);
        while (!st && !end) st = cpl_lines_next(l, &line, &n, &end, &e);
        assert_int_equal(st, CPL_CORRUPT);
        cpl_lines_close(l);
    }
    cpl_buf_deinit(&gz);
}

static void json_says_where_it_breaks(void **state)
{
    (void)state;
    cpl_error e;
    json_t *j;
    static const char *const broken[] = {
        "", "{", "{\"a\":1,\"a\":2}", "[1] [2]", "\"\xFF\"", "\"\\ud800\"", "{\"a\":tru}", "[1,]", "nan"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        assert_int_equal(cpl_json_parse(&j, "x.json", broken[i], strlen(broken[i]), &e), CPL_CORRUPT);
        assert_int_equal(strncmp(e.what, "x.json", 6), 0);
        assert_null(j);
    }
    static const char good[] = "{\"a\":\"x\\u0000y\"}";
    assert_int_equal(cpl_json_parse(&j, "x.json", good, sizeof good - 1, &e), CPL_OK);
    assert_int_equal(json_string_length(json_object_get(j, "a")), 3);
    json_decref(j);
}

static void json_written_reads_back(void **state)
{
    (void)state;
    cpl_buf out = {0};
    cpl_error e;
    for (int pretty = 0; pretty < 2; pretty++) {
        cpl_buf_clear(&out);
        cpl_json_writer w = {.out = &out, .pretty = pretty};
        cpl_json_open(&w, NULL, '{');
        cpl_json_bytes(&w, "t", "a\"\\\n\t\x01\0z\xFF\xC3\xA4", 11);
        cpl_json_float(&w, "f", 0.1f);
        cpl_json_double(&w, "d", 0.1);
        cpl_json_double(&w, "n", NAN);
        cpl_json_int(&w, "i", INT64_MIN);
        cpl_json_bool(&w, "b", true);
        cpl_json_open(&w, "e", '[');
        cpl_json_close(&w, ']');
        cpl_json_open(&w, "l", '[');
        cpl_json_text(&w, NULL, NULL);
        cpl_json_text(&w, NULL, "x");
        cpl_json_close(&w, ']');
        cpl_json_close(&w, '}');
        json_t *j;
        assert_int_equal(cpl_json_parse(&j, "out", out.data, out.size, &e), CPL_OK);
        const json_t *t = json_object_get(j, "t");
        assert_int_equal(json_string_length(t), 13);
        assert_memory_equal(json_string_value(t), "a\"\\\n\t\x01\0z\xEF\xBF\xBD\xC3\xA4", 13);
        assert_true((float)json_real_value(json_object_get(j, "f")) == 0.1f);
        assert_true(json_real_value(json_object_get(j, "d")) == 0.1);
        assert_true(json_is_null(json_object_get(j, "n")));
        assert_true(json_integer_value(json_object_get(j, "i")) == INT64_MIN);
        assert_int_equal(json_array_size(json_object_get(j, "l")), 2);
        json_decref(j);
    }
    cpl_buf_deinit(&out);
}

static void add_one(void *p) { ++*(int *)p; }

static void threads_start_and_join(void **state)
{
    (void)state;
    cpl_error e;
    cpl_thread t = {0};
    int n = 0, cpus[4096];
    cpl_thread_join(&t);
    assert_int_equal(cpl_thread_start(&t, "test", -1, add_one, &n, &e), CPL_OK);
    cpl_thread_join(&t);
    assert_int_equal(n, 1);
    assert_true(cpl_cpu_count() >= 1);
    assert_true(cpl_cpu_list(cpus, 4096) >= cpl_cpu_count());
    assert_int_equal(cpl_thread_pin(-1, &e), CPL_INVALID);
    assert_int_equal(cpl_thread_pin(100000, &e), CPL_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_written_whole),         cmocka_unit_test(lines_from_every_coding),
        cmocka_unit_test(long_lines_cross_every_boundary), cmocka_unit_test(damaged_files_are_told),
        cmocka_unit_test(json_says_where_it_breaks),       cmocka_unit_test(json_written_reads_back),
        cmocka_unit_test(threads_start_and_join),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
