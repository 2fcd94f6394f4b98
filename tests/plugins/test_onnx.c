/* SPDX-License-Identifier: Apache-2.0 */
/* test_onnx.c - inside couplet-onnx: our declaration of ONNX Runtime's table, what its profile proves, the user's
 * graphs and what is refused. Skipped where ONNX Runtime isn't installed, but for what needs no runtime. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend/onnx/graph.h"
#include "backend/onnx/settings.h"
#include "base/file.h"
#include "model/onnx.h"
#include "model/onnx_proto.h"
#include "try_load.h"

static cpl_host host;
static cpl_ort ort;
static char absent[512]; /* why there is no runtime; "" when there is */
static char dir[] = "/tmp/couplet-onnx-test-XXXXXX";

static void need_runtime(void)
{
    if (!absent[0]) return;
    print_message("skipped: %s\n", absent);
    skip();
}

/* ---- the table ----------------------------------------------------------------------------------------------------
 */

static void slots_are_where_they_were_published(void **state)
{
    static const struct {
        const char *name;
        size_t offset, slot;
    } published[] = {
        {"GetErrorMessage", offsetof(OrtApi, GetErrorMessage), 2},
        {"CreateEnvWithCustomLogger", offsetof(OrtApi, CreateEnvWithCustomLogger), 4},
        {"CreateSession", offsetof(OrtApi, CreateSession), 7},
        {"CreateSessionFromArray", offsetof(OrtApi, CreateSessionFromArray), 8},
        {"Run", offsetof(OrtApi, Run), 9},
        {"CreateSessionOptions", offsetof(OrtApi, CreateSessionOptions), 10},
        {"EnableProfiling", offsetof(OrtApi, EnableProfiling), 14},
        {"SetSessionGraphOptimizationLevel", offsetof(OrtApi, SetSessionGraphOptimizationLevel), 23},
        {"SetIntraOpNumThreads", offsetof(OrtApi, SetIntraOpNumThreads), 24},
        {"SessionGetInputCount", offsetof(OrtApi, SessionGetInputCount), 30},
        {"SessionGetOutputCount", offsetof(OrtApi, SessionGetOutputCount), 31},
        {"SessionGetInputTypeInfo", offsetof(OrtApi, SessionGetInputTypeInfo), 33},
        {"SessionGetOutputTypeInfo", offsetof(OrtApi, SessionGetOutputTypeInfo), 34},
        {"SessionGetInputName", offsetof(OrtApi, SessionGetInputName), 36},
        {"SessionGetOutputName", offsetof(OrtApi, SessionGetOutputName), 37},
        {"CreateTensorWithDataAsOrtValue", offsetof(OrtApi, CreateTensorWithDataAsOrtValue), 49},
        {"CastTypeInfoToTensorInfo", offsetof(OrtApi, CastTypeInfoToTensorInfo), 55},
        {"GetTensorElementType", offsetof(OrtApi, GetTensorElementType), 60},
        {"GetDimensionsCount", offsetof(OrtApi, GetDimensionsCount), 61},
        {"GetDimensions", offsetof(OrtApi, GetDimensions), 62},
        {"CreateCpuMemoryInfo", offsetof(OrtApi, CreateCpuMemoryInfo), 69},
        {"AllocatorFree", offsetof(OrtApi, AllocatorFree), 76},
        {"GetAllocatorWithDefaultOptions", offsetof(OrtApi, GetAllocatorWithDefaultOptions), 78},
        {"ReleaseEnv", offsetof(OrtApi, ReleaseEnv), 92},
        {"ReleaseStatus", offsetof(OrtApi, ReleaseStatus), 93},
        {"ReleaseMemoryInfo", offsetof(OrtApi, ReleaseMemoryInfo), 94},
        {"ReleaseSession", offsetof(OrtApi, ReleaseSession), 95},
        {"ReleaseValue", offsetof(OrtApi, ReleaseValue), 96},
        {"ReleaseTypeInfo", offsetof(OrtApi, ReleaseTypeInfo), 98},
        {"ReleaseSessionOptions", offsetof(OrtApi, ReleaseSessionOptions), 100},
        {"SessionEndProfiling", offsetof(OrtApi, SessionEndProfiling), 110},
        {"GetAvailableProviders", offsetof(OrtApi, GetAvailableProviders), 125},
        {"ReleaseAvailableProviders", offsetof(OrtApi, ReleaseAvailableProviders), 126},
        {"SessionOptionsAppendExecutionProvider_CUDA_V2",
         offsetof(OrtApi, SessionOptionsAppendExecutionProvider_CUDA_V2), 204},
        {"CreateCUDAProviderOptions", offsetof(OrtApi, CreateCUDAProviderOptions), 205},
        {"ReleaseCUDAProviderOptions", offsetof(OrtApi, ReleaseCUDAProviderOptions), 208},
        {"SessionOptionsAppendExecutionProvider", offsetof(OrtApi, SessionOptionsAppendExecutionProvider), 216},
        {"UpdateCUDAProviderOptions", offsetof(OrtApi, UpdateCUDAProviderOptions), 206},
    };
    (void)state;
    for (size_t i = 0; i < sizeof published / sizeof *published; i++)
        if (published[i].offset != published[i].slot * sizeof(void *))
            fail_msg("%s is at slot %zu, not %zu", published[i].name, published[i].offset / sizeof(void *),
                     published[i].slot);
    assert_int_equal(sizeof published / sizeof *published, 38); /* a slot that was added stands here too */
}

