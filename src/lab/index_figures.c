/* SPDX-License-Identifier: Apache-2.0 */
/* index_figures.c - the page's figures of speed and latency. The one idea: a section looks for results of a shape
 * (three batch sizes or more, three levels of load, a policy beside its counterpart without one), never for a name, so
 * a new experiment file appears by itself. No state. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lab/index_parts.h"
#include "lab/plan.h"
#include "lab/summary.h"

enum { POINTS_MAX = 64, NAME_CAP = 96 };

/* Lines of one chart with the room for their points. */
typedef struct lines {
    cpl_chart chart;
    cpl_chart_point points[CPL_CHART_SERIES_MAX][POINTS_MAX];
    char names[CPL_CHART_SERIES_MAX][NAME_CAP];
} lines;

static void lines_init(lines *l, const char *alt, const char *x_title, const char *y_title)
{
    *l = (lines){.chart = {.alt = alt, .x_title = x_title, .y_title = y_title, .x_mark = NAN, .y_mark = NAN}};
}

static cpl_chart_series *add_line(lines *l, const char *name)
{
    if (l->chart.count == CPL_CHART_SERIES_MAX) return NULL;
    const size_t at = l->chart.count++;
    snprintf(l->names[at], NAME_CAP, "%s", name);
    l->chart.series[at] =
        (cpl_chart_series){.name = l->names[at], .points = l->points[at], .colour = (int)at, .joined = true};
    return &l->chart.series[at];
}

static void add_point(lines *l, cpl_chart_series *s, cpl_chart_point p)
{
    if (s->count < POINTS_MAX) l->points[s - l->chart.series][s->count++] = p;
}

static void drop_line(lines *l) { l->chart.count--; }

static void put_chart(cpl_buf *out, const char *title, const char *text, bool numbers, const lines *l)
{
    if (!l->chart.count) return;
    cpl_index_figure(out, title, text);
    cpl_chart_svg(&l->chart, out);
    if (numbers) cpl_index_numbers(out, &l->chart);
    cpl_index_figure_end(out);
}

static bool is_closed(const cpl_lab_result *r) { return cpl_lab_ran(r) && cpl_lab_best(r)->concurrency > 0; }

static bool first_of_number(const cpl_lab_results *all, size_t at)
{
    for (size_t k = 0; k < at; k++)
        if (cpl_lab_plan_related(all->at[k]->name, all->at[at]->name)) return false;
    return true;
}

static cpl_chart_point rate_point(double x, const cpl_lab_point *p)
{
    return (cpl_chart_point){
        x,    p->throughput, p->interval_known ? p->throughput_low : 0, p->interval_known ? p->throughput_high : 0,
        NULL, !p->valid};
}

/* ---- what batching gains -------------------------------------------------------------------------------------- */

enum { RATIOS_MAX = 24 };

typedef struct ratios {
    cpl_chart_ratio at[RATIOS_MAX];
    char labels[RATIOS_MAX][160];
    size_t count;
} ratios;

static void add_ratio(ratios *r, const char *label, cpl_interval v, bool more_is_better)
{
    if (r->count == RATIOS_MAX || !(v.mean > 0)) return;
    const size_t i = r->count++;
    const cpl_lab_change change = cpl_lab_change_of(&v, more_is_better);
    snprintf(r->labels[i], sizeof r->labels[i], "%s", label);
    r->at[i] = (cpl_chart_ratio){r->labels[i], v.mean,  v.low,
                                 v.high,       v.known, change == CPL_LAB_BETTER ? 2 : change == CPL_LAB_WORSE ? 1 : 5};
}

/* A percentile that either row lacks the samples for has no interval. */
static cpl_interval p95_ratio(const cpl_lab_point *q, const cpl_lab_point *p, bool paired)
{
    cpl_interval v = cpl_lab_latency_ratio(q, p, 0.95, paired);
    v.known = v.known && p->p95_enough && q->p95_enough;
    return v;
}

static void greedy_against_off(const cpl_lab_results *all, const cpl_lab_result *r, ratios *speed, ratios *latency)
{
    const cpl_lab_result *base = is_closed(r) ? cpl_lab_counterpart(all, r) : NULL;
    if (!base || strncmp(r->batching, "greedy", 6) != 0) return;
    const bool paired = cpl_lab_interleaved(base, r);
    for (size_t i = 0; i < r->point_count; i++) {
        char label[160];
        const cpl_lab_point *p = &r->points[i], *q = cpl_lab_same_row(base, p);
        if (!p->requests || !q) continue;
        snprintf(label, sizeof label, "%llu pair%s of %.0f tokens, %llu in flight, %s", (unsigned long long)p->batch,
                 p->batch == 1 ? "" : "s", p->tokens_per_sequence * fmax(p->sequences_per_pair, 1),
                 (unsigned long long)p->concurrency, r->precision_effective);
        add_ratio(speed, label, cpl_lab_throughput_ratio(q, p, paired), true);
        add_ratio(latency, label, p95_ratio(q, p, paired), false);
    }
}

