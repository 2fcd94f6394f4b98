/* SPDX-License-Identifier: Apache-2.0 */
/* test_base.c - errors, arena, buffer, histogram, UTF-8, floats as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/histogram.h"
#include "base/random.h"
#include "base/shortest.h"
#include "base/utf8.h"

static void error_says_what_and_where(void **state)
{
    (void)state;
    cpl_error e;
    assert_int_equal(cpl_fail_line(&e, CPL_INVALID, "a.yaml", 3, 7, "batching.polcy", "unknown key '%s'", "polcy"),
                     CPL_INVALID);
    assert_string_equal(e.what, "a.yaml:3:7: unknown key 'polcy'");
    assert_string_equal(e.file, "a.yaml");
    assert_string_equal(e.key, "batching.polcy");
    assert_int_equal(e.line, 3);
    assert_int_equal(e.byte, -1);
    cpl_fail_byte(&e, CPL_CORRUPT, "m.safetensors", 8, "header of %d bytes", 99);
    assert_string_equal(e.what, "m.safetensors: byte 8: header of 99 bytes");
    assert_int_equal(e.byte, 8);
    assert_int_equal(cpl_fail_errno(&e, "nowhere", ENOENT, "can't open"), CPL_NOT_FOUND);
    assert_string_equal(e.what, "nowhere: can't open: No such file or directory");
    cpl_error_prefix(&e, "pair %d", 4);
    assert_string_equal(e.what, "pair 4: nowhere: can't open: No such file or directory");
    assert_int_equal(cpl_fail(NULL, CPL_IO, "nobody listens"), CPL_IO);
    cpl_fail_file(&e, CPL_CORRUPT, "a\nb", "near '%s'", "{\r\n\t\x1b[31m\x7f");
    cpl_error_prefix(&e, "pair\n%d", 4);
    assert_string_equal(e.what, "pair 4: a b: near '{   ?[31m?'"); /* one line, whatever is quoted */
}

static void error_is_cut_never_overrun(void **state)
{
    (void)state;
    cpl_error e;
    char longest[2000];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    cpl_fail_file(&e, CPL_IO, longest, "%s", longest);
    assert_int_equal(strlen(e.what), sizeof e.what - 1);
    assert_int_equal(strlen(e.file), sizeof e.file - 1);
    cpl_error_prefix(&e, "%s", longest);
    assert_int_equal(strlen(e.what), sizeof e.what - 1);
    cpl_fail_errno(&e, longest, EIO, "%s", longest);
    assert_int_equal(strlen(e.what), sizeof e.what - 1);
}

static void arena_aligns_and_keeps_what_it_may(void **state)
{
    (void)state;
    cpl_arena a;
    cpl_arena_init(&a, 128, 4096);
    for (int round = 0; round < 3; round++) {
        for (size_t align = 1; align <= 4096; align *= 2) {
            unsigned char *p = cpl_arena_take(&a, 33, align);
            assert_non_null(p);
            assert_int_equal((uintptr_t)p % align, 0);
            memset(p, 0xAB, 33);
        }
        assert_true(cpl_arena_take(&a, 100000, 8) != NULL);
        assert_true(a.used_bytes >= 100000);
        assert_in_range(cpl_arena_reset(&a), 0, 4096);
        assert_int_equal(a.used_bytes, 0);
    }
    assert_null(cpl_arena_take(&a, SIZE_MAX / 2, 8));
    assert_null(cpl_arena_take_zeroed(&a, SIZE_MAX / 2, 3));
    char *copy = cpl_arena_copy(&a, "abc", 2);
    assert_string_equal(copy, "ab");
    cpl_arena_deinit(&a);
}

static void buffer_grows_and_remembers_failure(void **state)
{
    (void)state;
    cpl_buf b = {0};
    cpl_error e;
    for (int i = 0; i < 1000; i++) cpl_buf_print(&b, "%d,", i);
    assert_int_equal(b.size, 10 * 2 + 90 * 3 + 900 * 4);
    assert_int_equal(b.data[b.size], 0);
    assert_int_equal(cpl_buf_status(&b, &e), CPL_OK);
    assert_false(cpl_buf_reserve(&b, SIZE_MAX / 2));
    cpl_buf_text(&b, "lost");
    assert_int_equal(cpl_buf_status(&b, &e), CPL_NO_MEMORY);
    cpl_buf_clear(&b);
    assert_int_equal(cpl_buf_status(&b, &e), CPL_OK);
    cpl_buf_deinit(&b);
}

static int ascending(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return a < b ? -1 : a > b;
}

