/* SPDX-License-Identifier: Apache-2.0 */
/* models.c - opening what the engine runs: directory, tokenizer, backend, precision, weights; and saying so.
 *
 * Weights are loaded once a device (for a CPU backend once a NUMA node, from a thread on it) and shared by the workers
 * on it. Everything a model needs is checked here, in the order a person would look for the fault, so that a started
 * engine has nothing left to refuse. A replica is a model in all of this, with its own part of the workers. Threads:
 * the opener's, who has the model for himself until registry.c puts it into its slot.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/precision.h"
#include "base/error.h"
#include "base/log.h"
#include "engine/state.h"

/* The directory's last part. */
static void name_of_dir(char *out, size_t cap, const char *dir)
{
    size_t end = strlen(dir);
    while (end > 1 && dir[end - 1] == '/') end--;
    size_t begin = end;
    while (begin && dir[begin - 1] != '/') begin--;
    snprintf(out, cap, "%.*s", (int)(end - begin), dir + begin);
}

static void set_name(cpl_loaded_model *m, const cpl_engine_model_options *o)
{
    if (o->name && *o->name)
        snprintf(m->name, sizeof m->name, "%s", o->name);
    else
        name_of_dir(m->name, sizeof m->name, o->dir);
}

/* The label that is the score, as a number. */
static cpl_status find_label(int32_t *out, const char *said, const cpl_model *m, cpl_error *err)
{
    char *end;
    *out = CPL_LABEL_UNSET;
    if (!said || !*said) return CPL_OK;
    long number = strtol(said, &end, 10);
    if (*end == 0 && number >= 0 && number < (long)m->arch.labels) *out = (int32_t)number;
    for (uint32_t i = 0; i < m->arch.labels && *out < 0; i++)
        if (m->labels && m->labels[i] && !strcmp(m->labels[i], said)) *out = (int32_t)i;
    if (*out >= 0) return CPL_OK;
    if (!m->arch.labels)
        return cpl_fail(err, CPL_INVALID,
                        "'model.score_label' is '%s' but '%s' is an embedder, which has no labels: remove it", said,
                        m->dir);
    return cpl_fail(err, CPL_INVALID, "'model.score_label' is '%s', which is no label of '%s': give 0 to %u or a name",
                    said, m->dir, m->arch.labels - 1);
}

/* The files, and whether they fit each other. */
static cpl_status open_files(cpl_loaded_model *m, const cpl_engine_model_options *o, cpl_error *err)
{
    cpl_status st = cpl_model_open_any(&m->model, o->dir, err);
    if (!st) st = cpl_tokenizer_open(&m->tokenizer, o->dir, err);
    if (st) return st;
    uint32_t vocab = cpl_tokenizer_vocab_size(m->tokenizer), rows = m->model->arch.vocab;
    if (vocab > rows)
        return cpl_fail_file(err, CPL_CORRUPT, o->dir, "tokenizer has %u ids, but the model has embeddings for %u only",
                             vocab, rows);
    uint32_t limit = m->model->max_length;
    size_t least = cpl_tokenizer_added(m->tokenizer, 1);
    if (o->max_length > limit)
        return cpl_fail(err, CPL_INVALID, "max_length %u is above the %u of model '%s'", o->max_length, limit, m->name);
    m->public.max_length = o->max_length ? o->max_length : limit;
    if (m->public.max_length < least)
        return cpl_fail(err, CPL_INVALID, "max_length %u leaves no room for the %zu special tokens of a pair",
                        m->public.max_length, least);
    st = find_label(&m->public.score_label, o->score_label, m->model, err);
    if (st) return st;
    bool cross = m->model->task == CPL_TASK_CROSS_ENCODER;
    m->want = cross ? CPL_WANT_LOGITS : CPL_WANT_POOLED;
    m->row_width = cross ? m->model->arch.labels : m->model->arch.hidden;
    return CPL_OK;
}

static cpl_status find_backend(cpl_engine *e, cpl_loaded_model *m, const cpl_engine_model_options *o,
                               const char *plugin_dir, cpl_error *err)
{
    const char *name = o->backend && *o->backend ? o->backend : "native";
    cpl_status st = cpl_backend_find(&m->backend, name, plugin_dir, &e->host, err);
    if (st) return st;
    const cpl_backend *b = m->backend.backend;
    st = b->probe(&m->caps, &e->host, err);
    if (st) {
        cpl_error_prefix(err, "backend '%s'", b->name);
        return st;
    }
    if (m->model->graph && !m->caps.graphs)
        return cpl_fail_file(err, CPL_UNSUPPORTED, o->dir,
                             "no model.safetensors, which backend '%s' needs: its %s is run by backend onnx", b->name,
                             m->model->graph);
    if (!(m->caps.wants >> m->want & 1))
        return cpl_fail(err, CPL_UNSUPPORTED, "backend '%s' gives no %s, which model '%s' needs", b->name,
                        m->want == CPL_WANT_LOGITS ? "logits" : "pooled vectors", m->name);
    return cpl_precision_resolve(&m->public.effective, m->public.reason, sizeof m->public.reason, o->precision,
                                 o->fallback, b->name, &m->caps, err);
}

