/* SPDX-License-Identifier: Apache-2.0 */
/* page.c - one experiment as a page: what it was, the table in the reference's columns, what the server did, findings,
 * everything needed to doubt or repeat it. No state. */
#include "lab/page.h"

#include <stdio.h>
#include <string.h>

#include "lab/findings.h"
#include "lab/markdown.h"

static bool has_sweep(const cpl_lab_result *r)
{
    for (size_t i = 0; i < r->point_count; i++)
        if (*r->points[i].server) return true;
    return false;
}

/* A result from before scenarios were written down is of a closed loop. */
static bool is_open(const cpl_lab_result *r) { return *r->scenario && strcmp(r->scenario, "closed") != 0; }

static unsigned long long u(uint64_t v) { return v; }

static void put_level(cpl_buf *out, const cpl_lab_point *p)
{
    if (p->concurrency)
        cpl_buf_print(out, "%llu", u(p->concurrency));
    else
        cpl_buf_print(out, "%.1f", p->offered);
}

static void head(const cpl_lab_result *r, cpl_buf *out)
{
    cpl_buf_print(out, "# %s\n\n", r->name);
    if (*r->description) cpl_buf_print(out, "%s\n\n", r->description);
    cpl_buf_text(out, "Status: ");
    cpl_md_status(out, r, false);
    cpl_buf_print(out, ". %s.\n\n", r->date);
    if (*r->model_note) cpl_buf_print(out, "**Model:** %s.\n\n", r->model_note);
    if (*r->mode && strcmp(r->mode, "full") != 0)
        cpl_buf_print(
            out, "**Mode:** %s, a part of the work only; see \"Measuring a part of the work\" in docs/SERVING.md.\n\n",
            r->mode);
    if (!r->point_count) return;
    cpl_buf_print(out, "Model `%s`, backend `%s`%s%s, precision ", r->model, r->backend, *r->isa ? " on " : "", r->isa);
    cpl_md_precision(out, r);
    cpl_buf_print(out, ", batching %s. ", r->batching);
    cpl_buf_print(out, "Texts: %s. \"Batch\" is the number of pairs in one request.\n", r->pairs_source);
    if (*r->interleaved) cpl_buf_print(out, "Rounds alternated with those of %s.\n", r->interleaved);
    cpl_buf_text(out, "\n");
}

static void rate_row(const cpl_lab_point *p, bool sweep, cpl_buf *out)
{
    if (sweep) cpl_buf_print(out, "| `%s` ", p->server);
    cpl_buf_print(out, "| %llu | ", u(p->batch));
    put_level(out, p);
    cpl_buf_print(out, " | %llu | %.1f | ", u(p->pairs), p->seconds);
    cpl_md_number(out, p->latency_mean_ms);
    cpl_buf_text(out, " | ");
    cpl_md_sure(out, p->latency_p95_ms, p->p95_enough);
    cpl_buf_text(out, " | ");
    cpl_md_sure(out, p->latency_p99_ms, p->p99_enough);
    cpl_buf_text(out, " | ");
    cpl_md_number(out, p->throughput);
    cpl_buf_text(out, " | ");
    cpl_md_number(out, p->throughput_p95);
    cpl_buf_text(out, " | ");
    if (p->interval_known) {
        cpl_md_number(out, p->throughput_low);
        cpl_buf_text(out, " to ");
        cpl_md_number(out, p->throughput_high);
    } else {
        cpl_buf_text(out, "not known");
    }
    cpl_buf_text(out, " | ");
    if (p->highest_percentile > 0) {
        cpl_buf_print(out, "p%g ", p->highest_percentile);
        cpl_md_number(out, p->latency_highest_ms);
    } else {
        cpl_buf_text(out, "-");
    }
    cpl_buf_print(out, " | %s |\n", cpl_lab_verdict_name(p));
}

static void rates(const cpl_lab_result *r, cpl_buf *out)
{
    bool sweep = has_sweep(r);
    const char *level = is_open(r) ? "Offered/s" : "Conc";
    cpl_buf_print(
        out,
        "## Results\n\n| %sBatch | %s | Pairs | Time (s) | Lat Avg | P95 | P99 | TP Avg | TP P95 | TP 95 %% interval | "
        "Highest sure | Verdict |\n|%s---:|---:|---:|---:|---:|---:|---:|---:|---:|---|---|---|\n",
        sweep ? "Setting | " : "", level, sweep ? "---|" : "");
    for (size_t i = 0; i < r->point_count; i++) rate_row(&r->points[i], sweep, out);
    cpl_buf_text(out, "\nLatencies in ms, throughput in pairs/s. `~`: that percentile is INVALID by itself, for too "
                      "few samples or a queue that grew; highest: the highest percentile that the samples support.");
    for (size_t i = 0; i < r->point_count; i++)
        if (r->points[i].window_s > 0 && r->points[i].window_s < 1) {
            cpl_buf_print(out,
                          " TP P95 is over one-second windows; where a run had fewer than three, over ten shorter "
                          "ones (row %zu: %.3f s).",
                          i + 1, r->points[i].window_s);
            break;
        }
    cpl_buf_text(out, "\n\n");
}