static void histogram_against_sorting(void **state)
{
    (void)state;
    enum { N = 20000 };
    cpl_histogram *h = calloc(2, sizeof *h);
    uint64_t *v = calloc(N, sizeof *v), seed = 42;
    for (size_t i = 0; i < N; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        v[i] = (seed >> 20) >> (seed & 31); /* many magnitudes */
        cpl_histogram_add(&h[i % 2], v[i]);
    }
    cpl_histogram_merge(&h[0], &h[1]);
    qsort(v, N, sizeof *v, ascending);
    assert_int_equal(h[0].count, N);
    assert_int_equal(h[0].min, v[0]);
    assert_int_equal(h[0].max, v[N - 1]);
    const double quantiles[] = {0, 0.01, 0.5, 0.9, 0.99, 0.999, 1};
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++) {
        size_t rank = (size_t)(quantiles[i] * N + 0.999999);
        uint64_t exact = v[rank ? rank - 1 : 0], got = cpl_histogram_at(&h[0], quantiles[i]);
        if (exact >> CPL_HISTOGRAM_TOP) continue;
        assert_true(got >= exact && (double)got <= (double)exact * (1 + 1.0 / 256) + 1);
    }
    free(h);
    free(v);
}

static void histogram_buckets_meet(void **state)
{
    (void)state;
    for (uint32_t b = 0; b + 1 < CPL_HISTOGRAM_BUCKETS; b++) {
        uint64_t top = cpl_histogram_upper(b);
        assert_int_equal(cpl_histogram_bucket(top), b);
        assert_int_equal(cpl_histogram_bucket(top + 1), b + 1);
    }
    assert_int_equal(cpl_histogram_bucket(UINT64_MAX), CPL_HISTOGRAM_BUCKETS - 1);
}

static void utf8_every_scalar_round_trips(void **state)
{
    (void)state;
    for (uint32_t c = 0; c <= 0x10FFFF; c++) {
        if (c >= 0xD800 && c <= 0xDFFF) continue;
        char bytes[4];
        uint32_t back;
        size_t n = cpl_utf8_encode(c, bytes);
        assert_int_equal(cpl_utf8_valid_prefix(bytes, n), n);
        assert_int_equal(cpl_utf8_decode(bytes, n, &back), n);
        assert_int_equal(back, c);
        assert_int_equal(cpl_utf8_valid_prefix(bytes, n - 1) == n - 1, n == 1);
    }
}

static void utf8_repairs_maximal_subparts(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
        size_t count;
    } cases[] = {
        {"plain", "plain", 0},
        {"\xC3\xA4", "\xC3\xA4", 0},
        {"a\xFFz", "a\xEF\xBF\xBDz", 1},
        {"\xE2\x82", "\xEF\xBF\xBD", 1}, /* cut sequence: one */
        {"\xE2\x82z", "\xEF\xBF\xBDz", 1},
        {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", 3}, /* surrogate: each byte */
        {"\xF0\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", 3}, /* overlong */
        {"\xC0\xAF", "\xEF\xBF\xBD\xEF\xBF\xBD", 2},
        {"\xF4\x90\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", 4}, /* beyond U+10FFFF */
        {"\xF1\x80\x80\xE1\x80z", "\xEF\xBF\xBD\xEF\xBF\xBDz", 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cpl_buf out = {0};
        assert_int_equal(cpl_utf8_repair(&out, cases[i].in, strlen(cases[i].in)), cases[i].count);
        assert_string_equal(out.data, cases[i].out);
        assert_int_equal(cpl_utf8_valid_prefix(out.data, out.size), out.size);
        cpl_buf_deinit(&out);
    }
    assert_int_equal(cpl_utf8_valid_prefix("12345678abc\xE2\x28", 13), 11);
}

/* Against printf and strtof, which are its definition. */
static void floats_are_the_shortest_that_read_back(void **state)
{
    (void)state;
    uint64_t seed = 20261122;
    print_message("seed %llu\n", (unsigned long long)seed);
    static const float special[] = {0,        -0.0f,   1,         0.1f,   1e-4f, 9.9999e-5f, 99999.99f, 1e5f,
                                    0.99999f, 9.9999f, 123456.5f, 1e-38f, 3e38f, -0.5f,      0.000123f, 100.0f};
    for (size_t i = 0; i < 300000; i++) {
        uint32_t bits = (uint32_t)cpl_random_next(&seed);
        float v;
        if (i < sizeof special / sizeof *special)
            v = special[i];
        else if (i % 3 == 0)
            memcpy(&v, &bits, sizeof v);
        else if (i % 3 == 1)
            v = (float)(int32_t)bits / 2147483648.0f;
        else
            v = (float)(bits % 1000000) / (float)(1 + (bits >> 24));
        if (!isfinite(v)) continue;
        char got[CPL_FLOAT_TEXT], expected[CPL_FLOAT_TEXT];
        for (int digits = 6; digits <= 9; digits++) {
            snprintf(expected, sizeof expected, "%.*g", digits, (double)v);
            if (strtof(expected, NULL) == v) break;
        }
        assert_int_equal(cpl_float_text(got, v), strlen(expected));
        assert_string_equal(got, expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_says_what_and_where),
        cmocka_unit_test(error_is_cut_never_overrun),
        cmocka_unit_test(arena_aligns_and_keeps_what_it_may),
        cmocka_unit_test(buffer_grows_and_remembers_failure),
        cmocka_unit_test(histogram_against_sorting),
        cmocka_unit_test(histogram_buckets_meet),
        cmocka_unit_test(utf8_every_scalar_round_trips),
        cmocka_unit_test(utf8_repairs_maximal_subparts),
        cmocka_unit_test(floats_are_the_shortest_that_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
