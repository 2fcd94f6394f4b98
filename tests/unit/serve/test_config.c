/* SPDX-License-Identifier: Apache-2.0 */
/* Settings: files, inheritance, --set, flags; every wrong value is reported with its place; contradictions name both
 * keys; the printed configuration loads back to itself; every key of the table is read by the program. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "serve/config.h"
#include "serve/config_keys.h"

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "couplet-config-XXXXXX");
    char base[] = "/tmp/couplet-config-XXXXXX";
    if (!mkdtemp(base)) return -1;
    snprintf(dir, sizeof dir, "%s", base);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static const char *write_file(const char *name, const char *text)
{
    static char path[4][128];
    static int next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    assert_int_equal(cpl_file_write(p, text, strlen(text), NULL), CPL_OK);
    return p;
}

static cpl_config *load_text(const char *text, cpl_error *err)
{
    cpl_config *c = NULL;
    cpl_config_load(&c, write_file("x.yaml", text), false, NULL, err);
    return c;
}

static cpl_config *load_good(const char *text)
{
    cpl_error err = {0};
    cpl_config *c = load_text(text, &err);
    if (!c) print_error("%s\n", err.what);
    assert_non_null(c);
    return c;
}

static void expect_error(const char *text, const char *part, int line, int column)
{
    cpl_error err = {0};
    cpl_config *c = load_text(text, &err);
    if (c) cpl_config_check(c, &err);
    cpl_config_close(c);
    if (!strstr(err.what, part)) print_error("got: %s\nwanted: %s\n", err.what, part);
    assert_non_null(strstr(err.what, part));
    if (line) assert_int_equal(err.line, line);
    if (column) assert_int_equal(err.column, column);
}

static void test_defaults(void **state)
{
    (void)state;
    cpl_config *c;
    assert_int_equal(cpl_config_load(&c, NULL, false, NULL, NULL), CPL_OK);
    assert_string_equal(cpl_config_text(c, "model.backend"), "native");
    assert_string_equal(cpl_config_text(c, "batching.policy"), "");
    assert_int_equal(cpl_config_int(c, "server.port"), 50051);
    assert_true(cpl_config_float(c, "batching.timeout_ms") == 10.0);
    assert_int_equal(cpl_config_count(c, "server.listen"), 0);
    assert_int_equal(cpl_config_count(c, "experiment.batch_sizes"), 1);
    assert_int_equal(cpl_config_int_at(c, "experiment.batch_sizes", 0), 32);
    assert_string_equal(cpl_config_origin(c, "server.port"), "default");
    assert_false(cpl_config_given(c, "server.port"));
    cpl_error err;
    assert_int_equal(cpl_config_check(c, &err), CPL_OK);
    const char *precision, *policy;
    assert_int_equal(cpl_config_precision(c, &precision, &err), CPL_OK);
    assert_int_equal(cpl_config_policy(c, &policy, &err), CPL_OK);
    assert_string_equal(precision, "fp32");
    assert_string_equal(policy, "greedy");
    cpl_config_close(c);
}

static void test_every_kind_of_value(void **state)
{
    (void)state;
    cpl_config *c = load_good("# a comment\n"
                              "model: {name: \"a: b # c\", backend: fake, quantized: false}\n"
                              "batching:\n  timeout_ms: 2.5\n  length_aware: true\n"
                              "server:\n  listen: ['127.0.0.1:0', unix:/x/y]\n  limits: {max_pairs: 7}\n"
                              "workers: 3\nnet_threads: null\ntokenizer_pool:\n"
                              "experiment:\n  batch_sizes: [8, 16]\n  concurrency_levels: 4\n"
                              "  sweep:\n    batching.timeout_ms: [5, 10]\n    model.name: ['a: 1', b]\n");
    assert_string_equal(cpl_config_text(c, "model.name"), "a: b # c");
    assert_true(cpl_config_float(c, "batching.timeout_ms") == 2.5);
    assert_true(cpl_config_bool(c, "batching.length_aware_batching"));
    assert_true(cpl_config_bool(c, "batching.length_aware"));
    assert_int_equal(cpl_config_count(c, "server.listen"), 2);
    assert_string_equal(cpl_config_text_at(c, "server.listen", 1), "unix:/x/y");
    assert_int_equal(cpl_config_int(c, "server.limits.max_pairs"), 7);
    assert_int_equal(cpl_config_int(c, "workers"), 3);
    assert_false(cpl_config_given(c, "net_threads"));
    assert_int_equal(cpl_config_int_at(c, "experiment.batch_sizes", 1), 16);
    assert_int_equal(cpl_config_int_at(c, "experiment.concurrency_levels", 0), 4);
    const char *key;
    size_t values;
    assert_true(cpl_config_sweep(c, 0, &key, &values));
    assert_string_equal(key, "batching.timeout_ms");
    assert_int_equal(values, 2);
    assert_string_equal(cpl_config_sweep_value(c, 0, 1), "10");
    assert_true(cpl_config_sweep(c, 1, &key, &values));
    assert_string_equal(cpl_config_sweep_value(c, 1, 0), "\"a: 1\"");
    assert_false(cpl_config_sweep(c, 2, &key, &values));
    /* A sweep leaves the key itself alone. */
    assert_true(cpl_config_float(c, "batching.timeout_ms") == 2.5);
    char origin[160];
    snprintf(origin, sizeof origin, "%s/x.yaml:9", dir);
    assert_string_equal(cpl_config_origin(c, "workers"), origin);
    cpl_config_close(c);
}

