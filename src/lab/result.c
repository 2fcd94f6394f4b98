/* SPDX-License-Identifier: Apache-2.0 */
/* result.c - results as documents. The one idea: every page is made from these files alone, never from what the runner
 * has in memory, so `couplet report` on somebody else's results gives the same pages. One table a struct says what is
 * written and read (fields.h). Invariant: a result that was read holds no NULL text. Threads: one a result. */
#include "lab/result.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/precision.h"
#include "base/error.h"
#include "base/file.h"
#include "lab/fields.h"

#define KIND "couplet experiment"

#define TEXT(s, m)                                                                                                     \
    {                                                                                                                  \
#m, CPL_FIELD_TEXT, offsetof(s, m)                                                                             \
    }
#define COUNT(s, m)                                                                                                    \
    {                                                                                                                  \
#m, CPL_FIELD_COUNT, offsetof(s, m)                                                                            \
    }
#define NUMBER(s, m)                                                                                                   \
    {                                                                                                                  \
#m, CPL_FIELD_NUMBER, offsetof(s, m)                                                                           \
    }
#define TRUTH(s, m)                                                                                                    \
    {                                                                                                                  \
#m, CPL_FIELD_TRUTH, offsetof(s, m)                                                                            \
    }

#define R cpl_lab_result
static const cpl_field result_fields[] = {TEXT(R, name),
                                          TEXT(R, file),
                                          TEXT(R, description),
                                          TEXT(R, phase),
                                          TEXT(R, date),
                                          TEXT(R, command),
                                          TEXT(R, status),
                                          TEXT(R, reason),
                                          TEXT(R, overrides),
                                          TEXT(R, interleaved),
                                          TRUTH(R, quick),
                                          TEXT(R, target),
                                          TEXT(R, backend_asked),
                                          TEXT(R, backend),
                                          TEXT(R, device),
                                          TEXT(R, isa),
                                          TEXT(R, precision_requested),
                                          TEXT(R, precision_effective),
                                          TEXT(R, precision_reason),
                                          TEXT(R, model_asked),
                                          TEXT(R, model),
                                          TEXT(R, model_note),
                                          TEXT(R, batching),
                                          TEXT(R, pairs_source),
                                          TEXT(R, mode),
                                          COUNT(R, models),
                                          TEXT(R, scenario),
                                          COUNT(R, seed),
                                          COUNT(R, weight_bytes),
                                          COUNT(R, workers),
                                          COUNT(R, pass_tokens_max),
                                          COUNT(R, requests_asked),
                                          COUNT(R, warmup),
                                          NUMBER(R, duration_s),
                                          COUNT(R, ready_ms_max),
                                          TEXT(R, config),
                                          TEXT(R, energy),
                                          {0}};
#undef R

#define M cpl_lab_machine
static const cpl_field machine_fields[] = {
    TEXT(M, cpu),    COUNT(M, cores),         TEXT(M, isa), TEXT(M, governor), NUMBER(M, memory_gib),
    TEXT(M, system), TEXT(M, virtualization), {0}};
#undef M

#define B cpl_lab_build
static const cpl_field build_fields[] = {TEXT(B, version), TEXT(B, commit),  TEXT(B, compiler),
                                         TEXT(B, flags),   TEXT(B, program), {0}};
#undef B

#define Y cpl_lab_quality
static const cpl_field quality_fields[] = {COUNT(Y, pairs),
                                           NUMBER(Y, spearman),
                                           NUMBER(Y, kendall),
                                           NUMBER(Y, ndcg10),
                                           NUMBER(Y, cosine_mean),
                                           NUMBER(Y, max_difference),
                                           {0}};
#undef Y

#define P cpl_lab_probe
static const cpl_field probe_fields[] = {TEXT(P, backend), TRUTH(P, available), TEXT(P, device), TEXT(P, reason), {0}};
#undef P

