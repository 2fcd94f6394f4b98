/* SPDX-License-Identifier: Apache-2.0 */
/* op_trace.c - what a request's headers ask for besides its answer: stage times, and a place in a trace.
 * The one idea: nothing is done for a request that wants nothing but looking its two headers up. Stage times are those
 * of a wall clock between moments that follow each other, so they add up to the whole; they go into headers over plain
 * HTTP and into trailers over gRPC. Threads: the call's network thread. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/random.h"
#include "wire/op.h"

static void new_id(cpl_wire_loop *l, uint8_t *out, size_t n)
{
    for (size_t at = 0; at < n; at += 8) {
        uint64_t v = cpl_random_next(&l->dice) | 1; /* never all 0 */
        memcpy(out + at, &v, 8);
    }
}

void cpl_wire_op_trace_begin(cpl_wire_op *op, const cpl_call *call)
{
    cpl_wire_loop *l = op->home;
    const cpl_wire_options *o = &l->wire->options;
    cpl_text asked = cpl_call_metadata(call, "x-couplet-timing"), parent = cpl_call_metadata(call, "traceparent");
    op->submitted_ns = cpl_clock_ns();
    op->timed =
        o->timing == CPL_TIMING_ALWAYS || (o->timing == CPL_TIMING_ASKED && asked.size == 1 && *asked.data == '1');
    op->answers_trace = parent.data && cpl_trace_context_parse(&op->trace, parent);
    op->recorded = false;
    memset(op->parent, 0, sizeof op->parent);
    if (op->answers_trace) {
        memcpy(op->parent, op->trace.span, sizeof op->parent);
        op->recorded = o->otlp && op->trace.flags & 1;
    } else if (o->otlp && (double)(cpl_random_next(&l->dice) >> 11) * 0x1p-53 < o->sample) {
        op->recorded = true;
        op->trace.flags = 1;
        new_id(l, op->trace.trace, sizeof op->trace.trace);
    }
    if (op->answers_trace || op->recorded) new_id(l, op->trace.span, sizeof op->trace.span);
}

static uint64_t between(uint64_t from, uint64_t to) { return to > from ? to - from : 0; }

static void measure(const cpl_wire_op *op, const cpl_task_result *r, cpl_trace_times *t)
{
    uint64_t now = cpl_clock_ns(), queued = r->queued_at_ns ? r->queued_at_ns : now;
    *t = (cpl_trace_times){.began_ns = cpl_call_received_ns(op->call)};
    t->ns[CPL_TRACE_READ] = between(t->began_ns, op->submitted_ns);
    t->ns[CPL_TRACE_TOKENIZE] = between(op->submitted_ns, queued);
    t->ns[CPL_TRACE_QUEUE] = r->status && !r->passes ? between(queued, now) : r->queue_ns;
    t->ns[CPL_TRACE_COMPUTE] = r->compute_ns;
    t->ns[CPL_TRACE_REPLY] = between(queued + t->ns[CPL_TRACE_QUEUE] + r->compute_ns, now);
}

static void record(const cpl_wire_op *op, const cpl_task_result *r, const cpl_trace_times *t)
{
    cpl_otlp_record o = {.context = op->trace,
                         .times = *t,
                         .method = cpl_call_path(op->call),
                         .items = (uint32_t)op->items,
                         .tokens = r->tokens,
                         .passes = r->passes,
                         .grpc_status = (int)cpl_grpc_code_of(r->status)};
    memcpy(o.parent, op->parent, sizeof o.parent);
    snprintf(o.model, sizeof o.model, "%s", cpl_wire_op_model(op)->name);
    if (r->status) snprintf(o.error, sizeof o.error, "%.95s", r->error.what);
    cpl_otlp_record_add(op->home->wire->options.otlp, &o);
}

static void put(cpl_call *call, const char *name, const char *value)
{
    if (cpl_call_is_plain(call))
        cpl_call_header(call, name, value);
    else
        cpl_call_trailer(call, name, value);
}

void cpl_wire_op_trace_end(const cpl_wire_op *op, const cpl_task_result *r)
{
    cpl_trace_times times;
    char text[CPL_TRACE_TIMES_CAP];
    if (op->answers_trace && !op->cancelled) {
        cpl_trace_context_print(&op->trace, text);
        put(op->call, "traceresponse", text);
    }
    if (!op->timed && !op->recorded) return;
    measure(op, r, &times);
    if (op->recorded) record(op, r, &times);
    if (!op->timed || op->cancelled) return;
    cpl_trace_times_print(&times, text);
    put(op->call, "server-timing", text);
    snprintf(text, sizeof text, "%llu", (unsigned long long)r->tokens);
    put(op->call, "x-couplet-tokens", text);
    snprintf(text, sizeof text, "%llu", (unsigned long long)r->passes);
    put(op->call, "x-couplet-passes", text);
}