/* A sweep of timers against no batching at the same row. */
static void timers_against_off(const cpl_lab_results *all, const cpl_lab_result *r, ratios *speed, ratios *latency)
{
    const cpl_lab_result *base = is_closed(r) ? cpl_lab_counterpart(all, r) : NULL;
    if (!base || r->point_count < 3 || !strstr(r->points[0].server, "timeout_ms")) return;
    for (size_t i = 0; i < r->point_count; i++) {
        char label[160];
        const cpl_lab_point *p = &r->points[i], *q = cpl_lab_same_row(base, p);
        const char *value = strstr(p->server, "timeout_ms=");
        if (!p->requests || !q || !value) continue;
        snprintf(label, sizeof label, "timer of %.*s ms", (int)strcspn(value + 11, ","), value + 11);
        add_ratio(speed, label, cpl_lab_throughput_ratio(q, p, cpl_lab_interleaved(base, r)), true);
        add_ratio(latency, label, p95_ratio(q, p, cpl_lab_interleaved(base, r)), false);
    }
}

static void put_ratios(cpl_buf *out, const char *title, const char *text, bool latency, const ratios *r)
{
    if (!r->count) return;
    cpl_index_figure(out, title, text);
    cpl_chart_ratios(title, latency ? "shorter" : "slower", latency ? "longer" : "faster", r->at, r->count, out);
    cpl_index_figure_end(out);
}

void cpl_index_gains(const cpl_lab_results *all, cpl_buf *out)
{
    ratios speed = {0}, latency = {0}, timer_speed = {0}, timer_latency = {0};
    for (size_t i = 0; i < all->count; i++) {
        greedy_against_off(all, all->at[i], &speed, &latency);
        timers_against_off(all, all->at[i], &timer_speed, &timer_latency);
    }
    if (!speed.count && !timer_speed.count) return;
    cpl_index_open(
        out, "batching", "What batching gains, and what waiting costs",
        "Ratios to the same load with batching off. Bars are 95 % intervals from rounds that alternated; a hollow "
        "mark was measured once and has none. Green and orange differ from 1 beyond the interval, grey does not.");
    cpl_buf_text(out, "<div class=grid>");
    put_ratios(out, "Throughput, greedy over off", "Greedy: a free worker takes whatever waits; nothing is waited for.",
               false, &speed);
    put_ratios(out, "Latency p95, greedy over off", "Closed loop: the time of a request from due to answered.", true,
               &latency);
    put_ratios(out, "Throughput, waiting over not", "A timer holds requests back until 64 pairs are there or it ends.",
               false, &timer_speed);
    put_ratios(out, "Latency p95, waiting over not", NULL, true, &timer_latency);
    cpl_buf_text(out, "</div>");
    cpl_index_close(out);
}

/* ---- batch sizes ---------------------------------------------------------------------------------------------- */

/* Rows of one setting at one concurrency with at least three batch sizes. */
static size_t batches_of(const cpl_lab_result *r, const cpl_lab_point *line)
{
    size_t n = 0;
    for (size_t i = 0; i < r->point_count; i++)
        n += r->points[i].requests && r->points[i].concurrency == line->concurrency &&
             !strcmp(r->points[i].server, line->server);
    return n;
}

static bool has_levels(const cpl_lab_result *r)
{
    for (size_t i = 1; i < r->point_count; i++)
        if (r->points[i].concurrency != r->points[0].concurrency) return true;
    return false;
}

