/* SPDX-License-Identifier: Apache-2.0 */
/* weights.c - load: every matrix packed once into the chosen kernels' panels, in one block on huge pages; the layers'
 * matrices in the kind of the precision (matrix.c).
 *
 * The idea: the layout is described once (lay_out) and walked twice, first to count, then to hand out the pieces; so
 * size and use can't disagree, and unload frees one block. The word table is copied as stored (half the memory for
 * 16-bit files) and converted row by row when gathered; everything else becomes fp32.
 *
 * After load nothing refers to the model: its mapping may go. Read-only from then on, any number of sessions. */
#include "backend/native/fold.h"
#include "backend/native/keep.h"
#include "backend/native/native.h"
#include "backend/native/words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/precision.h"
#include "base/error.h"

enum { ALIGN = 64, BLOCK_ALIGN = 4096 };

float *cpl_native_take(cpl_native_bump *b, size_t floats)
{
    float *p = b->base ? (float *)(void *)(b->base + b->used) : NULL;
    b->used += (floats * sizeof(float) + ALIGN - 1) / ALIGN * ALIGN;
    return p;
}

static void take_norm(cpl_native_norm *norm, cpl_native_bump *b, uint32_t n)
{
    norm->gamma = cpl_native_take(b, n);
    norm->beta = cpl_native_take(b, n);
}

/* What a precision's matrices are. int4's rule, the only place for it: the second inner matrix (a third of the weights,
 * and the one that loses least) is 4 bits in all layers but the last, the rest int8. docs/PERFORMANCE.md has what each
 * of the others would lose. */
static void choose_base_kinds(cpl_weights *w)
{
    const uint32_t layers = w->arch.layers;
    for (uint32_t l = 0; l < layers; l++) {
        for (int i = 0; i < CPL_NATIVE_ITEMS; i++)
            w->base_kinds[l][i] = w->kind == CPL_NATIVE_I4 ? CPL_NATIVE_I8 : w->kind;
        if (w->kind == CPL_NATIVE_I4 && (l + 1 < layers || layers == 1))
            w->base_kinds[l][CPL_NATIVE_DOWN_MATRIX] = CPL_NATIVE_I4;
    }
    memcpy(w->kinds, w->base_kinds, layers * sizeof *w->kinds);
}

static cpl_native_item item_of(cpl_fold_matrix which)
{
    switch (which) {
    case CPL_FOLD_OUT: return CPL_NATIVE_OUT_MATRIX;
    case CPL_FOLD_UP: return CPL_NATIVE_UP_MATRIX;
    case CPL_FOLD_DOWN: return CPL_NATIVE_DOWN_MATRIX;
    default: return CPL_NATIVE_QKV_MATRICES;
    }
}

static void take_layer_matrix(const cpl_weights *w, uint32_t layer, cpl_native_matrix *m, cpl_fold_matrix which,
                              cpl_native_bump *b, uint32_t n, uint32_t kk)
{
    cpl_native_matrix_take(m, w->kinds[layer][item_of(which)], w->group_size, b, &w->kernels, n, kk);
}

static int is_folded(const cpl_weights *w) { return w->kind == CPL_NATIVE_I8 || w->kind == CPL_NATIVE_I4; }

