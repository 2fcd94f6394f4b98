/* SPDX-License-Identifier: Apache-2.0 */
/* forward.c - one pass over a packed token stream.
 *
 * The idea: layers outside, groups of whole sequences (about block_rows tokens) inside. A group's activations stay in
 * L2 through the whole layer (Q, K, V, attention, output, both FFN matrices), while a layer's weights (7 MB) come from
 * L3 once a group: at fp32 speed that is 2 to 3 GB/s, next to nothing, whereas activations of a whole pass would not
 * fit L2. A sequence longer than block_rows is its own group; its row-wise parts still go in blocks.
 *
 * A team takes a group by rows: from the keys and values of a layer to those of the next, a row needs no other, so each
 * member runs its share of the rows through all of that alone, in its own L2, and they meet once a layer. Queries,
 * keys and values have two sets of buffers, since a member may write the next ones while another still reads. The price
 * is that every member streams all weights. With so few rows a member that streaming takes longer than multiplying, the
 * team splits each part of the layer by columns and heads instead (lane.h), and meets some ten times a layer.
 *
 * Last layer, when only [CLS] rows are wanted (logits, CLS pooling): K and V of all rows, everything else for the [CLS]
 * rows alone. Exact, since nothing else of that layer is read.
 *
 * Invariant: nothing computed for a sequence depends on its neighbours (kernels.h), so its rows have the same bits in
 * any batch, group or team; the first CPL_NATIVE_TEAM_MAX members take part.
 *
 * Threads: a session belongs to one thread at a time; weights are only read. Rejected: one sequence at a time (weights
 * would stream once a sequence), stages over the whole pass (activations fall out of L2). */
#include "backend/native/lane.h"

#include <string.h>

#include "base/error.h"

/* Rows a member needs to be a lane of its own. */
enum { ROWS_I8 = 8, ROWS_WIDE = 32 };

/* A pass, who runs it as a whole, and the teams of lanes. */
typedef struct pass {
    cpl_native_pass p;
    cpl_native_lane whole;
    cpl_team *team;
    uint32_t members;
} pass;

/* Sequences from `first` on that go through a layer together. */
static uint32_t group_end(const cpl_native_pass *p, uint32_t first)
{
    const uint32_t *cu = p->batch->cu_seqlens;
    uint32_t end = first + 1;
    while (end < p->batch->n && cu[end + 1] - cu[first] <= p->w->block_rows) end++;
    return end;
}

/* All rows of the group that begins with sequence `first`, in the buffers of that parity. */
static cpl_native_group group_at(const cpl_native_pass *p, uint32_t first, uint32_t parity)
{
    const cpl_session *s = p->s;
    const uint32_t end = group_end(p, first);
    return (cpl_native_group){.first = first,
                              .end = end,
                              .to = p->batch->cu_seqlens[end] - p->batch->cu_seqlens[first],
                              .q = s->q[parity & 1],
                              .k = s->k[parity & 1],
                              .v = s->v[parity & 1]};
}

static float *rows_of(const cpl_native_pass *p, const cpl_native_group *g)
{
    return p->s->x + (p->batch->cu_seqlens[g->first] + g->from) * p->s->hidden_stride;
}

static void attend_and_finish(const cpl_native_lane *l, const cpl_native_layer *y, const cpl_native_group *g)
{
    cpl_native_attend(l, g);
    cpl_native_finish(l, y, rows_of(l->pass, g), g->q + g->from * l->pass->s->hidden_stride, g->to - g->from);
}

/* ---- a layer as a whole, alone or split part by part ------------------------------------------------------------ */

static void layer_forward(const pass *t, const cpl_native_layer *y)
{
    for (uint32_t first = 0; first < t->p.batch->n;) {
        const cpl_native_group g = group_at(&t->p, first, 0);
        cpl_native_project(&t->whole, y, &g);
        attend_and_finish(&t->whole, y, &g);
        first = g.end;
    }
}

