/* SPDX-License-Identifier: Apache-2.0 */
/* chart.c - lines and scatters. The one idea: a figure says what it is without a legend: series are named where they
 * end, the unit stands over its axis, marks are written at their lines; shape and colour both tell series apart.
 * Invariant: whatever the numbers, the SVG is well-formed and nothing lies outside its box. No state. */
#include "lab/chart.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define WIDTH  440.0
#define HEIGHT 270.0
#define LEFT   52.0
#define TOP    30.0
#define BOTTOM 44.0

enum { TICKS_MAX = 24 };

/* ---- words ---------------------------------------------------------------------------------------------------- */

void cpl_chart_escape(cpl_buf *out, const char *text)
{
    for (; *text; text++) switch (*text) {
        case '<': cpl_buf_text(out, "&lt;"); break;
        case '>': cpl_buf_text(out, "&gt;"); break;
        case '&': cpl_buf_text(out, "&amp;"); break;
        case '"': cpl_buf_text(out, "&quot;"); break;
        default: cpl_buf_add(out, text, 1);
        }
}

void cpl_chart_number(cpl_buf *out, double v)
{
    const double a = fabs(v);
    if (!isfinite(v)) {
        cpl_buf_text(out, "-");
        return;
    }
    if (a < 1000) {
        char text[64];
        int digits = a >= 99.95 || a == 0 ? 0 : a >= 9.995 ? 1 : a >= 0.9995 ? 2 : a >= 0.1 ? 3 : 4;
        if (v == floor(v)) digits = 0;
        snprintf(text, sizeof text, "%.*f", digits, v);
        cpl_buf_text(out, text);
        return;
    }
    char plain[40];
    snprintf(plain, sizeof plain, "%.0f", v);
    const size_t n = strlen(plain), sign = plain[0] == '-';
    for (size_t i = 0; i < n; i++) {
        if (i > sign && (n - i) % 3 == 0) cpl_buf_text(out, ",");
        cpl_buf_add(out, plain + i, 1);
    }
}

/* ---- axes ----------------------------------------------------------------------------------------------------- */

typedef struct axis {
    double from, to; /* of the values */
    double at0, at1; /* of the box; at1 < at0 for y */
    bool log;
    int digits; /* behind the point, the same at every tick; -1: as each number has it */
    double ticks[TICKS_MAX];
    size_t count;
} axis;

static double map(const axis *a, double v)
{
    const double part = a->log ? log(v / a->from) / log(a->to / a->from) : (v - a->from) / (a->to - a->from);
    return a->at0 + part * (a->at1 - a->at0);
}

static void add_tick(axis *a, double v)
{
    const double slack = a->log ? 0 : (a->to - a->from) * 1e-9;
    if (a->count < TICKS_MAX && v >= a->from - slack - a->from * 1e-9 && v <= a->to + slack + a->to * 1e-9)
        a->ticks[a->count++] = v;
}

/* Steps of 1, 2 or 5 times a power of ten, at most six of them; the axis ends on ticks. */
static void ticks_linear(axis *a)
{
    const double span = a->to - a->from;
    double step = pow(10, floor(log10(span / 5)));
    if (span / step > 25) step *= 5;
    if (span / step > 12) step *= 2;
    if (span / step > 6) step *= 2;
    a->digits = step < 1 ? (int)ceil(-log10(step) - 1e-9) : -1;
    if (a->from > 0 || a->from < 0) a->from = floor(a->from / step + 1e-9) * step;
    a->to = ceil(a->to / step - 1e-9) * step;
    for (double v = a->from; a->count < TICKS_MAX && v <= a->to + step / 2; v += step)
        add_tick(a, fabs(v) < step / 1e6 ? 0 : v);
}

/* 1, 2, 5 of each decade; of many decades only the powers. */
static void ticks_log(axis *a)
{
    const bool many = log10(a->to / a->from) > 2.3;
    static const double steps[] = {1, 2, 5};
    for (int e = (int)floor(log10(a->from)); e <= (int)ceil(log10(a->to)); e++)
        for (size_t k = 0; k < (many ? 1 : 3); k++) add_tick(a, steps[k] * pow(10, e));
}

