/* SPDX-License-Identifier: Apache-2.0 */
/* service.c - puts a server together from its configuration and takes it apart again.
 * The one idea: order. Up: engine, canary, dialects, listener last, so that whoever can connect can score. Down: health
 * first, then the listener, then what is in flight, then the engine (its last results are posted to the loops), and the
 * loops only after that. So a request that got in is answered, whatever the moment.
 * Threads: open and close on one; the parts below have their own. */
#include "serve/service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/thread.h"
#include "serve/models.h"
#include "wire/wire.h"

enum { ID_CACHE_BYTES = 256 << 20 }; /* a million pairs of a hundred tokens; taken as it fills */

struct cpl_service {
    cpl_engine *engine;
    cpl_otlp *otlp;
    cpl_wire *wire;
    cpl_server *server;
    const cpl_log *log;
    uint32_t drain_ms;
    const cpl_config *config;
    bool allow_seeded;
};

/* ---- engine ---- */

static void choose_policy(cpl_batch_policy *p, const cpl_config *c, const char *name)
{
    *p = (cpl_batch_policy){
        .kind = !strcmp(name, "off")       ? CPL_BATCH_OFF
                : !strcmp(name, "timeout") ? CPL_BATCH_TIMEOUT
                                           : CPL_BATCH_GREEDY,
        .tokens_max = (uint32_t)cpl_config_int(c, "batching.max_batch_tokens"),
        .sequences_max = (uint32_t)cpl_config_int(c, "batching.max_batch_sequences"),
        .length_aware = cpl_config_bool(c, "batching.length_aware_batching"),
        .length_blind = cpl_config_given(c, "batching.length_aware_batching") &&
                        !cpl_config_bool(c, "batching.length_aware_batching"),
        .team_max = (uint32_t)cpl_config_int(c, "team_workers"),
        .queue_tokens_max = (uint32_t)cpl_config_int(c, "server.limits.queue_tokens"),
        .queue_requests_max = (uint32_t)cpl_config_int(c, "server.limits.queue_requests"),
    };
    if (p->kind != CPL_BATCH_TIMEOUT) return;
    p->items_max = (uint32_t)cpl_config_int(c, "batching.max_batch_size");
    p->timeout_ns = (uint64_t)(cpl_config_float(c, "batching.timeout_ms") * 1e6);
}

static cpl_wire_mode mode_of(const cpl_config *c)
{
    const char *name = cpl_config_text(c, "experiment.mode");
    return !strcmp(name, "tokenize")    ? CPL_MODE_TOKENIZE
           : !strcmp(name, "inference") ? CPL_MODE_INFERENCE
                                        : CPL_MODE_FULL;
}

static cpl_engine_routing routing_of(const char *name)
{
    return !strcmp(name, "random")         ? CPL_ROUTE_RANDOM
           : !strcmp(name, "least_loaded") ? CPL_ROUTE_LEAST_LOADED
                                           : CPL_ROUTE_ROUND_ROBIN;
}

static cpl_status open_engine(cpl_service *s, const cpl_config *c, bool allow_seeded, cpl_error *err)
{
    const char *policy;
    size_t n = cpl_config_model_count(c), ready = 0;
    bool pool = cpl_config_bool(c, "tokenizer_pool.enabled");
    cpl_serve_model *models = calloc(n, sizeof *models);
    cpl_engine_model_options *list = calloc(n, sizeof *list);
    cpl_status st = models && list ? cpl_config_policy(c, &policy, err) : cpl_fail_memory(err, n * sizeof *models);
    while (!st && ready < n) {
        st = cpl_serve_model_init(&models[ready], c, ready, allow_seeded, s->log, err);
        list[ready] = models[ready].options;
        ready++;
    }
    if (!st) {
        cpl_engine_options options = {
            .models = list,
            .model_count = (uint32_t)n,
            .workers = (uint32_t)cpl_config_int(c, "workers"),
            .pin_workers = cpl_config_bool(c, "pin_workers"),
            .tokenizer_threads = pool ? (uint32_t)cpl_config_int(c, "tokenizer_pool.num_workers") : 0,
            .inline_text_bytes = (uint32_t)cpl_config_int(c, "tokenizer_pool.inline_bytes"),
            .id_cache_bytes = mode_of(c) == CPL_MODE_INFERENCE ? ID_CACHE_BYTES : 0,
            .routing = routing_of(cpl_config_text(c, "model_pool.routing_strategy")),
            .log = s->log,
        };
        choose_policy(&options.policy, c, policy);
        st = cpl_engine_open(&s->engine, &options, err);
    }
    while (ready) cpl_serve_model_deinit(&models[--ready]);
    free(models);
    free(list);
    return st;
}

