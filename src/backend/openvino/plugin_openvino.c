/* SPDX-License-Identifier: Apache-2.0 */
/* plugin_openvino.c - couplet-openvino.so: OpenVINO's CPU plug-in as a backend.
 *
 * The one idea: what a precision is, is read back after a first pass: the hint in effect and the kernels' names (ov.c).
 * A load that ran something else is refused, so f16, which this runtime turns into bf16 where the CPU has no fp16
 * products, is not offered there.
 *
 * fp32, bf16 and fp16 compile couplet's own ONNX graph. int8 needs scales of activations, which come from data: a tool
 * (tools/export_openvino.py, NNCF) calibrates the same graph and leaves it beside the model with a checksum of the
 * weights it was made from; here it is only loaded. One request uses all cores by itself (measured faster than one a
 * core except on static shapes, which cost a compilation each), so the engine has one worker. A shape that is new costs
 * the runtime a search for kernels (some 4 ms in bf16, 15 in int8), so widths are rounded up there; not in a batch of
 * one length, which is mostly followed by others of that length.
 *
 * Threads: sessions run at once, each with its own request; opening the second graph is under a lock. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "backend/openvino/ov.h"
#include "backend/precision.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/thread.h"
#include "kernel/cpu.h"
#include "model/onnx.h"
#include "model/onnx_proto.h"

enum { BATCH_TOKENS = 2048, WIDTH_MULTIPLE = 16, LAUNCH_TOKENS = 16, STAMP_BYTES_MAX = 1 << 16 };

#define INT8_GRAPH "openvino_int8.xml"
#define INT8_STAMP "openvino_int8.json"

CPL_API const cpl_backend *cpl_plugin(const cpl_host *host);

struct cpl_weights {
    cpl_host host;
    cpl_ov ov;
    cpl_ov_options options;
    cpl_precision precision;
    uint32_t width_multiple; /* of rectangles */
    cpl_padded_model model;
    char dir[512];
    uint32_t batch_tokens_max, batch_sequences_max;
    cpl_want scoring;
    cpl_ov_model graph;
    pthread_mutex_t lock; /* of states */
    bool states_open;     /* the graph that gives hidden states */
    cpl_ov_model states;
};

struct cpl_session {
    cpl_weights *weights;
    cpl_padded padded;
    ov_infer_request_t *request, *states_request; /* the second when it is first wanted */
};

/* ---- what runs here ---------------------------------------------------------------------------------------------- */

static const struct {
    cpl_precision precision;
    const char *hint;
} hints[] = {{CPL_PRECISION_FP32, "f32"}, {CPL_PRECISION_BF16, "bf16"}, {CPL_PRECISION_FP16, "f16"}};

/* A graph of one product by constants: "input_ids" (floats here) [rows, 64] x [64, 64]. */
static cpl_status write_product(cpl_buf *b, cpl_error *err)
{
    const cpl_onnx_dim in[] = {{"rows", 0}, {NULL, 64}};
    const int64_t dims[] = {64, 64};
    const float one = 1;
    cpl_onnx_int(b, 1, 8); /* ir_version */
    size_t graph = cpl_onnx_begin(b, 7);
    cpl_onnx_text(b, 2, "product");
    cpl_onnx_node(b, "MatMul", CPL_ONNX_IDS " w", "y", NULL, 0);
    size_t w = cpl_onnx_tensor(b, "w", CPL_ONNX_FLOAT, dims, 2, 64 * 64 * sizeof one);
    for (int i = 0; i < 64 * 64; i++) cpl_buf_add(b, &one, sizeof one);
    cpl_onnx_end(b, w);
    cpl_onnx_value(b, 11, CPL_ONNX_IDS, CPL_ONNX_FLOAT, in, 2);
    cpl_onnx_value(b, 12, "y", CPL_ONNX_FLOAT, in, 2);
    cpl_onnx_end(b, graph);
    size_t opset = cpl_onnx_begin(b, 8);
    cpl_onnx_int(b, 2, 17);
    cpl_onnx_end(b, opset);
    return cpl_buf_status(b, err);
}

