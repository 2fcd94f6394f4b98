/* SPDX-License-Identifier: Apache-2.0 */
/* admin.c - /models/load and /models/unload, couplet.v1.Models over gRPC: models that come and go while others are
 * served.
 * The one idea: loading takes seconds, so it has a thread of its own, which takes one request after the other; the
 * network thread only hands over and answers. Who may: clients on this machine, and no web page. A page in a browser
 * here can send requests to any address, but not one with content type application/json without asking first (which is
 * never granted), and not without an Origin; a proxy here makes strangers look local, but says that it forwards.
 * Threads: a job is the admin thread's from its queue to its post, else its call's network thread's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "wire/pb.h"
#include "wire/wire_state.h"

struct cpl_wire_job {
    cpl_post post;
    cpl_wire_job *next;
    cpl_call *call;
    cpl_wire *wire;
    bool unload, cancelled;
    cpl_text body; /* the call's, until it ends: JSON, or of gRPC the message's only field */
    cpl_buf own;   /* body's, where it isn't the call's */
    bool by_path;  /* `name` was given beside the body, and an empty object answers */
    char name[128];
    cpl_status status;
    cpl_error error;
};

/* ---- the thread ------------------------------------------------------------------------------------------------ */

static cpl_status unload_named(cpl_wire_job *j, const char *name, size_t n, cpl_error *err)
{
    snprintf(j->name, sizeof j->name, "%.*s", n < sizeof j->name ? (int)n : (int)sizeof j->name - 1, name);
    return cpl_engine_model_unload(j->wire->options.engine, name, n, err);
}

static cpl_status unload(cpl_wire_job *j, cpl_error *err)
{
    json_t *body = NULL;
    if (j->by_path) return cpl_engine_model_unload(j->wire->options.engine, j->name, strlen(j->name), err);
    if (!cpl_call_is_plain(j->call)) return unload_named(j, j->body.size ? j->body.data : "", j->body.size, err);
    cpl_status st = cpl_json_parse(&body, "request body", j->body.data, j->body.size, err);
    const json_t *name = json_object_get(body, "name");
    if (!st && !json_is_string(name))
        st = cpl_fail(err, CPL_INVALID, "'name' is missing: the model to unload");
    else if (!st)
        st = unload_named(j, json_string_value(name), json_string_length(name), err);
    json_decref(body);
    return st;
}

static cpl_status load(cpl_wire_job *j, cpl_error *err)
{
    const cpl_wire_options *o = &j->wire->options;
    const char *text = j->body.size ? j->body.data : "";
    return o->load_model(o->load_user, text, j->body.size, j->name, sizeof j->name, err);
}

static void run_jobs(void *wire)
{
    cpl_wire *w = wire;
    cpl_wire_admin *a = &w->admin;
    pthread_mutex_lock(&a->lock);
    for (;;) {
        cpl_wire_job *j = a->first;
        if (!j) {
            if (a->stopping) break;
            pthread_cond_wait(&a->wake, &a->lock);
            continue;
        }
        a->first = j->next;
        pthread_mutex_unlock(&a->lock);
        j->status = j->unload ? unload(j, &j->error) : load(j, &j->error);
        cpl_loop_post(cpl_call_loop(j->call), &j->post);
        pthread_mutex_lock(&a->lock);
    }
    pthread_mutex_unlock(&a->lock);
}

cpl_status cpl_wire_admin_open(cpl_wire *w, cpl_error *err)
{
    pthread_mutex_init(&w->admin.lock, NULL);
    pthread_cond_init(&w->admin.wake, NULL);
    return w->options.load_model ? cpl_thread_start(&w->admin.thread, "cpl-admin", -1, run_jobs, w, err) : CPL_OK;
}

void cpl_wire_admin_close(cpl_wire *w)
{
    pthread_mutex_lock(&w->admin.lock);
    w->admin.stopping = true;
    pthread_cond_broadcast(&w->admin.wake);
    pthread_mutex_unlock(&w->admin.lock);
    cpl_thread_join(&w->admin.thread);
    pthread_mutex_destroy(&w->admin.lock);
    pthread_cond_destroy(&w->admin.wake);
}

/* ---- calls ----------------------------------------------------------------------------------------------------- */

static void answer_done(const cpl_wire_job *j)
{
    static const char *const states[] = {"served", "unloaded"};
    cpl_buf *out = &cpl_wire_loop_of(j->call)->out;
    cpl_json_writer w = {.out = out};
    cpl_buf_clear(out);
    if (!cpl_call_is_plain(j->call)) {
        cpl_pb_put_text(out, 1, j->name);
        cpl_pb_put_text(out, 2, states[j->unload]);
        cpl_wire_reply(j->call, out);
        return;
    }
    cpl_json_open(&w, NULL, '{');
    if (!j->by_path) cpl_json_text(&w, "name", j->name);
    if (!j->by_path) cpl_json_text(&w, "state", states[j->unload]);
    cpl_json_close(&w, '}');
    cpl_wire_respond(j->call, 200, "application/json", out);
}

