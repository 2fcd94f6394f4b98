/* SPDX-License-Identifier: Apache-2.0 */
/* calibrate.c - the pass over seeded ids that shows which channels are large (calibrate.h).
 *
 * The idea: Y^T = W X^T on the fp32 GEMM, with the weights as the factor that is read row by row as stored, and the few
 * tokens as the packed one. So nothing of the weights is packed for it, and each row is read once, when its largest
 * magnitudes are looked up too.
 *
 * Ids are drawn evenly from the vocabulary, types are 0 in the first half and 1 in the second: a text that means
 * nothing shows the same outlier channels as real ones. Same model and ISA, same result.
 *
 * Threads: none; memory is taken at open. */
#include "backend/native/calibrate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/random.h"

enum { TOKENS = 32, BLOCK = 48 };

struct cpl_calibration {
    const cpl_model *model;
    const cpl_kernels *kernels;
    uint32_t tokens;
    float *x, *q, *k, *v, *inner; /* tokens x hidden (inner: x intermediate) */
    float *turned;                /* intermediate x tokens: a product as it comes */
    float *packed;                /* x, packed */
    float *rows;                  /* BLOCK rows of weights */
    float *vector;                /* a bias, gamma and beta */
    float *attention;
    cpl_calibration_site seen[CPL_FOLD_SITES];
    float *block;
};

cpl_fold_tensors cpl_fold_tensors_of(const cpl_model *model, uint32_t layer, cpl_fold_matrix matrix)
{
    const cpl_layer *y = &model->weights.layers[layer];
    switch (matrix) {
    case CPL_FOLD_Q: return (cpl_fold_tensors){&y->q_weight, &y->q_bias};
    case CPL_FOLD_K: return (cpl_fold_tensors){&y->k_weight, &y->k_bias};
    case CPL_FOLD_V: return (cpl_fold_tensors){&y->v_weight, &y->v_bias};
    case CPL_FOLD_OUT: return (cpl_fold_tensors){&y->out_weight, &y->out_bias};
    case CPL_FOLD_UP: return (cpl_fold_tensors){&y->up_weight, &y->up_bias};
    default: return (cpl_fold_tensors){&y->down_weight, &y->down_bias};
    }
}

const cpl_calibration_site *cpl_calibration_seen(const cpl_calibration *c, cpl_fold_site site)
{
    return &c->seen[site];
}

static uint32_t width(const cpl_calibration *c, cpl_fold_site site)
{
    const cpl_arch *a = &c->model->arch;
    return site == CPL_FOLD_INNER ? a->intermediate : a->hidden;
}

/* ---- the parts of a layer ---------------------------------------------------------------------------------- */

static void watch(cpl_calibration *c, cpl_fold_site site, const float *x)
{
    const cpl_calibration_site *s = &c->seen[site];
    const uint32_t n = width(c, site);
    for (uint32_t i = 0; i < n; i++) s->low[i] = s->high[i] = s->mean[i] = x[i];
    for (uint32_t t = 1; t < c->tokens; t++) {
        for (uint32_t i = 0; i < n; i++) {
            const float at = x[(size_t)t * n + i];
            s->low[i] = fminf(s->low[i], at);
            s->high[i] = fmaxf(s->high[i], at);
            s->mean[i] += at;
        }
    }
    for (uint32_t i = 0; i < n; i++) s->mean[i] /= (float)c->tokens;
    memset(s->weight, 0, n * sizeof(float));
}

/* What the products of this input share: it, packed. */
static void pack_input(cpl_calibration *c, cpl_fold_site site, const float *x)
{
    const uint32_t n = width(c, site);
    memset(c->packed, 0, cpl_gemm_f32_packed_count(c->kernels, c->tokens, n) * sizeof(float));
    for (uint32_t t = 0; t < c->tokens; t++) cpl_gemm_f32_pack(c->kernels, c->packed, t, n, x + (size_t)t * n);
}

static void add_vector(cpl_calibration *c, float *y, const cpl_tensor *v, uint32_t n)
{
    if (!v->data) return;
    cpl_tensor_read_f32(v, 0, n, c->vector);
    for (uint32_t t = 0; t < c->tokens; t++)
        for (uint32_t i = 0; i < n; i++) y[(size_t)t * n + i] += c->vector[i];
}

