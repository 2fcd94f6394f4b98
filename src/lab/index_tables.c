/* SPDX-License-Identifier: Apache-2.0 */
/* index_tables.c - the page's tables: platform by precision, cost and energy, every experiment, and all that is needed
 * to doubt or repeat a figure. No state. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backend/precision.h"
#include "lab/index_parts.h"
#include "lab/markdown.h"
#include "lab/summary.h"

static unsigned long long u(uint64_t v) { return v; }

static void cell_text(cpl_buf *out, const char *class, const char *text)
{
    cpl_buf_print(out, *class ? "<td class=%s>" : "<td>", class);
    cpl_chart_escape(out, text);
}

static void cell_number(cpl_buf *out, double v)
{
    cpl_buf_text(out, "<td class=r>");
    cpl_chart_number(out, v);
}

/* ---- platform by precision ------------------------------------------------------------------------------------ */

static const cpl_lab_result *newest(const cpl_lab_results *all)
{
    const cpl_lab_result *best = NULL;
    for (size_t i = 0; i < all->count; i++)
        if (all->at[i]->probe_count && (!best || strcmp(all->at[i]->date, best->date) > 0)) best = all->at[i];
    return best;
}

/* The most that this backend did in that precision; 0: it didn't run. */
static double best_rate(const cpl_lab_results *all, const char *backend, const char *precision)
{
    double best = 0;
    for (size_t i = 0; i < all->count; i++)
        if (cpl_lab_ran(all->at[i]) && !strcmp(all->at[i]->backend, backend) &&
            !strcmp(all->at[i]->precision_effective, precision))
            best = fmax(best, cpl_lab_best(all->at[i])->throughput);
    return best;
}

static void probed(const cpl_lab_results *all, const cpl_lab_result *r, cpl_buf *out)
{
    cpl_buf_text(out, "<div class=\"card scroll\"><table><tr><th>Backend");
    for (int k = 0; k < CPL_PRECISION_COUNT; k++) cpl_buf_print(out, "<th>%s", cpl_precision_name((cpl_precision)k));
    cpl_buf_text(out, "<th>Device, or why not\n");
    for (size_t i = 0; i < r->probe_count; i++) {
        const cpl_lab_probe *p = &r->probes[i];
        cpl_buf_text(out, "<tr>");
        cell_text(out, "o", p->backend);
        for (int k = 0; k < CPL_PRECISION_COUNT; k++) {
            const double rate = best_rate(all, p->backend, cpl_precision_name((cpl_precision)k));
            const bool yes = p->available && !strcmp(p->precisions[k], "yes");
            if (rate > 0)
                cpl_buf_text(out, "<td><b class=good>ran</b>");
            else if (yes)
                cpl_buf_text(out, "<td class=good>yes");
            else if (!p->available)
                cpl_buf_text(out, "<td class=soft>-");
            else {
                cpl_buf_text(out, "<td class=soft title=\"");
                cpl_chart_escape(out, p->precisions[k]);
                cpl_buf_text(out, "\">no");
            }
        }
        char why[300];
        const char *text = p->available ? p->device : p->reason;
        snprintf(why, sizeof why, "%.*s", (int)(p->available ? strlen(text) : strcspn(text, ":;")), text);
        cell_text(out, "s", why);
        cpl_buf_text(out, "\n");
    }
    cpl_buf_text(out, "</table></div>");
}

