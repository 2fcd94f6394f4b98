/* SPDX-License-Identifier: Apache-2.0 */
/* amx_pass.c - one pass over a packed token stream on AMX.
 *
 * The idea: weights cross from L3 once a pass, and are there when they are needed. Attention and what it needs goes
 * over the pass in blocks of whole sequences whose Q, K, V and context stay in L2. The FFN goes over it part by part:
 * so many inner columns are made, quantised by a scale of their own, multiplied and added to the residual rows, so that
 * inner rows never leave the core and two parts of the weights, the one in use and the next one, which is fetched
 * evenly meanwhile, fit L2 beside the rows (a layer's or an FFN's weights don't: they came from L3 again for each
 * block). Inside a stage the GEMM overlaps tile and vector work (gemm_amx.c) and each stage's epilogue writes what the
 * next one reads: Q, K, V as bf16 rows of a head each, the FFN's inner rows and the residual rows as halves. The
 * row-wise sweeps that need a whole row (layer norm with quantising, quantising of attention's output and of the FFN's
 * inner rows) follow their product after a few rows each.
 *
 * Rows never meet but in attention, and there only those of a sequence; blocks of rows are padded by whatever lies
 * there. So scores have the same bits in any batch. A team splits panels, (sequence, head) units or rows, one parallel
 * call a stage.
 *
 * Threads: as forward.c. Each member configures its tiles at the beginning of its part of a stage and releases them at
 * its end; alone, once a pass. */
#include <math.h>
#include <string.h>

#include "backend/native/amx_team.h"
#include "backend/native/lane.h"
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

typedef struct job {
    const pass *p;
    void (*fn)(const pass *p, const void *what, uint32_t member);
    const void *what;
} job;

static void run_part(void *arg, uint32_t member)
{
    const job *x = arg;
    if (member >= x->p->members) return;
    x->p->w->amx->begin();
    x->fn(x->p, x->what, member);
    x->p->w->amx->end();
}

/* fn on every member; alone the tiles are configured already. */
static void each_member(const pass *p, cpl_native_stage stage, double ops,
                        void (*fn)(const pass *p, const void *what, uint32_t member), const void *what)
{
    const uint64_t start = p->w->stages ? cpl_clock_ns() : 0;
    if (p->members == 1) {
        fn(p, what, 0);
    } else {
        job x = {p, fn, what};
        p->team->parallel(p->team, run_part, &x);
    }
    if (!p->w->stages) return;
    p->s->stage_ns[stage] += cpl_clock_ns() - start;
    p->s->stage_ops[stage] += ops;
}

/* ---- products --------------------------------------------------------------------------------------------------- */

/* Rows [0, rows) of a, of which tiles, scales and output start where the pointers say. Those of a second part of the
 * matrix, and so on, lie a_part bytes, scale_part scales and out_part bytes behind. */
typedef struct product {
    const cpl_amx_matrix *m;
    cpl_amx_kind kind;
    cpl_amx_out what;
    uint32_t rows, panel_begin, panel_end; /* panels of the whole matrix */
    uint32_t part_begin, part_end;
    const char *a;
    const float *row_scale;
    const uint32_t *row_scale16;
    char *out;
    size_t out_panel, a_part, scale_part, out_part;
    const cpl_amx_activation *activation;
} product;

/* Panels of that part that are among a member's share of x; empty if from is to. */
static void share_part(const pass *p, const product *x, uint32_t part, uint32_t member, uint32_t *from, uint32_t *to)
{
    cpl_native_share(x->panel_end - x->panel_begin, p->members, member, from, to);
    *from += x->panel_begin;
    *to += x->panel_begin;
    cpl_amx_part_panels(x->m, part, from, to);
}

/* What so many k steps fetch of what is left to fetch. */
static cpl_amx_ahead next_ahead(const pass *p, size_t steps)
{
    cpl_amx_ahead *const left = &p->s->ahead, now = *left;
    if (!now.lines || p->members > 1) return (cpl_amx_ahead){0};
    const size_t lines = (size_t)(now.end - now.at) / 64, wanted = steps * now.lines;
    left->at += (lines < wanted ? lines : wanted) * 64;
    return (cpl_amx_ahead){now.at, left->at, now.lines};
}

