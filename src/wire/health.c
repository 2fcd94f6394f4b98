/* SPDX-License-Identifier: Apache-2.0 */
/* health.c - grpc.health.v1: Check, List, Watch. One state for all services: they live and drain together.
 * The one idea: Watch is a stream that stays in its thread's list and is told when the state changes; during a drain it
 * gets its NOT_SERVING and ends, so it never holds the drain up. Not serving is also a server whose every model has
 * lost its device; one that still has a model serves. An unknown service: Check says NOT_FOUND, Watch
 * SERVICE_UNKNOWN, as the protocol asks. Threads: each call's own network thread; the state is atomic. */
#include "base/error.h"
#include "base/utf8.h"
#include "wire/pb.h"
#include "wire/wire_state.h"

enum { SERVING = 1, NOT_SERVING = 2, SERVICE_UNKNOWN = 3 };

static const char *const services[] = {"", "inference.InferenceService", "couplet.v1.Stats"};
enum { SERVICES = sizeof services / sizeof *services };

static int state_of(const cpl_wire *w)
{
    char why[64];
    if (!atomic_load(&w->serving)) return NOT_SERVING;
    return cpl_engine_alive(w->options.engine, why, sizeof why) ? SERVING : NOT_SERVING;
}

/* HealthCheckRequest{1: service}. */
static cpl_status read_service(cpl_text *out, bool *known, const uint8_t *data, size_t n, cpl_error *err)
{
    cpl_pb_reader r = cpl_pb_read(data, n);
    cpl_pb_field field;
    bool ok;
    *out = (cpl_text){"", 0};
    while (cpl_pb_next(&r, &field, &ok))
        if (field.number == 1 && field.type == CPL_PB_BYTES) *out = field.bytes;
    if (!ok) return cpl_fail(err, CPL_INVALID, "the message is truncated or no protobuf message");
    if (cpl_utf8_valid_prefix(out->data, out->size) < out->size)
        return cpl_fail(err, CPL_INVALID, "the service's name is not valid UTF-8");
    *known = false;
    for (int i = 0; i < SERVICES; i++)
        if (strlen(services[i]) == out->size && !memcmp(services[i], out->data, out->size)) *known = true;
    return CPL_OK;
}

void cpl_health_check_message(cpl_call *call, const uint8_t *data, size_t n, void *wire)
{
    cpl_wire_loop *l = cpl_wire_loop_of(call);
    cpl_error err = {0};
    cpl_text service;
    bool known;
    cpl_status st = read_service(&service, &known, data, n, &err);
    if (!st && !known)
        st = cpl_fail(&err, CPL_NOT_FOUND, "unknown service '%.*s'", service.size < 200 ? (int)service.size : 200,
                      service.data);
    if (st) {
        cpl_wire_fail(call, &err);
        return;
    }
    cpl_buf_clear(&l->out);
    cpl_pb_put_varint(&l->out, 1, (uint64_t)state_of(wire));
    cpl_wire_reply(call, &l->out);
}

void cpl_health_list_message(cpl_call *call, const uint8_t *data, size_t n, void *wire)
{
    (void)data, (void)n;
    cpl_wire_loop *l = cpl_wire_loop_of(call);
    cpl_buf status = {0}, entry = {0};
    cpl_pb_put_varint(&status, 1, (uint64_t)state_of(wire));
    cpl_buf_clear(&l->out);
    for (int i = 0; i < SERVICES; i++) {
        cpl_buf_clear(&entry);
        cpl_pb_put_text(&entry, 1, services[i]);
        cpl_pb_put_bytes(&entry, 2, status.data, status.size);
        cpl_pb_put_bytes(&l->out, 1, entry.data, entry.size);
    }
    l->out.failed |= status.failed || entry.failed;
    cpl_buf_deinit(&status);
    cpl_buf_deinit(&entry);
    cpl_wire_reply(call, &l->out);
}

static void tell_watcher(cpl_wire_stream *s)
{
    cpl_wire *w = s->home->wire;
    cpl_buf *out = &s->home->out;
    int state = s->known ? state_of(w) : SERVICE_UNKNOWN;
    if (state != s->last) {
        s->last = state;
        cpl_buf_clear(out);
        cpl_pb_put_varint(out, 1, (uint64_t)state);
        if (out->failed || cpl_call_send(s->call, out->data, out->size)) { /* it would believe the state before */
            cpl_wire_stream_end(s, CPL_GRPC_RESOURCE_EXHAUSTED, "out of memory");
            return;
        }
    }
    if (atomic_load(&w->draining)) cpl_wire_stream_end(s, CPL_GRPC_UNAVAILABLE, "the server is shutting down");
}

void cpl_health_watch_message(cpl_call *call, const uint8_t *data, size_t n, void *wire)
{
    (void)wire;
    cpl_error err = {0};
    cpl_text service;
    bool known;
    if (read_service(&service, &known, data, n, &err)) {
        cpl_wire_fail(call, &err);
        return;
    }
    cpl_wire_stream *s = cpl_wire_stream_open(call, tell_watcher);
    if (!s) return;
    s->known = known;
    tell_watcher(s);
}