/* What was asked for, what ran, and why: each combination once. */
static void asked_and_ran(const cpl_lab_results *all, cpl_buf *out)
{
    cpl_buf_text(out, "<div class=\"card scroll\"><table><tr><th>Asked for<th>Ran<th>Why they differ<th>Experiments\n");
    for (size_t i = 0; i < all->count; i++) {
        const cpl_lab_result *r = all->at[i];
        bool first = true;
        size_t same = 0;
        char why[400];
        for (size_t k = 0; k < all->count; k++) {
            const cpl_lab_result *o = all->at[k];
            if (strcmp(o->backend_asked, r->backend_asked) != 0 ||
                strcmp(o->precision_requested, r->precision_requested) != 0 ||
                strcmp(o->precision_effective, r->precision_effective) != 0 || strcmp(o->backend, r->backend) != 0 ||
                strcmp(o->precision_reason, r->precision_reason) != 0 || cpl_lab_ran(o) != cpl_lab_ran(r))
                continue;
            first &= k >= i;
            same++;
        }
        if (!first || !strcmp(r->backend_asked, "fake")) continue;
        cpl_buf_print(out, "<tr><td class=o>%s, %s", r->backend_asked,
                      *r->precision_requested ? r->precision_requested : "fp32");
        if (cpl_lab_ran(r))
            cpl_buf_print(out, "<td class=o>%s, %s", r->backend, r->precision_effective);
        else
            cpl_buf_text(out, "<td class=\"o soft\">not run");
        const char *reason = *r->precision_reason ? r->precision_reason : cpl_lab_ran(r) ? "" : r->reason;
        snprintf(why, sizeof why, "%.*s", (int)(cpl_lab_ran(r) ? strlen(reason) : strcspn(reason, ":;")), reason);
        cell_text(out, "s", *why ? why : "as asked");
        cpl_buf_text(out, "<td>");
        cpl_chart_escape(out, r->name);
        if (same > 1) cpl_buf_print(out, " <small>and %zu more</small>", same - 1);
        cpl_buf_text(out, "\n");
    }
    cpl_buf_text(out, "</table></div>");
}

void cpl_index_matrix(const cpl_lab_results *all, cpl_buf *out)
{
    const cpl_lab_result *r = newest(all);
    if (!r) return;
    cpl_index_open(
        out, "platform", "Platform and precision",
        "From what was probed and run on this machine, never from a fixed table. Ran: an experiment used it; yes: it "
        "executes here.");
    probed(all, r, out);
    asked_and_ran(all, out);
    cpl_index_close(out);
}

/* ---- cost and energy ------------------------------------------------------------------------------------------ */

enum { COST_ROWS = 16 };

/* The same work done the same way: only the fastest of these is shown. */
static bool same_work(const cpl_lab_result *a, const cpl_lab_result *b)
{
    return !strcmp(a->model, b->model) && !strcmp(a->backend, b->backend) &&
           !strcmp(a->precision_effective, b->precision_effective) && !strcmp(a->pairs_source, b->pairs_source);
}

static size_t cost_rows(const cpl_lab_results *all, const cpl_lab_result **out)
{
    size_t n = 0;
    for (size_t i = 0; i < all->count; i++) {
        const cpl_lab_result *r = all->at[i];
        if (!cpl_lab_scored(r) || r->models > 1) continue;
        size_t k = 0;
        while (k < n && !same_work(out[k], r)) k++;
        if (k < n) {
            if (cpl_lab_best(r)->throughput > cpl_lab_best(out[k])->throughput) out[k] = r;
        } else if (n < COST_ROWS) {
            out[n++] = r;
        }
    }
    for (size_t i = 1; i < n; i++) /* fastest first */
        for (size_t k = i; k > 0 && cpl_lab_best(out[k])->throughput > cpl_lab_best(out[k - 1])->throughput; k--) {
            const cpl_lab_result *t = out[k];
            out[k] = out[k - 1];
            out[k - 1] = t;
        }
    return n;
}

