/* SPDX-License-Identifier: Apache-2.0 */
/* plugin_onnx.c - couplet-onnx.so: ONNX Runtime as a backend.
 *
 * The one idea: a precision is what the runtime's own profile of a first pass shows (profile.c), not what the graph
 * says. A load whose products ran in another type, or on another provider, than was asked for is refused. One case has
 * a name of its own: on x86 the CPU provider has no fp16 products and casts, so there couplet's fp16 graph is "stored
 * in fp16, computed in fp32", which is what the native engine's fp16 is too, and the load line calls it that.
 *
 * Couplet writes the graph (model/onnx.h) and gives it from memory; `file=` takes a graph of the user's instead, as
 * does a directory that has model.onnx and no weights; it must pass the same checks. One runtime session is shared by
 * all of couplet's: its weights are read-only, and a run on one thread (the default) needs no pool, so workers are the
 * parallelism; that measured faster than one session of all cores. What scoring doesn't need (token states; vectors of
 * a cross-encoder) comes from a second graph, as the first may compute [CLS] alone in its last layer; it is opened when
 * it is first wanted, from the model's directory.
 *
 * Threads: sessions run at once; opening the second graph is under a lock. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "backend/onnx/graph.h"
#include "backend/onnx/settings.h"
#include "backend/precision.h"
#include "base/error.h"
#include "base/file.h"
#include "base/thread.h"
#include "kernel/cpu.h"
#include "model/onnx.h"

/* Tokens a pass: small ones stay in a core's cache; a device wants large ones. Padding below LAUNCH_TOKENS costs less
 * than another run. */
enum { BATCH_TOKENS = 512, DEVICE_BATCH_TOKENS = 16384, LAUNCH_TOKENS = 8, DEVICE_LAUNCH_TOKENS = 512 };

CPL_API const cpl_backend *cpl_plugin(const cpl_host *host);

struct cpl_weights {
    cpl_host host;
    cpl_ort ort;
    cpl_onnx_settings settings;
    cpl_padded_model model;
    cpl_onnx_options numbers;
    char dir[512];
    uint32_t batch_tokens_max, batch_sequences_max;
    cpl_want scoring;
    cpl_ort_graph graph;
    pthread_mutex_t lock;  /* of states */
    cpl_ort_graph *states; /* the graph that gives token states; NULL until wanted */
    cpl_ort_graph states_room;
};

struct cpl_session {
    cpl_weights *weights;
    cpl_padded padded;
};

/* ---- what runs here ---------------------------------------------------------------------------------------------- */

static cpl_status probe(cpl_caps *out, const cpl_host *host, cpl_error *err)
{
    cpl_ort ort;
    cpl_cpu cpu;
    (void)host;
    cpl_status st = cpl_ort_open(&ort, err);
    if (st) return st;
    const bool device = cpl_ort_has(&ort, CPL_ORT_CUDA) || cpl_ort_has(&ort, CPL_ORT_COREML);
    cpl_cpu_detect(&cpu);
    *out = (cpl_caps){.precisions = 1u << CPL_PRECISION_FP32 | 1u << CPL_PRECISION_FP16 | 1u << CPL_PRECISION_INT8,
                      .wants = 1u << CPL_WANT_LOGITS | 1u << CPL_WANT_POOLED | 1u << CPL_WANT_TOKENS,
                      .rectangles = 1,
                      .inexact = 1,
                      .devices = 1,
                      .graphs = 1,
                      .batch_tokens = device ? DEVICE_BATCH_TOKENS : BATCH_TOKENS,
                      .automatic = CPL_PRECISION_FP32};
    snprintf(out->automatic_rule, sizeof out->automatic_rule, "fp32: int8 here loses more than this project's own");
    for (int p = 0; p < CPL_PRECISION_COUNT; p++)
        if (!(out->precisions >> p & 1))
            snprintf(out->reason[p], sizeof out->reason[p],
                     "couplet's graphs for ONNX Runtime have fp32, fp16 and int8");
    snprintf(out->isa, sizeof out->isa, "onnxruntime %.16s", ort.version);
    snprintf(out->device, sizeof out->device, "%u cores of %.40s; providers: %.30s", cpl_cpu_count(), cpu.name,
             ort.providers);
    return CPL_OK;
}

