/* SPDX-License-Identifier: Apache-2.0 */
/* graph.c - a session over a graph, its inputs and outputs checked before anything runs.
 *
 * The one idea: couplet's own graph and a file of the user's pass the same check, so a file that doesn't fit is one
 * line that says what it has and what is needed: inputs by their usual names, int64, with free batch and length (an
 * export that fixed them is refused here, not at the first batch of another size), and one output of logits, pooled
 * vectors or hidden states in fp32. Threads: open and close the loader's; run any. */
#include "backend/onnx/graph.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "model/onnx.h"

enum { RANK_MAX = 4, NAMES_MAX = 16 };

typedef struct value_info {
    char name[128];
    int type;
    size_t rank;
    int64_t dims[RANK_MAX];
} value_info;

static cpl_status describe(value_info *out, const cpl_ort *ort, OrtSession *session, size_t i, bool input,
                           cpl_error *err)
{
    const OrtApi *api = ort->api;
    OrtAllocator *allocator = NULL;
    OrtTypeInfo *info = NULL;
    const OrtTensorTypeAndShapeInfo *tensor = NULL;
    char *name = NULL;
    *out = (value_info){0};
    OrtStatus *s = api->GetAllocatorWithDefaultOptions(&allocator);
    if (!s)
        s = input ? api->SessionGetInputName(session, i, allocator, &name)
                  : api->SessionGetOutputName(session, i, allocator, &name);
    if (!s) snprintf(out->name, sizeof out->name, "%s", name);
    if (!s) s = api->AllocatorFree(allocator, name);
    if (!s)
        s = input ? api->SessionGetInputTypeInfo(session, i, &info) : api->SessionGetOutputTypeInfo(session, i, &info);
    if (!s) s = api->CastTypeInfoToTensorInfo(info, &tensor);
    if (!s && tensor) s = api->GetTensorElementType(tensor, &out->type);
    if (!s && tensor) s = api->GetDimensionsCount(tensor, &out->rank);
    if (!s && tensor && out->rank <= RANK_MAX) s = api->GetDimensions(tensor, out->dims, out->rank);
    if (info) api->ReleaseTypeInfo(info);
    return cpl_ort_check(ort, s, "reading the graph's inputs and outputs", err);
}

static cpl_status check_input(cpl_ort_graph *g, const value_info *v, cpl_error *err)
{
    static const char *const names[CPL_ORT_INPUTS] = {CPL_ONNX_IDS, CPL_ONNX_MASK, CPL_ONNX_TYPES};
    for (int k = 0; k < CPL_ORT_INPUTS; k++) {
        if (strcmp(v->name, names[k]) != 0) continue;
        if (v->type != CPL_ORT_INT64 || v->rank != 2)
            return cpl_fail(
                err, CPL_UNSUPPORTED,
                "the graph's input '%s' is of element type %d and rank %zu: int64 [batch, sequence] is needed", v->name,
                v->type, v->rank);
        if (v->dims[0] > 0 || v->dims[1] > 0)
            return cpl_fail(
                err, CPL_UNSUPPORTED,
                "the graph's input '%s' is fixed at [%lld, %lld]: export it with free batch and sequence axes", v->name,
                (long long)v->dims[0], (long long)v->dims[1]);
        g->inputs[g->input_count] = names[k];
        g->kinds[g->input_count++] = k;
        return CPL_OK;
    }
    return cpl_fail(err, CPL_UNSUPPORTED,
                    "the graph has an input '%s': " CPL_ONNX_IDS ", " CPL_ONNX_MASK " and " CPL_ONNX_TYPES
                    " are what couplet gives",
                    v->name);
}

/* Does this output hold what is wanted? */
static bool fits(cpl_ort_graph *g, const value_info *v, const cpl_padded_model *m, cpl_want want)
{
    const int64_t width = want == CPL_WANT_LOGITS ? m->labels : m->hidden;
    if (v->type != CPL_ORT_FLOAT || v->rank < 2 || v->rank > 3) return false;
    const int64_t last = v->dims[v->rank - 1];
    if (last != width && last > 0) return false;
    if (v->rank == 3 && want == CPL_WANT_LOGITS) return false;
    if (v->rank == 2 && want == CPL_WANT_TOKENS) return false;
    if (v->rank == 2 && want == CPL_WANT_POOLED && !strcmp(v->name, "pooler_output"))
        return false; /* BERT's own head */
    g->form = v->rank == 3 ? CPL_PADDED_TOKENS : CPL_PADDED_ROWS;
    g->width = (uint32_t)width;
    snprintf(g->output, sizeof g->output, "%s", v->name);
    return true;
}

