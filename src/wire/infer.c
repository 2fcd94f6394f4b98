/* SPDX-License-Identifier: Apache-2.0 */
/* infer.c - inference.InferenceService/Infer: from the request's bytes to a task, from its rows to the reply.
 * The one idea: an operation (task, pair array, post) comes out of its network thread's pool and goes back there, so a
 * warm request allocates nothing here; the pool keeps FREE_BYTES_MAX, so a burst of large requests leaves no more
 * behind. Texts stay in the message, which the call keeps until it ends.
 * Threads: all on the call's network thread but `done`, which a worker calls and which only posts.
 * Invariant: an operation with its task submitted is never in the pool; a cancelled one waits for `done`, because the
 * engine may still be reading its texts, and only then releases the call.
 *
 * The score's form is named in the reply's metadata `x-score-activation`: sigmoid, identity (logits) or cosine.
 * Request metadata: `x-raw-scores: 1` asks for logits, `model` picks a model by name. An unknown name is NOT_FOUND even
 * when one model is loaded: here nobody is forced to send a name, so one that is sent is meant. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "proto/inference.pb-c.h"
#include "wire/wire_state.h"

enum { FREE_BYTES_MAX = 32 << 20, PAIRS_RETAINED_MAX = 4096 };

struct cpl_infer_op {
    cpl_post post;
    cpl_infer_op *next;
    size_t bytes; /* in the pool: what it holds */
    cpl_wire_loop *home;
    cpl_task *task;
    cpl_call *call;
    cpl_pair_list list;
    const char *activation;
    bool cancelled;
};

cpl_infer_op *cpl_infer_op_next(cpl_infer_op *op) { return op->next; }

void cpl_infer_op_close(cpl_infer_op *op)
{
    if (!op) return;
    cpl_task_close(op->task);
    cpl_pair_list_deinit(&op->list);
    free(op);
}

static void finished(cpl_post *post);

static cpl_infer_op *take_op(cpl_wire_loop *l, cpl_error *err)
{
    cpl_infer_op *op = l->free_ops;
    if (op) {
        l->free_ops = op->next;
        l->free_bytes -= op->bytes;
        op->next = NULL;
        return op;
    }
    op = calloc(1, sizeof *op);
    if (!op || cpl_task_open(&op->task, err)) {
        free(op);
        cpl_fail_memory(err, sizeof *op);
        return NULL;
    }
    op->home = l;
    op->post.run = finished;
    return op;
}

static void give_op(cpl_infer_op *op)
{
    cpl_wire_loop *l = op->home;
    op->call = NULL;
    op->cancelled = false;
    if (op->list.cap > PAIRS_RETAINED_MAX) cpl_pair_list_deinit(&op->list);
    op->bytes = sizeof *op + cpl_task_rest(op->task) + op->list.cap * sizeof *op->list.pairs;
    if (l->free_bytes + op->bytes > FREE_BYTES_MAX) {
        cpl_infer_op_close(op);
        return;
    }
    op->next = l->free_ops;
    l->free_ops = op;
    l->free_bytes += op->bytes;
}

/* ---- the request ---- */

static void close_flow(void *flow) { cpl_flow_close(flow); }

static cpl_status flow_of(cpl_flow **out, cpl_call *call, cpl_wire *w, cpl_error *err)
{
    void **slot = cpl_call_connection_user(call, close_flow);
    if (!*slot) {
        cpl_flow *flow = NULL;
        cpl_status st = cpl_flow_open(&flow, w->options.engine, err);
        if (st) return st;
        *slot = flow;
    }
    *out = *slot;
    return CPL_OK;
}

static cpl_status wants_raw(bool *raw, const cpl_call *call, cpl_error *err)
{
    cpl_text v = cpl_call_metadata(call, "x-raw-scores");
    *raw = v.size == 1 && *v.data == '1';
    if (*raw || v.size == 0 || (v.size == 1 && *v.data == '0')) return CPL_OK;
    return cpl_fail(err, CPL_INVALID, "metadata 'x-raw-scores' is '%.*s': give 1 or 0", v.size < 40 ? (int)v.size : 40,
                    v.data);
}

/* "ORG/NAME" also names the model NAME. */
static cpl_status find_model(uint32_t *out, const cpl_call *call, const cpl_wire *w, cpl_error *err)
{
    cpl_text name = cpl_call_metadata(call, "model");
    cpl_status st = cpl_engine_model_find(w->options.engine, name.data, name.size, out, err);
    size_t at = name.size;
    while (at > 0 && name.data[at - 1] != '/') at--;
    if (st != CPL_NOT_FOUND || at == 0 || at == name.size) return st;
    return cpl_engine_model_find(w->options.engine, name.data + at, name.size - at, out, NULL) ? st : CPL_OK;
}

