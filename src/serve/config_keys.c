/* SPDX-License-Identifier: Apache-2.0 */
/* config_keys.c - the table of every setting: the reference system's keys first in each section, then ours.
 * The one idea: a setting exists because it stands here, once. A key whose feature isn't built yet is marked `later`
 * and refused when it is given a value, so that nothing is read and then ignored; tests/unit/serve checks that every
 * other key is read somewhere in the program. Threads: constant data. */
#include "serve/config_keys.h"

#include <string.h>

#include "base/edit_distance.h"

#define PRECISIONS "fp32|bf16|fp16|fp8|int8|int4"
#define INT_TOP    2147483647.0

const cpl_config_key cpl_config_keys[] = {
    /* model */
    {"model.name", CPL_CONFIG_TEXT, "sentence-transformers/all-MiniLM-L6-v2",
     .meaning = "model directory, or a hub id looked up in models/ and in the Hugging Face cache"},
    {"model.device", CPL_CONFIG_TEXT, "auto",
     .meaning = "device the backend must be on: auto, cpu, mps, cuda; a backend of another device is an error"},
    {"model.backend", CPL_CONFIG_TEXT, "native",
     .meaning =
         "what runs the forward pass: native, fake, or a plug-in's name (pytorch, onnx, mlx, mps, compiled, ...)"},
    {"model.quantized", CPL_CONFIG_BOOL, "false", .meaning = "run in the precision model.quantization_mode names"},
    {"model.quantization_mode", CPL_CONFIG_CHOICE, "int8", .choices = PRECISIONS,
     .meaning = "precision while model.quantized is true"},
    {"model.max_length", CPL_CONFIG_INT, "0", 0, 65536, .meaning = "tokens a sequence is cut to; 0: the model's limit"},
    {"model.mps.fp16", CPL_CONFIG_BOOL, "false", .meaning = "backend mps: run in fp16"},
    {"model.mps.compile", CPL_CONFIG_BOOL, "false",
     .meaning = "backend mps: true is refused: eager libtorch compiles nothing"},
    {"model.mlx.bits", CPL_CONFIG_INT, "32", 4, 32,
     .meaning = "backend mlx: 32 fp32, 16 fp16, 8 int8, 4 int4; weights are quantized below 16"},
    {"model.mlx.group_size", CPL_CONFIG_INT, "64", 32, 128, .meaning = "backend mlx: weights that share a scale"},
    {"model.onnx.optimize", CPL_CONFIG_BOOL, "true", .meaning = "backend onnx: graph optimisations on"},
    {"model.onnx.use_gpu", CPL_CONFIG_BOOL, "false",
     .meaning = "backend onnx: take the GPU execution provider (CUDA; on macOS CoreML)"},
    {"model.onnx.provider", CPL_CONFIG_CHOICE, "auto", .choices = "auto|cpu|cuda|coreml|openvino",
     .meaning =
         "backend onnx: execution provider, refused where ONNX Runtime lacks it; auto: cpu, or what use_gpu says"},
    {"model.onnx.threads", CPL_CONFIG_INT, "1", 1, 1024,
     .meaning = "backend onnx: threads of one pass; with more than 1 set workers accordingly"},
    {"model.onnx.file", CPL_CONFIG_TEXT, "",
     .meaning = "backend onnx: a graph of your own in the model's directory; not set: couplet writes it"},
    {"model.openvino.threads", CPL_CONFIG_INT, "0", 0, 1024,
     .meaning = "backend openvino: threads of one pass; 0: one a core"},
    {"model.openvino.width_multiple", CPL_CONFIG_INT, "0", 0, 1024,
     .meaning = "backend openvino: widths of mixed batches are rounded up to a multiple of so many tokens; 0: the "
                "backend's own (docs/RUNTIMES.md)"},
    {"model.openvino.hint", CPL_CONFIG_CHOICE, "auto", .choices = "auto|f32|bf16",
     .meaning = "backend openvino in int8: what is not int8 runs as this; auto: bf16 where the CPU has it"},
    {"model.compiled.mode", CPL_CONFIG_TEXT, "default",
     .meaning = "backend compiled: mode the package was exported in: default, reduce-overhead, max-autotune, ..."},
    {"model.compiled.package", CPL_CONFIG_TEXT, "",
     .meaning = "backend compiled: the package; not set: compiled-PRECISION-MODE.pt2 in the model's directory"},
    {"model.compiled.fp16", CPL_CONFIG_BOOL, "false", .meaning = "backend compiled: run in fp16"},
    {"model.native.group_size", CPL_CONFIG_CHOICE, "32", .choices = "32|64|128",
     .meaning = "backend native: weights of a column that share a step in int4"},
    {"model.native.keep", CPL_CONFIG_TEXT, "none",
     .meaning =
         "backend native: what of int8 and int4 is kept better: none; auto, what 'couplet calibrate' wrote beside the "
         "model; or ITEM[.LAYER][=PRECISION],..., such as down.5=bf16; items: qkv, out, up, down, layer, "
         "attention"},
    {"model.fake.fixed_us", CPL_CONFIG_INT, "0", 0, 1e9, .meaning = "backend fake: microseconds a pass takes"},
    {"model.fake.per_token_ns", CPL_CONFIG_INT, "0", 0, 1e9, .meaning = "backend fake: nanoseconds a token adds"},
    {"model.fake.spin", CPL_CONFIG_INT, "0", 0, 1, .meaning = "backend fake: 1 burns that time instead of sleeping"},
    {"model.fake.fail_every", CPL_CONFIG_INT, "0", 0, 1e9, .meaning = "backend fake: every so many-th pass fails"},
    {"model.fake.lose_after", CPL_CONFIG_INT, "0", 0, 1e9,
     .meaning = "backend fake: after so many passes its device is lost"},
    {"model.fake.fail_load", CPL_CONFIG_INT, "0", 0, 1, .meaning = "backend fake: 1 fails to load"},
    {"model.fake.fail_open", CPL_CONFIG_INT, "0", 0, 1, .meaning = "backend fake: 1 fails to open a session"},
    {"model.fake.rectangles", CPL_CONFIG_INT, "0", 0, 1, .meaning = "backend fake: 1 works on padded rectangles"},
    {"model.fake.stall_every", CPL_CONFIG_INT, "0", 0, 1e9,
     .meaning = "backend fake: every so many-th pass stands still"},
    {"model.fake.stall_us", CPL_CONFIG_INT, "0", 0, 1e9, .meaning = "backend fake: microseconds it stands still then"},
    {"model.fake.int8_percent", CPL_CONFIG_INT, "100", 0, 10000,
     .meaning = "backend fake: cost in int8, in per cent of that in fp32"},
    {"model.fake.int8_noise", CPL_CONFIG_INT, "0", 0, 1000000,
     .meaning = "backend fake: error of its rows in int8, in thousandths"},
    {"model.fake.wants", CPL_CONFIG_INT, "7", 1, 7, .meaning = "backend fake: bit mask of the kinds of rows it offers"},
    {"model.precision", CPL_CONFIG_CHOICE, "", .choices = PRECISIONS "|auto",
     .meaning = "precision of the forward pass; not set: fp32, or what the reference's keys say"},
    {"model.on_unsupported", CPL_CONFIG_CHOICE, "error", .choices = "error|fallback",
     .meaning = "what to do when the backend can't run the precision: fail, or run the nearest and say so"},
    {"model.score_label", CPL_CONFIG_TEXT, "",
     .meaning = "label (name or number) that is the score of a model with several"},
    {"model.path", CPL_CONFIG_TEXT, "",
     .meaning = "where the model is, as model.name says it otherwise; model.name is then only what requests call it"},
    {"model.weight", CPL_CONFIG_FLOAT, "1", 0.01, 100,
     .meaning = "share of the workers' time this model gets beside other models that have work waiting"},
    {"model.replicas", CPL_CONFIG_INT, "1", 1, 16,
     .meaning = "copies of the model, each with weights, a queue and its part of the workers of its own"},
    {"models", CPL_CONFIG_MODELS, "",
     .meaning = "models to serve, each a map with keys of `model`; what an entry doesn't say, that section says"},
    {"model_pool.instances", CPL_CONFIG_INSTANCES, "",
     .meaning =
         "replicas of the model, each a map with keys of `model`, all alike; the same as so many model.replicas"},
    {"model_pool.routing_strategy", CPL_CONFIG_CHOICE, "round_robin", .choices = "round_robin|least_loaded|random",
     .meaning = "how requests are spread over a model's replicas"},
    /* tokenizer_pool */
    {"tokenizer_pool.enabled", CPL_CONFIG_BOOL, "true", .meaning = "use the pool; false: tokenize on network threads"},
    {"tokenizer_pool.num_workers", CPL_CONFIG_INT, "0", 0, 256,
     .meaning = "threads that tokenize large requests; 0: network threads do it all"},
    {"tokenizer_pool.inline_bytes", CPL_CONFIG_INT, "16384", 1, INT_TOP,
     .meaning = "requests with less text than this many bytes are tokenized by their network thread"},
    /* server */
    {"server.host", CPL_CONFIG_TEXT, "127.0.0.1",
     .meaning = "address to listen on; 0.0.0.0 for every interface (nothing authenticates callers yet)"},
    {"server.port", CPL_CONFIG_INT, "50051", 0, 65535, .meaning = "port to listen on; 0: any free one"},
    {"server.listen", CPL_CONFIG_TEXT_LIST, "",
     .meaning = "addresses HOST:PORT, [V6]:PORT or unix:PATH; when given they replace server.host and server.port"},
    {"server.admin", CPL_CONFIG_CHOICE, "loopback", .choices = "loopback|off",
     .meaning = "who may load and unload models while serving: clients on this machine, or nobody"},
    {"server.stage_times", CPL_CONFIG_CHOICE, "asked", .choices = "asked|always|never",
     .meaning = "when replies carry their request's time by stage: when the request has x-couplet-timing: 1, ..."},
    {"server.otlp.endpoint", CPL_CONFIG_TEXT, "",
     .meaning =
         "OpenTelemetry collector that gets spans of requests (OTLP over HTTP, JSON): http://HOST:PORT; not set: "
         "none do"},
    {"server.otlp.service", CPL_CONFIG_TEXT, "couplet", .meaning = "service.name of the spans"},
    {"server.otlp.sample", CPL_CONFIG_FLOAT, "1", 0, 1,
     .meaning = "share of the requests without a traceparent that are traced; with one, its sampled flag decides"},
    {"server.otlp.queue", CPL_CONFIG_INT, "4096", 16, 1000000,
     .meaning = "requests whose spans may wait to be exported; what finds no room is dropped and counted"},
    {"server.otlp.batch", CPL_CONFIG_INT, "256", 1, 10000, .meaning = "requests an export message holds at most"},
    {"server.otlp.interval_ms", CPL_CONFIG_INT, "1000", 10, 60000,
     .meaning = "milliseconds after which spans that wait are exported"},
    {"server.tls.certificate", CPL_CONFIG_TEXT, "", .later = true, .meaning = "PEM file with the certificate chain"},
    {"server.tls.key", CPL_CONFIG_TEXT, "", .later = true, .meaning = "PEM file with the private key"},
    {"server.api_keys", CPL_CONFIG_TEXT_LIST, "", .later = true, .meaning = "keys callers must present"},
    {"server.limits.max_pairs", CPL_CONFIG_INT, "1000", 1, 1000000, .meaning = "pairs a request may hold"},
    {"server.limits.max_text_bytes", CPL_CONFIG_INT, "262144", 1, 1073741824,
     .meaning = "bytes a single query or document may have"},
    {"server.limits.message_bytes", CPL_CONFIG_INT, "4194304", 1024, 1073741824,
     .meaning = "bytes of one gRPC message, after decompression, or of one HTTP body"},
    {"server.limits.header_bytes", CPL_CONFIG_INT, "16384", 1024, 1048576, .meaning = "bytes of one request's headers"},
    {"server.limits.streams", CPL_CONFIG_INT, "1024", 1, 1000000, .meaning = "requests in flight on one connection"},
    {"server.limits.connections", CPL_CONFIG_INT, "65536", 1, 10000000, .meaning = "connections at once"},
    {"server.limits.request_bytes", CPL_CONFIG_INT, "268435456", 1048576, 1099511627776.0,
     .meaning = "bytes of all requests held at once; HTTP/2 windows stay closed past it"},
    {"server.limits.queue_tokens", CPL_CONFIG_INT, "0", 0, INT_TOP,
     .meaning = "tokens that may wait for a worker before requests get RESOURCE_EXHAUSTED; 0: the engine's default"},
    {"server.limits.queue_requests", CPL_CONFIG_INT, "0", 0, INT_TOP,
     .meaning = "requests that may wait for a worker; 0: the engine's default"},
    {"server.limits.request_timeout_ms", CPL_CONFIG_INT, "60000", 1, INT_TOP,
     .meaning = "milliseconds within which a request must have arrived whole"},
    {"server.limits.idle_timeout_ms", CPL_CONFIG_INT, "0", 0, INT_TOP,
     .meaning = "milliseconds after which a connection without requests is closed; 0: never"},
    {"server.limits.keepalive_ms", CPL_CONFIG_INT, "7200000", 1000, INT_TOP,
     .meaning = "milliseconds of silence after which the peer is pinged"},
    {"server.limits.keepalive_timeout_ms", CPL_CONFIG_INT, "20000", 100, INT_TOP,
     .meaning = "milliseconds within which a ping must be answered"},
    {"server.limits.drain_ms", CPL_CONFIG_INT, "30000", 0, INT_TOP,
     .meaning = "milliseconds that requests in flight may take to end after SIGTERM"},
    /* batching */
    {"batching.enabled", CPL_CONFIG_BOOL, "true", .meaning = "false: one request a forward pass (policy off)"},
    {"batching.max_batch_size", CPL_CONFIG_INT, "32", 1, 1000000,
     .meaning = "policy timeout: dispatch once this many sequences wait (a pair is one; two or fewer for an embedder)"},
    {"batching.timeout_ms", CPL_CONFIG_FLOAT, "10", 0, 60000,
     .meaning = "policy timeout: dispatch once the oldest has waited this many milliseconds"},
    {"batching.length_aware_batching", CPL_CONFIG_BOOL, "false", .alias = "batching.length_aware",
     .meaning = "among what fits a pass prefer sequences of similar length; not set: where the backend pads"},
    {"batching.policy", CPL_CONFIG_CHOICE, "", .choices = "greedy|timeout|off",
     .meaning = "not set: off when batching.enabled is false, timeout when max_batch_size or timeout_ms is set, else "
                "greedy (take what waits as soon as a worker is free)"},
    {"batching.max_batch_tokens", CPL_CONFIG_INT, "0", 0, 1048576,
     .meaning = "tokens a forward pass may hold; 0: what the backend recommends"},
    {"batching.max_batch_sequences", CPL_CONFIG_INT, "0", 0, 65536,
     .meaning = "sequences a forward pass may hold; 0: the engine's default"},
    /* threads */
    {"workers", CPL_CONFIG_INT, "0", 0, 4096, .meaning = "threads that run forward passes; 0: one a core"},
    {"team_workers", CPL_CONFIG_INT, "0", 0, 4096,
     .meaning = "workers that share a small forward pass while nothing waits; 0: up to 8; 1: none do"},
    {"net_threads", CPL_CONFIG_INT, "0", 0, 256,
     .meaning = "network threads; 0: one for every eight cores, at least one"},
    {"pin_workers", CPL_CONFIG_BOOL, "true", .meaning = "pin each worker to a core"},
    {"log.level", CPL_CONFIG_CHOICE, "info", .choices = "error|warn|info|debug",
     .meaning = "what is written to stderr"},
    {"log.format", CPL_CONFIG_CHOICE, "text", .choices = "text|json",
     .meaning = "one line or one JSON object an event"},
    /* experiment */
    {"experiment.name", CPL_CONFIG_TEXT, "", .meaning = "name in reports; not set: the file's name"},
    {"experiment.description", CPL_CONFIG_TEXT, "", .meaning = "what the experiment is for, in a sentence"},
    {"experiment.batch_sizes", CPL_CONFIG_INT_LIST, "32", 1, 1000000, .meaning = "pairs a request, each a row"},
    {"experiment.concurrency_levels", CPL_CONFIG_INT_LIST, "1", 1, 65536,
     .meaning = "requests in flight at once, each a row"},
    {"experiment.warmup_iterations", CPL_CONFIG_INT, "10", 0, 1000000, .meaning = "requests before each measured row"},
    {"experiment.benchmark_requests", CPL_CONFIG_INT, "200", 1, 100000000, .meaning = "requests measured for each row"},
    {"experiment.mode", CPL_CONFIG_CHOICE, "full", .choices = "full|tokenize|inference",
     .meaning = "what the server does: full; tokenize: replies without scores once texts are ids; inference: ids of "
                "texts seen before are kept"},
    {"experiment.sweep", CPL_CONFIG_SWEEP, "",
     .meaning = "server settings to vary: {any.key: [values]}; rows are the product"},
    {"experiment.scenario", CPL_CONFIG_CHOICE, "closed", .choices = "closed|poisson|constant|replay|offline",
     .meaning = "how load is offered: closed keeps concurrency_levels in flight, the others send by a schedule"},
    {"experiment.rate", CPL_CONFIG_INT_LIST, "10", 1, 10000000,
     .meaning = "scenarios poisson and constant: requests a second, each a row"},
    {"experiment.trace", CPL_CONFIG_TEXT, "",
     .meaning = "scenario replay: file of arrival times in seconds, one a line"},
    {"experiment.slo_ms", CPL_CONFIG_FLOAT, "0", 0, 1e9,
     .meaning = "goodput counts requests answered within this many milliseconds; 0: not counted"},
    {"experiment.slo_percentile", CPL_CONFIG_FLOAT, "0", 0, 99.9999,
     .meaning =
         "with slo_ms an objective: so many of a hundred requests in time, as 99; 0: goodput is counted, no more"},
    {"experiment.early_stop", CPL_CONFIG_BOOL, "false",
     .meaning = "end a row once the objective holds or fails with 99 % confidence; needs slo_ms and slo_percentile"},
    {"experiment.warmup_stable", CPL_CONFIG_BOOL, "false",
     .meaning = "warm each row up until latency has settled as well, for at most 10 s"},
    {"experiment.dialect", CPL_CONFIG_CHOICE, "couplet-grpc",
     .choices = "couplet-grpc|tei|tei-grpc|cohere|jina|openai|vllm|oip|oip-grpc|infinity",
     .meaning = "API the load generator speaks: of the server that is started, or with --target of another one"},
    {"experiment.duration", CPL_CONFIG_FLOAT, "15", 0, 86400,
     .meaning = "seconds each row is measured at most; 0: experiment.benchmark_requests alone decides"},
    {"experiment.duration_max", CPL_CONFIG_FLOAT, "0", 0, 86400,
     .meaning = "seconds up to which a row is extended to hold six mean latencies, as the file's rows before it let "
                "expect; 0: never"},
    {"experiment.quality_pairs", CPL_CONFIG_INT, "0", 0, 1000000,
     .meaning = "pairs on which the precision that ran is compared with fp32, for the report; 0: not done"},
    {"experiment.seed", CPL_CONFIG_INT, "1", 0, INT_TOP, .meaning = "seed of generated texts and of their order"},
    {"experiment.repeats", CPL_CONFIG_INT, "1", 1, 20,
     .meaning = "rounds; those of experiments that are compared are interleaved, and give the interval"},
    {"experiment.connections", CPL_CONFIG_INT, "0", 0, 4096,
     .meaning = "connections the clients share; 0: one each, at most 8"},
    {"experiment.pairs", CPL_CONFIG_TEXT, "",
     .meaning = "file of text pairs to send; not set: the file COUPLET_DATA names, else generated from the seed"},
    {"experiment.lengths", CPL_CONFIG_TEXT, "",
     .meaning = "tokens of generated pairs: 32, 16-128, lognormal:MEDIAN,SIGMA or fit:FILE; not set: like MS MARCO's"},
    {"experiment.documents_per_query", CPL_CONFIG_INT, "1", 1, 65536,
     .meaning = "so many pairs in a row have the same query"},
    {"experiment.duplicates", CPL_CONFIG_FLOAT, "0", 0, 0.99,
     .meaning = "part of the pairs that repeat earlier ones (with documents_per_query: of the queries)"},
    {"experiment.phase", CPL_CONFIG_TEXT, "", .meaning = "group of the progression page in reports"},
};
const size_t cpl_config_key_count = sizeof cpl_config_keys / sizeof cpl_config_keys[0];