void cpl_index_cost(const cpl_lab_results *all, const cpl_lab_index_options *o, cpl_buf *out)
{
    const cpl_lab_result *rows[COST_ROWS];
    const size_t n = cost_rows(all, rows);
    const char *energy = "";
    bool metered = false;
    if (!n) return;
    for (size_t i = 0; i < n; i++) {
        metered |= cpl_lab_best(rows[i])->watts > 0;
        if (*rows[i]->energy) energy = rows[i]->energy;
    }
    cpl_index_open(
        out, "cost", "Cost and energy of a million pairs",
        "The fastest row of each model, engine, precision and kind of text. Hours are of the whole machine.");
    cpl_buf_text(out, "<div class=\"card scroll\"><table><tr><th>Engine<th>Precision<th>Model<th class=r>tokens a pair"
                      "<th class=r>pairs/s<th class=r>machine hours");
    if (o->price_per_hour > 0) cpl_buf_print(out, "<th class=r>%s", o->currency);
    if (metered) cpl_buf_text(out, "<th class=r>kWh<th class=r>mean watts");
    cpl_buf_text(out, "<th>Row\n");
    for (size_t i = 0; i < n; i++) {
        const cpl_lab_result *r = rows[i];
        const cpl_lab_point *p = cpl_lab_best(r);
        const double hours = 1e6 / p->throughput / 3600;
        const char *slash = strrchr(r->model, '/');
        cpl_buf_text(out, "<tr>");
        cell_text(out, "o", r->backend);
        cell_text(out, "", r->precision_effective);
        cell_text(out, "o", slash ? slash + 1 : r->model);
        cell_number(out, p->tokens_per_sequence * fmax(p->sequences_per_pair, 1));
        cell_number(out, p->throughput);
        cell_number(out, hours);
        if (o->price_per_hour > 0) cell_number(out, hours * o->price_per_hour);
        if (metered && p->watts > 0) {
            cell_number(out, p->watts * hours / 1000);
            cell_number(out, p->watts);
        } else if (metered) {
            cpl_buf_text(out, "<td class=r>-<td class=r>-");
        }
        cpl_buf_print(out, "<td class=s>%s, %llu x ", r->name, u(p->batch));
        cpl_buf_print(out, p->concurrency ? "%llu" : "%llu/s", u(p->concurrency ? p->concurrency : p->rate));
        cpl_buf_text(out, "\n");
    }
    cpl_buf_text(out, "</table></div><p>");
    if (o->price_per_hour > 0)
        cpl_buf_print(out, "Price: %s %g an hour for this machine. ", o->currency, o->price_per_hour);
    else
        cpl_buf_text(out, "For costs give the machine's price: <code>couplet report --price-per-hour 0.35</code>. ");
    cpl_buf_text(out, "Energy: ");
    cpl_chart_escape(out, *energy ? energy : "not available: these results are from before it was metered");
    cpl_buf_text(out, ".</p>");
    cpl_index_close(out);
}

/* ---- every experiment ----------------------------------------------------------------------------------------- */

static void experiment_row(const cpl_lab_result *r, cpl_buf *out)
{
    const cpl_lab_point *p = cpl_lab_best(r);
    size_t invalid = 0, absent = 0, cut = 0, beyond = 0;
    for (size_t i = 0; i < r->point_count; i++) {
        beyond += r->points[i].valid && r->points[i].beyond_capacity;
        invalid += r->points[i].requests && !r->points[i].valid;
        absent += *r->points[i].not_run != 0;
        cut += r->points[i].asked > r->points[i].requests + r->points[i].failed;
    }
    cpl_buf_print(out, "<tr><td class=x><a href=\"%s.md\">%s</a><br><small>", r->name, r->name);
    cpl_chart_escape(out, r->description);
    cpl_buf_text(out, "</small>");
    cpl_buf_print(out, "<td class=o>%s %s", r->backend, r->precision_effective);
    cell_number(out, p->throughput);
    cpl_buf_text(out, "<td class=\"r soft\">");
    if (p->interval_known) {
        cpl_chart_number(out, p->throughput_low);
        cpl_buf_text(out, " to ");
        cpl_chart_number(out, p->throughput_high);
    }
    cpl_buf_print(out, "<td class=o>%llu x ", u(p->batch));
    cpl_buf_print(out, p->concurrency ? "%llu" : "%llu/s", u(p->concurrency ? p->concurrency : p->rate));
    cell_number(out, p->latency_p50_ms);
    cpl_buf_text(out, p->p95_enough ? "<td class=r>" : "<td class=\"r soft\">~");
    cpl_chart_number(out, p->latency_p95_ms);
    cpl_buf_text(out, p->p99_enough ? "<td class=r>" : "<td class=\"r soft\">~");
    cpl_chart_number(out, p->latency_p99_ms);
    if (p->highest_percentile > 0)
        cpl_buf_print(out, "<br><small>p%g is sure</small>", p->highest_percentile);
    else
        cpl_buf_text(out, "<br><small>none is sure</small>");
    cpl_buf_print(out, "<td class=o>%zu", r->point_count);
    if (invalid) cpl_buf_print(out, ", <span class=bad>%zu INVALID</span>", invalid);
    if (beyond) cpl_buf_print(out, ", %zu beyond capacity", beyond);
    if (absent) cpl_buf_print(out, ", %zu not run", absent);
    if (cut) cpl_buf_print(out, "<br><small>%zu ended by time</small>", cut);
    cpl_buf_text(out, "\n");
}

