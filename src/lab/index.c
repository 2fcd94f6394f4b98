/* SPDX-License-Identifier: Apache-2.0 */
/* index.c - the page over everything: its frame, the few figures on top, and the pieces its sections are made of. The
 * one idea: one file that works from a disk, offline, printed, in light and dark and on a phone; so no script, no font,
 * no image, nothing to load, and the numbers behind every figure folded in below it. No state.
 * Rejected: a charting library (hundreds of kilobytes of script to draw what an SVG writer of 300 lines draws). */
#include "lab/index.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lab/index_parts.h"
#include "lab/plan.h"
#include "lab/summary.h"

/* ---- pieces --------------------------------------------------------------------------------------------------- */

void cpl_index_open(cpl_buf *out, const char *id, const char *title, const char *text)
{
    cpl_buf_print(out, "<section id=\"%s\"><h2>", id);
    cpl_chart_escape(out, title);
    cpl_buf_text(out, "</h2>");
    if (text) {
        cpl_buf_text(out, "<p>");
        cpl_chart_escape(out, text);
        cpl_buf_text(out, "</p>");
    }
    cpl_buf_text(out, "\n");
}

void cpl_index_close(cpl_buf *out) { cpl_buf_text(out, "</section>\n"); }

void cpl_index_figure(cpl_buf *out, const char *title, const char *text)
{
    cpl_buf_text(out, "<figure><h3>");
    cpl_chart_escape(out, title);
    cpl_buf_text(out, "</h3>");
    if (!text) return;
    cpl_buf_text(out, "<p>");
    cpl_chart_escape(out, text);
    cpl_buf_text(out, "</p>");
}

void cpl_index_figure_end(cpl_buf *out) { cpl_buf_text(out, "</figure>\n"); }

static void numbers_cell(cpl_buf *out, const cpl_chart_series *s, double x)
{
    const cpl_chart_point *p = NULL;
    for (size_t i = 0; i < s->count; i++)
        if (s->points[i].x == x) p = &s->points[i];
    cpl_buf_text(out, "<td class=r>");
    if (!p) return;
    if (p->doubtful) cpl_buf_text(out, "~");
    cpl_chart_number(out, p->y);
    if (!(p->low < p->high)) return;
    cpl_buf_text(out, " <small>(");
    cpl_chart_number(out, p->low);
    cpl_buf_text(out, " to ");
    cpl_chart_number(out, p->high);
    cpl_buf_text(out, ")</small>");
}

void cpl_index_numbers(cpl_buf *out, const cpl_chart *c)
{
    cpl_buf_text(out, "<details><summary>Numbers</summary>");
    cpl_index_table(out, c);
    cpl_buf_text(out, "</details>");
}

void cpl_index_table(cpl_buf *out, const cpl_chart *c)
{
    cpl_buf_text(out, "<div class=scroll><table><tr><th class=r>");
    cpl_chart_escape(out, c->x_title);
    for (size_t s = 0; s < c->count; s++) {
        cpl_buf_text(out, "<th class=r>");
        cpl_chart_escape(out, c->count > 1 ? c->series[s].name : c->y_title);
    }
    double last = -INFINITY;
    for (;;) { /* every x of any line, rising */
        double x = INFINITY;
        for (size_t s = 0; s < c->count; s++)
            for (size_t i = 0; i < c->series[s].count; i++)
                if (c->series[s].points[i].x > last) x = fmin(x, c->series[s].points[i].x);
        if (!isfinite(x)) break;
        cpl_buf_text(out, "\n<tr><td class=r>");
        cpl_chart_number(out, x);
        for (size_t s = 0; s < c->count; s++) numbers_cell(out, &c->series[s], x);
        last = x;
    }
    cpl_buf_text(out, "</table></div>");
}

void cpl_index_policy(char *out, size_t cap, const cpl_lab_result *r)
{
    unsigned pairs;
    double ms;
    if (sscanf(r->batching, "up to %u pairs, %lf ms", &pairs, &ms) == 2)
        snprintf(out, cap, "%g ms timer", ms);
    else
        snprintf(out, cap, "%.40s", r->batching);
}

/* ---- the figures on top --------------------------------------------------------------------------------------- */

static void tile(cpl_buf *out, double value, const char *unit, const char *what, const char *detail)
{
    cpl_buf_text(out, "<div class=tile><b>");
    cpl_chart_number(out, value);
    cpl_buf_print(out, " <small>%s</small></b><span>", unit);
    cpl_chart_escape(out, what);
    cpl_buf_text(out, "</span><em>");
    cpl_chart_escape(out, detail);
    cpl_buf_text(out, "</em></div>\n");
}

