/* SPDX-License-Identifier: Apache-2.0 */
/* fold.h - what makes int8 accurate: each product's input recentred and rescaled by channel, and the weights to match.
 *
 * A product x W^T + b equals x' W'^T + b' with x' = (x - shift) / scale by channel, W' = W scale, b' = b + W shift.
 * Shift and scale are chosen so that neither x' nor W' has channels far larger than the rest, which is what a row's
 * and a column's one scale suffer from. They come from a calibration of the model by itself: one fp32 pass, at load,
 * over a fixed sequence of seeded ids. No data is needed, and nothing is clipped if real texts go further, since row
 * scales stay those of each row.
 *
 * Used by whatever packs int8 weights; the fold is dropped after load. */
#ifndef CPL_BACKEND_NATIVE_FOLD_H
#define CPL_BACKEND_NATIVE_FOLD_H

#include "kernel/kernels.h"
#include "model/model.h"

/* Inputs of a layer's products. */
typedef enum cpl_fold_site {
    CPL_FOLD_LAYER,   /* of q, k and v */
    CPL_FOLD_CONTEXT, /* attention's output, of out */
    CPL_FOLD_NORMED,  /* of up */
    CPL_FOLD_INNER,   /* the activation's output, of down */
    CPL_FOLD_SITES
} cpl_fold_site;

typedef enum cpl_fold_matrix {
    CPL_FOLD_Q,
    CPL_FOLD_K,
    CPL_FOLD_V,
    CPL_FOLD_OUT,
    CPL_FOLD_UP,
    CPL_FOLD_DOWN,
    CPL_FOLD_MATRICES
} cpl_fold_matrix;

typedef struct cpl_fold cpl_fold;

/* Runs the calibration. model is borrowed until close. */
cpl_status cpl_fold_open(cpl_fold **out, const cpl_model *model, const cpl_kernels *k, cpl_error *err);
void cpl_fold_close(cpl_fold *f); /* NULL is fine */

/* n factors and n terms, n the width of the matrices' rows: x' = fma(x, mul, add). INNER has none: x' = x - floor, to
 * be quantised as unsigned values. CONTEXT's are not the caller's to apply: V's weights and bias already give x' (a row
 * of attention sums to 1). */
void cpl_fold_input(const cpl_fold *f, uint32_t layer, cpl_fold_site site, float *mul, float *add);
float cpl_fold_floor(const cpl_fold *f);

/* One output column of a layer's matrix: its int8 weights in order of k, their scale, and the bias that goes with them.
 * row is scratch, as many floats as q has bytes. Threads: any, at once. */
void cpl_fold_column(const cpl_fold *f, uint32_t layer, cpl_fold_matrix matrix, uint32_t column, float *row, int8_t *q,
                     float *scale, float *bias);

/* The same in 4 bits, q with the int8 values they stand for and by and less one a group (cpl_i4_quantise). */
void cpl_fold_column_i4(const cpl_fold *f, uint32_t layer, cpl_fold_matrix matrix, uint32_t column, uint32_t group,
                        float *row, int8_t *q, uint8_t *by, uint8_t *less, float *scale, float *bias);

/* The same before quantising: row and bias of the folded matrix. */
void cpl_fold_exact(const cpl_fold *f, uint32_t layer, cpl_fold_matrix matrix, uint32_t column, float *row,
                    float *bias);

/* The same for a matrix whose input isn't recentred by its reader: q, k, up and down as stored, v with its output moved
 * for out, out for v's moved output. */
void cpl_fold_plain(const cpl_fold *f, uint32_t layer, cpl_fold_matrix matrix, uint32_t column, float *row,
                    float *bias);

cpl_fold_site cpl_fold_site_of(cpl_fold_matrix matrix);

#endif