/* The slots that loading and running a model doesn't reach, by what they answer. */
static void slots_of_providers_answer(void **state)
{
    (void)state;
    need_runtime();
    const OrtApi *api = ort.api;
    OrtSessionOptions *o = NULL;
    OrtCUDAProviderOptionsV2 *cuda = NULL;
    cpl_error err;
    assert_null(api->CreateSessionOptions(&o));
    assert_true(cpl_ort_has(&ort, CPL_ORT_CPU));
    if (cpl_ort_check(&ort, api->CreateCUDAProviderOptions(&cuda), "cuda", &err)) {
        assert_non_null(strstr(err.what, "CUDA")); /* a build without it says so */
    } else {
        const char *const key[] = {"device_id"}, *const value[] = {"0"}, *const wrong[] = {"no_such_option"};
        assert_int_equal(cpl_ort_check(&ort, api->UpdateCUDAProviderOptions(cuda, key, value, 1), "x", &err), CPL_OK);
        assert_int_not_equal(cpl_ort_check(&ort, api->UpdateCUDAProviderOptions(cuda, wrong, value, 1), "x", &err),
                             CPL_OK);
        api->ReleaseCUDAProviderOptions(cuda);
    }
    cpl_status st = cpl_ort_check(&ort, api->SessionOptionsAppendExecutionProvider(o, "NoSuchProvider", NULL, NULL, 0),
                                  "provider", &err);
    assert_int_equal(st, CPL_INTERNAL);
    assert_non_null(strstr(err.what, "NoSuchProvider"));
    api->ReleaseSessionOptions(o);
}

/* ---- the profile --------------------------------------------------------------------------------------------------
 */

static void profiles_tell_what_ran(void **state)
{
    (void)state;
    static const char text[] =
        "[{\"name\":\"session_initialization\",\"args\":{}},"
        "{\"name\":\"a_kernel_time\",\"args\":{\"op_name\":\"MatMul\",\"provider\":\"CPUExecutionProvider\","
        "\"input_type_shape\":[{\"float\":[1,2]},{\"float\":[2,2]}]}},"
        "{\"name\":\"b_kernel_time\",\"args\":{\"op_name\":\"FusedMatMul\",\"provider\":\"CUDAExecutionProvider\","
        "\"input_type_shape\":[{\"float16\":[1,2]},{\"float16\":[2,2]}]}},"
        "{\"name\":\"c_kernel_time\",\"args\":{\"op_name\":\"DynamicQuantizeMatMul\",\"provider\":"
        "\"CPUExecutionProvider\","
        "\"input_type_shape\":[{\"float\":[1,2]}]}},"
        "{\"name\":\"c_fence_before\",\"args\":{\"op_name\":\"MatMul\",\"provider\":\"CPUExecutionProvider\"}},"
        "{\"name\":\"d_kernel_time\",\"args\":{\"op_name\":\"Add\",\"provider\":\"CPUExecutionProvider\","
        "\"input_type_shape\":[{\"float\":[1,2]}]}}]";
    cpl_ort_executed ran = {0};
    cpl_error err;
    assert_int_equal(cpl_ort_read_profile(&ran, "profile", text, strlen(text), CPL_ORT_CPU, &err), CPL_OK);
    assert_int_equal(ran.products, 3);
    assert_int_equal(ran.fp32, 1);
    assert_int_equal(ran.fp16, 1);
    assert_int_equal(ran.int8, 1);
    assert_int_equal(ran.elsewhere, 1);
    assert_int_not_equal(cpl_ort_read_profile(&ran, "profile", text, 40, CPL_ORT_CPU, &err), CPL_OK);
}

