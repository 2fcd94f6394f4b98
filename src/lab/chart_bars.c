/* SPDX-License-Identifier: Apache-2.0 */
/* chart_bars.c - figures whose lines are words: ratios with intervals, bars in parts, columns. Same idea as chart.c. No
 * state. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lab/chart.h"

#define WIDTH 440.0

static void begin(const char *alt, double height, cpl_buf *out)
{
    cpl_buf_print(out, "<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"", WIDTH, height);
    cpl_chart_escape(out, alt);
    cpl_buf_text(out, "\">");
}

static void label(const char *class, double x, double y, const char *text, cpl_buf *out)
{
    cpl_buf_print(out, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\">", class, x, y);
    cpl_chart_escape(out, text);
    cpl_buf_text(out, "</text>");
}

/* ---- ratios --------------------------------------------------------------------------------------------------- */

#define RATIO_LINE 36.0
#define RATIO_TOP  26.0

static double ratio_at(double v, double from, double to) { return 16 + (WIDTH - 32) * log(v / from) / log(to / from); }

/* Rounded outwards to the steps that are written: 0.5, 0.8, 1, 1.25, 2, 5 ... */
static const double ratio_ticks[] = {0.02, 0.05, 0.1, 0.2, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 5, 10, 20, 50};
enum { RATIO_TICKS = sizeof ratio_ticks / sizeof *ratio_ticks };

/* Rules only beside the marks, so that none crosses a label. */
static void ratio_scale(size_t n, double from, double to, cpl_buf *out)
{
    double last = -100;
    const double bottom = RATIO_TOP + RATIO_LINE * (double)n;
    for (size_t i = 0; i < RATIO_TICKS; i++) {
        const double v = ratio_ticks[i];
        if (v < from || v > to) continue;
        const double at = ratio_at(v, from, to);
        if (v != 1 && (at - last < 34 || fabs(at - ratio_at(1, from, to)) < 34)) continue;
        last = at;
        cpl_buf_print(out, "<path class=\"%s\" d=\"", v == 1 ? "one" : "grid");
        for (size_t k = 0; k < n; k++) cpl_buf_print(out, "M%.1f %.1fv16", at, RATIO_TOP + RATIO_LINE * (double)k + 17);
        cpl_buf_print(out, "\"/><text class=\"m\" x=\"%.1f\" y=\"%.1f\">&#215;%g</text>", at, bottom + 16, v);
    }
}

void cpl_chart_ratios(const char *alt, const char *less, const char *more, const cpl_chart_ratio *rows, size_t n,
                      cpl_buf *out)
{
    double low = 0.95, high = 1.05;
    if (!n) return;
    for (size_t i = 0; i < n; i++) {
        low = fmin(low, rows[i].known && rows[i].low > 0 ? rows[i].low : rows[i].mean);
        high = fmax(high, rows[i].known ? rows[i].high : rows[i].mean);
    }
    low = fmax(low / 1.03, 0.02);
    high = fmin(high * 1.03, 50);
    begin(alt, RATIO_TOP + RATIO_LINE * (double)n + 24, out);
    ratio_scale(n, low, high, out);
    const double one = ratio_at(1, low, high);
    if (one > 70) label("k e", one - 6, 14, less, out);
    if (one < WIDTH - 70) label("k", one + 6, 14, more, out);
    for (size_t i = 0; i < n; i++) {
        const cpl_chart_ratio *r = &rows[i];
        const double y = RATIO_TOP + RATIO_LINE * (double)i + 25;
        const double at = ratio_at(fmin(fmax(r->mean, low), high), low, high);
        label("w", 16, y - 11, r->label, out);
        cpl_buf_print(out, "<g class=\"c%d\">", r->colour % CPL_CHART_COLOURS);
        if (r->known)
            cpl_buf_print(out, "<path class=\"b\" d=\"M%.1f %.1fH%.1f\"/>", ratio_at(fmax(r->low, low), low, high), y,
                          ratio_at(fmin(r->high, high), low, high));
        cpl_buf_print(out, "<circle class=\"p%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"/></g>", r->known ? "" : " hollow", at,
                      y);
        cpl_buf_print(out, "<text class=\"v e\" x=\"%.1f\" y=\"%.1f\">&#215;%.2f", WIDTH - 16, y - 11, r->mean);
        if (r->known) cpl_buf_print(out, " (%.2f to %.2f)", r->low, r->high);
        cpl_buf_text(out, "</text>");
    }
    cpl_buf_text(out, "</svg>\n");
}

/* ---- bars in parts -------------------------------------------------------------------------------------------- */

#define BAR_LINE 38.0
#define BAR_TOP  28.0