static void tile_ratio(cpl_buf *out, const cpl_interval *v, const char *what, const char *detail)
{
    cpl_buf_print(out, "<div class=tile><b>&#215;%.2f</b><span>", v->mean);
    cpl_chart_escape(out, what);
    cpl_buf_text(out, "</span><em>");
    if (v->known) cpl_buf_print(out, "%.2f to %.2f (95 %%); ", v->low, v->high);
    cpl_chart_escape(out, detail);
    cpl_buf_text(out, "</em></div>\n");
}

/* Greedy over off: at one pair a request in int8, the most in flight up to 16, the shortest texts; at more pairs the
 * longest texts, as the reference has them. */
static void gain_tile(const cpl_lab_results *all, uint64_t batch, cpl_buf *out)
{
    const cpl_lab_result *r = NULL, *base = NULL;
    const cpl_lab_point *p = NULL;
    double best = 0;
    for (size_t i = 0; i < all->count; i++) {
        const cpl_lab_result *b = cpl_lab_ran(all->at[i]) ? cpl_lab_counterpart(all, all->at[i]) : NULL;
        if (!b || strncmp(all->at[i]->batching, "greedy", 6) != 0) continue;
        for (size_t k = 0; k < all->at[i]->point_count; k++) {
            const cpl_lab_point *q = &all->at[i]->points[k];
            if (!q->requests || q->batch != batch || q->concurrency < 4 || q->concurrency > 16 ||
                !cpl_lab_same_row(b, q))
                continue;
            const bool int8 = !strcmp(all->at[i]->precision_effective, "int8");
            const double score = batch > 1 ? q->tokens_per_sequence - (double)q->concurrency
                                           : int8 * 1e4 + (double)q->concurrency * 100 - q->tokens_per_sequence;
            if (p && score <= best) continue;
            best = score;
            p = q, r = all->at[i], base = b;
        }
    }
    if (!p) return;
    char what[160], detail[200];
    const cpl_interval v = cpl_lab_throughput_ratio(cpl_lab_same_row(base, p), p, cpl_lab_interleaved(base, r));
    snprintf(what, sizeof what, "throughput by batching, %llu pair%s a request", (unsigned long long)batch,
             batch == 1 ? "" : "s");
    snprintf(detail, sizeof detail, "%.0f tokens a pair, %s, %llu in flight, greedy over off",
             p->tokens_per_sequence * fmax(p->sequences_per_pair, 1), r->precision_effective,
             (unsigned long long)p->concurrency);
    tile_ratio(out, &v, what, detail);
}

static void tiles(const cpl_lab_results *all, cpl_buf *out)
{
    const cpl_lab_result *fast = NULL, *quick = NULL;
    const cpl_lab_point *least = NULL;
    size_t rows = 0, valid = 0;
    char text[300];
    for (size_t i = 0; i < all->count; i++) {
        const cpl_lab_result *r = all->at[i];
        for (size_t k = 0; k < r->point_count; k++) {
            rows += r->points[k].requests > 0;
            valid += r->points[k].requests && r->points[k].valid;
            const cpl_lab_point *q = &r->points[k];
            if (!cpl_lab_scored(r) || !q->requests || (least && least->valid && !q->valid)) continue;
            if (least && least->valid == q->valid && q->latency_p50_ms >= least->latency_p50_ms) continue;
            least = &r->points[k];
            quick = r;
        }
        const cpl_lab_point *mine = cpl_lab_scored(r) ? cpl_lab_best(r) : NULL, *top = fast ? cpl_lab_best(fast) : NULL;
        if (mine &&
            (!top || mine->valid > top->valid || (mine->valid == top->valid && mine->throughput > top->throughput)))
            fast = r;
    }
    if (!fast) return;
    const cpl_lab_point *p = cpl_lab_best(fast);
    cpl_buf_text(out, "<div class=tiles>\n");
    snprintf(text, sizeof text, "%.0f tokens a pair, %s, %s", p->tokens_per_sequence * fmax(p->sequences_per_pair, 1),
             fast->precision_effective, fast->name);
    tile(out, p->throughput, "pairs/s", "most throughput", text);
    snprintf(text, sizeof text, "%.0f tokens a pair, %s, %s",
             least->tokens_per_sequence * fmax(least->sequences_per_pair, 1), quick->precision_effective, quick->name);
    tile(out, least->latency_p50_ms, "ms", "least latency, median of a request", text);
    gain_tile(all, 1, out);
    gain_tile(all, 32, out);
    snprintf(text, sizeof text, "the other %zu say INVALID, and why", rows - valid);
    char what[64];
    snprintf(what, sizeof what, "of %zu rows are VALID", rows);
    tile(out, (double)valid, "rows", what, rows == valid ? "each passed every rule of measuring" : text);
    cpl_buf_text(out, "</div>\n");
}

