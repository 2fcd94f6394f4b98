/* SPDX-License-Identifier: Apache-2.0 */
/* fold.c - int8's shifts and scales by channel, and columns of weights folded and quantised with them (fold.h).
 *
 * The idea: layer norm leaves a few channels many times as large as the rest, the same ones for nearly every token. A
 * row has one scale, so those channels set the step for all. Dividing them down, and multiplying the weights that meet
 * them, costs nothing when it runs: the layer norm's own multiplier and term take it in.
 *
 *   scale[c] = sqrt(largest |x[c] - shift[c]|) / sqrt(largest |W[.][c]|), the even split between rows and weights;
 *   shift[c] = the mean over the calibration's tokens; for the inner rows the activation's lower bound instead, so
 *   that they become unsigned and use all 8 bits.
 *
 * Weights are rounded to the nearest, so each output carries sum of (error of W'[c]) x'[c]. For one x' it can be taken
 * out again, in the bias: where x is what it mostly is, the mean, or 0 for inner rows.
 *
 * The calibration (calibrate.c) is over 32 tokens. More, or real texts, change nothing that can be told from noise.
 * Rejected: scales from gamma and beta alone (the outliers come through the residual, not from gamma); clipping
 * weights to lessen the squared error (no gain); zero points by row (no gain once channels are even). */
#include "backend/native/fold.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/native/calibrate.h"
#include "base/error.h"
#include "kernel/quantise.h"

/* Below any value of GELU (-0.16998 by erf, -0.17004 by tanh). */
#define GELU_FLOOR (-0.1701f)

typedef struct site {
    float *shift, *scale; /* x' = (x - shift) / scale */
    float *centre;        /* the x' at which rounded weights are to give no error; NULL: 0 */
    uint32_t n;
} site;

struct cpl_fold {
    const cpl_model *model;
    const cpl_kernels *kernels;
    site *sites; /* layers x CPL_FOLD_SITES */
    float *block;
};

cpl_fold_site cpl_fold_site_of(cpl_fold_matrix matrix)
{
    switch (matrix) {
    case CPL_FOLD_OUT: return CPL_FOLD_CONTEXT;
    case CPL_FOLD_UP: return CPL_FOLD_NORMED;
    case CPL_FOLD_DOWN: return CPL_FOLD_INNER;
    default: return CPL_FOLD_LAYER;
    }
}

static const site *site_at(const cpl_fold *f, uint32_t layer, cpl_fold_site s)
{
    return &f->sites[layer * CPL_FOLD_SITES + s];
}

void cpl_fold_input(const cpl_fold *f, uint32_t layer, cpl_fold_site s, float *mul, float *add)
{
    const site *x = site_at(f, layer, s);
    for (uint32_t i = 0; i < x->n; i++) {
        mul[i] = 1.0f / x->scale[i];
        add[i] = -x->shift[i] / x->scale[i];
    }
}

static float floor_of(const cpl_arch *a) { return a->activation == CPL_ACTIVATION_RELU ? 0 : GELU_FLOOR; }

float cpl_fold_floor(const cpl_fold *f) { return floor_of(&f->model->arch); }

/* ---- choosing ---------------------------------------------------------------------------------------------- */

/* seen: what the calibration saw at one site. */
static void choose(site *x, cpl_fold_site which, const cpl_arch *arch, const cpl_calibration_site *seen)
{
    float most = 0;
    for (uint32_t i = 0; i < x->n; i++) {
        const float mean = seen->mean[i];
        x->shift[i] = which == CPL_FOLD_INNER ? floor_of(arch) : mean;
        const float reach = fmaxf(fmaxf(seen->high[i] - x->shift[i], x->shift[i] - seen->low[i]), 0.01f);
        x->scale[i] = which == CPL_FOLD_INNER ? 1.0f : sqrtf(reach / fmaxf(seen->weight[i], 1e-6f));
        if (!(x->scale[i] > 0) || !isfinite(x->scale[i])) x->scale[i] = 1; /* weights that aren't finite stay so */
        if (!isfinite(x->shift[i])) x->shift[i] = 0;
        most = fmaxf(most, x->scale[i]);
    }
    for (uint32_t i = 0; i < x->n; i++) {
        x->scale[i] = fmaxf(x->scale[i] / most, 1e-3f);
        if (x->centre) x->centre[i] = -x->shift[i] / x->scale[i];
    }
}

static cpl_status allocate(cpl_fold *f, cpl_error *err)
{
    const cpl_arch *a = &f->model->arch;
    const size_t each = 6ull * a->hidden + 3ull * a->intermediate;
    f->sites = calloc((size_t)a->layers * CPL_FOLD_SITES, sizeof *f->sites);
    f->block = malloc(a->layers * each * sizeof *f->block);
    if (!f->sites || !f->block) return cpl_fail_memory(err, a->layers * each * sizeof *f->block);
    float *p = f->block;
    for (uint32_t i = 0; i < a->layers * CPL_FOLD_SITES; i++) {
        site *x = &f->sites[i];
        const int inner = i % CPL_FOLD_SITES == CPL_FOLD_INNER;
        x->n = inner ? a->intermediate : a->hidden;
        x->shift = p;
        x->scale = p + x->n;
        x->centre = inner ? p + 2ull * x->n : NULL;
        p += (inner ? 3ull : 2ull) * x->n;
    }
    return CPL_OK;
}