static void test_wrong_files_say_where(void **state)
{
    (void)state;
    expect_error("batching:\n  timout_ms: 5\n", "did you mean 'batching.timeout_ms'?", 2, 3);
    expect_error("max_batch_size: 5\n", "did you mean 'batching.max_batch_size'?", 1, 1);
    expect_error("model:\n  max_len: 5\n", "did you mean 'model.max_length'?", 2, 3);
    expect_error("zzzzzz: 5\n", "unknown key 'zzzzzz': `couplet help config`", 1, 1);
    expect_error("server: {port: http}\n", "'server.port' takes a whole number, not 'http'", 1, 16);
    expect_error("server: {port: 70000}\n", "70000 is not in 0..65535", 1, 0);
    expect_error("server: {port: 1.5}\n", "takes a whole number", 1, 0);
    expect_error("server: {port: 0x50}\n", "takes a whole number", 1, 0);
    expect_error("server: {port: 99999999999999999999}\n", "out of range", 1, 0);
    expect_error("batching: {timeout_ms: nan}\n", "takes a number", 1, 0);
    expect_error("batching: {timeout_ms: 1e999}\n", "out of range", 1, 0);
    expect_error("batching: {enabled: yes}\n", "is not true or false", 1, 21);
    expect_error("batching: {policy: gready}\n", "choose one of greedy|timeout|off", 1, 0);
    expect_error("batching: {policy: ''}\n", "choose one of greedy|timeout|off", 1, 0);
    expect_error("batching: 5\n", "'batching' is a section", 1, 1);
    expect_error("server: {port: [1]}\n", "takes one value, not a list", 1, 0);
    expect_error("server: {port: {a: 1}}\n", "plain values", 1, 0);
    expect_error("experiment: {batch_sizes: []}\n", "empty list", 1, 0);
    expect_error("experiment: {batch_sizes: [8, x]}\n", "takes a whole number, not 'x'", 1, 0);
    expect_error("experiment: {sweep: {batching.timout_ms: [1]}}\n", "can't be swept", 1, 22);
    expect_error("experiment: {sweep: {batching.timeout_ms: [1, x]}}\n", "takes a number, not 'x'", 1, 47);
    expect_error("experiment: {sweep: {batching.timeout_ms: 1}}\n", "takes a list of values", 1, 0);
    expect_error("experiment: {sweep: {experiment.seed: [1]}}\n", "can't be swept", 1, 0);
    expect_error("batching: {length_aware: true, length_aware_batching: true}\n", "given twice", 1, 0);
    expect_error("a: &x [1]\nworkers: *x\n", "", 1, 0);
    expect_error("workers: &x 1\nnet_threads: *x\n", "alias", 2, 0);
    expect_error("workers: 1\nworkers: 2\n", "duplicate", 2, 0);
    expect_error("workers: [1\n", "not YAML", 0, 0);
    expect_error("- workers\n", "a configuration is a map", 1, 0);
    expect_error("workers: 1\n---\nworkers: 2\n", "more than one YAML document", 0, 0);
    expect_error("workers: \"\xff\"\n", "byte 10: not UTF-8", 0, 0);
}

