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
#include "text/tokenizer.h"

static cpl_status plain_encode(const cpl_pair *pairs, size_t n, const char *model, cpl_buf *out, cpl_error *err)
{
    (void)model;
    for (size_t i = 0; i < n; i++) {
        cpl_buf_add(out, pairs[i].query.data, pairs[i].query.size);
        cpl_buf_text(out, "|");
        cpl_buf_add(out, pairs[i].document.data, pairs[i].document.size);
        cpl_buf_text(out, "\n");
    }
    return cpl_buf_status(out, err);
}

static const cpl_dialect plain = {.name = "plain", .path = "/x/y", .encode = plain_encode};

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

static size_t words_of(cpl_text t)
{
    size_t n = 1;
    for (size_t i = 0; i < t.size; i++) n += t.data[i] == ' ';
    return n;
}

static size_t nominal(const cpl_pair *p) { return words_of(p->query) + words_of(p->document) + 3; }

static void lengths_are_as_asked(void **state)
{
    (void)state;
    const uint32_t exact[] = {5, 17, 32, 300};
    cpl_shape shape;
    cpl_pool *pool;
    for (size_t k = 0; k < 4; k++) {
        char text[16];
        snprintf(text, sizeof text, "%u", exact[k]);
        assert_int_equal(cpl_shape_parse(&shape, text, 1, 0, NULL), CPL_OK);
        assert_int_equal(cpl_pool_open_shaped(&pool, NULL, &shape, 5, 300, NULL), CPL_OK);
        for (size_t i = 0; i < 300; i++) assert_int_equal(nominal(&cpl_pool_pairs(pool)[i]), exact[k]);
        cpl_pool_close(pool);
    }
    assert_int_equal(cpl_shape_parse(&shape, "16-20", 1, 0, NULL), CPL_OK);
    assert_int_equal(cpl_pool_open_shaped(&pool, NULL, &shape, 5, 3000, NULL), CPL_OK);
    assert_string_equal(cpl_pool_source(pool), "seeded generator, seed 5; 16 to 20 tokens a pair");
    int of[32] = {0};
    for (size_t i = 0; i < 3000; i++) of[nominal(&cpl_pool_pairs(pool)[i])]++;
    for (size_t n = 16; n <= 20; n++) assert_in_range(of[n], 450, 750);
    assert_int_equal(of[16] + of[17] + of[18] + of[19] + of[20], 3000);
    cpl_pool_close(pool);
}

static void lognormal_has_its_median_and_comes_back_from_a_fit(void **state)
{
    (void)state;
    enum { N = 4000 };
    cpl_shape shape, fitted;
    cpl_pool *pool;
    assert_int_equal(cpl_shape_parse(&shape, "lognormal:80,0.5", 1, 0, NULL), CPL_OK);
    assert_int_equal(cpl_pool_open_shaped(&pool, NULL, &shape, 9, N, NULL), CPL_OK);
    char path[300], spec[320];
    const char *dir = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/couplet-fit-XXXXXX.tsv", dir ? dir : P_tmpdir);
    int fd = mkstemps(path, 4), below = 0;
    assert_true(fd >= 0);
    for (size_t i = 0; i < N; i++) {
        const cpl_pair *p = &cpl_pool_pairs(pool)[i];
        below += nominal(p) < 80;
        dprintf(fd, "%.*s\t%.*s\n", (int)p->query.size, p->query.data, (int)p->document.size, p->document.data);
    }
    close(fd);
    assert_in_range(below, N / 2 - 150, N / 2 + 150);
    snprintf(spec, sizeof spec, "fit:%s", path);
    assert_int_equal(cpl_shape_parse(&fitted, spec, 1, 0, NULL), CPL_OK);
    unlink(path);
    assert_true(fitted.low > 76 && fitted.low < 92); /* long words are charged more than their one token */
    assert_true(fitted.sigma > 0.46 && fitted.sigma < 0.54);
    cpl_pool_close(pool);
}

/* What shape.h promises of BERT's vocabulary, against the real one. */
static void tokens_are_the_models(void **state)
{
    (void)state;
    cpl_tokenizer *t;
    cpl_tokenizer_scratch *scratch;
    cpl_pool *pool;
    cpl_shape shape;
    if (cpl_tokenizer_open(&t, "models/all-MiniLM-L6-v2", NULL)) skip();
    assert_int_equal(cpl_tokenizer_scratch_open(&scratch, NULL), CPL_OK);
    assert_int_equal(cpl_shape_parse(&shape, "32", 1, 0, NULL), CPL_OK);
    assert_int_equal(cpl_pool_open_shaped(&pool, NULL, &shape, 1, 5000, NULL), CPL_OK);
    for (size_t i = 0; i < 5000; i++) {
        size_t a, b;
        assert_int_equal(cpl_tokenizer_count(t, scratch, cpl_pool_pairs(pool)[i].query, &a, NULL), CPL_OK);
        assert_int_equal(cpl_tokenizer_count(t, scratch, cpl_pool_pairs(pool)[i].document, &b, NULL), CPL_OK);
        assert_int_equal(a + b + 3, 32);
    }
    cpl_pool_close(pool);
    cpl_tokenizer_scratch_close(scratch);
    cpl_tokenizer_close(t);
}

