/* SPDX-License-Identifier: Apache-2.0 */
/* prometheus.c - /metrics in Prometheus's text format: the engine's totals and histograms, what runs, the process.
 * The one idea: counters and histograms are totals since the start, so rates are the reader's to take; the log-linear
 * histograms are given as a few cumulative buckets, each exact at its bound to 0.4 %. Only the latency quantiles are of
 * the last minute and say so. Threads: the call's network thread. */
#include <stdlib.h>
#include <string.h>

#include "backend/precision.h"
#include "base/clock.h"
#include "wire/wire_state.h"

static void head(cpl_buf *out, const char *name, const char *type, const char *help)
{
    cpl_buf_print(out, "# HELP couplet_%s %s\n# TYPE couplet_%s %s\n", name, help, name, type);
}

static void number(cpl_buf *out, const char *name, const char *type, const char *help, double value)
{
    head(out, name, type, help);
    cpl_buf_print(out, "couplet_%s %.17g\n", name, value);
}

/* A label's value, escaped as the format wants. */
static void label(cpl_buf *out, const char *before, const char *value)
{
    cpl_buf_text(out, before);
    cpl_buf_text(out, "=\"");
    for (; *value; value++) {
        if (*value == '\\' || *value == '"') cpl_buf_add(out, "\\", 1);
        cpl_buf_add(out, *value == '\n' ? " " : value, 1);
    }
    cpl_buf_text(out, "\"");
}

/* Buckets at 1, 2, 5 times powers of ten from `from` up to `to`, in the histogram's unit times `scale`. */
static void histogram(cpl_buf *out, const char *name, const char *help, const cpl_histogram *h, double scale,
                      double from, double to)
{
    static const double steps[] = {1, 2, 5};
    uint64_t below = 0;
    uint32_t next = 0;
    head(out, name, "histogram", help);
    for (double decade = from; decade <= to * 1.001; decade *= 10) {
        for (int i = 0; i < 3 && decade * steps[i] <= to * 1.001; i++) {
            const uint32_t end = cpl_histogram_bucket((uint64_t)(decade * steps[i] / scale));
            for (; next <= end && next < CPL_HISTOGRAM_BUCKETS; next++) below += h->buckets[next];
            cpl_buf_print(out, "couplet_%s_bucket{le=\"%g\"} %llu\n", name, decade * steps[i],
                          (unsigned long long)below);
        }
    }
    cpl_buf_print(out, "couplet_%s_bucket{le=\"+Inf\"} %llu\ncouplet_%s_sum %.17g\ncouplet_%s_count %llu\n", name,
                  (unsigned long long)h->count, name, (double)h->sum * scale, name, (unsigned long long)h->count);
}

/* "couplet_NAME{model="..",replica="..", open for more labels or its end. */
static void of_model(cpl_buf *out, const char *name, const cpl_engine_model *m)
{
    cpl_buf_print(out, "couplet_%s{", name);
    label(out, "model", m->name);
    if (m->replicas > 1) cpl_buf_print(out, ",replica=\"%u\"", m->replica);
}

static void info(cpl_buf *out, const cpl_wire_models *models)
{
    head(out, "model_info", "gauge", "What runs: backend, precision asked for and run, kernels. Always 1.");
    for (uint32_t i = 0; i < models->count; i++) {
        const cpl_engine_model *m = models->at[i];
        of_model(out, "model_info", m);
        label(out, ",backend", m->backend);
        label(out, ",precision_requested", cpl_precision_name(m->requested));
        label(out, ",precision", cpl_precision_name(m->effective));
        label(out, ",isa", m->isa);
        label(out, ",kernels", m->kernels);
        cpl_buf_text(out, "} 1\n");
    }
}

/* A figure of a model: where it is, and what it is times. */
typedef struct figure {
    const char *name, *type, *help;
    size_t at;
    double scale;
} figure;

#define OF_MODEL(field) offsetof(cpl_engine_model_stats, field)

