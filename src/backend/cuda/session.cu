/* SPDX-License-Identifier: Apache-2.0 */
/* session.cu - one stream and everything it needs, taken whole at open: device memory in one block, pinned buffers for
 * what goes in and comes out, the products bound to their buffers. run allocates nothing but the graphs it captures.
 *
 * run: check the batch, write tokens, offsets and attention items into the pinned buffer, launch (directly or as a
 * captured graph), wait on an event, hand the rows over. Passes of like size share a graph: kernels read the real
 * counts from the device, a graph only fixes upper bounds, which are rounded up to quarters of powers of two.
 *
 * Threads: one at a time a session; sessions of the same weights run concurrently, so that one's copies and host work
 * overlap the other's kernels. After an error that the device can't get over, every call says so. */
#include "backend/cuda/cuda.cuh"
#include "backend/cuda/device.cuh"

#include <stdlib.h>
#include <string.h>

enum { GRAPH_TOKENS_MAX = 8192, SPIN_TOKENS_MAX = 2048 };
static const size_t OUTPUT_BYTES_MAX = (size_t)8 << 20; /* pinned; longer results come back in parts */

static uint32_t items_max(const cpl_weights *w)
{
    return (w->arch.heads + 3) / 4 * (w->sequences_max + w->tokens_max / 16 + 1);
}

static size_t aligned(size_t n) { return (n + 255) & ~(size_t)255; }

static uint32_t whole_rows(uint32_t n) { return (n + CPL_CUDA_ROWS - 1) / CPL_CUDA_ROWS * CPL_CUDA_ROWS; }

/* ---- open ---------------------------------------------------------------------------------------------------------
 */

static void lay_out(cpl_session *s, cpl_cuda_bump *b)
{
    const cpl_weights *w = s->weights;
    const size_t e = cpl_cuda_element_bytes(w->type), t = whole_rows(w->tokens_max), n = whole_rows(w->sequences_max);
    s->input = (uint8_t *)cpl_cuda_take(b, s->input_bytes);
    s->x = cpl_cuda_take(b, t * w->arch.hidden * e);
    s->qkv = cpl_cuda_take(b, t * 3 * w->width * e);
    s->ctx = cpl_cuda_take(b, t * w->width * e);
    s->y = cpl_cuda_take(b, t * w->arch.hidden * e);
    s->mid = cpl_cuda_take(b, t * w->arch.intermediate * e);
    s->x_first = cpl_cuda_take(b, n * w->arch.hidden * e);
    s->q_first = cpl_cuda_take(b, n * w->width * e);
    if (w->four_bits) s->down_wide = cpl_cuda_take(b, (size_t)w->arch.hidden * w->arch.intermediate * e);
    if (w->operand != w->type) {
        s->x8 = cpl_cuda_take(b, t * w->arch.hidden);
        s->x8_first = cpl_cuda_take(b, n * w->arch.hidden);
    }
    if (w->operand == CPL_CUDA_INT8) {
        s->x_scale = (float *)cpl_cuda_take(b, t * sizeof(float));
        s->x_scale_first = (float *)cpl_cuda_take(b, n * sizeof(float));
    }
    s->last = (float *)cpl_cuda_take(b, t * w->arch.hidden * sizeof(float));
    s->pooled = (float *)cpl_cuda_take(b, n * w->arch.hidden * sizeof(float));
    s->logits = (float *)cpl_cuda_take(b, n * (w->arch.labels + 1) * sizeof(float));
    s->small_layers = (cpl_cuda_small_layer *)cpl_cuda_take(b, w->arch.layers * sizeof(cpl_cuda_small_layer));
}

/* type: of the operands; out_type: of the result. */
static cpl_cuda_product product(cpl_cuda_type type, cpl_cuda_type out_type, const cpl_cuda_matrix *m, const void *a,
                                uint32_t a_stride, void *out, uint32_t out_stride, int epilogue)
{
    cpl_cuda_product p;
    memset(&p, 0, sizeof p);
    p.type = type;
    p.out_type = out_type;
    p.epilogue = epilogue;
    p.n = m->n;
    p.k = m->k;
    p.a = a;
    p.w = m->w;
    p.out = out;
    p.a_stride = a_stride;
    p.out_stride = out_stride;
    p.bias = m->bias;
    p.scale = m->scale;
    return p;
}