static void test_what_is_not_there_is_refused(void **state)
{
    (void)state;
    expect_error("server:\n  api_keys: [x]\n", "'server.api_keys' is not supported in this version", 2, 0);
    expect_error("server: {tls: {key: k.pem}}\n", "'server.tls.key' is not supported in this version", 1, 0);
    expect_error("model_pool: {instances: [{device: mps}]}\n", "'model.device' is 'mps' but", 1, 0);
    expect_error("model_pool: {instances: [{precision: int8}, {}]}\n", "differ in 'model.precision'", 1, 0);
    expect_error("model_pool: {instances: [{}, {}]}\nmodel: {replicas: 2}\n", "say the same thing", 1, 0);
    expect_error("model_pool: {instances: [{}, {}]}\nmodels: [{name: a}, {name: b}]\n", "is about one model", 1, 0);
    expect_error("models: [{name: a}, {precision: int8}]\n", "entry 2 of 'models' has no name", 1, 0);
    expect_error("models: [{name: a}, {name: x/a}]\n", "two entries of 'models' are called 'a'", 1, 0);
    expect_error("models: [{name: a}, {name: b, precison: int8}]\n", "did you mean 'model.precision'", 1, 0);
    expect_error("models:\n- {name: a}\n- {name: b, quantized: true, precision: fp16}\n", "'model.precision'", 0, 0);
    expect_error("models:\n- {name: a}\n- 3\n", "takes the keys of `model`", 3, 0);
    expect_error("model: {device: mps}\n", "'model.device' is 'mps' but 'model.backend' is 'native'", 1, 0);
    expect_error("server: {limits: {message_bytes: 200000000}}\n",
                 "'server.limits.request_bytes' is 268435456, too little for messages of "
                 "'server.limits.message_bytes' (200000000)",
                 1, 0);
    expect_error("server:\n  limits: {request_bytes: 1048576}\n", "'server.limits.request_bytes' is 1048576", 2, 0);
    /* Defaults written out are fine. */
    cpl_config *c = load_good("model_pool: {instances: [], routing_strategy: round_robin}\nexperiment: {mode: full}\n"
                              "server: {api_keys: []}\nmodels: [{name: somewhere, precision: int8}]\n");
    cpl_error err;
    assert_int_equal(cpl_config_check(c, &err), CPL_OK);
    assert_string_equal(cpl_config_text(c, "model.name"), "somewhere");
    assert_string_equal(cpl_config_text(c, "model.precision"), "int8");
    cpl_config_close(c);
}

static void expect_precision(const char *text, const char *wanted)
{
    cpl_error err = {0};
    const char *precision;
    cpl_config *c = load_good(text);
    cpl_status st = cpl_config_precision(c, &precision, &err);
    if (st) print_error("%s\n", err.what);
    assert_int_equal(st, CPL_OK);
    assert_string_equal(precision, wanted);
    cpl_config_close(c);
}

static void expect_policy(const char *text, const char *wanted)
{
    cpl_error err = {0};
    const char *policy;
    cpl_config *c = load_good(text);
    assert_int_equal(cpl_config_policy(c, &policy, &err), CPL_OK);
    assert_string_equal(policy, wanted);
    cpl_config_close(c);
}

static void test_precision(void **state)
{
    (void)state;
    expect_precision("model: {precision: bf16}", "bf16");
    expect_precision("model: {quantized: true}", "int8");
    expect_precision("model: {quantized: true, quantization_mode: int4, precision: int4}", "int4");
    expect_precision("model: {quantized: false, quantization_mode: int4}", "fp32");
    expect_precision("model: {backend: mps, mps: {fp16: true}}", "fp16");
    expect_precision("model: {backend: native, mps: {fp16: true}, mlx: {bits: 4}}", "fp32");
    expect_precision("model: {backend: mlx, mlx: {bits: 16, group_size: 64}}", "fp16");
    expect_error("model: {quantized: true, quantization_mode: int8, precision: fp16}", "'model.precision'", 0, 0);
    expect_error("model: {quantized: true, quantization_mode: int8, precision: fp16}", "'model.quantization_mode'", 0,
                 0);
    expect_error("model: {backend: compiled, compiled: {fp16: true}, precision: int8}", "'model.compiled.fp16'", 0, 0);
    expect_error("model: {backend: mlx, mlx: {bits: 5}}", "choose one of 32, 16, 8, 4", 0, 0);
}

