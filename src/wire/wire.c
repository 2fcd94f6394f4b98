/* SPDX-License-Identifier: Apache-2.0 */
/* wire.c - the dialects' common ground: the method table, what each network thread keeps, streams, health changes.
 * The one idea: everything a request touches belongs to its network thread (tokenizer scratch, task pool, reply buffer,
 * latency window), so a request takes no lock of ours but the uncontended one of its window.
 * Invariant: `loops` changes only under `lock`, in the two hooks; streams are touched by their own thread, which other
 * threads reach through the `told` post. Threads: as said in wire.h. */
#include "wire/wire.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/system.h"
#include "wire/op.h"

const char *cpl_wire_mode_name(cpl_wire_mode mode)
{
    static const char *const names[] = {"full", "tokenize", "inference"};
    return names[mode];
}

static void fill_methods(cpl_wire *w)
{
    cpl_method methods[CPL_WIRE_METHODS] = {
        {.path = "/inference.InferenceService/Infer", .message = cpl_infer_message, .cancelled = cpl_wire_op_cancelled},
        {.path = "/inference.InferenceService/GetMetrics", .message = cpl_metrics_message},
        {.path = "/couplet.v1.Stats/Get", .message = cpl_stats_message},
        {.path = "/couplet.v1.Models/Load", .message = cpl_admin_load, .cancelled = cpl_admin_cancelled},
        {.path = "/couplet.v1.Models/Unload", .message = cpl_admin_unload, .cancelled = cpl_admin_cancelled},
        {.path = "/grpc.health.v1.Health/Check", .message = cpl_health_check_message},
        {.path = "/grpc.health.v1.Health/List", .message = cpl_health_list_message},
        {.path = "/grpc.health.v1.Health/Watch",
         .message = cpl_health_watch_message,
         .cancelled = cpl_stream_cancelled},
        {.path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
         .streams_in = 1,
         .message = cpl_reflection_message,
         .half_closed = cpl_reflection_half_closed,
         .cancelled = cpl_stream_cancelled},
        {.path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
         .streams_in = 1,
         .message = cpl_reflection_message,
         .half_closed = cpl_reflection_half_closed,
         .cancelled = cpl_stream_cancelled},
        {.path = "/rerank",
         .verb = CPL_VERB_POST,
         .message = cpl_tei_rerank,
         .cancelled = cpl_wire_op_cancelled,
         .error_body = cpl_tei_error_body},
        {.path = "/embed",
         .verb = CPL_VERB_POST,
         .message = cpl_tei_embed,
         .cancelled = cpl_wire_op_cancelled,
         .error_body = cpl_tei_error_body},
        {.path = "/health", .verb = CPL_VERB_GET, .message = cpl_tei_health, .error_body = cpl_tei_error_body},
        {.path = "/info", .verb = CPL_VERB_GET, .message = cpl_tei_info, .error_body = cpl_tei_error_body},
        {.path = "/", .verb = CPL_VERB_GET, .message = cpl_live_page},
        {.path = "/live", .verb = CPL_VERB_GET, .message = cpl_live_events, .cancelled = cpl_stream_cancelled},
        {.path = "/metrics", .verb = CPL_VERB_GET, .message = cpl_prometheus_message},
        {.path = "/models/load",
         .verb = CPL_VERB_POST,
         .message = cpl_admin_load,
         .cancelled = cpl_admin_cancelled,
         .error_body = cpl_admin_error_body},
        {.path = "/models/unload",
         .verb = CPL_VERB_POST,
         .message = cpl_admin_unload,
         .cancelled = cpl_admin_cancelled,
         .error_body = cpl_admin_error_body},
        {.path = "/v2/repository/index",
         .verb = CPL_VERB_POST,
         .message = cpl_oip_index,
         .error_body = cpl_admin_error_body},
        {.path = "/v2/repository/models/*/load",
         .verb = CPL_VERB_POST,
         .message = cpl_oip_load,
         .cancelled = cpl_admin_cancelled,
         .error_body = cpl_admin_error_body},
        {.path = "/v2/repository/models/*/unload",
         .verb = CPL_VERB_POST,
         .message = cpl_oip_unload,
         .cancelled = cpl_admin_cancelled,
         .error_body = cpl_admin_error_body},
    };
    for (int i = 0; i < CPL_WIRE_METHODS; i++) {
        w->methods[i] = methods[i];
        w->methods[i].service = w;
    }
}

cpl_status cpl_wire_open(cpl_wire **out, const cpl_wire_options *options, cpl_error *err)
{
    *out = NULL;
    cpl_wire *w = calloc(1, sizeof *w);
    char *config = strdup(options->config ? options->config : "");
    if (!w || !config) {
        free(w);
        free(config);
        return cpl_fail_memory(err, sizeof *w);
    }
    w->options = *options;
    w->options.config = w->config = config;
    w->descriptors = cpl_descriptors_own();
    pthread_mutex_init(&w->lock, NULL);
    fill_methods(w);
    cpl_status st = cpl_wire_admin_open(w, err);
    if (st) {
        cpl_wire_close(w);
        return st;
    }
    *out = w;
    return CPL_OK;
}

void cpl_wire_close(cpl_wire *w)
{
    if (!w) return;
    CPL_ASSERT(!w->loops);
    cpl_wire_admin_close(w);
    pthread_mutex_destroy(&w->lock);
    free(w->config);
    free(w);
}

const cpl_method *cpl_wire_methods(const cpl_wire *w, size_t *count)
{
    *count = CPL_WIRE_METHODS;
    return w->methods;
}

/* ---- network threads ---- */