#define Q cpl_lab_point
static const cpl_field point_fields[] = {TEXT(Q, server),
                                         COUNT(Q, batch),
                                         COUNT(Q, concurrency),
                                         COUNT(Q, rate),
                                         NUMBER(Q, offered),
                                         NUMBER(Q, lag_p99_ms),
                                         NUMBER(Q, slo_ms),
                                         NUMBER(Q, goodput),
                                         NUMBER(Q, within_slo),
                                         COUNT(Q, connections),
                                         COUNT(Q, rounds),
                                         COUNT(Q, asked),
                                         COUNT(Q, requests),
                                         COUNT(Q, failed),
                                         COUNT(Q, pairs),
                                         COUNT(Q, repeats),
                                         NUMBER(Q, seconds),
                                         NUMBER(Q, latency_mean_ms),
                                         NUMBER(Q, latency_p50_ms),
                                         NUMBER(Q, latency_p95_ms),
                                         NUMBER(Q, latency_p99_ms),
                                         NUMBER(Q, latency_max_ms),
                                         NUMBER(Q, throughput),
                                         NUMBER(Q, throughput_low),
                                         NUMBER(Q, throughput_high),
                                         TRUTH(Q, interval_known),
                                         NUMBER(Q, throughput_p95),
                                         NUMBER(Q, window_s),
                                         NUMBER(Q, in_flight_mean),
                                         COUNT(Q, in_flight_max),
                                         TRUTH(Q, server_known),
                                         NUMBER(Q, pass_sequences_mean),
                                         NUMBER(Q, pass_sequences_p95),
                                         NUMBER(Q, pass_tokens_mean),
                                         NUMBER(Q, tokens_per_sequence),
                                         NUMBER(Q, sequences_per_pair),
                                         COUNT(Q, passes),
                                         NUMBER(Q, pass_mean_ms),
                                         NUMBER(Q, pass_padding),
                                         TRUTH(Q, padding_known),
                                         TEXT(Q, pass_sequences_counts),
                                         NUMBER(Q, queue_mean_ms),
                                         NUMBER(Q, queue_p95_ms),
                                         NUMBER(Q, compute_mean_ms),
                                         NUMBER(Q, tokenize_mean_ms),
                                         NUMBER(Q, server_cores),
                                         NUMBER(Q, busy_cores),
                                         NUMBER(Q, rss_mb),
                                         NUMBER(Q, client_cores),
                                         TRUTH(Q, valid),
                                         TRUTH(Q, beyond_capacity),
                                         TRUTH(Q, p50_enough),
                                         TRUTH(Q, p95_enough),
                                         TRUTH(Q, p99_enough),
                                         NUMBER(Q, highest_percentile),
                                         NUMBER(Q, latency_highest_ms),
                                         COUNT(Q, retaken),
                                         TEXT(Q, reasons),
                                         TEXT(Q, errors),
                                         TEXT(Q, not_run),
                                         NUMBER(Q, watts),
                                         {0}};
#undef Q

cpl_status cpl_lab_result_open(cpl_lab_result **out, cpl_error *err)
{
    cpl_lab_result *r = *out = calloc(1, sizeof *r);
    if (!r) return cpl_fail_memory(err, sizeof *r);
    cpl_arena_init(&r->arena, 16384, 0);
    return CPL_OK;
}

void cpl_lab_result_close(cpl_lab_result *r)
{
    if (!r) return;
    cpl_arena_deinit(&r->arena);
    json_decref(r->root);
    free(r);
}

const char *cpl_lab_text(cpl_lab_result *r, const char *fmt, ...)
{
    char small[512];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(small, sizeof small, fmt, args);
    va_end(args);
    if (n < 0) return "";
    char *text = cpl_arena_take(&r->arena, (size_t)n + 1, 1);
    if (!text) return "";
    va_start(args, fmt);
    vsnprintf(text, (size_t)n + 1, fmt, args);
    va_end(args);
    return text;
}

static void write_probes(cpl_json_writer *w, const cpl_lab_result *r)
{
    cpl_json_open(w, "probes", '[');
    for (size_t i = 0; i < r->probe_count; i++) {
        cpl_json_open(w, NULL, '{');
        cpl_fields_write(w, probe_fields, &r->probes[i]);
        cpl_json_open(w, "precisions", '{');
        for (int p = 0; p < CPL_PRECISION_COUNT; p++)
            cpl_json_text(w, cpl_precision_name((cpl_precision)p),
                          r->probes[i].precisions[p] ? r->probes[i].precisions[p] : "");
        cpl_json_close(w, '}');
        cpl_json_close(w, '}');
    }
    cpl_json_close(w, ']');
}

/* For readers of the document; made from the members above, so it isn't read back. */
static void write_verdicts(cpl_json_writer *w, const cpl_lab_point *p)
{
    static const struct {
        const char *name;
        int percentile;
    } list[] = {{"p50", 50}, {"p95", 95}, {"p99", 99}};
    char text[CPL_LAB_VERDICT];
    cpl_json_open(w, "percentile_verdicts", '{');
    for (size_t i = 0; p->requests && i < sizeof list / sizeof *list; i++) {
        cpl_lab_percentile_verdict(p, list[i].percentile, text);
        cpl_json_text(w, list[i].name, text);
    }
    cpl_json_close(w, '}');
}