static bool same_text(cpl_text a, cpl_text b) { return a.size == b.size && !memcmp(a.data, b.data, a.size); }

static void queries_are_shared_and_repeats_are_known(void **state)
{
    (void)state;
    enum { N = 3000, GROUP = 3 };
    cpl_shape shape;
    cpl_pool *pool, *plain_pool;
    cpl_workload *w;
    assert_int_equal(cpl_shape_parse(&shape, "40", GROUP, 0.3, NULL), CPL_OK);
    assert_int_equal(cpl_pool_open_shaped(&pool, NULL, &shape, 2, N - 1, NULL), CPL_OK);
    assert_int_equal(cpl_pool_size(pool), N); /* whole groups */
    size_t copies = 0;
    for (size_t g = 0; g < N / GROUP; g++) {
        const cpl_pair *p = cpl_pool_pairs(pool) + g * GROUP;
        for (size_t i = 0; i < GROUP; i++) assert_true(same_text(p[i].query, p[0].query));
        bool seen = false;
        for (size_t k = 0; k < g && !seen; k++) seen = same_text(p[1].document, p[1 - GROUP * (int)(g - k)].document);
        assert_int_equal(seen, cpl_pool_is_copy(pool, g * GROUP));
        copies += seen;
    }
    assert_in_range(copies, 240, 360);
    assert_int_equal(cpl_workload_open(&w, pool, &plain, GROUP, 0, NULL), CPL_OK);
    assert_int_equal(cpl_workload_repeats(w, N / GROUP), copies * GROUP);
    assert_int_equal(cpl_workload_repeats(w, 2 * N / GROUP), copies * GROUP + N);
    cpl_workload_close(w);
    /* The seeds are split: what is repeated doesn't change what the others are. */
    assert_int_equal(cpl_shape_parse(&shape, "40", GROUP, 0, NULL), CPL_OK);
    assert_int_equal(cpl_pool_open_shaped(&plain_pool, NULL, &shape, 2, N, NULL), CPL_OK);
    for (size_t i = 0; i < N; i++)
        if (!cpl_pool_is_copy(pool, i))
            assert_true(same_text(cpl_pool_pairs(pool)[i].document, cpl_pool_pairs(plain_pool)[i].document));
    cpl_pool_close(plain_pool);
    cpl_pool_close(pool);
}

static void shapes_that_make_no_sense(void **state)
{
    (void)state;
    cpl_shape shape;
    cpl_error err;
    const char *const wrong[] = {
        "4", "20-16", "32x", "-3", "9000", "32-", "word", "lognormal:100", "lognormal:2,1", "lognormal:100,9"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (cpl_shape_parse(&shape, wrong[i], 1, 0, &err) != CPL_INVALID) fail_msg("'%s' was taken", wrong[i]);
        assert_non_null(strstr(err.what, wrong[i]));
    }
    assert_int_equal(cpl_shape_parse(&shape, "fit:/nonexistent", 1, 0, &err), CPL_NOT_FOUND);
    assert_int_equal(cpl_shape_parse(&shape, NULL, 1, 1, &err), CPL_INVALID);
    cpl_pool *pool;
    assert_int_equal(cpl_shape_parse(&shape, "32", 1, 0, &err), CPL_OK);
    assert_int_equal(cpl_pool_open_shaped(&pool, "pairs.tsv", &shape, 1, 1, &err), CPL_INVALID);
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
    for (size_t i = 0; cpl_dialects()[i]; i++) {
        assert_int_equal(cpl_dialect_find(&d, cpl_dialects()[i]->name, &err), CPL_OK);
        assert_ptr_equal(d, cpl_dialects()[i]);
    }
    assert_int_equal(cpl_dialect_find(&d, "soap", &err), CPL_INVALID);
    assert_non_null(strstr(err.what, "couplet-grpc, tei, tei-grpc, cohere"));
    assert_int_equal(cpl_scenario_find(&s, "closed", &err), CPL_OK);
    assert_int_equal(cpl_scenario_find(&s, "offline", &err), CPL_OK);
    assert_int_equal(cpl_scenario_find(&s, "", &err), CPL_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_before_any_twice),
        cmocka_unit_test(seeds_decide_the_order),
        cmocka_unit_test(generated_pairs),
        cmocka_unit_test(bad_pools),
        cmocka_unit_test(lengths_are_as_asked),
        cmocka_unit_test(lognormal_has_its_median_and_comes_back_from_a_fit),
        cmocka_unit_test(tokens_are_the_models),
        cmocka_unit_test(queries_are_shared_and_repeats_are_known),
        cmocka_unit_test(shapes_that_make_no_sense),
        cmocka_unit_test(replies_are_looked_at),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
