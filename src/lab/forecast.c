/* SPDX-License-Identifier: Apache-2.0 */
/* forecast.c - see forecast.h. A row ends at its requests or at its duration; which comes first is told by the
 * throughput that an older result has for it. Where there is none the duration is taken, which is the most it can be.
 * What stands around the rows is known well enough: a start, the self-test of each level, warm-ups. No state. */
#include "lab/forecast.h"

#include <string.h>

#define START_S    2.0  /* of a server, and its stop, where no result says */
#define SELFTEST_S 0.45 /* of a level */
#define QUALITY_S  10.0

static const cpl_lab_point *point_of(const cpl_lab_result *old, const char *server, uint64_t batch, uint64_t level)
{
    for (size_t i = 0; old && i < old->point_count; i++) {
        const cpl_lab_point *p = &old->points[i];
        if (p->batch == batch && (p->concurrency ? p->concurrency : p->rate) == level && !strcmp(p->server, server))
            return p;
    }
    return NULL;
}

/* Seconds of one round of the row: until it ends, with what comes before and after. */
static double row_seconds(const cpl_lab_plan *plan, const cpl_lab_point *p, uint64_t batch, uint64_t level)
{
    const uint64_t pairs = plan->scenario->open ? 0 : batch * level * plan->model_count;
    double s = plan->duration_s > 0 ? cpl_lab_plan_seconds(plan, pairs, p ? p->throughput : 0) : 15;
    if (p && !p->requests) return 0; /* it was left out, and will be */
    if (!p) return s * 1.1;
    const double rate = p->throughput > 0 ? p->throughput / (double)batch : 1, by_count = (double)plan->requests / rate;
    if (by_count < s || plan->duration_s <= 0) s = by_count;
    const uint64_t in_flight = plan->scenario->open ? 1 : level;
    const uint64_t warm = plan->warmup > in_flight ? plan->warmup : in_flight;
    return s + (double)(warm + in_flight) / rate;
}

cpl_lab_forecast cpl_lab_forecast_of(const cpl_lab_plan *plan, const cpl_lab_result *old)
{
    cpl_lab_forecast f = {.rows = cpl_lab_plan_rows(plan)};
    double start_s = old && old->ready_ms_max ? (double)old->ready_ms_max / 1e3 + 0.3 : START_S;
    for (size_t s = 0; s < plan->server_count; s++)
        for (size_t b = 0; b < plan->batch_count; b++)
            for (size_t l = 0; l < plan->level_count; l++) {
                const cpl_lab_point *p = point_of(old, plan->servers[s].label, plan->batches[b], plan->levels[l]);
                f.known += p != NULL;
                f.expected_s += plan->rounds * row_seconds(plan, p, plan->batches[b], plan->levels[l]);
            }
    f.most_s = (double)(f.rows / plan->model_count * plan->rounds) *
               (plan->duration_max_s > plan->duration_s ? plan->duration_max_s : plan->duration_s);
    f.expected_s += start_s * (double)plan->server_count * plan->rounds + SELFTEST_S * (double)plan->level_count;
    if (plan->quality_pairs) f.expected_s += QUALITY_S;
    return f;
}
