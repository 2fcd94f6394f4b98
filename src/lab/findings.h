/* SPDX-License-Identifier: Apache-2.0 */
/* findings.h - sentences computed from the numbers of results; none is said that the numbers don't carry. */
#ifndef CPL_LAB_FINDINGS_H
#define CPL_LAB_FINDINGS_H

#include "base/buf.h"
#include "lab/result.h"

/* One experiment: "- sentence\n" each. brief: only what compares its rows. */
void cpl_lab_findings(const cpl_lab_result *r, bool brief, cpl_buf *out);

/* b against a at the rows both have: ratio of throughput. Paired by rounds where the two were interleaved, else from
 * the intervals of both; not known where one of them isn't. */
cpl_interval cpl_lab_compare(const cpl_lab_point *a, const cpl_lab_point *b, bool interleaved);
bool cpl_lab_interleaved(const cpl_lab_result *a, const cpl_lab_result *b);
/* "faster", "slower", "comparable", "interval not known". */
const char *cpl_lab_ratio_word(const cpl_interval *ratio);

/* Latency against load at one server setting and batch: the rows in the order of what was offered. */
typedef struct cpl_lab_knee {
    const cpl_lab_point *least;   /* the lightest load */
    const cpl_lab_point *kept;    /* the heaviest whose p95 is within twice that of the lightest */
    const cpl_lab_point *knee;    /* the first beyond; NULL: none */
    const cpl_lab_point *beyond;  /* the lightest that is more than the server takes; NULL: none */
    const cpl_lab_point *in_time; /* the heaviest with 99 % within the objective; NULL: none, or no objective */
} cpl_lab_knee;
cpl_lab_knee cpl_lab_knee_of(const cpl_lab_result *r, const cpl_lab_point *line);

/* What a pass costs, from rows whose passes differ in tokens: time = fixed + per_token x tokens, least squares weighted
 * by passes. False with fewer than three different rows. `miss`: largest deviation of a row from the line, a part. */
typedef struct cpl_lab_pass_cost {
    double fixed_ms, per_token_us, miss;
    size_t rows;
} cpl_lab_pass_cost;
bool cpl_lab_pass_cost_of(const cpl_lab_result *r, cpl_lab_pass_cost *out);

/* Is the row's throughput within reach of the best's: do the intervals overlap? True where one isn't known. */
bool cpl_lab_comparable(const cpl_lab_point *p, const cpl_lab_point *best);

#endif
