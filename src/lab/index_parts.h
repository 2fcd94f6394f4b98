/* SPDX-License-Identifier: Apache-2.0 */
/* index_parts.h - what the files of the page share: its sections, in order, and the small pieces of HTML. */
#ifndef CPL_LAB_INDEX_PARTS_H
#define CPL_LAB_INDEX_PARTS_H

#include "lab/chart.h"
#include "lab/compare.h"
#include "lab/findings.h"
#include "lab/index.h"
#include "lab/markdown.h"

extern const char cpl_lab_index_style[];

/* index_figures.c, index_more.c, index_tables.c: each section or nothing. */
void cpl_index_gains(const cpl_lab_results *all, cpl_buf *out);
void cpl_index_batches(const cpl_lab_results *all, cpl_buf *out);
void cpl_index_concurrency(const cpl_lab_results *all, cpl_buf *out);
void cpl_index_load(const cpl_lab_results *all, cpl_buf *out);
void cpl_index_quality(const cpl_lab_results *all, cpl_buf *out);
void cpl_index_stages(const cpl_lab_results *all, cpl_buf *out);
void cpl_index_histograms(const cpl_lab_results *all, cpl_buf *out);
void cpl_index_padding(const cpl_lab_results *all, cpl_buf *out);
void cpl_index_matrix(const cpl_lab_results *all, cpl_buf *out);
void cpl_index_cost(const cpl_lab_results *all, const cpl_lab_index_options *o, cpl_buf *out);
void cpl_index_experiments(const cpl_lab_results *all, cpl_buf *out);
void cpl_index_origin(const cpl_lab_results *all, cpl_buf *out);

/* "<section id=ID><h2>TITLE</h2><p>TEXT</p>"; ends with "</section>". TEXT may be NULL and is plain. */
void cpl_index_open(cpl_buf *out, const char *id, const char *title, const char *text);
void cpl_index_close(cpl_buf *out);
/* A figure's frame around a chart: heading and a line below it (plain texts; the second may be NULL). */
void cpl_index_figure(cpl_buf *out, const char *title, const char *text);
void cpl_index_figure_end(cpl_buf *out);
/* The numbers of a chart of lines as a table; the second folds it away. */
void cpl_index_table(cpl_buf *out, const cpl_chart *c);
void cpl_index_numbers(cpl_buf *out, const cpl_chart *c);

/* "off", "greedy", "64 pairs, 10 ms": what a result's batching is called in a figure. */
void cpl_index_policy(char *out, size_t cap, const cpl_lab_result *r);
/* The digits a name begins with, "16" of "16a_x"; "" without. */
void cpl_index_number_of(char *out, size_t cap, const cpl_lab_result *r);

#endif
