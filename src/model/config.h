/* SPDX-License-Identifier: Apache-2.0 */
/* config.h - config.json to an architecture record, or a refusal by name. */
#ifndef CPL_MODEL_CONFIG_H
#define CPL_MODEL_CONFIG_H

#include <stdbool.h>

#include "base/arena.h"
#include "couplet.h"
#include "model/model.h"

typedef struct cpl_model_config {
    const char *architecture; /* architectures[0]; "BertModel" where the file names none */
    bool classifier;          /* BertForSequenceClassification; else only the encoder is used */
    bool bare;                /* BertModel itself; false e.g. for a BertForMaskedLM whose encoder is wanted */
    cpl_arch arch;
    const char *const *labels; /* arch.labels of them */
    const char *note;          /* "couplet_note", or "" */
    bool activation_given;
    cpl_score_activation activation;
} cpl_model_config;

/* Reads n bytes of JSON; `file` names them in errors. What couplet can't run in full is CPL_UNSUPPORTED by name, what
 * makes no sense CPL_CORRUPT. Everything in *out lives in arena. Safe on hostile bytes (tests/fuzz/fuzz_config.c). */
cpl_status cpl_model_config_parse(cpl_model_config *out, const char *file, const char *data, size_t n, cpl_arena *arena,
                                  cpl_error *err);

/* A torch class path ("torch.nn.modules.activation.Sigmoid") to an activation; others are CPL_UNSUPPORTED. */
cpl_status cpl_model_config_activation(const char *path, const char *file, const char *key, cpl_score_activation *out,
                                       cpl_error *err);

#endif
