/* SPDX-License-Identifier: Apache-2.0 */
/* index_more.c - the page's figures of what goes on inside the server: where a request's time goes, which batches were
 * formed, what padding wastes. No state. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lab/index_parts.h"
#include "lab/sparse.h"
#include "lab/summary.h"

/* ---- stages --------------------------------------------------------------------------------------------------- */

enum { BARS_MAX = 12 };

void cpl_index_stages(const cpl_lab_results *all, cpl_buf *out)
{
    static const char *const parts[] = {"passes", "waiting for a worker", "tokenizing", "the rest"};
    cpl_chart_bar bars[BARS_MAX];
    char labels[BARS_MAX][200];
    size_t n = 0;
    for (size_t i = 0; i < all->count && n < BARS_MAX; i++) {
        const cpl_lab_result *r = all->at[i];
        const cpl_lab_point *p = cpl_lab_scored(r) ? cpl_lab_best(r) : NULL;
        bool first =
            p && p->server_known && p->concurrency && p->latency_mean_ms > 0 && strcmp(r->backend, "fake") != 0;
        for (size_t k = 0; first && k < i; k++)
            first = !cpl_lab_scored(all->at[k]) || strcmp(all->at[k]->phase, r->phase) != 0;
        if (!first) continue;
        for (size_t k = i + 1; k < all->count; k++) { /* the phase's fastest */
            const cpl_lab_result *other = all->at[k];
            const cpl_lab_point *q =
                cpl_lab_scored(other) && !strcmp(other->phase, r->phase) ? cpl_lab_best(other) : NULL;
            if (q && q->server_known && q->concurrency && q->throughput > p->throughput) {
                p = q;
                r = other;
            }
        }
        snprintf(labels[n], sizeof labels[n], "%.60s: %llu x %llu", r->name, (unsigned long long)p->batch,
                 (unsigned long long)p->concurrency);
        const double known = p->compute_mean_ms + p->queue_mean_ms + p->tokenize_mean_ms;
        bars[n] = (cpl_chart_bar){
            labels[n],
            {p->compute_mean_ms, p->queue_mean_ms, p->tokenize_mean_ms, fmax(p->latency_mean_ms - known, 0)}};
        n++;
    }
    if (!n) return;
    cpl_index_open(out, "stages", "Where a request's time goes",
                   "Mean time of a request in the fastest row of each phase: pairs a request times requests in flight. "
                   "The rest is "
                   "network, parsing and writing the answer.");
    cpl_buf_text(out, "<div class=grid>");
    cpl_index_figure(out, "Shares of a request's time", NULL);
    cpl_chart_bars("Where a request's time goes", "ms", true, parts, 4, bars, n, out);
    cpl_index_figure_end(out);
    cpl_index_figure(out, "The same in numbers", "Milliseconds of a request, mean.");
    cpl_buf_text(out, "<div class=scroll><table><tr><th>Row<th class=r>passes<th class=r>waiting<th class=r>tokenizing"
                      "<th class=r>rest");
    for (size_t i = 0; i < n; i++) {
        cpl_buf_text(out, "\n<tr><td>");
        cpl_chart_escape(out, bars[i].label);
        for (size_t k = 0; k < 4; k++) {
            cpl_buf_text(out, "<td class=r>");
            cpl_chart_number(out, bars[i].parts[k]);
        }
    }
    cpl_buf_text(out, "</table></div></figure></div>");
    cpl_index_close(out);
}

/* ---- batches formed ------------------------------------------------------------------------------------------- */

enum { COLUMNS_MAX = 512 };

static size_t columns_of(const cpl_lab_point *p, cpl_chart_column *out)
{
    const char *at = p->pass_sequences_counts ? p->pass_sequences_counts : "";
    cpl_sparse_bucket b = {0};
    size_t n = 0;
    while (n < COLUMNS_MAX && cpl_sparse_next(&at, b.bucket, &b))
        out[n++] = (cpl_chart_column){(double)cpl_histogram_upper(b.bucket), (double)b.times};
    return n;
}