/* `blocks` blocks of `tiles` row tiles from row tile `first` on, times part i. */
static void multiply_blocks(const pass *p, const product *x, uint32_t part, uint32_t member, uint32_t first,
                            uint32_t tiles, uint32_t blocks)
{
    const cpl_amx_matrix m = cpl_amx_part(p->w, x->m, part);
    const uint32_t row = first * 16, split = p->w->tuning.split / 64, region = part - x->part_begin;
    const size_t out_row = m.n / CPL_AMX_PANEL * (size_t)1024, scale_at = region * x->scale_part + row;
    char *const out = x->out + region * x->out_part;
    uint32_t from, to;
    share_part(p, x, part, member, &from, &to);
    if (from == to || !blocks) return;
    const cpl_amx_gemm g = {.kind = x->kind,
                            .what = x->what,
                            .a = x->a + region * x->a_part + (size_t)first * m.steps * 1024,
                            .b = m.b,
                            .scale = m.scale,
                            .bias = m.bias,
                            .scale16 = m.scale16,
                            .bias16 = m.bias16,
                            .row_scale = x->row_scale ? x->row_scale + scale_at : NULL,
                            .row_scale16 = x->row_scale16 ? x->row_scale16 + scale_at : NULL,
                            .shift = m.shift,
                            .tiles = tiles,
                            .blocks = blocks,
                            .steps = m.steps,
                            .split = m.steps % split ? m.steps : split,
                            .panel_begin = from,
                            .panel_end = to,
                            .out = out + (x->what == CPL_AMX_ROWS ? row * (size_t)64 : first * out_row),
                            .out_row = out_row,
                            .out_panel = x->out_panel,
                            .activation = x->activation,
                            .scratch = p->s->member[member].scratch,
                            .partial = p->s->member[member].partial,
                            .ahead = next_ahead(p, (size_t)blocks * (to - from) * m.steps)};
    p->w->amx->gemm(&g);
}

/* Part by part, which for a sum is its order: whole blocks, then the row tile that is left. */
static void multiply_member(const pass *p, const void *what, uint32_t member)
{
    const product *x = what;
    const uint32_t tiles = p->w->tuning.tiles, total = (x->rows + 15) / 16, whole = total / tiles;
    for (uint32_t i = x->part_begin; i < x->part_end; i++) {
        multiply_blocks(p, x, i, member, 0, tiles, whole);
        multiply_blocks(p, x, i, member, whole * tiles, 1, total % tiles);
    }
}

static void multiply(const pass *p, cpl_native_stage stage, const product *x)
{
    double ops = 0;
    for (uint32_t i = x->part_begin; i < x->part_end && p->w->stages; i++) {
        const cpl_amx_matrix m = cpl_amx_part(p->w, x->m, i);
        const uint32_t panels = x->panel_end - x->panel_begin, part = m.n / CPL_AMX_PANEL;
        ops += 2.0 * x->rows * (panels < part ? panels : part) * CPL_AMX_PANEL * m.k;
    }
    each_member(p, stage, ops, multiply_member, x);
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
    cpl_native_share(n->count, p->members, member, &from, &to);
    p->w->amx->norm(&n->rows, from, to);
}

/* Rows of a residual stream, with their A tiles. */
typedef struct stream {
    char *x, *a;
    float *scale;
    uint32_t *scale16;
    uint32_t rows;
} stream;

/* input16 of the product to come, if that makes halves; else 0. */
static void normalise(const pass *p, const stream *t, const cpl_amx_norm_weights *norm, float input16)
{
    const norming n = {cpl_amx_norm_rows(p->w, norm, t->x, t->a, t->scale, t->scale16, input16), t->rows};
    each_member(p, CPL_NATIVE_NORM, 0, norm_member, &n);
}

typedef struct halving {
    cpl_amx_halves halves;
    uint32_t count;
} halving;

static void halves_member(const pass *p, const void *what, uint32_t member)
{
    const halving *h = what;
    uint32_t from, to;
    cpl_native_share(h->count, p->members, member, &from, &to);
    p->w->amx->quantise_halves(&h->halves, from, to);
}

/* ---- attention -------------------------------------------------------------------------------------------------- */

