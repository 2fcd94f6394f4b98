/* SPDX-License-Identifier: Apache-2.0 */
/* amx_pass.c - one pass over a packed token stream on AMX.
 *
 * The idea: stages go over the whole pass, so that each weight crosses from L3 once a pass; inside a stage the GEMM
 * overlaps tile and vector work (gemm_amx.c) and each stage's epilogue writes what the next one reads: Q, K, V as bf16
 * rows of a head each, the FFN's inner rows as halves with their maxima, residual rows in fp32. The row-wise sweeps
 * that need a whole row (layer norm with quantising, quantising of attention's output and of the FFN's inner rows)
 * follow their product after a few rows each.
 *
 * Rows never meet but in attention, and there only those of a sequence; blocks of rows are padded by whatever lies
 * there. So scores have the same bits in any batch. A team splits panels, (sequence, head) units or rows, one parallel
 * call a stage.
 *
 * Threads: as forward.c. Each member configures its tiles at the beginning of its part of a stage and releases them at
 * its end; alone, once a pass. */
#include <math.h>
#include <string.h>

#include "backend/native/amx.h"
#include "backend/native/words.h"
#include "base/clock.h"

typedef struct pass {
    cpl_amx_session *s;
    const cpl_amx_weights *w;
    const cpl_batch *batch;
    cpl_team *team;
    uint32_t members;
} pass;

static int is_int8(const pass *p) { return p->w->precision == CPL_PRECISION_INT8; }

static void share(uint32_t total, uint32_t members, uint32_t member, uint32_t *from, uint32_t *to)
{
    *from = (uint32_t)((uint64_t)total * member / members);
    *to = (uint32_t)((uint64_t)total * (member + 1) / members);
}

typedef struct part {
    const pass *p;
    void (*fn)(const pass *p, const void *what, uint32_t member);
    const void *what;
} part;

static void run_part(void *arg, uint32_t member)
{
    const part *x = arg;
    if (member >= x->p->members) return;
    x->p->w->amx->begin();
    x->fn(x->p, x->what, member);
    x->p->w->amx->end();
}

/* fn on every member; alone the tiles are configured already. */
static void each_member(const pass *p, cpl_native_stage stage, double ops,
                        void (*fn)(const pass *p, const void *what, uint32_t member), const void *what)
{
    const uint64_t start = p->w->stages ? cpl_clock_thread_cpu_ns() : 0;
    if (p->members == 1) {
        fn(p, what, 0);
    } else {
        part x = {p, fn, what};
        p->team->parallel(p->team, run_part, &x);
    }
    if (!p->w->stages) return;
    p->s->stage_ns[stage] += cpl_clock_thread_cpu_ns() - start;
    p->s->stage_ops[stage] += ops;
}

/* ---- products --------------------------------------------------------------------------------------------------- */

/* Rows [0, rows) of a, of which tiles, scales and output start where the pointers say. */
typedef struct product {
    const cpl_amx_matrix *m;
    cpl_amx_kind kind;
    cpl_amx_out what;
    uint32_t rows, panel_begin, panel_end, panels_outside;
    const char *a;
    const float *row_scale;
    const uint16_t *row_scale16;
    char *out;
    size_t out_row, out_panel;
    char *most;
    const cpl_amx_activation *activation;
} product;

/* `blocks` blocks of `tiles` row tiles from row tile `first` on. */
static void multiply_blocks(const pass *p, const product *x, uint32_t member, uint32_t first, uint32_t tiles,
                            uint32_t blocks)
{
    const cpl_amx_matrix *m = x->m;
    const uint32_t row = first * 16, split = p->w->tuning.split / 64;
    uint32_t from, to;
    share(x->panel_end - x->panel_begin, p->members, member, &from, &to);
    const cpl_amx_gemm g = {.kind = x->kind,
                            .what = x->what,
                            .a = x->a + (size_t)first * m->steps * 1024,
                            .b = m->b,
                            .scale = m->scale,
                            .bias = m->bias,
                            .scale16 = m->scale16,
                            .bias16 = m->bias16,
                            .row_scale = x->row_scale ? x->row_scale + row : NULL,
                            .row_scale16 = x->row_scale16 ? x->row_scale16 + row : NULL,
                            .tiles = tiles,
                            .blocks = blocks,
                            .steps = m->steps,
                            .split = m->steps % split ? m->steps : split,
                            .panel_begin = x->panel_begin + from,
                            .panel_end = x->panel_begin + to,
                            .panels_outside = (int)x->panels_outside,
                            .out = x->out + (x->what == CPL_AMX_ROWS                             ? row * (size_t)64
                                             : x->what == CPL_AMX_ADD || x->kind != CPL_AMX_BF16 ? row * x->out_row
                                                                                                 : first * x->out_row),
                            .out_row = x->out_row,
                            .out_panel = x->out_panel,
                            .most = x->most ? x->most + row * (size_t)64 : NULL,
                            .activation = x->activation,
                            .scratch = p->s->member[member].scratch,
                            .partial = p->s->member[member].partial};
    if (from < to) p->w->amx->gemm(&g);
}

