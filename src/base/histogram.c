/* SPDX-License-Identifier: Apache-2.0 */
/* histogram.c - values below 2^8 have a bucket each; above, each doubling is cut in 2^8 equal steps, so a percentile
 * is off by at most 0.4 %. Merging adds counts and is exact, which is why percentiles here are never averaged.
 * Threads: one writer; merge after it stopped or under its lock. */
#include "base/histogram.h"

#include <math.h>

uint32_t cpl_histogram_bucket(uint64_t value)
{
    if (value >> CPL_HISTOGRAM_TOP) return CPL_HISTOGRAM_BUCKETS - 1;
    if (value < (1u << CPL_HISTOGRAM_BITS)) return (uint32_t)value;
    uint32_t top = 63u - (uint32_t)__builtin_clzll(value); /* >= BITS */
    uint32_t shift = top - CPL_HISTOGRAM_BITS;
    return ((shift + 1) << CPL_HISTOGRAM_BITS) + (uint32_t)((value >> shift) & ((1u << CPL_HISTOGRAM_BITS) - 1));
}

uint64_t cpl_histogram_upper(uint32_t bucket)
{
    if (bucket < (1u << CPL_HISTOGRAM_BITS)) return bucket;
    uint32_t shift = (bucket >> CPL_HISTOGRAM_BITS) - 1;
    uint64_t base = (1u << CPL_HISTOGRAM_BITS) + (bucket & ((1u << CPL_HISTOGRAM_BITS) - 1));
    return ((base + 1) << shift) - 1;
}

void cpl_histogram_add(cpl_histogram *h, uint64_t value)
{
    if (!h->count || value < h->min) h->min = value;
    if (!h->count || value > h->max) h->max = value;
    h->count++;
    h->sum += value;
    h->buckets[cpl_histogram_bucket(value)]++;
}

void cpl_histogram_merge(cpl_histogram *into, const cpl_histogram *from)
{
    if (!from->count) return;
    if (!into->count || from->min < into->min) into->min = from->min;
    if (!into->count || from->max > into->max) into->max = from->max;
    into->count += from->count;
    into->sum += from->sum;
    for (uint32_t i = 0; i < CPL_HISTOGRAM_BUCKETS; i++) into->buckets[i] += from->buckets[i];
}

uint64_t cpl_histogram_at(const cpl_histogram *h, double q)
{
    if (!h->count) return 0;
    double exact = ceil(q * (double)h->count);
    uint64_t rank = exact < 1 ? 1 : (uint64_t)exact;
    if (rank > h->count) rank = h->count;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < CPL_HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen < rank) continue;
        uint64_t v = i == CPL_HISTOGRAM_BUCKETS - 1 ? h->max : cpl_histogram_upper(i);
        return v > h->max ? h->max : v < h->min ? h->min : v;
    }
    return h->max;
}

double cpl_histogram_mean(const cpl_histogram *h) { return h->count ? (double)h->sum / (double)h->count : 0; }