static void lay_out(cpl_weights *w, cpl_native_bump *b, const cpl_tensor *word)
{
    const cpl_arch *a = &w->arch;
    const cpl_kernels *k = &w->kernels;
    const uint32_t h = a->hidden, f = a->intermediate;
    for (uint32_t l = 0; l < a->layers; l++) {
        cpl_native_layer *y = &w->layers[l];
        take_layer_matrix(w, l, &y->q, CPL_FOLD_Q, b, h, h);
        take_layer_matrix(w, l, &y->k, CPL_FOLD_K, b, h, h);
        take_layer_matrix(w, l, &y->v, CPL_FOLD_V, b, h, h);
        take_layer_matrix(w, l, &y->out, CPL_FOLD_OUT, b, h, h);
        take_norm(&y->attention_norm, b, h);
        take_layer_matrix(w, l, &y->up, CPL_FOLD_UP, b, f, h);
        take_layer_matrix(w, l, &y->down, CPL_FOLD_DOWN, b, h, f);
        take_norm(&y->output_norm, b, h);
        for (int i = 0; is_folded(w) && i < 4; i++) y->input[i] = cpl_native_take(b, h);
    }
    if (a->head == CPL_HEAD_POOLER_CLASSIFIER) {
        cpl_native_matrix_take(&w->pooler, CPL_NATIVE_F32, 0, b, k, h, h);
        cpl_native_matrix_take(&w->classifier, CPL_NATIVE_F32, 0, b, k, a->labels, h);
    }
    take_norm(&w->embedding_norm, b, h);
    w->position = cpl_native_take(b, (size_t)a->positions * h);
    w->type = cpl_native_take(b, (size_t)a->types * h);
    cpl_native_words_take(&w->words, b, word, is_folded(w));
}

static void fill(float *to, const cpl_tensor *from) { cpl_tensor_read_f32(from, 0, cpl_tensor_count(from), to); }

static void fill_norm(cpl_native_norm *to, const cpl_tensor *gamma, const cpl_tensor *beta)
{
    fill(to->gamma, gamma);
    fill(to->beta, beta);
}

/* row: m->k floats of scratch, twice. */
static void fill_folded(cpl_native_matrix *m, const cpl_kernels *k, const cpl_fold *fold, uint32_t layer,
                        cpl_fold_matrix which, float *row)
{
    int8_t *q = (int8_t *)(void *)(row + m->k);
    uint8_t *by = (uint8_t *)(q + m->k), *less = by + m->k;
    cpl_native_matrix_clear(m, k);
    for (uint32_t n = 0; n < m->n; n++) {
        float scale;
        if (m->kind != CPL_NATIVE_I8 && m->kind != CPL_NATIVE_I4) { /* kept */
            float bias;
            cpl_fold_plain(fold, layer, which, n, row, &bias);
            cpl_native_matrix_place(m, k, n, row, bias);
        } else if (m->kind == CPL_NATIVE_I8) {
            cpl_fold_column(fold, layer, which, n, row, q, &scale, &m->bias[n]);
            cpl_gemm_i8_place(k, &m->b8, n, m->k, q, scale, m->input.is_unsigned);
        } else {
            cpl_fold_column_i4(fold, layer, which, n, m->group, row, q, by, less, &scale, &m->bias[n]);
            cpl_gemm_i4_place(k, &m->b8, n, m->k, m->group, q, by, less, scale, m->input.is_unsigned);
        }
    }
}

/* next: the first matrix of the layer after, or NULL. */
static void fill_layer_i8(cpl_native_layer *y, cpl_native_matrix *next, const cpl_kernels *k, const cpl_fold *fold,
                          uint32_t layer, float *row)
{
    /* In the order of a pass; one that takes no notice loses nothing but a fetch. */
    cpl_native_matrix *order[] = {&y->k, &y->v, &y->q, &y->out, &y->up, &y->down, next};
    for (int i = 0; i < CPL_FOLD_MATRICES; i++) order[i]->after = order[i + 1] ? order[i + 1]->b : NULL;
    const cpl_rows_i8 normed = {.mul = y->input[0], .add = y->input[1]},
                      middle = {.mul = y->input[2], .add = y->input[3]};
    cpl_fold_input(fold, layer, CPL_FOLD_LAYER, y->input[0], y->input[1]);
    cpl_fold_input(fold, layer, CPL_FOLD_NORMED, y->input[2], y->input[3]);
    y->q.input = y->k.input = y->v.input = normed;
    y->out.input = (cpl_rows_i8){0};
    y->up.input = middle;
    y->down.input = (cpl_rows_i8){.floor = cpl_fold_floor(fold), .is_unsigned = 1};
    cpl_native_matrix *all[CPL_FOLD_MATRICES] = {&y->q, &y->k, &y->v, &y->out, &y->up, &y->down};
    for (int i = 0; i < CPL_FOLD_MATRICES; i++) fill_folded(all[i], k, fold, layer, (cpl_fold_matrix)i, row);
}

