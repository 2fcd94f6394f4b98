/* SPDX-License-Identifier: Apache-2.0 */
/* ov.c - OpenVINO opened at run time.
 *
 * The one idea: a precision hint is a hint (asked for f16, it runs bf16 on CPUs that have no fp16 products, and says so
 * only when its compiled model is asked), so after the first pass two things are read back: the hint in effect, and the
 * kernels that ran, whose names end in the type they multiply. Counting time by node stays on for that; it costs some
 * microseconds a pass. Nothing of it is linked: functions are found by name. Threads: a compiled model is shared, a
 * request is one session's. */
#include "backend/openvino/ov.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "model/onnx.h"

static const cpl_foreign_spec spec = {.what = "OpenVINO",
                                      .setup = "openvino",
                                      .variable = "COUPLET_OPENVINO",
#if defined(__APPLE__)
                                      .pattern = "openvino/libs/libopenvino_c.*dylib",
                                      .soname = "libopenvino_c.dylib"};
#else
                                      .pattern = "openvino/libs/libopenvino_c.so*",
                                      .soname = "libopenvino_c.so"};
#endif

static const char *const input_names[CPL_OV_INPUTS] = {CPL_ONNX_IDS, CPL_ONNX_MASK, CPL_ONNX_TYPES};

cpl_status cpl_ov_check(const cpl_ov *ov, int code, const char *what, cpl_error *err)
{
    if (!code) return CPL_OK;
    const char *why = ov->api.ov_get_last_err_msg();
    const size_t n = why ? strcspn(why, "\n") : 0; /* the first line says it, the rest is a trace */
    return cpl_fail(err, CPL_INTERNAL, "%s failed: OpenVINO %s says (%d): %.*s", what, ov->version, code,
                    n > 300 ? 300 : (int)n, why ? why : "");
}

cpl_status cpl_ov_open(cpl_ov *out, cpl_error *err)
{
    *out = (cpl_ov){0};
    cpl_ov_api *a = &out->api;
#define SLOT(name)                                                                                                     \
    {                                                                                                                  \
#name, &a->name                                                                                                \
    }
    const cpl_foreign_symbol symbols[] = {
        SLOT(ov_get_openvino_version),
        SLOT(ov_version_free),
        SLOT(ov_get_last_err_msg),
        SLOT(ov_free),
        SLOT(ov_core_create),
        SLOT(ov_core_free),
        SLOT(ov_core_read_model),
        SLOT(ov_core_read_model_from_memory_buffer),
        SLOT(ov_core_compile_model),
        SLOT(ov_model_free),
        SLOT(ov_model_inputs_size),
        SLOT(ov_model_const_input_by_name),
        SLOT(ov_model_const_output_by_index),
        SLOT(ov_port_get_element_type),
        SLOT(ov_output_const_port_free),
        SLOT(ov_compiled_model_create_infer_request),
        SLOT(ov_compiled_model_get_property),
        SLOT(ov_compiled_model_free),
        SLOT(ov_infer_request_set_tensor),
        SLOT(ov_infer_request_infer),
        SLOT(ov_infer_request_get_output_tensor_by_index),
        SLOT(ov_infer_request_get_profiling_info),
        SLOT(ov_profiling_info_list_free),
        SLOT(ov_infer_request_free),
        SLOT(ov_tensor_create_from_host_ptr),
        SLOT(ov_tensor_get_byte_size),
        SLOT(ov_tensor_data),
        SLOT(ov_tensor_free),
    };
#undef SLOT
    cpl_status st = cpl_foreign_open(&out->library, &spec, err);
    if (!st) st = cpl_foreign_symbols(&out->library, &spec, symbols, sizeof symbols / sizeof *symbols, err);
    if (st) return st;
    ov_version_t v = {0};
    st = cpl_ov_check(out, a->ov_get_openvino_version(&v), "asking for its version", err);
    if (st) return st;
    snprintf(out->version, sizeof out->version, "%.*s", (int)strcspn(v.buildNumber, "-"), v.buildNumber);
    a->ov_version_free(&v);
    return CPL_OK;
}

