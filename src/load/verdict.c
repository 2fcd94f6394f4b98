/* SPDX-License-Identifier: Apache-2.0 */
/* verdict.c - the rules of verdict.h. They are few and fixed, so that a figure marked VALID means the same in every
 * report; a figure that isn't valid is shown all the same, with the reason beside it. No state.
 * Rejected: a stability threshold that the caller sets (the field's tools ship with one of 999 %). */
#include "load/verdict.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define DRIFT_RATIO_MAX    1.10
#define IN_FLIGHT_PART_MIN 0.90
#define BUSY_PART_MIN      0.90
#define CLIENT_CORES_MAX   0.90
#define LAG_NS_MAX         1e6
#define LAG_PART_MAX       0.10
#define LATENCY_DRIFT_MAX  1.5
#define NULL_PART_MAX      0.50
#define ACHIEVED_MIN       0.95

#define AT_ONCE_SECONDS_MIN 1.0
#define ANSWERED_MIN        0.95

void cpl_verdict_add(char *out, size_t cap, const char *fmt, ...)
{
    size_t used = strlen(out);
    if (used) used += (size_t)snprintf(out + used, cap - used, "; ");
    if (used >= cap) return;
    va_list args;
    va_start(args, fmt);
    vsnprintf(out + used, cap - used, fmt, args);
    va_end(args);
}

void cpl_verdict_samples(cpl_verdict *out, uint64_t samples)
{
    const double q[] = {0.50, 0.95, 0.99};
    bool *const enough[] = {&out->p50, &out->p95, &out->p99};
    static const double supported[] = {0.5, 0.9, 0.95, 0.99, 0.999, 0.9999};
    out->percentiles[0] = 0;
    out->highest = 0;
    for (size_t i = 0; i < sizeof supported / sizeof *supported; i++)
        if (samples >= cpl_samples_needed(supported[i])) out->highest = supported[i];
    for (int i = 0; i < 3; i++) {
        uint64_t needed = cpl_samples_needed(q[i]);
        *enough[i] = samples >= needed;
        if (samples < needed)
            cpl_verdict_add(out->percentiles, sizeof out->percentiles, "p%.0f needs %llu samples, has %llu", q[i] * 100,
                            (unsigned long long)needed, (unsigned long long)samples);
    }
}

/* What a longer or other run would mend. */
static void judge_closed(char *why, size_t cap, const cpl_load_result *r)
{
    const cpl_measure *m = &r->measure;
    if (m->drift_ratio <= 0)
        cpl_verdict_add(why, cap, "shorter than 6 mean latencies: too short to see whether it was stable");
    if (m->in_flight_mean < IN_FLIGHT_PART_MIN * r->concurrency)
        cpl_verdict_add(why, cap, "%.1f requests were in flight, not %u", m->in_flight_mean, r->concurrency);
}

static uint64_t refusals(const cpl_load_result *r)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < r->error_kinds; i++)
        n += r->errors[i].code == CPL_GRPC_RESOURCE_EXHAUSTED ? r->errors[i].count : 0;
    return n;
}

/* Is it the server that was the limit? */
static bool server_full(const cpl_load_result *r)
{
    const cpl_server_totals *s = &r->server;
    const double answered = r->pairs_per_request ? r->measure.pairs_per_s / r->pairs_per_request : 0;
    if (r->offered > 0 && answered < ANSWERED_MIN * r->offered) return true;
    return s->known && s->workers && (double)s->busy_ns > BUSY_PART_MIN * (double)s->monotonic_ns * s->workers;
}

/* More than the server takes: the queue grows, or it refuses. */
static void judge_capacity(cpl_verdict *out, const cpl_load_result *r)
{
    const cpl_measure *m = &r->measure;
    const uint64_t all = m->requests + m->failed, refused = refusals(r);
    const bool grew = m->latency_drift_ratio > LATENCY_DRIFT_MAX && m->latency_rose;
    const bool refuses = m->failed * 1000 > all && refused >= m->failed;
    out->beyond = r->too_far_behind || refuses || (grew && server_full(r));
    if (refuses)
        cpl_verdict_add(out->note, sizeof out->note, "beyond capacity: %llu of %llu requests were refused",
                        (unsigned long long)m->failed, (unsigned long long)all);
    else if (r->too_far_behind)
        cpl_verdict_add(out->note, sizeof out->note,
                        "beyond capacity: given up with as many requests in flight as can be");
    else if (out->beyond)
        cpl_verdict_add(
            out->note, sizeof out->note,
            "beyond capacity: the queue grew (the last third of the requests took %.1f times as long as the first)",
            m->latency_drift_ratio);
    else if (grew)
        cpl_verdict_add(
            out->reasons, sizeof out->reasons,
            "the queue grew, and not for want of a faster server: the last third of the requests took %.1f times as "
            "long as the first",
            m->latency_drift_ratio);
    else if (m->requests && m->latency_drift_ratio <= 0)
        cpl_verdict_add(out->note, sizeof out->note,
                        "too few requests to see whether the queue grew: 100 are needed in each third");
}