static void figures(cpl_buf *out, const cpl_wire_models *models)
{
    static const figure rows[] = {
        {"model_sequences_total", "counter", "Sequences run.", OF_MODEL(sequences), 1},
        {"model_tokens_total", "counter", "Tokens run, padding not counted.", OF_MODEL(tokens), 1},
        {"model_padding_tokens_total", "counter", "Tokens of padding that its backend computed beside those.",
         OF_MODEL(padding_tokens), 1},
        {"model_passes_total", "counter", "Forward passes.", OF_MODEL(passes), 1},
        {"model_busy_seconds_total", "counter", "Workers inside its forward passes, summed.", OF_MODEL(busy_ns), 1e-9},
        {"model_queue_seconds_total", "counter", "Requests' time from the queue to their first pass, summed.",
         OF_MODEL(queue_ns), 1e-9},
        {"model_compute_seconds_total", "counter", "Requests' time from first pass to the end of the last, summed.",
         OF_MODEL(compute_ns), 1e-9},
        {"model_tokenize_seconds_total", "counter", "CPU time of tokenizing, summed.", OF_MODEL(tokenize_ns), 1e-9},
        {"model_requests_run_total", "counter", "Requests that reached a worker: what the seconds are sums of.",
         OF_MODEL(tasks_run), 1},
        {"model_queue_tokens", "gauge", "Tokens that wait for a worker.", OF_MODEL(queued_tokens), 1},
        {"model_queue_requests", "gauge", "Requests that wait for a worker.", OF_MODEL(queued_requests), 1},
    };
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        head(out, rows[k].name, rows[k].type, rows[k].help);
        for (uint32_t i = 0; i < models->count; i++) {
            uint64_t value;
            memcpy(&value, (const char *)&models->stats[i] + rows[k].at, sizeof value);
            of_model(out, rows[k].name, models->at[i]);
            cpl_buf_print(out, "} %.17g\n", (double)value * rows[k].scale);
        }
    }
}

static void model_requests(cpl_buf *out, const cpl_wire_models *models)
{
    head(out, "model_requests_total", "counter", "Requests of a model by how they ended.");
    for (uint32_t i = 0; i < models->count; i++) {
        const cpl_engine_model_stats *s = &models->stats[i];
        const struct {
            const char *outcome;
            uint64_t count;
        } rows[] = {{"done", s->tasks_done},
                    {"failed", s->tasks_failed},
                    {"cancelled", s->tasks_cancelled},
                    {"expired", s->tasks_expired},
                    {"refused", s->tasks_refused}};
        for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
            of_model(out, "model_requests_total", models->at[i]);
            cpl_buf_print(out, ",outcome=\"%s\"} %llu\n", rows[k].outcome, (unsigned long long)rows[k].count);
        }
    }
}

static void put_models(cpl_buf *out, const cpl_wire_models *models)
{
    info(out, models);
    head(out, "model_weight_bytes", "gauge", "Memory of the weights.");
    for (uint32_t i = 0; i < models->count; i++) {
        of_model(out, "model_weight_bytes", models->at[i]);
        cpl_buf_print(out, "} %llu\n", (unsigned long long)models->at[i]->weight_bytes);
    }
    head(out, "model_workers", "gauge", "Threads that run its forward passes.");
    for (uint32_t i = 0; i < models->count; i++) {
        of_model(out, "model_workers", models->at[i]);
        cpl_buf_print(out, "} %u\n", models->at[i]->workers);
    }
    model_requests(out, models);
    figures(out, models);
}