/* y = x W^T + b for the packed x; the weights' magnitudes are noted at the site. */
static void multiply(cpl_calibration *c, uint32_t layer, cpl_fold_matrix matrix, float *y)
{
    const cpl_fold_tensors m = cpl_fold_tensors_of(c->model, layer, matrix);
    const cpl_fold_site site = cpl_fold_site_of(matrix);
    const uint32_t k = width(c, site), n = m.weight->shape[0];
    float *weight = c->seen[site].weight;
    for (uint32_t from = 0; from < n; from += BLOCK) {
        const uint32_t rows = n - from < BLOCK ? n - from : BLOCK;
        cpl_tensor_read_f32(m.weight, (size_t)from * k, (size_t)rows * k, c->rows);
        const cpl_gemm_f32 g = {.a = c->rows,
                                .lda = k,
                                .b = c->packed,
                                .c = c->turned + (size_t)from * c->tokens,
                                .ldc = c->tokens,
                                .m = rows,
                                .n = c->tokens,
                                .k = k,
                                .panel_end = cpl_gemm_f32_panels(c->kernels, c->tokens),
                                .epilogue = CPL_EPILOGUE_NONE};
        c->kernels->gemm_f32(c->kernels, &g);
        c->kernels->magnitudes_f32(weight, c->rows, rows, k);
    }
    c->kernels->transpose_f32(y, n, c->turned, c->tokens, n, c->tokens);
    add_vector(c, y, m.bias, n);
}

static void normalise(cpl_calibration *c, float *x, const cpl_tensor *gamma, const cpl_tensor *beta)
{
    const cpl_arch *a = &c->model->arch;
    cpl_tensor_read_f32(gamma, 0, a->hidden, c->vector);
    cpl_tensor_read_f32(beta, 0, a->hidden, c->vector + a->hidden);
    c->kernels->layernorm_f32(x, c->tokens, a->hidden, a->hidden, c->vector, c->vector + a->hidden, a->norm_epsilon);
}

static void attend(cpl_calibration *c)
{
    const cpl_arch *a = &c->model->arch;
    for (uint32_t head = 0; head < a->heads; head++) {
        const size_t at = (size_t)head * a->head_size;
        const cpl_attention_f32 one = {.q = c->q + at,
                                       .k = c->k + at,
                                       .v = c->v + at,
                                       .out = c->q + at,
                                       .q_stride = a->hidden,
                                       .kv_stride = a->hidden,
                                       .out_stride = a->hidden,
                                       .queries = c->tokens,
                                       .keys = c->tokens,
                                       .head_size = a->head_size,
                                       .scale = 1.0f / sqrtf((float)a->head_size),
                                       .scratch = c->attention};
        c->kernels->attention_f32(c->kernels, &one);
    }
}

static void activate(cpl_calibration *c)
{
    const size_t n = (size_t)c->tokens * c->model->arch.intermediate;
    switch (c->model->arch.activation) {
    case CPL_ACTIVATION_GELU: c->kernels->gelu_f32(c->inner, n); break;
    case CPL_ACTIVATION_GELU_TANH: c->kernels->gelu_tanh_f32(c->inner, n); break;
    case CPL_ACTIVATION_RELU: c->kernels->relu_f32(c->inner, n); break;
    }
}

static void add_rows(cpl_calibration *c, const float *y)
{
    const size_t n = (size_t)c->tokens * c->model->arch.hidden;
    for (size_t i = 0; i < n; i++) c->x[i] += y[i];
}

