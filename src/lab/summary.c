/* SPDX-License-Identifier: Apache-2.0 */
/* summary.c - all experiments on one page, first half: who was fastest, what the comparisons say, throughput and
 * latency side by side. The one idea: experiments are compared at the rows they share, by rounds that alternated where
 * they did; a result of one row can't win by having been measured at a better hour. No state.
 * Rejected: ranking by peak alone (a sweep over nine batch sizes has nine chances to be lucky). */
#include "lab/summary.h"

#include <string.h>

#include "lab/compare.h"
#include "lab/findings.h"
#include "lab/markdown.h"
#include "lab/plan.h"

const cpl_lab_result *cpl_lab_baseline(const cpl_lab_results *all)
{
    const cpl_lab_result *first = NULL, *first_one = NULL;
    for (size_t i = 0; i < all->count; i++) {
        const cpl_lab_result *r = all->at[i];
        if (!cpl_lab_ran(r)) continue;
        if (!strcmp(r->name, "01_backend_pytorch")) return r;
        if (!first_one && !strncmp(r->name, "01_", 3)) first_one = r;
        if (!first) first = r;
    }
    return first_one ? first_one : first;
}

const cpl_lab_result *cpl_lab_fastest(const cpl_lab_results *all)
{
    const cpl_lab_result *best = NULL;
    for (size_t i = 0; i < all->count; i++) {
        if (!cpl_lab_scored(all->at[i])) continue;
        const cpl_lab_point *p = cpl_lab_best(all->at[i]), *q = best ? cpl_lab_best(best) : NULL;
        if (!q || p->valid > q->valid || (p->valid == q->valid && p->throughput > q->throughput)) best = all->at[i];
    }
    return best;
}

static bool is_native(const cpl_lab_result *r) { return !strcmp(r->backend, "native"); }

/* How well `other` shows what r's own setting does: a foreign backend's rows stand beside native's in the same
 * precision and with the same batching, native's beside its own without batching. 0: not at all. */
static int fitness(const cpl_lab_result *r, const cpl_lab_result *other)
{
    const bool off = !strcmp(other->batching, "off"), same = !strcmp(other->batching, r->batching);
    bool shared = false;
    for (size_t k = 0; !shared && k < r->point_count; k++) shared = cpl_lab_same_row(other, &r->points[k]);
    if (!shared || other->models > 1 || r->models > 1 || !cpl_lab_plan_related(r->name, other->name)) return 0;
    if (is_native(r)) return off && is_native(other) ? 2 : off;
    if (!is_native(other) || !same) return off;
    return strcmp(r->precision_effective, other->precision_effective) ? 2 : 3;
}

/* The best of them, the first where several are as good; NULL where r itself is what others stand beside. */
const cpl_lab_result *cpl_lab_counterpart(const cpl_lab_results *all, const cpl_lab_result *r)
{
    const cpl_lab_result *found = NULL;
    int best = 0;
    for (size_t i = 0; i < all->count; i++) {
        const int fit = cpl_lab_ran(all->at[i]) ? fitness(r, all->at[i]) : 0;
        if (fit <= best) continue;
        best = fit;
        found = all->at[i];
    }
    return found == r ? NULL : found;
}

const cpl_lab_point *cpl_lab_same_row(const cpl_lab_result *r, const cpl_lab_point *p)
{
    for (size_t i = 0; i < r->point_count; i++) {
        const cpl_lab_point *q = &r->points[i];
        if (q->requests && q->batch == p->batch && q->concurrency == p->concurrency && q->rate == p->rate) return q;
    }
    return NULL;
}