/* ---- a compiled model -------------------------------------------------------------------------------------------- */

static int input_type(const cpl_ov *ov, const ov_model_t *model, const char *name)
{
    ov_output_const_port_t *port = NULL;
    int type = -1;
    if (ov->api.ov_model_const_input_by_name(model, name, &port)) return -1;
    if (ov->api.ov_port_get_element_type(port, &type)) type = -1;
    ov->api.ov_output_const_port_free(port);
    return type;
}

/* Inputs by name, and none besides. */
static cpl_status check_inputs(cpl_ov_model *m, const cpl_ov *ov, const ov_model_t *model, cpl_error *err)
{
    size_t count = 0, known = 0;
    cpl_status st = cpl_ov_check(ov, ov->api.ov_model_inputs_size(model, &count), "reading the graph's inputs", err);
    if (st) return st;
    for (int i = 0; i < CPL_OV_INPUTS; i++) {
        m->types[i] = input_type(ov, model, input_names[i]);
        known += m->types[i] >= 0;
    }
    if (known == count && m->types[0] >= 0) return CPL_OK;
    return cpl_fail(err, CPL_UNSUPPORTED,
                    "the graph has %zu inputs, %zu of them among " CPL_ONNX_IDS ", " CPL_ONNX_MASK
                    " and " CPL_ONNX_TYPES ", which are what couplet gives",
                    count, known);
}

cpl_status cpl_ov_model_open(cpl_ov_model *out, const cpl_ov *ov, const cpl_ov_source *source,
                             const cpl_ov_options *options, cpl_padded_form form, uint32_t width, cpl_error *err)
{
    const cpl_ov_api *a = &ov->api;
    ov_model_t *model = NULL;
    char threads[16];
    *out = (cpl_ov_model){.form = form, .width = width};
    snprintf(threads, sizeof threads, "%u", options->threads);
    cpl_status st = cpl_ov_check(ov, a->ov_core_create(&out->core), "opening the runtime", err);
    if (!st && source->path)
        st = cpl_ov_check(ov, a->ov_core_read_model(out->core, source->path, NULL, &model), "reading the graph", err);
    else if (!st)
        st = cpl_ov_check(
            ov, a->ov_core_read_model_from_memory_buffer(out->core, source->graph, source->size, NULL, &model),
            "reading the graph", err);
    if (!st) st = check_inputs(out, ov, model, err);
    if (!st)
        st = cpl_ov_check(ov,
                          a->ov_core_compile_model(out->core, model, "CPU", 8, &out->compiled,
                                                   "INFERENCE_PRECISION_HINT", options->hint, "INFERENCE_NUM_THREADS",
                                                   threads, "NUM_STREAMS", "1", "PERF_COUNT", "YES"),
                          "compiling the graph", err);
    if (model) a->ov_model_free(model);
    if (st) cpl_ov_model_close(out, ov);
    return st;
}

void cpl_ov_model_close(cpl_ov_model *m, const cpl_ov *ov)
{
    if (m->compiled) ov->api.ov_compiled_model_free(m->compiled);
    if (m->core) ov->api.ov_core_free(m->core);
    *m = (cpl_ov_model){0};
}

