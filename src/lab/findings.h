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

/* Is the row's throughput within reach of the best's: do the intervals overlap? True where one isn't known. */
bool cpl_lab_comparable(const cpl_lab_point *p, const cpl_lab_point *best);

#endif
