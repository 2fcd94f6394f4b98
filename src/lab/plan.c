/* SPDX-License-Identifier: Apache-2.0 */
/* plan.c - rows are the product of swept settings, batch sizes and concurrency levels. The one idea: what changes the
 * server is apart from what changes only the client, so a server is started once for all the rows it can serve.
 * Threads: no state. */
#include "lab/plan.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

enum { ROWS_MAX = 1000, SWEEP_KEYS_MAX = 8 };

static cpl_status copy_list(cpl_lab_plan *p, const cpl_config *c, const char *key, uint32_t **out, size_t *count,
                            cpl_error *err)
{
    *count = cpl_config_count(c, key);
    if (!*count || *count > ROWS_MAX)
        return cpl_fail(err, CPL_INVALID, "'%s' has %zu entries: between 1 and %d can be run", key, *count, ROWS_MAX);
    *out = CPL_ARENA_NEW(&p->arena, uint32_t, *count);
    if (!*out) return cpl_fail_memory(err, *count * sizeof **out);
    for (size_t i = 0; i < *count; i++) (*out)[i] = (uint32_t)cpl_config_int_at(c, key, i);
    return CPL_OK;
}

/* What is varied beside the batch size: how much is in flight, or how much is offered. */
static cpl_status copy_levels(cpl_lab_plan *p, const cpl_config *c, cpl_error *err)
{
    static const uint32_t replay[] = {0};
    const char *trace = cpl_config_text(c, "experiment.trace");
    const bool is_replay = !strcmp(p->scenario->name, "replay");
    if (!is_replay)
        return copy_list(p, c, p->scenario->open ? "experiment.rate" : "experiment.concurrency_levels", &p->levels,
                         &p->level_count, err);
    if (!*trace) return cpl_fail(err, CPL_INVALID, "scenario 'replay' needs 'experiment.trace'");
    p->trace = cpl_arena_copy(&p->arena, trace, strlen(trace));
    p->levels = (uint32_t *)cpl_arena_copy(&p->arena, (const char *)replay, sizeof replay);
    p->level_count = 1;
    return p->trace && p->levels ? CPL_OK : cpl_fail_memory(err, 256);
}

/* The generator's own options, and whether they agree. */
static cpl_status copy_options(cpl_lab_plan *p, const cpl_config *c, cpl_error *err)
{
    p->slo.ms = cpl_config_float(c, "experiment.slo_ms");
    p->slo.part = cpl_config_float(c, "experiment.slo_percentile") / 100;
    p->early_stop = cpl_config_bool(c, "experiment.early_stop");
    p->warmup_stable = cpl_config_bool(c, "experiment.warmup_stable");
    p->inference_only = !strcmp(cpl_config_text(c, "experiment.mode"), "inference");
    if (p->slo.part > 0 && !(p->slo.ms > 0))
        return cpl_fail(err, CPL_INVALID, "'experiment.slo_percentile' needs 'experiment.slo_ms'");
    if (p->early_stop && !(p->slo.part > 0))
        return cpl_fail(err, CPL_INVALID,
                        "'experiment.early_stop' needs 'experiment.slo_ms' and 'experiment.slo_percentile'");
    return cpl_dialect_find(&p->dialect, cpl_config_text(c, "experiment.dialect"), err);
}

static cpl_status name_models(cpl_lab_plan *p, const cpl_config *c, cpl_error *err)
{
    p->model_count = cpl_config_model_count(c);
    p->models = CPL_ARENA_NEW(&p->arena, const char *, p->model_count);
    if (!p->models) return cpl_fail_memory(err, p->model_count * sizeof *p->models);
    const char *only = cpl_config_model_name(c);
    if (p->model_count == 1 && p->dialect->model && !*p->dialect->model) {
        p->model_name = cpl_arena_copy(&p->arena, only, strlen(only));
        if (!p->model_name) return cpl_fail_memory(err, strlen(only));
    }
    cpl_status st = CPL_OK;
    for (size_t i = 0; !st && p->model_count > 1 && i < p->model_count; i++) {
        cpl_config *one;
        st = cpl_config_model(&one, c, i, err);
        if (st) return st;
        const char *name = cpl_config_model_name(one);
        p->models[i] = cpl_arena_copy(&p->arena, name, strlen(name));
        if (!p->models[i]) st = cpl_fail_memory(err, strlen(name));
        cpl_config_close(one);
    }
    return st;
}