/* Whole blocks, then the row tile that is left. */
static void multiply_member(const pass *p, const void *what, uint32_t member)
{
    const product *x = what;
    const uint32_t tiles = p->w->tuning.tiles, total = (x->rows + 15) / 16, whole = total / tiles;
    if (whole) multiply_blocks(p, x, member, 0, tiles, whole);
    if (total % tiles) multiply_blocks(p, x, member, whole * tiles, 1, 1);
}

static void multiply(const pass *p, cpl_native_stage stage, const product *x)
{
    product y = *x;
    y.panels_outside = p->w->tuning.panels_outside >> stage & 1;
    each_member(p, stage, 2.0 * x->rows * (x->panel_end - x->panel_begin) * CPL_AMX_PANEL * x->m->k, multiply_member,
                &y);
}

/* ---- rows ------------------------------------------------------------------------------------------------------- */

typedef struct norming {
    cpl_amx_rows rows;
    uint32_t count;
} norming;

static void norm_member(const pass *p, const void *what, uint32_t member)
{
    const norming *n = what;
    uint32_t from, to;
    share(n->count, p->members, member, &from, &to);
    p->w->amx->norm(&n->rows, from, to);
}

/* Rows of a residual stream, with their A tiles. */
typedef struct stream {
    float *x;
    char *a;
    float *scale;
    uint16_t *scale16;
    uint32_t rows;
} stream;

/* row_scale16 for the product after the attention norm only; scale16 0: none. */
static void normalise(const pass *p, const stream *t, const cpl_amx_norm_weights *norm, float scale16)
{
    const cpl_amx_weights *w = p->w;
    const norming n = {{.kind = is_int8(p) ? CPL_AMX_INT8 : CPL_AMX_BF16,
                        .x = t->x,
                        .ld = p->s->x_stride,
                        .n = w->arch.hidden,
                        .gamma = norm->gamma,
                        .beta = norm->beta,
                        .q_gamma = norm->q_gamma,
                        .q_beta = norm->q_beta,
                        .epsilon = w->arch.norm_epsilon,
                        .a = t->a,
                        .steps = w->layers[0].qkv.steps,
                        .row_scale = t->scale,
                        .row_scale16 = scale16 > 0 ? t->scale16 : NULL,
                        .scale16 = scale16},
                       t->rows};
    each_member(p, CPL_NATIVE_NORM, 0, norm_member, &n);
}

typedef struct halving {
    cpl_amx_halves halves;
    uint32_t count;
    int activated;
} halving;

static void halves_member(const pass *p, const void *what, uint32_t member)
{
    const halving *h = what;
    uint32_t from, to;
    share(h->count, p->members, member, &from, &to);
    (h->activated ? p->w->amx->quantise_activated : p->w->amx->quantise_halves)(&h->halves, from, to);
}

/* ---- attention -------------------------------------------------------------------------------------------------- */

typedef struct attending {
    char *q, *out; /* int8: halves; bf16: A tiles */
    int cls;       /* one query a sequence */
} attending;

static void attend_member(const pass *p, const void *what, uint32_t member)
{
    const attending *t = what;
    const cpl_amx_session *s = p->s;
    const cpl_arch *arch = &p->w->arch;
    const uint32_t *cu = p->batch->cu_seqlens, heads = arch->heads;
    const size_t stage = (size_t)(arch->hidden / CPL_AMX_PANEL) * s->panel_bytes;
    uint32_t from, to;
    share(p->batch->n * heads, p->members, member, &from, &to);
    while (from < to) {
        const uint32_t i = from / heads, head = from % heads;
        const uint32_t end = to - i * heads < heads ? to - i * heads : heads;
        const uint32_t row = t->cls ? i : cu[i];
        const cpl_amx_attention a = {.q = t->q + row * (size_t)64,
                                     .k = s->qkv + stage + cu[i] * (size_t)64,
                                     .v = s->qkv + 2 * stage + cu[i] * (size_t)64,
                                     .q_panel = s->panel_bytes,
                                     .kv_panel = s->panel_bytes,
                                     .queries = t->cls ? 1 : cu[i + 1] - cu[i],
                                     .keys = cu[i + 1] - cu[i],
                                     .head_size = arch->head_size,
                                     .head_begin = head,
                                     .head_end = end,
                                     .out = is_int8(p) ? t->out + row * s->context_stride : t->out,
                                     .out_row = s->context_stride,
                                     .out_first = row,
                                     .out_steps = p->w->layers[0].out.steps,
                                     .out_bf16_tiles = !is_int8(p),
                                     .scratch = s->member[member].attention};
        p->w->amx->attention(&a);
        from = i * heads + end;
    }
}

