/* SPDX-License-Identifier: Apache-2.0 */
/* ov.h - OpenVINO opened at run time: its library, a compiled model, and what that really executes. */
#ifndef CPL_BACKEND_OPENVINO_OV_H
#define CPL_BACKEND_OPENVINO_OV_H

#include "backend/foreign/foreign.h"
#include "backend/foreign/padded.h"
#include "backend/openvino/ov_api.h"

typedef struct cpl_ov {
    cpl_foreign library;
    cpl_ov_api api;
    char version[32];
} cpl_ov;

cpl_status cpl_ov_open(cpl_ov *out, cpl_error *err);
/* 0 is CPL_OK; else CPL_INTERNAL with the runtime's own words. */
cpl_status cpl_ov_check(const cpl_ov *ov, int code, const char *what, cpl_error *err);

typedef struct cpl_ov_source {
    const void *graph; /* ONNX bytes, or else */
    size_t size;
    const char *path; /* an IR's .xml */
} cpl_ov_source;

typedef struct cpl_ov_options {
    const char *hint; /* INFERENCE_PRECISION_HINT: "f32", "bf16", "f16" */
    uint32_t threads;
} cpl_ov_options;

enum { CPL_OV_INPUTS = 3 };

typedef struct cpl_ov_model {
    ov_core_t *core;
    ov_compiled_model_t *compiled;
    int types[CPL_OV_INPUTS]; /* element type of ids, mask, types; -1: the graph has no such input */
    cpl_padded_form form;
    uint32_t width; /* of a row */
} cpl_ov_model;

cpl_status cpl_ov_model_open(cpl_ov_model *out, const cpl_ov *ov, const cpl_ov_source *source,
                             const cpl_ov_options *options, cpl_padded_form form, uint32_t width, cpl_error *err);
void cpl_ov_model_close(cpl_ov_model *m, const cpl_ov *ov);

/* One rectangle through a request of that model. */
cpl_status cpl_ov_run(const cpl_ov_model *m, const cpl_ov *ov, ov_infer_request_t *request, uint32_t rows,
                      uint32_t width, const cpl_rectangle_tensors *in, float *out, cpl_error *err);

/* What the products of the request's last run were: by the kernels' own names. */
typedef struct cpl_ov_executed {
    uint32_t products, fp32, bf16, fp16, int8;
    char hint[16]; /* the precision that the compiled model says is in effect: "f32", "bf16", "f16" */
} cpl_ov_executed;
cpl_status cpl_ov_executed_read(cpl_ov_executed *out, const cpl_ov_model *m, const cpl_ov *ov,
                                const ov_infer_request_t *request, cpl_error *err);
/* "brgemm_avx512_bf16" and so on, for a node of that type. */
void cpl_ov_count(cpl_ov_executed *out, const char *node_type, const char *exec_type);

#endif
