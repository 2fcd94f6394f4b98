/* SPDX-License-Identifier: Apache-2.0 */
/* model.h - a model directory in Hugging Face layout as one validated, read-only record.
 *
 * Everything a backend needs to run the model is here: the architecture record (what shape the forward pass has), the
 * weights by role (borrowed from the mapped safetensors file) and what the engine does with the rows that come back
 * (pooling, normalising, activation). Whoever holds a cpl_model knows every tensor was checked: present, of the shape
 * the config implies, of a dtype couplet reads, inside the file. The file must not be cut short or rewritten in place
 * while a model is open (replace it by renaming a new one over it): the mapping would end in SIGBUS. */
#ifndef CPL_MODEL_MODEL_H
#define CPL_MODEL_MODEL_H

#include <stdbool.h>

#include "couplet.h"

typedef enum cpl_dtype { CPL_DTYPE_F32, CPL_DTYPE_F16, CPL_DTYPE_BF16 } cpl_dtype;

/* Row-major view into the mapped file, of any alignment (safetensors promises none): read it with cpl_tensor_read_f32
 * or memcpy. data is NULL where an optional tensor is absent. */
typedef struct cpl_tensor {
    const void *data;
    cpl_dtype dtype;
    uint32_t rank;     /* 1 or 2 */
    uint32_t shape[2]; /* rank 1: shape[0] elements, shape[1] = 1 */
} cpl_tensor;

/* count elements as fp32, whatever the storage. Elements [from, from + count) must lie inside the tensor. */
void cpl_tensor_read_f32(const cpl_tensor *t, size_t from, size_t count, float *out);
size_t cpl_tensor_count(const cpl_tensor *t);

typedef enum cpl_norm_place { CPL_NORM_POST } cpl_norm_place; /* BERT: after the residual */
typedef enum cpl_position_scheme { CPL_POSITION_LEARNED } cpl_position_scheme;
typedef enum cpl_activation { CPL_ACTIVATION_GELU, CPL_ACTIVATION_GELU_TANH, CPL_ACTIVATION_RELU } cpl_activation;
typedef enum cpl_head_kind { CPL_HEAD_NONE, CPL_HEAD_POOLER_CLASSIFIER } cpl_head_kind;

/* What the forward pass looks like. BERT is the first row; the next families add values, not code paths elsewhere. */
typedef struct cpl_arch {
    uint32_t layers, hidden, heads, head_size, intermediate;
    uint32_t vocab, positions, types; /* rows of the three embedding tables */
    float norm_epsilon;
    cpl_norm_place norm_place;
    cpl_position_scheme position_scheme;
    cpl_activation activation;
    cpl_head_kind head;
    uint32_t labels; /* rows of the classifier; 0 without one */
} cpl_arch;

/* Weights as stored: matrices are [out, in], y = x W^T + b. */
typedef struct cpl_layer {
    cpl_tensor q_weight, q_bias, k_weight, k_bias, v_weight, v_bias; /* hidden x hidden, hidden */
    cpl_tensor out_weight, out_bias;                                 /* hidden x hidden */
    cpl_tensor attention_norm_weight, attention_norm_bias;
    cpl_tensor up_weight, up_bias;     /* intermediate x hidden */
    cpl_tensor down_weight, down_bias; /* hidden x intermediate */
    cpl_tensor output_norm_weight, output_norm_bias;
} cpl_layer;

typedef struct cpl_weights_by_role {
    cpl_tensor word_embedding, position_embedding, type_embedding;
    cpl_tensor embedding_norm_weight, embedding_norm_bias;
    cpl_layer *layers;                             /* arch.layers of them */
    cpl_tensor pooler_weight, pooler_bias;         /* hidden x hidden, tanh; only with CPL_HEAD_POOLER_CLASSIFIER */
    cpl_tensor classifier_weight, classifier_bias; /* labels x hidden */
} cpl_weights_by_role;

typedef enum cpl_pooling { CPL_POOLING_CLS, CPL_POOLING_MEAN, CPL_POOLING_MAX } cpl_pooling;
typedef enum cpl_score_activation { CPL_SCORE_IDENTITY, CPL_SCORE_SIGMOID } cpl_score_activation;

typedef struct cpl_model {
    const char *dir;           /* as given */
    const char *architecture;  /* config.json's architectures[0] */
    const char *note;          /* config.json's "couplet_note" (a seeded head says so there), or "" */
    const char *const *labels; /* arch.labels names from id2label */
    cpl_task_kind task;
    cpl_arch arch;
    cpl_pooling pooling;             /* embedders */
    bool normalize;                  /* embedders: a Normalize module follows the pooling */
    cpl_score_activation activation; /* cross-encoders' default */
    uint32_t max_length;             /* DESIGN section 6 */
    uint64_t parameters;
    cpl_weights_by_role weights;
    const char *graph; /* "model.onnx", in dir: there is that instead of weights, which are empty then; else NULL */
} cpl_model;

/* Opens and validates the directory: config.json, model.safetensors, and for embedders modules.json,
 * 1_Pooling/config.json, sentence_bert_config.json. Anything couplet can't run in full is CPL_UNSUPPORTED by name
 * ("relative positions", another architecture); anything broken is one line with file, tensor and what was expected.
 * On failure *out is NULL. Read-only afterwards, any thread. */
cpl_status cpl_model_open(cpl_model **out, const char *dir, cpl_error *err);
/* The same, content with a graph (model.onnx or onnx/model.onnx) where there is no model.safetensors: for backends that
 * run those (cpl_caps.graphs). */
cpl_status cpl_model_open_any(cpl_model **out, const char *dir, cpl_error *err);
void cpl_model_close(cpl_model *m); /* NULL is fine */

/* Of the weights' file, all of it: the same weights have the same one (base/digest.h). Reads the whole file. */
uint64_t cpl_model_digest(const cpl_model *m);

/* For a backend that has packed its own copy: lets go of the pages of the weights' file, so that they no longer count
 * as this process's memory. The weights stay readable; reading them again costs the disk or the page cache. Any
 * thread, any number of times. */
void cpl_model_release_pages(const cpl_model *m);

#endif
