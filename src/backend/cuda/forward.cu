/* SPDX-License-Identifier: Apache-2.0 */
/* forward.cu - the launches of one pass, in order: input copy, embedding, the layers, what the rows are made of.
 *
 * Per layer: QKV product, attention, output product, add and norm, FFN up with the activation, FFN down, add and norm.
 * When only [CLS] rows are wanted (logits, CLS pooling) the last layer computes keys and values of all rows and all
 * else for those rows alone; exact, since nothing else of that layer is read. The norm that ends the last layer writes
 * fp32.
 *
 * Everything goes to the session's one stream, so order is all the synchronisation there is. */
#include "backend/cuda/cuda.cuh"

#include <string.h>

typedef struct pass {
    cpl_session *s;
    const cpl_weights *w;
    const cpl_cuda_plan *plan;
    const cpl_cuda_counts *counts;
    const uint32_t *cu;
    const cpl_cuda_item *items;
    cudaError_t error; /* the first one; nothing is launched after it */
    uint32_t layer;
} pass;

static void launched(pass *p, cudaError_t e, const char *name)
{
    p->error = e;
    p->s->queue.reverse ^= 1;
    if (!e && p->s->mark) p->s->mark(p->s->mark_arg, name, p->layer);
}

static void multiply(pass *p, const cpl_cuda_product *m, int first, const char *name)
{
    if (p->error) return;
    launched(p,
             cpl_cuda_multiply(m, first ? &p->counts->sequences : &p->counts->tokens,
                               first ? p->plan->sequences : p->plan->tokens, &p->w->device, p->w->variant, p->s->queue),
             name);
}

/* Where a norm's results go in 8 bits: the input of `up` of this layer (middle), or of layer `layer`. */
static cpl_cuda_eight eight(const pass *p, uint32_t layer, int middle, int first)
{
    const cpl_session *s = p->s;
    cpl_cuda_eight e = {p->w->operand, first ? s->x8_first : s->x8, NULL, NULL, NULL};
    if (layer >= p->w->arch.layers) e.to = NULL; /* nothing follows */
    if (!e.to || e.type != CPL_CUDA_INT8) return e;
    e.mul = p->w->layers[layer].fold[2 * middle];
    e.add = p->w->layers[layer].fold[2 * middle + 1];
    e.scale = first ? s->x_scale_first : s->x_scale;
    return e;
}

/* The layer's FFN down, where it is held in 4 bits. */
static void widen(pass *p)
{
    const cpl_cuda_matrix *m = &p->w->layers[p->layer].down;
    if (p->error || !m->groups) return;
    launched(p, cpl_cuda_widen_four(p->s->down_wide, m->w, m->groups, m->scale, m->n, m->k, p->s->queue), "widen");
}

/* x = norm(x + product), to x, or as fp32 to out. ends: the layer; else the result is the input of `up`. */
static void multiply_norm(pass *p, const cpl_cuda_product *m, int ends, void *x, float *out, int first,
                          const char *name)
{
    const cpl_cuda_layer *y = &p->w->layers[p->layer];
    multiply(p, m, first, name);
    if (p->error) return;
    launched(p,
             cpl_cuda_add_norm(p->w->type, x, eight(p, out ? UINT32_MAX : p->layer + (uint32_t)ends, !ends, first),
                               p->s->y, out, p->w->arch.hidden, ends ? y->output_norm : y->attention_norm,
                               first ? &p->counts->sequences : &p->counts->tokens,
                               first ? p->plan->sequences : p->plan->tokens, p->s->queue),
             "add, norm");
}

static void layer(pass *p, float *out)
{
    cpl_session *s = p->s;
    const cpl_weights *w = p->w;
    multiply(p, &s->layers[p->layer].qkv, 0, "qkv");
    if (!p->error)
        launched(p,
                 cpl_cuda_attend(w->type, w->inner, s->qkv, s->ctx, w->width, w->head_size, w->scale, p->items,
                                 p->counts, p->plan->items, s->queue),
                 "attention");
    const cpl_cuda_layer_products *m = &s->layers[p->layer];
    multiply_norm(p, &m->out, 0, s->x, NULL, 0, "out");
    multiply(p, &m->up, 0, "up");
    widen(p);
    multiply_norm(p, &m->down, 1, s->x, out, 0, "down");
}

/* Rows of x, or of what goes with it, at the sequences' starts. */
static void gather(pass *p, cpl_cuda_type type, void *to, const void *x, uint32_t columns)
{
    if (p->error) return;
    launched(p, cpl_cuda_gather_first(type, to, x, columns, p->cu, p->counts, p->plan->sequences, p->s->queue),
             "gather");
}

