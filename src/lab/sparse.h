/* SPDX-License-Identifier: Apache-2.0 */
/* sparse.h - histograms in result files: only the buckets that hold something, as a short line of text. */
#ifndef CPL_LAB_SPARSE_H
#define CPL_LAB_SPARSE_H

#include "base/buf.h"
#include "base/histogram.h"

/* "1234 +1 +3*5 +1": the first bucket's number, then the way to the next one; "*5": it holds 5 values, else one. An
 * empty histogram is an empty text. */
void cpl_sparse_write(const cpl_histogram *h, cpl_buf *out);

typedef struct cpl_sparse_bucket {
    uint32_t bucket;
    uint64_t times;
} cpl_sparse_bucket;

/* Reads the next bucket from *at and moves it on; false at the end, or at what isn't such a text (**at is not 0 then).
 * `last` is the bucket before, 0 at the start. */
bool cpl_sparse_next(const char **at, uint32_t last, cpl_sparse_bucket *out);

#endif