void cpl_chart_bars(const char *alt, const char *unit, bool shares, const char *const *parts, size_t part_count,
                    const cpl_chart_bar *bars, size_t n, cpl_buf *out)
{
    double longest = 0, at = 16;
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (size_t k = 0; k < part_count; k++) sum += bars[i].parts[k];
        longest = fmax(longest, sum);
    }
    if (!(longest > 0)) return;
    begin(alt, BAR_TOP + BAR_LINE * (double)n + 4, out);
    for (size_t k = 0; part_count > 1 && k < part_count; k++) { /* the parts' names, with their colours */
        cpl_buf_print(out, "<path class=\"f c%zu\" d=\"M%.1f 5h10v10h-10z\"/>", k % CPL_CHART_COLOURS, at);
        label("w", at + 14, 14, parts[k], out);
        at += 30 + 6.8 * (double)strlen(parts[k]);
    }
    for (size_t i = 0; i < n; i++) {
        const double y = BAR_TOP + BAR_LINE * (double)i;
        double from = 16, sum = 0, all = 0;
        for (size_t k = 0; k < part_count; k++) all += bars[i].parts[k];
        label("w", 16, y + 10, bars[i].label, out);
        for (size_t k = 0; k < part_count; k++) {
            const double wide = (WIDTH - 32) * bars[i].parts[k] / (shares && all > 0 ? all : longest);
            sum += bars[i].parts[k];
            if (!(wide > 0)) continue;
            cpl_buf_print(out, "<path class=\"f c%zu\" d=\"M%.2f %.1fh%.2fv13h-%.2fz\"><title>", k % CPL_CHART_COLOURS,
                          from, y + 15, wide, wide);
            if (part_count > 1) cpl_chart_escape(out, parts[k]);
            cpl_buf_text(out, " ");
            cpl_chart_number(out, bars[i].parts[k]);
            cpl_buf_text(out, " ");
            cpl_chart_escape(out, unit);
            cpl_buf_text(out, "</title></path>");
            from += wide;
        }
        cpl_buf_print(out, "<text class=\"v e\" x=\"%.1f\" y=\"%.1f\">", WIDTH - 16, y + 10);
        cpl_chart_number(out, sum);
        cpl_buf_text(out, " ");
        cpl_chart_escape(out, unit);
        cpl_buf_text(out, "</text>");
    }
    cpl_buf_text(out, "</svg>\n");
}

/* ---- columns -------------------------------------------------------------------------------------------------- */

enum { COLUMNS_HEIGHT = 190 };

void cpl_chart_columns(const char *alt, const char *x_title, int colour, const cpl_chart_column *columns, size_t n,
                       cpl_buf *out)
{
    double all = 0, most = 0, last = 1;
    for (size_t i = 0; i < n; i++) {
        all += columns[i].times;
        most = fmax(most, columns[i].times);
        last = fmax(last, columns[i].value);
    }
    if (!(all > 0)) return;
    const double left = 46, right = WIDTH - 14, top = 28, bottom = COLUMNS_HEIGHT - 40;
    const double slot = (right - left) / last, wide = fmax(fmin(slot * 0.8, 26), 1.2);
    begin(alt, COLUMNS_HEIGHT, out);
    label("t", 4, 14, "% of passes", out);
    const double peak = most / all * 100, step = peak > 60 ? 25 : peak > 25 ? 10 : peak > 10 ? 5 : 2;
    const double scale = (bottom - top) / (ceil(peak / step) * step);
    for (double v = 0; v <= ceil(peak / step) * step + 0.1; v += step)
        cpl_buf_print(out,
                      "<path class=\"%s\" d=\"M%.1f %.1fH%.1f\"/><text class=\"e\" x=\"%.1f\" y=\"%.1f\">%g</text>",
                      v > 0 ? "grid" : "axis", left, bottom - v * scale, right, left - 6, bottom - v * scale + 4, v);
    double written = -100;
    for (double v = 1; v <= last; v++) {
        const double at = left + slot * (v - 0.5);
        if (v > 1 && v < last && (at - written < 30 || left + slot * (last - 0.5) - at < 26)) continue;
        if (v == last && v > 1 && at - written < 16) continue;
        written = at;
        cpl_buf_print(out, "<text class=\"m\" x=\"%.1f\" y=\"%.1f\">%.0f</text>", at, bottom + 16, v);
    }
    cpl_buf_print(out, "<g class=\"c%d\">", colour % CPL_CHART_COLOURS);
    for (size_t i = 0; i < n; i++) {
        const double part = columns[i].times / all * 100, high = fmax(part * scale, 0.6);
        cpl_buf_print(out,
                      "<path class=\"f c%d\" d=\"M%.1f %.1fh%.1fv%.1fh-%.1fz\"><title>%.0f: %.1f %%</title></path>",
                      colour % CPL_CHART_COLOURS, left + slot * (columns[i].value - 0.5) - wide / 2, bottom - high,
                      wide, high, wide, columns[i].value, part);
    }
    cpl_buf_text(out, "</g>");
    label("t e", right, bottom + 34, x_title, out);
    cpl_buf_text(out, "</svg>\n");
}
