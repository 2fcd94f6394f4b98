/* SPDX-License-Identifier: Apache-2.0 */
/* amx_team.c - a short int8 pass by a team, each member with rows of its own.
 *
 * The idea: what a team loses is not in its products but in what crosses from core to core. Split part by part
 * (amx_pass.c), each sweep over rows reads lines that the other wrote and writes lines that the other reads next, and
 * two members took twice as long for a norm as one alone. So columns stay where they were made: a member projects and
 * attends to its own heads, adds to its own columns of the residual rows, and when a whole row is needed it copies the
 * others' columns and norms or quantises all rows for itself. Rows are few, so doing that once a member costs less than
 * sharing it; weights are still read once. Members meet four times a layer instead of nine.
 *
 * Residual rows go from one copy to another with each norm: what a member norms is not what the others still copy from.
 * Every element is made by the same chain of operations as alone, so the bits are the same.
 *
 * Threads: as amx_pass.c; a member's own memory is touched by whoever does its share. */
#include "backend/native/amx_team.h"

#include <string.h>

#include "backend/native/lane.h"
#include "backend/native/words.h"
#include "base/clock.h"

/* Which copy of the residual rows: that attention's output is added to, that the FFN's is, and that of [CLS] rows. */
enum { BEFORE_OUT, BEFORE_DOWN, OF_CLS };

typedef struct work {
    cpl_amx_session *s;
    const cpl_amx_weights *w;
    const cpl_batch *batch;
    cpl_team *team;
    uint32_t members;
    const cpl_amx_layer *y;
    const cpl_amx_norm_weights *norm; /* that the rows come from */
    uint32_t rows, all_rows;          /* of the stream at hand, of the pass */
    int cls;                          /* the stream is that of [CLS] rows */
} work;

static uint32_t panels_of(const work *t) { return t->w->arch.hidden / CPL_AMX_PANEL; }

/* A member's columns of anything that is as wide as the residual rows: those of its heads. */
static void own_panels(const work *t, uint32_t member, uint32_t *from, uint32_t *to)
{
    const uint32_t a_head = t->w->arch.head_size / CPL_AMX_PANEL;
    cpl_native_share(t->w->arch.heads, t->members, member, from, to);
    *from *= a_head;
    *to *= a_head;
}

/* ---- rows ------------------------------------------------------------------------------------------------------- */

/* Every member's columns of that copy, to `to`. */
static void gather(const work *t, int copy, char *to)
{
    const size_t row_tile = panels_of(t) * (size_t)1024;
    for (uint32_t i = 0; i < t->members; i++) {
        uint32_t from, end;
        own_panels(t, i, &from, &end);
        const char *const x = t->s->member[i].own.x[copy];
        for (uint32_t row = 0; row < t->rows; row += 16) {
            const size_t at = row / 16 * row_tile + from * (size_t)1024;
            memcpy(to + at, x + at, (end - from) * (size_t)1024);
        }
    }
}

static void normalise(const work *t, const cpl_amx_norm_weights *norm, const cpl_amx_own *o, char *x, float input16)
{
    const cpl_amx_rows r = cpl_amx_norm_rows(t->w, norm, x, o->a, o->scale, o->scale16, input16);
    t->w->amx->norm(&r, 0, t->rows);
}

/* ---- products --------------------------------------------------------------------------------------------------- */

typedef struct product {
    const cpl_amx_matrix *m;
    cpl_amx_kind kind;
    cpl_amx_out what;
    uint32_t rows, from, to; /* panels */
    const char *a;
    const float *row_scale;
    const uint32_t *row_scale16;
    char *out;
    size_t out_row, out_panel;
    const cpl_amx_activation *activation;
} product;

