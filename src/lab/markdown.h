/* SPDX-License-Identifier: Apache-2.0 */
/* markdown.h - numbers and words as the pages write them. */
#ifndef CPL_LAB_MARKDOWN_H
#define CPL_LAB_MARKDOWN_H

#include "base/buf.h"
#include "lab/result.h"

/* pairs/s or ms with the digits that mean something: 1.23, 12.3, 123.4, 1234. */
void cpl_md_number(cpl_buf *out, double v);
/* The same with `mark` ("~") in front where `sure` is false. */
void cpl_md_sure(cpl_buf *out, double v, bool sure);
/* "123.4 (120.1 to 126.0)", or the bare mean where the interval isn't known. */
void cpl_md_interval(cpl_buf *out, const cpl_interval *v);
/* A ratio: "1.09 (1.05 to 1.13)". */
void cpl_md_ratio(cpl_buf *out, const cpl_interval *v);
/* Text for a table cell: '|' escaped, line breaks as spaces. */
void cpl_md_cell(cpl_buf *out, const char *text);
/* "batch 32, concurrency 4" and the swept settings. */
void cpl_md_point(cpl_buf *out, const cpl_lab_point *p);
/* "fp32", or "fp32 (int8 requested: WHY)". */
void cpl_md_precision(cpl_buf *out, const cpl_lab_result *r);
/* "ran", "ran with an override: `--set model.backend=native`", "not run: WHY". brief: WHY up to its first colon. */
void cpl_md_status(cpl_buf *out, const cpl_lab_result *r, bool brief);
/* Ran and really scored: no test backend, and not only a part of the work. */
bool cpl_lab_scored(const cpl_lab_result *r);
bool cpl_lab_ran(const cpl_lab_result *r); /* status "ran" and a row with an answer */

#endif