/* ---- load -------------------------------------------------------------------------------------------------------- */

static cpl_status check_options(cpl_weights *w, const cpl_load_options *o, cpl_error *err)
{
    cpl_cpu cpu;
    if (o->size != sizeof *o)
        return cpl_fail(err, CPL_INVALID, "load options are of another size (%u, expected %zu)", o->size, sizeof *o);
    cpl_status st = cpl_onnx_settings_read(&w->settings, o, err);
    if (st) return st;
    cpl_cpu_detect(&cpu);
    switch (o->precision) {
    case CPL_PRECISION_FP32: w->numbers.numbers = CPL_ONNX_FP32; break;
    case CPL_PRECISION_FP16: w->numbers.numbers = CPL_ONNX_FP16; break;
    case CPL_PRECISION_INT8: w->numbers.numbers = CPL_ONNX_INT8; break;
    default:
        return cpl_fail(err, CPL_UNSUPPORTED,
                        "onnx: couplet's graphs for ONNX Runtime have fp32, fp16 and int8, not %s",
                        cpl_precision_name(o->precision));
    }
    if (w->settings.session.provider == CPL_ORT_COREML && o->precision != CPL_PRECISION_FP16)
        return cpl_fail(err, CPL_UNSUPPORTED,
                        "onnx: CoreML computes in fp16 whatever the graph says: ask for fp16, or provider=cpu");
#if defined(__x86_64__)
    w->numbers.seven_bits = !(cpu.features & (CPL_CPU_AVX512_VNNI | CPL_CPU_AVX_VNNI));
#endif
    return CPL_OK;
}

static size_t file_bytes(const char *path)
{
    struct stat s;
    return stat(path, &s) ? 0 : (size_t)s.st_size;
}

static cpl_status open_graph(cpl_weights *w, cpl_ort_graph *graph, const cpl_model *model, cpl_want want, size_t *bytes,
                             cpl_error *err)
{
    char path[800];
    cpl_buf bytes_of_graph = {0};
    cpl_ort_source source = {0};
    cpl_onnx_options numbers = w->numbers;
    cpl_status st = CPL_OK;
    numbers.tokens = want == CPL_WANT_TOKENS;
    if (w->settings.file[0]) {
        st = cpl_file_join(path, sizeof path, w->dir, w->settings.file, err);
        if (!st && !cpl_file_exists(path))
            st = cpl_fail_file(err, CPL_NOT_FOUND, path, "no such file, which model.onnx.file names");
        source.path = path;
        if (!st && bytes) *bytes = file_bytes(path);
    } else {
        st = cpl_onnx_write(&bytes_of_graph, model, &numbers, err);
        source.graph = bytes_of_graph.data;
        source.size = bytes_of_graph.size;
    }
    if (!st) st = cpl_ort_graph_open(graph, &w->ort, &source, &w->settings.session, &w->model, want, err);
    if (st && w->settings.file[0]) cpl_error_prefix(err, "'%s'", w->settings.file);
    if (bytes && bytes_of_graph.size) *bytes = bytes_of_graph.size;
    cpl_buf_deinit(&bytes_of_graph);
    return st;
}

/* Two short sequences of different length, so that the mask counts. */
static cpl_status first_pass(const cpl_weights *w, const cpl_ort_graph *g, cpl_error *err)
{
    const uint32_t n = w->model.max_length < 8 ? w->model.max_length : 8;
    int64_t ids[16] = {0}, types[16] = {0}, mask[16];
    const cpl_rectangle_tensors in = {ids, types, mask};
    for (uint32_t i = 0; i < 2 * n; i++) mask[i] = i < n || i - n < (n + 1) / 2;
    float *out = calloc((size_t)2 * n * (g->width ? g->width : 1), sizeof *out);
    if (!out) return cpl_fail_memory(err, (size_t)2 * n * g->width * sizeof *out);
    cpl_status st = cpl_ort_graph_run(g, &w->ort, 2, n, &in, out, err);
    free(out);
    return st;
}