static void attend(const pass *p, char *q, char *a, int cls)
{
    const attending t = {q, is_int8(p) ? p->s->context : a, cls};
    const uint32_t *cu = p->batch->cu_seqlens;
    double ops = 0;
    for (uint32_t i = 0; i < p->batch->n; i++) {
        const double keys = cu[i + 1] - cu[i];
        ops += 4.0 * (cls ? 1 : keys) * keys * p->w->arch.hidden;
    }
    each_member(p, CPL_NATIVE_ATTENTION, ops, attend_member, &t);
}

/* ---- the pass --------------------------------------------------------------------------------------------------- */

static uint32_t rows_total(const pass *p) { return p->batch->cu_seqlens[p->batch->n]; }

/* Panels [begin, end) of Q, K and V of a stream's rows, in units of the hidden size, to out. */
static void project(const pass *p, const cpl_amx_layer *y, const stream *t, uint32_t begin, uint32_t end, char *out)
{
    const uint32_t each = p->w->arch.hidden / CPL_AMX_PANEL;
    const product x = {.m = &y->qkv,
                       .kind = is_int8(p) ? CPL_AMX_INT8 : CPL_AMX_BF16,
                       .what = CPL_AMX_ROWS,
                       .rows = t->rows,
                       .panel_begin = begin * each,
                       .panel_end = end * each,
                       .a = t->a,
                       .row_scale = t->scale,
                       .out = out,
                       .out_panel = p->s->panel_bytes};
    multiply(p, CPL_NATIVE_QKV, &x);
}

/* t->x += a m^T + bias. */
static void add_product(const pass *p, cpl_native_stage stage, const cpl_amx_matrix *m, cpl_amx_kind kind,
                        const char *a, const float *scale, const stream *t)
{
    const product x = {.m = m,
                       .kind = kind,
                       .what = CPL_AMX_ADD,
                       .rows = t->rows,
                       .panel_end = m->n / CPL_AMX_PANEL,
                       .a = a,
                       .row_scale = scale,
                       .out = (char *)t->x,
                       .out_row = p->s->x_stride * sizeof(float)};
    multiply(p, stage, &x);
}

/* Rows [from, from + n) of t. */
static stream rows_of(const pass *p, const stream *t, uint32_t from, uint32_t n)
{
    const size_t tile = (size_t)p->w->layers[0].qkv.steps * 1024;
    return (stream){t->x + from * p->s->x_stride, t->a + from / 16 * tile, t->scale + from, t->scale16 + from, n};
}

/* Activated inner rows of t, the FFN's rows from `from` on, into A tiles. */
static void feed_up(const pass *p, const cpl_amx_layer *y, const stream *t, uint32_t from)
{
    cpl_amx_session *s = p->s;
    const int int8 = is_int8(p);
    char *const mid_a = s->mid_a + from / 16 * (size_t)y->down.steps * 1024;
    const product up = {.m = &y->up,
                        .kind = int8 ? CPL_AMX_INT8 : CPL_AMX_BF16,
                        .what = CPL_AMX_ACTIVATE,
                        .rows = t->rows,
                        .panel_end = y->up.n / CPL_AMX_PANEL,
                        .a = t->a,
                        .row_scale = t->scale,
                        .row_scale16 = t->scale16,
                        .out = int8 ? s->mid : mid_a,
                        .out_row = int8 ? s->mid_stride : (size_t)y->down.steps * 1024,
                        .most = s->most,
                        .activation = &y->activation};
    if (int8) memset(s->most, 0, (t->rows + 31) / 32 * 32 * (size_t)64);
    multiply(p, CPL_NATIVE_UP, &up);
    if (!int8) return;
    const halving h = {{.x = s->mid,
                        .ld = s->mid_stride,
                        .n = p->w->arch.intermediate,
                        .most = s->most,
                        .shift = p->w->shift,
                        .a = mid_a,
                        .steps = y->down.steps,
                        .row_scale = s->mid_scale + from},
                       t->rows,
                       1};
    each_member(p, CPL_NATIVE_CONVERT, 0, halves_member, &h);
}

