/* SPDX-License-Identifier: Apache-2.0 */
/* tuner_report.c - what `couplet tune` leaves: a configuration file, a page for people, a document for programs. All
 * three from the record alone. No state. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "lab/tuner.h"
#include "load/measure.h"
#include "serve/config.h"

static const cpl_tuner_variant *variant_of(const cpl_tuner *t, const cpl_tune_tried *c)
{
    return &t->variants[c->at[CPL_TUNE_VARIANT]];
}

static const char *value(const cpl_tuner *t, const cpl_tune_tried *c, int dimension)
{
    return t->values[dimension][c->at[dimension]];
}

/* The settings a candidate was served with, and then those that every server had, which could override them. */
static cpl_status config_of(cpl_config **out, const cpl_tuner *t, const cpl_tune_tried *c, cpl_error *err)
{
    enum { OWN = 6, SETS_MAX = 64 };
    const cpl_tuner_variant *v = variant_of(t, c);
    const char *policy = value(t, c, CPL_TUNE_POLICY), *wait = strchr(policy, ':'), *sets[OWN + SETS_MAX + 1];
    char own[OWN][120];
    size_t n = 0;
    snprintf(own[0], sizeof own[0], "model.backend=%s", v->backend);
    snprintf(own[1], sizeof own[1], "model.precision=%s", v->precision);
    snprintf(own[2], sizeof own[2], "workers=%.20s", value(t, c, CPL_TUNE_WORKERS));
    snprintf(own[3], sizeof own[3], "batching.max_batch_tokens=%.20s", value(t, c, CPL_TUNE_TOKENS));
    snprintf(own[4], sizeof own[4], "batching.policy=%.*s", (int)strcspn(policy, ":"), policy);
    if (wait) snprintf(own[5], sizeof own[5], "batching.timeout_ms=%.40s", wait + 1);
    for (; n < (wait ? OWN : OWN - 1u); n++) sets[n] = own[n];
    for (size_t i = 0; t->options.sets && t->options.sets[i]; i++) {
        if (i == SETS_MAX) return cpl_fail(err, CPL_INVALID, "more than %d settings for every server", SETS_MAX);
        sets[n++] = t->options.sets[i];
    }
    sets[n] = NULL;
    cpl_status st = cpl_config_load(out, NULL, false, sets, err);
    return st ? st : cpl_config_override(*out, "model.name", &t->options.model, 1, "--model", err);
}

cpl_status cpl_tuner_config(const cpl_tuner *t, cpl_buf *out, cpl_error *err)
{
    const cpl_tune_tried *c = &t->search.tried[t->search.best];
    cpl_config *config = NULL;
    cpl_buf_print(out, "# Found by `couplet tune`: %.1f pairs/s with p%g within %g ms, %u pairs a request, on %s.\n",
                  c->rate, t->options.slo.part * 100, t->options.slo.ms, t->options.pairs_per_request,
                  t->machine->machine.cpu);
    cpl_buf_print(out, "# Loses %.5f (1 - Spearman) against fp32; %g was permitted. couplet serve --config THIS_FILE\n",
                  variant_of(t, c)->loss, t->options.loss_max);
    cpl_status st = config_of(&config, t, c, err);
    if (!st) cpl_config_print_given(config, out);
    cpl_config_close(config);
    return st ? st : cpl_buf_status(out, err);
}

/* The fastest candidate of a variant; NULL: none holds. */
static const cpl_tune_tried *fastest(const cpl_tuner *t, uint32_t variant)
{
    const cpl_tune_tried *best = NULL;
    for (uint32_t i = 0; i < t->search.count; i++) {
        const cpl_tune_tried *c = &t->search.tried[i];
        if (c->at[CPL_TUNE_VARIANT] == variant && c->rate > 0 && (!best || c->rate > best->rate)) best = c;
    }
    return best;
}

/* No other variant is as fast and loses less. */
static bool on_frontier(const cpl_tuner *t, uint32_t variant)
{
    const cpl_tune_tried *own = fastest(t, variant);
    if (!own || isnan(t->variants[variant].loss)) return false;
    for (uint32_t i = 0; i < t->variant_count; i++) {
        const cpl_tune_tried *c = fastest(t, i);
        if (i != variant && c && t->variants[i].loss <= t->variants[variant].loss && c->rate > own->rate) return false;
    }
    return true;
}

/* ---- Markdown -------------------------------------------------------------------------------------------------- */