static void test_policy(void **state)
{
    (void)state;
    expect_policy("batching: {enabled: true}", "greedy");
    expect_policy("batching: {enabled: true, max_batch_size: 96, timeout_ms: 20}", "timeout");
    expect_policy("batching: {enabled: false, max_batch_size: 96}", "off");
    expect_policy("batching: {policy: greedy, max_batch_size: 96}", "greedy");
    expect_error("batching: {enabled: false, policy: timeout}", "'batching.policy'", 0, 0);
    expect_error("batching: {enabled: true, policy: off}", "'batching.enabled'", 0, 0);
}

static void test_backend_settings(void **state)
{
    (void)state;
    cpl_config *c =
        load_good("model: {backend: mlx, device: gpu, mlx: {bits: 8, group_size: 32}, onnx: {use_gpu: true}}");
    cpl_buf out = {0};
    assert_int_equal(cpl_config_backend_settings(c, &out), 2);
    assert_int_equal(out.size, sizeof "group_size=32\0device=gpu");
    assert_memory_equal(out.data, "group_size=32\0device=gpu", out.size);
    cpl_buf_deinit(&out);
    cpl_config_close(c);
}

static void test_layers(void **state)
{
    (void)state;
    cpl_config *c;
    cpl_error err = {0};
    write_file("base_config.yaml", "workers: 1\nnet_threads: 2\nserver: {port: 1}\n"
                                   "experiment: {sweep: {workers: [1, 2]}}\n");
    const char *path = write_file("05.yaml", "net_threads: 3\nserver: {port: 2}\n"
                                             "experiment: {sweep: {batching.max_batch_size: [8]}}\n");
    const char *const sets[] = {"server.port=4", "server.listen=['h:1', 'h:2']", "experiment.seed=", NULL};
    assert_int_equal(cpl_config_load(&c, path, true, sets, &err), CPL_OK);
    assert_int_equal(cpl_config_int(c, "workers"), 1);
    assert_int_equal(cpl_config_int(c, "net_threads"), 3);
    assert_int_equal(cpl_config_int(c, "server.port"), 4);
    assert_int_equal(cpl_config_count(c, "server.listen"), 2);
    assert_string_equal(cpl_config_origin(c, "server.port"), "--set");
    assert_non_null(strstr(cpl_config_origin(c, "workers"), "base_config.yaml:1"));
    const char *key;
    size_t values;
    assert_true(cpl_config_sweep(c, 0, &key, &values));
    assert_string_equal(key, "batching.max_batch_size");
    assert_false(cpl_config_sweep(c, 1, &key, &values));
    const char *name = "dir: with # yaml", *listens[] = {"127.0.0.1:0", "unix:/a"};
    assert_int_equal(cpl_config_override(c, "model.name", &name, 1, "--model", &err), CPL_OK);
    assert_int_equal(cpl_config_override(c, "server.listen", listens, 2, "--listen", &err), CPL_OK);
    assert_string_equal(cpl_config_text(c, "model.name"), name);
    assert_string_equal(cpl_config_origin(c, "model.name"), "--model");
    const char *bad = "int9";
    assert_int_equal(cpl_config_override(c, "model.precision", &bad, 1, "--precision", &err), CPL_INVALID);
    assert_non_null(strstr(err.what, "--precision: 'model.precision' can't be 'int9'"));
    cpl_config_close(c);
    /* An error in the base names the base. */
    write_file("base_config.yaml", "\nworker: 1\n");
    assert_int_equal(cpl_config_load(&c, path, true, NULL, &err), CPL_INVALID);
    assert_null(c);
    assert_non_null(strstr(err.what, "base_config.yaml:2:1: unknown key 'worker': did you mean 'workers'?"));
    assert_int_equal(cpl_config_load(&c, path, false, NULL, &err), CPL_OK);
    cpl_config_close(c);
    char gone[160];
    snprintf(gone, sizeof gone, "%s/gone.yaml", dir);
    assert_int_equal(cpl_config_load(&c, gone, false, NULL, &err), CPL_NOT_FOUND);
}

