/* SPDX-License-Identifier: Apache-2.0 */
/* forward.c - one pass over a packed token stream.
 *
 * The idea: layers outside, groups of whole sequences (about block_rows tokens) inside. A group's activations stay in
 * L2 through the whole layer (Q, K, V, attention, output, both FFN matrices), while a layer's weights (7 MB) come from
 * L3 once a group: at fp32 speed that is 2 to 3 GB/s, next to nothing, whereas activations of a whole pass would not
 * fit L2. A sequence longer than block_rows is its own group; its row-wise parts still go in blocks.
 *
 * Last layer, when only [CLS] rows are wanted (logits, CLS pooling): K and V of all rows, everything else for the [CLS]
 * rows alone. Exact, since nothing else of that layer is read.
 *
 * Invariant: nothing computed for a sequence depends on its neighbours (kernels.h), so its rows have the same bits in
 * any batch, group or team. A team splits columns (panels), (sequence, head) units or rows, one parallel call a stage;
 * the first CPL_NATIVE_TEAM_MAX members take part.
 *
 * Threads: a session belongs to one thread at a time; weights are only read. Rejected: one sequence at a time (weights
 * would stream once a sequence), stages over the whole pass (activations fall out of L2). */
#include "backend/native/native.h"
#include "backend/native/words.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"

typedef struct pass {
    cpl_session *s;
    const cpl_weights *w;
    const cpl_batch *batch;
    cpl_team *team;
    uint32_t members;
} pass;

/* Member's share of `total` units. */
static void share(uint32_t total, uint32_t members, uint32_t member, uint32_t *from, uint32_t *to)
{
    *from = (uint32_t)((uint64_t)total * member / members);
    *to = (uint32_t)((uint64_t)total * (member + 1) / members);
}

static void each_member(const pass *p, cpl_native_stage stage, double flops, void (*fn)(void *, uint32_t), void *arg)
{
    const uint64_t start = p->w->stages ? cpl_clock_thread_cpu_ns() : 0;
    if (p->members == 1)
        fn(arg, 0);
    else
        p->team->parallel(p->team, fn, arg);
    if (!p->w->stages) return;
    p->s->stage_ns[stage] += cpl_clock_thread_cpu_ns() - start;
    p->s->stage_flops[stage] += flops;
}

/* ---- stages ------------------------------------------------------------------------------------------------ */

typedef struct gemm_stage {
    const pass *p;
    cpl_native_product product[3];
    uint32_t count;
} gemm_stage;

static void gemm_member(void *arg, uint32_t member)
{
    const gemm_stage *g = arg;
    uint32_t total = 0, from, to, first = 0;
    if (member >= g->p->members) return;
    for (uint32_t i = 0; i < g->count; i++) total += g->product[i].panels;
    share(total, g->p->members, member, &from, &to);
    for (uint32_t i = 0; i < g->count; i++) {
        const uint32_t end = first + g->product[i].panels;
        const uint32_t lo = from > first ? from : first, hi = to < end ? to : end;
        if (lo < hi)
            cpl_native_multiply(&g->p->w->kernels, &g->product[i], &g->p->s->converted, g->p->s->scratch[member],
                                lo - first, hi - first);
        first = end;
    }
}

typedef struct convert_stage {
    const pass *p;
    const cpl_native_product *x;
} convert_stage;

static void convert_member(void *arg, uint32_t member)
{
    const convert_stage *c = arg;
    const cpl_native_product *x = c->x;
    uint32_t from, to;
    if (member >= c->p->members) return;
    share(x->rows, c->p->members, member, &from, &to);
    cpl_native_convert(&c->p->w->kernels, x->m, &c->p->s->converted, from, x->a + from * x->lda, to - from, x->lda);
}

/* All products of a stage have the same a. Kinds that convert: at most block_rows rows. */
static void run_gemms(const pass *p, cpl_native_stage stage, gemm_stage *g)
{
    const cpl_native_product *x = &g->product[0];
    double flops = 0;
    if (cpl_native_converts(&p->w->kernels, x->m->kind)) {
        convert_stage c = {p, x};
        each_member(p, CPL_NATIVE_CONVERT, 0, convert_member, &c);
    }
    for (uint32_t i = 0; i < g->count; i++) flops += 2.0 * x[i].rows * x[i].m->n * x[i].m->k;
    each_member(p, stage, flops, gemm_member, g);
}