static bool drawable(const cpl_chart *c, const cpl_chart_point *p)
{
    return isfinite(p->x) && isfinite(p->y) && (!c->x_log || p->x > 0) && (!c->y_log || p->y > 0);
}

static void stretch(axis *a, double v)
{
    if (!isfinite(v) || (a->log && v <= 0)) return;
    if (v < a->from) a->from = v;
    if (v > a->to) a->to = v;
}

/* False when there is nothing to draw. */
static bool range(const cpl_chart *c, axis *x, axis *y)
{
    size_t n = 0;
    for (size_t s = 0; s < c->count; s++)
        for (size_t i = 0; i < c->series[s].count; i++) {
            const cpl_chart_point *p = &c->series[s].points[i];
            if (!drawable(c, p)) continue;
            n++;
            stretch(x, p->x);
            stretch(y, p->y);
            if (p->low < p->high) stretch(y, p->low), stretch(y, p->high);
        }
    stretch(x, c->x_mark);
    stretch(y, c->y_mark);
    if (c->y_zero) stretch(y, 0);
    return n > 0;
}

static void widen(axis *a, double by)
{
    if (a->log) {
        const double k = a->from == a->to ? 2 : pow(a->to / a->from, by);
        a->from /= k;
        a->to *= k;
    } else {
        const double k = a->from == a->to ? (a->from != 0 ? fabs(a->from) / 2 : 1) : (a->to - a->from) * by;
        if (a->from != 0) a->from -= k;
        a->to += k;
    }
}

/* The points' own values, those that have room. */
static void ticks_given(const cpl_chart *c, axis *a)
{
    for (size_t s = 0; s < c->count; s++)
        for (size_t i = 0; i < c->series[s].count; i++) {
            const double v = c->series[s].points[i].x;
            size_t at = 0;
            if (!drawable(c, &c->series[s].points[i])) continue;
            while (at < a->count && a->ticks[at] < v) at++;
            if ((at < a->count && a->ticks[at] == v) || a->count == TICKS_MAX) continue;
            memmove(&a->ticks[at + 1], &a->ticks[at], (a->count - at) * sizeof *a->ticks);
            a->ticks[at] = v;
            a->count++;
        }
    size_t kept = 0;
    for (size_t i = 0; i < a->count; i++)
        if (!kept || map(a, a->ticks[i]) - map(a, a->ticks[kept - 1]) >= 27) a->ticks[kept++] = a->ticks[i];
    a->count = kept;
}

static void put_tick(const axis *a, double v, cpl_buf *out)
{
    if (a->digits > 0 && fabs(v) < 1000)
        cpl_buf_print(out, "%.*f", a->digits, v);
    else
        cpl_chart_number(out, v);
}

static void draw_axes(const cpl_chart *c, const axis *x, const axis *y, cpl_buf *out)
{
    for (size_t i = 0; i < y->count; i++) {
        const double at = map(y, y->ticks[i]);
        cpl_buf_print(out, "<path class=\"grid\" d=\"M%.1f %.1fH%.1f\"/><text class=\"e\" x=\"%.1f\" y=\"%.1f\">", LEFT,
                      at, x->at1, LEFT - 6, at + 4);
        put_tick(y, y->ticks[i], out);
        cpl_buf_text(out, "</text>");
    }
    for (size_t i = 0; i < x->count; i++) {
        const double at = map(x, x->ticks[i]);
        cpl_buf_print(out, "<path class=\"tick\" d=\"M%.1f %.1fv4\"/><text class=\"m\" x=\"%.1f\" y=\"%.1f\">", at,
                      y->at0, at, y->at0 + 17);
        put_tick(x, x->ticks[i], out);
        cpl_buf_text(out, "</text>");
    }
    cpl_buf_print(out, "<path class=\"axis\" d=\"M%.1f %.1fH%.1f\"/><text class=\"t\" x=\"%.1f\" y=\"14\">", LEFT,
                  y->at0, x->at1, 4.0);
    cpl_chart_escape(out, c->y_title);
    cpl_buf_print(out, "</text><text class=\"t e\" x=\"%.1f\" y=\"%.1f\">", x->at1, y->at0 + 36);
    cpl_chart_escape(out, c->x_title);
    cpl_buf_text(out, "</text>");
}

