/* SPDX-License-Identifier: Apache-2.0 */
/* measure.c - what a log of requests says. The one idea: record three times a request and compute everything after the
 * run, so that the generator does nothing while it measures and a test can feed any log it likes.
 * Invariants: percentiles come from one histogram of all samples, never from averaged percentiles; failed requests
 * count as failed and nowhere else. Threads: pure functions.
 * Rejected: throughput as all requests over the time from first send to last reply (the ramps at both ends have fewer
 * in flight, and the more so the more concurrency was asked for); counting a request's pairs in the window in which it
 * ended (a 2-second request of 256 pairs then reads 256, 0, 256, 0 pairs/s). */
#include "load/measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

/* Two-sided 95 % quantiles of Student's t by degrees of freedom; 1.96 beyond. */
static double student(size_t df)
{
    static const double t[] = {0,     12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
                               2.201, 2.179,  2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080,
                               2.074, 2.069,  2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042};
    return df < sizeof t / sizeof *t ? t[df] : 1.96;
}

cpl_interval cpl_interval_of(const double *values, size_t n)
{
    cpl_interval out = {0};
    if (!n) return out;
    for (size_t i = 0; i < n; i++) out.mean += values[i] / (double)n;
    out.low = out.high = out.mean;
    if (n < 2) return out;
    double squares = 0;
    for (size_t i = 0; i < n; i++) squares += (values[i] - out.mean) * (values[i] - out.mean);
    double half = student(n - 1) * sqrt(squares / (double)(n - 1) / (double)n);
    out.low -= half;
    out.high += half;
    out.known = true;
    return out;
}

