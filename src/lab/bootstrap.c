/* SPDX-License-Identifier: Apache-2.0 */
/* bootstrap.c - intervals of ratios from a handful of rounds. The one idea: a round is what varies as a whole (the
 * machine's minute, a neighbour), so rounds are what is resampled, and requests inside one are never treated as if they
 * were independent. Two sides that alternated are drawn together, so that what moved both falls out.
 * Rejected: percentile intervals of the resamples (three rounds: they cover 75 %; the simulation in
 * tests/unit/lab/test_compare.c holds this one to 95); resampling single requests (in a closed loop each depends on the
 * ones before it: intervals come out several times too narrow).
 * Threads: no state. */
#include "lab/bootstrap.h"

#include <math.h>
#include <string.h>

#include "base/random.h"

enum { EXACT_ROUNDS = 4, DRAWS = 2000 };

typedef struct spread {
    double variance; /* of the figure's logarithm over resamples, made unbiased */
    bool known;
} spread;

/* Mean and square sum as they come: Welford's. */
typedef struct moments {
    double n, mean, squares;
} moments;

static void moments_add(moments *m, double v)
{
    m->n += 1;
    const double d = v - m->mean;
    m->mean += d / m->n;
    m->squares += d * (v - m->mean);
}

/* The next resample of n rounds: by counting where there are few, else by drawing. False after the last. */
static bool next(uint8_t *times, size_t n, uint64_t *ordinal, uint64_t *state)
{
    uint64_t code = (*ordinal)++, all = 1;
    memset(times, 0, n);
    if (n > EXACT_ROUNDS) {
        if (code == DRAWS) return false;
        for (size_t i = 0; i < n; i++) times[cpl_random_next(state) % n]++;
        return true;
    }
    for (size_t i = 0; i < n; i++) all *= n;
    if (code == all) return false;
    for (size_t i = 0; i < n; i++, code /= n) times[code % n]++;
    return true;
}

/* side 0 or 1; 2: the difference of both, drawn together. */
static spread spread_of(const cpl_bootstrap *b, int side)
{
    const size_t n = b->rounds[side & 1];
    uint8_t times[CPL_BOOTSTRAP_ROUNDS_MAX];
    uint64_t ordinal = 0, state = b->seed * 2 + (uint64_t)side;
    moments m = {0};
    while (next(times, n, &ordinal, &state)) {
        const double v = side < 2 ? b->log_of(b->user, side, times, n)
                                  : b->log_of(b->user, 1, times, n) - b->log_of(b->user, 0, times, n);
        if (!isfinite(v)) return (spread){0};
        moments_add(&m, v);
    }
    return (spread){m.squares / m.n * (double)n / (double)(n - 1), true};
}

static double student(double df)
{
    static const double t[] = {12.706, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
                               2.201,  2.179,  2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080,
                               2.074,  2.069,  2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042};
    const size_t k = (size_t)df;
    if (k + 1 >= sizeof t / sizeof *t) return 1.98;
    return t[k] + (t[k + 1] - t[k]) * (df - (double)k); /* Welch's degrees of freedom are no whole number */
}

cpl_interval cpl_bootstrap_ratio(const cpl_bootstrap *b)
{
    uint8_t once[CPL_BOOTSTRAP_ROUNDS_MAX];
    const size_t n0 = b->rounds[0], n1 = b->rounds[1];
    if (!n0 || !n1 || n0 > CPL_BOOTSTRAP_ROUNDS_MAX || n1 > CPL_BOOTSTRAP_ROUNDS_MAX) return (cpl_interval){0};
    memset(once, 1, sizeof once);
    const double log_ratio = b->log_of(b->user, 1, once, n1) - b->log_of(b->user, 0, once, n0);
    if (!isfinite(log_ratio)) return (cpl_interval){0};
    const double ratio = exp(log_ratio);
    const cpl_interval unknown = {ratio, ratio, ratio, false};
    if (n0 < 2 || n1 < 2) return unknown;
    double variance, df;
    if (b->paired && n0 == n1) {
        const spread both = spread_of(b, 2);
        if (!both.known) return unknown;
        variance = both.variance;
        df = (double)n0 - 1;
    } else {
        const spread a = spread_of(b, 0), c = spread_of(b, 1);
        if (!a.known || !c.known) return unknown;
        variance = a.variance + c.variance;
        const double welch = a.variance * a.variance / (double)(n0 - 1) + c.variance * c.variance / (double)(n1 - 1);
        df = welch > 0 ? variance * variance / welch : (double)(n0 + n1 - 2);
    }
    /* A figure read from buckets is uniform in its bucket: that much is unknown even where all rounds agree. */
    variance += 2 * b->log_step * b->log_step / 12;
    const double half = student(df) * sqrt(variance);
    return (cpl_interval){ratio, exp(log_ratio - half), exp(log_ratio + half), true};
}
