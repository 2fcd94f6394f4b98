/* SPDX-License-Identifier: Apache-2.0 */
/* calibrate.h - one fp32 pass over a fixed sequence of seeded ids, watched: what fold.c chooses its scales from. */
#ifndef CPL_BACKEND_NATIVE_CALIBRATE_H
#define CPL_BACKEND_NATIVE_CALIBRATE_H

#include "backend/native/fold.h"

typedef struct cpl_fold_tensors {
    const cpl_tensor *weight, *bias;
} cpl_fold_tensors;

cpl_fold_tensors cpl_fold_tensors_of(const cpl_model *model, uint32_t layer, cpl_fold_matrix matrix);

/* By channel: what was seen there, and the largest magnitude of the weights that meet it. */
typedef struct cpl_calibration_site {
    float *low, *high, *mean, *weight;
} cpl_calibration_site;

typedef struct cpl_calibration cpl_calibration;

cpl_status cpl_calibration_open(cpl_calibration **out, const cpl_model *model, const cpl_kernels *k, cpl_error *err);
void cpl_calibration_close(cpl_calibration *c); /* NULL is fine */
/* Layers in rising order, each once. */
void cpl_calibration_layer(cpl_calibration *c, uint32_t layer);
/* Of the layer run last; until the next. */
const cpl_calibration_site *cpl_calibration_seen(const cpl_calibration *c, cpl_fold_site site);

#endif
