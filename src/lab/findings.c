/* SPDX-License-Identifier: Apache-2.0 */
/* findings.c - what the numbers of one experiment say. The one idea: a difference is named only where the intervals
 * don't touch; otherwise the word is "comparable". Each finding is its own function that looks at the rows and says
 * something or nothing. Threads: no state.
 * Rejected: prose kept beside the experiment files (it stays when the numbers change). */
#include "lab/findings.h"

#include <string.h>

#include "lab/markdown.h"
#include "lab/plan.h"

bool cpl_lab_comparable(const cpl_lab_point *p, const cpl_lab_point *best)
{
    cpl_interval a = cpl_lab_interval(p), b = cpl_lab_interval(best);
    return cpl_interval_overlap(&a, &b);
}

bool cpl_lab_interleaved(const cpl_lab_result *a, const cpl_lab_result *b)
{
    return *a->interleaved && strstr(a->interleaved, b->name) && !strcmp(a->date, b->date);
}

cpl_interval cpl_lab_compare(const cpl_lab_point *a, const cpl_lab_point *b, bool interleaved)
{
    if (interleaved && a->rounds == b->rounds && a->rounds > 1)
        return cpl_ratio_of(a->round_throughput, b->round_throughput, a->rounds);
    cpl_interval x = cpl_lab_interval(a), y = cpl_lab_interval(b);
    if (x.mean <= 0) return (cpl_interval){0};
    double ratio = y.mean / x.mean;
    if (!x.known || !y.known || x.low <= 0) return (cpl_interval){ratio, ratio, ratio, false};
    return (cpl_interval){ratio, y.low / x.high, y.high / x.low, true};
}

const char *cpl_lab_ratio_word(const cpl_interval *ratio)
{
    if (!ratio->known) return "interval not known";
    if (ratio->low <= 1 && ratio->high >= 1) return "comparable";
    return ratio->mean > 1 ? "faster" : "slower";
}

static void say_best(const cpl_lab_result *r, cpl_buf *out)
{
    const cpl_lab_point *best = cpl_lab_best(r), *quickest = NULL;
    for (size_t i = 0; i < r->point_count; i++)
        if (r->points[i].requests && (!quickest || r->points[i].latency_mean_ms < quickest->latency_mean_ms))
            quickest = &r->points[i];
    cpl_interval v = cpl_lab_interval(best);
    cpl_buf_text(out, "- Most throughput: ");
    cpl_md_interval(out, &v);
    cpl_buf_text(out, " pairs/s at ");
    cpl_md_point(out, best);
    cpl_buf_text(out, " (latency mean ");
    cpl_md_number(out, best->latency_mean_ms);
    cpl_buf_text(out, " ms, p95 ");
    cpl_md_sure(out, best->latency_p95_ms, best->p95_enough);
    cpl_buf_text(out, " ms).");
    size_t near = 0;
    for (size_t i = 0; i < r->point_count; i++)
        near += &r->points[i] != best && r->points[i].interval_known && best->interval_known &&
                cpl_lab_comparable(&r->points[i], best);
    if (near) cpl_buf_print(out, " %zu of the other %zu rows are comparable.", near, r->point_count - 1);
    cpl_buf_text(out, "\n");
    if (quickest == best) return;
    cpl_buf_text(out, "- Least latency: ");
    cpl_md_number(out, quickest->latency_mean_ms);
    cpl_buf_text(out, " ms mean, p95 ");
    cpl_md_sure(out, quickest->latency_p95_ms, quickest->p95_enough);
    cpl_buf_text(out, " ms at ");
    cpl_md_point(out, quickest);
    cpl_buf_text(out, ", at ");
    cpl_md_number(out, quickest->throughput);
    cpl_buf_text(out, " pairs/s.\n");
}

/* The rows of one line through the table: same server and batch (or same server and concurrency). */
static bool on_line(const cpl_lab_point *a, const cpl_lab_point *b, bool along_concurrency)
{
    if (strcmp(a->server, b->server) != 0) return false;
    return along_concurrency ? a->batch == b->batch : a->concurrency == b->concurrency;
}

