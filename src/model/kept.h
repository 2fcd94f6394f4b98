/* SPDX-License-Identifier: Apache-2.0 */
/* kept.h - the file beside a model's weights that says what of it to keep in a better precision: what `couplet
 * calibrate` found, and what the native backend's setting keep=auto goes by. */
#ifndef CPL_MODEL_KEPT_H
#define CPL_MODEL_KEPT_H

#include "model/model.h"

#define CPL_KEPT_FILE "couplet_keep.json"

/* One precision's choice and what it was made by. */
typedef struct cpl_kept {
    char precision[16];
    uint32_t group_size;          /* of int4, else 0 */
    char keep[2048];              /* as the setting takes it: "none", or "down.5=bf16,..." */
    char measure[16];             /* what the goal speaks of: "spearman" or "cosine", against fp32 */
    double goal, before, reached; /* before: with nothing kept */
    uint64_t pairs;
    char source[512];  /* where the pairs came from */
    char kernels[192]; /* what ran, in the words of the load report */
} cpl_kept;

/* The choice for that precision, of exactly these weights. CPL_NOT_FOUND without the file or without such a choice in
 * it, CPL_PRECONDITION when it was made for other weights, CPL_CORRUPT; each says what to do. Reads all of the weights
 * once. */
cpl_status cpl_kept_find(cpl_kept *out, const cpl_model *m, const char *precision, uint32_t group_size, cpl_error *err);
/* Puts a choice into the file. Those for other precisions stay if they were made for the same weights. */
cpl_status cpl_kept_put(const cpl_model *m, const cpl_kept *kept, cpl_error *err);

#endif