static void multiply_blocks(const work *t, const product *x, uint32_t member, uint32_t first, uint32_t tiles,
                            uint32_t blocks)
{
    const cpl_amx_matrix *m = x->m;
    const uint32_t row = first * 16, split = t->w->tuning.split / 64;
    const cpl_amx_gemm g = {.kind = x->kind,
                            .what = x->what,
                            .a = x->a + (size_t)first * m->steps * 1024,
                            .b = m->b,
                            .scale = m->scale,
                            .bias = m->bias,
                            .scale16 = m->scale16,
                            .bias16 = m->bias16,
                            .row_scale = x->row_scale + row,
                            .row_scale16 = x->row_scale16 ? x->row_scale16 + row : NULL,
                            .shift = m->shift,
                            .tiles = tiles,
                            .blocks = blocks,
                            .steps = m->steps,
                            .split = m->steps % split ? m->steps : split,
                            .panel_begin = x->from,
                            .panel_end = x->to,
                            .out = x->out + (x->what == CPL_AMX_ROWS ? row * (size_t)64 : first * x->out_row),
                            .out_row = x->out_row,
                            .out_panel = x->out_panel,
                            .activation = x->activation,
                            .scratch = t->s->member[member].scratch,
                            .partial = t->s->member[member].partial};
    if (blocks && x->from < x->to) t->w->amx->gemm(&g);
}

static void multiply(const work *t, const product *x, uint32_t member)
{
    const uint32_t tiles = t->w->tuning.tiles, total = (x->rows + 15) / 16, whole = total / tiles;
    multiply_blocks(t, x, member, 0, tiles, whole);
    multiply_blocks(t, x, member, whole * tiles, 1, total % tiles);
}

/* ---- what members do between two meetings ----------------------------------------------------------------------- */

static void embed(const work *t, uint32_t member)
{
    const cpl_amx_weights *w = t->w;
    const cpl_batch *b = t->batch;
    const uint32_t h = w->arch.hidden;
    float *const row = t->s->member[member].scratch;
    uint32_t from, to;
    cpl_native_share(t->rows, t->members, member, &from, &to);
    for (uint32_t r = from, i = 0; r < to; r++) {
        while (b->cu_seqlens[i + 1] <= r) i++;
        cpl_native_words_add(&w->words, &w->kernels, (uint32_t)b->ids[r], w->type + (size_t)b->type_ids[r] * h,
                             w->position + (size_t)(r - b->cu_seqlens[i]) * h, row);
        w->amx->put_row(row, h, t->s->x, r);
    }
}

/* Panels of q (0), k (1) or v (2) of its own heads. */
static void project(const work *t, uint32_t member, uint32_t which, const char *a, const float *scale, uint32_t rows)
{
    const uint32_t first = which * panels_of(t);
    uint32_t from, to;
    own_panels(t, member, &from, &to);
    multiply(t,
             &(product){.m = &t->y->qkv,
                        .kind = CPL_AMX_INT8,
                        .what = CPL_AMX_ROWS,
                        .rows = rows,
                        .from = first + from,
                        .to = first + to,
                        .a = a,
                        .row_scale = scale,
                        .out = t->cls && !which ? t->s->cls_q : t->s->qkv,
                        .out_panel = t->s->panel_bytes},
             member);
}

static void attend(const work *t, uint32_t member)
{
    const cpl_amx_session *s = t->s;
    const cpl_arch *arch = &t->w->arch;
    const uint32_t *cu = t->batch->cu_seqlens;
    const size_t stage = panels_of(t) * s->panel_bytes;
    uint32_t from, to;
    cpl_native_share(arch->heads, t->members, member, &from, &to);
    for (uint32_t i = 0; i < t->batch->n && from < to; i++) {
        const size_t at = cu[i] * (size_t)64;
        const cpl_amx_attention a = {.q = t->cls ? s->cls_q + i * (size_t)64 : s->qkv + at,
                                     .k = s->qkv + stage + at,
                                     .v = s->qkv + 2 * stage + at,
                                     .q_panel = s->panel_bytes,
                                     .kv_panel = s->panel_bytes,
                                     .queries = t->cls ? 1 : cu[i + 1] - cu[i],
                                     .keys = cu[i + 1] - cu[i],
                                     .head_size = arch->head_size,
                                     .head_begin = from,
                                     .head_end = to,
                                     .out = s->context,
                                     .out_first = t->cls ? i : cu[i],
                                     .out_steps = panels_of(t),
                                     .scratch = s->member[member].attention};
        t->w->amx->attention(&a);
    }
}

/* Row `from` of tiles, of which each row tile has `steps`, to row `to` of others. */
static void copy_row(char *into, const char *out_of, uint32_t steps, uint32_t to, uint32_t from)
{
    into += to / 16 * (size_t)steps * 1024 + to % 16 * (size_t)64;
    out_of += from / 16 * (size_t)steps * 1024 + from % 16 * (size_t)64;
    for (uint32_t k = 0; k < steps; k++) memcpy(into + k * (size_t)1024, out_of + k * (size_t)1024, 64);
}

