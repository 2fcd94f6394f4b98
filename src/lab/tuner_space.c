/* SPDX-License-Identifier: Apache-2.0 */
/* tuner_space.c - what there is to choose from: backends and precisions as probed on this machine, and the values of
 * the other settings, given or usual. No state. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/precision.h"
#include "base/error.h"
#include "lab/machine.h"
#include "lab/tuner.h"

static bool listed(const char *const *list, const char *name)
{
    if (!list || !*list) return true;
    for (; *list; list++)
        if (!strcmp(*list, name)) return true;
    return false;
}

static cpl_status add_backend(cpl_tuner *t, const char *name, cpl_error *err)
{
    uint32_t sessions;
    const cpl_status st = cpl_lab_backend_sessions(&sessions, name, err);
    if (st) return st;
    for (int k = 0; k < CPL_PRECISION_COUNT; k++) {
        const char *precision = cpl_precision_name((cpl_precision)k);
        cpl_error no;
        if (!listed(t->options.precisions, precision) || cpl_lab_backend_check(name, precision, &no)) continue;
        if (t->variant_count == CPL_TUNE_VALUES_MAX)
            return cpl_fail(err, CPL_INVALID, "more than %d of backend and precision: name some", CPL_TUNE_VALUES_MAX);
        cpl_tuner_variant *v = &t->variants[t->variant_count++];
        snprintf(v->backend, sizeof v->backend, "%.63s", name);
        snprintf(v->precision, sizeof v->precision, "%.15s", precision);
        v->sessions = sessions;
    }
    return CPL_OK;
}

/* One that was named must be here; of all, those that are. */
static cpl_status add_variants(cpl_tuner *t, cpl_error *err)
{
    const char *const *named = t->options.backends;
    cpl_status st = CPL_OK;
    for (size_t i = 0; !st && named && named[i]; i++) {
        st = cpl_lab_backend_check(named[i], "", err);
        if (!st) st = add_backend(t, named[i], err);
    }
    for (size_t i = 0; !st && (!named || !*named) && i < t->machine->probe_count; i++)
        if (t->machine->probes[i].available) st = add_backend(t, t->machine->probes[i].backend, err);
    t->space.counts[CPL_TUNE_VARIANT] = t->variant_count;
    if (st || t->variant_count) return st;
    return cpl_fail(err, CPL_INVALID, "nothing to choose from: no backend named runs a precision named");
}

/* `given`, or `count` of `fallback`. */
static cpl_status add_values(cpl_tuner *t, int dimension, const char *const *given, const char *const *fallback,
                             uint32_t count, cpl_error *err)
{
    uint32_t n = 0;
    const bool own = given && *given;
    for (; own ? given[n] != NULL : n < count; n++) {
        if (n == CPL_TUNE_VALUES_MAX)
            return cpl_fail(err, CPL_INVALID, "more than %d values of one setting", CPL_TUNE_VALUES_MAX);
        t->values[dimension][n] = own ? given[n] : fallback[n];
    }
    t->space.counts[dimension] = n;
    return CPL_OK;
}

static uint32_t place_of(const cpl_tuner *t, int dimension, const char *value, uint32_t otherwise)
{
    for (uint32_t i = 0; i < t->space.counts[dimension]; i++)
        if (!strcmp(t->values[dimension][i], value)) return i;
    return otherwise;
}

uint32_t cpl_tuner_tokens_place(const cpl_tuner *t, uint32_t own)
{
    uint32_t best = t->space.counts[CPL_TUNE_TOKENS] / 2;
    double nearest = 0;
    for (uint32_t i = 0; own && i < t->space.counts[CPL_TUNE_TOKENS]; i++) {
        const double value = strtod(t->values[CPL_TUNE_TOKENS][i], NULL);
        const double near = value < own ? value / own : value > 0 ? own / value : 0;
        if (near > nearest) {
            nearest = near;
            best = i;
        }
    }
    return best;
}

/* How many sessions all variants want on devices; 0: they differ, or one a core. */
static uint32_t sessions_of_all(const cpl_tuner *t)
{
    for (uint32_t i = 1; i < t->variant_count; i++)
        if (t->variants[i].sessions != t->variants[0].sessions) return 0;
    return t->variants[0].sessions;
}

/* 1, 2, 4 ... up to the cores, beginning with those; or half, once and twice what devices want, beginning with that. */
static cpl_status add_workers(cpl_tuner *t, cpl_error *err)
{
    const char *threads[CPL_TUNE_VALUES_MAX];
    const uint64_t cores = t->machine->machine.cores ? t->machine->machine.cores : 1, wanted = sessions_of_all(t);
    const uint64_t top = wanted ? 2 * wanted : cores, usual = wanted ? wanted : cores;
    uint32_t n = 0, begin = 0;
    for (uint64_t k = wanted > 1 ? wanted / 2 : 1; n < CPL_TUNE_VALUES_MAX; k *= 2) {
        const uint64_t value = k < top ? k : top;
        if (value <= usual) begin = n;
        snprintf(t->numbers[n], sizeof t->numbers[n], "%llu", (unsigned long long)value);
        threads[n] = t->numbers[n];
        n++;
        if (k >= top) break;
    }
    const char *const *given = t->options.threads;
    const cpl_status st = add_values(t, CPL_TUNE_WORKERS, given, threads, n, err);
    t->space.start[CPL_TUNE_WORKERS] = given && *given ? t->space.counts[CPL_TUNE_WORKERS] - 1 : begin;
    return st;
}

cpl_status cpl_tuner_space(cpl_tuner *t, cpl_error *err)
{
    static const char *const policies[] = {"off", "greedy", "timeout:1", "timeout:2", "timeout:5", "timeout:10"};
    static const char *const tokens[] = {"64",   "128",  "256",   "512",   "1024", "2048",
                                         "4096", "8192", "16384", "32768", "65536"};
    const cpl_tuner_options *o = &t->options;
    cpl_status st = add_variants(t, err);
    if (!st) st = add_values(t, CPL_TUNE_POLICY, o->policies, policies, 6, err);
    if (!st) st = add_workers(t, err);
    if (!st) st = add_values(t, CPL_TUNE_TOKENS, o->tokens, tokens, sizeof tokens / sizeof *tokens, err);
    t->space.start[CPL_TUNE_POLICY] = place_of(t, CPL_TUNE_POLICY, "greedy", 0);
    t->space.finalists = o->finalists;
    t->space.rounds = o->rounds;
    return st;
}