typedef struct attending {
    char *q, *out;                  /* int8: half tiles; bf16: A tiles */
    int cls;                        /* one query a sequence */
    uint32_t begin, end, first_row; /* sequences; the row that q, k and v begin with */
    uint32_t out_row;               /* the one that out begins with */
} attending;

static void attend_member(const pass *p, const void *what, uint32_t member)
{
    const attending *t = what;
    const cpl_amx_session *s = p->s;
    const cpl_arch *arch = &p->w->arch;
    const uint32_t *cu = p->batch->cu_seqlens, heads = arch->heads;
    const size_t stage = (size_t)(arch->hidden / CPL_AMX_PANEL) * s->panel_bytes;
    uint32_t from, to;
    cpl_native_share((t->end - t->begin) * heads, p->members, member, &from, &to);
    from += t->begin * heads;
    to += t->begin * heads;
    while (from < to) {
        const uint32_t i = from / heads, head = from % heads;
        const uint32_t end = to - i * heads < heads ? to - i * heads : heads;
        const uint32_t row = (t->cls ? i : cu[i]) - t->out_row;
        const size_t at = (cu[i] - t->first_row) * (size_t)64;
        const cpl_amx_attention a = {.q = t->q + (t->cls ? i * (size_t)64 : at),
                                     .k = s->qkv + stage + at,
                                     .v = s->qkv + 2 * stage + at,
                                     .q_panel = s->panel_bytes,
                                     .kv_panel = s->panel_bytes,
                                     .queries = t->cls ? 1 : cu[i + 1] - cu[i],
                                     .keys = cu[i + 1] - cu[i],
                                     .head_size = arch->head_size,
                                     .head_begin = head,
                                     .head_end = end,
                                     .out = t->out,
                                     .out_first = row,
                                     .out_steps = arch->hidden / CPL_AMX_PANEL,
                                     .out_bf16_tiles = !is_int8(p),
                                     .scratch = s->member[member].attention};
        p->w->amx->attention(&a);
        from = i * heads + end;
    }
}

static void attend(const pass *p, const attending *t)
{
    const uint32_t *cu = p->batch->cu_seqlens;
    double ops = 0;
    for (uint32_t i = t->begin; i < t->end; i++) {
        const double keys = cu[i + 1] - cu[i];
        ops += 4.0 * (t->cls ? 1 : keys) * keys * p->w->arch.hidden;
    }
    each_member(p, CPL_NATIVE_ATTENTION, ops, attend_member, t);
}

/* ---- the pass --------------------------------------------------------------------------------------------------- */

static uint32_t rows_total(const pass *p) { return p->batch->cu_seqlens[p->batch->n]; }

/* n rows from `from` on. */
static stream slice_of(const pass *p, const stream *t, uint32_t from, uint32_t n)
{
    const size_t tile = (size_t)p->w->layers[0].qkv.steps * 1024,
                 x_tile = p->w->arch.hidden / CPL_AMX_PANEL * (size_t)1024;
    return (stream){t->x + from / 16 * x_tile, t->a + from / 16 * tile, t->scale + from, t->scale16 + from, n};
}

/* From here on, products of `steps` k steps in all fetch [at, end), which lies behind each other, into L2: evenly,
 * since what comes from L3 takes as long as what it is fetched under, and later than it is needed where it is too much.
 */
static void fetch_next(const pass *p, const char *at, const char *end, size_t steps)
{
    const size_t lines = (size_t)(end - at) / 64, most = p->w->tuning.ahead;
    const size_t each = (lines + steps - 1) / steps;
    p->s->ahead = (cpl_amx_ahead){at, end, (uint32_t)(each < most ? each : most)};
}

static const char *end_of(const cpl_amx_matrix *m) { return m->b + (size_t)m->n / CPL_AMX_PANEL * m->steps * 2048; }

/* k steps that `rows` rows take by all of m. */
static size_t steps_of(const pass *p, const cpl_amx_matrix *m, uint32_t rows)
{
    const uint32_t block = p->w->tuning.tiles * 16;
    return (size_t)(rows + block - 1) / block * (m->n / CPL_AMX_PANEL) * m->steps;
}

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
                       .part_end = 1,
                       .a = t->a,
                       .row_scale = t->scale,
                       .out = out,
                       .out_panel = p->s->panel_bytes};
    multiply(p, CPL_NATIVE_QKV, &x);
}