/* What the products ran as, by the profile. */
static cpl_precision executed_as(const cpl_ort_executed *ran)
{
    if (ran->int8) return CPL_PRECISION_INT8;
    if (ran->int4) return CPL_PRECISION_INT4;
    if (ran->products && ran->fp16 == ran->products) return CPL_PRECISION_FP16;
    if (ran->products && ran->bf16 == ran->products) return CPL_PRECISION_BF16;
    return CPL_PRECISION_FP32;
}

static cpl_status prove(cpl_weights *w, cpl_ort_graph *g, cpl_precision asked, cpl_load_report *report, cpl_error *err)
{
    const cpl_ort_provider provider = w->settings.session.provider;
    const char *name = cpl_ort_provider_name(provider), *asked_name = cpl_precision_name(asked);
    cpl_ort_executed ran = {0};
    cpl_status st = first_pass(w, g, err);
    if (!st) st = cpl_ort_session_executed(&g->session, &w->ort, provider, &ran, err);
    if (st) return st;
    if (ran.hidden && !ran.elsewhere) { /* a provider that compiles: only what was given to it is known */
        snprintf(report->kernels, sizeof report->kernels, "onnxruntime %.12s %s, %u compiled nodes", w->ort.version,
                 name, ran.hidden);
        report->precision = asked;
        return CPL_OK;
    }
    if (!ran.products) return cpl_fail(err, CPL_UNSUPPORTED, "onnx: no matrix product in the profile of a pass");
    if (ran.elsewhere)
        return cpl_fail(err, CPL_UNSUPPORTED, "onnx: provider %s was asked for, but %u of %u products ran elsewhere",
                        name, ran.elsewhere, ran.products);
    report->precision = executed_as(&ran);
    /* Couplet's own graph with weights in fp16 where there are no such products: what the native engine calls fp16. */
    const bool stored =
        asked == CPL_PRECISION_FP16 && !w->settings.file[0] && provider == CPL_ORT_CPU && ran.fp32 == ran.products;
    if (stored) report->precision = asked;
    if (report->precision != asked)
        return cpl_fail(
            err, CPL_UNSUPPORTED,
            "onnx: %s was asked for and %s ran: of %u products %u took fp32, %u fp16, %u bf16, %u int8, %u int4",
            asked_name, cpl_precision_name(report->precision), ran.products, ran.fp32, ran.fp16, ran.bf16, ran.int8,
            ran.int4);
    snprintf(report->kernels, sizeof report->kernels, "onnxruntime %.12s %s, %u of %u products %s%s", w->ort.version,
             name, asked == CPL_PRECISION_INT8 ? ran.int8 : ran.products, ran.products, stored ? "fp32" : asked_name,
             stored ? ": stored in fp16, computed in fp32" : "");
    return CPL_OK;
}

static void unload(cpl_weights *w)
{
    if (!w) return;
    cpl_host host = w->host;
    if (w->states) cpl_ort_graph_close(w->states, &w->ort);
    cpl_ort_graph_close(&w->graph, &w->ort);
    pthread_mutex_destroy(&w->lock);
    host.release(w, sizeof *w);
}