static void draw_marks(const cpl_chart *c, const axis *x, const axis *y, cpl_buf *out)
{
    if (isfinite(c->x_mark) && (!c->x_log || c->x_mark > 0)) {
        const double at = map(x, c->x_mark);
        const bool left = at > (x->at0 + x->at1) / 2;
        cpl_buf_print(out, "<path class=\"mark\" d=\"M%.1f %.1fV%.1f\"/><text class=\"k%s\" x=\"%.1f\" y=\"%.1f\">", at,
                      y->at1, y->at0, left ? " e" : "", at + (left ? -6 : 6), y->at1 + 10);
        cpl_chart_escape(out, c->x_mark_text);
        cpl_buf_text(out, "</text>");
    }
    if (isfinite(c->y_mark) && (!c->y_log || c->y_mark > 0)) {
        const double at = map(y, c->y_mark);
        cpl_buf_print(out, "<path class=\"mark\" d=\"M%.1f %.1fH%.1f\"/><text class=\"k\" x=\"%.1f\" y=\"%.1f\">", LEFT,
                      at, x->at1, LEFT + 6, at - 5);
        cpl_chart_escape(out, c->y_mark_text);
        cpl_buf_text(out, "</text>");
    }
}

/* ---- series --------------------------------------------------------------------------------------------------- */

static void shape(int colour, double x, double y, bool hollow, cpl_buf *out)
{
    const char *extra = hollow ? " hollow" : "";
    switch (colour % 4) {
    case 0: cpl_buf_print(out, "<circle class=\"p%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.6\">", extra, x, y); return;
    case 1: cpl_buf_print(out, "<path class=\"p%s\" d=\"M%.1f %.1fh6.6v6.6h-6.6z\">", extra, x - 3.3, y - 3.3); return;
    case 2: cpl_buf_print(out, "<path class=\"p%s\" d=\"M%.1f %.1fl4.4 7.6h-8.8z\">", extra, x, y - 4.8); return;
    default: cpl_buf_print(out, "<path class=\"p%s\" d=\"M%.1f %.1fl4.6 4.6-4.6 4.6-4.6-4.6z\">", extra, x, y - 4.6);
    }
}

static void tooltip(const cpl_chart *c, const cpl_chart_series *s, const cpl_chart_point *p, cpl_buf *out)
{
    cpl_buf_text(out, "<title>");
    if (s->name && *s->name) {
        cpl_chart_escape(out, s->name);
        cpl_buf_text(out, ": ");
    }
    cpl_chart_number(out, p->y);
    cpl_buf_text(out, " ");
    cpl_chart_escape(out, c->y_title);
    if (p->low < p->high) {
        cpl_buf_text(out, " (");
        cpl_chart_number(out, p->low);
        cpl_buf_text(out, " to ");
        cpl_chart_number(out, p->high);
        cpl_buf_text(out, ")");
    }
    cpl_buf_text(out, " at ");
    cpl_chart_number(out, p->x);
    cpl_buf_text(out, " ");
    cpl_chart_escape(out, c->x_title);
    cpl_buf_text(out, "</title>");
}