bool cpl_interval_overlap(const cpl_interval *a, const cpl_interval *b)
{
    if (!a->known || !b->known) return true;
    return a->low <= b->high && b->low <= a->high;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double cpl_percentile(const double *values, size_t n, double q)
{
    double *sorted = n ? malloc(n * sizeof *sorted) : NULL;
    if (!sorted) return 0;
    memcpy(sorted, values, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_value);
    double exact = ceil(q * (double)n);
    size_t rank = exact < 1 ? 1 : (size_t)exact;
    double v = sorted[(rank > n ? n : rank) - 1];
    free(sorted);
    return v;
}

double cpl_median(const double *values, size_t n)
{
    if (!n) return 0;
    if (n % 2) return cpl_percentile(values, n, 0.5);
    double low = cpl_percentile(values, n, 0.5); /* value n/2 of n; the next one lies just above */
    return (low + cpl_percentile(values, n, 0.5 + 0.75 / (double)n)) / 2;
}

cpl_interval cpl_ratio_of(const double *a, const double *b, size_t n)
{
    double logs[64] = {0};
    size_t used = 0;
    for (size_t i = 0; i < n && used < 64; i++)
        if (a[i] > 0 && b[i] > 0) logs[used++] = log(b[i] / a[i]);
    cpl_interval v = cpl_interval_of(logs, used);
    if (!used) return v;
    return (cpl_interval){exp(v.mean), exp(v.low), exp(v.high), v.known};
}

uint64_t cpl_samples_needed(double q)
{
    if (q <= 0 || q >= 1) return 1;
    return (uint64_t)ceil(log(0.01) / log(q));
}

/* A stretch of time that is cut into parts. */
typedef struct span {
    uint64_t from, to;
    uint32_t pairs; /* a request */
    bool at_end;    /* open loop: a request counts where it was answered, or a growing queue would look like work */
} span;

/* Seconds of [from, to) in which the request was in flight. */
static double overlap_s(uint64_t start, uint64_t end, uint64_t from, uint64_t to)
{
    uint64_t low = start > from ? start : from, high = end < to ? end : to;
    return high > low ? (double)(high - low) / 1e9 : 0;
}

/* Adds each request's pairs to the n equal parts of the window in which it was in flight; at_end: to the part in which
 * it was answered. */
static void spread(double *parts, size_t n, const cpl_sample *s, size_t count, const span *w)
{
    double width = (double)(w->to - w->from) / (double)n;
    memset(parts, 0, n * sizeof *parts);
    for (size_t i = 0; i < count; i++) {
        const uint64_t start = w->at_end ? s[i].done_ns - 1 : s[i].due_ns;
        if (!s[i].ok || s[i].done_ns <= w->from || start >= w->to) continue;
        double length = (double)(s[i].done_ns - start) / 1e9;
        double first = start > w->from ? (double)(start - w->from) / width : 0;
        for (size_t p = (size_t)first; p < n; p++) {
            uint64_t a = w->from + (uint64_t)((double)p * width), b = w->from + (uint64_t)((double)(p + 1) * width);
            if (a >= s[i].done_ns) break;
            parts[p] += length > 0 ? w->pairs * overlap_s(start, s[i].done_ns, a, b) / length : w->pairs;
        }
    }
    for (size_t p = 0; p < n; p++) parts[p] /= width / 1e9;
}

static int by_time(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The most requests in flight at one moment: starts and ends merged in order, ends first. All of them reach into the
 * window, so those that started before it are all still there when it opens. */
static uint32_t deepest(uint64_t *starts, uint64_t *ends, size_t n)
{
    qsort(starts, n, sizeof *starts, by_time);
    qsort(ends, n, sizeof *ends, by_time);
    uint32_t now = 0, most = 0;
    size_t e = 0;
    for (size_t i = 0; i < n; i++) {
        while (e < n && ends[e] <= starts[i]) {
            e++;
            now--;
        }
        if (++now > most) most = now;
    }
    return most;
}

static cpl_status in_flight(cpl_measure *out, const cpl_sample *s, size_t n, uint64_t from, uint64_t to, cpl_error *err)
{
    if (!n || to <= from) return CPL_OK;
    uint64_t *times = malloc(2 * n * sizeof *times);
    if (!times) return cpl_fail_memory(err, 2 * n * sizeof *times);
    double seconds = 0;
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        seconds += overlap_s(s[i].sent_ns, s[i].done_ns, from, to);
        if (s[i].done_ns <= from || s[i].sent_ns >= to) continue;
        times[used] = s[i].sent_ns;
        times[n + used++] = s[i].done_ns;
    }
    out->in_flight_mean = seconds / ((double)(to - from) / 1e9);
    out->in_flight_max = deepest(times, times + n, used);
    free(times);
    return CPL_OK;
}

/* One-second windows; where there are fewer than three whole seconds, ten shorter ones. */
static void windows(cpl_measure *out, const cpl_sample *s, size_t n, const span *w)
{
    double seconds = out->seconds;
    out->window_s = seconds >= 3 ? 1 : seconds / 10;
    size_t count = seconds >= 3 ? (size_t)seconds : 10;
    if (count > CPL_WINDOWS_MAX) count = CPL_WINDOWS_MAX; /* an hour and more: the rest would say nothing new */
    span whole = *w;
    whole.to = w->from + (uint64_t)((double)count * out->window_s * 1e9);
    if (whole.to > w->to) whole.to = w->to;
    spread(out->window_rate, count, s, n, &whole);
    out->windows = (uint32_t)count;
    out->window_p95 = cpl_percentile(out->window_rate, count, 0.95);
}

static void stretches(cpl_measure *out, const cpl_sample *s, size_t n, const span *w)
{
    double parts[10], latency = cpl_histogram_mean(&out->latency_ns) / 1e9;
    double fit = latency > 0 ? out->seconds / (2 * latency) : 0;
    size_t count = fit > 10 ? 10 : (size_t)fit;
    if (count >= 3) {
        spread(parts, count, s, n, w);
        out->throughput = cpl_interval_of(parts, count);
    }
    out->throughput.mean = out->pairs_per_s;
    if (!out->throughput.known) out->throughput.low = out->throughput.high = out->pairs_per_s;
    if (count < 3) return;
    spread(parts, 3, s, n, w);
    double low = fmin(parts[0], fmin(parts[1], parts[2])), high = fmax(parts[0], fmax(parts[1], parts[2]));
    out->drift_ratio = low > 0 ? high / low : 0;
}

/* By a schedule more may be sent than is answered: what counts as served is what came back in the window. */
static uint64_t answered_within(const cpl_sample *s, size_t n, uint64_t from, uint64_t to)
{
    uint64_t count = 0;
    for (size_t i = 0; i < n; i++) count += s[i].ok && s[i].done_ns > from && s[i].done_ns <= to;
    return count;
}

/* Thirds by the time requests were due; each needs enough of them that chance doesn't show as drift: near capacity the
 * waits of neighbours are alike, and a third of a few dozen requests says little. */
static void latency_drift(cpl_measure *out, const cpl_sample *s, size_t n, uint64_t from, uint64_t to)
{
    enum { ENOUGH = 100 };
    double mean[3] = {0};
    uint64_t count[3] = {0};
    for (size_t i = 0; i < n; i++) {
        if (!s[i].measured || !s[i].ok || s[i].due_ns < from || s[i].due_ns >= to) continue;
        const size_t third = (size_t)((s[i].due_ns - from) * 3 / (to - from));
        mean[third] += (double)(s[i].done_ns - s[i].due_ns);
        count[third]++;
    }
    if (count[0] < ENOUGH || count[1] < ENOUGH || count[2] < ENOUGH || mean[0] <= 0) return;
    for (int i = 0; i < 3; i++) mean[i] /= (double)count[i];
    out->latency_drift_ratio = mean[2] / mean[0];
    out->latency_rose = mean[0] < mean[1] && mean[1] < mean[2];
}

cpl_status cpl_measure_samples(cpl_measure *out, const cpl_sample *samples, size_t n, uint64_t from_ns, uint64_t to_ns,
                               uint32_t pairs_per_request, bool open, cpl_error *err)
{
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < n; i++) {
        if (!samples[i].measured) continue;
        if (!samples[i].ok) {
            out->failed++;
            continue;
        }
        out->requests++;
        cpl_histogram_add(&out->latency_ns, samples[i].done_ns - samples[i].due_ns);
    }
    if (to_ns <= from_ns) return CPL_OK;
    out->seconds = (double)(to_ns - from_ns) / 1e9;
    const uint64_t answered = open ? answered_within(samples, n, from_ns, to_ns) : out->requests;
    out->pairs_per_s = (double)answered * pairs_per_request / out->seconds;
    latency_drift(out, samples, n, from_ns, to_ns);
    const span whole = {from_ns, to_ns, pairs_per_request, open};
    stretches(out, samples, n, &whole);
    windows(out, samples, n, &whole);
    return in_flight(out, samples, n, from_ns, to_ns, err);
}