static void cells(const cpl_tuner *t, const cpl_tune_tried *c, cpl_buf *out)
{
    const cpl_tuner_variant *v = variant_of(t, c);
    cpl_buf_print(out, "| %s | %s | %s | %s | %s |", v->backend, v->precision, value(t, c, CPL_TUNE_POLICY),
                  value(t, c, CPL_TUNE_WORKERS), value(t, c, CPL_TUNE_TOKENS));
}

static void frontier_table(const cpl_tuner *t, cpl_buf *out)
{
    cpl_buf_text(out,
                 "\n## Speed against loss\n\n| backend | precision | loss (1 - Spearman) | Kendall | best pairs/s | "
                 "policy, threads, tokens | |\n|---|---|--:|--:|--:|---|---|\n");
    for (uint32_t i = 0; i < t->variant_count; i++) {
        const cpl_tuner_variant *v = &t->variants[i];
        const cpl_tune_tried *c = fastest(t, i);
        cpl_buf_print(out, "| %s | %s | ", v->backend, v->precision);
        if (isnan(v->loss))
            cpl_buf_text(out, "- | - |");
        else
            cpl_buf_print(out, "%.5f | %.5f |", v->loss, v->kendall);
        if (c)
            cpl_buf_print(out, " %.1f | %s, %s, %s |", c->rate, value(t, c, CPL_TUNE_POLICY),
                          value(t, c, CPL_TUNE_WORKERS), value(t, c, CPL_TUNE_TOKENS));
        else
            cpl_buf_text(out, " - | - |");
        cpl_buf_print(out, " %s%s%s |\n", on_frontier(t, i) ? "**frontier**" : "", *v->why ? " " : "", v->why);
    }
    cpl_buf_text(out,
                 "\nOn the frontier: nothing that loses less is faster. A variant that loses too much was measured "
                 "with the default settings only.\n");
}

static void final_table(const cpl_tuner *t, cpl_buf *out)
{
    cpl_buf_text(out, "\n## The best again, in turn\n\n| backend | precision | policy | threads | tokens a pass | "
                      "pairs/s, median | rounds |\n|---|---|---|--:|--:|--:|---|\n");
    for (uint32_t i = 0; i < t->search.count; i++) {
        const cpl_tune_tried *c = &t->search.tried[i];
        if (!c->round_count) continue;
        cells(t, c, out);
        cpl_buf_print(out, " %s%.1f%s |", (int)i == t->search.best ? "**" : "", c->rate,
                      (int)i == t->search.best ? "**" : "");
        for (uint32_t k = 0; k < c->round_count; k++) cpl_buf_print(out, " %.1f", c->rounds[k]);
        cpl_buf_text(out, " |\n");
    }
}

void cpl_tuner_markdown(const cpl_tuner *t, cpl_buf *out)
{
    const cpl_tuner_options *o = &t->options;
    cpl_buf_print(out, "# Settings for %s: p%g within %g ms, loss at most %g\n\n", o->model, o->slo.part * 100,
                  o->slo.ms, o->loss_max);
    if (t->search.best >= 0) {
        const cpl_tune_tried *c = &t->search.tried[t->search.best];
        const cpl_tuner_variant *v = variant_of(t, c);
        cpl_buf_print(out,
                      "**%s %s, policy %s, %s threads, %s tokens a pass: %.1f pairs/s** (p%g %.1f ms at that rate; "
                      "loses %.5f against fp32).\n",
                      v->backend, v->precision, value(t, c, CPL_TUNE_POLICY), value(t, c, CPL_TUNE_WORKERS),
                      value(t, c, CPL_TUNE_TOKENS), c->rate, o->slo.part * 100, c->latency_ms, v->loss);
    } else {
        cpl_buf_text(out, "**Nothing that loses so little holds the objective at any rate.**\n");
    }
    frontier_table(t, out);
    if (t->search.best >= 0) final_table(t, out);
    cpl_buf_text(out, "\n## All candidates, in the order in which they were tried\n\n| backend | precision | policy | "
                      "threads | tokens a pass | pairs/s | ms | |\n|---|---|---|--:|--:|--:|--:|---|\n");
    for (uint32_t i = 0; i < t->search.count; i++) {
        const cpl_tune_tried *c = &t->search.tried[i];
        cells(t, c, out);
        cpl_buf_print(out, " %.1f | %.1f | %s |\n", c->rate, c->latency_ms, c->why);
    }
    cpl_buf_print(out,
                  "\nEach figure is the highest rate of Poisson arrivals (times %u pairs a request) at which the "
                  "objective held, by bracketing and bisection to 5 %%; a probe lasts %g s at most. Pairs: %s. %llu "
                  "servers were started, %.0f s in all. Loss: over the first %u pairs, against fp32 of %s, through the "
                  "server. Generator and server share the machine.\n\n%s, %llu cores, %s; couplet %s, commit %s.\n",
                  o->pairs_per_request, o->seconds, cpl_pool_source(t->pool), (unsigned long long)t->servers,
                  t->seconds, o->quality_pairs, t->variants[0].backend, t->machine->machine.cpu,
                  (unsigned long long)t->machine->machine.cores, t->machine->machine.isa, t->machine->build.version,
                  t->machine->build.commit);
}