static void say_line(const cpl_lab_result *r, const cpl_lab_point *first, bool along_concurrency, cpl_buf *out)
{
    const cpl_lab_point *last = first, *best = first, *enough = NULL;
    const cpl_lab_point *end = r->points + r->point_count;
    bool known = true;
    for (const cpl_lab_point *p = first; p < end; p++) {
        if (!p->requests || !on_line(first, p, along_concurrency)) continue;
        last = p;
        known &= p->interval_known;
        if (p->throughput > best->throughput) best = p;
    }
    if (last == first) return;
    for (const cpl_lab_point *p = first; known && p < end && !enough; p++)
        if (p->requests && on_line(first, p, along_concurrency) && (p == best || cpl_lab_comparable(p, best)))
            enough = p;
    uint64_t from = along_concurrency ? first->concurrency : first->batch;
    uint64_t to = along_concurrency ? last->concurrency : last->batch;
    cpl_interval ratio = cpl_lab_compare(first, last, true); /* rounds of one experiment alternate as well */
    cpl_buf_print(out, "- %s %llu to %llu", along_concurrency ? "Concurrency" : "Batch", (unsigned long long)from,
                  (unsigned long long)to);
    if (along_concurrency)
        cpl_buf_print(out, " at batch %llu", (unsigned long long)first->batch);
    else
        cpl_buf_print(out, " at concurrency %llu", (unsigned long long)first->concurrency);
    if (*first->server) cpl_buf_print(out, ", `%s`", first->server);
    cpl_buf_text(out, ": throughput times ");
    cpl_md_ratio(out, &ratio);
    cpl_buf_print(out, " (%s)", cpl_lab_ratio_word(&ratio));
    cpl_buf_text(out, ", mean latency times ");
    cpl_md_number(out, first->latency_mean_ms > 0 ? last->latency_mean_ms / first->latency_mean_ms : 0);
    if (enough)
        cpl_buf_print(out, "; from %llu on nothing is gained beyond the interval",
                      (unsigned long long)(along_concurrency ? enough->concurrency : enough->batch));
    cpl_buf_text(out, ".\n");
}

static void say_lines(const cpl_lab_result *r, bool along_concurrency, cpl_buf *out)
{
    for (size_t i = 0; i < r->point_count; i++) {
        bool first = r->points[i].requests > 0;
        for (size_t k = 0; first && k < i; k++)
            first = !(r->points[k].requests && on_line(&r->points[k], &r->points[i], along_concurrency));
        if (first) say_line(r, &r->points[i], along_concurrency, out);
    }
}

cpl_lab_knee cpl_lab_knee_of(const cpl_lab_result *r, const cpl_lab_point *line)
{
    cpl_lab_knee k = {0};
    for (size_t i = 0; i < r->point_count; i++) {
        const cpl_lab_point *p = &r->points[i];
        if (p->requests && on_line(p, line, true) && (!k.least || p->offered < k.least->offered)) k.least = p;
    }
    for (size_t i = 0; i < r->point_count; i++) {
        const cpl_lab_point *p = &r->points[i];
        if (!p->requests || !on_line(p, line, true)) continue;
        const bool bent = p->latency_p95_ms > 2 * k.least->latency_p95_ms;
        if (bent && (!k.knee || p->offered < k.knee->offered)) k.knee = p;
        if (p->valid && p->beyond_capacity && (!k.beyond || p->offered < k.beyond->offered)) k.beyond = p;
        if (p->slo_ms > 0 && p->within_slo >= 0.99 && (!k.in_time || p->offered > k.in_time->offered)) k.in_time = p;
    }
    for (size_t i = 0; i < r->point_count; i++) {
        const cpl_lab_point *p = &r->points[i];
        if (p->requests && on_line(p, line, true) && (!k.knee || p->offered < k.knee->offered) &&
            (!k.kept || p->offered > k.kept->offered))
            k.kept = p;
    }
    return k;
}

static void say_load(const cpl_lab_result *r, const cpl_lab_point *line, cpl_buf *out)
{
    const cpl_lab_knee k = cpl_lab_knee_of(r, line);
    const cpl_lab_point *least = k.least, *knee = k.knee, *kept = k.kept, *in_time = k.in_time;
    cpl_buf_text(out, "- At ");
    cpl_md_point(out, least);
    cpl_buf_text(out, " the p95 is ");
    cpl_md_sure(out, least->latency_p95_ms, least->p95_enough);
    cpl_buf_print(out, " ms; it stays within twice that up to %.0f requests/s", kept->offered);
    if (knee) {
        cpl_buf_print(out, ", and at %.0f it is ", knee->offered);
        cpl_md_sure(out, knee->latency_p95_ms, knee->p95_enough);
        cpl_buf_text(out, " ms");
    }
    if (k.beyond)
        cpl_buf_print(out, "; %.0f requests/s are more than it takes: %.0f were answered", k.beyond->offered,
                      k.beyond->throughput / (double)k.beyond->batch);
    if (in_time)
        cpl_buf_print(out, "; up to %.0f requests/s 99 %% are answered within %g ms", in_time->offered,
                      in_time->slo_ms);
    else if (least->slo_ms > 0)
        cpl_buf_print(out, "; at no rate tried are 99 %% answered within %g ms", least->slo_ms);
    cpl_buf_text(out, ".\n");
}

