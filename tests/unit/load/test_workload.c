/* SPDX-License-Identifier: Apache-2.0 */
/* Pools, requests written beforehand, repeats counted; dialects and scenarios by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "load/load.h"
#include "load/workload.h"

static cpl_status plain_encode(const cpl_pair *pairs, size_t n, cpl_buf *out, cpl_error *err)
{
    for (size_t i = 0; i < n; i++) {
        cpl_buf_add(out, pairs[i].query.data, pairs[i].query.size);
        cpl_buf_text(out, "|");
        cpl_buf_add(out, pairs[i].document.data, pairs[i].document.size);
        cpl_buf_text(out, "\n");
    }
    return cpl_buf_status(out, err);
}

static const cpl_dialect plain = {"plain", "/x/y", plain_encode, NULL};

static char *write_pairs(int n)
{
    static char path[256];
    const char *dir = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/couplet-pairs-XXXXXX.tsv", dir ? dir : P_tmpdir);
    int fd = mkstemps(path, 4);
    assert_true(fd >= 0);
    for (int i = 0; i < n; i++) dprintf(fd, "q%d\td%d\n", i, i);
    close(fd);
    return path;
}

static void every_pair_before_any_twice(void **state)
{
    (void)state;
    cpl_pool *pool;
    cpl_workload *w;
    char *path = write_pairs(10);
    assert_int_equal(cpl_pool_open(&pool, path, 7, 0, NULL), CPL_OK);
    unlink(path);
    assert_int_equal(cpl_pool_size(pool), 10);
    assert_non_null(strstr(cpl_pool_source(pool), "(10 pairs), seed 7"));
    /* 4 pairs a request: after 5 requests each pair was sent twice and the cycle is over. */
    assert_int_equal(cpl_workload_open(&w, pool, &plain, 4, 100, NULL), CPL_OK);
    cpl_pool_close(pool); /* requests hold copies */
    int seen[10] = {0}, sent = 0;
    for (uint64_t i = 0; i < 5; i++) {
        cpl_text t = cpl_workload_request(w, i);
        for (const char *p = t.data; p < t.data + t.size; p = strchr(p, '\n') + 1) {
            int q, d;
            assert_int_equal(sscanf(p, "q%d|d%d", &q, &d), 2);
            assert_int_equal(q, d);
            if (sent < 10) assert_int_equal(seen[q], 0);
            seen[q]++;
            sent++;
        }
        assert_true(cpl_workload_repeats(w, i + 1) == (sent > 10 ? (uint64_t)sent - 10 : 0));
    }
    assert_int_equal(sent, 20);
    cpl_text first = cpl_workload_request(w, 0), again = cpl_workload_request(w, 5);
    assert_ptr_equal(first.data, again.data);
    cpl_workload_close(w);
}

static void seeds_decide_the_order(void **state)
{
    (void)state;
    cpl_pool *a, *b, *c;
    char *path = write_pairs(50);
    assert_int_equal(cpl_pool_open(&a, path, 1, 0, NULL), CPL_OK);
    assert_int_equal(cpl_pool_open(&b, path, 1, 0, NULL), CPL_OK);
    assert_int_equal(cpl_pool_open(&c, path, 2, 0, NULL), CPL_OK);
    unlink(path);
    int differ = 0;
    for (size_t i = 0; i < 50; i++) {
        cpl_text x = cpl_pool_pairs(a)[i].query, y = cpl_pool_pairs(b)[i].query, z = cpl_pool_pairs(c)[i].query;
        assert_int_equal(x.size, y.size);
        assert_memory_equal(x.data, y.data, x.size);
        differ += x.size != z.size || memcmp(x.data, z.data, x.size) != 0;
    }
    assert_true(differ > 30);
    cpl_pool_close(a);
    cpl_pool_close(b);
    cpl_pool_close(c);
}

static void generated_pairs(void **state)
{
    (void)state;
    cpl_pool *pool;
    assert_int_equal(cpl_pool_open(&pool, NULL, 3, 500, NULL), CPL_OK);
    assert_int_equal(cpl_pool_size(pool), 500);
    assert_string_equal(cpl_pool_source(pool), "seeded generator, seed 3");
    for (size_t i = 0; i < 500; i++) assert_true(cpl_pool_pairs(pool)[i].document.size > 0);
    cpl_pool_close(pool);
}

static void bad_pools(void **state)
{
    (void)state;
    cpl_pool *pool;
    cpl_workload *w;
    cpl_error err;
    assert_int_equal(cpl_pool_open(&pool, "/nonexistent/pairs.tsv", 1, 0, &err), CPL_NOT_FOUND);
    assert_null(pool);
    char *path = write_pairs(0);
    assert_int_equal(cpl_pool_open(&pool, path, 1, 0, &err), CPL_INVALID);
    assert_non_null(strstr(err.what, "holds no pairs"));
    unlink(path);
    assert_int_equal(cpl_pool_open(&pool, NULL, 1, 4, NULL), CPL_OK);
    assert_int_equal(cpl_workload_open(&w, pool, &plain, 0, 1, &err), CPL_INVALID);
    cpl_pool_close(pool);
}

static void replies_are_looked_at(void **state)
{
    (void)state;
    const cpl_dialect *d = &cpl_dialect_couplet_grpc;
    cpl_error err;
    /* scores packed: field 1, 8 bytes: 0.5, 1.0; num_pairs 2 */
    uint8_t good[] = {0x0a, 8, 0, 0, 0, 0x3f, 0, 0, 0x80, 0x3f, 0x10, 2};
    assert_int_equal(d->check(good, sizeof good, 2, &err), CPL_OK);
    assert_int_equal(d->check(good, sizeof good, 3, &err), CPL_CORRUPT);
    assert_string_equal(err.what, "the reply holds 2 scores for 3 pairs");
    uint8_t nan[] = {0x0a, 4, 0, 0, 0xc0, 0x7f};
    assert_int_equal(d->check(nan, sizeof nan, 1, &err), CPL_CORRUPT);
    assert_non_null(strstr(err.what, "not a finite number"));
    assert_int_equal(d->check(good, 5, 2, &err), CPL_CORRUPT);
    assert_int_equal(d->check(NULL, 0, 1, &err), CPL_CORRUPT);
}

static void names(void **state)
{
    (void)state;
    const cpl_dialect *d;
    const cpl_scenario *s;
    cpl_error err;
    assert_int_equal(cpl_dialect_find(&d, "couplet-grpc", &err), CPL_OK);
    assert_int_equal(cpl_dialect_find(&d, "tei", &err), CPL_UNSUPPORTED);
    assert_non_null(strstr(err.what, "'tei' is not in this version"));
    assert_int_equal(cpl_dialect_find(&d, "soap", &err), CPL_INVALID);
    assert_int_equal(cpl_scenario_find(&s, "closed", &err), CPL_OK);
    assert_int_equal(cpl_scenario_find(&s, "offline", &err), CPL_UNSUPPORTED);
    assert_non_null(strstr(err.what, "'offline' is not in this version"));
    assert_int_equal(cpl_scenario_find(&s, "", &err), CPL_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_before_any_twice),
        cmocka_unit_test(seeds_decide_the_order),
        cmocka_unit_test(generated_pairs),
        cmocka_unit_test(bad_pools),
        cmocka_unit_test(replies_are_looked_at),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