static void answer(cpl_post *post)
{
    cpl_wire_job *j = (cpl_wire_job *)((char *)post - offsetof(cpl_wire_job, post));
    *cpl_call_user(j->call) = NULL;
    if (j->cancelled)
        cpl_call_release(j->call);
    else if (j->status)
        cpl_call_finish(j->call, cpl_grpc_code_of(j->status), j->error.what);
    else
        answer_done(j);
    cpl_buf_deinit(&j->own);
    free(j);
}

/* NULL: may; else why not. */
static const char *refusal(const cpl_call *call, const cpl_wire *w)
{
    static const char json[] = "application/json";
    static const char *const signs[] = {"origin", "forwarded", "x-forwarded-for", "x-real-ip"};
    const cpl_text type = cpl_call_metadata(call, "content-type");
    if (!w->options.load_model) return "loading and unloading is switched off: server.admin";
    if (!cpl_call_is_local(call)) return "models are loaded and unloaded by clients on this machine only";
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++)
        if (cpl_call_metadata(call, signs[i]).data)
            return "models are loaded and unloaded by clients on this machine only, not by web pages or through "
                   "proxies";
    if (!cpl_call_is_plain(call)) return NULL; /* its content type is gRPC's, which no page sends unasked either */
    if (type.size < sizeof json - 1 || memcmp(type.data, json, sizeof json - 1) != 0)
        return "content-type must be application/json";
    return NULL;
}

/* Of gRPC: field 1 of the message. False: it is broken. */
static bool read_body(cpl_text *out, const cpl_call *call, const uint8_t *data, size_t n)
{
    *out = (cpl_text){(const char *)data, n};
    if (cpl_call_is_plain(call)) return true;
    cpl_pb_reader r = cpl_pb_read(data, n);
    cpl_pb_field field;
    bool ok;
    *out = (cpl_text){NULL, 0};
    while (cpl_pb_next(&r, &field, &ok))
        if (field.number == 1 && field.type == CPL_PB_BYTES) *out = field.bytes;
    return ok;
}

static void queue(cpl_wire_job *j)
{
    cpl_wire_admin *a = &j->wire->admin;
    *cpl_call_user(j->call) = j;
    pthread_mutex_lock(&a->lock);
    cpl_wire_job **at = &a->first;
    while (*at) at = &(*at)->next;
    *at = j;
    pthread_cond_signal(&a->wake);
    pthread_mutex_unlock(&a->lock);
}

void cpl_admin_named(cpl_call *call, cpl_wire *w, bool unloads, const char *name, cpl_buf *text)
{
    const char *why_not = refusal(call, w);
    cpl_wire_job *j = why_not || text->failed ? NULL : calloc(1, sizeof *j);
    if (!j) {
        cpl_call_finish(call, why_not ? CPL_GRPC_PERMISSION_DENIED : CPL_GRPC_RESOURCE_EXHAUSTED,
                        why_not ? why_not : "out of memory");
        cpl_buf_deinit(text);
        return;
    }
    *j = (cpl_wire_job){
        .post = {.run = answer}, .call = call, .wire = w, .unload = unloads, .own = *text, .by_path = true};
    j->body = (cpl_text){j->own.data, j->own.size};
    snprintf(j->name, sizeof j->name, "%s", name);
    queue(j);
}

static void begin(cpl_call *call, const uint8_t *data, size_t n, cpl_wire *w, bool unloads)
{
    cpl_text body;
    const char *why_not = refusal(call, w);
    if (why_not || !read_body(&body, call, data, n)) {
        cpl_call_finish(call, why_not ? CPL_GRPC_PERMISSION_DENIED : CPL_GRPC_INVALID_ARGUMENT,
                        why_not ? why_not : "the message can't be decoded");
        return;
    }
    cpl_wire_job *j = calloc(1, sizeof *j);
    if (!j) {
        cpl_call_finish(call, CPL_GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    *j = (cpl_wire_job){.post = {.run = answer}, .call = call, .wire = w, .unload = unloads, .body = body};
    queue(j);
}

void cpl_admin_load(cpl_call *call, const uint8_t *data, size_t n, void *wire) { begin(call, data, n, wire, false); }

void cpl_admin_unload(cpl_call *call, const uint8_t *data, size_t n, void *wire) { begin(call, data, n, wire, true); }

/* What was asked for is done all the same. */
void cpl_admin_cancelled(cpl_call *call, void *wire)
{
    (void)wire;
    cpl_wire_job *j = *cpl_call_user(call);
    if (j)
        j->cancelled = true;
    else
        cpl_call_release(call);
}

void cpl_admin_error_body(cpl_buf *out, int http_status, const char *message)
{
    cpl_json_writer w = {.out = out};
    (void)http_status;
    cpl_json_open(&w, NULL, '{');
    cpl_json_text(&w, "error", message);
    cpl_json_close(&w, '}');
}