void cpl_index_batches(const cpl_lab_results *all, cpl_buf *out)
{
    lines speed, latency;
    lines_init(&speed, "Throughput by pairs a request", "pairs a request", "pairs/s");
    lines_init(&latency, "Latency by pairs a request", "pairs a request", "latency, ms");
    speed.chart.x_log = latency.chart.x_log = latency.chart.y_log = true;
    speed.chart.x_as_given = latency.chart.x_as_given = true;
    speed.chart.y_zero = true;
    const cpl_lab_result *shown = NULL;
    for (size_t i = 0; i < all->count; i++) {
        const cpl_lab_result *r = all->at[i];
        if (!is_closed(r) || has_levels(r) || batches_of(r, &r->points[0]) < 3 || !strcmp(r->backend, "fake")) continue;
        char name[NAME_CAP];
        snprintf(name, sizeof name, "%s %s", r->backend, r->precision_effective);
        cpl_chart_series *a = add_line(&speed, name), *p50 = add_line(&latency, shown ? name : "p50");
        cpl_chart_series *p95 = shown ? NULL : add_line(&latency, "p95");
        for (size_t k = 0; a && p50 && k < r->point_count; k++) {
            const cpl_lab_point *p = &r->points[k];
            if (!p->requests) continue;
            add_point(&speed, a, rate_point((double)p->batch, p));
            add_point(&latency, p50,
                      (cpl_chart_point){(double)p->batch, p->latency_p50_ms, 0, 0, NULL, !p->p50_enough});
            if (p95)
                add_point(&latency, p95,
                          (cpl_chart_point){(double)p->batch, p->latency_p95_ms, 0, 0, NULL, !p->p95_enough});
        }
        if (!shown) shown = r;
    }
    if (!shown) return;
    cpl_index_open(
        out, "batch", "Pairs a request",
        "One request in flight. Bars are 95 % intervals; a hollow mark is an INVALID row, or a percentile with too "
        "few samples.");
    cpl_buf_text(out, "<div class=grid>");
    put_chart(out, "Throughput by pairs a request", shown->name, true, &speed);
    put_chart(out, "Latency by pairs a request", "Time of a whole request.", true, &latency);
    cpl_buf_text(out, "</div>");
    cpl_index_close(out);
}

/* ---- concurrency ---------------------------------------------------------------------------------------------- */

static void level_line(lines *speed, lines *latency, const cpl_lab_result *r, const cpl_lab_point *line,
                       bool many_batches)
{
    char policy[NAME_CAP], name[NAME_CAP];
    size_t n = 0;
    for (size_t i = 0; i < r->point_count; i++) n += r->points[i].requests && r->points[i].batch == line->batch;
    if (n < 3) return;
    cpl_index_policy(policy, sizeof policy, r);
    if (many_batches)
        snprintf(name, sizeof name, "%llu pairs", (unsigned long long)line->batch);
    else
        snprintf(name, sizeof name, "%s", policy);
    cpl_chart_series *a = add_line(speed, name), *b = add_line(latency, name);
    for (size_t i = 0; a && b && i < r->point_count; i++) {
        const cpl_lab_point *p = &r->points[i];
        if (!p->requests || p->batch != line->batch || *p->server) continue;
        add_point(speed, a, rate_point((double)p->concurrency, p));
        add_point(latency, b, (cpl_chart_point){(double)p->concurrency, p->latency_p95_ms, 0, 0, NULL, !p->p95_enough});
    }
    if (a && !a->count) {
        drop_line(speed);
        drop_line(latency);
    }
}

static bool level_group(const cpl_lab_results *all, size_t first, lines *speed, lines *latency,
                        const cpl_lab_result **shown)
{
    lines_init(speed, "Throughput by requests in flight", "requests in flight", "pairs/s");
    lines_init(latency, "Latency by requests in flight", "requests in flight", "latency p95, ms");
    speed->chart.x_log = latency->chart.x_log = latency->chart.y_log = true;
    speed->chart.x_as_given = latency->chart.x_as_given = speed->chart.y_zero = true;
    *shown = NULL;
    for (size_t i = first; i < all->count; i++) {
        const cpl_lab_result *r = all->at[i];
        if (!is_closed(r) || !cpl_lab_plan_related(all->at[first]->name, r->name) || !has_levels(r)) continue;
        bool many = false;
        for (size_t k = 1; k < r->point_count; k++) many |= r->points[k].batch != r->points[0].batch;
        for (size_t k = 0; k < r->point_count; k++) {
            bool seen = !r->points[k].requests;
            for (size_t j = 0; j < k; j++) seen |= r->points[j].requests && r->points[j].batch == r->points[k].batch;
            if (!seen) level_line(speed, latency, r, &r->points[k], many);
        }
        if (!*shown && speed->chart.count) *shown = r;
    }
    return *shown != NULL;
}