static cpl_status load(cpl_weights **out, const cpl_model *model, const cpl_load_options *o, cpl_load_report *report,
                       const cpl_host *host, cpl_error *err)
{
    const cpl_arch *a = &model->arch;
    size_t bytes = 0;
    *out = NULL;
    cpl_weights *w = host->allocate(sizeof *w, 64);
    if (!w) return cpl_fail_memory(err, sizeof *w);
    w->host = *host;
    pthread_mutex_init(&w->lock, NULL);
    snprintf(w->dir, sizeof w->dir, "%s", model->dir);
    w->model = (cpl_padded_model){a->vocab, a->types, a->labels, a->hidden, model->max_length, model->pooling};
    w->batch_tokens_max = o->batch_tokens_max;
    w->batch_sequences_max = o->batch_sequences_max;
    w->scoring = model->task == CPL_TASK_CROSS_ENCODER ? CPL_WANT_LOGITS : CPL_WANT_POOLED;
    *report = (cpl_load_report){0};
    cpl_status st = check_options(w, o, err);
    if (model->graph && !w->settings.file[0]) snprintf(w->settings.file, sizeof w->settings.file, "%s", model->graph);
    if (!st) st = cpl_ort_open(&w->ort, err);
    if (!st) st = open_graph(w, &w->graph, model, w->scoring, &bytes, err);
    if (!st) st = prove(w, &w->graph, o->precision, report, err);
    if (st) {
        unload(w);
        return st;
    }
    report->weight_bytes = bytes;
    report->batch_tokens = w->settings.session.provider == CPL_ORT_CPU ? BATCH_TOKENS : DEVICE_BATCH_TOKENS;
    *out = w;
    return CPL_OK;
}

/* ---- sessions ---------------------------------------------------------------------------------------------------- */

static void close_session(cpl_session *s)
{
    if (!s) return;
    cpl_padded_close(&s->padded);
    s->weights->host.release(s, sizeof *s);
}

static cpl_status open_session(cpl_session **out, cpl_weights *w, cpl_error *err)
{
    const bool cpu = w->settings.session.provider == CPL_ORT_CPU;
    const cpl_rectangle_limits limits = {.launch_tokens = cpu ? LAUNCH_TOKENS : DEVICE_LAUNCH_TOKENS};
    *out = NULL;
    cpl_session *s = w->host.allocate(sizeof *s, 64);
    if (!s) return cpl_fail_memory(err, sizeof *s);
    s->weights = w;
    cpl_status st =
        cpl_padded_open(&s->padded, &w->host, &w->model, &limits, w->batch_tokens_max, w->batch_sequences_max, err);
    if (st)
        close_session(s);
    else
        *out = s;
    return st;
}

/* The graph of hidden states, opened by whoever wants it first. */
static cpl_status states_graph(cpl_weights *w, const cpl_ort_graph **out, cpl_error *err)
{
    cpl_model *model = NULL;
    cpl_status st = CPL_OK;
    pthread_mutex_lock(&w->lock);
    if (!w->states) {
        st = cpl_model_open_any(&model, w->dir, err);
        if (!st) st = open_graph(w, &w->states_room, model, CPL_WANT_TOKENS, NULL, err);
        if (!st)
            st = cpl_ort_session_executed(&w->states_room.session, &w->ort, w->settings.session.provider, NULL, err);
        if (!st) w->states = &w->states_room;
        cpl_model_close(model);
    }
    *out = w->states;
    pthread_mutex_unlock(&w->lock);
    return st;
}

typedef struct pass_of {
    const cpl_weights *weights;
    const cpl_ort_graph *graph;
} pass_of;

static cpl_status pass(void *arg, uint32_t rows, uint32_t width, const cpl_rectangle_tensors *in, float *out,
                       cpl_error *err)
{
    const pass_of *p = arg;
    return cpl_ort_graph_run(p->graph, &p->weights->ort, rows, width, in, out, err);
}

static cpl_status run(cpl_session *s, const cpl_batch *b, cpl_team *team, float *rows, cpl_error *err)
{
    cpl_weights *w = s->weights;
    pass_of p = {w, &w->graph};
    (void)team;
    if (b->want != w->scoring && b->want != CPL_WANT_LOGITS && w->graph.form != CPL_PADDED_TOKENS) {
        cpl_status st = states_graph(w, &p.graph, err);
        if (st) return st;
    }
    return cpl_padded_run(&s->padded, b, p.graph->form, pass, &p, rows, err);
}

static uint64_t padding(const cpl_session *s) { return s->padded.padding; }

static const cpl_backend backend = {.abi = CPL_BACKEND_ABI,
                                    .size = sizeof(cpl_backend),
                                    .name = "onnx",
                                    .summary = "ONNX Runtime over a graph that couplet writes, or one of the user's",
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
