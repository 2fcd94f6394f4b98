/* SPDX-License-Identifier: Apache-2.0 */
/* native.c - couplet's own CPU engine as a backend: what it can do here, what it refuses, and which path runs.
 *
 * Precisions are reported by what has kernels, never by what the CPU could do: asking for another one fails with a
 * reason instead of running something else. probe keeps no state and reads COUPLET_ISA like load does, so that `doctor`
 * and a load agree. */
#include "backend/native/native.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/native/amx.h"
#include "backend/registry.h"
#include "backend/precision.h"
#include "base/error.h"
#include "base/log.h"
#include "base/thread.h"
#include "base/topology.h"
#include "model/kept.h"

static cpl_status probe(cpl_caps *out, const cpl_host *host, cpl_error *err)
{
    (void)host;
    cpl_cpu cpu;
    cpl_isa isa;
    cpl_topology topology;
    cpl_cpu_detect(&cpu);
    const cpl_status st = cpl_isa_choose(&isa, NULL, &cpu, err);
    if (st) return st;
    cpl_topology_read(&topology, NULL);
    *out = (cpl_caps){
        .precisions = CPL_NATIVE_PRECISIONS,
        .wants = 1u << CPL_WANT_LOGITS | 1u << CPL_WANT_POOLED | 1u << CPL_WANT_TOKENS,
        .devices = topology.nodes,
        .numa = 1,
        .batch_tokens = CPL_NATIVE_BATCH_TOKENS,
        .teams = 1,
    };
    for (int p = 0; p < CPL_PRECISION_COUNT; p++)
        if (!(out->precisions >> p & 1)) snprintf(out->reason[p], sizeof out->reason[p], "%s", CPL_NATIVE_REASON);
    /* The rule of `auto`, the only place for it. int8 meets its loss goals (docs/PERFORMANCE.md); without instructions
     * of its own it isn't fast enough to lose anything for. */
    const int fast = cpl_isa_vnni(isa, &cpu) || isa == CPL_ISA_NEON_DOTPROD || isa == CPL_ISA_NEON_I8MM;
    out->automatic = fast ? CPL_PRECISION_INT8 : CPL_PRECISION_FP32;
    snprintf(out->automatic_rule, sizeof out->automatic_rule,
             "int8 where AMX, AVX-512 VNNI or ARM dot products multiply it, else fp32");
    snprintf(out->isa, sizeof out->isa, "%s", cpl_isa_name(isa)); /* the rung: AMX's table of rows is AVX-512's */
    const uint32_t cores = cpl_cpu_count();
    snprintf(out->device, sizeof out->device, "%u core%s of %s", cores, cores == 1 ? "" : "s", cpu.name);
    return CPL_OK;
}

cpl_native_limits cpl_native_limits_of(const cpl_model *model, const cpl_load_options *options)
{
    const uint32_t tokens =
        options->batch_tokens_max > model->max_length ? options->batch_tokens_max : model->max_length;
    const uint32_t given = options->batch_sequences_max;
    return (cpl_native_limits){.max_length = model->max_length,
                               .tokens_max = tokens,
                               .sequences_max = given && given < tokens ? given : tokens};
}

cpl_status cpl_native_check_batch(const cpl_native_limits *limits, const cpl_arch *arch, const cpl_batch *b,
                                  cpl_error *err)
{
    if (b->want == CPL_WANT_LOGITS && arch->head != CPL_HEAD_POOLER_CLASSIFIER)
        return cpl_fail(err, CPL_PRECONDITION, "logits are wanted of a model without a classifier");
    if (b->n > limits->sequences_max)
        return cpl_fail(err, CPL_INVALID, "%u sequences in one pass, the session holds %u", b->n,
                        limits->sequences_max);
    for (uint32_t i = 0; i < b->n; i++) {
        const uint32_t from = b->cu_seqlens[i], to = b->cu_seqlens[i + 1];
        if (to <= from || to - from > limits->max_length)
            return cpl_fail(err, CPL_INVALID, "sequence %u has %d tokens, the model takes 1 to %u", i, (int)(to - from),
                            limits->max_length);
    }
    const uint32_t tokens = b->cu_seqlens[b->n];
    if (tokens > limits->tokens_max)
        return cpl_fail(err, CPL_INVALID, "%u tokens in one pass, the session holds %u", tokens, limits->tokens_max);
    for (uint32_t t = 0; t < tokens; t++) {
        if ((uint32_t)b->ids[t] >= arch->vocab)
            return cpl_fail(err, CPL_INVALID, "token %u has id %d, the vocabulary ends at %u", t, b->ids[t],
                            arch->vocab - 1);
        if (b->type_ids[t] >= arch->types)
            return cpl_fail(err, CPL_INVALID, "token %u has type id %u, the model knows %u types", t, b->type_ids[t],
                            arch->types);
    }
    return CPL_OK;
}