/* Attention's output, in the context's rows from `context` on or already in t->a: projected, added and normed. */
static void close_attention(const pass *p, const cpl_amx_layer *y, const stream *t, uint32_t context)
{
    cpl_amx_session *s = p->s;
    if (is_int8(p)) {
        const halving h = {{.x = s->context + (size_t)context * p->w->arch.hidden * 2,
                            .n = p->w->arch.hidden,
                            .a = t->a,
                            .steps = y->out.steps,
                            .row_scale = t->scale,
                            .row_scale16 = t->scale16,
                            .scale16 = y->out.input16},
                           t->rows};
        each_member(p, CPL_NATIVE_CONVERT, 0, halves_member, &h);
    }
    const product x = {.m = &y->out,
                       .kind = is_int8(p) ? CPL_AMX_INT8 : CPL_AMX_BF16,
                       .what = CPL_AMX_ADD,
                       .rows = t->rows,
                       .panel_end = y->out.n / CPL_AMX_PANEL,
                       .part_end = 1,
                       .a = t->a,
                       .row_scale = t->scale,
                       .row_scale16 = t->scale16,
                       .out = t->x};
    multiply(p, CPL_NATIVE_OUT, &x);
    normalise(p, t, &y->attention_norm, y->up.input16);
}

/* ---- the FFN ---------------------------------------------------------------------------------------------------- */

/* Parts [begin, end) for some rows. */
typedef struct inner {
    const cpl_amx_layer *y;
    const stream *t;
    uint32_t begin, end;
} inner;

/* Activated inner rows into A tiles, each part of a row by a scale of its own. */
static void quantise_inner_member(const pass *p, const void *what, uint32_t member)
{
    const inner *x = what;
    const cpl_amx_session *s = p->s;
    uint32_t from, to;
    cpl_native_share(x->t->rows, p->members, member, &from, &to);
    for (uint32_t i = x->begin; i < x->end; i++) {
        const uint32_t region = i - x->begin;
        const cpl_amx_halves h = {.x = s->mid + region * s->mid_part,
                                  .n = cpl_amx_part(p->w, &x->y->up, i).n,
                                  .from_scale = x->t->scale,
                                  .shift = p->w->shift,
                                  .a = s->mid_a + region * s->mid_a_part,
                                  .steps = cpl_amx_part(p->w, &x->y->down, i).steps,
                                  .row_scale = s->mid_scale + region * s->rows,
                                  .row_scale16 = s->mid_scale16 + region * s->rows,
                                  .scale16 = x->y->down.input16};
        p->w->amx->quantise_activated(&h, from, to);
    }
}

/* The rows' parts from the layer's input to what is added to the residual rows; with the last one these are normed. */
static void feed(const pass *p, const inner *x)
{
    const cpl_amx_layer *y = x->y;
    cpl_amx_session *s = p->s;
    const int int8 = is_int8(p);
    const product up = {.m = &y->up,
                        .kind = int8 ? CPL_AMX_INT8 : CPL_AMX_BF16,
                        .what = CPL_AMX_ACTIVATE,
                        .rows = x->t->rows,
                        .panel_end = y->up.n / CPL_AMX_PANEL,
                        .part_begin = x->begin,
                        .part_end = x->end,
                        .a = x->t->a,
                        .row_scale = x->t->scale,
                        .row_scale16 = x->t->scale16,
                        .out = int8 ? s->mid : s->mid_a,
                        .out_part = int8 ? s->mid_part : s->mid_a_part,
                        .activation = &y->activation};
    multiply(p, CPL_NATIVE_UP, &up);
    if (int8) each_member(p, CPL_NATIVE_CONVERT, 0, quantise_inner_member, x);
    const product down = {.m = &y->down,
                          .kind = int8 ? CPL_AMX_UINT8 : CPL_AMX_BF16,
                          .what = CPL_AMX_ADD,
                          .rows = x->t->rows,
                          .panel_end = y->down.n / CPL_AMX_PANEL,
                          .part_begin = x->begin,
                          .part_end = x->end,
                          .a = s->mid_a,
                          .row_scale = s->mid_scale,
                          .row_scale16 = s->mid_scale16,
                          .out = x->t->x,
                          .a_part = s->mid_a_part,
                          .scale_part = s->rows};
    multiply(p, CPL_NATIVE_DOWN, &down);
    if (x->end == y->up.parts) normalise(p, x->t, &y->output_norm, 0);
}

