/* SPDX-License-Identifier: Apache-2.0 */
/* rows.c - every row of every result as one table, for spreadsheets and scripts. One list of columns makes both forms,
 * so they can't differ. No state. */
#include <stdio.h>
#include <string.h>

#include "lab/index.h"
#include "lab/markdown.h"

/* The two forms behind one call a column. */
typedef struct table {
    cpl_buf *out;
    cpl_json_writer json;
    bool csv, head, first;
} table;

static void separate(table *t)
{
    if (!t->first) cpl_buf_text(t->out, ",");
    t->first = false;
}

static void put_text(table *t, const char *name, const char *value)
{
    if (!t->csv) {
        cpl_json_text(&t->json, name, value);
        return;
    }
    const char *v = t->head ? name : value;
    separate(t);
    if (!strpbrk(v, ",\"\r\n")) {
        cpl_buf_text(t->out, v);
        return;
    }
    cpl_buf_text(t->out, "\"");
    for (; *v; v++) cpl_buf_add(t->out, *v == '"' ? "\"\"" : v, *v == '"' ? 2 : 1);
    cpl_buf_text(t->out, "\"");
}

static void put_count(table *t, const char *name, uint64_t value)
{
    if (!t->csv) {
        cpl_json_int(&t->json, name, (int64_t)value);
        return;
    }
    if (t->head) {
        put_text(t, name, "");
        return;
    }
    separate(t);
    cpl_buf_print(t->out, "%llu", (unsigned long long)value);
}

/* known: false leaves the cell empty, and the member out. */
static void put_number(table *t, const char *name, double value, bool known)
{
    if (!t->csv) {
        if (known) cpl_json_double(&t->json, name, value);
        return;
    }
    if (t->head) {
        put_text(t, name, "");
        return;
    }
    separate(t);
    if (known) cpl_buf_print(t->out, "%.6g", value);
}

static void put_origin(table *t, const cpl_lab_result *r)
{
    put_text(t, "experiment", r->name);
    put_text(t, "phase", r->phase);
    put_text(t, "status", r->status);
    put_text(t, "date", r->date);
    put_text(t, "commit", r->build.commit);
    put_text(t, "machine", r->machine.cpu);
    put_count(t, "cores", r->machine.cores);
    put_text(t, "quick", r->quick ? "yes" : "no");
    put_text(t, "model", r->model);
    put_text(t, "backend_asked", r->backend_asked);
    put_text(t, "backend", r->backend);
    put_text(t, "isa", r->isa);
    put_text(t, "precision_requested", r->precision_requested);
    put_text(t, "precision_effective", r->precision_effective);
    put_text(t, "precision_reason", r->precision_reason);
    put_text(t, "batching", r->batching);
    put_text(t, "scenario", *r->scenario ? r->scenario : "closed");
    put_text(t, "pairs_source", r->pairs_source);
    put_count(t, "seed", r->seed);
    put_number(t, "spearman_to_fp32", r->quality.spearman, r->quality.pairs > 0);
}

static void put_percentile(table *t, const char *name, const cpl_lab_point *p, int percentile)
{
    char text[CPL_LAB_VERDICT] = "";
    if (p->requests) cpl_lab_percentile_verdict(p, percentile, text);
    put_text(t, name, text);
}