/* The layer's input, normed; its heads of Q, K, V, and what attention makes of them. */
static void heads_part(const work *t, uint32_t member)
{
    const cpl_amx_own *o = &t->s->member[member].own;
    const uint32_t steps = t->y->qkv.steps, *cu = t->batch->cu_seqlens;
    work all = *t;
    all.rows = t->all_rows;
    if (t->y == t->w->layers)
        memcpy(o->x[BEFORE_OUT], t->s->x, (all.rows + 15) / 16 * panels_of(t) * (size_t)1024);
    else
        gather(&all, BEFORE_DOWN, o->x[BEFORE_OUT]);
    normalise(&all, t->norm, o, o->x[BEFORE_OUT], 0);
    for (uint32_t i = 0; i < t->rows && t->cls; i++) {
        o->cls_scale[i] = o->scale[cu[i]];
        copy_row(o->x[OF_CLS], o->x[BEFORE_OUT], panels_of(t), i, cu[i]);
        copy_row(o->cls_a, o->a, steps, i, cu[i]);
    }
    project(t, member, 0, t->cls ? o->cls_a : o->a, t->cls ? o->cls_scale : o->scale, t->rows);
    project(t, member, 1, o->a, o->scale, all.rows);
    project(t, member, 2, o->a, o->scale, all.rows);
    attend(t, member);
}

static int residual(const work *t) { return t->cls ? OF_CLS : BEFORE_OUT; }

/* Its columns of what is added to the residual rows for attention. */
static void out_part(const work *t, uint32_t member)
{
    const cpl_amx_own *o = &t->s->member[member].own;
    const cpl_amx_matrix *m = &t->y->out;
    const cpl_amx_halves h = {.x = t->s->context,
                              .n = t->w->arch.hidden,
                              .a = o->a,
                              .steps = m->steps,
                              .row_scale = o->scale,
                              .row_scale16 = o->scale16,
                              .scale16 = m->input16};
    product x = {.m = m,
                 .kind = CPL_AMX_INT8,
                 .what = CPL_AMX_ADD,
                 .rows = t->rows,
                 .a = o->a,
                 .row_scale = o->scale,
                 .row_scale16 = o->scale16,
                 .out = o->x[residual(t)],
                 .out_row = panels_of(t) * (size_t)1024};
    t->w->amx->quantise_halves(&h, 0, t->rows);
    own_panels(t, member, &x.from, &x.to);
    multiply(t, &x, member);
}

/* Its share of the inner columns, activated: of each part those that are among them. */
static void up_part(const work *t, uint32_t member)
{
    const cpl_amx_own *o = &t->s->member[member].own;
    const cpl_amx_layer *y = t->y;
    uint32_t from, to;
    gather(t, residual(t), o->x[BEFORE_DOWN]);
    normalise(t, &y->attention_norm, o, o->x[BEFORE_DOWN], y->up.input16);
    cpl_native_share(t->w->arch.intermediate / CPL_AMX_PANEL, t->members, member, &from, &to);
    for (uint32_t i = 0; i < y->up.parts; i++) {
        const cpl_amx_matrix m = cpl_amx_part(t->w, &y->up, i);
        product x = {.m = &m,
                     .kind = CPL_AMX_INT8,
                     .what = CPL_AMX_ACTIVATE,
                     .rows = t->rows,
                     .from = from,
                     .to = to,
                     .a = o->a,
                     .row_scale = o->scale,
                     .row_scale16 = o->scale16,
                     .out = t->s->mid + i * t->s->mid_part,
                     .out_row = m.n / CPL_AMX_PANEL * (size_t)1024,
                     .activation = &y->activation};
        cpl_amx_part_panels(&y->up, i, &x.from, &x.to);
        multiply(t, &x, member);
    }
}