static cpl_status read_settings(cpl_native_settings *out, const cpl_load_options *options, const cpl_cpu *cpu,
                                cpl_error *err)
{
    const char *isa_name = NULL;
    *out = (cpl_native_settings){.stages = options->count_stages, .group_size = 32};
    for (const char *const *s = options->settings; s && *s; s++) {
        if (!strncmp(*s, "isa=", 4))
            isa_name = *s + 4;
        else if (!strcmp(*s, "stages=0") || !strcmp(*s, "stages=1"))
            out->stages = (*s)[7] == '1';
        else if (!strcmp(*s, "group_size=32") || !strcmp(*s, "group_size=64") || !strcmp(*s, "group_size=128"))
            out->group_size = (uint32_t)strtoul(*s + strlen("group_size="), NULL, 10);
        else if (!strncmp(*s, "keep=", 5))
            out->keep = strcmp(*s + 5, "none") ? *s + 5 : NULL;
        else
            return cpl_fail(err, CPL_INVALID,
                            "unknown setting \"%s\" of the native backend: it knows isa=NAME, stages=0|1, "
                            "group_size=32|64|128 and keep=none|auto|LIST",
                            *s);
    }
    return cpl_isa_choose(&out->isa, isa_name, cpu, err);
}

static cpl_status check_model(const cpl_model *model, const cpl_load_options *options, cpl_error *err)
{
    const cpl_arch *a = &model->arch;
    if (options->size != sizeof(cpl_load_options))
        return cpl_fail(err, CPL_INVALID, "load options are of another size (%u, expected %zu): rebuild the caller",
                        options->size, sizeof(cpl_load_options));
    if (!(CPL_NATIVE_PRECISIONS >> options->precision & 1)) return cpl_fail(err, CPL_UNSUPPORTED, CPL_NATIVE_REASON);
    if ((options->precision == CPL_PRECISION_INT8 || options->precision == CPL_PRECISION_INT4) &&
        (a->hidden > CPL_I8_K_MAX || a->intermediate > CPL_I8_K_MAX))
        return cpl_fail(err, CPL_UNSUPPORTED, "can't run integers over %u and %u columns: sums are exact up to %d",
                        a->hidden, a->intermediate, CPL_I8_K_MAX);
    if (options->device >= CPL_TOPOLOGY_NODES)
        return cpl_fail(err, CPL_INVALID, "no device %u: the native backend's devices are NUMA nodes, %d at most",
                        options->device, CPL_TOPOLOGY_NODES);
    if (a->norm_place != CPL_NORM_POST || a->position_scheme != CPL_POSITION_LEARNED)
        return cpl_fail(err, CPL_UNSUPPORTED,
                        "the native backend runs BERT-like models only: norm after the residual, "
                        "learned positions");
    if (!a->layers || !a->hidden || a->heads * a->head_size != a->hidden)
        return cpl_fail(err, CPL_UNSUPPORTED, "can't run %u heads of size %u over hidden size %u", a->heads,
                        a->head_size, a->hidden);
    return CPL_OK;
}