static const char *plan_name(cpl_lab_plan *p, const cpl_config *c, const char *file)
{
    const char *given = cpl_config_text(c, "experiment.name");
    if (*given) return cpl_arena_copy(&p->arena, given, strlen(given));
    const char *slash = strrchr(file, '/'), *from = slash ? slash + 1 : file, *dot = strrchr(from, '.');
    return cpl_arena_copy(&p->arena, from, dot && dot != from ? (size_t)(dot - from) : strlen(from));
}

/* The settings of combination `at`: the last key of the sweep turns fastest. */
static cpl_status make_server(cpl_lab_plan *p, const cpl_config *c, size_t keys, size_t at, cpl_error *err)
{
    cpl_buf label = {0};
    const char **sets = CPL_ARENA_NEW(&p->arena, const char *, keys + 1);
    if (!sets) return cpl_fail_memory(err, (keys + 1) * sizeof *sets);
    for (size_t i = keys; i-- > 0;) {
        const char *key;
        size_t values;
        cpl_config_sweep(c, i, &key, &values);
        cpl_buf pair = {0};
        cpl_buf_print(&pair, "%s=%s", key, cpl_config_sweep_value(c, i, at % values));
        sets[i] = cpl_arena_copy(&p->arena, pair.data ? pair.data : "", pair.size);
        cpl_status st = sets[i] ? cpl_buf_status(&pair, err) : cpl_fail_memory(err, pair.size);
        cpl_buf_deinit(&pair);
        if (st) return st;
        at /= values;
    }
    for (size_t i = 0; i < keys; i++) cpl_buf_print(&label, "%s%s", i ? ", " : "", sets[i]);
    cpl_lab_server *s = &p->servers[p->server_count++];
    s->sets = sets;
    s->label = cpl_arena_copy(&p->arena, label.data ? label.data : "", label.size);
    cpl_status st = s->label ? cpl_buf_status(&label, err) : cpl_fail_memory(err, label.size);
    cpl_buf_deinit(&label);
    return st;
}

static cpl_status make_servers(cpl_lab_plan *p, const cpl_config *c, cpl_error *err)
{
    size_t keys = 0, combinations = 1, values;
    const char *key;
    for (; cpl_config_sweep(c, keys, &key, &values); keys++) {
        if (!values || values > ROWS_MAX || combinations > ROWS_MAX)
            return cpl_fail(err, CPL_INVALID, "experiment.sweep: '%s' has %zu values: between 1 and %d can be run", key,
                            values, ROWS_MAX);
        combinations *= values;
    }
    if (keys > SWEEP_KEYS_MAX)
        return cpl_fail(err, CPL_INVALID, "experiment.sweep varies %zu keys: at most %d", keys, SWEEP_KEYS_MAX);
    if (combinations * p->batch_count * p->level_count > ROWS_MAX)
        return cpl_fail(err, CPL_INVALID, "the experiment has %zu rows: at most %d can be run",
                        combinations * p->batch_count * p->level_count, ROWS_MAX);
    p->servers = CPL_ARENA_NEW(&p->arena, cpl_lab_server, combinations);
    if (!p->servers) return cpl_fail_memory(err, combinations * sizeof *p->servers);
    cpl_status st = CPL_OK;
    for (size_t i = 0; !st && i < combinations; i++) st = make_server(p, c, keys, i, err);
    return st;
}

static void cut_to_quick(cpl_lab_plan *p)
{
    if (p->requests > CPL_LAB_QUICK_REQUESTS) p->requests = CPL_LAB_QUICK_REQUESTS;
    if (p->warmup > CPL_LAB_QUICK_WARMUP) p->warmup = CPL_LAB_QUICK_WARMUP;
    if (p->duration_s <= 0 || p->duration_s > CPL_LAB_QUICK_SECONDS) p->duration_s = CPL_LAB_QUICK_SECONDS;
    p->duration_max_s = 0;
    p->rounds = 1;
}