static void put_columns(const cpl_lab_result *r, const cpl_lab_point *p, int colour, cpl_buf *out)
{
    cpl_chart_column columns[COLUMNS_MAX];
    char title[200], text[200], policy[96];
    cpl_index_policy(policy, sizeof policy, r);
    snprintf(title, sizeof title, "Batching %s, %llu in flight", policy, (unsigned long long)p->concurrency);
    snprintf(text, sizeof text, "%.80s, %llu pair%s a request: %.1f sequences a pass in the mean, %.0f pairs/s.",
             r->name, (unsigned long long)p->batch, p->batch == 1 ? "" : "s", p->pass_sequences_mean, p->throughput);
    const size_t n = columns_of(p, columns);
    if (!n) return;
    cpl_index_figure(out, title, text);
    cpl_chart_columns(title, "sequences in a pass", colour, columns, n, out);
    cpl_index_figure_end(out);
}

void cpl_index_histograms(const cpl_lab_results *all, cpl_buf *out)
{
    bool open = false;
    size_t shown = 0;
    for (size_t i = 0; i < all->count && shown < 3; i++) {
        const cpl_lab_result *r = all->at[i];
        const cpl_lab_result *base = cpl_lab_ran(r) ? cpl_lab_counterpart(all, r) : NULL;
        if (!base || strncmp(r->batching, "greedy", 6) != 0) continue;
        const cpl_lab_point *most = NULL;
        for (size_t k = 0; k < r->point_count; k++) {
            const cpl_lab_point *p = &r->points[k];
            if (!p->requests || !p->concurrency || !cpl_lab_same_row(base, p) || !p->pass_sequences_counts ||
                !*p->pass_sequences_counts || p->batch > 1 || p->sequences_per_pair > 1.2)
                continue;
            if (!most || p->pass_sequences_mean > most->pass_sequences_mean) most = p;
        }
        if (!most || !*cpl_lab_same_row(base, most)->pass_sequences_counts) continue;
        if (!open) {
            cpl_index_open(out, "batches", "The batches that were formed",
                           "How many sequences the engine's passes really held, one pair a request.");
            cpl_buf_text(out, "<div class=grid>");
        }
        open = true;
        shown++;
        put_columns(base, cpl_lab_same_row(base, most), 5, out);
        put_columns(r, most, 0, out);
    }
    if (!open) return;
    cpl_buf_text(out, "</div>");
    cpl_index_close(out);
}

/* ---- padding -------------------------------------------------------------------------------------------------- */

void cpl_index_padding(const cpl_lab_results *all, cpl_buf *out)
{
    size_t known = 0;
    cpl_index_open(
        out, "padding", "What padding wastes",
        "Backends that need rectangles fill short sequences up to the longest of their batch. The part of the tokens "
        "they worked on that was padding:");
    for (size_t i = 0; i < all->count; i++)
        for (size_t k = 0; cpl_lab_ran(all->at[i]) && k < all->at[i]->point_count; k++) {
            const cpl_lab_result *r = all->at[i];
            const cpl_lab_point *p = &r->points[k];
            if (!p->padding_known || p->pass_padding <= 0) continue;
            if (!known++)
                cpl_buf_text(out, "<div class=\"card scroll\"><table><tr><th>Experiment<th>Row<th>Backend<th>Batching"
                                  "<th class=r>padding<th class=r>pairs/s\n");
            cpl_buf_print(out, "<tr><td class=o>%s<td>%llu x %llu ", r->name, (unsigned long long)p->batch,
                          (unsigned long long)p->concurrency);
            cpl_chart_escape(out, p->server);
            cpl_buf_text(out, "<td>");
            cpl_chart_escape(out, r->backend);
            cpl_buf_text(out, "<td>");
            cpl_chart_escape(out, r->batching);
            cpl_buf_print(out, "<td class=r>%.1f %%<td class=r>", p->pass_padding * 100);
            cpl_chart_number(out, p->throughput);
            cpl_buf_text(out, "\n");
        }
    if (known)
        cpl_buf_text(out, "</table></div>");
    else
        cpl_buf_text(
            out, "<p>None in these results: couplet's own engine packs sequences end to end and pads nothing, and no "
                 "backend that needs rectangles ran and reported its padding.</p>");
    cpl_index_close(out);
}
