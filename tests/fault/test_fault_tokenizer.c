/* SPDX-License-Identifier: Apache-2.0 */
/* test_fault_tokenizer.c - parsing a tokenizer.json and encoding hostile texts while the nth allocation fails, for
 * every n until nothing fails any more. Each time: it worked, or the status is CPL_NO_MEMORY; nothing crashes or leaks,
 * and with memory back the same scratch gives the right ids. And: a warm scratch allocates nothing. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include <cmocka.h>

/* What the build wraps (cmake/tests.cmake reads these lines). */
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
int __wrap_posix_memalign(void **out, size_t align, size_t size);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int file, off_t offset);
int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);

#include "base/file.h"
#include "fault/fault.h"
#include "text/tokenizer.h"
#include "unit/text/hostile_text.h"

enum { IDS_MAX = 4096, TEXTS = 40 };

static cpl_buf texts[TEXTS + 1];

/* Sums the ids of all texts as pairs with themselves. */
static cpl_status encode_all(const cpl_tokenizer *t, cpl_tokenizer_scratch *s, uint64_t *sum, cpl_error *err)
{
    static int32_t ids[IDS_MAX];
    static uint8_t types[IDS_MAX];
    *sum = 0;
    for (size_t i = 0; i <= TEXTS; i++) {
        size_t n = 0;
        cpl_text text = {texts[i].data, texts[i].size};
        cpl_status st = cpl_tokenizer_pair(t, s, text, &text, 0, ids, types, IDS_MAX, &n, err);
        if (st) return st;
        assert_true(n <= IDS_MAX);
        for (size_t k = 0; k < n; k++) *sum = *sum * 31 + (uint64_t)ids[k];
    }
    return CPL_OK;
}

static void run(const char *path)
{
    cpl_buf json = {0};
    cpl_error err = {0};
    assert_int_equal(cpl_file_read(&json, path, 1 << 20, &err), CPL_OK);
    uint64_t expected = 0, sum = 0;
    long failures = 0, hits = 1;
    for (long n = -1; hits || n <= 0; n++) { /* first without a failure */
        cpl_tokenizer *t = NULL;
        cpl_tokenizer_scratch *s = NULL;
        cpl_fault_arm(n, false);
        cpl_status st = cpl_tokenizer_parse(&t, path, json.data, json.size, &err);
        if (!st) st = cpl_tokenizer_scratch_open(&s, &err);
        if (!st) st = encode_all(t, s, &sum, &err);
        hits = cpl_fault_disarm();
        failures += hits;
        if (n < 0) expected = sum;
        if (st) assert_true(hits && st == CPL_NO_MEMORY && err.what[0]);
        if (t && s) {
            assert_int_equal(encode_all(t, s, &sum, &err), CPL_OK);
            assert_int_equal(sum, expected);
            cpl_fault_arm(0, true);
            assert_int_equal(encode_all(t, s, &sum, &err), CPL_OK);
            assert_int_equal(cpl_fault_disarm(), 0);
        }
        cpl_tokenizer_scratch_close(s);
        cpl_tokenizer_close(t);
    }
    print_message("%s: %ld allocations failed in turn\n", path, failures);
    assert_true(failures > 10);
    cpl_buf_deinit(&json);
}

static void small(void **state)
{
    (void)state;
    run("tests/golden/tokenizer/small.json");
}

static void rich(void **state)
{
    (void)state;
    run("tests/golden/tokenizer/rich.json");
}

static int setup(void **state)
{
    (void)state;
    for (size_t i = 0; i < TEXTS; i++) {
        cpl_buf_text(&texts[i], "");
        hostile_string(&texts[i], i);
    }
    cpl_buf_text(&texts[TEXTS], "a"); /* a run of non-starters that needs sorting room */
    for (int i = 0; i < 40; i++) cpl_buf_text(&texts[TEXTS], i % 2 ? "\xE3\x80\xAE" : "\xF0\x9D\x85\xA5");
    return texts[TEXTS].failed;
}

static int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i <= TEXTS; i++) cpl_buf_deinit(&texts[i]);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(small), cmocka_unit_test(rich)};
    return cmocka_run_group_tests_name("tokenizer without memory", tests, setup, teardown);
}
