/* SPDX-License-Identifier: Apache-2.0 */
/* settings.h - the section model.onnx of the configuration, checked. */
#ifndef CPL_BACKEND_ONNX_SETTINGS_H
#define CPL_BACKEND_ONNX_SETTINGS_H

#include "backend/onnx/ort.h"

typedef struct cpl_onnx_settings {
    cpl_ort_options session;
    char file[256]; /* the user's graph, in the model's directory; "": couplet's own */
} cpl_onnx_settings;

/* optimize=, use_gpu=, provider=, threads=, file=, device=; what disagrees, or isn't known, is CPL_INVALID. */
cpl_status cpl_onnx_settings_read(cpl_onnx_settings *out, const cpl_load_options *options, cpl_error *err);

#endif
