/* SPDX-License-Identifier: Apache-2.0 */
/* onnx.h - a model as an ONNX graph, for runtimes that read those. Any batch and any length run: both are axes.
 *
 * Inputs: "input_ids", "attention_mask", "token_type_ids", int64 [batch, sequence]. Outputs, fp32:
 *   "logits" [batch, labels]            cross-encoders
 *   "pooled" [batch, hidden]            embedders: pooled as the model says, not normalised
 *   "tokens" [batch, sequence, hidden]  instead of either, when asked for */
#ifndef CPL_MODEL_ONNX_H
#define CPL_MODEL_ONNX_H

#include "base/buf.h"
#include "model/model.h"

typedef enum cpl_onnx_numbers {
    CPL_ONNX_FP32,
    CPL_ONNX_FP16, /* weights and everything between input and output */
    CPL_ONNX_INT8  /* encoder's matrices: weights int8 by output column, activations uint8 by tensor as they come */
} cpl_onnx_numbers;

typedef struct cpl_onnx_options {
    cpl_onnx_numbers numbers;
    bool tokens;     /* last hidden states instead of logits or pooled vectors */
    bool seven_bits; /* int8: weights of 7 bits, where products of 8 saturate (x86 without VNNI) */
} cpl_onnx_options;

#define CPL_ONNX_IDS    "input_ids"
#define CPL_ONNX_MASK   "attention_mask"
#define CPL_ONNX_TYPES  "token_type_ids"
#define CPL_ONNX_LOGITS "logits"
#define CPL_ONNX_POOLED "pooled"
#define CPL_ONNX_TOKENS "tokens"

/* Appends a whole ModelProto, weights included; below 2 GB, else CPL_UNSUPPORTED. Opset 17, standard operators only. */
cpl_status cpl_onnx_write(cpl_buf *out, const cpl_model *model, const cpl_onnx_options *options, cpl_error *err);

#endif