/* Of a norm's results: x, or what stands for it in 8 bits; of all rows or of the first ones. */
static cpl_cuda_product product_of_x(const cpl_session *s, int first, cpl_cuda_type out_type, const cpl_cuda_matrix *m,
                                     void *out, uint32_t out_stride, int epilogue)
{
    const void *x = first ? s->x_first : s->x, *x8 = first ? s->x8_first : s->x8;
    const cpl_weights *w = s->weights;
    cpl_cuda_product p = product(w->operand, out_type, m, x8 ? x8 : x, w->arch.hidden, out, out_stride, epilogue);
    p.row_scale = first ? s->x_scale_first : s->x_scale;
    return p;
}

/* FFN down, of a matrix of 4 bits as it will have been widened. */
static cpl_cuda_product product_down(const cpl_session *s, const cpl_cuda_matrix *m)
{
    const cpl_weights *w = s->weights;
    cpl_cuda_matrix wide = *m;
    if (w->four_bits) {
        wide.w = s->down_wide;
        wide.scale = NULL;
    }
    return product(w->inner, w->type, &wide, s->mid, w->arch.intermediate, s->y, w->arch.hidden, EPILOGUE_BIAS);
}

static cudaError_t map(const cpl_session *s, cpl_cuda_product *p, uint32_t rows)
{
    if (!s->weights->device.wgmma || p->type == CPL_CUDA_FP32) return cudaSuccess;
    return cpl_cuda_product_map(p, whole_rows(rows), whole_rows(rows));
}

static cudaError_t bind_layer(cpl_session *s, uint32_t l)
{
    const cpl_weights *w = s->weights;
    const cpl_cuda_layer *y = &w->layers[l];
    const uint32_t h = w->arch.hidden, f = w->arch.intermediate, t = w->tokens_max;
    cpl_cuda_layer_products *p = &s->layers[l];
    p->qkv = product_of_x(s, 0, w->type, &y->qkv, s->qkv, 3 * w->width, EPILOGUE_BIAS);
    p->out = product(w->inner, w->type, &y->out, s->ctx, w->width, s->y, h, EPILOGUE_BIAS);
    p->up = product_of_x(s, 0, w->inner, &y->up, s->mid, f, w->epilogue);
    p->down = product_down(s, &y->down);
    cudaError_t e = map(s, &p->qkv, t);
    if (!e) e = map(s, &p->out, t);
    if (!e) e = map(s, &p->up, t);
    return e ? e : map(s, &p->down, t);
}

/* The last layer for [CLS] rows: keys and values of all rows, queries and all that follows of the first ones. */
static cudaError_t bind_last(cpl_session *s)
{
    const cpl_weights *w = s->weights;
    const cpl_cuda_layer *y = &w->layers[w->arch.layers - 1];
    const uint32_t h = w->arch.hidden, f = w->arch.intermediate, width = w->width;
    const size_t e = cpl_cuda_element_bytes(w->type);
    cpl_cuda_matrix kv = y->qkv, q = y->qkv;
    q.n = width;
    kv.n = 2 * width;
    kv.w = (char *)kv.w + (size_t)width * h * cpl_cuda_element_bytes(w->operand);
    kv.bias += width;
    if (kv.scale) kv.scale += width;
    s->keys_values = product_of_x(s, 0, w->type, &kv, (char *)s->qkv + width * e, 3 * width, EPILOGUE_BIAS);
    s->query_first = product_of_x(s, 1, w->type, &q, s->q_first, width, EPILOGUE_BIAS);
    s->up_first = product_of_x(s, 1, w->inner, &y->up, s->mid, f, w->epilogue);
    s->out_first = product(w->inner, w->type, &y->out, s->ctx, width, s->y, h, EPILOGUE_BIAS);
    s->down_first = product_down(s, &y->down);
    cudaError_t r = map(s, &s->keys_values, w->tokens_max);
    if (!r) r = map(s, &s->query_first, w->sequences_max);
    if (!r) r = map(s, &s->out_first, w->sequences_max);
    if (!r) r = map(s, &s->down_first, w->sequences_max);
    return r ? r : map(s, &s->up_first, w->sequences_max);
}

static cudaError_t map_small(cpl_cuda_type type, CUtensorMap *map, const cpl_cuda_matrix *m, uint32_t box)
{
    return cpl_cuda_tensor_map(map, type, m->w, m->n, m->k, m->k, box);
}

