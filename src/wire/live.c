/* SPDX-License-Identifier: Apache-2.0 */
/* live.c - the page at "/" and what feeds it: server-sent events at /live, one a second.
 * The one idea: an event is running totals, coarse histograms among them, and the page takes differences; so a page
 * that misses an event loses nothing, and the server keeps nothing for whoever looks. One snapshot a second and network
 * thread serves all that look, and none is taken while nobody does.
 * Threads: each stream on its call's network thread, whose timer it is. */
#include <stdlib.h>

#include "backend/precision.h"
#include "base/clock.h"
#include "base/json.h"
#include "wire/wire_state.h"

static const uint64_t EVERY_NS = 1000000000;

extern const unsigned char cpl_live_html[];
extern const size_t cpl_live_html_size;

void cpl_live_page(cpl_call *call, const uint8_t *data, size_t n, void *wire)
{
    (void)data, (void)n, (void)wire;
    cpl_call_header(call, "cache-control", "no-cache");
    cpl_call_respond(call, 200, "text/html; charset=utf-8", cpl_live_html, cpl_live_html_size);
}

/* ---- an event ------------------------------------------------------------------------------------------------- */

static void put_models(cpl_json_writer *w, const cpl_wire_models *models)
{
    cpl_json_open(w, "models", '[');
    for (uint32_t i = 0; i < models->count; i++) {
        const cpl_engine_model *m = models->at[i];
        const cpl_engine_model_stats *s = &models->stats[i];
        cpl_json_open(w, NULL, '{');
        cpl_json_text(w, "name", m->name);
        cpl_json_int(w, "replica", m->replica);
        cpl_json_int(w, "replicas", m->replicas);
        cpl_json_text(w, "note", m->model->note);
        cpl_json_text(w, "backend", m->backend);
        cpl_json_text(w, "asked", cpl_precision_name(m->requested));
        cpl_json_text(w, "precision", cpl_precision_name(m->effective));
        cpl_json_text(w, "reason", m->reason);
        cpl_json_text(w, "kernels", *m->kernels ? m->kernels : m->isa);
        cpl_json_int(w, "weight_bytes", (int64_t)m->weight_bytes);
        cpl_json_int(w, "workers", m->workers);
        cpl_json_int(w, "batch_tokens", m->batch_tokens);
        cpl_json_int(w, "done", (int64_t)s->tasks_done);
        cpl_json_int(w, "sequences", (int64_t)s->sequences);
        cpl_json_int(w, "tokens", (int64_t)s->tokens);
        cpl_json_int(w, "padding_tokens", (int64_t)s->padding_tokens);
        cpl_json_int(w, "busy_ns", (int64_t)s->busy_ns);
        cpl_json_int(w, "queued_requests", (int64_t)s->queued_requests);
        cpl_json_close(w, '}');
    }
    cpl_json_close(w, ']');
}

/* How many values were at most 1, 2, 4, ... `top`. */
static void put_doublings(cpl_json_writer *w, const char *key, const cpl_histogram *h, uint64_t top)
{
    uint64_t below = 0;
    uint32_t next = 0;
    cpl_json_open(w, key, '[');
    for (uint64_t edge = 1; edge <= top; edge *= 2) {
        for (; next <= cpl_histogram_bucket(edge); next++) below += h->buckets[next];
        cpl_json_int(w, NULL, (int64_t)below);
    }
    cpl_json_close(w, ']');
}

static void put_totals(cpl_json_writer *w, const cpl_engine_stats *s)
{
    const struct {
        const char *key;
        uint64_t value;
    } rows[] = {{"done", s->tasks_done},
                {"failed", s->tasks_failed},
                {"cancelled", s->tasks_cancelled},
                {"expired", s->tasks_expired},
                {"refused", s->tasks_refused},
                {"sequences", s->sequences},
                {"tokens", s->tokens},
                {"padding_tokens", s->padding_tokens},
                {"passes", s->passes},
                {"busy_ns", s->busy_ns},
                {"queued_tokens", s->queued_tokens},
                {"queued_requests", s->queued_requests},
                {"in_flight", s->in_flight_tasks},
                {"queue_ns", s->queue_ns.sum},
                {"compute_ns", s->compute_ns.sum},
                {"tokenize_ns", s->tokenize_ns.sum}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) cpl_json_int(w, rows[i].key, (int64_t)rows[i].value);
    put_doublings(w, "pass_sequences", &s->pass_sequences, 1024);
    put_doublings(w, "pass_tokens", &s->pass_tokens, 65536);
}

