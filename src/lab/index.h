/* SPDX-License-Identifier: Apache-2.0 */
/* index.h - docs/experiments/index.html: every result on one page that needs nothing else. */
#ifndef CPL_LAB_INDEX_H
#define CPL_LAB_INDEX_H

#include "base/buf.h"
#include "lab/result.h"

typedef struct cpl_lab_index_options {
    double price_per_hour; /* of the machine; 0: not given */
    const char *currency;  /* "USD"; before the figure */
} cpl_lab_index_options;

/* A failed append stays in out. */
void cpl_lab_index(const cpl_lab_results *all, const cpl_lab_index_options *options, cpl_buf *out);

/* All rows of all results: a line each, and as a JSON array. Neither holds histograms; NAME.json does. */
void cpl_lab_rows_csv(const cpl_lab_results *all, cpl_buf *out);
void cpl_lab_rows_json(const cpl_lab_results *all, cpl_buf *out);

#endif
