/* SPDX-License-Identifier: Apache-2.0 */
/* peak.c - bracketing and bisection over rates. The one idea: the search knows nothing of servers, so that a test can
 * run it against a formula; what a probe is comes as a function. Ratios, not differences: rates span decades. Rejected:
 * stepping the rate up within one run (each step inherits the queue of the one before). Threads: the caller's. */
#include "load/peak.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "load/scenario.h"
#include "load/verdict.h"

#define RATE_MIN 0.05
#define RATE_MAX 1e6

#define PROBE_SECONDS_MAX 30.0
#define IDLE_IN_FLIGHT    0.25

typedef struct search {
    cpl_peak *out;
    cpl_status (*probe)(void *user, cpl_peak_trial *p, cpl_error *err);
    void *user;
} search;

/* Room is kept for the second look at the end. */
static bool room(const search *s) { return s->out->count + 3 < CPL_PEAK_PROBES_MAX; }

static cpl_status ask(const search *s, double rate, bool *holds, cpl_error *err)
{
    *holds = false;
    for (int tries = 0; tries < 2 && s->out->count < CPL_PEAK_PROBES_MAX; tries++) {
        cpl_peak_trial *p = &s->out->probes[s->out->count];
        *p = (cpl_peak_trial){.rate = rate};
        cpl_status st = s->probe(s->user, p, err);
        if (st) return st;
        s->out->count++;
        *holds = p->answer == CPL_PEAK_HOLDS;
        if (p->answer != CPL_PEAK_INVALID) break;
    }
    return CPL_OK;
}

/* The highest rate below `below` at which the objective held the last time it was looked at. */
static double best_below(const cpl_peak *out, double below)
{
    double best = 0;
    for (uint32_t i = 0; i < out->count; i++)
        if (out->probes[i].answer == CPL_PEAK_HOLDS && out->probes[i].rate < below && out->probes[i].rate > best)
            best = out->probes[i].rate;
    return best;
}

static cpl_status bracket(const search *s, double start, double *low, double *high, cpl_error *err)
{
    bool holds;
    double rate = start;
    cpl_status st = ask(s, rate, &holds, err);
    const bool up = holds;
    *low = *high = 0;
    while (!st) {
        *(holds ? low : high) = rate;
        if (holds != up || !room(s) || (!holds && s->out->probes[s->out->count - 1].idle)) break;
        rate *= up ? 2 : 0.5;
        if (rate < RATE_MIN || rate > RATE_MAX) break;
        st = ask(s, rate, &holds, err);
    }
    return st;
}

cpl_status cpl_peak_find(cpl_peak *out, double start_rate, double within,
                         cpl_status (*probe)(void *user, cpl_peak_trial *p, cpl_error *err), void *user, cpl_error *err)
{
    const search s = {out, probe, user};
    double low, high;
    bool holds;
    memset(out, 0, sizeof *out);
    cpl_status st = bracket(&s, start_rate < RATE_MIN ? RATE_MIN : start_rate, &low, &high, err);
    while (!st && low > 0 && high > 0 && high / low > 1 + within && room(&s)) {
        const double middle = sqrt(low * high);
        st = ask(&s, middle, &holds, err);
        *(holds ? &low : &high) = middle;
    }
    while (!st && low > 0) {
        if (out->count == CPL_PEAK_PROBES_MAX) low = 0;
        if (low > 0) st = ask(&s, low, &holds, err);
        if (st || low <= 0 || holds) break;
        high = low;
        low = best_below(out, low);
        if (low <= 0) low = high * 0.9 > RATE_MIN ? high * 0.9 : 0;
    }
    out->rate = low;
    out->next = high;
    return st;
}

/* ---- with runs --------------------------------------------------------------------------------------------------- */

typedef struct runs {
    const cpl_load_run_options *base;
    const cpl_workload *workload;
    cpl_peak_report *report;
    void *user;
    uint32_t probes;
} runs;