/* What the one kernel for a few tokens reads and writes. */
static cudaError_t bind_small(cpl_session *s)
{
    const cpl_weights *w = s->weights;
    const uint32_t h = w->arch.hidden, f = w->arch.intermediate, rows = whole_rows(CPL_CUDA_SMALL_TOKENS);
    const size_t bytes = w->arch.layers * sizeof(cpl_cuda_small_layer);
    cpl_cuda_small_layer *table = (cpl_cuda_small_layer *)w->host.allocate(bytes, 64);
    if (!table) return cudaErrorMemoryAllocation;
    cudaError_t e = cudaSuccess;
    for (uint32_t l = 0; l < w->arch.layers && !e; l++) {
        const cpl_cuda_layer *y = &w->layers[l];
        cpl_cuda_small_layer *t = &table[l];
        e = map_small(w->type, &t->qkv, &y->qkv, 32);
        if (!e) e = map_small(w->type, &t->out, &y->out, CPL_CUDA_SMALL_NARROW);
        if (!e) e = map_small(w->type, &t->up, &y->up, CPL_CUDA_SMALL_WIDE);
        if (!e) e = map_small(w->type, &t->down, &y->down, CPL_CUDA_SMALL_NARROW);
        t->qkv_bias = y->qkv.bias;
        t->out_bias = y->out.bias;
        t->up_bias = y->up.bias;
        t->down_bias = y->down.bias;
        t->attention_norm = y->attention_norm;
        t->output_norm = y->output_norm;
    }
    cpl_cuda_small *m = &s->small;
    if (!e) e = cpl_cuda_tensor_map(&m->ctx_map, w->type, s->ctx, rows, h, h, 32);
    if (!e) e = cpl_cuda_tensor_map(&m->mid_map, w->type, s->mid, rows, f, f, 32);
    if (!e) e = cudaMemcpy(s->small_layers, table, bytes, cudaMemcpyHostToDevice);
    w->host.release(table, bytes);
    m->layers = s->small_layers;
    m->word = w->word;
    m->position = w->position;
    m->type_table = w->type_table;
    m->embedding_norm = w->embedding_norm;
    m->ctx = s->ctx;
    m->y = s->y;
    m->mid = s->mid;
    m->last = s->last;
    m->pooled = s->pooled;
    m->logits = (float *)s->output_host;
    m->pooler_w = (const float *)w->pooler.w;
    m->pooler_b = w->pooler.bias;
    m->classifier_w = (const float *)w->classifier.w;
    m->classifier_b = w->classifier.bias;
    m->counts = (cpl_cuda_counts *)s->input;
    m->cu = (uint32_t *)(s->input + aligned(sizeof(cpl_cuda_counts)));
    m->layer_count = w->arch.layers;
    m->heads = w->arch.heads;
    m->labels = w->arch.labels;
    m->scale = w->scale;
    m->type = w->type;
    return e;
}

static cpl_status open_memory(cpl_session *s, cpl_error *err)
{
    const cpl_weights *w = s->weights;
    const size_t width = w->arch.hidden > w->arch.labels ? w->arch.hidden : w->arch.labels;
    s->input_bytes = aligned(sizeof(cpl_cuda_counts)) + aligned(((size_t)w->sequences_max + 1) * 4) +
                     aligned(items_max(w) * sizeof(cpl_cuda_item)) +
                     aligned((size_t)w->tokens_max * sizeof(cpl_cuda_token));
    s->output_host_bytes = w->tokens_max * width * sizeof(float);
    if (s->output_host_bytes > OUTPUT_BYTES_MAX) s->output_host_bytes = OUTPUT_BYTES_MAX;
    cpl_cuda_bump count = {NULL, 0};
    lay_out(s, &count);
    cpl_status st = cpl_cuda_allocate(&s->block, count.used, "a session's buffers", &w->host, err);
    if (st) return st;
    cpl_cuda_bump take = {(char *)s->block, 0};
    lay_out(s, &take);
    cudaError_t e = cudaMemsetAsync(s->block, 0, count.used, s->stream);
    if (!e) e = cudaStreamSynchronize(s->stream);
    if (e) return cpl_cuda_fail(&w->host, err, e, "clearing a session's buffers");
    e = cudaHostAlloc((void **)&s->input_host, s->input_bytes, cudaHostAllocPortable);
    if (!e) e = cudaHostAlloc((void **)&s->output_host, s->output_host_bytes, cudaHostAllocPortable);
    if (e == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        return w->host.fail(err, CPL_NO_MEMORY, "out of memory: %zu bytes of pinned memory wanted",
                            s->input_bytes + s->output_host_bytes);
    }
    return e ? cpl_cuda_fail(&w->host, err, e, "pinning host memory") : CPL_OK;
}