/* Rows that go through a product and the sweep after it together: alone a few, still in L1 or L2 then. A team shares
 * whole stages. */
static uint32_t step_rows(const pass *p, uint32_t rows) { return p->members > 1 ? rows : p->w->tuning.rows; }

/* Alone each part's weights serve all the rows before the next part's are touched, and those are fetched meanwhile: two
 * parts fit L2, a layer doesn't. A team meets as seldom as it can. */
static void feed_forward(const pass *p, const cpl_amx_layer *y, const stream *t, uint32_t first, uint32_t rows)
{
    const uint32_t step = step_rows(p, rows), parts = p->members > 1 ? 1 : y->up.parts;
    const int last_layer = y + 1 == p->w->layers + p->w->arch.layers, last_rows = first + rows == t->rows;
    for (uint32_t i = 0; i < parts; i++) {
        const cpl_amx_matrix up = cpl_amx_part(p->w, &y->up, i), down = cpl_amx_part(p->w, &y->down, i);
        const size_t steps = steps_of(p, &up, rows) + steps_of(p, &down, rows);
        const char *const next = y->up.b + (i + 1 == parts ? 0 : (i + 1) * y->up.part_bytes);
        if (i + 1 == parts && last_rows)
            fetch_next(p, last_layer ? NULL : y[1].qkv.b, last_layer ? NULL : end_of(&y[1].out), steps);
        else
            fetch_next(p, next, next + y->up.part_bytes, steps);
        for (uint32_t at = 0; at < rows; at += step) {
            const stream v = slice_of(p, t, first + at, rows - at < step ? rows - at : step);
            feed(p, &(inner){y, &v, i, p->members > 1 ? y->up.parts : i + 1});
        }
    }
}

static void feed_all(const pass *p, const cpl_amx_layer *y, const stream *t)
{
    const uint32_t block = p->members > 1 || !p->w->tuning.inner_rows ? t->rows : p->w->tuning.inner_rows;
    for (uint32_t at = 0; at < t->rows; at += block)
        feed_forward(p, y, t, at, t->rows - at < block ? t->rows - at : block);
}

/* ---- layers ----------------------------------------------------------------------------------------------------- */

/* Rows of a block that attention and what it needs goes over before the next one: alone, what fits L2 with the weights.
 */
static uint32_t block_rows(const pass *p, uint32_t rows)
{
    return p->members > 1 || !p->w->tuning.block_rows ? rows : p->w->tuning.block_rows;
}

/* Rows whose context begins where the context does. */
static void close_in_steps(const pass *p, const cpl_amx_layer *y, const stream *t, uint32_t from, uint32_t to)
{
    const uint32_t step = step_rows(p, to - from);
    for (uint32_t at = from; at < to; at += step) {
        const stream v = slice_of(p, t, at, to - at < step ? to - at : step);
        close_attention(p, y, &v, at - from);
    }
}

/* The last sequence but one of a block that begins with `first`. */
static uint32_t block_end(const pass *p, uint32_t first)
{
    const uint32_t *cu = p->batch->cu_seqlens, n = p->batch->n, step = block_rows(p, cu[n]);
    uint32_t end = first + 1;
    while (end < n && cu[end + 1] - cu[first] <= step) end++;
    return end;
}

static stream all_rows(const pass *p)
{
    return (stream){p->s->x, p->s->a, p->s->row_scale, p->s->row_scale16, rows_total(p)};
}

/* Block by block of whole sequences, so that their Q, K and V stay in L2. Blocks begin at row tiles: the one that two
 * share is projected in both (attention's output, which may take the place of the layer's input there, is that of rows
 * done with), and what follows attention is for tiles whose rows are all there: the others' rows move to the beginning
 * of the context, which begins anew with each block. */
