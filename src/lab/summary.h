/* SPDX-License-Identifier: Apache-2.0 */
/* summary.h - the pages over all experiments, from their results alone. */
#ifndef CPL_LAB_SUMMARY_H
#define CPL_LAB_SUMMARY_H

#include "base/buf.h"
#include "lab/index.h"
#include "lab/result.h"

/* docs/experiments/summary.md. A failed append stays in out. */
void cpl_lab_summary(const cpl_lab_results *all, cpl_buf *out);
/* Its second half (summary_platform.c): what works here, the platform matrix, recommendations, next steps. */
void cpl_lab_summary_platform(const cpl_lab_results *all, cpl_buf *out);
/* experiments/README.md: the progression by phase. `links` is the way from that page to the results' folder. */
void cpl_lab_progression(const cpl_lab_results *all, const char *links, cpl_buf *out);

/* What throughputs are compared with: 01_backend_pytorch where it ran, else the first 01_ that did, else the first
 * experiment that did; NULL when none did. */
const cpl_lab_result *cpl_lab_baseline(const cpl_lab_results *all);
/* The result with the highest throughput; NULL when none ran. */
const cpl_lab_result *cpl_lab_fastest(const cpl_lab_results *all);
/* The first related result (same number) that ran with requests not joined (batching off), for `r` to be compared with;
 * NULL when there is none or it is r itself. */
const cpl_lab_result *cpl_lab_counterpart(const cpl_lab_results *all, const cpl_lab_result *r);
/* The row of `r` with the settings of `p` but for swept ones; NULL when there is none. */
const cpl_lab_point *cpl_lab_same_row(const cpl_lab_result *r, const cpl_lab_point *p);

typedef struct cpl_lab_report_options {
    const char *dir;             /* of NAME.json */
    const char *experiments_dir; /* whose README.md is written */
    cpl_lab_index_options index;
} cpl_lab_report_options;

/* Writes NAME.md for every result in dir, dir/summary.md, index.html, rows.csv, rows.json, the plots (plot.h) and
 * experiments_dir/README.md. Returns how many results there were in *count, and in *plots a line on why there are no
 * plots, "" when there are. */
cpl_status cpl_lab_report(const cpl_lab_report_options *options, size_t *count, const char **plots, cpl_error *err);

#endif