/* ---- settings ------------------------------------------------------------------------------------------------------
 */

static void refused(const char *a, const char *b, const char *why)
{
    const char *const settings[] = {a, b, NULL};
    const cpl_load_options o = {.size = sizeof o, .settings = settings};
    cpl_onnx_settings out;
    cpl_error err = {0};
    assert_int_equal(cpl_onnx_settings_read(&out, &o, &err), CPL_INVALID);
    if (!strstr(err.what, why)) fail_msg("'%s' lacks '%s'", err.what, why);
}

static void settings_are_checked(void **state)
{
    (void)state;
    const char *const good[] = {"use_gpu=true", "device=cuda", "provider=cuda", "threads=3", "optimize=false",
                                "file=my.onnx", NULL};
    const cpl_load_options o = {.size = sizeof o, .settings = good};
    cpl_onnx_settings out;
    cpl_error err = {0};
    assert_int_equal(cpl_onnx_settings_read(&out, &o, &err), CPL_OK);
    assert_int_equal(out.session.provider, CPL_ORT_CUDA);
    assert_int_equal(out.session.threads, 3);
    assert_false(out.session.optimize);
    assert_string_equal(out.file, "my.onnx");
    refused("use_gpu=true", "provider=cpu", "'use_gpu=true' and 'provider=cpu'");
    refused("device=cpu", "provider=openvino", "name different providers");
    refused("provider=tpu", NULL, "'provider=tpu' isn't known");
    refused("threads=0", NULL, "threads");
    refused("threads=2x", NULL, "threads");
    refused("optimise=true", NULL, "optimise");
    refused("optimize=yes", NULL, "optimize=yes");
}

/* ---- loading -------------------------------------------------------------------------------------------------------
 */

static const char tiny[] = "tests/golden/models/cross-encoder";

static void what_ran_is_reported(void **state)
{
    (void)state;
    need_runtime();
    cpl_load_report r;
    cpl_error err;
    assert_int_equal(try_load(&host, tiny, CPL_PRECISION_FP32, NULL, &r, &err), CPL_OK);
    assert_non_null(strstr(r.kernels, "CPU, 14 of 14 products fp32"));
    assert_int_equal(try_load(&host, tiny, CPL_PRECISION_INT8, NULL, &r, &err), CPL_OK);
    assert_non_null(strstr(r.kernels, "CPU, 8 of 14 products int8"));
    assert_int_equal(try_load(&host, tiny, CPL_PRECISION_FP32, "optimize=false", &r, &err), CPL_OK);
    assert_int_equal(try_load(&host, tiny, CPL_PRECISION_INT8, "optimize=false", &r, &err), CPL_OK);
    assert_int_equal(try_load(&host, tiny, CPL_PRECISION_INT8, "threads=2", &r, &err), CPL_OK);
}

/* On x86 the CPU provider casts fp16 to fp32, and the load line says that. */
static void fp16_says_what_computes_it(void **state)
{
    (void)state;
    need_runtime();
    cpl_load_report r;
    cpl_error err;
    assert_int_equal(try_load(&host, tiny, CPL_PRECISION_FP16, NULL, &r, &err), CPL_OK);
    assert_int_equal(r.precision, CPL_PRECISION_FP16);
#if defined(__x86_64__)
    assert_non_null(strstr(r.kernels, "14 of 14 products fp32: stored in fp16, computed in fp32"));
#else
    assert_true(strstr(r.kernels, "products fp16") || strstr(r.kernels, "computed in fp32"));
#endif
}

