/* SPDX-License-Identifier: Apache-2.0 */
/* row.c - rounds into a row: histograms are merged, counts added, rates weighted by time. The throughput of several
 * rounds is their median with Student's interval over them; that of a single round has the interval over its own
 * stretches (measure.h). Threads: no state. */
#include "lab/row.h"

#include <stdio.h>
#include <string.h>

#include "lab/sparse.h"
#include "load/verdict.h"

static void add_errors(cpl_lab_row *row, const cpl_load_result *r)
{
    for (uint32_t i = 0; i < r->error_kinds; i++) {
        uint32_t k = 0;
        while (k < row->error_kinds &&
               (row->errors[k].code != r->errors[i].code || row->errors[k].http_status != r->errors[i].http_status))
            k++;
        if (k == CPL_LOAD_ERROR_KINDS) continue;
        if (k == row->error_kinds) {
            row->error_kinds++;
            row->errors[k] = r->errors[i];
        } else {
            row->errors[k].count += r->errors[i].count;
        }
    }
}

static const char *histogram_text(const cpl_histogram *h, cpl_lab_result *into)
{
    cpl_buf text = {0};
    cpl_sparse_write(h, &text);
    const char *kept = text.data && !text.failed ? cpl_lab_text(into, "%s", text.data) : "";
    cpl_buf_deinit(&text);
    return kept;
}

void cpl_lab_row_add(cpl_lab_row *row, const cpl_load_result *r, cpl_lab_result *into)
{
    const cpl_measure *m = &r->measure;
    cpl_verdict verdict;
    cpl_verdict_of(&verdict, r);
    if (!verdict.valid && !row->invalid_rounds++) memcpy(row->reasons, verdict.reasons, sizeof row->reasons);
    if (!*row->note || (verdict.beyond && !row->beyond_rounds)) memcpy(row->note, verdict.note, sizeof row->note);
    row->beyond_rounds += verdict.beyond;
    cpl_histogram_merge(&row->latency_ns, &m->latency_ns);
    if (!row->shared_server) cpl_server_totals_merge(&row->server, &r->server);
    for (uint32_t i = 0; i < m->windows && row->windows < CPL_WINDOWS_MAX; i++)
        row->window_rate[row->windows++] = m->window_rate[i];
    cpl_histogram_merge(&row->lag_ns, &r->lag_ns);
    row->open = r->open;
    row->slo_ms = r->slo.ms;
    row->due += r->offered * m->seconds;
    row->in_time_pairs += r->goodput * m->seconds;
    row->within += r->within_slo * (double)(m->requests + m->failed);
    row->window_s = m->window_s;
    row->inside = m->throughput;
    if (row->rounds < CPL_LAB_ROUNDS_MAX) {
        row->round_latency[row->rounds] = histogram_text(&m->latency_ns, into);
        row->throughput[row->rounds++] = m->pairs_per_s;
    }
    row->asked += r->asked;
    row->requests += m->requests;
    row->failed += m->failed;
    row->repeats += r->repeats;
    row->connections = r->connections;
    row->seconds += m->seconds;
    row->in_flight_seconds += m->in_flight_mean * m->seconds;
    row->client_cpu_s += r->client_cpu_cores * m->seconds;
    if (m->in_flight_max > row->in_flight_max) row->in_flight_max = m->in_flight_max;
    add_errors(row, r);
}

static double ms(double ns) { return ns / 1e6; }

static void finish_latency(const cpl_lab_row *row, cpl_lab_point *out)
{
    const cpl_histogram *h = &row->latency_ns;
    out->latency_mean_ms = ms(cpl_histogram_mean(h));
    out->latency_p50_ms = ms((double)cpl_histogram_at(h, 0.50));
    out->latency_p95_ms = ms((double)cpl_histogram_at(h, 0.95));
    out->latency_p99_ms = ms((double)cpl_histogram_at(h, 0.99));
    out->latency_max_ms = ms(h->count ? (double)h->max : 0);
}

/* Which figures of the row stand, and what is to be said of it. A row with one round beyond capacity is beyond it. */
static void finish_verdict(const cpl_lab_row *row, cpl_lab_point *out, cpl_lab_result *r)
{
    cpl_verdict v = {0};
    char text[1200] = "";
    cpl_verdict_samples(&v, row->requests);
    out->valid = row->rounds && !row->invalid_rounds;
    out->beyond_capacity = row->beyond_rounds > 0;
    out->p50_enough = v.p50 && !out->beyond_capacity;
    out->p95_enough = v.p95 && !out->beyond_capacity;
    out->p99_enough = v.p99 && !out->beyond_capacity;
    out->highest_percentile = out->beyond_capacity ? 0 : v.highest * 100;
    out->latency_highest_ms =
        out->highest_percentile > 0 ? ms((double)cpl_histogram_at(&row->latency_ns, v.highest)) : 0;
    out->retaken = row->retaken;
    if (*row->reasons) cpl_verdict_add(text, sizeof text, "%s", row->reasons);
    if (row->rounds > 1 && row->invalid_rounds)
        snprintf(text + strlen(text), sizeof text - strlen(text), " (%u of %u rounds)", row->invalid_rounds,
                 row->rounds);
    if (*row->note) cpl_verdict_add(text, sizeof text, "%s", row->note);
    if (*v.percentiles && !out->beyond_capacity) cpl_verdict_add(text, sizeof text, "%s", v.percentiles);
    if (row->retaken)
        cpl_verdict_add(text, sizeof text, "%u of %u rounds measured again, the machine having been unsteady",
                        row->retaken, row->rounds);
    if (row->server.known && row->server.ids_made && !strcmp(row->server.mode, "inference"))
        cpl_verdict_add(text, sizeof text, "%llu sequences were tokenized inside the measured time",
                        (unsigned long long)row->server.ids_made);
    out->reasons = cpl_lab_text(r, "%s", text);
}

