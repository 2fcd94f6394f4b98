/* SPDX-License-Identifier: Apache-2.0 */
/* amx_pass.c - one pass over a packed token stream on AMX.
 *
 * The idea: half a layer at a time goes over the whole pass, so that each weight crosses from L3 once a pass, in blocks
 * of whole sequences whose Q, K, V and inner rows stay in L2. Inside a stage the GEMM overlaps tile and vector work
 * (gemm_amx.c) and each stage's epilogue writes what the next one reads: Q, K, V as bf16 rows of a head each, the FFN's
 * inner rows and the residual rows as halves. The row-wise sweeps that need a whole row (layer norm with quantising,
 * quantising of attention's output and of the FFN's inner rows) follow their product after a few rows each.
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
    const uint64_t start = p->w->stages ? cpl_clock_ns() : 0;
    if (p->members == 1) {
        fn(p, what, 0);
    } else {
        part x = {p, fn, what};
        p->team->parallel(p->team, run_part, &x);
    }
    if (!p->w->stages) return;
    p->s->stage_ns[stage] += cpl_clock_ns() - start;
    p->s->stage_ops[stage] += ops;
}

/* ---- products --------------------------------------------------------------------------------------------------- */

/* Rows [0, rows) of a, of which tiles, scales and output start where the pointers say. */
typedef struct product {
    const cpl_amx_matrix *m;
    cpl_amx_kind kind;
    cpl_amx_out what;
    uint32_t rows, panel_begin, panel_end;
    const char *a;
    const float *row_scale;
    const uint32_t *row_scale16;
    char *out;
    size_t out_row, out_panel;
    const cpl_amx_activation *activation;
    cpl_amx_ahead ahead; /* its lines are to be counted */
} product;

/* A member's part of what x fetches, in so many k steps. */
static cpl_amx_ahead shared_ahead(const pass *p, const product *x, uint32_t member, size_t steps)
{
    cpl_amx_ahead ahead = x->ahead;
    if (!ahead.at) return ahead;
    const size_t lines = (size_t)(ahead.end - ahead.at) / 64;
    ahead.at += lines * member / p->members * 64;
    ahead.end = x->ahead.at + lines * (member + 1) / p->members * 64;
    ahead.lines = (uint32_t)((lines / p->members + steps - 1) / steps);
    return ahead;
}

/* `blocks` blocks of `tiles` row tiles from row tile `first` on. */
static void multiply_blocks(const pass *p, const product *x, uint32_t member, uint32_t first, uint32_t tiles,
                            uint32_t blocks)
{
    const cpl_amx_matrix *m = x->m;
    const uint32_t row = first * 16, split = p->w->tuning.split / 64;
    uint32_t from, to;
    share(x->panel_end - x->panel_begin, p->members, member, &from, &to);
    if (from == to) return;
    const cpl_amx_ahead ahead = shared_ahead(p, x, member, (size_t)blocks * (to - from) * m->steps);
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
                            .shift = m->shift,
                            .tiles = tiles,
                            .blocks = blocks,
                            .steps = m->steps,
                            .split = m->steps % split ? m->steps : split,
                            .panel_begin = x->panel_begin + from,
                            .panel_end = x->panel_begin + to,
                            .out = x->out + (x->what == CPL_AMX_ROWS ? row * (size_t)64 : first * x->out_row),
                            .out_row = x->out_row,
                            .out_panel = x->out_panel,
                            .activation = x->activation,
                            .scratch = p->s->member[member].scratch,
                            .partial = p->s->member[member].partial,
                            .ahead = ahead};
    p->w->amx->gemm(&g);
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
    each_member(p, stage, 2.0 * x->rows * (x->panel_end - x->panel_begin) * CPL_AMX_PANEL * x->m->k, multiply_member,
                x);
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
    char *x, *a;
    float *scale;
    uint32_t *scale16;
    uint32_t rows;
} stream;