static void absent_providers_are_named(void **state)
{
    (void)state;
    need_runtime();
    cpl_load_report r;
    cpl_error err;
    if (!cpl_ort_has(&ort, CPL_ORT_CUDA)) {
        assert_int_equal(try_load(&host, tiny, CPL_PRECISION_FP32, "provider=cuda", &r, &err), CPL_UNSUPPORTED);
        assert_non_null(strstr(err.what, "provider 'CUDA' is not in this ONNX Runtime"));
    }
    if (!cpl_ort_has(&ort, CPL_ORT_OPENVINO))
        assert_int_equal(try_load(&host, tiny, CPL_PRECISION_FP32, "provider=openvino", &r, &err), CPL_UNSUPPORTED);
    assert_int_equal(try_load(&host, tiny, CPL_PRECISION_FP32, "provider=coreml", &r, &err), CPL_UNSUPPORTED);
    assert_int_equal(try_load(&host, tiny, CPL_PRECISION_FP16, "device=mps", &r, &err), CPL_UNSUPPORTED);
    assert_int_equal(try_load(&host, tiny, CPL_PRECISION_BF16, NULL, &r, &err), CPL_UNSUPPORTED);
}

static void a_missing_runtime_is_one_line(void **state)
{
    (void)state;
    cpl_caps caps;
    cpl_error err;
    setenv("COUPLET_ONNXRUNTIME", "/nowhere", 1);
    assert_int_equal(cpl_plugin(&host)->probe(&caps, &host, &err), CPL_UNSUPPORTED);
    unsetenv("COUPLET_ONNXRUNTIME");
    assert_non_null(strstr(err.what, "run tools/setup.sh onnx"));
}

/* ---- the user's own graphs -----------------------------------------------------------------------------------------
 */

static void write_file(const char *name, const cpl_buf *b)
{
    char path[256];
    cpl_error err;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(cpl_file_write(path, b->data, b->size, &err), CPL_OK);
}

/* The tiny model's files under `dir`, by links, and its own graph as a user's file. */
static void make_users(void)
{
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"};
    char from[512], to[256], cwd[256];
    assert_non_null(getcwd(cwd, sizeof cwd));
    for (size_t i = 0; i < 4; i++) {
        snprintf(from, sizeof from, "%s/%s/%s", cwd, tiny, files[i]);
        snprintf(to, sizeof to, "%s/%s", dir, files[i]);
        assert_int_equal(symlink(from, to), 0);
    }
    cpl_model *model = NULL;
    cpl_error err;
    assert_int_equal(cpl_model_open(&model, tiny, &err), CPL_OK);
    for (int numbers = CPL_ONNX_FP32; numbers <= CPL_ONNX_INT8; numbers++) {
        static const char *const names[] = {"fp32.onnx", "fp16.onnx", "int8.onnx"};
        const cpl_onnx_options o = {.numbers = (cpl_onnx_numbers)numbers};
        cpl_buf b = {0};
        assert_int_equal(cpl_onnx_write(&b, model, &o, &err), CPL_OK);
        write_file(names[numbers], &b);
        if (numbers == CPL_ONNX_FP32) {
            b.size -= b.size / 3;
            write_file("cut.onnx", &b);
        }
        cpl_buf_deinit(&b);
    }
    cpl_model_close(model);
}

/* A graph with one input that gives it back as floats, and other names, types or shapes than it should have. */
static void make_odd(const char *file, const char *input, int type, const cpl_onnx_dim in[2], const char *output)
{
    cpl_buf b = {0};
    const cpl_onnx_attribute to = {.name = "to", .kind = 'i', .i = CPL_ONNX_FLOAT};
    cpl_onnx_int(&b, 1, 8);
    size_t graph = cpl_onnx_begin(&b, 7);
    cpl_onnx_text(&b, 2, "odd");
    cpl_onnx_node(&b, "Cast", input, output, &to, 1);
    cpl_onnx_value(&b, 11, input, type, in, 2);
    cpl_onnx_value(&b, 12, output, CPL_ONNX_FLOAT, in, 2);
    cpl_onnx_end(&b, graph);
    size_t opset = cpl_onnx_begin(&b, 8);
    cpl_onnx_int(&b, 2, 17);
    cpl_onnx_end(&b, opset);
    write_file(file, &b);
    cpl_buf_deinit(&b);
}

static void expect(const char *file, cpl_precision p, cpl_status status, const char *why)
{
    char setting[128];
    cpl_load_report r;
    cpl_error err = {0};
    snprintf(setting, sizeof setting, "file=%s", file);
    cpl_status st = try_load(&host, dir, p, setting, &r, &err);
    if (st != status || (st && !strstr(err.what, why))) fail_msg("%s: status %d, '%s'", file, st, err.what);
}