/* First, middle and last of a list. */
static void thin(void *list, size_t size, size_t *count)
{
    char *at = list;
    const size_t n = *count;
    if (n <= CPL_LAB_QUICK_LIST) return;
    memmove(at + size, at + n / 2 * size, size);
    memmove(at + 2 * size, at + (n - 1) * size, size);
    *count = CPL_LAB_QUICK_LIST;
}

/* Few rows, and none with so much in flight that filling and draining it takes longer than the row. */
static void cut_lists_to_quick(cpl_lab_plan *p)
{
    thin(p->servers, sizeof *p->servers, &p->server_count);
    thin(p->batches, sizeof *p->batches, &p->batch_count);
    thin(p->levels, sizeof *p->levels, &p->level_count);
    while (!p->scenario->open &&
           (uint64_t)p->batches[p->batch_count - 1] * p->levels[p->level_count - 1] > CPL_LAB_QUICK_PAIRS) {
        if (p->level_count > 1)
            p->level_count--;
        else if (p->batch_count > 1)
            p->batch_count--;
        else
            return;
    }
}

cpl_status cpl_lab_plan_open(cpl_lab_plan **out, const cpl_config *c, const char *file, bool quick, cpl_error *err)
{
    *out = NULL;
    cpl_lab_plan *p = calloc(1, sizeof *p);
    if (!p) return cpl_fail_memory(err, sizeof *p);
    cpl_arena_init(&p->arena, 4096, 0);
    p->name = plan_name(p, c, file);
    p->requests = (uint64_t)cpl_config_int(c, "experiment.benchmark_requests");
    p->warmup = (uint64_t)cpl_config_int(c, "experiment.warmup_iterations");
    p->duration_s = cpl_config_float(c, "experiment.duration");
    p->duration_max_s = cpl_config_float(c, "experiment.duration_max");
    p->rounds = (uint32_t)cpl_config_int(c, "experiment.repeats");
    p->connections = (uint32_t)cpl_config_int(c, "experiment.connections");
    p->seed = (uint64_t)cpl_config_int(c, "experiment.seed");
    p->quality_pairs = (uint64_t)cpl_config_int(c, "experiment.quality_pairs");
    if (quick) cut_to_quick(p);
    cpl_status st = p->name ? cpl_scenario_find(&p->scenario, cpl_config_text(c, "experiment.scenario"), err)
                            : cpl_fail_memory(err, 256);
    if (!st) st = copy_list(p, c, "experiment.batch_sizes", &p->batches, &p->batch_count, err);
    if (!st) st = copy_levels(p, c, err);
    if (!st) st = copy_options(p, c, err);
    if (!st) st = name_models(p, c, err);
    if (!st) st = make_servers(p, c, err);
    if (!st && quick) cut_lists_to_quick(p);
    if (st) {
        cpl_lab_plan_close(p);
        return st;
    }
    *out = p;
    return CPL_OK;
}

void cpl_lab_plan_close(cpl_lab_plan *p)
{
    if (!p) return;
    cpl_arena_deinit(&p->arena);
    free(p);
}

size_t cpl_lab_plan_rows(const cpl_lab_plan *p)
{
    return p->server_count * p->batch_count * p->level_count * p->model_count;
}

double cpl_lab_plan_seconds(const cpl_lab_plan *p, uint64_t pairs_in_flight, double rate)
{
    double need = rate > 0 ? CPL_LAB_LATENCIES * (double)pairs_in_flight / rate : 0;
    if (p->duration_s <= 0 || p->duration_max_s <= p->duration_s) return p->duration_s;
    if (need > p->duration_max_s) need = p->duration_max_s;
    return need > p->duration_s ? need : p->duration_s;
}

bool cpl_lab_plan_related(const char *name, const char *other)
{
    size_t n = 0, m = 0;
    while (isdigit((unsigned char)name[n])) n++;
    while (isdigit((unsigned char)other[m])) m++;
    return n && n == m && !memcmp(name, other, n);
}