static void fill_all(cpl_weights *w, const cpl_weights_by_role *from, const cpl_fold *fold, float *row)
{
    const cpl_kernels *k = &w->kernels;
    for (uint32_t l = 0; l < w->arch.layers; l++) {
        const cpl_layer *s = &from->layers[l];
        cpl_native_layer *y = &w->layers[l];
        fill_norm(&y->attention_norm, &s->attention_norm_weight, &s->attention_norm_bias);
        fill_norm(&y->output_norm, &s->output_norm_weight, &s->output_norm_bias);
        if (fold) {
            fill_layer_i8(y, l + 1 < w->arch.layers ? &y[1].k : NULL, k, fold, l, row);
            continue;
        }
        cpl_native_matrix_fill(&y->q, k, &s->q_weight, &s->q_bias, row);
        cpl_native_matrix_fill(&y->k, k, &s->k_weight, &s->k_bias, row);
        cpl_native_matrix_fill(&y->v, k, &s->v_weight, &s->v_bias, row);
        cpl_native_matrix_fill(&y->out, k, &s->out_weight, &s->out_bias, row);
        cpl_native_matrix_fill(&y->up, k, &s->up_weight, &s->up_bias, row);
        cpl_native_matrix_fill(&y->down, k, &s->down_weight, &s->down_bias, row);
    }
    if (w->arch.head == CPL_HEAD_POOLER_CLASSIFIER) {
        cpl_native_matrix_fill(&w->pooler, k, &from->pooler_weight, &from->pooler_bias, row);
        cpl_native_matrix_fill(&w->classifier, k, &from->classifier_weight, &from->classifier_bias, row);
    }
    fill_norm(&w->embedding_norm, &from->embedding_norm_weight, &from->embedding_norm_bias);
    fill(w->position, &from->position_embedding);
    fill(w->type, &from->type_embedding);
    cpl_native_words_fill(&w->words, k, &from->word_embedding, row);
}

/* Rows whose widest activation (the FFN's inner one) and residual rows take three quarters of L2, the rest being left
 * to the panels that stream through; whole register tiles. */
static uint32_t choose_block_rows(const cpl_weights *w, const cpl_cpu *cpu)
{
    const uint64_t row_bytes = 4ull * (w->arch.intermediate + 2ull * w->arch.hidden);
    uint64_t rows = cpu->l2_bytes * 3ull / 4 / row_bytes;
    if (rows < 48) rows = 48;
    if (rows > 240) rows = 240;
    return (uint32_t)(rows / w->kernels.mr * w->kernels.mr);
}

static cpl_status fill_weights(cpl_weights *w, const cpl_model *model, cpl_error *err)
{
    cpl_native_bump count = {NULL, 0};
    lay_out(w, &count, &model->weights.word_embedding);
    w->block = w->host.allocate(count.used, BLOCK_ALIGN);
    if (!w->block) return cpl_fail_memory(err, count.used);
    w->block_bytes = count.used;
    const uint32_t row_max = w->arch.hidden > w->arch.intermediate ? w->arch.hidden : w->arch.intermediate;
    float *row = malloc(row_max * 2ul * sizeof(float));
    if (!row) return cpl_fail_memory(err, row_max * 2ul * sizeof(float));
    cpl_native_bump take = {w->block, 0};
    cpl_fold *fold = NULL;
    cpl_status st = CPL_OK;
    lay_out(w, &take, &model->weights.word_embedding);
    if (is_folded(w)) st = cpl_fold_open(&fold, model, &w->kernels, err);
    if (!st) fill_all(w, &model->weights, fold, row);
    cpl_fold_close(fold);
    free(row);
    return st;
}