static cpl_native_product make_product(const pass *p, const cpl_native_matrix *m, const float *a, size_t lda,
                                       uint32_t rows, float *c, size_t ldc, cpl_epilogue epilogue)
{
    return (cpl_native_product){.m = m,
                                .a = a,
                                .lda = lda,
                                .c = c,
                                .ldc = ldc,
                                .rows = rows,
                                .panels = cpl_native_panels(&p->w->kernels, m),
                                .epilogue = epilogue};
}

/* Kinds that convert: at most block_rows rows. */
static void multiply(const pass *p, cpl_native_stage stage, const cpl_native_matrix *m, const float *a, size_t lda,
                     uint32_t rows, float *c, size_t ldc, cpl_epilogue epilogue)
{
    gemm_stage g = {.p = p, .product = {make_product(p, m, a, lda, rows, c, ldc, epilogue)}, .count = 1};
    run_gemms(p, stage, &g);
}

typedef struct norm_stage {
    const pass *p;
    float *x;
    uint32_t rows;
    const cpl_native_norm *norm;
} norm_stage;

static void norm_member(void *arg, uint32_t member)
{
    const norm_stage *n = arg;
    const cpl_weights *w = n->p->w;
    const size_t ld = n->p->s->hidden_stride;
    uint32_t from, to;
    if (member >= n->p->members) return;
    share(n->rows, n->p->members, member, &from, &to);
    w->kernels.layernorm_f32(n->x + from * ld, to - from, w->arch.hidden, ld, n->norm->gamma, n->norm->beta,
                             w->arch.norm_epsilon);
}

static void normalise(const pass *p, float *x, uint32_t rows, const cpl_native_norm *norm)
{
    norm_stage n = {p, x, rows, norm};
    each_member(p, CPL_NATIVE_NORM, 0, norm_member, &n);
}

/* Sequences [first, end): queries in q (a row each with cls, else one a token), keys and values in k, v. */
typedef struct attention_stage {
    const pass *p;
    uint32_t first, end;
    float *q;
    int cls;
} attention_stage;

static void attention_member(void *arg, uint32_t member)
{
    const attention_stage *t = arg;
    const cpl_session *s = t->p->s;
    const cpl_weights *w = t->p->w;
    const uint32_t *cu = t->p->batch->cu_seqlens;
    const uint32_t heads = w->arch.heads, d = w->arch.head_size;
    uint32_t from, to;
    if (member >= t->p->members) return;
    share((t->end - t->first) * heads, t->p->members, member, &from, &to);
    for (uint32_t unit = from; unit < to; unit++) {
        const uint32_t sequence = t->first + unit / heads, column = unit % heads * d;
        const uint32_t row = cu[sequence] - cu[t->first], keys = cu[sequence + 1] - cu[sequence];
        float *q = t->q + (t->cls ? sequence - t->first : row) * s->hidden_stride + column;
        const cpl_attention_f32 a = {.q = q,
                                     .k = s->k + row * s->hidden_stride + column,
                                     .v = s->v + row * s->hidden_stride + column,
                                     .out = q,
                                     .q_stride = s->hidden_stride,
                                     .kv_stride = s->hidden_stride,
                                     .out_stride = s->hidden_stride,
                                     .queries = t->cls ? 1 : keys,
                                     .keys = keys,
                                     .head_size = d,
                                     .scale = 1.0f / sqrtf((float)d),
                                     .scratch = s->scratch[member]};
        w->kernels.attention_f32(&w->kernels, &a);
    }
}

/* ---- the pass ---------------------------------------------------------------------------------------------- */

static uint32_t rows_total(const pass *p) { return p->batch->cu_seqlens[p->batch->n]; }

/* Rows of one of the equal blocks that `rows` are cut into. */
static uint32_t block_size(const pass *p, uint32_t rows)
{
    const uint32_t blocks = (rows + p->w->block_rows - 1) / p->w->block_rows;
    return blocks ? (rows + blocks - 1) / blocks : 0;
}

/* Sequences are dealt to members; one row is word + type + position. */
static void gather_member(void *arg, uint32_t member)
{
    const pass *p = arg;
    const cpl_weights *w = p->w;
    const cpl_batch *b = p->batch;
    const uint32_t h = w->arch.hidden;
    uint32_t from, to;
    if (member >= p->members) return;
    share(b->n, p->members, member, &from, &to);
    for (uint32_t i = from; i < to; i++) {
        for (uint32_t t = b->cu_seqlens[i]; t < b->cu_seqlens[i + 1]; t++) {
            float *x = p->s->x + t * p->s->hidden_stride;
            cpl_native_words_add(&w->words, &w->kernels, (uint32_t)b->ids[t], w->type + (size_t)b->type_ids[t] * h,
                                 w->position + (size_t)(t - b->cu_seqlens[i]) * h, x);
        }
    }
}

