/* SPDX-License-Identifier: Apache-2.0 */
/* settle.h - has the server warmed up? Latency over three stretches in a row, as requests come in. */
#ifndef CPL_LOAD_SETTLE_H
#define CPL_LOAD_SETTLE_H

#include <stdbool.h>
#include <stdint.h>

enum { CPL_SETTLE_STRETCHES = 3, CPL_SETTLE_REQUESTS = 8 };

/* A zeroed one has seen nothing. */
typedef struct cpl_settle {
    uint64_t from_ns, sum_ns, count; /* of the stretch under way */
    double means[CPL_SETTLE_STRETCHES];
    uint32_t stretches;
    bool settled;
} cpl_settle;

/* A request was answered at now_ns after latency_ns. Settled, for good, once the means of the last three stretches (a
 * quarter of a second and 8 requests at least, each) lie within 10 % of each other. */
bool cpl_settle_add(cpl_settle *s, uint64_t now_ns, uint64_t latency_ns);

#endif