static void tell_streams(cpl_post *post)
{
    cpl_wire_loop *l = (cpl_wire_loop *)((char *)post - offsetof(cpl_wire_loop, told));
    atomic_store(&l->told_pending, false); /* before reading the state: a change from now on posts again */
    for (cpl_wire_stream *s = l->streams, *next; s; s = next) {
        next = s->next;
        s->told(s);
    }
}

static void free_loop(cpl_wire_loop *l)
{
    for (cpl_wire_op *op = l->free_ops, *next; op; op = next) {
        next = cpl_wire_op_next(op);
        cpl_wire_op_close(op);
    }
    cpl_tokenizer_scratch_close(l->scratch);
    cpl_window_close(l->window);
    cpl_buf_deinit(&l->out);
    free(l);
}

cpl_status cpl_wire_loop_started(cpl_loop *loop, void *wire, cpl_error *err)
{
    cpl_wire *w = wire;
    cpl_wire_loop *l = calloc(1, sizeof *l);
    if (!l) return cpl_fail_memory(err, sizeof *l);
    l->wire = w;
    l->loop = loop;
    l->told.run = tell_streams;
    l->live.expired = cpl_live_tick;
    if (!cpl_system_random(&l->dice, sizeof l->dice)) l->dice = cpl_clock_ns() ^ (uintptr_t)l;
    cpl_status st = cpl_tokenizer_scratch_open(&l->scratch, err);
    if (!st) st = cpl_window_open(&l->window, cpl_clock_ns(), err);
    if (st) {
        free_loop(l);
        return st;
    }
    *cpl_loop_user(loop) = l;
    pthread_mutex_lock(&w->lock);
    l->next = w->loops;
    w->loops = l;
    pthread_mutex_unlock(&w->lock);
    return CPL_OK;
}

void cpl_wire_loop_stopped(cpl_loop *loop, void *wire)
{
    cpl_wire *w = wire;
    cpl_wire_loop *l = *cpl_loop_user(loop);
    if (!l) return;
    pthread_mutex_lock(&w->lock);
    for (cpl_wire_loop **at = &w->loops; *at; at = &(*at)->next) {
        if (*at != l) continue;
        *at = l->next;
        break;
    }
    pthread_mutex_unlock(&w->lock);
    CPL_ASSERT(!l->streams);
    cpl_loop_timer_stop(loop, &l->live);
    *cpl_loop_user(loop) = NULL;
    free_loop(l);
}

cpl_wire_loop *cpl_wire_loop_of(const cpl_call *call) { return *cpl_loop_user(cpl_call_loop(call)); }

static void tell_loops(cpl_wire *w)
{
    pthread_mutex_lock(&w->lock);
    for (cpl_wire_loop *l = w->loops; l; l = l->next)
        if (!atomic_exchange(&l->told_pending, true)) cpl_loop_post(l->loop, &l->told);
    pthread_mutex_unlock(&w->lock);
}

void cpl_wire_set_serving(cpl_wire *w, bool serving)
{
    atomic_store(&w->serving, serving);
    tell_loops(w);
}

void cpl_wire_drain(cpl_wire *w)
{
    atomic_store(&w->draining, true);
    cpl_wire_set_serving(w, false);
}

/* ---- calls ---- */

cpl_wire_stream *cpl_wire_stream_open(cpl_call *call, void (*told)(cpl_wire_stream *s))
{
    cpl_wire_loop *l = cpl_wire_loop_of(call);
    cpl_wire_stream *s = calloc(1, sizeof *s);
    if (!s) {
        cpl_call_finish(call, CPL_GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return NULL;
    }
    *s = (cpl_wire_stream){.home = l, .next = l->streams, .link = &l->streams, .call = call, .told = told, .last = -1};
    if (s->next) s->next->link = &s->next;
    l->streams = s;
    *cpl_call_user(call) = s;
    return s;
}

void cpl_wire_stream_end(cpl_wire_stream *s, int code, const char *message)
{
    *s->link = s->next;
    if (s->next) s->next->link = s->link;
    if (code < 0)
        cpl_call_release(s->call);
    else
        cpl_call_finish(s->call, (cpl_grpc_code)code, message);
    free(s);
}

void cpl_stream_cancelled(cpl_call *call, void *wire)
{
    (void)wire;
    cpl_wire_stream *s = *cpl_call_user(call);
    if (s)
        cpl_wire_stream_end(s, -1, NULL);
    else
        cpl_call_release(call);
}

void cpl_wire_check_loss(cpl_call *call, cpl_status status)
{
    char why[64];
    cpl_wire_loop *l = cpl_wire_loop_of(call);
    if (!l || status != CPL_UNAVAILABLE) return;
    cpl_wire *w = l->wire;
    if (cpl_engine_alive(w->options.engine, why, sizeof why) || atomic_exchange(&w->loss_told, true)) return;
    tell_loops(w);
}

void cpl_wire_fail(cpl_call *call, const cpl_error *err)
{
    cpl_wire_check_loss(call, err->status);
    cpl_call_finish(call, cpl_grpc_code_of(err->status), err->what);
}

void cpl_wire_respond(cpl_call *call, int http_status, const char *content_type, const cpl_buf *body)
{
    if (body->failed)
        cpl_call_finish(call, CPL_GRPC_RESOURCE_EXHAUSTED, "out of memory while the reply was written");
    else
        cpl_call_respond(call, http_status, content_type, body->data ? body->data : "", body->size);
}

void cpl_wire_reply(cpl_call *call, const cpl_buf *out)
{
    bool sent = !out->failed && cpl_call_send(call, out->data ? out->data : "", out->size) == CPL_OK;
    if (sent)
        cpl_call_finish(call, CPL_GRPC_OK, NULL);
    else
        cpl_call_finish(call, CPL_GRPC_RESOURCE_EXHAUSTED, "out of memory while the reply was written");
}
