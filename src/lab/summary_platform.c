/* SPDX-License-Identifier: Apache-2.0 */
/* summary_platform.c - second half of the summary: what works on the machines that ran the experiments and what
 * doesn't, the platform x precision matrix from what was probed and run, recommendations with the figure to expect,
 * and what is left to do, which is what the results themselves show as missing. No state. */
#include <stdio.h>
#include <string.h>

#include "backend/precision.h"
#include "lab/markdown.h"
#include "lab/summary.h"

/* The probes of the newest result: dates sort as text. */
static const cpl_lab_result *newest(const cpl_lab_results *all)
{
    const cpl_lab_result *best = NULL;
    for (size_t i = 0; i < all->count; i++)
        if (all->at[i]->probe_count && (!best || strcmp(all->at[i]->date, best->date) > 0)) best = all->at[i];
    return best;
}

static bool ran_with(const cpl_lab_results *all, const char *backend, const char *precision)
{
    for (size_t i = 0; i < all->count; i++)
        if (cpl_lab_ran(all->at[i]) && !strcmp(all->at[i]->backend, backend) &&
            !strcmp(all->at[i]->precision_effective, precision))
            return true;
    return false;
}

static void works(const cpl_lab_results *all, const cpl_lab_result *r, cpl_buf *out)
{
    cpl_buf_print(out, "## What works here and what does not\n\nOn %s (%s), probed %s.\n\n", r->machine.cpu,
                  r->machine.system, r->date);
    for (size_t i = 0; i < r->probe_count; i++) {
        const cpl_lab_probe *p = &r->probes[i];
        cpl_buf_print(out, "- `%s`: %s", p->backend, p->available ? "works" : "does not: ");
        cpl_md_cell(out, p->reason);
        if (p->available) cpl_buf_print(out, " on %s", p->device);
        cpl_buf_text(out, "\n");
    }
    for (size_t i = 0; i < all->count; i++) {
        if (cpl_lab_ran(all->at[i])) continue;
        cpl_buf_print(out, "- %s: ", all->at[i]->name);
        cpl_md_status(out, all->at[i], true);
        cpl_buf_text(out, "\n");
    }
    cpl_buf_text(out, "\n");
}

static void matrix(const cpl_lab_results *all, const cpl_lab_result *r, cpl_buf *out)
{
    cpl_buf_text(out, "## Platform x precision\n\nFrom what was probed and run, never from a fixed table. **ran**: an "
                      "experiment used it; yes: it executes here.\n\n| Backend (device) |");
    for (int k = 0; k < CPL_PRECISION_COUNT; k++) cpl_buf_print(out, " %s |", cpl_precision_name((cpl_precision)k));
    cpl_buf_text(out, "\n|---|");
    for (int k = 0; k < CPL_PRECISION_COUNT; k++) cpl_buf_text(out, "---|");
    for (size_t i = 0; i < r->probe_count; i++) {
        const cpl_lab_probe *p = &r->probes[i];
        cpl_buf_print(out, "\n| %s (%s) |", p->backend, p->available ? p->device : "not here");
        for (int k = 0; k < CPL_PRECISION_COUNT; k++) {
            const char *word = p->available ? p->precisions[k] : "-";
            cpl_buf_text(out, " ");
            if (ran_with(all, p->backend, cpl_precision_name((cpl_precision)k))) {
                cpl_buf_text(out, "**ran**");
            } else {
                bool no = p->available && strcmp(word, "yes") != 0;
                if (no) cpl_buf_text(out, "no: ");
                cpl_md_cell(out, word);
            }
            cpl_buf_text(out, " |");
        }
    }
    cpl_buf_text(out, "\n\n");
}

static void recommend_one(const char *aim, const cpl_lab_result *r, const cpl_lab_point *p, cpl_buf *out)
{
    cpl_interval v = cpl_lab_interval(p);
    cpl_buf_print(out, "- For %s: backend `%s`, precision %s, batching %s", aim, r->backend, r->precision_effective,
                  r->batching);
    if (*p->server) cpl_buf_print(out, " with `%s`", p->server);
    cpl_buf_print(out, "; %llu pairs a request, %llu in flight (%s). Expect ", (unsigned long long)p->batch,
                  (unsigned long long)p->concurrency, r->name);
    cpl_md_interval(out, &v);
    cpl_buf_text(out, " pairs/s, latency mean ");
    cpl_md_number(out, p->latency_mean_ms);
    cpl_buf_text(out, " ms, p95 ");
    cpl_md_sure(out, p->latency_p95_ms, p->p95_enough);
    cpl_buf_print(out, " ms%s.\n", p->valid ? "" : " (an INVALID row: repeat it before relying on it)");
}

static void recommendations(const cpl_lab_results *all, cpl_buf *out)
{
    const cpl_lab_result *fast = cpl_lab_fastest(all), *quick = NULL;
    const cpl_lab_point *least = NULL;
    if (!fast) return;
    for (size_t i = 0; i < all->count; i++) {
        const cpl_lab_result *r = all->at[i];
        for (size_t k = 0; cpl_lab_scored(r) && k < r->point_count; k++) {
            const cpl_lab_point *p = &r->points[k];
            if (!p->requests || (least && p->latency_mean_ms >= least->latency_mean_ms)) continue;
            least = p;
            quick = r;
        }
    }
    cpl_buf_text(out, "## Recommendations\n\n");
    recommend_one("most throughput", fast, cpl_lab_best(fast), out);
    recommend_one("least latency", quick, least, out);
    cpl_buf_text(out, "\n");
}

/* Says what would mend them. */
static size_t invalid_rows(const cpl_lab_result *r, cpl_buf *out)
{
    size_t bad = 0, brief = 0;
    for (size_t k = 0; k < r->point_count; k++) {
        const cpl_lab_point *p = &r->points[k];
        if (!p->requests || p->valid) continue;
        bad++;
        brief += strstr(p->reasons, "too short") != NULL;
    }
    if (brief)
        cpl_buf_print(out, "- Give %s a longer `experiment.duration`: %zu of %zu rows hold too few requests.\n",
                      r->name, brief, r->point_count);
    if (bad > brief)
        cpl_buf_print(out, "- Repeat %s on a quieter machine: %zu of %zu rows are INVALID.\n", r->name, bad - brief,
                      r->point_count);
    return bad;
}

static void next_steps(const cpl_lab_results *all, cpl_buf *out)
{
    cpl_buf_text(out, "## Next steps\n\n");
    size_t said = 0, invalid = 0, quick = 0, stand_in = 0;
    for (size_t i = 0; i < all->count; i++) {
        const cpl_lab_result *r = all->at[i];
        if (!cpl_lab_ran(r)) {
            cpl_buf_print(out, "- Run %s where its backend `%s` is, or again once the reason above is gone.\n", r->name,
                          r->backend_asked);
            said++;
            continue;
        }
        quick += r->quick;
        stand_in += *r->model_note != 0;
        invalid += invalid_rows(r, out);
    }
    if (quick) cpl_buf_print(out, "- Run %zu experiments without --quick.\n", quick);
    if (stand_in) cpl_buf_print(out, "- Run %zu experiments again with the real cross-encoder's weights.\n", stand_in);
    if (!said && !invalid && !quick && !stand_in) cpl_buf_text(out, "- Nothing is missing from these results.\n");
}

void cpl_lab_summary_platform(const cpl_lab_results *all, cpl_buf *out)
{
    const cpl_lab_result *r = newest(all);
    if (r) works(all, r, out);
    if (r) matrix(all, r, out);
    recommendations(all, out);
    next_steps(all, out);
}
