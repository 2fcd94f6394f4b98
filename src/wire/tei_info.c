/* SPDX-License-Identifier: Apache-2.0 */
/* tei_info.c - /health and /info: is it up, and what runs on what.
 * /info has TEI's fields for its clients and beside them ours, under names TEI doesn't have: precision asked for and
 * run, kernels, weight bytes, for each model. Threads: the call's network thread. */
#include <stdio.h>
#include <string.h>

#include "backend/precision.h"
#include "base/error.h"
#include "base/json.h"
#include "wire/wire_state.h"

void cpl_tei_health(cpl_call *call, const uint8_t *data, size_t n, void *wire)
{
    (void)data, (void)n;
    cpl_wire *w = wire;
    char why[512];
    if (atomic_load(&w->serving) && cpl_engine_alive(w->options.engine, why, sizeof why))
        cpl_call_respond(call, 200, "text/plain; charset=utf-8", why,
                         strlen(why)); /* what is lost, of several models */
    else if (atomic_load(&w->serving))
        cpl_call_finish(call, CPL_GRPC_UNAVAILABLE, why);
    else
        cpl_call_finish(call, CPL_GRPC_UNAVAILABLE, "the server is not serving: it is starting or stopping");
}

static void put_type(cpl_json_writer *w, const cpl_model *m)
{
    static const char *const poolings[] = {"cls", "mean", "max"};
    cpl_json_open(w, "model_type", '{');
    if (m->task == CPL_TASK_EMBEDDER) {
        cpl_json_open(w, "embedding", '{');
        cpl_json_text(w, "pooling", poolings[m->pooling]);
    } else {
        char id[12];
        cpl_json_open(w, m->arch.labels == 1 ? "reranker" : "classifier", '{');
        cpl_json_open(w, "id2label", '{');
        for (uint32_t i = 0; i < m->arch.labels; i++) {
            snprintf(id, sizeof id, "%u", i);
            cpl_json_text(w, id, m->labels[i]);
        }
        cpl_json_close(w, '}');
        cpl_json_open(w, "label2id", '{');
        for (uint32_t i = 0; i < m->arch.labels; i++) cpl_json_int(w, m->labels[i], i);
        cpl_json_close(w, '}');
    }
    cpl_json_close(w, '}');
    cpl_json_close(w, '}');
}

static void put_model(cpl_json_writer *w, const cpl_engine_model *m)
{
    cpl_json_open(w, NULL, '{');
    cpl_json_text(w, "name", m->name);
    cpl_json_int(w, "replica", m->replica);
    cpl_json_int(w, "replicas", m->replicas);
    cpl_json_float(w, "weight", m->weight_milli / 1000.0);
    cpl_json_text(w, "backend", m->backend);
    cpl_json_text(w, "precision_requested", cpl_precision_name(m->requested));
    cpl_json_text(w, "precision_effective", cpl_precision_name(m->effective));
    cpl_json_text(w, "precision_reason", m->reason);
    cpl_json_text(w, "isa", m->isa);
    cpl_json_text(w, "kernels", m->kernels);
    cpl_json_int(w, "weight_bytes", (int64_t)m->weight_bytes);
    cpl_json_int(w, "max_length", m->max_length);
    cpl_json_int(w, "workers", m->workers);
    cpl_json_int(w, "batch_tokens", m->batch_tokens);
    cpl_json_bool(w, "length_aware", m->length_aware);
    cpl_json_text(w, "note", m->model->note);
    cpl_json_close(w, '}');
}

void cpl_tei_info(cpl_call *call, const uint8_t *data, size_t n, void *wire)
{
    (void)data, (void)n;
    cpl_wire *w = wire;
    cpl_wire_models models;
    cpl_wire_models_take(&models, w);
    CPL_ASSERT(models.count); /* the last one is never unloaded */
    const cpl_engine_model *m = models.at[0];
    cpl_buf *out = &cpl_wire_loop_of(call)->out;
    cpl_json_writer j = {.out = out};
    cpl_buf_clear(out);
    cpl_json_open(&j, NULL, '{');
    cpl_json_text(&j, "model_id", m->name);
    cpl_json_text(&j, "model_sha", NULL);
    cpl_json_text(&j, "model_dtype", cpl_precision_name(m->effective));
    cpl_json_text(&j, "served_model_name", m->name);
    put_type(&j, m->model);
    cpl_json_int(&j, "max_input_length", m->max_length);
    cpl_json_int(&j, "max_batch_tokens", m->batch_tokens);
    cpl_json_int(&j, "max_client_batch_size", w->options.limits.pairs_max);
    cpl_json_bool(&j, "auto_truncate", true);
    cpl_json_int(&j, "tokenization_workers", cpl_engine_tokenizer_threads(w->options.engine));
    cpl_json_text(&j, "version", COUPLET_VERSION);
    cpl_json_text(&j, "server", "couplet");
    cpl_json_text(&j, "mode", cpl_wire_mode_name(w->options.mode));
    cpl_json_open(&j, "models", '[');
    for (uint32_t i = 0; i < models.count; i++) put_model(&j, models.at[i]);
    cpl_json_close(&j, ']');
    cpl_json_close(&j, '}');
    cpl_wire_models_let_go(&models);
    cpl_wire_respond(call, 200, "application/json", out);
}