cpl_status cpl_ov_run(const cpl_ov_model *m, const cpl_ov *ov, ov_infer_request_t *request, uint32_t rows,
                      uint32_t width, const cpl_rectangle_tensors *in, float *out, cpl_error *err)
{
    const cpl_ov_api *a = &ov->api;
    int64_t *const data[CPL_OV_INPUTS] = {in->ids, in->mask, in->type_ids}, dims[] = {rows, width};
    ov_tensor_t *tensors[CPL_OV_INPUTS] = {NULL}, *result = NULL;
    const size_t cells = (size_t)rows * width,
                 floats = (m->form == CPL_PADDED_TOKENS ? cells : rows) * (size_t)m->width;
    size_t bytes = 0;
    void *values = NULL;
    int code = 0;
    for (int i = 0; !code && i < CPL_OV_INPUTS; i++) {
        if (m->types[i] < 0) continue;
        code = a->ov_tensor_create_from_host_ptr(m->types[i], (ov_shape_t){2, dims}, data[i], &tensors[i]);
        if (!code) code = a->ov_tensor_get_byte_size(tensors[i], &bytes);
        if (!code && bytes != cells * sizeof(int64_t)) break;
        if (!code) code = a->ov_infer_request_set_tensor(request, input_names[i], tensors[i]);
    }
    cpl_status st = cpl_ov_check(ov, code, "setting the inputs", err);
    if (!st && bytes != cells * sizeof(int64_t))
        st = cpl_fail(err, CPL_UNSUPPORTED, "the graph's inputs are not int64, which couplet gives");
    if (!st) code = a->ov_infer_request_infer(request);
    if (!st && !code) code = a->ov_infer_request_get_output_tensor_by_index(request, 0, &result);
    if (!st && !code) code = a->ov_tensor_get_byte_size(result, &bytes);
    if (!st && !code) code = a->ov_tensor_data(result, &values);
    if (!st) st = cpl_ov_check(ov, code, "a pass", err);
    if (!st && bytes != floats * sizeof *out)
        st = cpl_fail(err, CPL_UNSUPPORTED,
                      "the graph gave %zu bytes where %zu are expected: its output is of another size", bytes,
                      floats * sizeof *out);
    if (!st) memcpy(out, values, bytes);
    for (int i = 0; i < CPL_OV_INPUTS; i++)
        if (tensors[i]) a->ov_tensor_free(tensors[i]);
    if (result) a->ov_tensor_free(result);
    return st;
}

/* ---- what ran -----------------------------------------------------------------------------------------------------
 */

/* What stands behind the last '_': "brgemm_avx512_I8". */
static int is_type(const char *exec_type, const char *name)
{
    const char *last = strrchr(exec_type, '_');
    return last && !strcasecmp(last + 1, name);
}

void cpl_ov_count(cpl_ov_executed *out, const char *node_type, const char *exec_type)
{
    if (strncmp(node_type, "FullyConnected", 14) != 0 && strcmp(node_type, "MatMul") != 0) return;
    out->products++; /* a type that isn't known is none of those below, and so no proof of anything */
    out->int8 += is_type(exec_type, "i8") || is_type(exec_type, "u8");
    out->bf16 += is_type(exec_type, "bf16");
    out->fp16 += is_type(exec_type, "f16");
    out->fp32 += is_type(exec_type, "f32");
}

cpl_status cpl_ov_executed_read(cpl_ov_executed *out, const cpl_ov_model *m, const cpl_ov *ov,
                                const ov_infer_request_t *request, cpl_error *err)
{
    ov_profiling_info_list_t list = {0};
    char *hint = NULL;
    *out = (cpl_ov_executed){0};
    cpl_status st = cpl_ov_check(ov, ov->api.ov_infer_request_get_profiling_info(request, &list), "profiling", err);
    for (size_t i = 0; !st && i < list.size; i++) {
        const ov_profiling_info_t *p = &list.profiling_infos[i];
        if (p->status == 2) cpl_ov_count(out, p->node_type, p->exec_type);
    }
    if (list.profiling_infos) ov->api.ov_profiling_info_list_free(&list);
    if (!st)
        st = cpl_ov_check(ov, ov->api.ov_compiled_model_get_property(m->compiled, "INFERENCE_PRECISION_HINT", &hint),
                          "reading the precision in effect", err);
    if (!st) snprintf(out->hint, sizeof out->hint, "%s", hint);
    if (hint) ov->api.ov_free(hint);
    return st;
}