/* ---- layers by rows --------------------------------------------------------------------------------------------- */

/* What one meeting of the team ends: a group's turn in `finish`, then the next one's in `project`. Either may be NULL.
 */
typedef struct turn {
    const pass *t;
    const cpl_native_layer *finish, *project;
    cpl_native_group group, next;
} turn;

static void take_rows(cpl_native_group *g, uint32_t members, uint32_t member)
{
    cpl_native_share(g->to, members, member, &g->from, &g->to);
}

static void turn_member(void *arg, uint32_t member)
{
    const turn *u = arg;
    const pass *t = u->t;
    if (member >= t->members) return;
    const cpl_native_lane l = cpl_native_lane_of(&t->p, member, t->members);
    cpl_native_group g = u->group, next = u->next;
    take_rows(&g, t->members, member);
    take_rows(&next, t->members, member);
    if (u->finish) attend_and_finish(&l, u->finish, &g);
    if (u->project) cpl_native_project(&l, u->project, &next);
}

/* Layers [0, count), count > 0. With cls, a last one follows for [CLS] rows: *ready becomes 1 when its keys and values
 * are there too, in *out's buffers. */
static void layers_by_rows(const pass *t, uint32_t count, int cls, cpl_native_group *out, int *ready)
{
    const cpl_weights *w = t->p.w;
    turn u = {.t = t, .project = &w->layers[0], .next = group_at(&t->p, 0, 0)};
    const int one = u.next.end == t->p.batch->n;
    uint32_t parity = 0;
    t->team->parallel(t->team, turn_member, &u);
    for (uint32_t layer = 0; layer < count;) {
        const int last = u.next.end == t->p.batch->n;
        u.finish = &w->layers[layer];
        u.group = u.next;
        layer += (uint32_t)last;
        u.next = group_at(&t->p, last ? 0 : u.group.end, ++parity);
        u.next.cls = layer == count;
        u.project = layer < count || (cls && one) ? &w->layers[layer] : NULL;
        t->team->parallel(t->team, turn_member, &u);
    }
    *out = u.next;
    *ready = cls && one;
}

/* Enough rows for each member that it computes for longer than it streams weights: below, measured, columns are the
 * better split. fp32's and 16-bit weights (42 and 21 MB) are too large to stream once a member from anywhere near. */
static int by_rows(const pass *t)
{
    const uint32_t least = t->p.w->kind == CPL_NATIVE_I8 || t->p.w->kind == CPL_NATIVE_I4 ? ROWS_I8 : ROWS_WIDE;
    if (t->members == 1) return 0;
    for (uint32_t first = 0; first < t->p.batch->n;) {
        const cpl_native_group g = group_at(&t->p, first, 0);
        if (g.to < least * t->members) return 0;
        first = g.end;
    }
    return 1;
}

/* ---- the last layer for [CLS] rows only ------------------------------------------------------------------------- */

/* They end up in s->cls. ready: a group whose keys and values are there, or NULL. */
static void layer_forward_cls(const pass *t, const cpl_native_layer *y, const cpl_native_group *ready)
{
    const cpl_session *s = t->p.s;
    const uint32_t *cu = t->p.batch->cu_seqlens, n = t->p.batch->n;
    const size_t ld = s->hidden_stride;
    for (uint32_t i = 0; i < n; i++) memcpy(s->cls + i * ld, s->x + cu[i] * ld, t->p.w->arch.hidden * sizeof(float));
    cpl_native_project_one(&t->whole, CPL_NATIVE_QKV, &y->q, s->cls, ld, n, s->cls_q, ld, CPL_EPILOGUE_BIAS);
    for (uint32_t first = 0; first < n;) {
        cpl_native_group g = ready ? *ready : group_at(&t->p, first, 0);
        g.cls = 1;
        g.q = s->cls_q + first * ld;
        if (!ready) cpl_native_project(&t->whole, y, &g);
        cpl_native_attend(&t->whole, &g);
        first = g.end;
    }
    cpl_native_finish(&t->whole, y, s->cls, s->cls_q, n);
}