static void judge(cpl_peak_trial *p, const cpl_load_result *r)
{
    cpl_verdict v;
    cpl_verdict_of(&v, r);
    p->requests = r->measure.requests + r->measure.failed;
    p->latency_ms = (double)cpl_histogram_at(&r->measure.latency_ns, r->slo.part) / 1e6;
    /* What the server is to blame for decides first: a queue that grows makes a run invalid, and its rate too high. */
    const bool unanswered = r->measure.failed * 1000 > p->requests || r->too_far_behind || r->gave_up;
    if (r->slo_verdict == CPL_SLO_FAILS || unanswered || r->within_slo < r->slo.part) {
        p->answer = CPL_PEAK_FAILS;
        p->idle = !unanswered && r->measure.in_flight_mean < IDLE_IN_FLIGHT;
        snprintf(p->why, sizeof p->why, "%.2f %% in time%s", r->within_slo * 100,
                 v.beyond ? ", and the queue grew" : "");
    } else if (!v.valid || v.beyond) {
        p->answer = CPL_PEAK_INVALID;
        snprintf(p->why, sizeof p->why, "%.199s", v.valid ? v.note : v.reasons);
    } else if (r->slo_verdict == CPL_SLO_HOLDS || p->requests >= cpl_samples_needed(r->slo.part)) {
        p->answer = CPL_PEAK_HOLDS;
    } else {
        p->answer = CPL_PEAK_INVALID;
        snprintf(p->why, sizeof p->why, "%llu requests are too few", (unsigned long long)p->requests);
    }
}

static cpl_status run_probe(void *user, cpl_peak_trial *p, cpl_error *err)
{
    runs *r = user;
    cpl_load_result *result = NULL;
    cpl_load_run_options o = *r->base;
    o.rate = p->rate;
    o.seed = r->base->seed + r->probes++; /* other arrivals each time: a lucky draw isn't drawn twice */
    const double enough_s = 1.3 * (double)cpl_samples_needed(o.slo.part) / p->rate;
    if (enough_s > PROBE_SECONDS_MAX && enough_s > o.duration_s) {
        p->answer = CPL_PEAK_FAILS;
        snprintf(p->why, sizeof p->why, "not run: so few requests a second take %.0f s to show p%g", enough_s,
                 o.slo.part * 100);
        if (r->report) r->report(r->user, p);
        return CPL_OK;
    }
    if (o.duration_s < enough_s) o.duration_s = enough_s;
    cpl_status st = cpl_load_run(&result, &o, r->workload, err);
    if (!st) judge(p, result);
    cpl_load_result_close(result);
    if (!st && r->report) r->report(r->user, p);
    return st;
}

/* What sixteen clients get, as a place to begin. */
static cpl_status guess_rate(double *rate, const cpl_load_run_options *base, const cpl_workload *workload,
                             cpl_error *err)
{
    cpl_load_result *r = NULL;
    cpl_load_run_options o = *base;
    o.scenario = &cpl_scenario_closed;
    o.concurrency = 16;
    o.warmup = 16;
    o.requests = 0;
    o.duration_s = 0.5;
    o.slo = (cpl_slo){0};
    o.early_stop = false;
    cpl_status st = cpl_load_run(&r, &o, workload, err);
    if (!st && !r->measure.requests)
        st = cpl_fail(err, CPL_UNAVAILABLE, "no request was answered: %s", r->errors[0].message);
    if (!st) *rate = (double)r->measure.requests / r->measure.seconds / 4;
    cpl_load_result_close(r);
    return st;
}

cpl_status cpl_peak_run(cpl_peak *out, const cpl_load_run_options *options, const cpl_workload *workload,
                        cpl_peak_report *report, void *user, cpl_error *err)
{
    cpl_load_run_options o = *options;
    double start = o.rate;
    memset(out, 0, sizeof *out);
    if (!(o.slo.part > 0))
        return cpl_fail(err, CPL_INVALID, "the search for the peak needs an objective with a percentile: p99=20ms");
    if (o.scenario && !o.scenario->open) o.scenario = NULL;
    if (!o.scenario) o.scenario = &cpl_scenario_poisson;
    o.concurrency = 0;
    o.early_stop = true;
    if (!o.requests) o.requests = 20 * cpl_samples_needed(o.slo.part);
    if (o.duration_s <= 0) o.duration_s = 10;
    cpl_status st = start > 0 ? CPL_OK : guess_rate(&start, &o, workload, err);
    runs r = {.base = &o, .workload = workload, .report = report, .user = user};
    return st ? st : cpl_peak_find(out, start, 0.05, run_probe, &r, err);
}