/* Before load with the most that may be recommended, after it with what was. */
static void size_queue(cpl_loaded_model *m, const cpl_batch_policy *policy, uint32_t batch_tokens)
{
    cpl_batch_policy p = *policy;
    p.length_aware = !p.length_blind && (p.length_aware || m->caps.rectangles);
    p.weight_milli = m->public.weight_milli;
    cpl_batch_policy_complete(&p, batch_tokens);
    cpl_batcher_init(&m->batcher, &p);
    m->public.batch_tokens = p.tokens_max;
    m->public.length_aware = p.length_aware;
}

/* How many sessions it may have, and so how many workers can run it; and how many copies of its weights. */
static void size_sessions(const cpl_engine *e, cpl_loaded_model *m, uint32_t workers)
{
    uint32_t devices = m->caps.devices ? m->caps.devices : 1, each = m->caps.sessions_per_device;
    uint32_t n = m->public.replicas, mine = n > workers ? 1 : (workers - m->public.replica + n - 1) / n;
    if (m->caps.numa) devices = cpl_topology_nodes_for(&e->topology, workers);
    if (m->caps.own_threads) each = 1;
    uint64_t most = each ? (uint64_t)each * devices : mine;
    m->spread = workers;
    m->sessions = most < mine ? (uint32_t)most : mine;
    m->devices = devices < m->sessions || n > 1 ? devices : m->sessions;
    m->public.workers = m->sessions;
}

/* Does any of its workers use this copy of the weights? */
static bool is_needed(const cpl_engine *e, const cpl_loaded_model *m, uint32_t device)
{
    int cpu;
    for (uint32_t k = 0; k < m->spread; k++)
        if (cpl_model_runs_on(m, k) &&
            cpl_model_device_of(m, k, cpl_topology_place(&e->topology, m->spread, k, &cpu)) == device)
            return true;
    return false;
}

/* One device's load, on a thread of its node where devices are nodes. */
typedef struct one_load {
    cpl_engine *engine;
    cpl_loaded_model *model;
    const cpl_load_options *options;
    cpl_load_report *report;
    cpl_status status;
    cpl_error error;
} one_load;

static void load_one(void *arg)
{
    one_load *l = arg;
    cpl_loaded_model *m = l->model;
    uint32_t device = l->options->device;
    if (m->caps.numa && l->engine->topology.nodes > 1) cpl_topology_stay(&l->engine->topology, device);
    l->status =
        m->backend.backend->load(&m->weights[device], m->model, l->options, l->report, &l->engine->host, &l->error);
}

static cpl_status load_device(cpl_engine *e, cpl_loaded_model *m, const cpl_load_options *options,
                              cpl_load_report *report, cpl_error *err)
{
    one_load l = {.engine = e, .model = m, .options = options, .report = report};
    if (m->caps.numa && e->topology.nodes > 1) {
        cpl_thread t = {0};
        cpl_status st = cpl_thread_start(&t, "cpl-load", -1, load_one, &l, err);
        if (st) return st;
        cpl_thread_join(&t);
    } else {
        load_one(&l);
    }
    if (l.status && err) *err = l.error;
    return l.status;
}

