/* SPDX-License-Identifier: Apache-2.0 */
/* lane.c - the parts of a layer (lane.h): products, attention and norms over some rows.
 *
 * The idea: one way to write each part, two ways to run it. A lane with a team hands each part out, split by panels,
 * (sequence, head) units or rows; one without does the same on the calling thread. So a team can also be used the
 * other way round, each member being a lane of its own with a share of the rows (forward.c), and neither knows which.
 *
 * Invariant: what is computed for a row depends neither on the other rows of a call nor on the split (kernels.h).
 * Threads: lanes of one pass run at once; each writes its own rows and scratch only. */
#include "backend/native/lane.h"

#include <math.h>

#include "backend/native/words.h"
#include "base/clock.h"

/* Rows below which a row-wise part isn't handed out: it takes no longer than handing out does. */
enum { ROWS_TO_SHARE = 8 };

cpl_native_lane cpl_native_lane_whole(const cpl_native_pass *p, cpl_team *team, uint32_t members)
{
    cpl_session *s = p->s;
    return (cpl_native_lane){.pass = p,
                             .team = members > 1 ? team : NULL,
                             .members = members,
                             .block = p->w->block_rows,
                             .mid = s->mid,
                             .scratch = s->scratch,
                             .converted = s->converted};
}

cpl_native_lane cpl_native_lane_of(const cpl_native_pass *p, uint32_t member, uint32_t members)
{
    cpl_native_lane l = cpl_native_lane_whole(p, NULL, 1);
    l.index = member;
    l.block = p->w->block_rows / members;
    l.mid += member * l.block * p->s->mid_stride;
    l.scratch += member;
    if (!l.converted.stride) return l;
    l.converted.at = (char *)l.converted.at + member * l.block * l.converted.stride;
    l.converted.scale += member * l.block;
    return l;
}

void cpl_native_share(uint32_t total, uint32_t members, uint32_t member, uint32_t *from, uint32_t *to)
{
    *from = (uint32_t)((uint64_t)total * member / members);
    *to = (uint32_t)((uint64_t)total * (member + 1) / members);
}

/* What every kind of part begins with: who does it and how many they are. */
typedef struct part {
    const cpl_native_lane *l;
    uint32_t members;
} part;

static part part_of(const cpl_native_lane *l, int shared) { return (part){l, shared && l->team ? l->members : 1}; }

/* fn's arg begins with *head. */
static void run_part(const part *head, cpl_native_stage stage, double flops, void (*fn)(void *, uint32_t), void *arg)
{
    const cpl_native_lane *l = head->l;
    cpl_session *s = l->pass->s;
    const uint64_t start = l->pass->w->stages ? cpl_clock_thread_cpu_ns() : 0;
    if (head->members == 1)
        fn(arg, 0);
    else
        l->team->parallel(l->team, fn, arg);
    if (!l->pass->w->stages) return;
    s->stage_ns[l->index][stage] += cpl_clock_thread_cpu_ns() - start;
    s->stage_flops[l->index][stage] += flops;
}

/* ---- products ---------------------------------------------------------------------------------------------- */

typedef struct gemm_part {
    part head;
    cpl_native_product product[3];
    uint32_t count;
} gemm_part;

static void gemm_member(void *arg, uint32_t member)
{
    const gemm_part *g = arg;
    const cpl_native_lane *l = g->head.l;
    uint32_t total = 0, from, to, first = 0;
    if (member >= g->head.members) return;
    for (uint32_t i = 0; i < g->count; i++) total += g->product[i].panels;
    cpl_native_share(total, g->head.members, member, &from, &to);
    for (uint32_t i = 0; i < g->count; i++) {
        const uint32_t end = first + g->product[i].panels;
        const uint32_t lo = from > first ? from : first, hi = to < end ? to : end;
        if (lo < hi)
            cpl_native_multiply(&l->pass->w->kernels, &g->product[i], &l->converted, l->scratch[member], lo - first,
                                hi - first);
        first = end;
    }
}

typedef struct convert_part {
    part head;
    const cpl_native_product *x;
} convert_part;

static void convert_member(void *arg, uint32_t member)
{
    const convert_part *c = arg;
    const cpl_native_lane *l = c->head.l;
    const cpl_native_product *x = c->x;
    uint32_t from, to;
    if (member >= c->head.members) return;
    cpl_native_share(x->rows, c->head.members, member, &from, &to);
    cpl_native_convert(&l->pass->w->kernels, x->m, &l->converted, from, x->a + from * x->lda, to - from, x->lda);
}

/* All products of a part have the same a, and at most l->block rows. */
static void run_gemms(cpl_native_stage stage, gemm_part *g)
{
    const cpl_native_product *x = &g->product[0];
    const cpl_native_lane *l = g->head.l;
    double flops = 0;
    if (cpl_native_converts(&l->pass->w->kernels, x->m->kind)) {
        convert_part c = {part_of(l, x->rows >= ROWS_TO_SHARE), x};
        run_part(&c.head, CPL_NATIVE_CONVERT, 0, convert_member, &c);
    }
    for (uint32_t i = 0; i < g->count; i++) flops += 2.0 * x[i].rows * x[i].m->n * x[i].m->k;
    run_part(&g->head, stage, flops, gemm_member, g);
}