void cpl_index_concurrency(const cpl_lab_results *all, cpl_buf *out)
{
    bool open = false;
    for (size_t i = 0; i < all->count; i++) {
        lines speed, latency;
        const cpl_lab_result *r;
        char title[200], text[300];
        if (!first_of_number(all, i) || !level_group(all, i, &speed, &latency, &r)) continue;
        if (!open)
            cpl_index_open(
                out, "concurrency", "Requests in flight",
                "Closed loop: so many requests are kept in flight. A latency means something only together with "
                "that number.");
        if (!open) cpl_buf_text(out, "<div class=grid>");
        open = true;
        const cpl_lab_point *p = cpl_lab_best(r);
        const bool many = strstr(speed.names[0], " pairs") && speed.chart.count > 1;
        char of[120], latency_title[160];
        if (many)
            snprintf(of, sizeof of, "%s", r->precision_effective);
        else
            snprintf(of, sizeof of, "%llu pair%s a request, %s", (unsigned long long)p->batch, p->batch > 1 ? "s" : "",
                     r->precision_effective);
        snprintf(title, sizeof title, "Throughput, %s", of);
        snprintf(latency_title, sizeof latency_title, "Latency p95, %s", of);
        snprintf(text, sizeof text, "%.120s. %.100s", r->description, r->name);
        put_chart(out, title, text, true, &speed);
        put_chart(out, latency_title, text, true, &latency);
    }
    if (!open) return;
    cpl_buf_text(out, "</div>");
    cpl_index_close(out);
}

/* ---- latency against load ------------------------------------------------------------------------------------- */

static void load_curve(const cpl_lab_result *r, cpl_buf *out)
{
    lines l;
    char knee_text[80] = "", slo_text[64] = "", text[400];
    lines_init(&l, "Latency against offered load", "requests/s offered", "latency, ms");
    l.chart.y_log = true;
    cpl_chart_series *p50 = add_line(&l, "p50"), *p95 = add_line(&l, "p95"), *p99 = add_line(&l, "p99");
    for (size_t i = 0; i < r->point_count; i++) {
        const cpl_lab_point *p = &r->points[i];
        if (!p->requests || *p->server || p->batch != r->points[0].batch) continue;
        add_point(&l, p50, (cpl_chart_point){p->offered, p->latency_p50_ms, 0, 0, NULL, !p->p50_enough || !p->valid});
        add_point(&l, p95, (cpl_chart_point){p->offered, p->latency_p95_ms, 0, 0, NULL, !p->p95_enough || !p->valid});
        add_point(&l, p99, (cpl_chart_point){p->offered, p->latency_p99_ms, 0, 0, NULL, !p->p99_enough || !p->valid});
    }
    const cpl_lab_knee k = cpl_lab_knee_of(r, &r->points[0]);
    if (k.knee && k.kept) {
        l.chart.x_mark = k.kept->offered;
        snprintf(knee_text, sizeof knee_text, "knee: %.0f/s", k.kept->offered);
        l.chart.x_mark_text = knee_text;
    }
    if (r->points[0].slo_ms > 0) {
        l.chart.y_mark = r->points[0].slo_ms;
        snprintf(slo_text, sizeof slo_text, "objective %g ms", r->points[0].slo_ms);
        l.chart.y_mark_text = slo_text;
    }
    snprintf(text, sizeof text, "%.160s. The knee is the last load whose p95 is within twice that of the lightest%s.",
             r->description, k.knee ? "" : "; it was not reached");
    put_chart(out, "Latency against load", text, false, &l);
    cpl_index_figure(out, "The same in numbers",
                     "Milliseconds; ~ marks what an INVALID row or too few samples make doubtful.");
    cpl_index_table(out, &l.chart);
    cpl_index_figure_end(out);
}

static bool is_open_loop(const cpl_lab_result *r) { return cpl_lab_ran(r) && !cpl_lab_best(r)->concurrency; }

static void policy_lines(const cpl_lab_results *all, size_t first, cpl_buf *out)
{
    lines l;
    lines_init(&l, "Latency by policy", "requests/s offered", "latency p95, ms");
    l.chart.y_log = true;
    size_t results = 0;
    for (size_t i = first; i < all->count; i++) {
        const cpl_lab_result *r = all->at[i];
        if (!is_open_loop(r) || !cpl_lab_plan_related(r->name, all->at[first]->name)) continue;
        results++;
        cpl_chart_series *s = NULL;
        for (size_t k = 0; k < r->point_count; k++) {
            const cpl_lab_point *p = &r->points[k];
            char name[NAME_CAP];
            if (!p->requests) continue;
            if (!k || strcmp(p->server, r->points[k - 1].server) != 0 || !s) {
                const char *timer = strstr(p->server, "timeout_ms="), *size = strstr(p->server, "batch_size=");
                if (timer && size)
                    snprintf(name, sizeof name, "%.*s ms, %.*s pairs", (int)strcspn(timer + 11, ","), timer + 11,
                             (int)strcspn(size + 11, ","), size + 11);
                else
                    cpl_index_policy(name, sizeof name, r);
                s = add_line(&l, *p->server && !timer ? p->server : name);
            }
            if (s)
                add_point(&l, s,
                          (cpl_chart_point){p->offered, p->latency_p95_ms, 0, 0, NULL, !p->p95_enough || !p->valid});
        }
    }
    if (results < 2) return;
    put_chart(out, "Which policy, at which load",
              "A timer and a size, against taking what waits, under arrivals by chance.", false, &l);
    cpl_index_figure(out, "The same in numbers", "Latency p95 in milliseconds.");
    cpl_index_table(out, &l.chart);
    cpl_index_figure_end(out);
}