static cpl_status load_weights(cpl_engine *e, cpl_loaded_model *m, const cpl_engine_model_options *o,
                               uint32_t *batch_tokens, cpl_error *err)
{
    const cpl_backend *b = m->backend.backend;
    m->weights = calloc(m->devices, sizeof(cpl_weights *));
    if (!m->weights) return cpl_fail_memory(err, m->devices * sizeof(cpl_weights *));
    for (uint32_t d = 0; d < m->devices; d++) {
        if (m->public.replicas > 1 && !is_needed(e, m, d)) continue;
        cpl_load_options options = {.size = sizeof options,
                                    .precision = m->public.effective,
                                    .device = d,
                                    .batch_tokens_max = m->batcher.policy.tokens_max,
                                    .batch_sequences_max = m->batcher.policy.sequences_max,
                                    .count_stages = o->count_stages,
                                    .settings = o->settings};
        cpl_load_report report = {0};
        cpl_status st = load_device(e, m, &options, &report, err);
        if (st) return st;
        if (report.precision != m->public.effective)
            return cpl_fail(err, CPL_INTERNAL, "backend '%s' loaded %s where %s was asked for", b->name,
                            cpl_precision_name(report.precision), cpl_precision_name(m->public.effective));
        m->public.weight_bytes += report.weight_bytes;
        m->public.devices++;
        *batch_tokens = report.batch_tokens && report.batch_tokens < m->caps.batch_tokens ? report.batch_tokens
                                                                                          : m->caps.batch_tokens;
        memcpy(m->public.kernels, report.kernels, sizeof m->public.kernels);
    }
    cpl_model_release_pages(m->model); /* backends have their own copy (backend.h) */
    return CPL_OK;
}

static void announce(const cpl_engine *e, const cpl_loaded_model *m)
{
    const cpl_engine_model *p = &m->public;
    if (p->replicas > 1)
        cpl_log_write(e->log, CPL_LOG_INFO, "model '%s': replica %u of %u", m->name, p->replica + 1, p->replicas);
    cpl_log_write(e->log, CPL_LOG_INFO,
                  "model '%s' on %s (%s): %s, %.1f MB of weights, %u workers, %u tokens a pass, up to %u a sequence",
                  m->name, p->backend, p->kernels[0] ? p->kernels : p->isa, cpl_precision_name(p->effective),
                  (double)p->weight_bytes / 1e6, p->workers, p->batch_tokens, p->max_length);
    uint32_t team = m->batcher.policy.team_max < p->workers ? m->batcher.policy.team_max : p->workers;
    if (m->caps.teams && !m->caps.own_threads && team > 1)
        cpl_log_write(e->log, CPL_LOG_INFO,
                      "model '%s': while nothing waits up to %u workers share a pass, one for every %d tokens", m->name,
                      team, CPL_BATCH_TEAM_TOKENS);
    if (m->caps.numa && e->topology.nodes > 1)
        cpl_log_write(e->log, CPL_LOG_INFO, "model '%s': workers and weights on %u of %u NUMA nodes", m->name,
                      m->devices, e->topology.nodes);
    if (p->requested == CPL_PRECISION_AUTO)
        cpl_log_write(e->log, CPL_LOG_INFO, "model '%s': %s", m->name, p->reason);
    else if (p->reason[0])
        cpl_log_write(e->log, CPL_LOG_WARN, "model '%s': %s", m->name, p->reason);
    if (m->model->note[0]) cpl_log_write(e->log, CPL_LOG_WARN, "model '%s': %s", m->name, m->model->note);
}

cpl_status cpl_model_slot_open(cpl_engine *e, cpl_loaded_model *m, const cpl_engine_model_options *o, cpl_error *err)
{
    const cpl_registry *r = &e->registry;
    if (!o->dir || !*o->dir) return cpl_fail(err, CPL_INVALID, "model has no directory");
    snprintf(m->dir, sizeof m->dir, "%s", o->dir);
    m->public.weight_milli = o->weight_milli ? o->weight_milli : 1000;
    set_name(m, o);
    cpl_status st = open_files(m, o, err);
    if (!st) st = find_backend(e, m, o, r->plugin_dir, err);
    if (!st && r->id_cache_bytes) st = cpl_id_cache_open(&m->ids, r->id_cache_bytes, err);
    if (st) return st;
    uint32_t batch_tokens = 0;
    size_queue(m, &r->policy, m->caps.batch_tokens);
    size_sessions(e, m, r->workers);
    st = load_weights(e, m, o, &batch_tokens, err);
    if (st) return st;
    size_queue(m, &r->policy, batch_tokens);
    m->public.name = m->name;
    m->public.model = m->model;
    m->public.tokenizer = m->tokenizer;
    m->public.backend = m->backend.backend->name;
    m->public.requested = o->precision;
    snprintf(m->public.isa, sizeof m->public.isa, "%s", m->caps.isa);
    announce(e, m);
    return CPL_OK;
}

void cpl_model_slot_close(cpl_loaded_model *m)
{
    for (uint32_t d = 0; m->weights && d < m->devices; d++) m->backend.backend->unload(m->weights[d]);
    free(m->weights);
    cpl_backend_release(&m->backend);
    cpl_tokenizer_close(m->tokenizer);
    cpl_id_cache_close(m->ids);
    cpl_model_close(m->model);
    free(m);
}