static void say_loads(const cpl_lab_result *r, cpl_buf *out)
{
    for (size_t i = 0; i < r->point_count; i++) {
        bool first = r->points[i].requests > 0;
        for (size_t k = 0; first && k < i; k++)
            first = !(r->points[k].requests && on_line(&r->points[k], &r->points[i], true));
        if (first) say_load(r, &r->points[i], out);
    }
}

/* Swept server settings at one batch and concurrency: the best against the worst. */
static void say_sweep(const cpl_lab_result *r, cpl_buf *out)
{
    const cpl_lab_point *best = NULL, *worst = NULL;
    for (size_t i = 0; i < r->point_count; i++) {
        const cpl_lab_point *p = &r->points[i];
        if (!*p->server || !p->requests || strstr(p->server, "model=")) continue;
        if (!best) best = worst = p;
        if (p->batch != best->batch || p->concurrency != best->concurrency) continue;
        if (p->throughput > best->throughput) best = p;
        if (p->throughput < worst->throughput) worst = p;
    }
    if (!best || best == worst) return;
    cpl_interval ratio = cpl_lab_compare(worst, best, true);
    if (!ratio.known || !strcmp(cpl_lab_ratio_word(&ratio), "comparable")) {
        cpl_buf_print(out, "- The swept settings can't be told apart: best (`%s`) over worst (`%s`) is ", best->server,
                      worst->server);
    } else {
        cpl_buf_print(out, "- Of the swept settings `%s` is best and `%s` worst: throughput times ", best->server,
                      worst->server);
    }
    cpl_md_ratio(out, &ratio);
    cpl_buf_text(out, ".\n");
}

/* Sequences of a pass over those of a request. */
static double joined_part(const cpl_lab_point *p)
{
    double request = (double)p->batch * (p->sequences_per_pair > 0 ? p->sequences_per_pair : 1);
    return p->pass_sequences_mean / request;
}

static void say_batches(const cpl_lab_result *r, cpl_buf *out)
{
    const cpl_lab_point *least = NULL, *most = NULL;
    size_t known = 0, joined = 0, cut = 0;
    for (size_t i = 0; i < r->point_count; i++) {
        const cpl_lab_point *p = &r->points[i];
        if (!p->server_known || p->pass_sequences_mean <= 0) continue;
        double part = joined_part(p);
        known++;
        joined += part > 1.05;
        cut += part < 0.95;
        if (!least || part < joined_part(least)) least = p;
        if (!most || part > joined_part(most)) most = p;
    }
    if (!known) return;
    cpl_buf_print(out, "- Batches formed: requests were joined in %zu of %zu rows, cut in %zu", joined, known, cut);
    if (joined) {
        cpl_buf_print(out, "; most joined: %.1f sequences a pass at ", most->pass_sequences_mean);
        cpl_md_point(out, most);
    }
    if (cut)
        cpl_buf_print(out, "; most cut: %.1f sequences (%.0f tokens) a pass for requests of %llu pairs",
                      least->pass_sequences_mean, least->pass_tokens_mean, (unsigned long long)least->batch);
    if (r->pass_tokens_max)
        cpl_buf_print(out, " (a pass holds at most %llu tokens)", (unsigned long long)r->pass_tokens_max);
    cpl_buf_text(out, ".\n");
}

static void say_time(const cpl_lab_result *r, cpl_buf *out)
{
    const cpl_lab_point *p = cpl_lab_best(r);
    if (!p->server_known || p->latency_mean_ms <= 0) return;
    cpl_buf_text(out, "- Where a request's time goes in the best row: ");
    cpl_md_number(out, p->queue_mean_ms);
    cpl_buf_text(out, " ms waiting for a worker, ");
    cpl_md_number(out, p->compute_mean_ms);
    cpl_buf_text(out, " ms from its first pass to its last, ");
    cpl_md_number(out, p->tokenize_mean_ms);
    cpl_buf_text(out, " ms tokenizing; workers computed on ");
    cpl_buf_print(out, "%.2f of %llu cores, the server used %.2f, the load generator %.2f.\n", p->busy_cores,
                  (unsigned long long)r->machine.cores, p->server_cores, p->client_cores);
}

