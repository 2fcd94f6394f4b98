/* SPDX-License-Identifier: Apache-2.0 */
/* padded.c - a packed batch run as padded rectangles.
 *
 * The one idea: what differs between runtimes is one call that takes three tensors and gives one, so everything around
 * it (checking ids, grouping by length, filling, pooling where the graph gives hidden states only, putting rows back)
 * is here once. Padding is id 0 with mask 0; what it computes reaches no row. Room for hidden states is taken when they
 * are first wanted. Threads: the session's. */
#include "backend/foreign/padded.h"

#include <string.h>

#include "base/error.h"

cpl_status cpl_padded_open(cpl_padded *p, const cpl_host *host, const cpl_padded_model *model,
                           const cpl_rectangle_limits *limits, uint32_t tokens_max, uint32_t sequences_max,
                           cpl_error *err)
{
    const uint32_t cells = tokens_max > model->max_length ? tokens_max : model->max_length;
    const uint32_t n = sequences_max && sequences_max < cells ? sequences_max : cells;
    *p = (cpl_padded){.host = host, .model = *model, .limits = *limits, .cells = cells};
    if (!p->limits.tokens_max || p->limits.tokens_max > cells) p->limits.tokens_max = cells;
    p->plan.n_max = n;
    p->plan.order = host->allocate(n * sizeof *p->plan.order, 64);
    p->plan.rectangles = host->allocate(n * sizeof *p->plan.rectangles, 64);
    p->tensors.ids = host->allocate(cells * sizeof(int64_t), 64);
    p->tensors.type_ids = host->allocate(cells * sizeof(int64_t), 64);
    p->tensors.mask = host->allocate(cells * sizeof(int64_t), 64);
    p->out_bytes = (size_t)n * (model->hidden > model->labels ? model->hidden : model->labels) * sizeof *p->out;
    p->out = host->allocate(p->out_bytes, 64);
    if (p->plan.order && p->plan.rectangles && p->tensors.ids && p->tensors.type_ids && p->tensors.mask && p->out)
        return CPL_OK;
    return cpl_fail_memory(err, cells * sizeof(int64_t));
}

void cpl_padded_close(cpl_padded *p)
{
    if (!p->host) return;
    p->host->release(p->plan.order, p->plan.n_max * sizeof *p->plan.order);
    p->host->release(p->plan.rectangles, p->plan.n_max * sizeof *p->plan.rectangles);
    p->host->release(p->tensors.ids, p->cells * sizeof(int64_t));
    p->host->release(p->tensors.type_ids, p->cells * sizeof(int64_t));
    p->host->release(p->tensors.mask, p->cells * sizeof(int64_t));
    p->host->release(p->out, p->out_bytes);
    *p = (cpl_padded){0};
}

static cpl_status check(const cpl_padded *p, const cpl_batch *b, cpl_error *err)
{
    const cpl_padded_model *m = &p->model;
    if (b->want == CPL_WANT_LOGITS && !m->labels)
        return cpl_fail(err, CPL_PRECONDITION, "logits are wanted of a model without a classifier");
    for (uint32_t i = 0; i < b->n; i++) {
        const uint32_t from = b->cu_seqlens[i], to = b->cu_seqlens[i + 1];
        if (to <= from || to - from > m->max_length)
            return cpl_fail(err, CPL_INVALID, "sequence %u has %d tokens, the model takes 1 to %u", i, (int)(to - from),
                            m->max_length);
    }
    for (uint32_t t = 0; t < b->cu_seqlens[b->n]; t++) {
        if ((uint32_t)b->ids[t] >= m->vocab)
            return cpl_fail(err, CPL_INVALID, "token %u has id %d, the vocabulary ends at %u", t, b->ids[t],
                            m->vocab - 1);
        if (b->type_ids[t] >= m->types)
            return cpl_fail(err, CPL_INVALID, "token %u has type id %u, the model knows %u types", t, b->type_ids[t],
                            m->types);
    }
    return CPL_OK;
}

/* n x hidden states to one vector. */
static void pool(const cpl_padded_model *m, const float *states, uint32_t n, float *out)
{
    memcpy(out, states, m->hidden * sizeof *out);
    if (m->pooling == CPL_POOLING_CLS) return;
    for (uint32_t k = 1; k < n; k++) {
        const float *s = states + (size_t)k * m->hidden;
        if (m->pooling == CPL_POOLING_MEAN)
            for (uint32_t c = 0; c < m->hidden; c++) out[c] += s[c];
        else
            for (uint32_t c = 0; c < m->hidden; c++) out[c] = s[c] > out[c] ? s[c] : out[c];
    }
    if (m->pooling == CPL_POOLING_MEAN)
        for (uint32_t c = 0; c < m->hidden; c++) out[c] /= (float)n;
}

static void put_back(const cpl_padded *p, const cpl_rectangle *r, const cpl_batch *b, cpl_padded_form form, float *rows)
{
    const cpl_padded_model *m = &p->model;
    const size_t width = b->want == CPL_WANT_LOGITS ? m->labels : m->hidden;
    for (uint32_t i = 0; i < r->rows; i++) {
        const uint32_t sequence = p->plan.order[r->first + i], at = b->cu_seqlens[sequence];
        const uint32_t length = b->cu_seqlens[sequence + 1] - at;
        const float *states = p->out + (size_t)i * r->width * m->hidden;
        if (form == CPL_PADDED_ROWS)
            memcpy(rows + sequence * width, p->out + i * width, width * sizeof *rows);
        else if (b->want == CPL_WANT_TOKENS)
            memcpy(rows + at * width, states, length * width * sizeof *rows);
        else
            pool(m, states, length, rows + sequence * width);
    }
}

cpl_status cpl_padded_run(cpl_padded *p, const cpl_batch *b, cpl_padded_form form, cpl_padded_pass *pass, void *arg,
                          float *rows, cpl_error *err)
{
    const size_t need = form == CPL_PADDED_TOKENS ? p->cells * p->model.hidden * sizeof *p->out : 0;
    cpl_status st = check(p, b, err);
    if (st) return st;
    if (need > p->out_bytes) {
        p->host->release(p->out, p->out_bytes);
        p->out = p->host->allocate(need, 64);
        p->out_bytes = p->out ? need : 0;
        if (!p->out) return cpl_fail_memory(err, need);
    }
    st = p->host->rectangles->make(&p->plan, b, &p->limits, err);
    if (st) return st;
    for (uint32_t i = 0; !st && i < p->plan.count; i++) {
        const cpl_rectangle *r = &p->plan.rectangles[i];
        if ((size_t)r->rows * r->width > p->cells)
            return cpl_fail(err, CPL_INVALID, "%u tokens in one pass, the session holds %zu", r->rows * r->width,
                            p->cells);
        p->host->rectangles->fill(&p->plan, i, b, 0, &p->tensors);
        st = pass(arg, r->rows, r->width, &p->tensors, p->out, err);
        if (!st) put_back(p, r, b, form, rows);
    }
    p->padding += p->plan.tokens_padding;
    return st;
}