static void users_graphs_run_or_are_refused(void **state)
{
    (void)state;
    need_runtime();
    const cpl_onnx_dim freely[] = {{"batch", 0}, {"sequence", 0}}, fixed[] = {{NULL, 1}, {NULL, 17}};
    const cpl_onnx_dim wide[] = {{"batch", 0}, {NULL, 999}};
    make_users();
    make_odd("names.onnx", "tokens", CPL_ONNX_INT64, freely, "logits");
    make_odd("fixed.onnx", CPL_ONNX_IDS, CPL_ONNX_INT64, fixed, "logits");
    make_odd("types.onnx", CPL_ONNX_IDS, CPL_ONNX_FLOAT, freely, "logits");
    make_odd("mask.onnx", CPL_ONNX_MASK, CPL_ONNX_INT64, freely, "logits");
    make_odd("wide.onnx", CPL_ONNX_IDS, CPL_ONNX_INT64, wide, "logits");
    make_odd("nothing.onnx", CPL_ONNX_IDS, CPL_ONNX_INT64, freely, "logits");
    expect("fp32.onnx", CPL_PRECISION_FP32, CPL_OK, "");
    expect("int8.onnx", CPL_PRECISION_INT8, CPL_OK, "");
    expect("int8.onnx", CPL_PRECISION_FP32, CPL_UNSUPPORTED, "fp32 was asked for and int8 ran");
    expect("fp32.onnx", CPL_PRECISION_INT8, CPL_UNSUPPORTED, "int8 was asked for and fp32 ran");
#if defined(__x86_64__) /* whose weights may be anything: nothing proves that they are stored in fp16 */
    expect("fp32.onnx", CPL_PRECISION_FP16, CPL_UNSUPPORTED, "fp16 was asked for and fp32 ran");
#endif
    expect("names.onnx", CPL_PRECISION_FP32, CPL_UNSUPPORTED, "'names.onnx': the graph has an input 'tokens'");
    expect("fixed.onnx", CPL_PRECISION_FP32, CPL_UNSUPPORTED, "fixed at [1, 17]: export it with free");
    expect("types.onnx", CPL_PRECISION_FP32, CPL_UNSUPPORTED, "int64 [batch, sequence] is needed");
    expect("mask.onnx", CPL_PRECISION_FP32, CPL_UNSUPPORTED, "no input '" CPL_ONNX_IDS "'");
    expect("wide.onnx", CPL_PRECISION_FP32, CPL_UNSUPPORTED, "fixed at");
    expect("nothing.onnx", CPL_PRECISION_FP32, CPL_INTERNAL, "a pass failed"); /* its rows have another width */
    expect("cut.onnx", CPL_PRECISION_FP32, CPL_INTERNAL, "opening the graph failed");
    expect("absent.onnx", CPL_PRECISION_FP32, CPL_NOT_FOUND, "no such file");
}

/* ---- all -----------------------------------------------------------------------------------------------------------
 */

static int make(void **state)
{
    (void)state;
    cpl_error err;
    cpl_host_init(&host, NULL);
    if (cpl_ort_open(&ort, &err)) snprintf(absent, sizeof absent, "%s", err.what);
    return mkdtemp(dir) ? 0 : -1;
}

static int clean(void **state)
{
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
                                        "fp32.onnx",   "fp16.onnx",         "int8.onnx",      "cut.onnx",
                                        "names.onnx",  "fixed.onnx",        "types.onnx",     "mask.onnx",
                                        "wide.onnx",   "nothing.onnx"};
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
        cmocka_unit_test(slots_are_where_they_were_published),
        cmocka_unit_test(slots_of_providers_answer),
        cmocka_unit_test(profiles_tell_what_ran),
        cmocka_unit_test(settings_are_checked),
        cmocka_unit_test(what_ran_is_reported),
        cmocka_unit_test(fp16_says_what_computes_it),
        cmocka_unit_test(absent_providers_are_named),
        cmocka_unit_test(a_missing_runtime_is_one_line),
        cmocka_unit_test(users_graphs_run_or_are_refused),
    };
    return cmocka_run_group_tests(tests, make, clean);
}
