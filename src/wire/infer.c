/* SPDX-License-Identifier: Apache-2.0 */
/* infer.c - inference.InferenceService/Infer: from the request's bytes to a task, from its rows to the reply.
 * The one idea: only what this dialect does its own way stands here; operations are op.c's.
 * Threads: the call's network thread.
 *
 * The score's form is named in the reply's metadata `x-score-activation`: sigmoid, identity (logits) or cosine.
 * Request metadata: `x-raw-scores: 1` asks for logits, `model` picks a model by name. An unknown name is NOT_FOUND even
 * when one model is loaded: here nobody is forced to send a name, so one that is sent is meant. */
#include "base/error.h"
#include "proto/inference.pb-c.h"
#include "wire/op.h"

static cpl_status wants_raw(bool *raw, const cpl_call *call, cpl_error *err)
{
    cpl_text v = cpl_call_metadata(call, "x-raw-scores");
    *raw = v.size == 1 && *v.data == '1';
    if (*raw || v.size == 0 || (v.size == 1 && *v.data == '0')) return CPL_OK;
    return cpl_fail(err, CPL_INVALID, "metadata 'x-raw-scores' is '%.*s': give 1 or 0", v.size < 40 ? (int)v.size : 40,
                    v.data);
}

/* "ORG/NAME" also names the model NAME. */
static cpl_status find_model(cpl_wire_op *op, const cpl_call *call, cpl_error *err)
{
    cpl_text name = cpl_call_metadata(call, "model");
    cpl_status st = cpl_wire_op_hold(op, name.data, name.size, err);
    size_t at = name.size;
    while (at > 0 && name.data[at - 1] != '/') at--;
    if (st != CPL_NOT_FOUND || at == 0 || at == name.size) return st;
    return cpl_wire_op_hold(op, name.data + at, name.size - at, NULL) ? st : CPL_OK;
}

static const char *activation_of(const cpl_model *m, bool raw)
{
    if (m->task == CPL_TASK_EMBEDDER) return "cosine";
    return !raw && m->activation == CPL_SCORE_SIGMOID ? "sigmoid" : "identity";
}

static void reply(cpl_wire_op *op, const cpl_task_result *r)
{
    cpl_wire_loop *l = op->home;
    const bool scored = !cpl_wire_op_tokenized(op);
    Inference__InferResponse m = INFERENCE__INFER_RESPONSE__INIT;
    m.n_scores = r->n;
    m.scores = (float *)r->rows; /* only read */
    m.num_pairs = (int32_t)op->list.count;
    m.latency_ms = (float)((double)cpl_wire_op_latency_ns(op, op->list.count) / 1e6);
    m.status_code = scored ? 200 : 204; /* as the reference answers in its tokenize-only mode */
    cpl_buf_clear(&l->out);
    size_t size = inference__infer_response__get_packed_size(&m);
    if (cpl_buf_reserve(&l->out, size)) l->out.size = inference__infer_response__pack(&m, (uint8_t *)l->out.data);
    if (scored) cpl_call_header(op->call, "x-score-activation", op->activation);
    cpl_wire_reply(op->call, &l->out);
}

static cpl_status start(cpl_wire_op *op, cpl_call *call, const uint8_t *data, size_t n, cpl_wire *w, cpl_error *err)
{
    cpl_task_spec spec = {.op = CPL_OP_SCORE};
    bool raw;
    cpl_status st = cpl_infer_decode(&op->list, data, n, &w->options.limits, err);
    if (!st) st = wants_raw(&raw, call, err);
    if (!st) st = find_model(op, call, err);
    if (!st) st = cpl_wire_choose_label(&spec, op, err);
    if (st) return st;
    spec.pairs = op->list.pairs;
    spec.n = op->list.count;
    spec.form = raw ? CPL_SCORE_RAW : CPL_SCORE_DEFAULT;
    op->activation = activation_of(cpl_wire_op_model(op)->model, raw);
    op->reply = reply;
    op->fail = cpl_wire_fail;
    return cpl_wire_op_submit(op, call, &spec, err);
}

void cpl_infer_message(cpl_call *call, const uint8_t *data, size_t n, void *wire)
{
    cpl_error err = {0};
    cpl_wire_op *op = cpl_wire_op_take(cpl_wire_loop_of(call), &err);
    cpl_status st = op ? start(op, call, data, n, wire, &err) : err.status;
    if (!st) return;
    if (op) cpl_wire_op_give(op);
    cpl_wire_fail(call, &err);
}