static void put_row(table *t, const cpl_lab_result *r, const cpl_lab_point *p)
{
    const bool ran = p->requests > 0;
    put_origin(t, r);
    put_text(t, "setting", p->server ? p->server : "");
    put_count(t, "batch", p->batch);
    put_count(t, "concurrency", p->concurrency);
    put_count(t, "rate", p->rate);
    put_count(t, "rounds", p->rounds);
    put_count(t, "asked", p->asked);
    put_count(t, "requests", p->requests);
    put_count(t, "failed", p->failed);
    put_count(t, "pairs", p->pairs);
    put_number(t, "seconds", p->seconds, ran);
    put_number(t, "pairs_per_s", p->throughput, ran);
    put_number(t, "pairs_per_s_low", p->throughput_low, ran && p->interval_known);
    put_number(t, "pairs_per_s_high", p->throughput_high, ran && p->interval_known);
    put_number(t, "latency_mean_ms", p->latency_mean_ms, ran);
    put_number(t, "latency_p50_ms", p->latency_p50_ms, ran && p->p50_enough);
    put_number(t, "latency_p95_ms", p->latency_p95_ms, ran && p->p95_enough);
    put_number(t, "latency_p99_ms", p->latency_p99_ms, ran && p->p99_enough);
    put_percentile(t, "latency_p50_verdict", p, 50);
    put_percentile(t, "latency_p95_verdict", p, 95);
    put_percentile(t, "latency_p99_verdict", p, 99);
    put_number(t, "highest_percentile", p->highest_percentile, p->highest_percentile > 0);
    put_number(t, "latency_highest_ms", p->latency_highest_ms, p->highest_percentile > 0);
    put_number(t, "goodput_pairs_per_s", p->goodput, ran && p->slo_ms > 0);
    put_number(t, "in_flight_mean", p->in_flight_mean, ran);
    put_number(t, "sequences_per_pass", p->pass_sequences_mean, p->server_known);
    put_number(t, "tokens_per_pass", p->pass_tokens_mean, p->server_known);
    put_number(t, "tokens_per_sequence", p->tokens_per_sequence, p->server_known);
    put_number(t, "queue_mean_ms", p->queue_mean_ms, p->server_known);
    put_number(t, "compute_mean_ms", p->compute_mean_ms, p->server_known);
    put_number(t, "tokenize_mean_ms", p->tokenize_mean_ms, p->server_known);
    put_number(t, "busy_cores", p->busy_cores, p->server_known);
    put_number(t, "rss_mb", p->rss_mb, p->server_known);
    put_number(t, "padding", p->pass_padding, p->padding_known);
    put_number(t, "watts", p->watts, p->watts > 0);
    put_text(t, "verdict", !ran ? "not run" : p->valid ? "VALID" : "INVALID");
    put_text(t, "beyond_capacity", !ran ? "" : p->beyond_capacity ? "yes" : "no");
    put_count(t, "rounds_retaken", p->retaken);
    put_text(t, "why", *r->reason ? r->reason : p->not_run && *p->not_run ? p->not_run : p->reasons ? p->reasons : "");
}

static void put_all(table *t, const cpl_lab_results *all)
{
    static const cpl_lab_point none = {.server = "", .reasons = "", .not_run = ""};
    for (size_t i = 0; i < all->count; i++) {
        const cpl_lab_result *r = all->at[i];
        for (size_t k = 0; k < r->point_count || (!k && !r->point_count); k++) {
            t->first = true;
            if (!t->csv) cpl_json_open(&t->json, NULL, '{');
            put_row(t, r, r->point_count ? &r->points[k] : &none);
            if (!t->csv)
                cpl_json_close(&t->json, '}');
            else
                cpl_buf_text(t->out, "\n");
        }
    }
}

void cpl_lab_rows_csv(const cpl_lab_results *all, cpl_buf *out)
{
    static const cpl_lab_point none = {.server = "", .reasons = "", .not_run = ""};
    table t = {.out = out, .csv = true, .head = true, .first = true};
    if (!all->count) return;
    put_row(&t, all->at[0], &none);
    cpl_buf_text(out, "\n");
    t.head = false;
    put_all(&t, all);
}

void cpl_lab_rows_json(const cpl_lab_results *all, cpl_buf *out)
{
    table t = {.out = out, .json = {.out = out, .pretty = true}};
    cpl_json_open(&t.json, NULL, '{');
    cpl_json_text(&t.json, "kind", "couplet experiment rows");
    cpl_json_open(&t.json, "rows", '[');
    put_all(&t, all);
    cpl_json_close(&t.json, ']');
    cpl_json_close(&t.json, '}');
    cpl_buf_text(out, "\n");
}