/* Each model is the section `model` with what its entry says on top, whatever said it and when. */
static void test_several_models(void **state)
{
    (void)state;
    cpl_config *c, *m, *again;
    cpl_error err = {0};
    const char *path = write_file("two.yaml", "models:\n- {name: org/small, precision: int8, fake: {fixed_us: 3}}\n"
                                              "- name: fast\n  path: 'some dir/x'\n  max_length: 64\n"
                                              "- {name: third, fake.fixed_us: 4, precision: null}\n"
                                              "model: {backend: fake, max_length: 32}\n");
    const char *const sets[] = {"model.precision=bf16", NULL};
    static const struct {
        const char *name, *place, *precision;
        int64_t max_length, fixed_us;
    } wanted[] = {{"small", "org/small", "int8", 32, 3},
                  {"fast", "some dir/x", "bf16", 64, 0},
                  {"third", "third", "fp32", 32, 4}};
    if (cpl_config_load(&c, path, false, sets, &err)) fail_msg("%s", err.what);
    if (cpl_config_check(c, &err)) fail_msg("%s", err.what);
    cpl_buf text = {0};
    cpl_config_print(c, &text);
    again = load_good(text.data);
    for (int round = 0; round < 2; round++) {
        const cpl_config *whole = round ? again : c;
        assert_int_equal(cpl_config_model_count(whole), 3);
        for (size_t i = 0; i < 3; i++) {
            const char *precision;
            assert_int_equal(cpl_config_model(&m, whole, i, &err), CPL_OK);
            assert_string_equal(cpl_config_model_name(m), wanted[i].name);
            assert_string_equal(cpl_config_model_place(m), wanted[i].place);
            assert_string_equal(cpl_config_text(m, "model.backend"), "fake");
            assert_int_equal(cpl_config_int(m, "model.max_length"), wanted[i].max_length);
            assert_int_equal(cpl_config_int(m, "model.fake.fixed_us"), wanted[i].fixed_us);
            assert_int_equal(cpl_config_precision(m, &precision, &err), CPL_OK);
            /* "null" says: as if never given; printed, it is left out, and the section's word holds again */
            if (i < 2 || !round) assert_string_equal(precision, wanted[i].precision);
            cpl_config_close(m);
        }
    }
    cpl_buf_deinit(&text);
    cpl_config_close(again);
    const char *name = "else";
    assert_int_equal(cpl_config_override(c, "model.name", &name, 1, "--model", &err), CPL_OK);
    assert_int_equal(cpl_config_check(c, &err), CPL_INVALID);
    assert_non_null(strstr(err.what, "--model names one model, but 'models'"));
    cpl_config_close(c);
    /* One entry, or none, is the section itself; what a file lists replaces what it inherits. */
    write_file("base_config.yaml", "models: [{name: a}, {name: b}]\n");
    const char *const more[] = {NULL, "models: []\n", "models: [{name: z}]\n", "models: [{name: c}, {name: d}]\n"};
    static const size_t counts[] = {2, 1, 1, 2};
    for (int i = 0; i < 4; i++) {
        path = write_file("more.yaml", more[i] ? more[i] : "");
        if (cpl_config_load(&c, path, true, NULL, &err)) fail_msg("%s", err.what);
        assert_int_equal(cpl_config_model_count(c), counts[i]);
        assert_int_equal(cpl_config_model(&m, c, 0, &err), CPL_OK);
        assert_string_equal(cpl_config_model_name(m), i == 0 ? "a" : i == 1 ? "all-MiniLM-L6-v2" : i == 2 ? "z" : "c");
        cpl_config_close(m);
        cpl_config_close(c);
    }
    cpl_config *pool =
        load_good("model_pool: {instances: [{precision: int8}, {precision: int8}, {precision: int8}]}\n");
    assert_int_equal(cpl_config_model(&m, pool, 0, &err), CPL_OK);
    assert_int_equal(cpl_config_int(m, "model.replicas"), 3);
    assert_string_equal(cpl_config_text(m, "model.precision"), "int8");
    cpl_config_close(m);
    cpl_config_close(pool);
    cpl_config *none = load_good("models: null\n");
    assert_int_equal(cpl_config_model_count(none), 1);
    cpl_config_close(none);
}