static void add_product(gemm_part *g, const cpl_native_matrix *m, const float *a, size_t lda, uint32_t rows, float *c,
                        size_t ldc, cpl_epilogue epilogue)
{
    g->product[g->count++] = (cpl_native_product){.m = m,
                                                  .a = a,
                                                  .lda = lda,
                                                  .c = c,
                                                  .ldc = ldc,
                                                  .rows = rows,
                                                  .panels = cpl_native_panels(&g->head.l->pass->w->kernels, m),
                                                  .epilogue = epilogue};
}

/* At most l->block rows. */
static void multiply(const cpl_native_lane *l, cpl_native_stage stage, const cpl_native_matrix *m, const float *a,
                     size_t lda, uint32_t rows, float *c, size_t ldc, cpl_epilogue epilogue)
{
    gemm_part g = {.head = part_of(l, 1)};
    add_product(&g, m, a, lda, rows, c, ldc, epilogue);
    run_gemms(stage, &g);
}

/* Rows of one of the equal blocks that `rows` are cut into. */
static uint32_t block_size(const cpl_native_lane *l, uint32_t rows)
{
    const uint32_t blocks = (rows + l->block - 1) / l->block;
    return blocks ? (rows + blocks - 1) / blocks : 0;
}

void cpl_native_project_one(const cpl_native_lane *l, cpl_native_stage stage, const cpl_native_matrix *m,
                            const float *a, size_t lda, uint32_t rows, float *c, size_t ldc, cpl_epilogue epilogue)
{
    const uint32_t step = block_size(l, rows);
    for (uint32_t from = 0; from < rows; from += step)
        multiply(l, stage, m, a + from * lda, lda, rows - from < step ? rows - from : step, c + from * ldc, ldc,
                 epilogue);
}

void cpl_native_project(const cpl_native_lane *l, const cpl_native_layer *y, const cpl_native_group *t)
{
    const cpl_session *s = l->pass->s;
    const size_t ld = s->hidden_stride;
    const float *x = s->x + l->pass->batch->cu_seqlens[t->first] * ld;
    const uint32_t step = block_size(l, t->to - t->from);
    for (uint32_t from = t->from; from < t->to; from += step) {
        const uint32_t n = t->to - from < step ? t->to - from : step;
        const float *a = x + from * ld;
        gemm_part g = {.head = part_of(l, 1)};
        add_product(&g, &y->k, a, ld, n, t->k + from * ld, ld, CPL_EPILOGUE_BIAS);
        add_product(&g, &y->v, a, ld, n, t->v + from * ld, ld, CPL_EPILOGUE_BIAS);
        if (!t->cls) add_product(&g, &y->q, a, ld, n, t->q + from * ld, ld, CPL_EPILOGUE_BIAS);
        run_gemms(CPL_NATIVE_QKV, &g);
    }
}

/* ---- rows -------------------------------------------------------------------------------------------------- */

typedef struct rows_part {
    part head;
    float *x;
    uint32_t from, to;
    const cpl_native_norm *norm;
} rows_part;

static void norm_member(void *arg, uint32_t member)
{
    const rows_part *n = arg;
    const cpl_native_pass *p = n->head.l->pass;
    const cpl_weights *w = p->w;
    const size_t ld = p->s->hidden_stride;
    uint32_t from, to;
    if (member >= n->head.members) return;
    cpl_native_share(n->to - n->from, n->head.members, member, &from, &to);
    w->kernels.layernorm_f32(n->x + (n->from + from) * ld, to - from, w->arch.hidden, ld, n->norm->gamma, n->norm->beta,
                             w->arch.norm_epsilon);
}

static void normalise(const cpl_native_lane *l, float *x, uint32_t rows, const cpl_native_norm *norm)
{
    rows_part n = {part_of(l, rows >= ROWS_TO_SHARE), x, 0, rows, norm};
    run_part(&n.head, CPL_NATIVE_NORM, 0, norm_member, &n);
}

static void embed_member(void *arg, uint32_t member)
{
    const rows_part *e = arg;
    const cpl_native_pass *p = e->head.l->pass;
    const cpl_weights *w = p->w;
    const cpl_batch *b = p->batch;
    const size_t h = w->arch.hidden, ld = p->s->hidden_stride;
    uint32_t from, to, i = 0;
    if (member >= e->head.members) return;
    cpl_native_share(e->to - e->from, e->head.members, member, &from, &to);
    for (uint32_t t = e->from + from; t < e->from + to; t++) {
        while (b->cu_seqlens[i + 1] <= t) i++;
        cpl_native_words_add(&w->words, &w->kernels, (uint32_t)b->ids[t], w->type + b->type_ids[t] * h,
                             w->position + (t - b->cu_seqlens[i]) * h, e->x + t * ld);
        w->kernels.layernorm_f32(e->x + t * ld, 1, h, ld, e->norm->gamma, e->norm->beta, w->arch.norm_epsilon);
    }
}

