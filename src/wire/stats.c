/* SPDX-License-Identifier: Apache-2.0 */
/* stats.c - couplet.v1.Stats/Get: running totals of the engine and the process, for the experiment runner.
 * The one idea: totals since the start, histograms as their non-empty buckets, so that two reads give an interval
 * exactly. The totals are half a megabyte and are copied to the heap; nobody calls this in a hot loop.
 * Threads: the call's network thread. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "backend/precision.h"
#include "base/arena.h"
#include "base/clock.h"
#include "base/error.h"
#include "proto/stats.pb-c.h"
#include "wire/wire_state.h"

uint64_t cpl_wire_resident_bytes(void)
{
    unsigned long long pages = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f) return 0;
    int n = fscanf(f, "%llu %llu", &pages, &resident);
    fclose(f);
    return n == 2 ? resident * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static Couplet__V1__StatsHistogram *put_histogram(cpl_arena *a, const cpl_histogram *h)
{
    size_t used = 0;
    for (size_t i = 0; i < CPL_HISTOGRAM_BUCKETS; i++) used += h->buckets[i] != 0;
    Couplet__V1__StatsHistogram *m = CPL_ARENA_NEW(a, Couplet__V1__StatsHistogram, 1);
    uint32_t *bucket = CPL_ARENA_NEW(a, uint32_t, used + 1);
    uint64_t *times = CPL_ARENA_NEW(a, uint64_t, used + 1);
    if (!m || !bucket || !times) return NULL;
    couplet__v1__stats_histogram__init(m);
    m->count = h->count;
    m->sum = h->sum;
    m->min = h->min;
    m->max = h->max;
    m->bucket = bucket;
    m->times = times;
    for (size_t i = 0; i < CPL_HISTOGRAM_BUCKETS; i++) {
        if (!h->buckets[i]) continue;
        bucket[m->n_bucket++] = (uint32_t)i;
        times[m->n_times++] = h->buckets[i];
    }
    return m;
}

static void put_model_totals(Couplet__V1__StatsModel *m, const cpl_engine_model_stats *s)
{
    m->tasks_done = s->tasks_done;
    m->tasks_failed = s->tasks_failed;
    m->tasks_cancelled = s->tasks_cancelled;
    m->tasks_expired = s->tasks_expired;
    m->tasks_refused = s->tasks_refused;
    m->sequences = s->sequences;
    m->tokens = s->tokens;
    m->padding_tokens = s->padding_tokens;
    m->passes = s->passes;
    m->busy_ns = s->busy_ns;
    m->tasks_run = s->tasks_run;
    m->queue_ns = s->queue_ns;
    m->compute_ns = s->compute_ns;
    m->tokenize_ns = s->tokenize_ns;
    m->ids_found = s->ids_found;
    m->ids_made = s->ids_made;
}

static Couplet__V1__StatsModel *put_model(cpl_arena *a, const cpl_engine_model *e)
{
    Couplet__V1__StatsModel *m = CPL_ARENA_NEW(a, Couplet__V1__StatsModel, 1);
    if (!m) return NULL;
    couplet__v1__stats_model__init(m);
    /* protobuf-c's strings are not const; packing only reads them. */
    m->name = (char *)e->name;
    m->dir = (char *)e->model->dir;
    m->note = (char *)e->model->note;
    m->architecture = (char *)e->model->architecture;
    m->backend = (char *)e->backend;
    m->precision_requested = (char *)cpl_precision_name(e->requested);
    m->precision_effective = (char *)cpl_precision_name(e->effective);
    m->precision_reason = (char *)e->reason;
    m->isa = (char *)e->isa;
    m->weight_bytes = e->weight_bytes;
    m->max_length = e->max_length;
    m->workers = e->workers;
    m->batch_tokens = e->batch_tokens;
    m->replica = e->replica;
    m->replicas = e->replicas;
    m->weight = e->weight_milli / 1000.0;
    m->length_aware = e->length_aware;
    return m;
}

static bool put_totals(Couplet__V1__StatsReply *m, cpl_arena *a, const cpl_engine_stats *s)
{
    m->tasks_accepted = s->tasks_accepted;
    m->tasks_done = s->tasks_done;
    m->tasks_failed = s->tasks_failed;
    m->tasks_cancelled = s->tasks_cancelled;
    m->tasks_expired = s->tasks_expired;
    m->tasks_refused = s->tasks_refused;
    m->tasks_pooled = s->tasks_pooled;
    m->sequences = s->sequences;
    m->tokens = s->tokens;
    m->padding_tokens = s->padding_tokens;
    m->passes = s->passes;
    m->busy_ns = s->busy_ns;
    m->team_passes = s->team_passes;
    m->team_members = s->team_members;
    m->team_shares_late = s->team_shares_late;
    m->pass_sequences = put_histogram(a, &s->pass_sequences);
    m->pass_tokens = put_histogram(a, &s->pass_tokens);
    m->queue_ns = put_histogram(a, &s->queue_ns);
    m->compute_ns = put_histogram(a, &s->compute_ns);
    m->tokenize_ns = put_histogram(a, &s->tokenize_ns);
    return m->pass_sequences && m->pass_tokens && m->queue_ns && m->compute_ns && m->tokenize_ns;
}

static bool encode(cpl_buf *out, cpl_arena *a, const cpl_wire *w, const cpl_engine_stats *s,
                   const cpl_wire_models *models)
{
    Couplet__V1__StatsReply m = COUPLET__V1__STATS_REPLY__INIT;
    m.version = (char *)COUPLET_VERSION;
    m.pid = (uint64_t)getpid();
    m.monotonic_ns = cpl_clock_ns();
    m.rss_bytes = cpl_wire_resident_bytes();
    m.cpu_ns = cpl_clock_process_cpu_ns();
    m.net_threads = w->options.net_threads;
    m.tokenizer_threads = cpl_engine_tokenizer_threads(w->options.engine);
    m.config = w->config;
    m.mode = (char *)cpl_wire_mode_name(w->options.mode);
    m.models = CPL_ARENA_NEW(a, Couplet__V1__StatsModel *, models->count);
    if (!m.models || !put_totals(&m, a, s)) return false;
    for (uint32_t i = 0; i < models->count; i++) {
        m.models[i] = put_model(a, models->at[i]);
        if (!m.models[m.n_models++]) return false;
        put_model_totals(m.models[i], &models->stats[i]);
    }
    cpl_buf_clear(out);
    if (!cpl_buf_reserve(out, couplet__v1__stats_reply__get_packed_size(&m))) return false;
    out->size = couplet__v1__stats_reply__pack(&m, (uint8_t *)out->data);
    return true;
}

void cpl_stats_message(cpl_call *call, const uint8_t *data, size_t n, void *wire)
{
    (void)data, (void)n;
    cpl_wire *w = wire;
    cpl_wire_loop *l = cpl_wire_loop_of(call);
    cpl_engine_stats *s = calloc(1, sizeof *s);
    cpl_arena arena;
    cpl_arena_init(&arena, 65536, 0);
    cpl_wire_models models;
    cpl_wire_models_take(&models, w);
    if (s) cpl_engine_stats_get(w->options.engine, s);
    if (s && encode(&l->out, &arena, w, s, &models))
        cpl_wire_reply(call, &l->out);
    else
        cpl_call_finish(call, CPL_GRPC_RESOURCE_EXHAUSTED, "out of memory");
    cpl_wire_models_let_go(&models);
    cpl_arena_deinit(&arena);
    free(s);
}
