/* SPDX-License-Identifier: Apache-2.0 */
/* padded.h - a packed batch run as padded rectangles, for plug-ins whose runtime takes and gives whole tensors. */
#ifndef CPL_BACKEND_FOREIGN_PADDED_H
#define CPL_BACKEND_FOREIGN_PADDED_H

#include "backend/rectangle.h"

/* What one pass of the runtime gives. */
typedef enum cpl_padded_form {
    CPL_PADDED_ROWS,  /* [rows, width of a row]: a sequence's row */
    CPL_PADDED_TOKENS /* [rows, length, hidden]: last hidden states, from which rows are pooled here if those are wanted
                       */
} cpl_padded_form;

/* What a model takes and what is done with its rows; plain values copied from a cpl_model. */
typedef struct cpl_padded_model {
    uint32_t vocab, types, labels, hidden, max_length;
    cpl_pooling pooling;
} cpl_padded_model;

typedef struct cpl_padded {
    const cpl_host *host;
    cpl_padded_model model;
    cpl_rectangle_limits limits;
    cpl_rectangle_plan plan;
    cpl_rectangle_tensors tensors;
    size_t cells; /* of each tensor */
    float *out;
    size_t out_bytes;
    uint64_t padding; /* computed since open */
} cpl_padded;

/* Runs one rectangle: tensors are rows x width, out has room for what `form` says. */
typedef cpl_status cpl_padded_pass(void *arg, uint32_t rows, uint32_t width, const cpl_rectangle_tensors *in,
                                   float *out, cpl_error *err);

/* Sized for passes of so many tokens and sequences; host is borrowed. Valid for close after a failure. */
cpl_status cpl_padded_open(cpl_padded *p, const cpl_host *host, const cpl_padded_model *model,
                           const cpl_rectangle_limits *limits, uint32_t tokens_max, uint32_t sequences_max,
                           cpl_error *err);
void cpl_padded_close(cpl_padded *p);
/* Checks the batch, runs its rectangles, puts rows where the batch has them. */
cpl_status cpl_padded_run(cpl_padded *p, const cpl_batch *batch, cpl_padded_form form, cpl_padded_pass *pass, void *arg,
                          float *rows, cpl_error *err);

#endif