static void layer_forward(const pass *p, const cpl_amx_layer *y)
{
    const stream t = all_rows(p);
    const uint32_t *cu = p->batch->cu_seqlens, n = p->batch->n;
    const size_t row = (size_t)p->w->arch.hidden * 2;
    char *const context = p->s->context;
    uint32_t before = 0;
    fetch_next(p, y->up.b, y->up.b + y->up.part_bytes, steps_of(p, &y->qkv, t.rows) + steps_of(p, &y->out, t.rows));
    for (uint32_t first = 0, end = 0; first < n; first = end) {
        end = block_end(p, first);
        const uint32_t from = cu[first] / 16 * 16, ready = end == n ? t.rows : cu[end] / 16 * 16;
        const stream u = slice_of(p, &t, from, cu[end] - from);
        project(p, y, &u, 0, 3, p->s->qkv);
        if (is_int8(p) && from > before) memcpy(context, context + (from - before) * row, 16 * row);
        attend(p, &(attending){p->s->qkv, is_int8(p) ? context : t.a, 0, first, end, from, is_int8(p) ? from : 0});
        close_in_steps(p, y, &t, from, ready);
        before = from;
    }
    feed_all(p, y, &t);
}

/* Row `from` of tiles, of which each row tile has `steps`, to row `to` of others. */
static void copy_row(char *into, const char *out_of, uint32_t steps, uint32_t to, uint32_t from)
{
    into += to / 16 * (size_t)steps * 1024 + to % 16 * (size_t)64;
    out_of += from / 16 * (size_t)steps * 1024 + from % 16 * (size_t)64;
    for (uint32_t k = 0; k < steps; k++) memcpy(into + k * (size_t)1024, out_of + k * (size_t)1024, 64);
}

/* The last layer for [CLS] rows only; they end up in s->cls. */
static void layer_forward_cls(const pass *p, const cpl_amx_layer *y)
{
    cpl_amx_session *s = p->s;
    const uint32_t *cu = p->batch->cu_seqlens, n = p->batch->n, steps = y->qkv.steps;
    const uint32_t panels = p->w->arch.hidden / CPL_AMX_PANEL;
    const stream t = all_rows(p), c = {s->cls, s->cls_a, s->cls_scale, s->cls_scale16, n};
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t row = cu[i];
        s->cls_scale[i] = s->row_scale[row];
        copy_row(s->cls, s->x, panels, i, row);
        copy_row(s->cls_a, s->a, steps, i, row);
    }
    fetch_next(p, y->out.b, y->up.b + y->up.parts * y->up.part_bytes, steps_of(p, &y->qkv, t.rows) * 2 / 3);
    project(p, y, &c, 0, 1, s->cls_q);
    for (uint32_t first = 0, end = 0; first < n; first = end) {
        end = block_end(p, first);
        const uint32_t from = cu[first] / 16 * 16;
        const stream u = slice_of(p, &t, from, cu[end] - from);
        project(p, y, &u, 1, 3, s->qkv);
        attend(p, &(attending){s->cls_q, is_int8(p) ? s->context : c.a, 1, first, end, from, 0});
    }
    close_in_steps(p, y, &c, 0, n);
    feed_all(p, y, &c);
}

/* Tokens ahead of which a word's row, which is in no cache as a rule, is fetched. */
enum { WORDS_AHEAD = 8 };

/* Sequences are dealt to members; one row is word + type + position, made in the scratch. */
static void gather_member(const pass *p, const void *what, uint32_t member)
{
    float *const row = p->s->member[member].scratch;
    const cpl_amx_weights *w = p->w;
    const cpl_batch *b = p->batch;
    const uint32_t h = w->arch.hidden;
    uint32_t from, to;
    (void)what;
    cpl_native_share(b->n, p->members, member, &from, &to);
    for (uint32_t i = from; i < to; i++) {
        for (uint32_t t = b->cu_seqlens[i]; t < b->cu_seqlens[i + 1]; t++) {
            const float *type = w->type + (size_t)b->type_ids[t] * h;
            if (t + WORDS_AHEAD < b->cu_seqlens[b->n])
                cpl_native_words_fetch(&w->words, (uint32_t)b->ids[t + WORDS_AHEAD]);
            cpl_native_words_add(&w->words, &w->kernels, (uint32_t)b->ids[t], type,
                                 w->position + (size_t)(t - b->cu_seqlens[i]) * h, row);
            w->amx->put_row(row, h, p->s->x, t);
        }
    }
}