/* input16 of the product to come, if that makes halves; else 0. */
static void normalise(const pass *p, const stream *t, const cpl_amx_norm_weights *norm, float input16)
{
    const cpl_amx_weights *w = p->w;
    const norming n = {{.kind = is_int8(p) ? CPL_AMX_INT8 : CPL_AMX_BF16,
                        .x = t->x,
                        .n = w->arch.hidden,
                        .gamma = norm->gamma,
                        .beta = norm->beta,
                        .q_gamma = norm->q_gamma,
                        .q_beta = norm->q_beta,
                        .epsilon = w->arch.norm_epsilon,
                        .down = norm->down,
                        .a = t->a,
                        .steps = w->layers[0].qkv.steps,
                        .row_scale = t->scale,
                        .row_scale16 = input16 > 0 ? t->scale16 : NULL,
                        .scale16 = input16},
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
    char *q, *out;                  /* int8: half tiles; bf16: A tiles */
    int cls;                        /* one query a sequence */
    uint32_t begin, end, first_row; /* sequences; the row that q, k and v begin with */
} attending;

static void attend_member(const pass *p, const void *what, uint32_t member)
{
    const attending *t = what;
    const cpl_amx_session *s = p->s;
    const cpl_arch *arch = &p->w->arch;
    const uint32_t *cu = p->batch->cu_seqlens, heads = arch->heads;
    const size_t stage = (size_t)(arch->hidden / CPL_AMX_PANEL) * s->panel_bytes;
    uint32_t from, to;
    share((t->end - t->begin) * heads, p->members, member, &from, &to);
    from += t->begin * heads;
    to += t->begin * heads;
    while (from < to) {
        const uint32_t i = from / heads, head = from % heads;
        const uint32_t end = to - i * heads < heads ? to - i * heads : heads;
        const uint32_t row = t->cls ? i : cu[i];
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

/* Rows from `from` on of whichever stream t they are in, in a block of `rows` that begins at `block`; what it `fetches`
 * is for the stage that comes after. */
typedef struct slice {
    stream t;
    uint32_t from, block, rows;
    int fetches;
} slice;

static slice slice_of(const pass *p, const stream *t, uint32_t from, uint32_t n)
{
    const size_t tile = (size_t)p->w->layers[0].qkv.steps * 1024,
                 x_tile = p->w->arch.hidden / CPL_AMX_PANEL * (size_t)1024;
    return (slice){
        {t->x + from / 16 * x_tile, t->a + from / 16 * tile, t->scale + from, t->scale16 + from, n}, from, from, n, 1};
}

/* The part of the weights from `next` to `last`, which lie behind each other, that the rows of u fetch into L2, so that
 * those of the block fetch all. */
static cpl_amx_ahead fetched(const pass *p, const slice *u, const cpl_amx_matrix *next, const cpl_amx_matrix *last)
{
    const char *b = next->b, *end = (const char *)last->b + (size_t)last->n / CPL_AMX_PANEL * last->steps * 2048;
    const size_t lines = (size_t)(end - b) / 64, from = u->from - u->block;
    if (!p->w->tuning.ahead || !u->fetches) return (cpl_amx_ahead){0};
    return (cpl_amx_ahead){b + lines * from / u->rows * 64, b + lines * (from + u->t.rows) / u->rows * 64, 0};
}

/* Panels [begin, end) of Q, K and V of a stream's rows, in units of the hidden size, to out. */
static void project(const pass *p, const cpl_amx_layer *y, const slice *u, uint32_t begin, uint32_t end, char *out)
{
    const uint32_t each = p->w->arch.hidden / CPL_AMX_PANEL;
    const product x = {.m = &y->qkv,
                       .kind = is_int8(p) ? CPL_AMX_INT8 : CPL_AMX_BF16,
                       .what = CPL_AMX_ROWS,
                       .rows = u->t.rows,
                       .panel_begin = begin * each,
                       .panel_end = end * each,
                       .a = u->t.a,
                       .row_scale = u->t.scale,
                       .out = out,
                       .out_panel = p->s->panel_bytes,
                       .ahead = fetched(p, u, &y->up, &y->up)};
    multiply(p, CPL_NATIVE_QKV, &x);
}

/* t->x += a m^T + bias. */
static void add_product(const pass *p, cpl_native_stage stage, const cpl_amx_matrix *m, cpl_amx_kind kind,
                        const char *a, const float *scale, const uint32_t *scale16, const slice *u, cpl_amx_ahead ahead)
{
    const product x = {.m = m,
                       .kind = kind,
                       .what = CPL_AMX_ADD,
                       .rows = u->t.rows,
                       .panel_end = m->n / CPL_AMX_PANEL,
                       .a = a,
                       .row_scale = scale,
                       .row_scale16 = scale16,
                       .out = u->t.x,
                       .out_row = p->w->arch.hidden / CPL_AMX_PANEL * (size_t)1024,
                       .ahead = ahead};
    multiply(p, stage, &x);
}

/* Activated inner rows into A tiles. */
static void feed_up(const pass *p, const cpl_amx_layer *y, const slice *u)
{
    cpl_amx_session *s = p->s;
    const int int8 = is_int8(p);
    const uint32_t inner = p->w->arch.intermediate;
    char *const mid_a = s->mid_a + (u->from - u->block) / 16 * (size_t)y->down.steps * 1024;
    const product up = {.m = &y->up,
                        .kind = int8 ? CPL_AMX_INT8 : CPL_AMX_BF16,
                        .what = CPL_AMX_ACTIVATE,
                        .rows = u->t.rows,
                        .panel_end = y->up.n / CPL_AMX_PANEL,
                        .a = u->t.a,
                        .row_scale = u->t.scale,
                        .row_scale16 = u->t.scale16,
                        .out = int8 ? s->mid : mid_a,
                        .out_row = inner / CPL_AMX_PANEL * (size_t)1024,
                        .activation = &y->activation,
                        .ahead = fetched(p, u, &y->down, &y->down)};
    multiply(p, CPL_NATIVE_UP, &up);
    if (!int8) return;
    const halving h = {{.x = s->mid,
                        .n = inner,
                        .from_scale = u->t.scale,
                        .shift = p->w->shift,
                        .a = mid_a,
                        .steps = y->down.steps,
                        .row_scale = s->mid_scale + u->from,
                        .row_scale16 = s->mid_scale16 + u->from,
                        .scale16 = y->down.input16},
                       u->t.rows,
                       1};
    each_member(p, CPL_NATIVE_CONVERT, 0, halves_member, &h);
}

/* Attention's output, in the context or already in u->t.a: projected, added and normed. */
static void close_attention(const pass *p, const cpl_amx_layer *y, const slice *u)
{
    cpl_amx_session *s = p->s;
    const stream *t = &u->t;
    if (is_int8(p)) {
        const halving h = {{.x = s->context + (size_t)u->from * p->w->arch.hidden * 2,
                            .n = p->w->arch.hidden,
                            .a = t->a,
                            .steps = y->out.steps,
                            .row_scale = t->scale,
                            .row_scale16 = t->scale16,
                            .scale16 = y->out.input16},
                           t->rows,
                           0};
        each_member(p, CPL_NATIVE_CONVERT, 0, halves_member, &h);
    }
    add_product(p, CPL_NATIVE_OUT, &y->out, is_int8(p) ? CPL_AMX_INT8 : CPL_AMX_BF16, t->a, t->scale, t->scale16, u,
                (cpl_amx_ahead){0});
    normalise(p, t, &y->attention_norm, y->up.input16);
}

static void feed_down(const pass *p, const cpl_amx_layer *y, const slice *u)
{
    const cpl_amx_session *s = p->s;
    const int int8 = is_int8(p), last = y + 1 == p->w->layers + p->w->arch.layers;
    add_product(p, CPL_NATIVE_DOWN, &y->down, int8 ? CPL_AMX_UINT8 : CPL_AMX_BF16,
                s->mid_a + (u->from - u->block) / 16 * (size_t)y->down.steps * 1024,
                int8 ? s->mid_scale + u->from : NULL, int8 ? s->mid_scale16 + u->from : NULL, u,
                last ? (cpl_amx_ahead){0} : fetched(p, u, &y[1].qkv, &y[1].out));
    normalise(p, &u->t, &y->output_norm, 0);
}

/* A stage over the rows of u. Alone, a few rows go through a product and the sweep after it together: they are still
 * in L1 or L2 then. A team shares whole stages. */
static void in_steps(const pass *p, const cpl_amx_layer *y, const slice *u,
                     void (*stage)(const pass *, const cpl_amx_layer *, const slice *))
{
    const uint32_t step = p->members > 1 ? u->t.rows : p->w->tuning.rows;
    for (uint32_t at = 0; at < u->t.rows; at += step) {
        slice v = slice_of(p, &u->t, at, u->t.rows - at < step ? u->t.rows - at : step);
        v.from += u->from;
        v.rows = u->rows;
        v.block = u->block;
        v.fetches = u->fetches;
        stage(p, y, &v);
    }
}

/* Rows of a block that half a layer goes over before the next one: alone, what fits L2 with the weights. */
static uint32_t block_rows(const pass *p, uint32_t rows)
{
    return p->members > 1 || !p->w->tuning.block_rows ? rows : p->w->tuning.block_rows;
}

static void feed_forward(const pass *p, const cpl_amx_layer *y, const stream *t)
{
    const uint32_t step = block_rows(p, t->rows);
    for (uint32_t at = 0; at < t->rows; at += step) {
        slice u = slice_of(p, t, at, t->rows - at < step ? t->rows - at : step);
        u.fetches = at == 0;
        in_steps(p, y, &u, feed_up);
        u.fetches = at + step >= t->rows;
        in_steps(p, y, &u, feed_down);
    }
}

static stream all_rows(const pass *p)
{
    return (stream){p->s->x, p->s->a, p->s->row_scale, p->s->row_scale16, rows_total(p)};
}

/* Block by block of whole sequences, so that their Q, K and V stay in L2. Blocks begin at row tiles: the one that two
 * share is projected in both (attention's output, which may take the place of the layer's input there, is that of rows
 * done with), and what follows attention is for tiles whose rows are all there. */
static void layer_forward(const pass *p, const cpl_amx_layer *y)
{
    const stream t = all_rows(p);
    const uint32_t *cu = p->batch->cu_seqlens, n = p->batch->n, step = block_rows(p, t.rows);
    uint32_t closed = 0;
    for (uint32_t first = 0, end = 0; first < n; first = end) {
        for (end = first + 1; end < n && cu[end + 1] - cu[first] <= step;) end++;
        const uint32_t from = cu[first] / 16 * 16, ready = end == n ? t.rows : cu[end] / 16 * 16;
        slice u = slice_of(p, &t, from, cu[end] - from);
        u.fetches = end == n;
        project(p, y, &u, 0, 3, p->s->qkv);
        attend(p, &(attending){p->s->qkv, is_int8(p) ? p->s->context : t.a, 0, first, end, from});
        const slice v = slice_of(p, &t, closed, ready - closed);
        in_steps(p, y, &v, close_attention);
        closed = ready;
    }
    feed_forward(p, y, &t);
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
    const slice all = slice_of(p, &t, 0, t.rows), cls = slice_of(p, &c, 0, n);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t row = cu[i];
        s->cls_scale[i] = s->row_scale[row];
        copy_row(s->cls, s->x, panels, i, row);
        copy_row(s->cls_a, s->a, steps, i, row);
    }
    project(p, y, &cls, 0, 1, s->cls_q);
    project(p, y, &all, 1, 3, s->qkv);
    attend(p, &(attending){s->cls_q, is_int8(p) ? s->context : c.a, 1, 0, n, 0});
    in_steps(p, y, &cls, close_attention);
    feed_forward(p, y, &c);
}

/* Sequences are dealt to members; one row is word + type + position, made in the scratch. */
static void gather_member(const pass *p, const void *what, uint32_t member)
{
    float *const row = p->s->member[member].scratch;
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