/* The hint that is in effect for a product when `hint` is asked for. */
static cpl_status effective_hint(char out[16], const cpl_ov *ov, const char *hint, const cpl_buf *graph, cpl_error *err)
{
    const cpl_ov_source source = {.graph = graph->data, .size = graph->size};
    const cpl_ov_options options = {.hint = hint, .threads = 1};
    cpl_ov_model m;
    char *text = NULL;
    cpl_status st = cpl_ov_model_open(&m, ov, &source, &options, CPL_PADDED_ROWS, 64, err);
    if (st) return st;
    st = cpl_ov_check(ov, ov->api.ov_compiled_model_get_property(m.compiled, "INFERENCE_PRECISION_HINT", &text),
                      "reading the precision in effect", err);
    snprintf(out, 16, "%s", text ? text : "");
    if (text) ov->api.ov_free(text);
    cpl_ov_model_close(&m, ov);
    return st;
}

static cpl_status probe(cpl_caps *out, const cpl_host *host, cpl_error *err)
{
    cpl_ov ov;
    cpl_cpu cpu;
    cpl_buf graph = {0};
    (void)host;
    cpl_status st = cpl_ov_open(&ov, err);
    if (!st) st = write_product(&graph, err);
    cpl_cpu_detect(&cpu);
    *out = (cpl_caps){.precisions = 1u << CPL_PRECISION_INT8,
                      .wants = 1u << CPL_WANT_LOGITS | 1u << CPL_WANT_POOLED | 1u << CPL_WANT_TOKENS,
                      .rectangles = 1,
                      .inexact = 1,
                      .own_threads = 1,
                      .devices = 1,
                      .batch_tokens = BATCH_TOKENS,
                      .automatic = CPL_PRECISION_FP32};
    for (int p = 0; p < CPL_PRECISION_COUNT; p++)
        snprintf(out->reason[p], sizeof out->reason[p], "couplet's graphs for OpenVINO have fp32, bf16, fp16 and int8");
    for (size_t i = 0; !st && i < sizeof hints / sizeof *hints; i++) {
        const cpl_precision p = hints[i].precision;
        char runs[16];
        st = effective_hint(runs, &ov, hints[i].hint, &graph, err);
        if (!st && !strcmp(runs, hints[i].hint)) out->precisions |= 1u << p;
        snprintf(out->reason[p], sizeof out->reason[p], "asked for %s, OpenVINO runs %s on this CPU", hints[i].hint,
                 runs);
        if (!st && p == CPL_PRECISION_BF16 && !strcmp(runs, "bf16")) out->automatic = p;
    }
    cpl_buf_deinit(&graph);
    if (st) return st;
    snprintf(out->automatic_rule, sizeof out->automatic_rule, "bf16 where OpenVINO runs it, else fp32");
    snprintf(out->isa, sizeof out->isa, "openvino %.16s", ov.version);
    snprintf(out->device, sizeof out->device, "%u cores of %.60s", cpl_cpu_count(), cpu.name);
    return CPL_OK;
}

/* ---- load -------------------------------------------------------------------------------------------------------- */

/* "what=N", N up to 1024; 0 leaves *out as it is. */
static cpl_status read_number(uint32_t *out, const char *setting, const char *what, cpl_error *err)
{
    const char *at = strchr(setting, '=') + 1;
    char *end = NULL;
    const unsigned long n = *at >= '0' && *at <= '9' ? strtoul(at, &end, 10) : 0;
    if (!end || *end || n > 1024)
        return cpl_fail(err, CPL_INVALID, "openvino: '%s' is not %s up to 1024", setting, what);
    if (n) *out = (uint32_t)n;
    return CPL_OK;
}

static cpl_status read_settings(cpl_weights *w, const cpl_load_options *o, cpl_error *err)
{
    w->options = (cpl_ov_options){.hint = NULL, .threads = cpl_cpu_count()};
    w->width_multiple = o->precision == CPL_PRECISION_FP32 ? 1 : WIDTH_MULTIPLE;
    cpl_status st = CPL_OK;
    for (const char *const *s = o->settings; !st && s && *s; s++) {
        if (!strncmp(*s, "threads=", 8)) {
            st = read_number(&w->options.threads, *s, "a number of threads", err);
        } else if (!strncmp(*s, "width_multiple=", 15)) {
            st = read_number(&w->width_multiple, *s, "a number of tokens", err);
        } else if (!strcmp(*s, "hint=f32") || !strcmp(*s, "hint=bf16")) {
            w->options.hint = *s + 5;
        } else if (!strcmp(*s, "device=cpu") || !strcmp(*s, "hint=auto")) {
            continue;
        } else {
            return cpl_fail(
                err, CPL_INVALID,
                "openvino: setting '%s' isn't known: threads=N, width_multiple=N, hint=auto|f32|bf16 (of int8) and "
                "device=cpu are",
                *s);
        }
    }
    return st;
}