/* What the machine's unrest does to a run: another try may come out well. */
static void judge_unrest(char *why, size_t cap, const cpl_load_result *r)
{
    const cpl_measure *m = &r->measure;
    const cpl_server_totals *s = &r->server;
    const double lag = (double)cpl_histogram_at(&r->lag_ns, 0.99), p50 = (double)cpl_histogram_at(&m->latency_ns, 0.5);
    if (r->open && lag > LAG_NS_MAX && lag > LAG_PART_MAX * p50)
        cpl_verdict_add(why, cap, "requests went out late: the generator's delay was %.1f ms at the 99th percentile",
                        lag / 1e6);
    if (!r->open && !r->at_once && m->drift_ratio > DRIFT_RATIO_MAX)
        cpl_verdict_add(why, cap, "not stable: the fastest third ran %.2f times as fast as the slowest",
                        m->drift_ratio);
    if (s->known && !strcmp(s->backend, "native") && (double)s->cpu_ns < BUSY_PART_MIN * (double)s->busy_ns)
        cpl_verdict_add(why, cap,
                        "other work had the machine: workers needed %.1f s of CPU time and the server got %.1f",
                        (double)s->busy_ns / 1e9, (double)s->cpu_ns / 1e9);
}

/* What the self-test says of the generator, held against what the run needed of it. */
static void judge_generator(char *why, size_t cap, const cpl_load_result *r)
{
    const cpl_selftest *t = &r->selftest;
    const double rate = r->measure.seconds > 0 ? (double)r->measure.requests / r->measure.seconds : 0;
    if (!t->ran) return;
    if (rate > NULL_PART_MAX * t->requests_per_s)
        cpl_verdict_add(why, cap,
                        "self-test: %.0f requests/s is %.0f %% of what the generator does against a null server", rate,
                        rate / t->requests_per_s * 100);
    if (t->open && t->achieved < ACHIEVED_MIN)
        cpl_verdict_add(why, cap, "self-test: the generator kept only %.0f %% of its schedule against a null server",
                        t->achieved * 100);
}

static void judge_failures(cpl_verdict *out, const cpl_load_result *r)
{
    const uint64_t all = r->measure.requests + r->measure.failed, failed = r->measure.failed;
    char *why = out->reasons;
    const size_t cap = sizeof out->reasons;
    if (!all) cpl_verdict_add(why, cap, "no request was measured");
    if (failed * 1000 > all && !out->beyond)
        cpl_verdict_add(why, cap, "%llu of %llu requests failed", (unsigned long long)failed, (unsigned long long)all);
    if (r->gave_up && !out->beyond) cpl_verdict_add(why, cap, "given up after too many failures in a row");
    if (r->warmup_unstable)
        cpl_verdict_add(why, cap, "the warm-up did not settle within %.0f s", CPL_LOAD_WARMUP_MAX_S);
}

void cpl_verdict_of(cpl_verdict *out, const cpl_load_result *r)
{
    const cpl_measure *m = &r->measure;
    const uint64_t all = m->requests + m->failed;
    memset(out, 0, sizeof *out);
    cpl_verdict_samples(out, m->requests);
    char *why = out->reasons;
    const size_t cap = sizeof out->reasons;
    if (r->open) judge_capacity(out, r);
    judge_failures(out, r);
    if (all && r->at_once && m->seconds < AT_ONCE_SECONDS_MIN)
        cpl_verdict_add(why, cap, "all was answered in %.2f s: give at least %.0f s of work", m->seconds,
                        AT_ONCE_SECONDS_MIN);
    else if (all && !r->at_once && !r->open)
        judge_closed(why, cap, r);
    judge_generator(why, cap, r);
    if (r->client_cpu_cores > CLIENT_CORES_MAX)
        cpl_verdict_add(why, cap, "the load generator used %.0f %% of its core", r->client_cpu_cores * 100);
    const bool lasting = *why != 0;
    judge_unrest(why, cap, r);
    out->valid = !*why;
    out->again = !out->valid && !lasting;
    if (out->beyond) out->highest = 0;
}

bool cpl_verdict_percentile(const cpl_verdict *v, double q, uint64_t samples, char why[CPL_PERCENTILE_WHY])
{
    const uint64_t needed = cpl_samples_needed(q);
    why[0] = 0;
    if (!v->valid)
        snprintf(why, CPL_PERCENTILE_WHY, "the row is INVALID");
    else if (v->beyond)
        snprintf(why, CPL_PERCENTILE_WHY, "beyond capacity it grows with the length of the run");
    else if (samples < needed)
        snprintf(why, CPL_PERCENTILE_WHY, "needs %llu samples, has %llu", (unsigned long long)needed,
                 (unsigned long long)samples);
    return !*why;
}