static void server_columns(const cpl_lab_point *p, cpl_buf *out)
{
    if (!p->server_known) {
        cpl_buf_text(out, "- | - | - | - | - | - | - |");
        return;
    }
    cpl_buf_print(out, "%.1f | %.0f | ", p->pass_sequences_mean, p->pass_tokens_mean);
    cpl_md_number(out, p->queue_mean_ms);
    cpl_buf_text(out, " | ");
    cpl_md_number(out, p->compute_mean_ms);
    cpl_buf_print(out, " | %.2f | %.2f | %.0f |", p->busy_cores, p->server_cores, p->rss_mb);
}

static void inside(const cpl_lab_result *r, cpl_buf *out)
{
    bool sweep = has_sweep(r);
    cpl_buf_print(out,
                  "## What went on\n\n| %sBatch | %s | In flight (max) | Requests | Errors | Seq/pass | Tokens/pass | "
                  "Queue ms | Compute ms | Busy cores | Server cores | RSS MB | Client cores "
                  "|\n|%s---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
                  sweep ? "Setting | " : "", is_open(r) ? "Offered/s" : "Conc", sweep ? "---|" : "");
    for (size_t i = 0; i < r->point_count; i++) {
        const cpl_lab_point *p = &r->points[i];
        if (sweep) cpl_buf_print(out, "| `%s` ", p->server);
        cpl_buf_print(out, "| %llu | ", u(p->batch));
        put_level(out, p);
        cpl_buf_print(out, " | %.2f (%llu) | ", p->in_flight_mean, u(p->in_flight_max));
        if (p->asked && p->requests + p->failed < p->asked)
            cpl_buf_print(out, "%llu of %llu | ", u(p->requests + p->failed), u(p->asked));
        else
            cpl_buf_print(out, "%llu | ", u(p->requests + p->failed));
        cpl_buf_print(out, "%llu | ", u(p->failed));
        server_columns(p, out);
        cpl_buf_print(out, " %.3f |\n", p->client_cores);
    }
    cpl_buf_text(out,
                 "\nIn flight: time-weighted mean of requests really on the wire. Seq/pass, tokens/pass: the batches "
                 "the engine formed. Queue: from the request being ready to its first pass; compute: from there "
                 "to the end of its last.\n\n");
}

static void remarks(const cpl_lab_result *r, cpl_buf *out)
{
    bool any = false;
    for (size_t i = 0; i < r->point_count; i++) {
        const cpl_lab_point *p = &r->points[i];
        if (!*p->reasons && !*p->errors && !p->repeats) continue;
        if (!any) cpl_buf_text(out, "## Remarks by row\n\n");
        any = true;
        cpl_buf_text(out, "- ");
        cpl_md_point(out, p);
        cpl_buf_text(out, ": ");
        cpl_md_cell(out, p->reasons);
        if (*p->errors) {
            cpl_buf_print(out, "%serrors: ", *p->reasons ? "; " : "");
            cpl_md_cell(out, p->errors);
        }
        if (p->repeats)
            cpl_buf_print(out, "%s%llu pairs had been sent before", *p->reasons || *p->errors ? "; " : "",
                          u(p->repeats));
        cpl_buf_text(out, "\n");
    }
    if (!any) return;
    cpl_buf_text(
        out, "\nRules: a row is VALID when at most 1 request in 1,000 failed, each round was at least 6 mean "
             "latencies long, its fastest third "
             "ran at most 10 % faster than the slowest, at least 90 % of the concurrency was in flight, native workers "
             "had the CPU for at least 90 % of the time they were computing and the load generator used at most 90 % "
             "of its core. In an open loop requests must have gone out on time instead (99th percentile of the "
             "generator's delay at most 1 ms or a tenth of the median latency) and the last third must not have taken "
             "more than 1.5 times as long as the first. A percentile q needs ln 0.01 / ln q samples.\n\n");
}

