/* SPDX-License-Identifier: Apache-2.0 */
/* graph.h - a session over couplet's own graph or a user's file, its inputs and outputs checked. */
#ifndef CPL_BACKEND_ONNX_GRAPH_H
#define CPL_BACKEND_ONNX_GRAPH_H

#include "backend/foreign/padded.h"
#include "backend/onnx/ort.h"

enum { CPL_ORT_INPUTS = 3 };

typedef struct cpl_ort_graph {
    cpl_ort_session session;
    const char *inputs[CPL_ORT_INPUTS]; /* in the session's order; the mask and the types may be absent */
    int kinds[CPL_ORT_INPUTS];          /* 0 ids, 1 mask, 2 types */
    size_t input_count;
    char output[128];
    cpl_padded_form form;
    uint32_t width; /* of a row: labels or hidden */
} cpl_ort_graph;

/* Opens and checks; `want`: LOGITS or POOLED, what scoring needs, or TOKENS. */
cpl_status cpl_ort_graph_open(cpl_ort_graph *out, const cpl_ort *ort, const cpl_ort_source *source,
                              const cpl_ort_options *options, const cpl_padded_model *model, cpl_want want,
                              cpl_error *err);
void cpl_ort_graph_close(cpl_ort_graph *g, const cpl_ort *ort);
/* One rectangle. Any thread. */
cpl_status cpl_ort_graph_run(const cpl_ort_graph *g, const cpl_ort *ort, uint32_t rows, uint32_t width,
                             const cpl_rectangle_tensors *in, float *out, cpl_error *err);

#endif
