/* SPDX-License-Identifier: Apache-2.0 */
/* sparse.c - see sparse.h. A result keeps every round's latencies this way, so that rounds can be merged and resampled
 * later; written out as JSON numbers they would be most of the file. No state. */
#include "lab/sparse.h"

#include <ctype.h>
#include <stdlib.h>

void cpl_sparse_write(const cpl_histogram *h, cpl_buf *out)
{
    uint32_t last = 0;
    bool first = true;
    for (uint32_t b = 0; b < CPL_HISTOGRAM_BUCKETS; b++) {
        if (!h->buckets[b]) continue;
        if (first)
            cpl_buf_print(out, "%u", b);
        else
            cpl_buf_print(out, " +%u", b - last);
        if (h->buckets[b] > 1) cpl_buf_print(out, "*%llu", (unsigned long long)h->buckets[b]);
        last = b;
        first = false;
    }
}

bool cpl_sparse_next(const char **at, uint32_t last, cpl_sparse_bucket *out)
{
    const char *p = *at;
    char *end;
    while (*p == ' ') p++;
    *at = p;
    const bool step = *p == '+';
    p += step;
    if (!isdigit((unsigned char)*p)) return false;
    const unsigned long n = strtoul(p, &end, 10);
    if (n >= CPL_HISTOGRAM_BUCKETS || (step ? last : 0) + n >= CPL_HISTOGRAM_BUCKETS) return false;
    p = end;
    unsigned long long times = 1;
    if (*p == '*') {
        if (!isdigit((unsigned char)p[1])) return false;
        times = strtoull(p + 1, &end, 10);
        p = end;
    }
    if ((*p && *p != ' ') || !times) return false;
    *out = (cpl_sparse_bucket){(step ? last : 0) + (uint32_t)n, times};
    *at = p;
    return true;
}