static void draw_series(const cpl_chart *c, const cpl_chart_series *s, const axis *x, const axis *y, cpl_buf *out)
{
    bool first = true;
    cpl_buf_print(out, "<g class=\"c%d\">", s->colour % CPL_CHART_COLOURS);
    for (size_t i = 0; s->joined && i < s->count; i++) {
        if (!drawable(c, &s->points[i])) continue;
        cpl_buf_print(out, first ? "<path class=\"l\" d=\"M%.1f %.1f" : "L%.1f %.1f", map(x, s->points[i].x),
                      map(y, s->points[i].y));
        first = false;
    }
    if (!first) cpl_buf_text(out, "\"/>");
    for (size_t i = 0; i < s->count; i++) {
        const cpl_chart_point *p = &s->points[i];
        if (!drawable(c, p)) continue;
        const double px = map(x, p->x), py = map(y, p->y);
        if (p->low < p->high && (!c->y_log || p->low > 0))
            cpl_buf_print(out, "<path class=\"i\" d=\"M%.1f %.1fV%.1f\"/>", px, map(y, p->low), map(y, p->high));
        shape(s->colour, px, py, p->doubtful, out);
        tooltip(c, s, p, out);
        cpl_buf_text(out, s->colour % 4 == 0 ? "</circle>" : "</path>");
        if (!p->label) continue;
        const bool left = px > (x->at0 + x->at1) * 0.62;
        cpl_buf_print(out, "<text class=\"n%s\" x=\"%.1f\" y=\"%.1f\">", left ? " e" : "", px + (left ? -8 : 8),
                      py + 4);
        cpl_chart_escape(out, p->label);
        cpl_buf_text(out, "</text>");
    }
    cpl_buf_text(out, "</g>");
}

/* Names where the lines end, pushed apart where they would lie on each other. */
static void draw_names(const cpl_chart *c, const axis *x, const axis *y, cpl_buf *out)
{
    double at[CPL_CHART_SERIES_MAX];
    size_t order[CPL_CHART_SERIES_MAX], n = 0;
    for (size_t s = 0; s < c->count; s++) {
        const cpl_chart_point *last = NULL;
        for (size_t i = 0; i < c->series[s].count; i++)
            if (drawable(c, &c->series[s].points[i])) last = &c->series[s].points[i];
        if (!last) continue;
        at[s] = map(y, last->y);
        size_t k = n++;
        for (; k > 0 && at[order[k - 1]] > at[s]; k--) order[k] = order[k - 1];
        order[k] = s;
    }
    for (size_t k = 1; k < n; k++)
        if (at[order[k]] < at[order[k - 1]] + 15) at[order[k]] = at[order[k - 1]] + 15;
    for (size_t k = n; k-- > 0;) {
        const double room = k + 1 < n ? at[order[k + 1]] - 15 : y->at0;
        if (at[order[k]] > room) at[order[k]] = room;
        cpl_buf_print(out, "<text class=\"n c%d\" x=\"%.1f\" y=\"%.1f\">",
                      c->series[order[k]].colour % CPL_CHART_COLOURS, x->at1 + 8, at[order[k]] + 4);
        cpl_chart_escape(out, c->series[order[k]].name);
        cpl_buf_text(out, "</text>");
    }
}

void cpl_chart_svg(const cpl_chart *c, cpl_buf *out)
{
    size_t longest = 0;
    for (size_t s = 0; c->count > 1 && s < c->count; s++)
        if (c->series[s].name && strlen(c->series[s].name) > longest) longest = strlen(c->series[s].name);
    const double right = longest ? 16 + 8.8 * (double)longest : 14; /* bold, and larger on a phone */
    axis x = {.from = INFINITY, .to = -INFINITY, .at0 = LEFT + 8, .at1 = WIDTH - right, .log = c->x_log, .digits = -1};
    axis y = {.from = INFINITY, .to = -INFINITY, .at0 = HEIGHT - BOTTOM, .at1 = TOP, .log = c->y_log, .digits = -1};
    if (!range(c, &x, &y)) return;
    widen(&x, c->x_as_given ? 0.02 : 0.04);
    widen(&y, 0.06);
    if (c->y_top > 0 && y.to > c->y_top) y.to = c->y_top;
    if (c->x_as_given)
        ticks_given(c, &x);
    else if (x.log)
        ticks_log(&x);
    else
        ticks_linear(&x);
    if (y.log)
        ticks_log(&y);
    else
        ticks_linear(&y);
    cpl_buf_print(out, "<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"", WIDTH, HEIGHT);
    cpl_chart_escape(out, c->alt);
    cpl_buf_text(out, "\">");
    draw_axes(c, &x, &y, out);
    draw_marks(c, &x, &y, out);
    for (size_t s = 0; s < c->count; s++) draw_series(c, &c->series[s], &x, &y, out);
    if (longest) draw_names(c, &x, &y, out);
    cpl_buf_text(out, "</svg>\n");
}