/* Attention's output of the rows of t, the pass's from `from` on: projected, added and normed. */
static void close_attention(const pass *p, const cpl_amx_layer *y, const stream *t, uint32_t from)
{
    cpl_amx_session *s = p->s;
    if (is_int8(p)) {
        const halving h = {{.x = s->context + from * s->context_stride,
                            .ld = s->context_stride,
                            .n = p->w->arch.hidden,
                            .a = t->a,
                            .steps = y->out.steps,
                            .row_scale = t->scale},
                           t->rows,
                           0};
        each_member(p, CPL_NATIVE_CONVERT, 0, halves_member, &h);
    }
    add_product(p, CPL_NATIVE_OUT, &y->out, is_int8(p) ? CPL_AMX_INT8 : CPL_AMX_BF16, t->a, t->scale, t);
    normalise(p, t, &y->attention_norm, y->scale16);
}

static void feed_down(const pass *p, const cpl_amx_layer *y, const stream *t, uint32_t from)
{
    const cpl_amx_session *s = p->s;
    add_product(p, CPL_NATIVE_DOWN, &y->down, is_int8(p) ? CPL_AMX_UINT8 : CPL_AMX_BF16,
                s->mid_a + from / 16 * (size_t)y->down.steps * 1024, is_int8(p) ? s->mid_scale + from : NULL, t);
    normalise(p, t, &y->output_norm, 0);
}

/* What follows attention, for the rows of t; attention's output is in the context or already in t->a. Alone, a few rows
 * go through a product and the sweep after it together: they are still in L1 or L2 then. A team shares whole stages. */
static void finish(const pass *p, const cpl_amx_layer *y, const stream *t)
{
    static void (*const stages[])(const pass *, const cpl_amx_layer *, const stream *, uint32_t) = {close_attention,
                                                                                                    feed_up, feed_down};
    const uint32_t step = p->members > 1 ? t->rows : p->w->tuning.rows;
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        for (uint32_t from = 0; from < t->rows; from += step) {
            const stream u = rows_of(p, t, from, t->rows - from < step ? t->rows - from : step);
            stages[i](p, y, &u, from);
        }
    }
}

static stream all_rows(const pass *p)
{
    return (stream){p->s->x, p->s->a, p->s->row_scale, p->s->row_scale16, rows_total(p)};
}

static void layer_forward(const pass *p, const cpl_amx_layer *y)
{
    const stream t = all_rows(p);
    project(p, y, &t, 0, 3, p->s->qkv);
    attend(p, p->s->qkv, t.a, 0);
    finish(p, y, &t);
}

/* The last layer for [CLS] rows only; they end up in s->cls. */
static void layer_forward_cls(const pass *p, const cpl_amx_layer *y)
{
    cpl_amx_session *s = p->s;
    const uint32_t *cu = p->batch->cu_seqlens, n = p->batch->n, steps = y->qkv.steps;
    const stream t = all_rows(p), c = {s->cls, s->cls_a, s->cls_scale, s->cls_scale16, n};
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t row = cu[i];
        memcpy(s->cls + i * s->x_stride, s->x + row * s->x_stride, p->w->arch.hidden * sizeof(float));
        s->cls_scale[i] = s->row_scale[row];
        const char *from = s->a + row / 16 * (size_t)steps * 1024 + row % 16 * (size_t)64;
        char *to = s->cls_a + i / 16 * (size_t)steps * 1024 + i % 16 * (size_t)64;
        for (uint32_t k = 0; k < steps; k++) memcpy(to + k * (size_t)1024, from + k * (size_t)1024, 64);
    }
    project(p, y, &c, 0, 1, s->cls_q);
    project(p, y, &t, 1, 3, s->qkv);
    attend(p, s->cls_q, c.a, 1);
    finish(p, y, &c);
}

