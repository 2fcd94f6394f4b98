/* SPDX-License-Identifier: Apache-2.0 */
/* modules.h - what sentence-transformers writes beside a model: modules.json, 1_Pooling/config.json,
 * sentence_bert_config.json, config_sentence_transformers.json; and the tokenizer's length limit. */
#ifndef CPL_MODEL_MODULES_H
#define CPL_MODEL_MODULES_H

#include <stdbool.h>

#include "couplet.h"
#include "model/config.h"

typedef struct cpl_modules {
    bool present; /* there is a modules.json */
    cpl_pooling pooling;
    bool normalize;
    bool activation_given; /* config_sentence_transformers.json says which (sentence-transformers 5.4 and later) */
    cpl_score_activation activation;
    uint32_t max_length; /* DESIGN section 6, never above the position table */
} cpl_modules;

/* Reads those files of `dir` for the model that `config` describes. Each may be absent. Modules, poolings and options
 * couplet does not run are CPL_UNSUPPORTED by name. */
cpl_status cpl_modules_load(cpl_modules *out, const char *dir, const cpl_model_config *config, cpl_error *err);

#endif