/* n rows of half tiles, from `first` on, to fp32. */
static void write_rows(const pass *p, const char *x, uint32_t first, uint32_t n, float *rows, size_t stride)
{
    for (uint32_t i = 0; i < n; i++) p->w->amx->get_row(rows + i * stride, p->w->arch.hidden, x, first + i);
}

/* Pooler and classifier, in fp32; the [CLS] rows stand behind the pooler's. */
static void write_logits(const pass *p, float *rows)
{
    const cpl_amx_session *s = p->s;
    const cpl_kernels *k = &p->w->kernels;
    const cpl_native_matrix *m[2] = {&p->w->pooler, &p->w->classifier};
    const uint64_t start = p->w->stages ? cpl_clock_ns() : 0;
    float *const pooled = s->wide, *const cls = s->wide + p->batch->n * s->x_stride;
    write_rows(p, s->cls, 0, p->batch->n, cls, s->x_stride);
    for (int i = 0; i < 2; i++) {
        const cpl_gemm_f32 g = {.a = i ? pooled : cls,
                                .lda = s->x_stride,
                                .b = m[i]->b,
                                .bias = m[i]->bias,
                                .c = i ? rows : pooled,
                                .ldc = i ? p->w->arch.labels : s->x_stride,
                                .m = p->batch->n,
                                .n = m[i]->n,
                                .k = m[i]->k,
                                .panel_end = cpl_gemm_f32_panels(k, m[i]->n),
                                .epilogue = i ? CPL_EPILOGUE_BIAS : CPL_EPILOGUE_TANH};
        if (p->members > 1 && !i)
            cpl_amx_team_gemm(&(cpl_amx_head){k, &g, p->members}, p->team);
        else
            k->gemm_f32(k, &g);
    }
    if (p->w->stages) p->s->stage_ns[CPL_NATIVE_HEAD] += cpl_clock_ns() - start;
}

static void write_result(const pass *p, float *rows)
{
    const cpl_amx_session *s = p->s;
    const cpl_amx_weights *w = p->w;
    const uint32_t h = w->arch.hidden, n = p->batch->n, *cu = p->batch->cu_seqlens;
    if (p->batch->want == CPL_WANT_TOKENS) {
        write_rows(p, s->x, 0, rows_total(p), rows, h);
    } else if (p->batch->want == CPL_WANT_LOGITS) {
        write_logits(p, rows);
    } else if (w->pooling == CPL_POOLING_CLS) {
        write_rows(p, s->cls, 0, n, rows, h);
    } else {
        for (uint32_t i = 0; i < n; i++) {
            write_rows(p, s->x, cu[i], cu[i + 1] - cu[i], s->wide, s->x_stride);
            (w->pooling == CPL_POOLING_MEAN ? w->kernels.pool_mean_f32 : w->kernels.pool_max_f32)(
                rows + (size_t)i * h, s->wide, cu[i + 1] - cu[i], h, s->x_stride);
        }
    }
}

static void run_layers(const pass *p, int cls_only)
{
    if (p->members == 1) p->w->amx->begin();
    const stream t = all_rows(p);
    each_member(p, CPL_NATIVE_EMBED, 0, gather_member, NULL);
    normalise(p, &t, &p->w->embedding_norm, 0);
    for (uint32_t l = 0; l + 1 < p->w->arch.layers; l++) layer_forward(p, &p->w->layers[l]);
    const cpl_amx_layer *last = &p->w->layers[p->w->arch.layers - 1];
    if (cls_only)
        layer_forward_cls(p, last);
    else
        layer_forward(p, last);
    if (p->members == 1) p->w->amx->end();
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
    if (cpl_amx_team_suits(s, batch, p.members))
        cpl_amx_team_run(s, batch, team, p.members, cls_only);
    else
        run_layers(&p, cls_only);
    write_result(&p, rows);
    return CPL_OK;
}