void cpl_calibration_layer(cpl_calibration *c, uint32_t layer)
{
    const cpl_layer *y = &c->model->weights.layers[layer];
    watch(c, CPL_FOLD_LAYER, c->x);
    pack_input(c, CPL_FOLD_LAYER, c->x);
    multiply(c, layer, CPL_FOLD_Q, c->q);
    multiply(c, layer, CPL_FOLD_K, c->k);
    multiply(c, layer, CPL_FOLD_V, c->v);
    attend(c);
    watch(c, CPL_FOLD_CONTEXT, c->q);
    pack_input(c, CPL_FOLD_CONTEXT, c->q);
    multiply(c, layer, CPL_FOLD_OUT, c->k);
    add_rows(c, c->k);
    normalise(c, c->x, &y->attention_norm_weight, &y->attention_norm_bias);
    watch(c, CPL_FOLD_NORMED, c->x);
    pack_input(c, CPL_FOLD_NORMED, c->x);
    multiply(c, layer, CPL_FOLD_UP, c->inner);
    activate(c);
    watch(c, CPL_FOLD_INNER, c->inner);
    pack_input(c, CPL_FOLD_INNER, c->inner);
    multiply(c, layer, CPL_FOLD_DOWN, c->k);
    add_rows(c, c->k);
    normalise(c, c->x, &y->output_norm_weight, &y->output_norm_bias);
}

/* ---- before the first layer -------------------------------------------------------------------------------- */

static void embed(cpl_calibration *c)
{
    const cpl_arch *a = &c->model->arch;
    const cpl_weights_by_role *w = &c->model->weights;
    const uint32_t h = a->hidden;
    uint64_t state = 1;
    for (uint32_t t = 0; t < c->tokens; t++) {
        const uint64_t id = cpl_random_next(&state) % a->vocab;
        const uint32_t type = t * 2 >= c->tokens && a->types > 1;
        float *x = c->x + (size_t)t * h;
        cpl_tensor_read_f32(&w->word_embedding, id * h, h, x);
        cpl_tensor_read_f32(&w->type_embedding, (size_t)type * h, h, c->vector);
        cpl_tensor_read_f32(&w->position_embedding, (size_t)t * h, h, c->vector + h);
        c->kernels->add3_f32(x, x, c->vector, c->vector + h, h);
    }
    normalise(c, c->x, &w->embedding_norm_weight, &w->embedding_norm_bias);
}

static float *piece(float *block, size_t *used, size_t floats)
{
    float *p = block ? block + *used : NULL;
    *used += (floats + 15) / 16 * 16;
    return p;
}

/* Walked twice: to count, then to hand out. Returns the floats used. */
static size_t lay_out(cpl_calibration *c, float *block)
{
    const cpl_arch *a = &c->model->arch;
    const size_t h = a->hidden, f = a->intermediate, wide = h > f ? h : f, t = c->tokens;
    size_t used = 0;
    float **hidden[] = {&c->x, &c->q, &c->k, &c->v};
    for (size_t i = 0; i < sizeof hidden / sizeof hidden[0]; i++) *hidden[i] = piece(block, &used, t * h);
    c->inner = piece(block, &used, t * f);
    c->turned = piece(block, &used, t * wide);
    c->packed = piece(block, &used, cpl_gemm_f32_packed_count(c->kernels, c->tokens, (uint32_t)wide));
    c->rows = piece(block, &used, BLOCK * wide);
    c->vector = piece(block, &used, 2 * wide);
    c->attention = piece(block, &used, cpl_attention_f32_scratch(c->kernels, c->tokens, a->head_size));
    for (int s = 0; s < CPL_FOLD_SITES; s++) {
        const size_t n = width(c, (cpl_fold_site)s);
        c->seen[s].low = piece(block, &used, n);
        c->seen[s].high = piece(block, &used, n);
        c->seen[s].mean = piece(block, &used, n);
        c->seen[s].weight = piece(block, &used, n);
    }
    return used;
}

cpl_status cpl_calibration_open(cpl_calibration **out, const cpl_model *model, const cpl_kernels *k, cpl_error *err)
{
    *out = NULL;
    cpl_calibration *c = calloc(1, sizeof *c);
    if (!c) return cpl_fail_memory(err, sizeof *c);
    c->model = model;
    c->kernels = k;
    c->tokens = model->arch.positions < TOKENS ? model->arch.positions : TOKENS;
    const size_t floats = lay_out(c, NULL);
    c->block = malloc(floats * sizeof *c->block);
    if (!c->block) {
        free(c);
        return cpl_fail_memory(err, floats * sizeof *c->block);
    }
    lay_out(c, c->block);
    embed(c);
    *out = c;
    return CPL_OK;
}

void cpl_calibration_close(cpl_calibration *c)
{
    if (!c) return;
    free(c->block);
    free(c);
}