static cpl_status check_values(cpl_ort_graph *g, const cpl_ort *ort, const cpl_padded_model *m, cpl_want want,
                               cpl_error *err)
{
    static const char *const wants[] = {"logits [batch, labels]", "pooled vectors [batch, hidden] or hidden states",
                                        "hidden states [batch, sequence, hidden]"};
    size_t inputs = 0, outputs = 0, said = 0;
    value_info v;
    char have[300] = "";
    OrtSession *s = g->session.session;
    cpl_status st = cpl_ort_check(ort, ort->api->SessionGetInputCount(s, &inputs), "reading the graph's inputs", err);
    if (!st) st = cpl_ort_check(ort, ort->api->SessionGetOutputCount(s, &outputs), "reading the graph's outputs", err);
    for (size_t i = 0; !st && i < inputs && i < NAMES_MAX; i++) {
        st = describe(&v, ort, s, i, true, err);
        if (!st) st = check_input(g, &v, err);
    }
    if (st) return st;
    bool ids = false;
    for (size_t i = 0; i < g->input_count; i++) ids |= g->kinds[i] == 0;
    if (!ids) return cpl_fail(err, CPL_UNSUPPORTED, "the graph has no input '" CPL_ONNX_IDS "'");
    for (size_t i = 0; i < outputs && i < NAMES_MAX; i++) {
        st = describe(&v, ort, s, i, false, err);
        if (st) return st;
        if (fits(g, &v, m, want)) return CPL_OK;
        int n = snprintf(have + said, sizeof have - said, "%s'%s' of rank %zu and element type %d", said ? ", " : "",
                         v.name, v.rank, v.type);
        if (n > 0 && (size_t)n < sizeof have - said) said += (size_t)n;
    }
    return cpl_fail(err, CPL_UNSUPPORTED, "the graph gives no %s in fp32 of this model's size: it has %s", wants[want],
                    have[0] ? have : "no output");
}

cpl_status cpl_ort_graph_open(cpl_ort_graph *out, const cpl_ort *ort, const cpl_ort_source *source,
                              const cpl_ort_options *options, const cpl_padded_model *model, cpl_want want,
                              cpl_error *err)
{
    *out = (cpl_ort_graph){0};
    cpl_status st = cpl_ort_session_open(&out->session, ort, source, options, err);
    if (!st) st = check_values(out, ort, model, want, err);
    if (st) cpl_ort_graph_close(out, ort);
    return st;
}

void cpl_ort_graph_close(cpl_ort_graph *g, const cpl_ort *ort)
{
    if (ort->api) cpl_ort_session_close(&g->session, ort);
    *g = (cpl_ort_graph){0};
}

cpl_status cpl_ort_graph_run(const cpl_ort_graph *g, const cpl_ort *ort, uint32_t rows, uint32_t width,
                             const cpl_rectangle_tensors *in, float *out, cpl_error *err)
{
    const OrtApi *api = ort->api;
    int64_t *const tensors[CPL_ORT_INPUTS] = {in->ids, in->mask, in->type_ids};
    const int64_t shape[] = {rows, width}, row_shape[] = {rows, g->width}, state_shape[] = {rows, width, g->width};
    const bool states = g->form == CPL_PADDED_TOKENS;
    const size_t cells = (size_t)rows * width, floats = (states ? cells : rows) * (size_t)g->width;
    const char *const output = g->output;
    OrtValue *values[CPL_ORT_INPUTS] = {NULL}, *result = NULL;
    OrtStatus *s = NULL;
    for (size_t i = 0; !s && i < g->input_count; i++)
        s = api->CreateTensorWithDataAsOrtValue(g->session.memory, tensors[g->kinds[i]], cells * sizeof(int64_t), shape,
                                                2, CPL_ORT_INT64, &values[i]);
    if (!s)
        s = api->CreateTensorWithDataAsOrtValue(g->session.memory, out, floats * sizeof *out,
                                                states ? state_shape : row_shape, states ? 3 : 2, CPL_ORT_FLOAT,
                                                &result);
    if (!s)
        s = api->Run(g->session.session, NULL, g->inputs, (const OrtValue *const *)values, g->input_count, &output, 1,
                     &result);
    for (size_t i = 0; i < g->input_count; i++)
        if (values[i]) api->ReleaseValue(values[i]);
    if (result) api->ReleaseValue(result);
    return cpl_ort_check(ort, s, "a pass", err);
}
