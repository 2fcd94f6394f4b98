/* SPDX-License-Identifier: Apache-2.0 */
/* histogram.h - log-linear histogram of times: 256 steps a doubling (0.4 % wide), merged, never averaged. */
#ifndef CPL_BASE_HISTOGRAM_H
#define CPL_BASE_HISTOGRAM_H

#include <stdint.h>

enum {
    CPL_HISTOGRAM_BITS = 8, /* sub-buckets a doubling: 2^8 */
    CPL_HISTOGRAM_TOP = 42, /* values of 2^42 ns (73 min) and more share a bucket */
    CPL_HISTOGRAM_BUCKETS = (CPL_HISTOGRAM_TOP - CPL_HISTOGRAM_BITS + 1) << CPL_HISTOGRAM_BITS
};

/* Plain memory, 72 KB; a zeroed one is empty. One thread at a time. */
typedef struct cpl_histogram {
    uint64_t count, sum, min, max; /* min and max mean nothing while count is 0 */
    uint64_t buckets[CPL_HISTOGRAM_BUCKETS];
} cpl_histogram;

void cpl_histogram_add(cpl_histogram *h, uint64_t value);
void cpl_histogram_merge(cpl_histogram *into, const cpl_histogram *from);
/* Nearest-rank value at quantile q in [0, 1] (the bucket's upper edge, clipped to [min, max]); 0 when empty. */
uint64_t cpl_histogram_at(const cpl_histogram *h, double q);
double cpl_histogram_mean(const cpl_histogram *h);
/* Which bucket a value falls into, and the largest value of a bucket. */
uint32_t cpl_histogram_bucket(uint64_t value);
uint64_t cpl_histogram_upper(uint32_t bucket);

#endif