/* keep=auto: what was chosen for these weights, which must be on file; the others keep nothing by any choice. */
static cpl_status settle_keep(cpl_native_settings *settings, cpl_kept *room, const cpl_model *model,
                              cpl_precision precision, const cpl_host *host, cpl_error *err)
{
    if (!settings->keep || strcmp(settings->keep, "auto") != 0) return CPL_OK;
    settings->keep = NULL;
    if (precision != CPL_PRECISION_INT8 && precision != CPL_PRECISION_INT4) return CPL_OK;
    const uint32_t group = precision == CPL_PRECISION_INT4 ? settings->group_size : 0;
    const cpl_status st = cpl_kept_find(room, model, cpl_precision_name(precision), group, err);
    if (st) return st;
    cpl_log_write(host->log, CPL_LOG_INFO, "keep=auto: %s (%s %.5f over %llu pairs, goal %g; nothing kept: %.5f)",
                  room->keep, room->measure, room->reached, (unsigned long long)room->pairs, room->goal, room->before);
    if (strcmp(room->keep, "none") != 0) settings->keep = room->keep;
    return CPL_OK;
}

/* In order of preference; the last takes everything. */
static const cpl_native_path *const paths[] = {
#if defined(__x86_64__)
    &cpl_native_amx,
#endif
    &cpl_native_rows};

static cpl_status load(cpl_weights **out, const cpl_model *model, const cpl_load_options *options,
                       cpl_load_report *report, const cpl_host *host, cpl_error *err)
{
    cpl_native_settings settings;
    cpl_kept kept;
    cpl_cpu cpu;
    cpl_cpu_detect(&cpu);
    *out = NULL;
    cpl_status st = check_model(model, options, err);
    if (!st) st = read_settings(&settings, options, &cpu, err);
    if (!st) st = settle_keep(&settings, &kept, model, options->precision, host, err);
    if (st) return st;
    const cpl_native_path *const *path = paths;
    for (;; path++) { /* one that finds only while loading that it can't run this model leaves it to the next */
        if ((*path)->suits && settings.keep) continue; /* only the last knows how */
        if ((*path)->suits && !(*path)->suits(model, options->precision, &settings, &cpu)) continue;
        st = (*path)->load(out, model, options, &settings, report, host, err);
        if (st != CPL_UNSUPPORTED || !(*path)->suits) return st;
    }
}

/* Weights and sessions begin with a head, whichever path made them. */
static const cpl_native_path *path_of(const void *made) { return ((const cpl_native_head *)made)->path; }

static cpl_status open_session(cpl_session **out, cpl_weights *w, cpl_error *err)
{
    return path_of(w)->open(out, w, err);
}

static cpl_status run(cpl_session *s, const cpl_batch *batch, cpl_team *team, float *rows, cpl_error *err)
{
    return path_of(s)->run(s, batch, team, rows, err);
}

static uint32_t count_stages(const cpl_session *s, cpl_stage *out, uint32_t cap)
{
    static const char *const names[CPL_NATIVE_STAGES] = {"embed", "qkv",   "attention", "out", "ffn1",
                                                         "ffn2",  "norms", "quantise",  "head"};
    uint64_t ns[CPL_NATIVE_STAGES] = {0};
    double ops[CPL_NATIVE_STAGES] = {0};
    path_of(s)->stages(s, ns, ops);
    for (uint32_t i = 0; i < cap && i < CPL_NATIVE_STAGES; i++)
        out[i] = (cpl_stage){names[i], (double)ns[i] * 1e-9, ops[i]};
    return CPL_NATIVE_STAGES;
}

static void close_session(cpl_session *s)
{
    if (s) path_of(s)->close(s);
}

static void unload(cpl_weights *w)
{
    if (w) path_of(w)->unload(w);
}

const cpl_backend cpl_backend_native = {
    .abi = CPL_BACKEND_ABI,
    .size = sizeof(cpl_backend),
    .name = "native",
    .summary = "couplet's own CPU engine",
    .probe = probe,
    .load = load,
    .open = open_session,
    .run = run,
    .stages = count_stages,
    .close = close_session,
    .unload = unload,
};