static void write_points(cpl_json_writer *w, const cpl_lab_result *r)
{
    cpl_json_open(w, "points", '[');
    for (size_t i = 0; i < r->point_count; i++) {
        const cpl_lab_point *p = &r->points[i];
        cpl_json_open(w, NULL, '{');
        cpl_fields_write(w, point_fields, p);
        cpl_json_open(w, "round_throughput", '[');
        for (uint64_t k = 0; k < p->rounds && k < CPL_LAB_ROUNDS_MAX; k++)
            cpl_json_double(w, NULL, p->round_throughput[k]);
        cpl_json_close(w, ']');
        cpl_json_open(w, "round_latency", '[');
        for (uint64_t k = 0; k < p->rounds && k < CPL_LAB_ROUNDS_MAX; k++)
            cpl_json_text(w, NULL, p->round_latency[k] ? p->round_latency[k] : "");
        cpl_json_close(w, ']');
        write_verdicts(w, p);
        cpl_json_close(w, '}');
    }
    cpl_json_close(w, ']');
}

void cpl_lab_result_write(const cpl_lab_result *r, cpl_buf *out)
{
    cpl_json_writer w = {.out = out, .pretty = true};
    cpl_json_open(&w, NULL, '{');
    cpl_json_text(&w, "kind", KIND);
    cpl_json_int(&w, "format", 1);
    cpl_fields_write(&w, result_fields, r);
    cpl_json_open(&w, "machine", '{');
    cpl_fields_write(&w, machine_fields, &r->machine);
    cpl_json_close(&w, '}');
    cpl_json_open(&w, "build", '{');
    cpl_fields_write(&w, build_fields, &r->build);
    cpl_json_close(&w, '}');
    cpl_json_open(&w, "quality", '{');
    cpl_fields_write(&w, quality_fields, &r->quality);
    cpl_json_close(&w, '}');
    write_probes(&w, r);
    write_points(&w, r);
    cpl_json_close(&w, '}');
    cpl_buf_add(out, "\n", 1);
}

static cpl_status read_probes(cpl_lab_result *r, const char *file, cpl_error *err)
{
    json_t *list = json_object_get(r->root, "probes");
    size_t n = json_array_size(list);
    r->probes = n ? CPL_ARENA_NEW(&r->arena, cpl_lab_probe, n) : NULL;
    if (n && !r->probes) return cpl_fail_memory(err, n * sizeof *r->probes);
    for (size_t i = 0; i < n; i++) {
        json_t *o = json_array_get(list, i), *precisions = json_object_get(o, "precisions");
        cpl_status st = cpl_fields_read(&r->probes[i], probe_fields, o, file, err);
        if (st) return st;
        for (int p = 0; p < CPL_PRECISION_COUNT; p++) {
            const char *word = json_string_value(json_object_get(precisions, cpl_precision_name((cpl_precision)p)));
            r->probes[i].precisions[p] = word ? word : "";
        }
        r->probe_count = i + 1;
    }
    return CPL_OK;
}

static cpl_status read_points(cpl_lab_result *r, const char *file, cpl_error *err)
{
    json_t *list = json_object_get(r->root, "points");
    size_t n = json_array_size(list);
    r->points = n ? CPL_ARENA_NEW(&r->arena, cpl_lab_point, n) : NULL;
    if (n && !r->points) return cpl_fail_memory(err, n * sizeof *r->points);
    for (size_t i = 0; i < n; i++) {
        json_t *o = json_array_get(list, i), *rounds = json_object_get(o, "round_throughput");
        cpl_lab_point *p = &r->points[i];
        cpl_status st = cpl_fields_read(p, point_fields, o, file, err);
        if (st) return st;
        if (p->rounds > CPL_LAB_ROUNDS_MAX || json_array_size(rounds) != p->rounds)
            return cpl_fail_file(err, CPL_CORRUPT, file, "'round_throughput' of row %zu doesn't hold its %llu rounds",
                                 i + 1, (unsigned long long)p->rounds);
        const json_t *latency =
            json_object_get(o, "round_latency"); /* not in results of before there were comparisons */
        for (size_t k = 0; k < p->rounds; k++) {
            const char *text = json_string_value(json_array_get(latency, k));
            p->round_throughput[k] = json_number_value(json_array_get(rounds, k));
            p->round_latency[k] = text ? text : "";
        }
        r->point_count = i + 1;
    }
    return CPL_OK;
}

