/* SPDX-License-Identifier: Apache-2.0 */
/* chart.h - figures as inline SVG for the report's page. Colours, fonts and line widths come from the page's style by
 * class, so one figure is right in light and dark; every point carries its numbers as a tooltip. Texts given are plain
 * and get escaped. A failed append stays in out. */
#ifndef CPL_LAB_CHART_H
#define CPL_LAB_CHART_H

#include "base/buf.h"
#include "couplet.h"

enum { CPL_CHART_COLOURS = 6, CPL_CHART_SERIES_MAX = 8 };

typedef struct cpl_chart_point {
    double x, y;
    double low, high;  /* interval of y; equal: none drawn */
    const char *label; /* beside the point, for scatters; may be NULL */
    bool doubtful;     /* drawn hollow */
} cpl_chart_point;

typedef struct cpl_chart_series {
    const char *name; /* written at the line's end when there are several */
    const cpl_chart_point *points;
    size_t count;
    int colour;  /* 0 .. CPL_CHART_COLOURS - 1; also the shape of its marks */
    bool joined; /* by a line */
} cpl_chart_series;

typedef struct cpl_chart {
    const char *alt; /* what a reader who can't see it is told */
    const char *x_title, *y_title;
    bool x_log, y_log, y_zero;
    double y_top;          /* no tick above it; 0: none such */
    bool x_as_given;       /* ticks at the points' own x */
    double x_mark, y_mark; /* a line across with its text; NAN: none */
    const char *x_mark_text, *y_mark_text;
    cpl_chart_series series[CPL_CHART_SERIES_MAX];
    size_t count;
} cpl_chart;

/* Nothing is written when no point can be drawn (not finite, or not above 0 on a logarithmic axis). */
void cpl_chart_svg(const cpl_chart *c, cpl_buf *out);

/* Ratios with their intervals, a line each, against 1 (a thin rule). */
typedef struct cpl_chart_ratio {
    const char *label;
    double mean, low, high;
    bool known;
    int colour;
} cpl_chart_ratio;
void cpl_chart_ratios(const char *alt, const char *less, const char *more, const cpl_chart_ratio *rows, size_t n,
                      cpl_buf *out);

/* Horizontal bars made of parts, longest to scale. */
enum { CPL_CHART_PARTS_MAX = 6 };
typedef struct cpl_chart_bar {
    const char *label;
    double parts[CPL_CHART_PARTS_MAX];
} cpl_chart_bar;
/* shares: every bar full width, its sum written. */
void cpl_chart_bars(const char *alt, const char *unit, bool shares, const char *const *parts, size_t part_count,
                    const cpl_chart_bar *bars, size_t n, cpl_buf *out);

/* Columns: how often each value came. */
typedef struct cpl_chart_column {
    double value, times;
} cpl_chart_column;
void cpl_chart_columns(const char *alt, const char *x_title, int colour, const cpl_chart_column *columns, size_t n,
                       cpl_buf *out);

/* A number for readers: three digits or so, thousands apart: 0.123, 12.3, 1,234. */
void cpl_chart_number(cpl_buf *out, double v);
/* Text for HTML and SVG. */
void cpl_chart_escape(cpl_buf *out, const char *text);

#endif