void cpl_index_load(const cpl_lab_results *all, cpl_buf *out)
{
    bool open = false;
    for (size_t i = 0; i < all->count; i++) {
        const cpl_lab_result *r = all->at[i];
        if (!is_open_loop(r) || r->point_count < 3) continue;
        if (!open) {
            cpl_index_open(
                out, "load", "Latency against load",
                "Open loop: requests arrive by chance at a rate, whatever the server does, and latency counts from "
                "the moment each was due. Hollow marks are INVALID percentiles, as all are where more is offered than "
                "the server takes.");
            cpl_buf_text(out, "<div class=grid>");
        }
        open = true;
        size_t related = 0;
        for (size_t k = 0; k < all->count; k++)
            related += is_open_loop(all->at[k]) && cpl_lab_plan_related(r->name, all->at[k]->name);
        if (related > 1) {
            bool first = true;
            for (size_t k = 0; k < i; k++)
                first &= !(is_open_loop(all->at[k]) && cpl_lab_plan_related(r->name, all->at[k]->name));
            if (first) policy_lines(all, i, out);
        } else if (!*r->points[0].server) {
            load_curve(r, out);
        }
    }
    if (!open) return;
    cpl_buf_text(out, "</div>");
    cpl_index_close(out);
}

/* ---- speed against quality ------------------------------------------------------------------------------------ */

void cpl_index_quality(const cpl_lab_results *all, cpl_buf *out)
{
    lines l;
    lines_init(&l, "Speed against accuracy by precision", "pairs/s", "rank correlation with fp32 (Spearman)");
    cpl_chart_series *s = add_line(&l, "");
    l.chart.y_top = 1;
    s->joined = false;
    cpl_buf table = {0};
    for (size_t i = 0; i < all->count && s->count < POINTS_MAX; i++) {
        const cpl_lab_result *r = all->at[i];
        if (!cpl_lab_ran(r) || !r->quality.pairs) continue;
        const cpl_lab_point *p = cpl_lab_best(r);
        cpl_chart_point at = {p->throughput, r->quality.spearman, 0, 0, r->precision_effective, !p->valid};
        add_point(&l, s, at);
        cpl_buf_print(&table, "<tr><td>%s<td>%s<td class=r>", r->backend, r->precision_effective);
        cpl_chart_number(&table, p->throughput);
        cpl_buf_print(&table, "<td class=r>%.5f<td class=r>%.4f<td class=r>%.5f<td class=r>%.3f<td class=r>%llu\n",
                      r->quality.spearman, r->quality.kendall, r->quality.ndcg10, r->quality.max_difference,
                      (unsigned long long)r->quality.pairs);
    }
    if (s->count) {
        cpl_index_open(
            out, "quality", "Speed against quality",
            "How fast each is, and how well it keeps the order that couplet's own engine gives in fp32 on the same "
            "pairs. Up and to the right is better.");
        cpl_buf_text(out, "<div class=grid>");
        cpl_index_figure(out, "Throughput and rank correlation", "1 is the same order as fp32.");
        cpl_chart_svg(&l.chart, out);
        cpl_index_figure_end(out);
        cpl_index_figure(out, "The same in numbers",
                         "Largest difference: of a score, in standard deviations of fp32's.");
        cpl_buf_text(out, "<div class=scroll><table><tr><th>Backend<th>Precision<th class=r>pairs/s<th "
                          "class=r>Spearman<th class=r>Kendall"
                          "<th class=r>nDCG@10<th class=r>largest<th class=r>pairs\n");
        cpl_buf_add(out, table.data, table.size);
        cpl_buf_text(out, "</table></div>");
        cpl_index_figure_end(out);
        cpl_buf_text(out, "</div>");
        cpl_index_close(out);
    }
    out->failed |= table.failed;
    cpl_buf_deinit(&table);
}
