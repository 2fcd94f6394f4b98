/* SPDX-License-Identifier: Apache-2.0 */
/* test_id_cache.c - what was added is found for exactly its text, kind and length; a full cache keeps what it has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/id_cache.h"

static cpl_id_key key_of(const char *a, const char *b, uint32_t max_length)
{
    cpl_id_key k = {.a = {a, strlen(a)}, .max_length = max_length, .pair = b != NULL};
    if (b) k.b = (cpl_text){b, strlen(b)};
    return k;
}

static void add(cpl_id_cache *c, cpl_id_key k, int32_t id)
{
    int32_t ids[3] = {id, id + 1, id + 2};
    uint8_t types[3] = {0, 1, 1};
    cpl_id_cache_add(c, &k, &(cpl_id_row){ids, types, 3});
}

static int32_t find(cpl_id_cache *c, cpl_id_key k)
{
    cpl_id_row row;
    if (!cpl_id_cache_find(c, &k, &row)) return -1;
    assert_int_equal(row.count, 3);
    assert_int_equal(row.ids[2], row.ids[0] + 2);
    assert_int_equal(row.type_ids[0], 0);
    assert_int_equal(row.type_ids[2], 1);
    return row.ids[0];
}

static void exactly_what_was_added(void **state)
{
    (void)state;
    cpl_id_cache *c;
    assert_int_equal(cpl_id_cache_open(&c, 1 << 20, NULL), CPL_OK);
    add(c, key_of("ab", "cd", 8), 10);
    assert_int_equal(find(c, key_of("ab", "cd", 8)), 10);
    assert_int_equal(find(c, key_of("ab", "cd", 9)), -1);
    assert_int_equal(find(c, key_of("abc", "d", 8)), -1); /* the same bytes, cut elsewhere */
    assert_int_equal(find(c, key_of("abcd", NULL, 8)), -1);
    assert_int_equal(find(c, key_of("abcd", "", 8)), -1);
    add(c, key_of("", NULL, 8), 20);
    add(c, key_of("", "", 8), 30);
    add(c, key_of("", "", 8), 40); /* there already */
    assert_int_equal(find(c, key_of("", NULL, 8)), 20);
    assert_int_equal(find(c, key_of("", "", 8)), 30);
    uint64_t hits, misses;
    cpl_id_cache_count(c, &hits, &misses);
    assert_int_equal(hits, 3);
    assert_int_equal(misses, 4);
    cpl_id_cache_close(c);
    cpl_id_cache_close(NULL);
}

static void a_full_one_keeps_what_it_has(void **state)
{
    (void)state;
    enum { N = 200000 };
    char text[32];
    cpl_id_cache *c;
    int kept = 0;
    assert_int_equal(cpl_id_cache_open(&c, 8 << 20, NULL), CPL_OK);
    for (int i = 0; i < N; i++) {
        snprintf(text, sizeof text, "text number %d", i);
        add(c, key_of(text, text + 5, 64), i);
    }
    for (int i = 0; i < N; i++) {
        snprintf(text, sizeof text, "text number %d", i);
        int32_t id = find(c, key_of(text, text + 5, 64));
        assert_true(id == i || id == -1);
        if (id == i) assert_int_equal(kept++, i); /* the first ones, all of them */
    }
    assert_true(kept > 1000 && kept < N);
    cpl_id_cache_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exactly_what_was_added),
        cmocka_unit_test(a_full_one_keeps_what_it_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