/* Does bf16 stay bf16 here? */
static cpl_status runs_bf16(bool *out, const cpl_ov *ov, cpl_error *err)
{
    cpl_buf graph = {0};
    char runs[16] = "";
    cpl_status st = write_product(&graph, err);
    if (!st) st = effective_hint(runs, ov, "bf16", &graph, err);
    *out = !strcmp(runs, "bf16");
    cpl_buf_deinit(&graph);
    return st;
}

/* The hint that goes with the precision; whether it holds is what prove() finds. */
static cpl_status choose_hint(cpl_weights *w, const cpl_load_options *o, cpl_error *err)
{
    const char *said = w->options.hint;
    if (o->precision == CPL_PRECISION_INT8) {
        bool bf16 = false;
        cpl_status st = said ? CPL_OK : runs_bf16(&bf16, &w->ov, err);
        if (!said) w->options.hint = bf16 ? "bf16" : "f32";
        return st;
    }
    if (said) return cpl_fail(err, CPL_INVALID, "openvino: hint=%s is for int8: the precision says it otherwise", said);
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++)
        if (hints[i].precision == o->precision) w->options.hint = hints[i].hint;
    if (w->options.hint) return CPL_OK;
    return cpl_fail(err, CPL_UNSUPPORTED,
                    "openvino: couplet's graphs for OpenVINO have fp32, bf16, fp16 and int8, not %s",
                    cpl_precision_name(o->precision));
}

/* The calibrated graph belongs to these weights: the tool left their checksum. */
static cpl_status check_stamp(const char *dir, cpl_error *err)
{
    char path[800];
    json_t *root = NULL;
    cpl_map weights = {0};
    cpl_status st = cpl_file_join(path, sizeof path, dir, INT8_STAMP, err);
    if (!st) st = cpl_json_load(&root, path, STAMP_BYTES_MAX, err);
    const json_t *said = json_object_get(root, "weights_crc32");
    if (!st && !json_is_integer(said)) st = cpl_fail_file(err, CPL_CORRUPT, path, "no number 'weights_crc32' in it");
    const uint64_t expected = (uint64_t)json_integer_value(said);
    json_decref(root);
    char file[800];
    if (!st) st = cpl_file_join(file, sizeof file, dir, "model.safetensors", err);
    if (!st) st = cpl_file_map(&weights, file, err);
    if (st) return st;
    const uint64_t crc = crc32_z(crc32_z(0, NULL, 0), (const unsigned char *)weights.data, weights.size);
    cpl_file_unmap(&weights);
    if (crc == expected) return CPL_OK;
    return cpl_fail_file(
        err, CPL_CORRUPT, path,
        "int8 graph was made from other weights than model.safetensors: run tools/export_openvino.py again");
}

static cpl_status open_int8(cpl_weights *w, cpl_error *err)
{
    char path[800];
    cpl_status st = cpl_file_join(path, sizeof path, w->dir, INT8_GRAPH, err);
    if (st) return st;
    if (!cpl_file_exists(path))
        return cpl_fail_file(err, CPL_NOT_FOUND, path,
                             "int8 needs a calibrated graph, which isn't there: run tools/setup.sh openvino-export and "
                             ".openvino-venv/bin/python tools/export_openvino.py '%s'",
                             w->dir);
    st = check_stamp(w->dir, err);
    if (st) return st;
    const bool logits = w->scoring == CPL_WANT_LOGITS;
    const cpl_ov_source source = {.path = path};
    return cpl_ov_model_open(&w->graph, &w->ov, &source, &w->options, logits ? CPL_PADDED_ROWS : CPL_PADDED_TOKENS,
                             logits ? w->model.labels : w->model.hidden, err);
}

static cpl_status open_own(const cpl_weights *w, cpl_ov_model *out, const cpl_model *model, bool states, cpl_error *err)
{
    const cpl_onnx_options o = {.numbers = CPL_ONNX_FP32, .tokens = states};
    const bool logits = w->scoring == CPL_WANT_LOGITS && !states;
    cpl_buf graph = {0};
    cpl_status st = cpl_onnx_write(&graph, model, &o, err);
    const cpl_ov_source source = {.graph = graph.data, .size = graph.size};
    if (!st)
        st = cpl_ov_model_open(out, &w->ov, &source, &w->options, states ? CPL_PADDED_TOKENS : CPL_PADDED_ROWS,
                               logits ? w->model.labels : w->model.hidden, err);
    cpl_buf_deinit(&graph);
    return st;
}