static cpl_status read_root(cpl_lab_result *r, const char *file, cpl_error *err)
{
    const char *kind = json_string_value(json_object_get(r->root, "kind"));
    if (!kind || strcmp(kind, KIND) != 0)
        return cpl_fail_file(err, CPL_NOT_FOUND, file, "not a result of 'couplet experiment run'");
    if (json_integer_value(json_object_get(r->root, "format")) != 1)
        return cpl_fail_file(err, CPL_UNSUPPORTED, file, "written by another version of couplet: run it again");
    cpl_status st = cpl_fields_read(r, result_fields, r->root, file, err);
    if (!st) st = cpl_fields_read(&r->machine, machine_fields, json_object_get(r->root, "machine"), file, err);
    if (!st) st = cpl_fields_read(&r->build, build_fields, json_object_get(r->root, "build"), file, err);
    if (!st) st = cpl_fields_read(&r->quality, quality_fields, json_object_get(r->root, "quality"), file, err);
    if (!st) st = read_probes(r, file, err);
    if (!st) st = read_points(r, file, err);
    return st;
}

cpl_status cpl_lab_result_parse(cpl_lab_result **out, const char *file, const char *data, size_t n, cpl_error *err)
{
    cpl_lab_result *r;
    cpl_status st = cpl_lab_result_open(&r, err);
    *out = NULL;
    if (st) return st;
    st = cpl_json_parse(&r->root, file, data, n, err);
    if (!st) st = read_root(r, file, err);
    if (st) {
        cpl_lab_result_close(r);
        return st;
    }
    *out = r;
    return CPL_OK;
}

cpl_status cpl_lab_results_add(cpl_lab_results *out, cpl_lab_result *take, cpl_error *err)
{
    if (out->count == out->cap) {
        size_t cap = out->cap ? out->cap * 2 : 32;
        cpl_lab_result **grown = realloc(out->at, cap * sizeof *grown);
        if (!grown) {
            cpl_lab_result_close(take);
            return cpl_fail_memory(err, cap * sizeof *grown);
        }
        out->at = grown;
        out->cap = cap;
    }
    size_t i = out->count++;
    for (; i > 0 && strcmp(out->at[i - 1]->name, take->name) > 0; i--) out->at[i] = out->at[i - 1];
    out->at[i] = take;
    return CPL_OK;
}

static cpl_status load_one(cpl_lab_results *out, const char *dir, const char *name, cpl_error *err)
{
    char path[1024];
    cpl_buf text = {0};
    cpl_lab_result *r = NULL;
    cpl_status st = cpl_file_join(path, sizeof path, dir, name, err);
    if (!st) st = cpl_file_read(&text, path, 64 << 20, err);
    if (!st) st = cpl_lab_result_parse(&r, path, text.data, text.size, err);
    cpl_buf_deinit(&text);
    if (st == CPL_NOT_FOUND) return CPL_OK; /* some other JSON */
    return st ? st : cpl_lab_results_add(out, r, err);
}

cpl_status cpl_lab_results_load(cpl_lab_results *out, const char *dir, cpl_error *err)
{
    struct dirent **names = NULL;
    int n = scandir(dir, &names, NULL, alphasort);
    if (n < 0) return cpl_fail_file(err, CPL_NOT_FOUND, dir, "no such folder: run 'couplet experiment run' first");
    cpl_status st = CPL_OK;
    for (int i = 0; i < n; i++) {
        const char *dot = strrchr(names[i]->d_name, '.');
        if (!st && dot && !strcmp(dot, ".json")) st = load_one(out, dir, names[i]->d_name, err);
        free(names[i]);
    }
    free(names);
    if (!st && !out->count)
        st = cpl_fail_file(err, CPL_NOT_FOUND, dir, "holds no results: run 'couplet experiment run' first");
    return st;
}

void cpl_lab_results_deinit(cpl_lab_results *r)
{
    for (size_t i = 0; i < r->count; i++) cpl_lab_result_close(r->at[i]);
    free(r->at);
    *r = (cpl_lab_results){0};
}

const cpl_lab_point *cpl_lab_best(const cpl_lab_result *r)
{
    const cpl_lab_point *best = NULL;
    for (size_t i = 0; i < r->point_count; i++) {
        const cpl_lab_point *p = &r->points[i];
        const bool valid = p->valid && p->throughput > 0, old = best && best->valid && best->throughput > 0;
        if (!p->requests || (old && !valid)) continue;
        if (!best || (valid && !old) || p->throughput > best->throughput) best = p;
    }
    return best;
}

cpl_interval cpl_lab_interval(const cpl_lab_point *p)
{
    return (cpl_interval){p->throughput, p->throughput_low, p->throughput_high, p->interval_known};
}
