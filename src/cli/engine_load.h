/* SPDX-License-Identifier: Apache-2.0 */
/* engine_load.h - sequences for `bench engine`, and the operations that they cost. */
#ifndef CPL_CLI_ENGINE_LOAD_H
#define CPL_CLI_ENGINE_LOAD_H

#include <stdbool.h>

#include "couplet.h"

/* Sequences, packed. */
typedef struct cpl_engine_load {
    char name[32]; /* "32", or "mix" */
    int32_t *ids;
    uint8_t *type_ids;
    uint32_t *cu_seqlens;
    size_t n;
} cpl_engine_load;

/* Some two million tokens of one length, ids drawn from the whole vocabulary. */
cpl_status cpl_engine_load_fixed(cpl_engine_load *l, uint32_t length, const cpl_scorer_info *info, cpl_error *err);
/* Pairs of a file in seeded order (NULL: of the seeded generator), tokenized: the real mix of lengths. */
cpl_status cpl_engine_load_pairs(cpl_engine_load *l, const char *path, cpl_scorer *scorer, cpl_error *err);
void cpl_engine_load_deinit(cpl_engine_load *l);

/* Multiply-adds of sequences [from, from + n), 2 operations each. useful: of the last layer only what [CLS] rows need,
 * where only they are wanted. Nothing is counted for padding, embedding, softmax, norms or activations. */
double cpl_engine_load_ops(const cpl_engine_load *l, size_t from, size_t n, const cpl_scorer_info *info, bool useful);

#endif
