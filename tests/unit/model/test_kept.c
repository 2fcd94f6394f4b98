/* SPDX-License-Identifier: Apache-2.0 */
/* test_kept.c - what was put into the file beside a model is found for those weights, that precision and group size,
 * and nothing else is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/digest.h"
#include "base/error.h"
#include "model/kept.h"
#include "unit/model/model_dir.h"

static const cpl_kept int8 = {"int8",  0,   "down.1=bf16,qkv.0", "spearman", 0.999, 0.9975,
                              0.99912, 200, "a \"file\"",        "avx512"};
static const cpl_kept int4 = {"int4", 64, "none", "cosine", 0.98, 0.99, 0.99, 30, "b", "amx"};

static cpl_model *open_model(void)
{
    cpl_model *m;
    cpl_error err;
    if (cpl_model_open(&m, model_dir, &err)) fail_msg("%s", err.what);
    return m;
}

static void put(const cpl_model *m, const cpl_kept *k)
{
    cpl_error err;
    if (cpl_kept_put(m, k, &err)) fail_msg("%s", err.what);
}

static void finds(const cpl_model *m, const cpl_kept *k)
{
    cpl_error err;
    cpl_kept got;
    if (cpl_kept_find(&got, m, k->precision, k->group_size, &err)) fail_msg("%s", err.what);
    assert_memory_equal(&got, k, sizeof got);
}

static void refuses(const cpl_model *m, const char *precision, uint32_t group, cpl_status status, const char *word)
{
    cpl_error err = {0};
    cpl_kept got;
    const cpl_status st = cpl_kept_find(&got, m, precision, group, &err);
    if (st != status || !strstr(err.what, word)) fail_msg("%d, '%s': expected %d, '%s'", st, err.what, status, word);
    assert_non_null(strstr(err.what, CPL_KEPT_FILE));
    assert_null(strpbrk(err.what, "\r\n"));
}

static void what_was_put_is_found(void **state)
{
    (void)state;
    dir_open("cross-encoder");
    cpl_model *m = open_model();
    refuses(m, "int8", 0, CPL_NOT_FOUND, "couplet calibrate");
    put(m, &int8);
    put(m, &int4);
    finds(m, &int8);
    finds(m, &int4);
    refuses(m, "int4", 32, CPL_NOT_FOUND, "groups of 32");
    refuses(m, "fp16", 0, CPL_NOT_FOUND, "fp16");
    cpl_kept again = int8;
    memset(again.keep, 0, sizeof again.keep);
    memcpy(again.keep, "none", sizeof "none");
    put(m, &again); /* takes the place of the one before */
    finds(m, &again);
    finds(m, &int4);
    cpl_model_close(m);
    dir_close();
}

static void other_weights_are_refused(void **state)
{
    (void)state;
    dir_open("cross-encoder");
    cpl_model *m = open_model();
    const uint64_t before = cpl_model_digest(m);
    put(m, &int8);
    cpl_model_close(m);
    cpl_buf b = {0};
    assert_int_equal(cpl_file_read(&b, dir_path("model.safetensors"), 1 << 26, NULL), CPL_OK);
    ((unsigned char *)b.data)[b.size - 5] ^= 1;
    dir_write("model.safetensors", b.data, b.size);
    cpl_buf_deinit(&b);
    m = open_model();
    assert_true(cpl_model_digest(m) != before);
    refuses(m, "int8", 0, CPL_PRECONDITION, "other weights");
    put(m, &int4); /* what was for others goes */
    finds(m, &int4);
    refuses(m, "int8", 0, CPL_NOT_FOUND, "no choice for int8");
    cpl_model_close(m);
    dir_close();
}

static void broken_files_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *word;
        cpl_status status;
    } broken[] = {{"{", "not valid JSON", CPL_CORRUPT},
                  {"[]", "object", CPL_CORRUPT},
                  {"{\"weights\": \"x\", \"choices\": []}", "format", CPL_CORRUPT},
                  {"{\"format\": 2, \"weights\": \"x\", \"choices\": []}", "format 2", CPL_UNSUPPORTED},
                  {"{\"format\": 1, \"weights\": \"x\", \"choices\": {}}", "choices", CPL_CORRUPT},
                  {"{\"format\": 1, \"weights\": 7, \"choices\": []}", "weights", CPL_CORRUPT}};
    dir_open("cross-encoder");
    cpl_model *m = open_model();
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        dir_text(CPL_KEPT_FILE, broken[i].text);
        refuses(m, "int8", 0, broken[i].status, broken[i].word);
        assert_int_equal(cpl_kept_put(m, &int8, NULL), broken[i].status); /* nor is it written over */
    }
    char text[256];
    snprintf(text, sizeof text, "{\"format\": 1, \"weights\": \"%016llx\", \"choices\": [{\"precision\": \"int8\"}]}",
             (unsigned long long)cpl_model_digest(m));
    dir_text(CPL_KEPT_FILE, text);
    refuses(m, "int8", 0, CPL_CORRUPT, "keep");
    cpl_model_close(m);
    dir_close();
}

/* Any byte, any length. */
static void digests_differ(void **state)
{
    (void)state;
    enum { N = 200 };
    unsigned char data[N] = {0};
    uint64_t seen[2 * N + 1];
    size_t n = 0;
    for (size_t i = 0; i <= N; i++) seen[n++] = cpl_digest(data, i);
    for (size_t i = 0; i < N; i++) {
        data[i] = 1;
        seen[n++] = cpl_digest(data, N);
        data[i] = 0;
    }
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < i; k++) assert_true(seen[i] != seen[k]);
    for (size_t i = 0; i < N; i++) data[i] = (unsigned char)(i * 7 + 1);
    assert_true(cpl_digest(data, N) == 0x5f871f4a0d7d8a7du); /* it is written into files */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_put_is_found),
        cmocka_unit_test(other_weights_are_refused),
        cmocka_unit_test(broken_files_are_refused),
        cmocka_unit_test(digests_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