/* Its columns of what is added for the FFN, part after part. */
static void down_part(const work *t, uint32_t member)
{
    const cpl_amx_own *o = &t->s->member[member].own;
    const cpl_amx_layer *y = t->y;
    for (uint32_t i = 0; i < y->down.parts; i++) {
        const cpl_amx_matrix m = cpl_amx_part(t->w, &y->down, i);
        const cpl_amx_halves h = {.x = t->s->mid + i * t->s->mid_part,
                                  .n = m.k,
                                  .from_scale = o->scale,
                                  .shift = t->w->shift,
                                  .a = o->mid_a,
                                  .steps = m.steps,
                                  .row_scale = o->mid_scale,
                                  .row_scale16 = o->mid_scale16,
                                  .scale16 = m.input16};
        product x = {.m = &m,
                     .kind = CPL_AMX_UINT8,
                     .what = CPL_AMX_ADD,
                     .rows = t->rows,
                     .a = o->mid_a,
                     .row_scale = o->mid_scale,
                     .row_scale16 = o->mid_scale16,
                     .out = o->x[BEFORE_DOWN],
                     .out_row = panels_of(t) * (size_t)1024};
        t->w->amx->quantise_activated(&h, 0, t->rows);
        own_panels(t, member, &x.from, &x.to);
        multiply(t, &x, member);
    }
}

/* ---- the pass --------------------------------------------------------------------------------------------------- */

typedef struct part {
    const work *t;
    void (*fn)(const work *t, uint32_t member);
} part;

static void run_part(void *arg, uint32_t member)
{
    const part *x = arg;
    if (member >= x->t->members) return;
    x->t->w->amx->begin();
    x->fn(x->t, member);
    x->t->w->amx->end();
}

static void together(const work *t, cpl_native_stage stage, double ops, void (*fn)(const work *t, uint32_t member))
{
    const uint64_t start = t->w->stages ? cpl_clock_ns() : 0;
    part x = {t, fn};
    t->team->parallel(t->team, run_part, &x);
    if (!t->w->stages) return;
    t->s->stage_ns[stage] += cpl_clock_ns() - start;
    t->s->stage_ops[stage] += ops;
}

static double ops_of(uint32_t rows, const cpl_amx_matrix *m) { return 2.0 * rows * m->n * m->k; }

/* A stage has the name of its product, and the sweep that it begins with in it; attention is with Q, K and V. */
static void layer_forward(const work *t)
{
    const cpl_amx_layer *y = t->y;
    together(t, CPL_NATIVE_QKV, (ops_of(t->rows, &y->qkv) + 2 * ops_of(t->all_rows, &y->qkv)) / 3, heads_part);
    together(t, CPL_NATIVE_OUT, ops_of(t->rows, &y->out), out_part);
    together(t, CPL_NATIVE_UP, ops_of(t->rows, &y->up), up_part);
    together(t, CPL_NATIVE_DOWN, ops_of(t->rows, &y->down), down_part);
}

int cpl_amx_team_suits(const cpl_amx_session *s, const cpl_batch *batch, uint32_t members)
{
    const cpl_amx_weights *w = s->weights;
    return members > 1 && w->precision == CPL_PRECISION_INT8 && batch->cu_seqlens[batch->n] <= CPL_AMX_TEAM_ROWS;
}

void cpl_amx_team_run(cpl_amx_session *s, const cpl_batch *batch, cpl_team *team, uint32_t members, int cls_only)
{
    const cpl_amx_weights *w = s->weights;
    const uint32_t rows = batch->cu_seqlens[batch->n];
    work t = {.s = s, .w = w, .batch = batch, .team = team, .members = members, .rows = rows, .all_rows = rows};
    together(&t, CPL_NATIVE_EMBED, 0, embed);
    t.norm = &w->embedding_norm;
    for (uint32_t l = 0; l < w->arch.layers; l++) {
        t.y = &w->layers[l];
        if (cls_only && l + 1 == w->arch.layers) {
            t.cls = 1;
            t.rows = batch->n;
        }
        layer_forward(&t);
        t.norm = &t.y->output_norm;
    }
    char *const out = t.cls ? s->cls : s->x;
    gather(&t, BEFORE_DOWN, out);
    normalise(&t, t.norm, &s->member[0].own, out, 0);
}

static void head_member(void *arg, uint32_t member)
{
    const cpl_amx_head *x = arg;
    cpl_gemm_f32 g = *x->whole;
    if (member >= x->members) return;
    cpl_native_share(x->whole->panel_end, x->members, member, &g.panel_begin, &g.panel_end);
    if (g.panel_begin < g.panel_end) x->kernels->gemm_f32(x->kernels, &g);
}

void cpl_amx_team_gemm(const cpl_amx_head *x, cpl_team *team)
{
    team->parallel(team, head_member, (void *)(uintptr_t)x);
}