int cpl_config_key_find(const char *name, size_t n)
{
    for (size_t i = 0; i < cpl_config_key_count; i++) {
        const cpl_config_key *k = &cpl_config_keys[i];
        if (strlen(k->name) == n && !memcmp(k->name, name, n)) return (int)i;
        if (k->alias && strlen(k->alias) == n && !memcmp(k->alias, name, n)) return (int)i;
    }
    return -1;
}

bool cpl_config_key_section(const char *name, size_t n)
{
    for (size_t i = 0; i < cpl_config_key_count; i++) {
        const char *k = cpl_config_keys[i].name;
        if (!strncmp(k, name, n) && strlen(k) > n && k[n] == '.') return true;
    }
    return false;
}

bool cpl_config_choice_has(const char *choices, const char *word, size_t n)
{
    for (const char *at = choices; at && *at;) {
        size_t len = strcspn(at, "|");
        if (len == n && !memcmp(at, word, n)) return true;
        at += len + (at[len] == '|');
    }
    return false;
}

enum { NAME_CAP = 64 }; /* longer ones are no misspelt key */

static const char *leaf_of(const char *name, size_t n, size_t *leaf_size)
{
    size_t at = n;
    while (at > 0 && name[at - 1] != '.') at--;
    *leaf_size = n - at;
    return name + at;
}

const char *cpl_config_key_nearest(const char *name, size_t n)
{
    if (n >= NAME_CAP) return NULL;
    size_t leaf_size, best_distance = n / 3 + 2;
    const char *leaf = leaf_of(name, n, &leaf_size), *best = NULL;
    for (size_t i = 0; i < cpl_config_key_count; i++) {
        const char *key = cpl_config_keys[i].name;
        size_t key_size = strlen(key), key_leaf_size;
        const char *key_leaf = leaf_of(key, key_size, &key_leaf_size);
        size_t d = cpl_edit_distance(name, n, key, key_size);
        /* The right word in the wrong section, or cut short ("batching.timeout"), is near too. */
        if (leaf_size == key_leaf_size && !memcmp(leaf, key_leaf, leaf_size) && d > 2) d = 2;
        if (n < key_size && n > 4 && !memcmp(name, key, n) && d > 2) d = 2;
        if (d < best_distance) {
            best_distance = d;
            best = key;
        }
    }
    return best;
}