static void executive(const cpl_lab_results *all, cpl_buf *out)
{
    const cpl_lab_result *best = cpl_lab_fastest(all);
    cpl_buf_text(out, "## Executive summary\n\n");
    if (best) {
        const cpl_lab_point *p = cpl_lab_best(best);
        cpl_interval v = cpl_lab_interval(p);
        cpl_buf_print(out, "Highest throughput: ");
        cpl_md_interval(out, &v);
        cpl_buf_print(out, " pairs/s, [%s](%s.md) at ", best->name, best->name);
        cpl_md_point(out, p);
        cpl_buf_print(out, ", backend `%s`, ", best->backend);
        cpl_md_precision(out, best);
        cpl_buf_text(out, ".\n\n");
    }
    cpl_buf_text(out, "| Experiment | Backend | Device | Precision | Peak throughput (pairs/s) | At | Status |\n"
                      "|---|---|---|---|---:|---|---|\n");
    for (size_t i = 0; i < all->count; i++) {
        const cpl_lab_result *r = all->at[i];
        const cpl_lab_point *p = cpl_lab_best(r);
        cpl_buf_print(out, "| [%s](%s.md) | %s | %s | ", r->name, r->name, r->backend, *r->device ? r->device : "-");
        if (p)
            cpl_md_precision(out, r);
        else
            cpl_buf_text(out, "-");
        cpl_buf_text(out, " | ");
        if (p) {
            cpl_md_number(out, p->throughput);
            cpl_buf_text(out, " | ");
            cpl_md_point(out, p);
        } else {
            cpl_buf_text(out, "- | -");
        }
        cpl_buf_text(out, " | ");
        cpl_md_status(out, r, true);
        cpl_buf_text(out, " |\n");
    }
    cpl_buf_text(out, "\n");
}

/* One experiment against the one of its number without batching, row by row. */
static void compare_rows(const cpl_lab_result *base, const cpl_lab_result *r, cpl_buf *out)
{
    bool paired = cpl_lab_interleaved(base, r);
    for (size_t i = 0; i < r->point_count; i++) {
        const cpl_lab_point *p = &r->points[i], *q = cpl_lab_same_row(base, p);
        if (!q || !p->requests) continue;
        cpl_interval ratio = cpl_lab_compare(q, p, paired);
        cpl_buf_print(out, "  - ");
        cpl_md_point(out, p);
        cpl_buf_text(out, ": times ");
        cpl_md_ratio(out, &ratio);
        cpl_buf_print(out, ", %s", cpl_lab_ratio_word(&ratio));
        if (p->server_known && q->server_known)
            cpl_buf_print(out, "; sequences a pass %.1f against %.1f", p->pass_sequences_mean, q->pass_sequences_mean);
        const cpl_interval p95 = cpl_lab_latency_ratio(q, p, 0.95, paired);
        if (p95.known) {
            cpl_buf_text(out, "; p95 times ");
            cpl_md_ratio(out, &p95);
            cpl_buf_print(out, ", %s", cpl_lab_change_name(cpl_lab_change_of(&p95, false)));
        }
        cpl_buf_text(out, "; mean latency ");
        cpl_md_number(out, p->latency_mean_ms);
        cpl_buf_text(out, " against ");
        cpl_md_number(out, q->latency_mean_ms);
        cpl_buf_text(out, " ms\n");
    }
}

static void batching_verdict(const cpl_lab_results *all, cpl_buf *out)
{
    size_t rows = 0, slower = 0, faster = 0, unknown = 0;
    for (size_t i = 0; i < all->count; i++) {
        const cpl_lab_result *r = all->at[i];
        const cpl_lab_result *base = cpl_lab_ran(r) ? cpl_lab_counterpart(all, r) : NULL;
        if (!base || strncmp(r->batching, "greedy", 6) != 0) continue;
        for (size_t k = 0; k < r->point_count; k++) {
            const cpl_lab_point *q = cpl_lab_same_row(base, &r->points[k]);
            if (!q || !r->points[k].requests) continue;
            cpl_interval ratio = cpl_lab_compare(q, &r->points[k], cpl_lab_interleaved(base, r));
            const char *word = cpl_lab_ratio_word(&ratio);
            rows++;
            unknown += !ratio.known;
            slower += !strcmp(word, "slower");
            faster += !strcmp(word, "faster");
        }
    }
    if (!rows) return;
    cpl_buf_print(
        out,
        "- **Greedy batching against none, %zu rows:** faster in %zu, comparable in %zu, slower in %zu, interval "
        "not known in %zu.%s\n",
        rows, faster, rows - faster - slower - unknown, slower, unknown,
        slower || unknown ? "" : " It is never below `off` beyond the interval.");
}