static cpl_status choose_label(cpl_task_spec *spec, const cpl_wire *w, const cpl_engine_model *m, cpl_error *err)
{
    spec->label = 0;
    if (m->model->task != CPL_TASK_CROSS_ENCODER || m->model->arch.labels == 1) return CPL_OK;
    spec->label = w->score_labels[spec->model];
    if (spec->label >= 0) return CPL_OK;
    return cpl_fail(err, CPL_PRECONDITION,
                    "model '%s' has %u labels and none is chosen to be the score: set model.score_label", m->name,
                    m->model->arch.labels);
}

static const char *activation_of(const cpl_model *m, bool raw)
{
    if (m->task == CPL_TASK_EMBEDDER) return "cosine";
    return !raw && m->activation == CPL_SCORE_SIGMOID ? "sigmoid" : "identity";
}

static void done(cpl_task *task, void *user)
{
    (void)task;
    cpl_infer_op *op = user;
    cpl_loop_post(op->home->loop, &op->post);
}

static cpl_status start(cpl_infer_op *op, cpl_call *call, const uint8_t *data, size_t n, cpl_wire *w, cpl_error *err)
{
    cpl_task_spec spec = {.op = CPL_OP_SCORE, .deadline_ns = cpl_call_deadline_ns(call), .done = done, .user = op};
    bool raw;
    cpl_status st = cpl_infer_decode(&op->list, data, n, &w->options.limits, err);
    if (!st) st = wants_raw(&raw, call, err);
    if (!st) st = find_model(&spec.model, call, w, err);
    if (st) return st;
    const cpl_engine_model *m = cpl_engine_model_at(w->options.engine, spec.model);
    st = choose_label(&spec, w, m, err);
    if (!st) st = flow_of(&spec.flow, call, w, err);
    if (st) return st;
    spec.pairs = op->list.pairs;
    spec.n = op->list.count;
    spec.form = raw ? CPL_SCORE_RAW : CPL_SCORE_DEFAULT;
    op->activation = activation_of(m->model, raw);
    op->call = call;
    *cpl_call_user(call) = op;
    return cpl_engine_submit(w->options.engine, op->task, &spec, op->home->scratch, err);
}

void cpl_infer_message(cpl_call *call, const uint8_t *data, size_t n, void *wire)
{
    cpl_error err = {0};
    cpl_infer_op *op = take_op(cpl_wire_loop_of(call), &err);
    cpl_status st = op ? start(op, call, data, n, wire, &err) : err.status;
    if (!st) return;
    *cpl_call_user(call) = NULL;
    if (op) give_op(op);
    cpl_wire_fail(call, &err);
}

void cpl_infer_cancelled(cpl_call *call, void *wire)
{
    cpl_wire *w = wire;
    cpl_infer_op *op = *cpl_call_user(call);
    if (!op) {
        cpl_call_release(call);
        return;
    }
    op->cancelled = true;
    cpl_engine_cancel(w->options.engine, op->task);
}

/* ---- the reply ---- */

static void reply(cpl_infer_op *op, const cpl_task_result *r)
{
    cpl_wire_loop *l = op->home;
    uint64_t now_ns = cpl_clock_ns(), received_ns = cpl_call_received_ns(op->call);
    uint64_t latency_ns = now_ns > received_ns ? now_ns - received_ns : 0;
    Inference__InferResponse m = INFERENCE__INFER_RESPONSE__INIT;
    m.n_scores = r->n;
    m.scores = (float *)r->rows; /* only read */
    m.num_pairs = (int32_t)r->n;
    m.latency_ms = (float)((double)latency_ns / 1e6);
    m.status_code = 200;
    cpl_buf_clear(&l->out);
    size_t size = inference__infer_response__get_packed_size(&m);
    if (cpl_buf_reserve(&l->out, size)) l->out.size = inference__infer_response__pack(&m, (uint8_t *)l->out.data);
    cpl_window_add(l->window, now_ns, latency_ns, r->n);
    cpl_call_header(op->call, "x-score-activation", op->activation);
    cpl_wire_reply(op->call, &l->out);
}

static void finished(cpl_post *post)
{
    cpl_infer_op *op = (cpl_infer_op *)((char *)post - offsetof(cpl_infer_op, post));
    const cpl_task_result *r = cpl_task_get(op->task);
    if (op->cancelled)
        cpl_call_release(op->call);
    else if (r->status == CPL_OK)
        reply(op, r);
    else
        cpl_wire_fail(op->call, &r->error);
    give_op(op);
}