static cpl_status open_all(cpl_session *s, cpl_error *err)
{
    const cpl_weights *w = s->weights;
    cudaError_t e = cudaSetDevice(w->device.index);
    if (!e) e = cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking);
    if (!e) e = cudaEventCreateWithFlags(&s->blocking, cudaEventBlockingSync | cudaEventDisableTiming);
    if (!e) e = cudaEventCreateWithFlags(&s->spinning, cudaEventDisableTiming);
    if (!e) e = cudaEventCreateWithFlags(&s->done, cudaEventDisableTiming);
    if (e) return cpl_cuda_fail(&w->host, err, e, "opening a stream");
    s->queue = {s->stream, w->device.early, 0};
    s->layers = (cpl_cuda_layer_products *)calloc(w->arch.layers, sizeof *s->layers);
    if (!s->layers) return w->host.fail(err, CPL_NO_MEMORY, "out of memory: a table of %u layers", w->arch.layers);
    const cpl_status st = open_memory(s, err);
    if (st) return st;
    for (uint32_t l = 0; !e && l < w->arch.layers; l++) e = bind_layer(s, l);
    if (!e) e = bind_last(s);
    if (!e && w->small) e = bind_small(s);
    return e ? cpl_cuda_fail(&w->host, err, e, "describing tensors to the copy engine") : CPL_OK;
}

cpl_status cpl_cuda_open(cpl_session **out, cpl_weights *w, cpl_error *err)
{
    *out = NULL;
    cpl_session *s = (cpl_session *)calloc(1, sizeof *s);
    if (!s) return w->host.fail(err, CPL_NO_MEMORY, "out of memory: %zu bytes wanted", sizeof *s);
    s->weights = w;
    const cpl_status st = open_all(s, err);
    if (st) {
        cpl_cuda_close(s);
        return st;
    }
    *out = s;
    return CPL_OK;
}

void cpl_cuda_close(cpl_session *s)
{
    if (!s) return;
    cudaSetDevice(s->weights->device.index);
    if (s->stream) cudaStreamSynchronize(s->stream);
    for (int i = 0; i < CPL_CUDA_GRAPHS; i++)
        if (s->graphs[i].exec) cudaGraphExecDestroy(s->graphs[i].exec);
    pthread_mutex_lock(&s->weights->turn);
    if (s->weights->last == s->done) s->weights->last = NULL; /* it has come: the stream is at rest */
    pthread_mutex_unlock(&s->weights->turn);
    if (s->done) cudaEventDestroy(s->done);
    if (s->blocking) cudaEventDestroy(s->blocking);
    if (s->spinning) cudaEventDestroy(s->spinning);
    if (s->input_host) cudaFreeHost(s->input_host);
    if (s->output_host) cudaFreeHost(s->output_host);
    if (s->block) cudaFree(s->block);
    if (s->stream) cudaStreamDestroy(s->stream);
    free(s->layers);
    free(s);
    cudaGetLastError();
}

/* ---- run ----------------------------------------------------------------------------------------------------------
 */

static cpl_status check_batch(const cpl_weights *w, const cpl_batch *b, cpl_error *err)
{
    const cpl_host *host = &w->host;
    if (b->want == CPL_WANT_LOGITS && w->arch.head != CPL_HEAD_POOLER_CLASSIFIER)
        return host->fail(err, CPL_PRECONDITION, "logits are wanted of a model without a classifier");
    if (b->n > w->sequences_max)
        return host->fail(err, CPL_INVALID, "%u sequences in one pass, the session holds %u", b->n, w->sequences_max);
    for (uint32_t i = 0; i < b->n; i++) {
        const uint32_t from = b->cu_seqlens[i], to = b->cu_seqlens[i + 1];
        if (to <= from || to - from > w->max_length)
            return host->fail(err, CPL_INVALID, "sequence %u has %d tokens, the model takes 1 to %u", i,
                              (int)(to - from), w->max_length);
    }
    const uint32_t tokens = b->cu_seqlens[b->n];
    if (tokens > w->tokens_max)
        return host->fail(err, CPL_INVALID, "%u tokens in one pass, the session holds %u", tokens, w->tokens_max);
    for (uint32_t t = 0; t < tokens; t++) {
        if ((uint32_t)b->ids[t] >= w->arch.vocab)
            return host->fail(err, CPL_INVALID, "token %u has id %d, the vocabulary ends at %u", t, b->ids[t],
                              w->arch.vocab - 1);
        if (b->type_ids[t] >= w->arch.types)
            return host->fail(err, CPL_INVALID, "token %u has type id %u, the model knows %u types", t, b->type_ids[t],
                              w->arch.types);
    }
    return CPL_OK;
}