/* What batching gains at each request size, and what a timer costs: the same rows as the page's figures. */
static void gains(const cpl_lab_results *all, cpl_buf *out)
{
    bool any = false;
    for (size_t i = 0; i < all->count; i++) {
        const cpl_lab_result *r = all->at[i], *base = cpl_lab_ran(r) ? cpl_lab_counterpart(all, r) : NULL;
        if (!base || !strcmp(r->batching, "off")) continue;
        const bool paired = cpl_lab_interleaved(base, r);
        for (size_t k = 0; k < r->point_count; k++) {
            const cpl_lab_point *p = &r->points[k], *q = cpl_lab_same_row(base, p);
            if (!p->requests || !q || !p->concurrency) continue;
            if (!any)
                cpl_buf_text(
                    out, "**What batching gains and what waiting costs**, against `off` at the same load (ratio, 95 % "
                         "interval):\n\n| Pairs a request | Tokens a pair | In flight | Precision | Batching | "
                         "Throughput | | Latency p95 | | Evidence |\n|---:|---:|---:|---|---|---|---|---|---|---|\n");
            any = true;
            const cpl_interval speed = cpl_lab_throughput_ratio(q, p, paired);
            cpl_interval p95 = cpl_lab_latency_ratio(q, p, 0.95, paired);
            p95.known = p95.known && p->p95_enough && q->p95_enough;
            const double texts = p->sequences_per_pair > 1 ? p->sequences_per_pair : 1;
            cpl_buf_print(out, "| %llu | %.0f | %llu | %s | %s | ", (unsigned long long)p->batch,
                          p->tokens_per_sequence * texts, (unsigned long long)p->concurrency, r->precision_effective,
                          *p->server ? p->server : r->batching);
            cpl_md_ratio(out, &speed);
            cpl_buf_print(out, " | %s | ", cpl_lab_change_name(cpl_lab_change_of(&speed, true)));
            if (p95.mean > 0)
                cpl_md_ratio(out, &p95);
            else
                cpl_buf_text(out, "-");
            cpl_buf_print(out, " | %s | %s, %s |\n", cpl_lab_change_name(cpl_lab_change_of(&p95, false)), r->name,
                          paired ? "rounds alternated" : "not interleaved");
        }
    }
    if (any) cpl_buf_text(out, "\n");
}

static void findings(const cpl_lab_results *all, cpl_buf *out)
{
    cpl_buf_text(out, "## Key findings\n\n");
    gains(all, out);
    batching_verdict(all, out);
    for (size_t i = 0; i < all->count; i++) {
        const cpl_lab_result *r = all->at[i];
        const cpl_lab_result *base = cpl_lab_ran(r) ? cpl_lab_counterpart(all, r) : NULL;
        if (!base) continue;
        cpl_buf_print(out, "- **%s (batching %s) against %s (off)**%s:\n", r->name, r->batching, base->name,
                      cpl_lab_interleaved(base, r) ? ", rounds alternated" : ", not interleaved");
        compare_rows(base, r, out);
    }
    for (size_t i = 0; i < all->count; i++) {
        const cpl_lab_result *r = all->at[i];
        if (!cpl_lab_ran(r)) continue;
        cpl_buf_print(out, "\n**%s** (evidence: [table](%s.md))\n\n", r->name, r->name);
        cpl_lab_findings(r, true, out);
    }
    cpl_buf_text(out, "\n");
}

static void throughput(const cpl_lab_results *all, cpl_buf *out)
{
    const cpl_lab_result *base = cpl_lab_baseline(all);
    if (!base) return;
    const cpl_lab_point *b = cpl_lab_best(base);
    cpl_buf_print(out,
                  "## Throughput comparison\n\nEach experiment's best row against that of %s; \"comparable\" where "
                  "the intervals overlap.\n\n| Experiment | At | Pairs/s (95 %% interval) | TP P95 | vs baseline | "
                  "|\n|---|---|---:|---:|---:|---|\n",
                  base->name);
    for (size_t i = 0; i < all->count; i++) {
        const cpl_lab_result *r = all->at[i];
        if (!cpl_lab_scored(r) && r != base) continue;
        const cpl_lab_point *p = cpl_lab_best(r);
        cpl_interval v = cpl_lab_interval(p), ratio = cpl_lab_compare(b, p, false);
        cpl_buf_print(out, "| %s | ", r->name);
        cpl_md_point(out, p);
        cpl_buf_text(out, " | ");
        cpl_md_interval(out, &v);
        cpl_buf_text(out, " | ");
        cpl_md_number(out, p->throughput_p95);
        if (r == base)
            cpl_buf_text(out, " | 1 | baseline |\n");
        else
            cpl_buf_print(out, " | %+.1f %% | %s |\n", (ratio.mean - 1) * 100, cpl_lab_ratio_word(&ratio));
    }
    cpl_buf_text(out, "\n");
}