static void requests(cpl_buf *out, const cpl_engine_stats *s)
{
    const struct {
        const char *outcome;
        uint64_t count;
    } rows[] = {{"done", s->tasks_done},
                {"failed", s->tasks_failed},
                {"cancelled", s->tasks_cancelled},
                {"expired", s->tasks_expired},
                {"refused", s->tasks_refused}};
    head(out, "requests_total", "counter", "Requests by how they ended.");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cpl_buf_print(out, "couplet_requests_total{outcome=\"%s\"} %llu\n", rows[i].outcome,
                      (unsigned long long)rows[i].count);
    number(out, "tokenizer_pool_requests_total", "counter", "Requests tokenized by the tokenizer pool's threads.",
           (double)s->tasks_pooled);
    number(out, "sequences_total", "counter", "Sequences run.", (double)s->sequences);
    number(out, "tokens_total", "counter", "Tokens run, padding not counted.", (double)s->tokens);
    number(out, "padding_tokens_total", "counter", "Tokens of padding that backends computed beside those.",
           (double)s->padding_tokens);
    number(out, "passes_total", "counter", "Forward passes.", (double)s->passes);
    number(out, "busy_seconds_total", "counter", "Workers inside forward passes, summed.", (double)s->busy_ns * 1e-9);
    number(out, "queue_tokens", "gauge", "Tokens that wait for a worker.", (double)s->queued_tokens);
    number(out, "queue_requests", "gauge", "Requests that wait for a worker.", (double)s->queued_requests);
    number(out, "in_flight_requests", "gauge", "Requests accepted and not ended.", (double)s->in_flight_tasks);
    histogram(out, "queue_seconds", "A request's time from the queue to its first pass.", &s->queue_ns, 1e-9, 1e-5, 10);
    histogram(out, "compute_seconds", "A request's time from its first pass to the end of its last.", &s->compute_ns,
              1e-9, 1e-5, 10);
    histogram(out, "tokenize_seconds", "CPU time of tokenizing a request.", &s->tokenize_ns, 1e-9, 1e-6, 1);
    histogram(out, "pass_sequences", "Sequences in a forward pass.", &s->pass_sequences, 1, 1, 1000);
    histogram(out, "pass_tokens", "Tokens in a forward pass.", &s->pass_tokens, 1, 10, 100000);
}

static void recent(cpl_buf *out, const cpl_window_sum *sum)
{
    static const double quantiles[] = {0.5, 0.95, 0.99};
    number(out, "pairs_total", "counter", "Pairs and texts answered.", (double)sum->pairs);
    head(out, "recent_latency_seconds", "gauge", "Quantiles of the last minute, request whole to reply written.");
    for (size_t i = 0; i < sizeof quantiles / sizeof quantiles[0]; i++)
        cpl_buf_print(out, "couplet_recent_latency_seconds{percentile=\"%g\"} %.9g\n", quantiles[i] * 100,
                      (double)cpl_histogram_at(&sum->latency_ns, quantiles[i]) * 1e-9);
}

static void traces(cpl_buf *out, cpl_otlp *otlp)
{
    cpl_otlp_counts c;
    if (!otlp) return;
    cpl_otlp_count(otlp, &c);
    head(out, "traced_requests_total", "counter", "Requests whose spans were sent, lost or refused by the collector.");
    cpl_buf_print(out,
                  "couplet_traced_requests_total{outcome=\"sent\"} %llu\n"
                  "couplet_traced_requests_total{outcome=\"dropped\"} %llu\n"
                  "couplet_traced_requests_total{outcome=\"refused\"} %llu\n",
                  (unsigned long long)c.sent, (unsigned long long)c.dropped, (unsigned long long)c.refused);
    number(out, "trace_export_failures_total", "counter", "Messages to the collector that had to be sent again.",
           (double)c.failures);
}

void cpl_prometheus_message(cpl_call *call, const uint8_t *data, size_t n, void *wire)
{
    (void)data, (void)n;
    cpl_wire *w = wire;
    cpl_wire_totals *b = cpl_wire_totals_take(w);
    if (!b) {
        cpl_call_finish(call, CPL_GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    cpl_buf *out = &cpl_wire_loop_of(call)->out;
    cpl_buf_clear(out);
    head(out, "build_info", "gauge", "Version of the program. Always 1.");
    cpl_buf_text(out, "couplet_build_info{version=\"" COUPLET_VERSION "\"} 1\n");
    put_models(out, &b->models);
    requests(out, &b->engine);
    recent(out, &b->window);
    traces(out, w->options.otlp);
    number(out, "workers", "gauge", "Threads that run forward passes, of whatever model.",
           cpl_engine_worker_count(w->options.engine));
    cpl_buf_print(out,
                  "# HELP process_resident_memory_bytes Resident memory size in bytes.\n"
                  "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes %llu\n"
                  "# HELP process_cpu_seconds_total User and system CPU time.\n"
                  "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total %.9g\n",
                  (unsigned long long)cpl_wire_resident_bytes(), (double)cpl_clock_process_cpu_ns() * 1e-9);
    cpl_wire_totals_let_go(b);
    cpl_wire_respond(call, 200, "text/plain; version=0.0.4; charset=utf-8", out);
}