/* ---- dialects ---- */

/* A request's model, on the wire's thread for that. */
static cpl_status load_model(void *user, const char *body, size_t n, char *name, size_t name_cap, cpl_error *err)
{
    cpl_service *s = user;
    cpl_serve_model m;
    cpl_status st = cpl_serve_model_parse(&m, s->config, body, n, s->allow_seeded, s->log, err);
    if (!st) snprintf(name, name_cap, "%s", m.options.name);
    if (!st) st = cpl_engine_model_load(s->engine, &m.options, err);
    cpl_serve_model_deinit(&m);
    return st;
}

static cpl_status open_otlp(cpl_service *s, const cpl_config *c, cpl_error *err)
{
    cpl_otlp_options o = {.endpoint = cpl_config_text(c, "server.otlp.endpoint"),
                          .service = cpl_config_text(c, "server.otlp.service"),
                          .queue_max = (uint32_t)cpl_config_int(c, "server.otlp.queue"),
                          .batch_max = (uint32_t)cpl_config_int(c, "server.otlp.batch"),
                          .interval_ms = (uint32_t)cpl_config_int(c, "server.otlp.interval_ms"),
                          .log = s->log};
    if (!*o.endpoint) return CPL_OK;
    cpl_status st = cpl_otlp_open(&s->otlp, &o, err);
    if (st) cpl_error_prefix(err, "server.otlp.endpoint");
    return st;
}

static cpl_wire_timing timing_of(const char *name)
{
    return !strcmp(name, "always") ? CPL_TIMING_ALWAYS : !strcmp(name, "never") ? CPL_TIMING_NEVER : CPL_TIMING_ASKED;
}

static cpl_status open_wire(cpl_service *s, const cpl_config *c, uint32_t net_threads, cpl_error *err)
{
    cpl_buf text = {0};
    cpl_config_print(c, &text);
    cpl_wire_options options = {
        .engine = s->engine,
        .limits = {.pairs_max = (uint32_t)cpl_config_int(c, "server.limits.max_pairs"),
                   .text_bytes_max = (uint32_t)cpl_config_int(c, "server.limits.max_text_bytes")},
        .mode = mode_of(c),
        .timing = timing_of(cpl_config_text(c, "server.stage_times")),
        .otlp = s->otlp,
        .sample = cpl_config_float(c, "server.otlp.sample"),
        .load_model = strcmp(cpl_config_text(c, "server.admin"), "off") ? load_model : NULL,
        .load_user = s,
        .config = text.data,
        .net_threads = net_threads,
        .log = s->log,
    };
    cpl_status st = cpl_buf_status(&text, err);
    if (!st) st = cpl_wire_open(&s->wire, &options, err);
    cpl_buf_deinit(&text);
    return st;
}

/* ---- listener ---- */