static void finish_throughput(const cpl_lab_row *row, cpl_lab_point *out)
{
    cpl_interval v = row->rounds > 1 ? cpl_interval_of(row->throughput, row->rounds) : row->inside;
    out->throughput = row->rounds > 1 ? cpl_median(row->throughput, row->rounds) : row->inside.mean;
    out->throughput_low = v.low > 0 ? v.low : 0;
    out->throughput_high = v.high;
    out->interval_known = v.known;
    out->throughput_p95 = cpl_percentile(row->window_rate, row->windows, 0.95);
    out->window_s = row->window_s;
    memcpy(out->round_throughput, row->throughput, sizeof out->round_throughput);
    memcpy(out->round_latency, row->round_latency, sizeof out->round_latency);
}

static void finish_server(const cpl_lab_row *row, uint64_t batch, cpl_lab_point *out, cpl_lab_result *r)
{
    const cpl_server_totals *s = &row->server;
    out->server_known = s->known;
    if (!s->known) return;
    double seconds = (double)s->monotonic_ns / 1e9;
    out->pass_sequences_mean = s->passes ? (double)s->sequences / (double)s->passes : 0;
    out->passes = s->passes;
    out->padding_known = true;
    out->pass_padding = s->padding_tokens ? (double)s->padding_tokens / (double)(s->padding_tokens + s->tokens) : 0;
    out->pass_mean_ms = s->passes ? ms((double)s->busy_ns / (double)s->passes) : 0;
    out->pass_sequences_counts = histogram_text(&s->pass_sequences, r);
    out->pass_sequences_p95 = (double)cpl_histogram_at(&s->pass_sequences, 0.95);
    out->pass_tokens_mean = s->passes ? (double)s->tokens / (double)s->passes : 0;
    out->tokens_per_sequence = s->sequences ? (double)s->tokens / (double)s->sequences : 0;
    out->sequences_per_pair = s->tasks_done ? (double)s->sequences / (double)(s->tasks_done * batch) : 0;
    out->queue_mean_ms = ms(cpl_histogram_mean(&s->queue_ns));
    out->queue_p95_ms = ms((double)cpl_histogram_at(&s->queue_ns, 0.95));
    out->compute_mean_ms = ms(cpl_histogram_mean(&s->compute_ns));
    out->tokenize_mean_ms = ms(cpl_histogram_mean(&s->tokenize_ns));
    out->server_cores = seconds > 0 ? (double)s->cpu_ns / 1e9 / seconds : 0;
    out->busy_cores = seconds > 0 ? (double)s->busy_ns / 1e9 / seconds : 0;
    out->rss_mb = (double)s->rss_bytes / 1e6;
}

static const char *errors_text(const cpl_lab_row *row, cpl_lab_result *r)
{
    char text[1024] = "", name[32];
    size_t used = 0;
    for (uint32_t i = 0; i < row->error_kinds && used < sizeof text; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s x %llu: %s", i ? "; " : "",
                                 cpl_load_error_name(&row->errors[i], name), (unsigned long long)row->errors[i].count,
                                 row->errors[i].message);
    return cpl_lab_text(r, "%s", text);
}

void cpl_lab_row_finish(const cpl_lab_row *row, uint64_t batch, cpl_lab_point *out, cpl_lab_result *r)
{
    out->not_run = row->not_run ? row->not_run : "";
    if (row->not_run) return;
    out->rounds = row->rounds;
    out->watts = row->energy_seconds > 0 ? row->joules / row->energy_seconds : 0;
    out->connections = row->connections;
    out->asked = row->asked;
    out->requests = row->requests;
    out->failed = row->failed;
    out->pairs = row->requests * batch;
    out->repeats = row->repeats;
    out->seconds = row->seconds;
    out->in_flight_mean = row->seconds > 0 ? row->in_flight_seconds / row->seconds : 0;
    out->in_flight_max = row->in_flight_max;
    out->client_cores = row->seconds > 0 ? row->client_cpu_s / row->seconds : 0;
    if (row->open && row->seconds > 0) {
        out->offered = row->due / row->seconds;
        out->lag_p99_ms = ms((double)cpl_histogram_at(&row->lag_ns, 0.99));
    }
    if (row->slo_ms > 0 && row->seconds > 0 && row->requests + row->failed) {
        out->slo_ms = row->slo_ms;
        out->goodput = row->in_time_pairs / row->seconds;
        out->within_slo = row->within / (double)(row->requests + row->failed);
    }
    finish_latency(row, out);
    finish_throughput(row, out);
    finish_server(row, batch, out, r);
    finish_verdict(row, out, r);
    out->errors = errors_text(row, r);
}