static void origin(const cpl_lab_result *r, cpl_buf *out)
{
    const cpl_lab_machine *m = &r->machine;
    cpl_buf_print(out, "## Repeat it\n\n    %s\n\n", r->command);
    if (*r->interleaved)
        cpl_buf_print(out, "Rounds alternate with those of %s when their files are given with it.\n\n", r->interleaved);
    cpl_buf_text(out, "| | |\n|---|---|\n");
    cpl_buf_print(out, "| Machine | %s, %llu cores, %.1f GiB, %s (%s), governor: %s |\n", m->cpu, u(m->cores),
                  m->memory_gib, m->system, m->virtualization, m->governor);
    cpl_buf_print(out, "| Kernels | %s |\n", *r->isa ? r->isa : *m->isa ? m->isa : "-");
    cpl_buf_print(out, "| Build | couplet %s, commit %s, %s, `%s` |\n", r->build.version, r->build.commit,
                  r->build.compiler, r->build.flags);
    cpl_buf_print(
        out, "| Precision | requested %s, effective %s%s%s |\n", *r->precision_requested ? r->precision_requested : "-",
        *r->precision_effective ? r->precision_effective : "-", *r->precision_reason ? ": " : "", r->precision_reason);
    if (r->point_count)
        cpl_buf_print(out, "| Model in memory | %.1f MB of weights, %llu workers, server ready in at most %llu ms |\n",
                      (double)r->weight_bytes / 1e6, u(r->workers), u(r->ready_ms_max));
    cpl_buf_print(out,
                  "| Load | %s, %llu requests a row and round%s, warm-up of %llu (at least one a client), "
                  "seed %llu |\n",
                  is_open(r) ? r->scenario : "closed loop", u(r->requests_asked),
                  r->duration_s > 0 ? " or the time limit, whichever comes first" : "", u(r->warmup), u(r->seed));
    if (r->quality.pairs)
        cpl_buf_print(
            out,
            "| Accuracy | against couplet's own fp32 on %llu pairs: Spearman %.5f, Kendall %.4f, nDCG@10 %.5f, largest "
            "difference %.3f of fp32's standard deviation |\n",
            u(r->quality.pairs), r->quality.spearman, r->quality.kendall, r->quality.ndcg10, r->quality.max_difference);
    if (*r->energy) {
        cpl_buf_print(out, "| Energy | %s", r->energy);
        for (size_t i = 0; i < r->point_count; i++)
            if (r->points[i].watts > 0 && r->points[i].throughput > 0)
                cpl_buf_print(out, "; row %zu: %.0f W, %.3f kWh a million pairs", i + 1, r->points[i].watts,
                              r->points[i].watts / r->points[i].throughput / 3.6);
        cpl_buf_text(out, " |\n");
    }
    if (r->duration_s > 0) cpl_buf_print(out, "| Time limit | %g s a row and round |\n", r->duration_s);
    cpl_buf_print(out, "\n<details><summary>Effective configuration</summary>\n\n```yaml\n%s```\n\n</details>\n",
                  r->config);
}

void cpl_lab_page(const cpl_lab_result *r, const char *plot, cpl_buf *out)
{
    head(r, out);
    if (r->point_count) {
        rates(r, out);
        if (*plot) cpl_buf_print(out, "![%s](%s)\n\n", r->name, plot);
        cpl_buf_text(out, "## Key findings\n\n");
        cpl_lab_findings(r, false, out);
        cpl_buf_text(out, "\n");
        inside(r, out);
        remarks(r, out);
    }
    origin(r, out);
}

void cpl_lab_table(const cpl_lab_result *r, cpl_buf *out)
{
    bool sweep = has_sweep(r);
    size_t wide = strlen("Setting");
    for (size_t i = 0; i < r->point_count; i++)
        if (strlen(r->points[i].server) > wide) wide = strlen(r->points[i].server);
    if (sweep) cpl_buf_print(out, "%-*s ", (int)wide, "Setting");
    cpl_buf_print(out, "%6s %9s %8s %8s %9s %9s %9s %9s %9s %9s %8s %7s  %s\n", "Batch",
                  is_open(r) ? "Offered/s" : "Conc", "Pairs", "Time (s)", "Lat Avg", "P95", "P99", "TP Avg", "TP P95",
                  "In flight", "Seq/pass", "Errors", "Verdict");
    for (size_t i = 0; i < r->point_count; i++) {
        const cpl_lab_point *p = &r->points[i];
        if (sweep) cpl_buf_print(out, "%-*s ", (int)wide, p->server);
        if (p->not_run && *p->not_run) {
            cpl_buf_print(out, "%6llu %9llu  not run: %s\n", u(p->batch), u(p->concurrency ? p->concurrency : p->rate),
                          p->not_run);
            continue;
        }
        cpl_buf_print(out, "%6llu %9.6g %8llu %8.1f %9.2f %s%8.2f %s%8.2f %9.1f %9.1f %9.2f ", u(p->batch),
                      p->concurrency ? (double)p->concurrency : p->offered, u(p->pairs), p->seconds, p->latency_mean_ms,
                      p->p95_enough ? " " : "~", p->latency_p95_ms, p->p99_enough ? " " : "~", p->latency_p99_ms,
                      p->throughput, p->throughput_p95, p->in_flight_mean);
        if (p->server_known)
            cpl_buf_print(out, "%8.1f ", p->pass_sequences_mean);
        else
            cpl_buf_print(out, "%8s ", "-");
        cpl_buf_print(out, "%7llu  %s\n", u(p->failed), cpl_lab_verdict_name(p));
    }
}
