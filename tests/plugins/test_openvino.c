/* SPDX-License-Identifier: Apache-2.0 */
/* test_openvino.c - inside couplet-openvino: what the names of kernels prove, settings, and an int8 graph that is
 * absent or belongs to other weights. Skipped where OpenVINO isn't installed, but for what needs no runtime. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend/openvino/ov.h"
#include "base/file.h"
#include "try_load.h"

static cpl_host host;
static cpl_caps caps;
static char absent[512]; /* why there is no runtime; "" when there is */
static char dir[] = "/tmp/couplet-openvino-test-XXXXXX";
static const char tiny[] = "tests/golden/models/cross-encoder";

static void need_runtime(void)
{
    if (!absent[0]) return;
    print_message("skipped: %s\n", absent);
    skip();
}

static void kernels_names_tell_what_ran(void **state)
{
    (void)state;
    cpl_ov_executed ran = {0};
    cpl_ov_count(&ran, "FullyConnected", "brgemm_avx512_bf16");
    cpl_ov_count(&ran, "FullyConnected", "brgemm_avx512_I8");
    cpl_ov_count(&ran, "FullyConnectedQuantizedLegacy", "brgemm_avx512_i8");
    cpl_ov_count(&ran, "MatMul", "gemm_mlas_f32");
    cpl_ov_count(&ran, "MatMul", "gemm_f16");
    cpl_ov_count(&ran, "MatMul", "gemm_acl_i4"); /* not known: counted, proves nothing */
    cpl_ov_count(&ran, "Add", "jit_avx512_f32");
    assert_int_equal(ran.products, 6);
    assert_int_equal(ran.bf16, 1);
    assert_int_equal(ran.int8, 2);
    assert_int_equal(ran.fp32, 1);
    assert_int_equal(ran.fp16, 1);
}

static void refused(const char *setting, cpl_precision p, cpl_status status, const char *why)
{
    cpl_load_report r;
    cpl_error err = {0};
    cpl_status st = try_load(&host, tiny, p, setting, &r, &err);
    if (st != status || !strstr(err.what, why)) fail_msg("%s: %d, '%s'", setting, st, err.what);
}

static void settings_are_checked(void **state)
{
    (void)state;
    refused("threads=many", CPL_PRECISION_FP32, CPL_INVALID, "threads=many");
    refused("hint=f64", CPL_PRECISION_FP32, CPL_INVALID, "hint=f64");
    refused("device=cuda", CPL_PRECISION_FP32, CPL_INVALID, "device=cuda");
    need_runtime();
    refused("hint=bf16", CPL_PRECISION_BF16, CPL_INVALID, "is for int8");
}

static void what_ran_is_reported(void **state)
{
    (void)state;
    need_runtime();
    cpl_load_report r;
    cpl_error err;
    if (try_load(&host, tiny, CPL_PRECISION_FP32, "threads=1", &r, &err)) fail_msg("%s", err.what);
    assert_non_null(strstr(r.kernels, "products fp32, rest f32"));
    for (int p = CPL_PRECISION_BF16; p <= CPL_PRECISION_FP16; p++) { /* probe and load agree */
        cpl_status st = try_load(&host, tiny, (cpl_precision)p, NULL, &r, &err);
        assert_int_equal(st, caps.precisions >> p & 1 ? CPL_OK : CPL_UNSUPPORTED);
        if (st) assert_non_null(strstr(err.what, "hint in effect"));
    }
    assert_int_equal(try_load(&host, tiny, CPL_PRECISION_INT4, NULL, &r, &err), CPL_UNSUPPORTED);
}

static void write_text(const char *name, const char *text)
{
    char path[256];
    cpl_error err;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(cpl_file_write(path, text, strlen(text), &err), CPL_OK);
}

static void int8_needs_its_own_graph(void **state)
{
    (void)state;
    need_runtime();
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"};
    char from[512], to[256], cwd[256];
    cpl_load_report r;
    cpl_error err;
    assert_non_null(getcwd(cwd, sizeof cwd));
    for (size_t i = 0; i < 4; i++) {
        snprintf(from, sizeof from, "%s/%s/%s", cwd, tiny, files[i]);
        snprintf(to, sizeof to, "%s/%s", dir, files[i]);
        assert_int_equal(symlink(from, to), 0);
    }
    assert_int_equal(try_load(&host, dir, CPL_PRECISION_INT8, NULL, &r, &err), CPL_NOT_FOUND);
    assert_non_null(strstr(err.what, "tools/export_openvino.py"));
    write_text("openvino_int8.xml", "<net/>");
    assert_int_not_equal(try_load(&host, dir, CPL_PRECISION_INT8, NULL, &r, &err), CPL_OK); /* no stamp */
    write_text("openvino_int8.json", "{\"weights_crc32\": 12345}");
    assert_int_equal(try_load(&host, dir, CPL_PRECISION_INT8, NULL, &r, &err), CPL_CORRUPT);
    assert_non_null(strstr(err.what, "other weights"));
}

static void a_missing_runtime_is_one_line(void **state)
{
    (void)state;
    cpl_caps ignored;
    cpl_error err;
    setenv("COUPLET_OPENVINO", "/nowhere", 1);
    assert_int_equal(cpl_plugin(&host)->probe(&ignored, &host, &err), CPL_UNSUPPORTED);
    unsetenv("COUPLET_OPENVINO");
    assert_non_null(strstr(err.what, "run tools/setup.sh openvino"));
}

static int make(void **state)
{
    (void)state;
    cpl_error err;
    cpl_host_init(&host, NULL);
#if defined(__SANITIZE_ADDRESS__)
    snprintf(absent, sizeof absent, "OpenVINO loads a library with RTLD_DEEPBIND, which the address sanitizer forbids");
#endif
    if (!absent[0] && cpl_plugin(&host)->probe(&caps, &host, &err)) snprintf(absent, sizeof absent, "%s", err.what);
    return mkdtemp(dir) ? 0 : -1;
}

static int clean(void **state)
{
    static const char *const files[] = {"config.json",           "model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json", "openvino_int8.xml", "openvino_int8.json"};
    char path[256];
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_names_tell_what_ran),   cmocka_unit_test(settings_are_checked),
        cmocka_unit_test(what_ran_is_reported),          cmocka_unit_test(int8_needs_its_own_graph),
        cmocka_unit_test(a_missing_runtime_is_one_line),
    };
    return cmocka_run_group_tests(tests, make, clean);
}
