/* SPDX-License-Identifier: Apache-2.0 */
/* op.c - operations: what every dialect does alike between a request's bytes and its reply.
 * The one idea: an operation (task, arrays, post) comes out of its network thread's pool and goes back there, so a warm
 * request allocates nothing here; the pool keeps FREE_BYTES_MAX, so a burst of large requests leaves no more behind.
 * Texts stay in the message, which the call keeps until it ends, or in the JSON tree, which the operation keeps.
 * Threads: all on the call's network thread but `done`, which a worker calls and which only posts.
 * Invariant: an operation with its task submitted is never in the pool; a cancelled one waits for `done`, because the
 * engine may still be reading its texts, and only then releases the call. */
#include "wire/op.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"

enum { FREE_BYTES_MAX = 32 << 20, ITEMS_RETAINED_MAX = 4096 };

cpl_wire_op *cpl_wire_op_next(cpl_wire_op *op) { return op->next; }

void cpl_wire_op_close(cpl_wire_op *op)
{
    if (!op) return;
    cpl_task_close(op->task);
    cpl_pair_list_deinit(&op->list);
    free(op->texts);
    json_decref(op->body);
    free(op);
}

bool cpl_wire_op_tokenized(const cpl_wire_op *op) { return op->home->wire->options.mode == CPL_MODE_TOKENIZE; }

static void reply(cpl_wire_op *op, const cpl_task_result *r)
{
    cpl_wire_mode mode = op->home->wire->options.mode;
    if (mode != CPL_MODE_FULL) cpl_call_header(op->call, "x-couplet-mode", cpl_wire_mode_name(mode));
    op->reply(op, r);
}

static void finished(cpl_post *post)
{
    cpl_wire_op *op = (cpl_wire_op *)((char *)post - offsetof(cpl_wire_op, post));
    const cpl_task_result *r = cpl_task_get(op->task);
    cpl_wire_op_trace_end(op, r);
    if (op->cancelled)
        cpl_call_release(op->call);
    else if (r->status == CPL_OK)
        reply(op, r);
    else
        op->fail(op->call, &r->error);
    cpl_wire_op_give(op);
}

cpl_wire_op *cpl_wire_op_take(cpl_wire_loop *l, cpl_error *err)
{
    cpl_wire_op *op = l->free_ops;
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

void cpl_wire_op_give(cpl_wire_op *op)
{
    cpl_wire_loop *l = op->home;
    op->call = NULL;
    op->cancelled = false;
    if (op->holds) cpl_engine_model_release(l->wire->options.engine, op->model);
    op->holds = false;
    json_decref(op->body);
    op->body = NULL;
    if (op->list.cap > ITEMS_RETAINED_MAX) cpl_pair_list_deinit(&op->list);
    if (op->texts_cap > ITEMS_RETAINED_MAX) {
        free(op->texts);
        op->texts = NULL;
        op->texts_cap = 0;
    }
    op->bytes = sizeof *op + cpl_task_rest(op->task) + op->list.cap * sizeof *op->list.pairs +
                op->texts_cap * sizeof *op->texts;
    if (l->free_bytes + op->bytes > FREE_BYTES_MAX) {
        cpl_wire_op_close(op);
        return;
    }
    op->next = l->free_ops;
    l->free_ops = op;
    l->free_bytes += op->bytes;
}

cpl_status cpl_wire_op_hold(cpl_wire_op *op, const char *name, size_t name_size, cpl_error *err)
{
    CPL_ASSERT(!op->holds);
    cpl_status st = cpl_engine_model_hold(op->home->wire->options.engine, name, name_size, &op->model, err);
    op->holds = !st;
    return st;
}

const cpl_engine_model *cpl_wire_op_model(const cpl_wire_op *op)
{
    CPL_ASSERT(op->holds);
    return cpl_engine_model_at(op->home->wire->options.engine, op->model);
}

static void close_flow(void *flow) { cpl_flow_close(flow); }

static cpl_status flow_of(cpl_flow **out, cpl_call *call, cpl_engine *engine, cpl_error *err)
{
    void **slot = cpl_call_connection_user(call, close_flow);
    if (!*slot) {
        cpl_flow *flow = NULL;
        cpl_status st = cpl_flow_open(&flow, engine, err);
        if (st) return st;
        *slot = flow;
    }
    *out = *slot;
    return CPL_OK;
}

static void done(cpl_task *task, void *user)
{
    (void)task;
    cpl_wire_op *op = user;
    cpl_loop_post(op->home->loop, &op->post);
}

cpl_status cpl_wire_op_submit(cpl_wire_op *op, cpl_call *call, cpl_task_spec *spec, cpl_error *err)
{
    cpl_engine *engine = op->home->wire->options.engine;
    cpl_status st = flow_of(&spec->flow, call, engine, err);
    if (st) return st;
    spec->model = op->model;
    spec->tokenize_only = cpl_wire_op_tokenized(op);
    spec->deadline_ns = cpl_call_deadline_ns(call);
    spec->done = done;
    spec->user = op;
    op->items = spec->n;
    cpl_wire_op_trace_begin(op, call);
    op->call = call;
    *cpl_call_user(call) = op;
    st = cpl_engine_submit(engine, op->task, spec, op->home->scratch, err);
    if (st) *cpl_call_user(call) = NULL;
    return st;
}

void cpl_wire_op_cancelled(cpl_call *call, void *wire)
{
    cpl_wire *w = wire;
    cpl_wire_op *op = *cpl_call_user(call);
    if (!op) {
        cpl_call_release(call);
        return;
    }
    op->cancelled = true;
    cpl_engine_cancel(w->options.engine, op->task);
}

cpl_status cpl_wire_choose_label(cpl_task_spec *spec, const cpl_wire_op *op, cpl_error *err)
{
    const cpl_engine_model *m = cpl_wire_op_model(op);
    spec->label = 0;
    if (m->model->task != CPL_TASK_CROSS_ENCODER || m->model->arch.labels == 1) return CPL_OK;
    spec->label = m->score_label;
    if (spec->label >= 0) return CPL_OK;
    return cpl_fail(err, CPL_PRECONDITION,
                    "model '%s' has %u labels and none is chosen to be the score: set model.score_label", m->name,
                    m->model->arch.labels);
}

uint64_t cpl_wire_op_latency_ns(cpl_wire_op *op, size_t pairs)
{
    uint64_t now_ns = cpl_clock_ns(), received_ns = cpl_call_received_ns(op->call);
    uint64_t latency_ns = now_ns > received_ns ? now_ns - received_ns : 0;
    cpl_window_add(op->home->window, now_ns, latency_ns, pairs);
    return latency_ns;
}