static void embed(pass *p)
{
    each_member(p, CPL_NATIVE_EMBED, 0, gather_member, p);
    normalise(p, p->s->x, rows_total(p), &p->w->embedding_norm);
}

static cpl_epilogue activation(const cpl_arch *a)
{
    switch (a->activation) {
    case CPL_ACTIVATION_GELU: return CPL_EPILOGUE_GELU;
    case CPL_ACTIVATION_GELU_TANH: return CPL_EPILOGUE_GELU_TANH;
    case CPL_ACTIVATION_RELU: return CPL_EPILOGUE_RELU;
    }
    return CPL_EPILOGUE_GELU;
}

/* What follows attention, row by row: output projection, residual, norm, FFN, residual, norm. x in place. */
static void finish_rows(const pass *p, const cpl_native_layer *y, float *x, const float *context, uint32_t rows)
{
    const cpl_session *s = p->s;
    const size_t ld = s->hidden_stride;
    const uint32_t step = block_size(p, rows);
    for (uint32_t from = 0; from < rows; from += step) {
        const uint32_t n = rows - from < step ? rows - from : step;
        float *to = x + from * ld;
        multiply(p, CPL_NATIVE_OUT, &y->out, context + from * ld, ld, n, to, ld, CPL_EPILOGUE_RESIDUAL);
        normalise(p, to, n, &y->attention_norm);
        multiply(p, CPL_NATIVE_UP, &y->up, to, ld, n, s->mid, s->mid_stride, activation(&p->w->arch));
        multiply(p, CPL_NATIVE_DOWN, &y->down, s->mid, s->mid_stride, n, to, ld, CPL_EPILOGUE_RESIDUAL);
        normalise(p, to, n, &y->output_norm);
    }
}

/* Q (unless cls_only), K and V of `rows` rows of x, into the session's buffers. */
static void project(const pass *p, const cpl_native_layer *y, const float *x, uint32_t rows, int cls_only)
{
    const cpl_session *s = p->s;
    const size_t ld = s->hidden_stride;
    const uint32_t step = block_size(p, rows);
    for (uint32_t from = 0; from < rows; from += step) {
        const uint32_t n = rows - from < step ? rows - from : step;
        const float *a = x + from * ld;
        gemm_stage g = {.p = p};
        g.product[g.count++] = make_product(p, &y->k, a, ld, n, s->k + from * ld, ld, CPL_EPILOGUE_BIAS);
        g.product[g.count++] = make_product(p, &y->v, a, ld, n, s->v + from * ld, ld, CPL_EPILOGUE_BIAS);
        if (!cls_only) g.product[g.count++] = make_product(p, &y->q, a, ld, n, s->q + from * ld, ld, CPL_EPILOGUE_BIAS);
        run_gemms(p, CPL_NATIVE_QKV, &g);
    }
}

static void attend(const pass *p, uint32_t first, uint32_t end, float *q, int cls)
{
    attention_stage t = {p, first, end, q, cls};
    const uint32_t *cu = p->batch->cu_seqlens;
    double flops = 0;
    for (uint32_t i = first; i < end; i++) {
        const double keys = cu[i + 1] - cu[i];
        flops += 4.0 * (cls ? 1 : keys) * keys * p->w->arch.hidden;
    }
    each_member(p, CPL_NATIVE_ATTENTION, flops, attention_member, &t);
}

/* Sequences from `first` on that go through a layer together. */
static uint32_t group_end(const pass *p, uint32_t first)
{
    const uint32_t *cu = p->batch->cu_seqlens;
    uint32_t end = first + 1;
    while (end < p->batch->n && cu[end + 1] - cu[first] <= p->w->block_rows) end++;
    return end;
}

static void layer_forward(const pass *p, const cpl_native_layer *y)
{
    const uint32_t *cu = p->batch->cu_seqlens;
    for (uint32_t first = 0, end; first < p->batch->n; first = end) {
        end = group_end(p, first);
        float *x = p->s->x + cu[first] * p->s->hidden_stride;
        const uint32_t rows = cu[end] - cu[first];
        project(p, y, x, rows, 0);
        attend(p, first, end, p->s->q, 0);
        finish_rows(p, y, x, p->s->q, rows);
    }
}