/* ---- frame ---------------------------------------------------------------------------------------------------- */

static void remarks(const cpl_lab_results *all, cpl_buf *out)
{
    size_t quick = 0, stand_in = 0, commits = 0;
    const char *note = "";
    for (size_t i = 0; i < all->count; i++) {
        const cpl_lab_result *r = all->at[i];
        bool first = true;
        if (!cpl_lab_ran(r)) continue;
        quick += r->quick;
        if (*r->model_note) stand_in++, note = r->model_note;
        for (size_t k = 0; k < i; k++)
            first &= !cpl_lab_ran(all->at[k]) || strcmp(all->at[k]->build.commit, r->build.commit) != 0;
        commits += first;
    }
    if (quick)
        cpl_buf_print(
            out,
            "<p class=note>%zu experiments ran with --quick: that shows that everything works, and is too short "
            "to be believed as figures.</p>\n",
            quick);
    if (stand_in) {
        cpl_buf_print(out, "<p class=note>%zu experiments ran a stand-in model. ", stand_in);
        cpl_chart_escape(out, note);
        cpl_buf_text(out, ".</p>\n");
    }
    if (commits > 1)
        cpl_buf_print(
            out, "<p class=note>The results are of %zu different commits: compare only what ran side by side.</p>\n",
            commits);
}

static void head(const cpl_lab_results *all, cpl_buf *out)
{
    const cpl_lab_result *last = all->at[0];
    for (size_t i = 1; i < all->count; i++)
        if (strcmp(all->at[i]->date, last->date) > 0) last = all->at[i];
    cpl_buf_text(out,
                 "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
                 "content=\"width=device-width,initial-scale=1\">\n<title>couplet: experiments</title>\n<style>\n");
    cpl_buf_text(out, cpl_lab_index_style);
    cpl_buf_text(out, "</style>\n<header><h1>couplet: experiments</h1><p>Scoring pairs of texts on ");
    cpl_chart_escape(out, last->machine.cpu);
    cpl_buf_print(
        out,
        ", %llu cores. couplet %s, commit %s, last measured %s. Generated by <code>couplet report</code> from the "
        "results beside it.</p>\n",
        (unsigned long long)last->machine.cores, last->build.version, last->build.commit, last->date);
}

/* Links to the sections that are there. */
static void navigation(const cpl_buf *body, cpl_buf *out)
{
    static const char *const ids[][2] = {
        {"batching", "Batching"}, {"batch", "Pairs a request"}, {"concurrency", "In flight"},
        {"load", "Load"},         {"quality", "Quality"},       {"stages", "Stages"},
        {"batches", "Batches"},   {"padding", "Padding"},       {"platform", "Platform"},
        {"cost", "Cost"},         {"all", "Every experiment"},  {"origin", "Origin"}};
    cpl_buf_text(out, "<nav>");
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        char mark[64];
        snprintf(mark, sizeof mark, "<section id=\"%s\">", ids[i][0]);
        if (body->data && strstr(body->data, mark)) cpl_buf_print(out, "<a href=\"#%s\">%s</a>", ids[i][0], ids[i][1]);
    }
    cpl_buf_text(out, "</nav>");
}

void cpl_lab_index(const cpl_lab_results *all, const cpl_lab_index_options *options, cpl_buf *out)
{
    cpl_buf body = {0};
    if (!all->count) return;
    cpl_index_gains(all, &body);
    cpl_index_batches(all, &body);
    cpl_index_concurrency(all, &body);
    cpl_index_load(all, &body);
    cpl_index_quality(all, &body);
    cpl_index_stages(all, &body);
    cpl_index_histograms(all, &body);
    cpl_index_padding(all, &body);
    cpl_index_matrix(all, &body);
    cpl_index_cost(all, options, &body);
    cpl_index_experiments(all, &body);
    cpl_index_origin(all, &body);
    head(all, out);
    navigation(&body, out);
    tiles(all, out);
    remarks(all, out);
    cpl_buf_text(out, "</header>\n<main>\n");
    if (body.data) cpl_buf_add(out, body.data, body.size);
    cpl_buf_text(
        out,
        "</main>\n<footer>What each number means, and when a row is INVALID: docs/MEASURING.md.</footer>\n</html>\n");
    out->failed |= body.failed;
    cpl_buf_deinit(&body);
}