void cpl_native_embed(const cpl_native_lane *l, uint32_t from, uint32_t to)
{
    rows_part e = {part_of(l, to - from >= ROWS_TO_SHARE), l->pass->s->x, from, to, &l->pass->w->embedding_norm};
    run_part(&e.head, CPL_NATIVE_EMBED, 0, embed_member, &e);
}

/* ---- attention --------------------------------------------------------------------------------------------- */

typedef struct attention_part {
    part head;
    const cpl_native_group *group;
} attention_part;

/* One head of the group's sequence i: as many of its queries as are the group's. */
static void attend_unit(const attention_part *t, uint32_t i, uint32_t head, float *scratch)
{
    const cpl_native_group *g = t->group;
    const cpl_native_pass *p = t->head.l->pass;
    const cpl_weights *w = p->w;
    const uint32_t *cu = p->batch->cu_seqlens + g->first, d = w->arch.head_size;
    const size_t ld = p->s->hidden_stride;
    const uint32_t row = cu[i] - cu[0], end = cu[i + 1] - cu[0];
    const uint32_t from = row > g->from ? row : g->from, to = end < g->to ? end : g->to;
    if (!g->cls && from >= to) return;
    float *q = g->q + (g->cls ? i : from) * ld + head * d;
    const cpl_attention_f32 a = {.q = q,
                                 .k = g->k + row * ld + head * d,
                                 .v = g->v + row * ld + head * d,
                                 .out = q,
                                 .q_stride = ld,
                                 .kv_stride = ld,
                                 .out_stride = ld,
                                 .queries = g->cls ? 1 : to - from,
                                 .keys = end - row,
                                 .head_size = d,
                                 .scale = 1.0f / sqrtf((float)d),
                                 .scratch = scratch};
    if (w->attention_bf16)
        w->kernels.attention_bf16(&w->kernels, &a);
    else
        w->kernels.attention_f32(&w->kernels, &a);
}

static void attention_member(void *arg, uint32_t member)
{
    const attention_part *t = arg;
    const uint32_t heads = t->head.l->pass->w->arch.heads;
    uint32_t from, to;
    if (member >= t->head.members) return;
    cpl_native_share((t->group->end - t->group->first) * heads, t->head.members, member, &from, &to);
    for (uint32_t unit = from; unit < to; unit++)
        attend_unit(t, unit / heads, unit % heads, t->head.l->scratch[member]);
}

void cpl_native_attend(const cpl_native_lane *l, const cpl_native_group *g)
{
    attention_part t = {part_of(l, 1), g};
    const uint32_t *cu = l->pass->batch->cu_seqlens;
    double flops = 0;
    for (uint32_t i = g->first; i < g->end; i++) {
        const uint32_t row = cu[i] - cu[g->first], end = cu[i + 1] - cu[g->first];
        const uint32_t from = row > g->from ? row : g->from, to = end < g->to ? end : g->to;
        const double queries = g->cls ? 1 : to > from ? to - from : 0;
        flops += 4.0 * queries * (end - row) * l->pass->w->arch.hidden;
    }
    run_part(&t.head, CPL_NATIVE_ATTENTION, flops, attention_member, &t);
}

/* ---- the rest of a layer ----------------------------------------------------------------------------------- */

static cpl_epilogue activation(const cpl_arch *a)
{
    switch (a->activation) {
    case CPL_ACTIVATION_GELU: return CPL_EPILOGUE_GELU;
    case CPL_ACTIVATION_GELU_TANH: return CPL_EPILOGUE_GELU_TANH;
    case CPL_ACTIVATION_RELU: return CPL_EPILOGUE_RELU;
    }
    return CPL_EPILOGUE_GELU;
}

void cpl_native_finish(const cpl_native_lane *l, const cpl_native_layer *y, float *x, const float *context,
                       uint32_t rows)
{
    const cpl_native_pass *p = l->pass;
    const size_t ld = p->s->hidden_stride, mid_ld = p->s->mid_stride;
    const uint32_t step = block_size(l, rows);
    for (uint32_t from = 0; from < rows; from += step) {
        const uint32_t n = rows - from < step ? rows - from : step;
        float *to = x + from * ld;
        multiply(l, CPL_NATIVE_OUT, &y->out, context + from * ld, ld, n, to, ld, CPL_EPILOGUE_RESIDUAL);
        normalise(l, to, n, &y->attention_norm);
        multiply(l, CPL_NATIVE_UP, &y->up, to, ld, n, l->mid, mid_ld, activation(&p->w->arch));
        multiply(l, CPL_NATIVE_DOWN, &y->down, l->mid, mid_ld, n, to, ld, CPL_EPILOGUE_RESIDUAL);
        normalise(l, to, n, &y->output_norm);
    }
}
