/* SPDX-License-Identifier: Apache-2.0 */
/* profile.c - what a session of ONNX Runtime really executed.
 *
 * The one idea: a runtime that has no kernel for a type puts casts around the one it has, and says nothing: on x86 its
 * CPU provider multiplies fp16 as fp32. Its profile is the record of the kernels that ran, with the types of their
 * inputs and the provider; the products in it are what a precision is about. So every load runs one small batch with
 * the profile on and believes that. What a provider compiled into a node of its own can't be seen and is counted apart.
 * Threads: the loader's. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "backend/onnx/ort.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"

enum { PROFILE_BYTES_MAX = 64 << 20 };

static bool any_of(const char *word, const char *const *list)
{
    for (; *list; list++)
        if (!strcmp(word, *list)) return true;
    return false;
}

/* "float" of the node's first input that has a type. */
static const char *input_type(const json_t *args)
{
    const json_t *list = json_object_get(args, "input_type_shape");
    json_t *first = json_array_get(list, 0);
    const void *at = first ? json_object_iter(first) : NULL;
    return at ? json_object_iter_key((void *)(uintptr_t)at) : "";
}

static void count_node(cpl_ort_executed *out, const json_t *args, cpl_ort_provider provider)
{
    static const char *const integer[] = {"DynamicQuantizeMatMul",
                                          "MatMulInteger",
                                          "MatMulIntegerToFloat",
                                          "QLinearMatMul",
                                          "MatMulInteger16",
                                          "QAttention",
                                          "QGemm",
                                          NULL};
    static const char *const product[] = {"MatMul",    "FusedMatMul",        "Gemm", "FusedGemm",
                                          "Attention", "MultiHeadAttention", NULL};
    const char *op = json_string_value(json_object_get(args, "op_name"));
    const char *on = json_string_value(json_object_get(args, "provider"));
    char wanted[64];
    if (!op || !on) return;
    snprintf(wanted, sizeof wanted, "%sExecutionProvider", cpl_ort_provider_name(provider));
    if (provider != CPL_ORT_CPU && strstr(op, wanted) == op) out->hidden++; /* "CoreMLExecutionProvider_CoreML_..." */
    const char *type = input_type(args);
    if (any_of(op, integer))
        out->int8++;
    else if (!strcmp(op, "MatMulNBits"))
        out->int4++;
    else if (!any_of(op, product))
        return;
    else if (!strcmp(type, "float16"))
        out->fp16++;
    else if (!strcmp(type, "bfloat16"))
        out->bf16++;
    else
        out->fp32++;
    out->products++;
    if (strcmp(on, wanted) != 0) out->elsewhere++;
}

cpl_status cpl_ort_read_profile(cpl_ort_executed *out, const char *file, const char *text, size_t n,
                                cpl_ort_provider provider, cpl_error *err)
{
    json_t *root = NULL;
    size_t i;
    const json_t *event;
    cpl_status st = cpl_json_parse(&root, file, text, n, err);
    if (st) return st;
    json_array_foreach(root, i, event)
    {
        const char *name = json_string_value(json_object_get(event, "name"));
        const size_t length = name ? strlen(name) : 0, tail = strlen("_kernel_time");
        if (length > tail && !strcmp(name + length - tail, "_kernel_time"))
            count_node(out, json_object_get(event, "args"), provider);
    }
    json_decref(root);
    return CPL_OK;
}

cpl_status cpl_ort_session_executed(cpl_ort_session *s, const cpl_ort *ort, cpl_ort_provider provider,
                                    cpl_ort_executed *out, cpl_error *err)
{
    OrtAllocator *allocator = NULL;
    char *file = NULL;
    cpl_buf text = {0};
    cpl_status st = cpl_ort_check(ort, ort->api->GetAllocatorWithDefaultOptions(&allocator), "profiling", err);
    if (!st) st = cpl_ort_check(ort, ort->api->SessionEndProfiling(s->session, allocator, &file), "profiling", err);
    if (!st && out) {
        *out = (cpl_ort_executed){0};
        st = cpl_file_read(&text, file, PROFILE_BYTES_MAX, err);
        if (!st) st = cpl_ort_read_profile(out, file, text.data, text.size, provider, err);
        cpl_buf_deinit(&text);
    }
    if (file) {
        unlink(file);
        OrtStatus *status = ort->api->AllocatorFree(allocator, file);
        if (status) ort->api->ReleaseStatus(status);
    }
    rmdir(s->profile_dir);
    s->profile_dir[0] = 0;
    return st;
}
