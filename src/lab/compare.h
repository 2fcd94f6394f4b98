/* SPDX-License-Identifier: Apache-2.0 */
/* compare.h - two measured rows held against each other: how much faster, how sure, and in a word. */
#ifndef CPL_LAB_COMPARE_H
#define CPL_LAB_COMPARE_H

#include "base/buf.h"
#include "lab/result.h"

typedef enum cpl_lab_change {
    CPL_LAB_NO_DIFFERENCE, /* the interval holds 1 */
    CPL_LAB_BETTER,
    CPL_LAB_WORSE,
    CPL_LAB_NOT_KNOWN /* one round on a side, or results without their rounds */
} cpl_lab_change;
const char *cpl_lab_change_name(cpl_lab_change c); /* "no difference", "better", ... */

/* Ratio new / old of throughput, and of latency at quantile q (both rows' rounds merged, then compared). `paired`: the
 * rounds of both alternated. The same rows give the same interval: the seed is fixed. */
cpl_interval cpl_lab_throughput_ratio(const cpl_lab_point *old, const cpl_lab_point *new, bool paired);
cpl_interval cpl_lab_latency_ratio(const cpl_lab_point *old, const cpl_lab_point *new, double q, bool paired);
cpl_lab_change cpl_lab_change_of(const cpl_interval *ratio, bool more_is_better);

enum { CPL_LAB_METRICS = 4 }; /* throughput, p50, p95, p99 */
extern const char *const cpl_lab_metric_names[CPL_LAB_METRICS];

typedef struct cpl_lab_comparison {
    const cpl_lab_result *old_result, *new_result;
    const cpl_lab_point *old_row, *new_row;
    bool paired;
    cpl_interval ratio[CPL_LAB_METRICS];
    cpl_lab_change change[CPL_LAB_METRICS];
    bool enough[CPL_LAB_METRICS];  /* both rows have the samples for it */
    bool regress[CPL_LAB_METRICS]; /* worse, and by more than the threshold even at the interval's near end */
} cpl_lab_comparison;

typedef struct cpl_lab_comparisons {
    cpl_lab_comparison *at;
    size_t count;
    size_t alone; /* measured rows without a counterpart */
    size_t changes[CPL_LAB_NOT_KNOWN + 1], regressions;
    double threshold;
} cpl_lab_comparisons;

/* Rows of the same experiment, setting, batch and load. Where each side holds one experiment their names needn't agree.
 * `next` NULL: rows of a sweep in `old` against its first setting. threshold: a part, 0.05 for 5 %. No common row is
 * CPL_NOT_FOUND: a gate that compared nothing must not pass. The results must outlive *out. */
cpl_status cpl_lab_comparisons_make(cpl_lab_comparisons *out, const cpl_lab_results *old, const cpl_lab_results *next,
                                    double threshold, cpl_error *err);
void cpl_lab_comparisons_deinit(cpl_lab_comparisons *c);
void cpl_lab_comparisons_text(const cpl_lab_comparisons *c, cpl_buf *out);
void cpl_lab_comparisons_json(const cpl_lab_comparisons *c, cpl_buf *out);

#endif