static void not_run(const cpl_lab_results *all, cpl_buf *out)
{
    size_t n = 0;
    for (size_t i = 0; i < all->count; i++) {
        const cpl_lab_result *r = all->at[i];
        if (cpl_lab_ran(r)) continue;
        if (!n++)
            cpl_buf_text(out, "<h3 style=\"margin-top:22px\">Not run here</h3><div class=\"card scroll\"><table>\n");
        cpl_buf_print(out, "<tr><td class=o>%s<td class=s>", r->name);
        cpl_chart_escape(out, r->description);
        cpl_buf_print(out, "<td class=s>%s: ", r->status);
        cpl_chart_escape(out, r->reason);
        cpl_buf_text(out, "\n");
    }
    if (n) cpl_buf_text(out, "</table></div>");
}

void cpl_index_experiments(const cpl_lab_results *all, cpl_buf *out)
{
    cpl_index_open(
        out, "all", "Every experiment",
        "Its best row. Pairs a request times requests in flight (or requests a second offered). ~ marks a percentile "
        "that is INVALID by itself: too few samples, or a queue that grew. INVALID rows broke a rule of measuring; "
        "each page says which.");
    for (size_t i = 0; i < all->count; i++) {
        const cpl_lab_result *r = all->at[i];
        bool first = cpl_lab_ran(r), open = false;
        for (size_t k = 0; first && k < i; k++)
            first = !cpl_lab_ran(all->at[k]) || strcmp(all->at[k]->phase, r->phase) != 0;
        for (size_t k = i; first && k < all->count; k++) {
            if (!cpl_lab_ran(all->at[k]) || strcmp(all->at[k]->phase, r->phase) != 0) continue;
            if (!open) {
                const size_t number = strspn(r->phase, "0123456789");
                const char *name = r->phase + number + strcspn(r->phase + number, " ");
                cpl_buf_text(out, "<h3 style=\"margin-top:22px\">");
                cpl_chart_escape(out, *name ? name + 1 : "other");
                cpl_buf_text(out,
                             "</h3><div class=\"card scroll\"><table><tr><th>Experiment<th>Ran"
                             "<th class=r>pairs/s<th class=r>95 % interval<th>at<th class=r>p50 ms<th class=r>p95 ms"
                             "<th class=r>p99 ms<th>rows\n");
            }
            open = true;
            experiment_row(all->at[k], out);
        }
        if (open) cpl_buf_text(out, "</table></div>");
    }
    not_run(all, out);
    cpl_index_close(out);
}

/* ---- where it comes from -------------------------------------------------------------------------------------- */

void cpl_index_origin(const cpl_lab_results *all, cpl_buf *out)
{
    const cpl_lab_result *r = newest(all);
    if (!r) return;
    const cpl_lab_machine *m = &r->machine;
    cpl_index_open(
        out, "origin", "Where these numbers come from",
        "Each experiment with the machine's state, build, seeds and configuration it ran under, and the command that "
        "repeats it. All of them again: ./run_systematic_experiments.py");
    cpl_buf_text(out, "<div class=\"card scroll\"><table><tr><td class=o>Machine<td>");
    cpl_chart_escape(out, m->cpu);
    cpl_buf_print(out, ", %llu cores, %.1f GiB, kernels %s, ", u(m->cores), m->memory_gib, m->isa);
    cpl_chart_escape(out, m->system);
    cpl_buf_print(out, " (%s), governor: %s\n<tr><td class=o>Build<td>couplet %s, commit %s, %s, <code>%s</code>\n",
                  m->virtualization, m->governor, r->build.version, r->build.commit, r->build.compiler, r->build.flags);
    cpl_buf_print(out,
                  "<tr><td class=o>All rows<td><a href=\"rows.csv\">rows.csv</a>, <a href=\"rows.json\">rows.json</a>; "
                  "<a href=\"summary.md\">summary.md</a>\n</table></div>");
    for (size_t i = 0; i < all->count; i++) {
        const cpl_lab_result *one = all->at[i];
        cpl_buf_print(out, "<details><summary>%s</summary><p class=soft>%s, commit %s, seed %llu. ", one->name,
                      one->date, one->build.commit, u(one->seed));
        cpl_chart_escape(out, one->pairs_source);
        if (*one->interleaved) {
            cpl_buf_text(out, ". Rounds alternated with those of ");
            cpl_chart_escape(out, one->interleaved);
        }
        cpl_buf_text(out, ".</p><pre>");
        cpl_chart_escape(out, one->command);
        cpl_buf_text(out, "</pre><pre>");
        cpl_chart_escape(out, one->config);
        cpl_buf_text(out, "</pre></details>\n");
    }
    cpl_index_close(out);
}
