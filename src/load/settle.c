/* SPDX-License-Identifier: Apache-2.0 */
/* settle.c - the rule of settle.h. Latency says it for closed loops too, where it is N over the rate.
 * Rejected: a slope test (caches fill in steps, not slopes). Threads: the caller's record. */
#include "load/settle.h"

#define STRETCH_NS    250000000u
#define SETTLED_RATIO 1.10

bool cpl_settle_add(cpl_settle *s, uint64_t now_ns, uint64_t latency_ns)
{
    if (s->settled) return true;
    if (!s->from_ns) s->from_ns = now_ns;
    s->sum_ns += latency_ns;
    s->count++;
    if (now_ns - s->from_ns < STRETCH_NS || s->count < CPL_SETTLE_REQUESTS) return false;
    s->means[s->stretches++ % CPL_SETTLE_STRETCHES] = (double)s->sum_ns / (double)s->count;
    s->from_ns = now_ns;
    s->sum_ns = s->count = 0;
    if (s->stretches < CPL_SETTLE_STRETCHES) return false;
    double low = s->means[0], high = s->means[0];
    for (int i = 1; i < CPL_SETTLE_STRETCHES; i++) {
        low = s->means[i] < low ? s->means[i] : low;
        high = s->means[i] > high ? s->means[i] : high;
    }
    s->settled = high <= low * SETTLED_RATIO;
    return s->settled;
}