/* ---- JSON ------------------------------------------------------------------------------------------------------ */

static void write_tried(const cpl_tuner *t, const cpl_tune_tried *c, const char *key, cpl_json_writer *w)
{
    const cpl_tuner_variant *v = variant_of(t, c);
    cpl_json_open(w, key, '{');
    cpl_json_text(w, "backend", v->backend);
    cpl_json_text(w, "precision", v->precision);
    cpl_json_text(w, "policy", value(t, c, CPL_TUNE_POLICY));
    cpl_json_text(w, "workers", value(t, c, CPL_TUNE_WORKERS));
    cpl_json_text(w, "max_batch_tokens", value(t, c, CPL_TUNE_TOKENS));
    cpl_json_double(w, "loss", v->loss);
    cpl_json_double(w, "pairs_per_s", c->rate);
    cpl_json_double(w, "latency_ms", c->latency_ms);
    cpl_json_open(w, "rounds", '[');
    for (uint32_t k = 0; k < c->round_count; k++) cpl_json_double(w, NULL, c->rounds[k]);
    cpl_json_close(w, ']');
    cpl_json_text(w, "why", c->why);
    cpl_json_close(w, '}');
}

void cpl_tuner_json(const cpl_tuner *t, cpl_buf *out)
{
    cpl_json_writer w = {.out = out, .pretty = true};
    cpl_json_open(&w, NULL, '{');
    cpl_json_text(&w, "model", t->options.model);
    cpl_json_double(&w, "slo_ms", t->options.slo.ms);
    cpl_json_double(&w, "slo_percentile", t->options.slo.part * 100);
    cpl_json_double(&w, "loss_max", t->options.loss_max);
    cpl_json_int(&w, "pairs_per_request", t->options.pairs_per_request);
    cpl_json_text(&w, "pairs_source", cpl_pool_source(t->pool));
    cpl_json_int(&w, "seed", (int64_t)t->options.seed);
    cpl_json_text(&w, "cpu", t->machine->machine.cpu);
    cpl_json_text(&w, "commit", t->machine->build.commit);
    cpl_json_double(&w, "seconds", t->seconds);
    cpl_json_open(&w, "variants", '[');
    for (uint32_t i = 0; i < t->variant_count; i++) {
        const cpl_tuner_variant *v = &t->variants[i];
        const cpl_tune_tried *c = fastest(t, i);
        cpl_json_open(&w, NULL, '{');
        cpl_json_text(&w, "backend", v->backend);
        cpl_json_text(&w, "precision", v->precision);
        cpl_json_double(&w, "loss", v->loss);
        cpl_json_double(&w, "kendall", v->kendall);
        cpl_json_int(&w, "own_batch_tokens", v->own_tokens);
        cpl_json_bool(&w, "allowed", v->allowed);
        cpl_json_bool(&w, "frontier", on_frontier(t, i));
        cpl_json_double(&w, "best_pairs_per_s", c ? c->rate : 0);
        cpl_json_text(&w, "why", v->why);
        cpl_json_close(&w, '}');
    }
    cpl_json_close(&w, ']');
    if (t->search.best >= 0) write_tried(t, &t->search.tried[t->search.best], "best", &w);
    cpl_json_open(&w, "tried", '[');
    for (uint32_t i = 0; i < t->search.count; i++) write_tried(t, &t->search.tried[i], NULL, &w);
    cpl_json_close(&w, ']');
    cpl_json_close(&w, '}');
    cpl_buf_text(out, "\n");
}
