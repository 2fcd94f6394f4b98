/* SPDX-License-Identifier: Apache-2.0 */
/* ort.h - ONNX Runtime opened at run time: its library, a session over a graph, and what that session really executes.
 */
#ifndef CPL_BACKEND_ONNX_ORT_H
#define CPL_BACKEND_ONNX_ORT_H

#include <stdbool.h>

#include "backend/backend.h"
#include "backend/foreign/foreign.h"
#include "backend/onnx/ort_api.h"

/* The library, held as long as the process lives. */
typedef struct cpl_ort {
    cpl_foreign library;
    const OrtApi *api;
    char version[32];
    char providers[160]; /* "CPU, CUDA": what this build of it has */
} cpl_ort;

cpl_status cpl_ort_open(cpl_ort *out, cpl_error *err);
/* NULL is CPL_OK; anything else becomes an error of CPL_INTERNAL, its own words after `what`, and is released. */
cpl_status cpl_ort_check(const cpl_ort *ort, OrtStatus *status, const char *what, cpl_error *err);

typedef enum cpl_ort_provider {
    CPL_ORT_CPU,
    CPL_ORT_CUDA,
    CPL_ORT_COREML,
    CPL_ORT_OPENVINO,
    CPL_ORT_PROVIDERS
} cpl_ort_provider;
const char *cpl_ort_provider_name(cpl_ort_provider p); /* "CPU": "ExecutionProvider" follows in the runtime's own */
bool cpl_ort_has(const cpl_ort *ort, cpl_ort_provider p);

typedef struct cpl_ort_options {
    cpl_ort_provider provider;
    uint32_t device; /* of CUDA */
    uint32_t threads;
    bool optimize;
} cpl_ort_options;

/* A session with its profile on. graph: the bytes of a model; or path: its file. */
typedef struct cpl_ort_source {
    const void *graph;
    size_t size;
    const char *path;
} cpl_ort_source;

typedef struct cpl_ort_session {
    OrtEnv *env;
    OrtSession *session;
    OrtMemoryInfo *memory;
    char profile_dir[64]; /* while the profile is on */
} cpl_ort_session;

cpl_status cpl_ort_session_open(cpl_ort_session *out, const cpl_ort *ort, const cpl_ort_source *source,
                                const cpl_ort_options *options, cpl_error *err);
void cpl_ort_session_close(cpl_ort_session *s, const cpl_ort *ort);

/* What the runs since open executed; then the profile is off and gone. */
typedef struct cpl_ort_executed {
    uint32_t products;                     /* matrix products by their inputs' type: */
    uint32_t fp32, fp16, bf16, int8, int4; /* they add up to `products` */
    uint32_t elsewhere;                    /* of them, not on the provider that was asked for */
    uint32_t hidden;                       /* nodes a provider compiled into its own, where no type can be seen */
} cpl_ort_executed;
cpl_status cpl_ort_session_executed(cpl_ort_session *s, const cpl_ort *ort, cpl_ort_provider provider,
                                    cpl_ort_executed *out, cpl_error *err);
/* Adds what a profile's text says: for the function above, and for tests. */
cpl_status cpl_ort_read_profile(cpl_ort_executed *out, const char *file, const char *text, size_t n,
                                cpl_ort_provider provider, cpl_error *err);

#endif