/* A model that is loaded while serving: one that is known changes by what is said, another is the section with that. */
static void test_model_of_a_request(void **state)
{
    (void)state;
    cpl_config *c = load_good("model: {backend: fake, path: section, max_length: 32}\n"
                              "models:\n- {name: a, path: x/y, precision: int8, replicas: 2}\n- {name: org/b}\n");
    static const struct {
        const char *text, *name, *place, *precision;
        int64_t replicas;
    } good[] = {{"{\"name\": \"a\"}", "a", "x/y", "int8", 2},
                {"{\"name\": \"a\", \"path\": \"z\", \"replicas\": 3}", "a", "z", "int8", 3},
                {"{\"name\": \"b\"}", "b", "org/b", "fp32", 1},
                {"name: org/b\nprecision: bf16\n", "b", "org/b", "bf16", 1},
                {"{name: new/one}", "one", "new/one", "fp32", 1},
                {"{name: new/one, path: p}", "new/one", "p", "fp32", 1}};
    static const struct {
        const char *text, *part;
    } bad[] = {{"", "'name' is missing"},
               {"{\"path\": \"x\"}", "'name' is missing"},
               {"[1]", "a map of keys"},
               {"{name: a, weigth: 2}", "request:1:11: unknown key 'model.weigth': did you mean 'model.weight'"},
               {"{name: a, quantized: true, quantization_mode: int4}", "asks for"},
               {"{name: a", "not YAML"}};
    cpl_config *m;
    cpl_error err = {0};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        const char *precision;
        if (cpl_config_model_parse(&m, c, good[i].text, strlen(good[i].text), &err)) fail_msg("%s", err.what);
        assert_string_equal(cpl_config_model_name(m), good[i].name);
        assert_string_equal(cpl_config_model_place(m), good[i].place);
        assert_string_equal(cpl_config_text(m, "model.backend"), "fake");
        assert_int_equal(cpl_config_int(m, "model.max_length"), 32);
        assert_int_equal(cpl_config_int(m, "model.replicas"), good[i].replicas);
        assert_int_equal(cpl_config_precision(m, &precision, &err), CPL_OK);
        assert_string_equal(precision, good[i].precision);
        cpl_config_close(m);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(cpl_config_model_parse(&m, c, bad[i].text, strlen(bad[i].text), &err), CPL_INVALID);
        assert_null(m);
        if (!strstr(err.what, bad[i].part)) print_error("got: %s\n", err.what);
        assert_non_null(strstr(err.what, bad[i].part));
    }
    cpl_config_close(c);
}