/* Sequences are dealt to members; one row is word + type + position. */
static void gather_member(const pass *p, const void *what, uint32_t member)
{
    const cpl_amx_weights *w = p->w;
    const cpl_batch *b = p->batch;
    const uint32_t h = w->arch.hidden;
    uint32_t from, to;
    (void)what;
    share(b->n, p->members, member, &from, &to);
    for (uint32_t i = from; i < to; i++) {
        for (uint32_t t = b->cu_seqlens[i]; t < b->cu_seqlens[i + 1]; t++) {
            const float *type = w->type + (size_t)b->type_ids[t] * h;
            cpl_native_words_add(&w->words, &w->kernels, (uint32_t)b->ids[t], type,
                                 w->position + (size_t)(t - b->cu_seqlens[i]) * h, p->s->x + t * p->s->x_stride);
        }
    }
}

static void write_rows(const pass *p, const float *x, uint32_t n, float *rows)
{
    const uint32_t h = p->w->arch.hidden;
    for (uint32_t i = 0; i < n; i++) memcpy(rows + (size_t)i * h, x + i * p->s->x_stride, h * sizeof(float));
}

/* Pooler and classifier, in fp32; the pooler's rows take the place of the residual stream's. */
static void write_logits(const pass *p, float *rows)
{
    const cpl_amx_session *s = p->s;
    const cpl_kernels *k = &p->w->kernels;
    const cpl_native_matrix *m[2] = {&p->w->pooler, &p->w->classifier};
    const uint64_t start = p->w->stages ? cpl_clock_thread_cpu_ns() : 0;
    for (int i = 0; i < 2; i++) {
        const cpl_gemm_f32 g = {.a = i ? s->x : s->cls,
                                .lda = s->x_stride,
                                .b = m[i]->b,
                                .bias = m[i]->bias,
                                .c = i ? rows : s->x,
                                .ldc = i ? p->w->arch.labels : s->x_stride,
                                .m = p->batch->n,
                                .n = m[i]->n,
                                .k = m[i]->k,
                                .panel_end = cpl_gemm_f32_panels(k, m[i]->n),
                                .epilogue = i ? CPL_EPILOGUE_BIAS : CPL_EPILOGUE_TANH};
        k->gemm_f32(k, &g);
    }
    if (p->w->stages) p->s->stage_ns[CPL_NATIVE_HEAD] += cpl_clock_thread_cpu_ns() - start;
}

static void write_result(const pass *p, float *rows)
{
    const cpl_amx_session *s = p->s;
    const cpl_amx_weights *w = p->w;
    const uint32_t h = w->arch.hidden, n = p->batch->n, *cu = p->batch->cu_seqlens;
    if (p->batch->want == CPL_WANT_TOKENS) {
        write_rows(p, s->x, rows_total(p), rows);
    } else if (p->batch->want == CPL_WANT_LOGITS) {
        write_logits(p, rows);
    } else if (w->pooling == CPL_POOLING_CLS) {
        write_rows(p, s->cls, n, rows);
    } else {
        for (uint32_t i = 0; i < n; i++)
            (w->pooling == CPL_POOLING_MEAN ? w->kernels.pool_mean_f32 : w->kernels.pool_max_f32)(
                rows + (size_t)i * h, s->x + cu[i] * s->x_stride, cu[i + 1] - cu[i], h, s->x_stride);
    }
}

cpl_status cpl_amx_run(cpl_session *session, const cpl_batch *batch, cpl_team *team, float *rows, cpl_error *err)
{
    cpl_amx_session *s = (cpl_amx_session *)(void *)session;
    const cpl_amx_weights *w = s->weights;
    if (!batch->n) return CPL_OK;
    const cpl_status st = cpl_native_check_batch(&w->limits, &w->arch, batch, err);
    if (st) return st;
    pass p = {.s = s, .w = w, .batch = batch, .team = team, .members = team && team->size ? team->size : 1};
    if (p.members > CPL_NATIVE_TEAM_MAX) p.members = CPL_NATIVE_TEAM_MAX;
    const int cls_only =
        batch->want == CPL_WANT_LOGITS || (batch->want == CPL_WANT_POOLED && w->pooling == CPL_POOLING_CLS);
    s->passes++;
    s->tokens += batch->cu_seqlens[batch->n];
    if (p.members == 1) w->amx->begin();
    const stream t = all_rows(&p);
    each_member(&p, CPL_NATIVE_EMBED, 0, gather_member, NULL);
    normalise(&p, &t, &w->embedding_norm, 0);
    for (uint32_t l = 0; l + 1 < w->arch.layers; l++) layer_forward(&p, &w->layers[l]);
    const cpl_amx_layer *last = &w->layers[w->arch.layers - 1];
    if (cls_only)
        layer_forward_cls(&p, last);
    else
        layer_forward(&p, last);
    if (p.members == 1) w->amx->end();
    write_result(&p, rows);
    return CPL_OK;
}