static void layer_first(pass *p)
{
    cpl_session *s = p->s;
    const cpl_weights *w = p->w;
    gather(p, w->type, s->x_first, s->x, w->arch.hidden);
    if (s->x8) gather(p, w->operand, s->x8_first, s->x8, w->arch.hidden);
    if (s->x_scale) gather(p, CPL_CUDA_FP32, s->x_scale_first, s->x_scale, 1);
    multiply(p, &s->keys_values, 0, "keys values");
    multiply(p, &s->query_first, 1, "first: query");
    if (!p->error)
        launched(p,
                 cpl_cuda_attend_first(w->type, w->inner, s->q_first, s->qkv, s->ctx, w->width, w->head_size, w->scale,
                                       p->cu, p->counts, p->plan->sequences, s->queue),
                 "first: attention");
    multiply_norm(p, &s->out_first, 0, s->x_first, NULL, 1, "first: out");
    multiply(p, &s->up_first, 1, "first: up");
    widen(p);
    multiply_norm(p, &s->down_first, 1, s->x_first, s->last, 1, "first: down");
}

static void pool(pass *p)
{
    cpl_session *s = p->s;
    const cpl_weights *w = p->w;
    if (!p->error)
        launched(p,
                 cpl_cuda_pool(s->pooled, s->last, w->arch.hidden, w->pooling == CPL_POOLING_MAX, p->cu, p->counts,
                               p->plan->sequences, s->queue),
                 "pooling");
}

static void finish(pass *p)
{
    cpl_session *s = p->s;
    const cpl_weights *w = p->w;
    if (p->plan->want == CPL_WANT_LOGITS) {
        if (!p->error)
            launched(p,
                     cpl_cuda_pooler(s->pooled, s->last, (const float *)w->pooler.w, w->pooler.bias, w->arch.hidden,
                                     p->counts, p->plan->sequences, s->queue),
                     "pooler");
        if (!p->error)
            launched(p,
                     cpl_cuda_classify(s->logits, s->pooled, (const float *)w->classifier.w, w->classifier.bias,
                                       w->arch.hidden, w->arch.labels, p->counts, p->plan->sequences, s->queue),
                     "classifier");
    } else if (p->plan->want == CPL_WANT_POOLED && w->pooling != CPL_POOLING_CLS) {
        pool(p);
    }
}

/* The input goes along with the launch. */
static cudaError_t forward_small(pass *p, int first_only)
{
    cpl_session *s = p->s;
    const cpl_cuda_counts *counts = (const cpl_cuda_counts *)s->input_host;
    cpl_cuda_small_call call;
    call.bound = s->small;
    call.first_only = first_only;
    call.logits = p->plan->want == CPL_WANT_LOGITS;
    call.n = counts->sequences;
    call.tokens = counts->tokens;
    memcpy(call.cu, s->input_host + p->plan->cu_at, (call.n + 1) * sizeof *call.cu);
    memcpy(call.token, s->input_host + p->plan->tokens_at, call.tokens * sizeof *call.token);
    launched(p, cpl_cuda_small_run(&call, s->queue), "small");
    if (p->plan->want == CPL_WANT_POOLED && !first_only) pool(p);
    return p->error;
}

cudaError_t cpl_cuda_forward(cpl_session *s, const cpl_cuda_plan *plan, cudaEvent_t after)
{
    const cpl_weights *w = s->weights;
    pass p = {s,
              w,
              plan,
              (const cpl_cuda_counts *)s->input,
              (const uint32_t *)(s->input + plan->cu_at),
              (const cpl_cuda_item *)(s->input + plan->items_at),
              cudaSuccess,
              0};
    const int first_only =
        plan->want == CPL_WANT_LOGITS || (plan->want == CPL_WANT_POOLED && w->pooling == CPL_POOLING_CLS);
    s->queue.reverse = 0;
    if (plan->small) return forward_small(&p, first_only);
    launched(&p, cudaMemcpyAsync(s->input, s->input_host, plan->bytes, cudaMemcpyHostToDevice, s->stream), "input");
    if (!p.error && after) p.error = cudaStreamWaitEvent(s->stream, after, 0);
    if (!p.error)
        launched(&p,
                 cpl_cuda_embed(w->type, s->x, eight(&p, 0, 0, 0), w->arch.hidden,
                                (const cpl_cuda_token *)(s->input + plan->tokens_at), w->word, w->position,
                                w->type_table, w->embedding_norm, p.counts, plan->tokens,
                                {s->stream, 0, 0}), /* after the copy, whole */
                 "embedding");
    for (p.layer = 0; p.layer + 1 < w->arch.layers; p.layer++) layer(&p, NULL);
    if (first_only)
        layer_first(&p);
    else
        layer(&p, s->last);
    finish(&p);
    return p.error;
}