/* Two short sequences of different length, and what they ran as. */
static cpl_status prove(cpl_weights *w, cpl_precision asked, cpl_load_report *report, cpl_error *err)
{
    const cpl_ov_api *a = &w->ov.api;
    const uint32_t n = w->model.max_length < 8 ? w->model.max_length : 8;
    int64_t ids[16] = {0}, types[16] = {0}, mask[16];
    const cpl_rectangle_tensors in = {ids, types, mask};
    ov_infer_request_t *request = NULL;
    cpl_ov_executed ran = {0};
    for (uint32_t i = 0; i < 2 * n; i++) mask[i] = i < n || i - n < (n + 1) / 2;
    float *out = calloc((size_t)2 * n * w->graph.width, sizeof *out);
    if (!out) return cpl_fail_memory(err, (size_t)2 * n * w->graph.width * sizeof *out);
    cpl_status st =
        cpl_ov_check(&w->ov, a->ov_compiled_model_create_infer_request(w->graph.compiled, &request), "a request", err);
    if (!st) st = cpl_ov_run(&w->graph, &w->ov, request, 2, n, &in, out, err);
    if (!st) st = cpl_ov_executed_read(&ran, &w->graph, &w->ov, request, err);
    if (request) a->ov_infer_request_free(request);
    free(out);
    if (st) return st;
    const uint32_t count[CPL_PRECISION_COUNT] = {[CPL_PRECISION_FP32] = ran.fp32,
                                                 [CPL_PRECISION_BF16] = ran.bf16,
                                                 [CPL_PRECISION_FP16] = ran.fp16,
                                                 [CPL_PRECISION_INT8] = ran.int8};
    const bool all = asked == CPL_PRECISION_INT8 ? ran.int8 * 2 > ran.products : count[asked] == ran.products;
    if (!ran.products || !all || strcmp(ran.hint, w->options.hint) != 0)
        return cpl_fail(
            err, CPL_UNSUPPORTED,
            "openvino: %s was asked for, but of %u products %u ran in fp32, %u bf16, %u fp16, %u int8, hint in "
            "effect %s",
            cpl_precision_name(asked), ran.products, ran.fp32, ran.bf16, ran.fp16, ran.int8, ran.hint);
    report->precision = asked;
    snprintf(report->kernels, sizeof report->kernels, "openvino %.12s, %u of %u products %s, rest %s", w->ov.version,
             count[asked], ran.products, cpl_precision_name(asked), ran.hint);
    return CPL_OK;
}

static void unload(cpl_weights *w)
{
    if (!w) return;
    cpl_host host = w->host;
    if (w->states_open) cpl_ov_model_close(&w->states, &w->ov);
    cpl_ov_model_close(&w->graph, &w->ov);
    pthread_mutex_destroy(&w->lock);
    host.release(w, sizeof *w);
}

static cpl_status load(cpl_weights **out, const cpl_model *model, const cpl_load_options *o, cpl_load_report *report,
                       const cpl_host *host, cpl_error *err)
{
    const cpl_arch *a = &model->arch;
    *out = NULL;
    if (o->size != sizeof *o)
        return cpl_fail(err, CPL_INVALID, "load options are of another size (%u, expected %zu)", o->size, sizeof *o);
    cpl_weights *w = host->allocate(sizeof *w, 64);
    if (!w) return cpl_fail_memory(err, sizeof *w);
    w->host = *host;
    pthread_mutex_init(&w->lock, NULL);
    snprintf(w->dir, sizeof w->dir, "%s", model->dir);
    w->model = (cpl_padded_model){a->vocab, a->types, a->labels, a->hidden, model->max_length, model->pooling};
    w->precision = o->precision;
    w->batch_tokens_max = o->batch_tokens_max;
    w->batch_sequences_max = o->batch_sequences_max;
    w->scoring = model->task == CPL_TASK_CROSS_ENCODER ? CPL_WANT_LOGITS : CPL_WANT_POOLED;
    *report = (cpl_load_report){.weight_bytes = model->parameters * (o->precision == CPL_PRECISION_FP32 ? 4 : 2),
                                .batch_tokens = BATCH_TOKENS};
    cpl_status st = read_settings(w, o, err);
    if (!st) st = cpl_ov_open(&w->ov, err);
    if (!st) st = choose_hint(w, o, err);
    if (!st) st = o->precision == CPL_PRECISION_INT8 ? open_int8(w, err) : open_own(w, &w->graph, model, false, err);
    if (!st) st = prove(w, o->precision, report, err);
    if (st)
        unload(w);
    else
        *out = w;
    return st;
}