static void test_wrong_sets(void **state)
{
    (void)state;
    static const struct {
        const char *set, *part;
    } cases[] = {
        {"workers", "is not KEY=VALUE"},
        {"=3", "is not KEY=VALUE"},
        {"worker=3", "did you mean 'workers'?"},
        {"batching=3", "'batching' is a section"},
        {"workers=x", "--set: 'workers' takes a whole number"},
        {"workers=[", "not YAML"},
        {"experiment.sweep={workers: [a]}", "takes a whole number"},
        {"server.api_keys=[\xff]", "not UTF-8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *const sets[] = {cases[i].set, NULL};
        cpl_config *c;
        cpl_error err = {0};
        assert_int_equal(cpl_config_load(&c, NULL, false, sets, &err), CPL_INVALID);
        if (!strstr(err.what, cases[i].part)) print_error("got: %s\n", err.what);
        assert_non_null(strstr(err.what, cases[i].part));
    }
}

static void test_print_loads_back(void **state)
{
    (void)state;
    cpl_config *c = load_good("model: {name: 'odd: \"name\" #', max_length: 77, score_label: 'true'}\n"
                              "server: {listen: ['[::1]:0']}\nbatching: {policy: off, timeout_ms: 0.5}\n"
                              "experiment: {sweep: {model.name: ['a: b', c], workers: [1, 2]}, description: ''}\n");
    cpl_buf first = {0}, second = {0};
    cpl_config_print(c, &first);
    assert_non_null(strstr(first.data, "  max_length: 77  # "));
    cpl_config *again = load_good(first.data);
    assert_string_equal(cpl_config_text(again, "model.name"), "odd: \"name\" #");
    assert_string_equal(cpl_config_text(again, "model.score_label"), "true");
    assert_string_equal(cpl_config_text_at(again, "server.listen", 0), "[::1]:0");
    assert_string_equal(cpl_config_sweep_value(again, 0, 0), "\"a: b\"");
    for (size_t i = 0; i < cpl_config_key_count; i++) {
        const cpl_config_key *k = &cpl_config_keys[i];
        if (k->type == CPL_CONFIG_INT) assert_int_equal(cpl_config_int(c, k->name), cpl_config_int(again, k->name));
        if (k->type == CPL_CONFIG_BOOL) assert_int_equal(cpl_config_bool(c, k->name), cpl_config_bool(again, k->name));
        if (k->type <= CPL_CONFIG_TEXT || k->type == CPL_CONFIG_CHOICE)
            assert_string_equal(cpl_config_text(c, k->name), cpl_config_text(again, k->name));
    }
    cpl_config_close(c);
    cpl_config_close(again);
    cpl_config_describe(&second);
    for (size_t i = 0; i < cpl_config_key_count; i++) assert_non_null(strstr(second.data, cpl_config_keys[i].name));
    cpl_buf_deinit(&first);
    cpl_buf_deinit(&second);
}

/* No option may be read and ignored: each key that isn't refused must be named somewhere in the program outside the
 * table, except the sections of backends, which cpl_config_backend_settings hands over whole. */
static void test_every_key_is_used(void **state)
{
    (void)state;
    if (access("src/serve/config_keys.c", R_OK)) skip();
    FILE *p = popen("cat src/serve/[!c]*.c src/serve/c*check.c src/serve/c*models.c src/wire/*.c src/lab/*.c "
                    "src/cli/*.c src/lib/*.c 2>/dev/null",
                    "r");
    assert_non_null(p);
    cpl_buf all = {0};
    char chunk[4096];
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, p)) > 0;) cpl_buf_add(&all, chunk, n);
    pclose(p);
    int missing = 0;
    for (size_t i = 0; i < cpl_config_key_count; i++) {
        const cpl_config_key *k = &cpl_config_keys[i];
        if (k->later || k->only || k->type >= CPL_CONFIG_SWEEP) continue;
        if (!strncmp(k->name, "model.onnx.", 11) || !strncmp(k->name, "model.mlx.", 10) ||
            !strncmp(k->name, "model.compiled.", 15) || !strncmp(k->name, "model.mps.", 10) ||
            !strncmp(k->name, "model.fake.", 11) || !strncmp(k->name, "model.native.", 13) ||
            !strncmp(k->name, "model.openvino.", 15))
            continue;
        char quoted[128];
        snprintf(quoted, sizeof quoted, "\"%s\"", k->name);
        if (strstr(all.data, quoted)) continue;
        print_error("'%s' is in the table but nothing reads it\n", k->name);
        missing++;
    }
    cpl_buf_deinit(&all);
    assert_int_equal(missing, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_every_kind_of_value),
        cmocka_unit_test(test_wrong_files_say_where),
        cmocka_unit_test(test_what_is_not_there_is_refused),
        cmocka_unit_test(test_precision),
        cmocka_unit_test(test_policy),
        cmocka_unit_test(test_backend_settings),
        cmocka_unit_test(test_layers),
        cmocka_unit_test(test_several_models),
        cmocka_unit_test(test_model_of_a_request),
        cmocka_unit_test(test_wrong_sets),
        cmocka_unit_test(test_print_loads_back),
        cmocka_unit_test(test_every_key_is_used),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