/* ---- the pass --------------------------------------------------------------------------------------------------- */

static void write_rows(const cpl_native_pass *p, const float *x, uint32_t n, float *rows)
{
    const uint32_t h = p->w->arch.hidden;
    for (uint32_t i = 0; i < n; i++) memcpy(rows + (size_t)i * h, x + i * p->s->hidden_stride, h * sizeof(float));
}

static void write_pooled(const cpl_native_pass *p, float *rows)
{
    const cpl_weights *w = p->w;
    const uint32_t h = w->arch.hidden, *cu = p->batch->cu_seqlens;
    const size_t ld = p->s->hidden_stride;
    for (uint32_t i = 0; i < p->batch->n; i++) {
        const float *x = p->s->x + cu[i] * ld;
        float *out = rows + (size_t)i * h;
        if (w->pooling == CPL_POOLING_MEAN)
            w->kernels.pool_mean_f32(out, x, cu[i + 1] - cu[i], h, ld);
        else
            w->kernels.pool_max_f32(out, x, cu[i + 1] - cu[i], h, ld);
    }
}

static void write_result(const pass *t, float *rows)
{
    const cpl_session *s = t->p.s;
    const cpl_weights *w = t->p.w;
    const uint32_t n = t->p.batch->n;
    const size_t ld = s->hidden_stride;
    if (t->p.batch->want == CPL_WANT_TOKENS) {
        write_rows(&t->p, s->x, t->p.batch->cu_seqlens[n], rows);
    } else if (t->p.batch->want == CPL_WANT_LOGITS) {
        cpl_native_project_one(&t->whole, CPL_NATIVE_HEAD, &w->pooler, s->cls, ld, n, s->cls_q, ld, CPL_EPILOGUE_TANH);
        cpl_native_project_one(&t->whole, CPL_NATIVE_HEAD, &w->classifier, s->cls_q, ld, n, rows, w->arch.labels,
                               CPL_EPILOGUE_BIAS);
    } else if (w->pooling == CPL_POOLING_CLS) {
        write_rows(&t->p, s->cls, n, rows);
    } else {
        write_pooled(&t->p, rows);
    }
}

static void run_layers(const pass *t, int cls)
{
    const cpl_weights *w = t->p.w;
    const uint32_t count = w->arch.layers - (cls ? 1 : 0);
    cpl_native_group group;
    int ready = 0;
    if (count && by_rows(t)) {
        layers_by_rows(t, count, cls, &group, &ready);
    } else {
        for (uint32_t l = 0; l < count; l++) layer_forward(t, &w->layers[l]);
    }
    if (cls) layer_forward_cls(t, &w->layers[count], ready ? &group : NULL);
}

cpl_status cpl_native_rows_run(cpl_session *s, const cpl_batch *batch, cpl_team *team, float *rows, cpl_error *err)
{
    const cpl_weights *w = s->weights;
    if (!batch->n) return CPL_OK;
    const cpl_status st = cpl_native_check_batch(&w->limits, &w->arch, batch, err);
    if (st) return st;
    pass t = {.p = {s, w, batch}, .team = team, .members = team && team->size ? team->size : 1};
    if (t.members > CPL_NATIVE_TEAM_MAX) t.members = CPL_NATIVE_TEAM_MAX;
    t.whole = cpl_native_lane_whole(&t.p, team, t.members);
    s->passes++;
    s->tokens += batch->cu_seqlens[batch->n];
    cpl_native_embed(&t.whole, 0, batch->cu_seqlens[batch->n]);
    run_layers(&t, batch->want == CPL_WANT_LOGITS || (batch->want == CPL_WANT_POOLED && w->pooling == CPL_POOLING_CLS));
    write_result(&t, rows);
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
