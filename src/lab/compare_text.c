/* SPDX-License-Identifier: Apache-2.0 */
/* compare_text.c - comparisons as a table for terminals and as JSON. No state. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "lab/compare.h"
#include "lab/markdown.h"

static void put_ratio(const cpl_lab_comparison *c, size_t m, cpl_buf *out)
{
    char text[64];
    const cpl_interval *r = &c->ratio[m];
    if (r->mean <= 0)
        snprintf(text, sizeof text, "-");
    else if (!r->known || !c->enough[m])
        snprintf(text, sizeof text, "~%.3f", r->mean);
    else
        snprintf(text, sizeof text, "%.3f (%.3f to %.3f)", r->mean, r->low, r->high);
    cpl_buf_print(out, "    %-11s %-25s %s%s\n", cpl_lab_metric_names[m], text, cpl_lab_change_name(c->change[m]),
                  c->regress[m] ? "  <- REGRESSION" : "");
}

static void head(const cpl_lab_comparison *c, cpl_buf *out)
{
    cpl_buf_print(out, "%s", c->old_result->name);
    if (c->new_result != c->old_result) cpl_buf_print(out, " against %s", c->new_result->name);
    cpl_buf_text(out, ", ");
    cpl_md_point(out, c->new_row);
    if (c->new_result == c->old_result) cpl_buf_print(out, " against `%s`", c->old_row->server);
    const cpl_lab_result *a = c->old_result, *b = c->new_result;
    const bool elsewhere = strcmp(a->machine.cpu, b->machine.cpu) != 0 || a->machine.cores != b->machine.cores;
    cpl_buf_print(out, "%s%s\n",
                  c->paired   ? " (rounds alternated)"
                  : elsewhere ? " (DIFFERENT MACHINES)"
                              : "",
                  a->quick || b->quick ? " (--quick)" : "");
}

void cpl_lab_comparisons_text(const cpl_lab_comparisons *all, cpl_buf *out)
{
    for (size_t i = 0; i < all->count; i++) {
        head(&all->at[i], out);
        for (size_t m = 0; m < CPL_LAB_METRICS; m++) put_ratio(&all->at[i], m, out);
    }
    const size_t known =
        all->changes[CPL_LAB_BETTER] + all->changes[CPL_LAB_WORSE] + all->changes[CPL_LAB_NO_DIFFERENCE];
    cpl_buf_print(out, "\n%zu rows", all->count);
    if (all->alone) cpl_buf_print(out, " (%zu more have no counterpart)", all->alone);
    cpl_buf_print(out, ": new over old, 95 %% interval. Better %zu, worse %zu, no difference %zu, not known %zu.\n",
                  all->changes[CPL_LAB_BETTER], all->changes[CPL_LAB_WORSE], all->changes[CPL_LAB_NO_DIFFERENCE],
                  all->changes[CPL_LAB_NOT_KNOWN]);
    if (known)
        cpl_buf_print(out, "Of %zu verdicts on equal systems chance alone calls about %.1f worse.\n", known,
                      (double)known * 0.025);
    if (all->changes[CPL_LAB_NOT_KNOWN])
        cpl_buf_text(out, "`~`: no verdict; it needs two rounds or more on both sides (experiment.repeats) and enough "
                          "samples for the percentile.\n");
    cpl_buf_print(out, "%zu regressions beyond %g %%.\n", all->regressions, all->threshold * 100);
}

static void json_metric(const cpl_lab_comparison *c, size_t m, cpl_json_writer *w)
{
    const cpl_interval *r = &c->ratio[m];
    cpl_json_open(w, cpl_lab_metric_names[m], '{');
    if (r->mean > 0) cpl_json_double(w, "ratio", r->mean);
    if (r->known) {
        cpl_json_double(w, "low", r->low);
        cpl_json_double(w, "high", r->high);
    }
    cpl_json_text(w, "verdict", cpl_lab_change_name(c->change[m]));
    cpl_json_bool(w, "enough_samples", c->enough[m]);
    cpl_json_bool(w, "regression", c->regress[m]);
    cpl_json_close(w, '}');
}

void cpl_lab_comparisons_json(const cpl_lab_comparisons *all, cpl_buf *out)
{
    cpl_json_writer w = {.out = out, .pretty = true};
    cpl_json_open(&w, NULL, '{');
    cpl_json_double(&w, "threshold", all->threshold);
    cpl_json_int(&w, "regressions", (int64_t)all->regressions);
    cpl_json_int(&w, "without_counterpart", (int64_t)all->alone);
    cpl_json_open(&w, "rows", '[');
    for (size_t i = 0; i < all->count; i++) {
        const cpl_lab_comparison *c = &all->at[i];
        cpl_json_open(&w, NULL, '{');
        cpl_json_text(&w, "old", c->old_result->name);
        cpl_json_text(&w, "new", c->new_result->name);
        cpl_json_text(&w, "old_setting", c->old_row->server);
        cpl_json_text(&w, "new_setting", c->new_row->server);
        cpl_json_int(&w, "batch", (int64_t)c->new_row->batch);
        cpl_json_int(&w, "concurrency", (int64_t)c->new_row->concurrency);
        cpl_json_int(&w, "rate", (int64_t)c->new_row->rate);
        cpl_json_bool(&w, "interleaved", c->paired);
        for (size_t m = 0; m < CPL_LAB_METRICS; m++) json_metric(c, m, &w);
        cpl_json_close(&w, '}');
    }
    cpl_json_close(&w, ']');
    cpl_json_close(&w, '}');
    cpl_buf_text(out, "\n");
}