static cpl_status allocate_layers(cpl_weights *w, cpl_error *err)
{
    w->layers = calloc(w->arch.layers, sizeof *w->layers);
    w->kinds = calloc(w->arch.layers, sizeof *w->kinds);
    w->base_kinds = calloc(w->arch.layers, sizeof *w->base_kinds);
    return w->layers && w->kinds && w->base_kinds ? CPL_OK : cpl_fail_memory(err, w->arch.layers * sizeof *w->layers);
}

static cpl_status set_up(cpl_weights *w, const cpl_model *model, const cpl_load_options *options,
                         const cpl_native_settings *settings, const cpl_host *host, cpl_error *err)
{
    cpl_cpu cpu;
    cpl_cpu_detect(&cpu);
    w->head.path = &cpl_native_rows;
    w->host = *host;
    w->precision = options->precision;
    w->kind = cpl_native_kind_of(w->precision);
    w->arch = model->arch;
    w->pooling = model->pooling;
    w->limits = cpl_native_limits_of(model, options);
    w->stages = settings->stages;
    w->group_size = settings->group_size;
    cpl_kernels_choose(&w->kernels, settings->isa);
    w->block_rows = choose_block_rows(w, &cpu);
    int attention_fp32 = 0;
    cpl_status st = allocate_layers(w, err);
    if (!st) choose_base_kinds(w);
    if (!st && settings->keep)
        st = cpl_native_keep_read(w->kinds, &attention_fp32, settings->keep, w->arch.layers, err);
    w->attention_bf16 = w->kernels.attention_bf16 && cpl_native_converts(&w->kernels, w->kind) && !attention_fp32;
    return st;
}

/* What runs what, in the words of the load line. */
static void name_kernels(const cpl_weights *w, cpl_load_report *report)
{
    const cpl_kernels *k = &w->kernels;
    char *to = report->kernels;
    const size_t cap = sizeof report->kernels;
    const char *by = cpl_native_arithmetic(k, w->kind), *attention = w->attention_bf16 ? ", bf16 attention" : "";
    if (w->kind == CPL_NATIVE_F32)
        snprintf(to, cap, "%s", k->isa);
    else if (w->kind == CPL_NATIVE_I4)
        snprintf(to, cap, "%s, int4/%u ffn down, int8 products %s%s", k->isa, w->group_size, by, attention);
    else
        snprintf(to, cap, "%s, %s products %s%s", k->isa, cpl_precision_name(w->precision), by, attention);
    cpl_native_keep_name(to + strlen(to), cap - strlen(to), w->kinds, w->base_kinds, w->arch.layers);
}

cpl_status cpl_native_rows_load(cpl_weights **out, const cpl_model *model, const cpl_load_options *options,
                                const cpl_native_settings *settings, cpl_load_report *report, const cpl_host *host,
                                cpl_error *err)
{
    *out = NULL;
    cpl_weights *w = calloc(1, sizeof *w);
    if (!w) return cpl_fail_memory(err, sizeof *w);
    cpl_status st = set_up(w, model, options, settings, host, err);
    if (!st) st = fill_weights(w, model, err);
    if (st) {
        cpl_native_rows_unload(w);
        return st;
    }
    report->weight_bytes = w->block_bytes;
    report->precision = w->precision;
    report->batch_tokens =
        cpl_native_converts(&w->kernels, w->kind) ? CPL_NATIVE_BATCH_TOKENS : CPL_NATIVE_BATCH_TOKENS_FP32;
    name_kernels(w, report);
    *out = w;
    return CPL_OK;
}

void cpl_native_rows_unload(cpl_weights *w)
{
    if (!w) return;
    if (w->block) w->host.release(w->block, w->block_bytes);
    free(w->layers);
    free(w->kinds);
    free(w->base_kinds);
    free(w);
}