cpl_status cpl_fold_open(cpl_fold **out, const cpl_model *model, const cpl_kernels *k, cpl_error *err)
{
    *out = NULL;
    cpl_fold *f = calloc(1, sizeof *f);
    cpl_calibration *c = NULL;
    if (!f) return cpl_fail_memory(err, sizeof *f);
    f->model = model;
    f->kernels = k;
    cpl_status st = allocate(f, err);
    if (!st) st = cpl_calibration_open(&c, model, k, err);
    for (uint32_t l = 0; !st && l < model->arch.layers; l++) {
        cpl_calibration_layer(c, l);
        for (int s = 0; s < CPL_FOLD_SITES; s++)
            choose(&f->sites[l * CPL_FOLD_SITES + (uint32_t)s], (cpl_fold_site)s, &model->arch,
                   cpl_calibration_seen(c, (cpl_fold_site)s));
    }
    cpl_calibration_close(c);
    if (st) {
        cpl_fold_close(f);
        return st;
    }
    *out = f;
    return CPL_OK;
}

void cpl_fold_close(cpl_fold *f)
{
    if (!f) return;
    free(f->sites);
    free(f->block);
    free(f);
}

/* ---- folding ----------------------------------------------------------------------------------------------- */

static float bias_at(const cpl_tensor *bias, uint32_t i)
{
    float b = 0;
    if (bias->data) cpl_tensor_read_f32(bias, i, 1, &b);
    return b;
}

/* Eight sums side by side: no chain of additions to wait for. */
static float dot(const float *a, const float *b, uint32_t n)
{
    float s[8] = {0};
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (uint32_t j = 0; j < 8; j++) s[j] += a[i + j] * b[i + j];
    for (; i < n; i++) s[0] += a[i] * b[i];
    return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]));
}

void cpl_fold_exact(const cpl_fold *f, uint32_t layer, cpl_fold_matrix matrix, uint32_t column, float *row, float *bias)
{
    const cpl_fold_tensors t = cpl_fold_tensors_of(f->model, layer, matrix);
    const site *in = site_at(f, layer, cpl_fold_site_of(matrix));
    cpl_tensor_read_f32(t.weight, (size_t)column * in->n, in->n, row);
    *bias = bias_at(t.bias, column) + dot(row, in->shift, in->n);
    if (matrix != CPL_FOLD_V) {
        for (uint32_t i = 0; i < in->n; i++) row[i] *= in->scale[i];
        return;
    }
    const site *context = site_at(f, layer, CPL_FOLD_CONTEXT);
    const float by = 1.0f / context->scale[column];
    for (uint32_t i = 0; i < in->n; i++) row[i] *= in->scale[i] * by;
    *bias = (*bias - context->shift[column]) * by;
}

void cpl_fold_plain(const cpl_fold *f, uint32_t layer, cpl_fold_matrix matrix, uint32_t column, float *row, float *bias)
{
    if (matrix == CPL_FOLD_OUT) { /* the one whose input is moved by what made it */
        cpl_fold_exact(f, layer, matrix, column, row, bias);
        return;
    }
    const cpl_fold_tensors t = cpl_fold_tensors_of(f->model, layer, matrix);
    const uint32_t n = site_at(f, layer, cpl_fold_site_of(matrix))->n;
    cpl_tensor_read_f32(t.weight, (size_t)column * n, n, row);
    *bias = bias_at(t.bias, column);
    if (matrix != CPL_FOLD_V) return;
    const site *context = site_at(f, layer, CPL_FOLD_CONTEXT);
    const float by = 1.0f / context->scale[column];
    for (uint32_t i = 0; i < n; i++) row[i] *= by;
    *bias = (*bias - context->shift[column]) * by;
}

/* What rounding left over, at the centre, goes into the bias. */
static void correct(const site *in, float *row, const int8_t *q, float scale, float *bias)
{
    if (!in->centre || !isfinite(scale)) return;
    for (uint32_t i = 0; i < in->n; i++) row[i] -= (float)q[i] * scale;
    *bias += dot(row, in->centre, in->n);
}

void cpl_fold_column(const cpl_fold *f, uint32_t layer, cpl_fold_matrix matrix, uint32_t column, float *row, int8_t *q,
                     float *scale, float *bias)
{
    const site *in = site_at(f, layer, cpl_fold_site_of(matrix));
    cpl_fold_exact(f, layer, matrix, column, row, bias);
    f->kernels->weights_i8(q, scale, row, in->n);
    correct(in, row, q, *scale, bias);
}

void cpl_fold_column_i4(const cpl_fold *f, uint32_t layer, cpl_fold_matrix matrix, uint32_t column, uint32_t group,
                        float *row, int8_t *q, uint8_t *by, uint8_t *less, float *scale, float *bias)
{
    const site *in = site_at(f, layer, cpl_fold_site_of(matrix));
    cpl_fold_exact(f, layer, matrix, column, row, bias);
    cpl_i4_quantise(row, in->n, group, q, by, less, scale);
    correct(in, row, q, *scale, bias);
}