static uint32_t count_items(const cpl_weights *w, const cpl_batch *b)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        const uint32_t length = b->cu_seqlens[i + 1] - b->cu_seqlens[i], together = cpl_cuda_heads_together(length);
        count += (w->arch.heads + together - 1) / together * ((length + 127) / 128);
    }
    return count;
}

static void write_input(cpl_session *s, const cpl_batch *b, const cpl_cuda_plan *p, uint32_t items)
{
    const cpl_weights *w = s->weights;
    cpl_cuda_counts *counts = (cpl_cuda_counts *)s->input_host;
    cpl_cuda_item *item = (cpl_cuda_item *)(s->input_host + p->items_at);
    cpl_cuda_token *token = (cpl_cuda_token *)(s->input_host + p->tokens_at);
    *counts = {b->cu_seqlens[b->n], b->n, items, 0};
    memcpy(s->input_host + p->cu_at, b->cu_seqlens, (b->n + 1) * sizeof(uint32_t));
    for (uint32_t i = 0; i < b->n; i++) {
        const uint32_t start = b->cu_seqlens[i], length = b->cu_seqlens[i + 1] - start;
        const uint32_t together = cpl_cuda_heads_together(length);
        for (uint32_t head = 0; head < w->arch.heads; head += together)
            for (uint32_t query = 0; query < length; query += 128)
                *item++ = {start, length, (uint16_t)query, (uint16_t)head, (uint16_t)together, 0};
        for (uint32_t t = 0; t < length; t++) *token++ = {b->ids[start + t], (uint16_t)t, b->type_ids[start + t]};
    }
}

cpl_status cpl_cuda_prepare(cpl_session *s, const cpl_batch *b, cpl_cuda_plan *p, cpl_error *err)
{
    const cpl_weights *w = s->weights;
    const cpl_status st = check_batch(w, b, err);
    if (st) return st;
    const uint32_t items = count_items(w, b);
    memset(p, 0, sizeof *p);
    p->want = b->want;
    p->tokens = cpl_cuda_bound(b->cu_seqlens[b->n], w->tokens_max);
    p->sequences = cpl_cuda_bound(b->n, w->sequences_max);
    p->items = cpl_cuda_bound(items, items_max(w));
    p->small = w->small && b->cu_seqlens[b->n] <= CPL_CUDA_SMALL_TOKENS && b->n <= CPL_CUDA_SMALL_SEQUENCES &&
               CPL_CUDA_SMALL_SEQUENCES * w->arch.labels * sizeof(float) <= s->output_host_bytes;
    p->cu_at = aligned(sizeof(cpl_cuda_counts));
    p->items_at = p->cu_at + aligned(((size_t)p->sequences + 1) * sizeof(uint32_t));
    p->tokens_at = p->items_at + aligned(p->items * sizeof(cpl_cuda_item));
    p->bytes = p->tokens_at + p->tokens * sizeof(cpl_cuda_token);
    write_input(s, b, p, items);
    return CPL_OK;
}

/* A place for a new graph: an empty one, or that of the graph not used for longest. */
static cpl_cuda_graph *place(cpl_session *s)
{
    cpl_cuda_graph *oldest = &s->graphs[0];
    for (int i = 0; i < CPL_CUDA_GRAPHS; i++)
        if (s->graphs[i].used < oldest->used) oldest = &s->graphs[i];
    if (oldest->exec) cudaGraphExecDestroy(oldest->exec);
    oldest->exec = NULL;
    oldest->used = 0;
    return oldest;
}

static cudaError_t capture(cpl_session *s, const cpl_cuda_plan *p, cudaGraphExec_t *exec)
{
    cudaGraph_t graph = NULL;
    cudaError_t e = cudaStreamBeginCapture(s->stream, cudaStreamCaptureModeRelaxed);
    if (e) return e;
    const cudaError_t launched = cpl_cuda_forward(s, p, NULL);
    e = cudaStreamEndCapture(s->stream, &graph);
    if (launched) e = launched;
    if (!e) e = cudaGraphInstantiate(exec, graph, 0);
    if (graph) cudaGraphDestroy(graph);
    return e;
}

/* A pass that fills the device by itself runs after those of the other sessions, not among them: interleaved, both
 * would end together, and nothing would be left to run while the host deals with both. Its input is copied at once. */
