/* SPDX-License-Identifier: Apache-2.0 */
/* op.h - a request that has work in the engine, whatever dialect it came in: from the network thread's pool, to `done`,
 * and back. For the wire floor's own files. */
#ifndef CPL_WIRE_OP_H
#define CPL_WIRE_OP_H

#include "base/json.h"
#include "wire/wire_state.h"

struct cpl_wire_op {
    cpl_post post;
    cpl_wire_op *next;
    size_t bytes; /* in the pool: what it holds */
    cpl_wire_loop *home;
    cpl_task *task;
    cpl_call *call;
    /* The dialect's, set before submitting. reply and fail end the call. */
    void (*reply)(cpl_wire_op *op, const cpl_task_result *r);
    void (*fail)(cpl_call *call, const cpl_error *err);
    cpl_pair_list list;
    cpl_text *texts; /* of a request that isn't pairs; room for texts_cap */
    size_t texts_count, texts_cap;
    const char *activation; /* form of the scores, for the reply's header */
    json_t *body;           /* owns the texts of a JSON request */
    cpl_score_activation squash;
    uint32_t dimensions; /* of a vector, to reply; 0: all */
    bool return_text, normalize;
    bool cancelled;
    /* Stage times and traces. */
    bool timed, answers_trace, recorded;
    uint64_t submitted_ns;
    size_t items;
    cpl_trace_context trace; /* span: the one that is this request's */
    uint8_t parent[8];
    bool holds; /* the model number `model`, from cpl_wire_op_hold until the op is given back */
    uint32_t model;
};

/* From the pool, or new; NULL: no memory. */
cpl_wire_op *cpl_wire_op_take(cpl_wire_loop *l, cpl_error *err);
/* Unused again: never submitted, or refused. */
void cpl_wire_op_give(cpl_wire_op *op);
/* The model called `name` ("": the only one), there as long as the op is. */
cpl_status cpl_wire_op_hold(cpl_wire_op *op, const char *name, size_t name_size, cpl_error *err);
const cpl_engine_model *cpl_wire_op_model(const cpl_wire_op *op);
/* Fills what every dialect does alike (model, flow, deadline, done) and submits. On failure the op is still the
 * caller's. */
cpl_status cpl_wire_op_submit(cpl_wire_op *op, cpl_call *call, cpl_task_spec *spec, cpl_error *err);
/* A method's `cancelled`, for calls whose user pointer is their op. */
void cpl_wire_op_cancelled(cpl_call *call, void *wire);

/* op_trace.c: at its submit, and when its result is there, before the reply begins. */
void cpl_wire_op_trace_begin(cpl_wire_op *op, const cpl_call *call);
void cpl_wire_op_trace_end(const cpl_wire_op *op, const cpl_task_result *r);
/* The server only tokenizes: the result has no rows, and the reply must say so. */
bool cpl_wire_op_tokenized(const cpl_wire_op *op);
/* Which label of a cross-encoder is its score; CPL_PRECONDITION where nobody said. */
cpl_status cpl_wire_choose_label(cpl_task_spec *spec, const cpl_wire_op *op, cpl_error *err);
/* Request to reply, for the latency window; and the header that names the scores' form. */
uint64_t cpl_wire_op_latency_ns(cpl_wire_op *op, size_t pairs);

#endif