bool cpl_lab_pass_cost_of(const cpl_lab_result *r, cpl_lab_pass_cost *out)
{
    double n = 0, x = 0, y = 0, xx = 0, xy = 0, low = 0, high = 0;
    *out = (cpl_lab_pass_cost){0};
    for (size_t i = 0; i < r->point_count; i++) {
        const cpl_lab_point *p = &r->points[i];
        if (!p->passes || *p->server || p->pass_mean_ms <= 0) continue;
        const double w = (double)p->passes, t = p->pass_tokens_mean;
        low = out->rows && low < t ? low : t;
        high = high > t ? high : t;
        out->rows++;
        n += w, x += w * t, y += w * p->pass_mean_ms, xx += w * t * t, xy += w * t * p->pass_mean_ms;
    }
    const double spread = n * xx - x * x;
    if (out->rows < 3 || high < 1.5 * low || spread <= 0) return false;
    const double slope = (n * xy - x * y) / spread;
    out->per_token_us = slope * 1e3;
    out->fixed_ms = (y - slope * x) / n;
    for (size_t i = 0; i < r->point_count; i++) {
        const cpl_lab_point *p = &r->points[i];
        if (!p->passes || *p->server || p->pass_mean_ms <= 0) continue;
        const double miss = (out->fixed_ms + slope * p->pass_tokens_mean) / p->pass_mean_ms - 1;
        if (miss > out->miss) out->miss = miss;
        if (-miss > out->miss) out->miss = -miss;
    }
    return true;
}

static void say_pass_cost(const cpl_lab_result *r, cpl_buf *out)
{
    cpl_lab_pass_cost c;
    if (!cpl_lab_pass_cost_of(r, &c)) return;
    cpl_buf_print(
        out,
        "- Cost of a pass over %zu rows: %.2f ms fixed and %.2f us a token; the line misses no row by more than "
        "%.1f %%.\n",
        c.rows, c.fixed_ms, c.per_token_us, c.miss * 100);
}

static void say_trouble(const cpl_lab_result *r, cpl_buf *out)
{
    size_t failed = 0, invalid = 0, cut = 0, repeated = 0, shallow = 0, beyond = 0, again = 0;
    for (size_t i = 0; i < r->point_count; i++) {
        const cpl_lab_point *p = &r->points[i];
        failed += *p->errors != 0;
        invalid += p->requests && !p->valid;
        beyond += p->valid && p->beyond_capacity;
        again += p->retaken > 0;
        cut += p->asked && p->requests + p->failed < p->asked;
        repeated += p->repeats > 0;
        shallow += p->requests && p->in_flight_mean < 0.9 * (double)p->concurrency;
    }
    size_t n = r->point_count;
    if (failed) cpl_buf_print(out, "- Requests failed in %zu of %zu rows (see below).\n", failed, n);
    if (shallow)
        cpl_buf_print(out, "- In %zu of %zu rows less than 90 %% of the concurrency asked for was in flight.\n",
                      shallow, n);
    if (invalid) cpl_buf_print(out, "- %zu of %zu rows are INVALID by the rules below.\n", invalid, n);
    if (beyond) cpl_buf_print(out, "- %zu of %zu rows offered more than the server takes.\n", beyond, n);
    if (again)
        cpl_buf_print(out, "- In %zu of %zu rows a round was measured again because the machine was unsteady.\n", again,
                      n);
    if (cut) cpl_buf_print(out, "- Time ended %zu of %zu rows before all requests were sent.\n", cut, n);
    if (repeated)
        cpl_buf_print(out, "- In %zu of %zu rows the pool of pairs was used up and pairs were sent again.\n", repeated,
                      n);
}

void cpl_lab_findings(const cpl_lab_result *r, bool brief, cpl_buf *out)
{
    if (!cpl_lab_best(r)) {
        cpl_buf_text(out, "- No row was measured.\n");
        return;
    }
    say_best(r, out);
    if (cpl_lab_best(r)->concurrency) {
        say_lines(r, true, out);
        say_lines(r, false, out);
    } else {
        say_loads(r, out);
    }
    say_sweep(r, out);
    if (brief) return;
    say_batches(r, out);
    say_time(r, out);
    say_pass_cost(r, out);
    say_trouble(r, out);
}