static cudaError_t launch_large(cpl_session *s, const cpl_cuda_plan *p)
{
    cpl_weights *w = s->weights;
    pthread_mutex_lock(&w->turn);
    cudaError_t e = cpl_cuda_forward(s, p, w->last == s->done ? NULL : w->last);
    if (!e) e = cudaEventRecord(s->done, s->stream);
    if (!e) w->last = s->done;
    pthread_mutex_unlock(&w->turn);
    return e;
}

static cudaError_t launch(cpl_session *s, const cpl_cuda_plan *p)
{
    const cpl_weights *w = s->weights;
    const int graphs = w->graphs == CPL_CUDA_ON || (w->graphs == CPL_CUDA_AUTO && p->tokens <= GRAPH_TOKENS_MAX);
    s->runs++;
    if (p->small) return cpl_cuda_forward(s, p, NULL); /* one launch as it is */
    if (p->tokens > GRAPH_TOKENS_MAX && w->graphs != CPL_CUDA_ON) return launch_large(s, p);
    if (!graphs || s->mark || !(s->warm >> p->want & 1)) { /* the first pass loads kernels, which no capture may */
        s->warm |= 1u << p->want;
        return cpl_cuda_forward(s, p, NULL);
    }
    for (int i = 0; i < CPL_CUDA_GRAPHS; i++) {
        cpl_cuda_graph *g = &s->graphs[i];
        if (!g->exec || memcmp(&g->plan, p, sizeof *p) != 0) continue;
        g->used = s->runs;
        return cudaGraphLaunch(g->exec, s->stream);
    }
    cpl_cuda_graph *g = place(s);
    const cudaError_t e = capture(s, p, &g->exec);
    if (e) {
        g->exec = NULL;
        return e;
    }
    g->plan = *p;
    g->used = s->runs;
    return cudaGraphLaunch(g->exec, s->stream);
}

static cudaError_t wait_for(cpl_session *s, uint32_t tokens)
{
    const cpl_cuda_choice spin = s->weights->spin;
    const cudaEvent_t event =
        spin == CPL_CUDA_ON || (spin == CPL_CUDA_AUTO && tokens <= SPIN_TOKENS_MAX) ? s->spinning : s->blocking;
    const cudaError_t e = cudaEventRecord(event, s->stream);
    return e ? e : cudaEventSynchronize(event);
}

/* Brings the rows of `want` to the caller, through pinned memory, in parts where they are many. */
static cudaError_t fetch(cpl_session *s, const cpl_batch *b, const cpl_cuda_plan *p, float *rows)
{
    const cpl_weights *w = s->weights;
    const float *from = s->last;
    size_t bytes = (size_t)b->n * w->arch.hidden * sizeof(float);
    if (b->want == CPL_WANT_LOGITS) {
        from = s->logits;
        bytes = (size_t)b->n * w->arch.labels * sizeof(float);
    } else if (b->want == CPL_WANT_TOKENS) {
        bytes = (size_t)b->cu_seqlens[b->n] * w->arch.hidden * sizeof(float);
    } else if (w->pooling != CPL_POOLING_CLS) {
        from = s->pooled;
    }
    if (p->small && b->want == CPL_WANT_LOGITS) { /* the kernel wrote them to the host itself */
        const cudaError_t e = wait_for(s, b->cu_seqlens[b->n]);
        if (!e) memcpy(rows, s->output_host, bytes);
        return e;
    }
    for (size_t at = 0; at < bytes;) {
        const size_t n = bytes - at < s->output_host_bytes ? bytes - at : s->output_host_bytes;
        cudaError_t e = cudaMemcpyAsync(s->output_host, (const char *)from + at, n, cudaMemcpyDeviceToHost, s->stream);
        if (!e) e = wait_for(s, b->cu_seqlens[b->n]);
        if (e) return e;
        memcpy((char *)rows + at, s->output_host, n);
        at += n;
    }
    return cudaSuccess;
}

cpl_status cpl_cuda_run(cpl_session *s, const cpl_batch *batch, cpl_team *team, float *rows, cpl_error *err)
{
    (void)team; /* the device has workers of its own */
    if (!batch->n) return CPL_OK;
    cpl_cuda_plan plan;
    const cpl_status st = cpl_cuda_prepare(s, batch, &plan, err);
    if (st) return st;
    cudaError_t e = cudaSetDevice(s->weights->device.index);
    if (!e) e = launch(s, &plan);
    if (!e) e = fetch(s, batch, &plan, rows);
    return e ? cpl_cuda_fail(&s->weights->host, err, e, "a forward pass") : CPL_OK;
}