static cpl_status open_server(cpl_service *s, const cpl_config *c, uint32_t net_threads, cpl_error *err)
{
    size_t n = cpl_config_count(c, "server.listen");
    char single[300];
    const char **listen = calloc(n + 2, sizeof *listen), *host = cpl_config_text(c, "server.host");
    if (!listen) return cpl_fail_memory(err, (n + 2) * sizeof *listen);
    bool v6 = strchr(host, ':') && *host != '[';
    snprintf(single, sizeof single, v6 ? "[%s]:%d" : "%s:%d", host, (int)cpl_config_int(c, "server.port"));
    if (n == 0) listen[0] = single;
    for (size_t i = 0; i < n; i++) listen[i] = cpl_config_text_at(c, "server.listen", i);
    cpl_server_options options = {
        .listen = listen,
        .loops = net_threads,
        .message_bytes_max = (uint32_t)cpl_config_int(c, "server.limits.message_bytes"),
        .header_bytes_max = (uint32_t)cpl_config_int(c, "server.limits.header_bytes"),
        .streams_max = (uint32_t)cpl_config_int(c, "server.limits.streams"),
        .request_bytes_max = (uint64_t)cpl_config_int(c, "server.limits.request_bytes"),
        .connections_max = (uint32_t)cpl_config_int(c, "server.limits.connections"),
        .request_timeout_ms = (uint32_t)cpl_config_int(c, "server.limits.request_timeout_ms"),
        .idle_timeout_ms = (uint32_t)cpl_config_int(c, "server.limits.idle_timeout_ms"),
        .keepalive_ms = (uint32_t)cpl_config_int(c, "server.limits.keepalive_ms"),
        .keepalive_timeout_ms = (uint32_t)cpl_config_int(c, "server.limits.keepalive_timeout_ms"),
        .loop_started = cpl_wire_loop_started,
        .loop_stopped = cpl_wire_loop_stopped,
        .user = s->wire,
        .log = s->log,
    };
    options.methods = cpl_wire_methods(s->wire, &options.method_count);
    cpl_status st = cpl_server_open(&s->server, &options, err);
    free(listen);
    return st;
}

/* What the engine's own lines about the models don't say. */
static void log_ready(const cpl_service *s, cpl_wire_mode mode, const char *policy, uint32_t net_threads,
                      uint64_t started_ns)
{
    cpl_log_write(s->log, CPL_LOG_INFO, "ready after %.0f ms: %u workers, %u network threads, batching %s",
                  (double)(cpl_clock_ns() - started_ns) / 1e6, cpl_engine_worker_count(s->engine), net_threads, policy);
    if (mode != CPL_MODE_FULL)
        cpl_log_write(s->log, CPL_LOG_WARN, "experiment.mode is %s: %s", cpl_wire_mode_name(mode),
                      mode == CPL_MODE_TOKENIZE ? "texts are tokenized and not scored"
                                                : "ids of texts seen before are kept, so that they are not tokenized "
                                                  "again");
}

cpl_status cpl_service_open(cpl_service **out, const cpl_config *config, bool allow_seeded, const cpl_log *log,
                            cpl_error *err)
{
    *out = NULL;
    uint64_t started_ns = cpl_clock_ns();
    cpl_service *s = calloc(1, sizeof *s);
    if (!s) return cpl_fail_memory(err, sizeof *s);
    s->log = log;
    s->config = config;
    s->allow_seeded = allow_seeded;
    uint32_t net_threads = (uint32_t)cpl_config_int(config, "net_threads");
    if (!net_threads) net_threads = cpl_cpu_count() / 8;
    if (!net_threads) net_threads = 1;
    cpl_status st = cpl_config_check(config, err);
    if (!st) st = open_engine(s, config, allow_seeded, err);
    if (!st) st = cpl_engine_canary(s->engine, err);
    if (!st) st = open_otlp(s, config, err);
    if (!st) st = open_wire(s, config, net_threads, err);
    if (!st) {
        s->drain_ms = (uint32_t)cpl_config_int(config, "server.limits.drain_ms");
        cpl_wire_set_serving(s->wire, true);
        st = open_server(s, config, net_threads, err);
    }
    if (st) {
        cpl_service_close(s);
        return st;
    }
    const char *policy = "";
    cpl_config_policy(config, &policy, NULL);
    log_ready(s, mode_of(config), policy, net_threads, started_ns);
    *out = s;
    return CPL_OK;
}

const char *cpl_service_address(const cpl_service *s, size_t i) { return cpl_server_address(s->server, i); }

uint32_t cpl_service_close(cpl_service *s)
{
    uint32_t cut = 0;
    if (!s) return 0;
    if (s->server) {
        cpl_wire_drain(s->wire);
        cut = cpl_server_drain(s->server, s->drain_ms);
        cpl_engine_drain(s->engine);
    }
    cpl_server_close(s->server);
    cpl_wire_close(s->wire);
    cpl_engine_close(s->engine);
    cpl_otlp_close(s->otlp);
    free(s);
    return cut;
}