/* ---- sessions ---------------------------------------------------------------------------------------------------- */

static void close_session(cpl_session *s)
{
    if (!s) return;
    const cpl_ov_api *a = &s->weights->ov.api;
    if (s->request) a->ov_infer_request_free(s->request);
    if (s->states_request) a->ov_infer_request_free(s->states_request);
    cpl_padded_close(&s->padded);
    s->weights->host.release(s, sizeof *s);
}

static cpl_status open_session(cpl_session **out, cpl_weights *w, cpl_error *err)
{
    const cpl_rectangle_limits limits = {.launch_tokens = LAUNCH_TOKENS};
    *out = NULL;
    cpl_session *s = w->host.allocate(sizeof *s, 64);
    if (!s) return cpl_fail_memory(err, sizeof *s);
    s->weights = w;
    cpl_status st =
        cpl_padded_open(&s->padded, &w->host, &w->model, &limits, w->batch_tokens_max, w->batch_sequences_max, err);
    if (!st)
        st = cpl_ov_check(&w->ov, w->ov.api.ov_compiled_model_create_infer_request(w->graph.compiled, &s->request),
                          "a request", err);
    if (st)
        close_session(s);
    else
        *out = s;
    return st;
}

/* The graph of hidden states, compiled by whoever wants it first; then a request of it. */
static cpl_status open_states(cpl_session *s, cpl_error *err)
{
    cpl_weights *w = s->weights;
    cpl_model *model = NULL;
    cpl_status st = CPL_OK;
    if (s->states_request) return CPL_OK;
    if (w->precision == CPL_PRECISION_INT8)
        return cpl_fail(err, CPL_UNSUPPORTED, "openvino: the calibrated int8 graph gives logits only");
    pthread_mutex_lock(&w->lock);
    if (!w->states_open) {
        st = cpl_model_open(&model, w->dir, err);
        if (!st) st = open_own(w, &w->states, model, true, err);
        w->states_open = !st;
        cpl_model_close(model);
    }
    pthread_mutex_unlock(&w->lock);
    if (st) return st;
    return cpl_ov_check(&w->ov,
                        w->ov.api.ov_compiled_model_create_infer_request(w->states.compiled, &s->states_request),
                        "a request", err);
}

typedef struct pass_of {
    const cpl_ov *ov;
    const cpl_ov_model *model;
    ov_infer_request_t *request;
} pass_of;

static cpl_status pass(void *arg, uint32_t rows, uint32_t width, const cpl_rectangle_tensors *in, float *out,
                       cpl_error *err)
{
    const pass_of *p = arg;
    return cpl_ov_run(p->model, p->ov, p->request, rows, width, in, out, err);
}

static bool of_one_length(const cpl_batch *b)
{
    for (uint32_t i = 1; i < b->n; i++)
        if (b->cu_seqlens[i + 1] - b->cu_seqlens[i] != b->cu_seqlens[1] - b->cu_seqlens[0]) return false;
    return true;
}

static cpl_status run(cpl_session *s, const cpl_batch *b, cpl_team *team, float *rows, cpl_error *err)
{
    cpl_weights *w = s->weights;
    pass_of p = {&w->ov, &w->graph, s->request};
    const bool rounded = w->model.max_length % w->width_multiple == 0 && !of_one_length(b);
    (void)team;
    s->padded.limits.width_multiple = rounded ? w->width_multiple : 1;
    if (b->want != w->scoring && b->want != CPL_WANT_LOGITS && w->graph.form != CPL_PADDED_TOKENS) {
        cpl_status st = open_states(s, err);
        if (st) return st;
        p.model = &w->states;
        p.request = s->states_request;
    }
    return cpl_padded_run(&s->padded, b, p.model->form, pass, &p, rows, err);
}

static uint64_t padding(const cpl_session *s) { return s->padded.padding; }

static const cpl_backend backend = {.abi = CPL_BACKEND_ABI,
                                    .size = sizeof(cpl_backend),
                                    .name = "openvino",
                                    .summary = "OpenVINO on the CPU over a graph that couplet writes",
                                    .probe = probe,
                                    .load = load,
                                    .open = open_session,
                                    .run = run,
                                    .padding = padding,
                                    .close = close_session,
                                    .unload = unload};

const cpl_backend *cpl_plugin(const cpl_host *host)
{
    return host->abi == CPL_BACKEND_ABI && host->size == sizeof *host ? &backend : NULL;
}