/* Where accuracy was measured beside speed. */
static void quality(const cpl_lab_results *all, cpl_buf *out)
{
    bool any = false;
    for (size_t i = 0; i < all->count; i++) {
        const cpl_lab_result *r = all->at[i];
        if (!cpl_lab_ran(r) || !r->quality.pairs) continue;
        if (!any)
            cpl_buf_text(out,
                         "## Speed and quality\n\nAccuracy against couplet's own engine in fp32 on the same pairs.\n\n"
                         "| Experiment | Backend | Precision | Pairs/s | Spearman | Kendall | nDCG@10 | Pairs "
                         "compared |\n|---|---|---|---:|---:|---:|---:|---:|\n");
        any = true;
        const cpl_interval v = cpl_lab_interval(cpl_lab_best(r));
        cpl_buf_print(out, "| %s | %s | %s | ", r->name, r->backend, r->precision_effective);
        cpl_md_interval(out, &v);
        cpl_buf_print(out, " | %.5f | %.4f | %.5f | %llu |\n", r->quality.spearman, r->quality.kendall,
                      r->quality.ndcg10, (unsigned long long)r->quality.pairs);
    }
    if (any) cpl_buf_text(out, "\n");
}

/* The least loaded row: the fewest pairs in flight. */
static const cpl_lab_point *lightest(const cpl_lab_result *r)
{
    const cpl_lab_point *best = NULL;
    for (size_t i = 0; i < r->point_count; i++) {
        const cpl_lab_point *p = &r->points[i];
        if (p->requests && (!best || p->batch * p->concurrency < best->batch * best->concurrency)) best = p;
    }
    return best;
}

static void latency(const cpl_lab_results *all, cpl_buf *out)
{
    if (!cpl_lab_baseline(all)) return;
    cpl_buf_text(out,
                 "## Latency comparison\n\nAt each experiment's lightest load. Closed loop: a latency means something "
                 "only together with its concurrency.\n\n| Experiment | At | Mean (ms) | P95 (ms) | Queue (ms) | "
                 "Compute (ms) |\n|---|---|---:|---:|---:|---:|\n");
    for (size_t i = 0; i < all->count; i++) {
        const cpl_lab_result *r = all->at[i];
        if (!cpl_lab_ran(r)) continue;
        const cpl_lab_point *p = lightest(r);
        cpl_buf_print(out, "| %s | ", r->name);
        cpl_md_point(out, p);
        cpl_buf_text(out, " | ");
        cpl_md_number(out, p->latency_mean_ms);
        cpl_buf_text(out, " | ");
        cpl_md_sure(out, p->latency_p95_ms, p->p95_enough);
        cpl_buf_text(out, " | ");
        if (p->server_known) {
            cpl_md_number(out, p->queue_mean_ms);
            cpl_buf_text(out, " | ");
            cpl_md_number(out, p->compute_mean_ms);
        } else {
            cpl_buf_text(out, "- | -");
        }
        cpl_buf_text(out, " |\n");
    }
    cpl_buf_text(out, "\n`~`: too few samples for that percentile.\n\n");
}

void cpl_lab_summary(const cpl_lab_results *all, cpl_buf *out)
{
    cpl_buf_text(out,
                 "# Experiments: summary\n\n"
                 "Generated by `couplet report` from the results beside it; nothing here is written by hand. In all "
                 "experiments \"batch\" is the number of pairs in one request.\n\n");
    bool stand_in = false;
    for (size_t i = 0; i < all->count; i++) stand_in |= *all->at[i]->model_note != 0 && cpl_lab_ran(all->at[i]);
    if (stand_in)
        cpl_buf_text(out,
                     "**Some rows ran a stand-in model** (full size, seeded head): their speed is real, their scores "
                     "mean nothing. The page of each such experiment says so.\n\n");
    executive(all, out);
    findings(all, out);
    throughput(all, out);
    latency(all, out);
    quality(all, out);
    cpl_lab_summary_platform(all, out);
}