/* False when memory is out. */
static bool write_event(cpl_buf *out, cpl_wire *w)
{
    static const double quantiles[] = {0.5, 0.95, 0.99};
    cpl_wire_totals *b = cpl_wire_totals_take(w);
    if (!b) return false;
    cpl_json_writer j = {.out = out};
    cpl_buf_clear(out);
    cpl_buf_text(out, "data: ");
    cpl_json_open(&j, NULL, '{');
    cpl_json_text(&j, "version", COUPLET_VERSION);
    cpl_json_int(&j, "at_ns", (int64_t)cpl_clock_ns());
    cpl_json_bool(&j, "serving", atomic_load(&w->serving));
    cpl_json_text(&j, "mode", cpl_wire_mode_name(w->options.mode));
    cpl_json_int(&j, "workers", cpl_engine_worker_count(w->options.engine));
    put_models(&j, &b->models);
    put_totals(&j, &b->engine);
    cpl_json_int(&j, "pairs", (int64_t)b->window.pairs);
    cpl_json_open(&j, "recent_ms", '[');
    for (size_t i = 0; i < sizeof quantiles / sizeof quantiles[0]; i++)
        cpl_json_float(&j, NULL, (double)cpl_histogram_at(&b->window.latency_ns, quantiles[i]) / 1e6);
    cpl_json_close(&j, ']');
    cpl_json_int(&j, "rss_bytes", (int64_t)cpl_wire_resident_bytes());
    cpl_json_int(&j, "cpu_ns", (int64_t)cpl_clock_process_cpu_ns());
    cpl_json_close(&j, '}');
    cpl_buf_text(out, "\n\n");
    cpl_wire_totals_let_go(b);
    return !out->failed;
}

/* ---- streams -------------------------------------------------------------------------------------------------- */

static void told(cpl_wire_stream *s)
{
    if (atomic_load(&s->home->wire->draining)) cpl_wire_stream_end(s, CPL_GRPC_OK, NULL);
}

static void start_timer(cpl_wire_loop *l)
{
    if (l->live.place) return;
    l->live.when_ns = cpl_clock_ns() + EVERY_NS;
    cpl_loop_timer_start(l->loop, &l->live);
}

void cpl_live_tick(cpl_deadline *timer)
{
    cpl_wire_loop *l = (cpl_wire_loop *)((char *)timer - offsetof(cpl_wire_loop, live));
    bool watched = false;
    for (cpl_wire_stream *s = l->streams; s && !watched; s = s->next) watched = s->told == told;
    if (!watched) return; /* whoever comes next starts it again */
    start_timer(l);
    if (!write_event(&l->out, l->wire)) return;
    for (cpl_wire_stream *s = l->streams, *next; s; s = next) {
        next = s->next; /* a client that doesn't read may be gone after this */
        if (s->told == told) cpl_call_write(s->call, l->out.data, l->out.size);
    }
}

void cpl_live_events(cpl_call *call, const uint8_t *data, size_t n, void *wire)
{
    (void)data, (void)n;
    cpl_wire_loop *l = cpl_wire_loop_of(call);
    cpl_wire_stream *s = cpl_wire_stream_open(call, told);
    if (!s) return;
    cpl_call_header(call, "cache-control", "no-store");
    cpl_call_stream(call, "text/event-stream");
    start_timer(l);
    if (write_event(&l->out, wire)) cpl_call_write(call, l->out.data, l->out.size);
}
