/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.c - inference.InferenceService/GetMetrics: what the reference declares and never implemented.
 * count and query_count are totals since the start (requests answered with scores, and their pairs); avg_ms and the
 * percentiles are of the last minute, throughput_qps is that minute's pairs a second. The one idea: windows of all
 * network threads are merged bucket by bucket, never averaged. Threads: the caller's; each window's own lock. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "proto/inference.pb-c.h"
#include "wire/wire_state.h"

static float ms_at(const cpl_histogram *h, double q) { return (float)((double)cpl_histogram_at(h, q) / 1e6); }

void cpl_wire_window_sum(cpl_window_sum *sum, cpl_wire *w)
{
    pthread_mutex_lock(&w->lock);
    for (cpl_wire_loop *each = w->loops; each; each = each->next) cpl_window_merge(sum, each->window, cpl_clock_ns());
    pthread_mutex_unlock(&w->lock);
}

void cpl_wire_models_take(cpl_wire_models *m, cpl_wire *w)
{
    cpl_engine *e = m->engine = w->options.engine;
    m->count = 0;
    for (uint32_t i = 0; i < cpl_engine_model_count(e); i++) {
        const cpl_engine_model *served = cpl_engine_model_hold_at(e, i);
        if (!served) continue;
        m->index[m->count] = i;
        m->at[m->count] = served;
        cpl_engine_model_stats_get(e, i, &m->stats[m->count++]);
    }
}

void cpl_wire_models_let_go(cpl_wire_models *m)
{
    for (uint32_t i = 0; i < m->count; i++) cpl_engine_model_release(m->engine, m->index[i]);
    m->count = 0;
}

void cpl_wire_totals_let_go(cpl_wire_totals *t)
{
    if (!t) return;
    cpl_wire_models_let_go(&t->models);
    free(t);
}

cpl_wire_totals *cpl_wire_totals_take(cpl_wire *w)
{
    cpl_wire_totals *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    cpl_engine_stats_get(w->options.engine, &t->engine);
    cpl_wire_window_sum(&t->window, w);
    cpl_wire_models_take(&t->models, w);
    return t;
}

void cpl_metrics_message(cpl_call *call, const uint8_t *data, size_t n, void *wire)
{
    (void)data, (void)n; /* Empty: unknown fields are nothing to object to */
    cpl_wire *w = wire;
    cpl_wire_loop *l = cpl_wire_loop_of(call);
    cpl_window_sum *sum = calloc(1, sizeof *sum); /* 72 KB; not for the stack */
    if (!sum) {
        cpl_call_finish(call, CPL_GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    cpl_wire_window_sum(sum, w);
    Inference__MetricsResponse m = INFERENCE__METRICS_RESPONSE__INIT;
    m.count = (int64_t)sum->requests;
    m.query_count = (int64_t)sum->pairs;
    m.avg_ms = (float)(cpl_histogram_mean(&sum->latency_ns) / 1e6);
    m.p50_ms = ms_at(&sum->latency_ns, 0.50);
    m.p95_ms = ms_at(&sum->latency_ns, 0.95);
    m.p99_ms = ms_at(&sum->latency_ns, 0.99);
    if (sum->recent_ns) m.throughput_qps = (float)((double)sum->recent_pairs * 1e9 / (double)sum->recent_ns);
    cpl_buf_clear(&l->out);
    if (cpl_buf_reserve(&l->out, inference__metrics_response__get_packed_size(&m)))
        l->out.size = inference__metrics_response__pack(&m, (uint8_t *)l->out.data);
    cpl_wire_reply(call, &l->out);
    free(sum);
}