/* The last layer for [CLS] rows only; they end up in s->cls. */
static void layer_forward_cls(const pass *p, const cpl_native_layer *y)
{
    const cpl_session *s = p->s;
    const uint32_t *cu = p->batch->cu_seqlens, n = p->batch->n;
    const size_t ld = s->hidden_stride;
    for (uint32_t i = 0; i < n; i++) memcpy(s->cls + i * ld, s->x + cu[i] * ld, p->w->arch.hidden * sizeof(float));
    const uint32_t step = block_size(p, n);
    for (uint32_t from = 0; from < n; from += step)
        multiply(p, CPL_NATIVE_QKV, &y->q, s->cls + from * ld, ld, n - from < step ? n - from : step,
                 s->cls_q + from * ld, ld, CPL_EPILOGUE_BIAS);
    for (uint32_t first = 0, end; first < n; first = end) {
        end = group_end(p, first);
        project(p, y, s->x + cu[first] * ld, cu[end] - cu[first], 1);
        attend(p, first, end, s->cls_q + first * ld, 1);
    }
    finish_rows(p, y, s->cls, s->cls_q, n);
}

static void write_rows(const pass *p, const float *x, uint32_t n, float *rows)
{
    const uint32_t h = p->w->arch.hidden;
    for (uint32_t i = 0; i < n; i++) memcpy(rows + (size_t)i * h, x + i * p->s->hidden_stride, h * sizeof(float));
}

static void write_result(const pass *p, float *rows)
{
    const cpl_session *s = p->s;
    const cpl_weights *w = p->w;
    const uint32_t h = w->arch.hidden, n = p->batch->n, *cu = p->batch->cu_seqlens;
    const size_t ld = s->hidden_stride;
    if (p->batch->want == CPL_WANT_TOKENS) {
        write_rows(p, s->x, rows_total(p), rows);
    } else if (p->batch->want == CPL_WANT_LOGITS) {
        multiply(p, CPL_NATIVE_HEAD, &w->pooler, s->cls, ld, n, s->cls_q, ld, CPL_EPILOGUE_TANH);
        multiply(p, CPL_NATIVE_HEAD, &w->classifier, s->cls_q, ld, n, rows, w->arch.labels, CPL_EPILOGUE_BIAS);
    } else if (w->pooling == CPL_POOLING_CLS) {
        write_rows(p, s->cls, n, rows);
    } else {
        for (uint32_t i = 0; i < n; i++) {
            const float *x = s->x + cu[i] * ld;
            float *out = rows + (size_t)i * h;
            if (w->pooling == CPL_POOLING_MEAN)
                w->kernels.pool_mean_f32(out, x, cu[i + 1] - cu[i], h, ld);
            else
                w->kernels.pool_max_f32(out, x, cu[i + 1] - cu[i], h, ld);
        }
    }
}

cpl_status cpl_native_rows_run(cpl_session *s, const cpl_batch *batch, cpl_team *team, float *rows, cpl_error *err)
{
    const cpl_weights *w = s->weights;
    if (!batch->n) return CPL_OK;
    const cpl_status st = cpl_native_check_batch(&w->limits, &w->arch, batch, err);
    if (st) return st;
    pass p = {.s = s, .w = w, .batch = batch, .team = team, .members = team && team->size ? team->size : 1};
    if (p.members > CPL_NATIVE_TEAM_MAX) p.members = CPL_NATIVE_TEAM_MAX;
    const int cls_only =
        batch->want == CPL_WANT_LOGITS || (batch->want == CPL_WANT_POOLED && w->pooling == CPL_POOLING_CLS);
    s->passes++;
    s->tokens += batch->cu_seqlens[batch->n];
    embed(&p);
    for (uint32_t l = 0; l + 1 < w->arch.layers; l++) layer_forward(&p, &w->layers[l]);
    const cpl_native_layer *last = &w->layers[w->arch.layers - 1];
    if (cls_only)
        layer_forward_cls(&p, last);
    else
        layer_forward(&p, last);
    write_result(&p, rows);
    return CPL_OK;
}

const cpl_native_path cpl_native_rows = {
    .load = cpl_native_rows_load,
    .open = cpl_native_rows_open,
    .run = cpl_native_rows_run,
    .stages = cpl_native_rows_stages,
    .close = cpl_native_rows_close,
    .unload = cpl_native_rows_unload,
};
