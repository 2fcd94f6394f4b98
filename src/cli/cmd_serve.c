/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_serve.c - `couplet serve`: flags into a configuration, the configuration into a server.
 * The one idea: a flag is a setting under another name (--model is model.name), so precedence is one chain: defaults,
 * base_config.yaml, the file, --set, flags. Threads: the main one. */
#include <errno.h>
#include <stdio.h>

#include "base/error.h"
#include "cli/options.h"
#include "serve/service.h"

static const cpl_flag flags[] = {
    {"config", CPL_FLAG_TEXT, "FILE", NULL, "settings in YAML"},
    {"experiment", CPL_FLAG_TEXT, "FILE", NULL,
     "the server part of an experiment file, with the base_config.yaml beside it"},
    {"model", CPL_FLAG_TEXT, "DIR_OR_ID", NULL, "model.name: a directory, or a name found in models/ or the hub cache"},
    {"backend", CPL_FLAG_TEXT, "NAME", NULL, "model.backend"},
    {"precision", CPL_FLAG_TEXT, "NAME", NULL, "model.precision: fp32, bf16, fp16, fp8, int8, int4 or auto"},
    {"threads", CPL_FLAG_TEXT, "N", NULL, "workers: threads that run forward passes; 0 is one a core"},
    {"listen", CPL_FLAG_LIST, "ADDRESS", NULL, "HOST:PORT, [V6]:PORT or unix:PATH; port 0 takes a free one"},
    {"set", CPL_FLAG_LIST, "KEY=VALUE", NULL, "any setting by its full name (`couplet help config`)"},
    {"print-config", CPL_FLAG_SWITCH, NULL, NULL,
     "print the effective configuration with where each value came from, and stop"},
    {NULL, CPL_FLAG_SWITCH, NULL, NULL, NULL},
};

static cpl_status apply_flags(cpl_config *c, const cpl_args *args, cpl_error *err)
{
    static const struct {
        const char *flag, *key, *origin;
    } texts[] = {
        {"model", "model.name", "--model"},
        {"backend", "model.backend", "--backend"},
        {"precision", "model.precision", "--precision"},
        {"threads", "workers", "--threads"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const char *value = cpl_args_text(args, texts[i].flag);
        cpl_status st = value ? cpl_config_override(c, texts[i].key, &value, 1, texts[i].origin, err) : CPL_OK;
        if (st) return st;
    }
    const char *const *listen = cpl_args_list(args, "listen");
    size_t n = 0;
    while (listen[n]) n++;
    return n ? cpl_config_override(c, "server.listen", listen, n, "--listen", err) : CPL_OK;
}

static cpl_status print_config(const cpl_config *c, cpl_error *err)
{
    cpl_buf out = {0};
    cpl_status st = cpl_config_check(c, err);
    cpl_config_print(c, &out);
    if (!st) st = cpl_buf_status(&out, err);
    if (!st) fwrite(out.data, 1, out.size, stdout);
    cpl_buf_deinit(&out);
    return st;
}

static cpl_status announce(const cpl_service *s, cpl_error *err)
{
    for (size_t i = 0; cpl_service_address(s, i); i++)
        printf("listening on %s (grpc, http)\n", cpl_service_address(s, i));
    return fflush(stdout) ? cpl_fail_errno(err, "standard output", errno, "can't say that the server listens") : CPL_OK;
}

static int run(const cpl_args *args)
{
    cpl_error err;
    cpl_config *c = NULL;
    const char *file = cpl_args_text(args, "config"), *experiment = cpl_args_text(args, "experiment");
    cpl_status st = CPL_OK;
    if (file && experiment) st = cpl_fail(&err, CPL_INVALID, "--config and --experiment together: give one of them");
    if (!st)
        st = cpl_config_load(&c, experiment ? experiment : file, experiment != NULL, cpl_args_list(args, "set"), &err);
    if (!st) st = apply_flags(c, args, &err);
    if (!st && cpl_args_switch(args, "print-config"))
        st = print_config(c, &err);
    else if (!st)
        st = cpl_serve_run(c, experiment != NULL, announce, &err);
    cpl_config_close(c);
    return st ? cpl_cli_fail(&err) : 0;
}

const cpl_command cpl_command_serve = {
    .name = "serve",
    .summary = "score pairs over gRPC and HTTP",
    .flags = flags,
    .details =
        "Prints 'listening on ADDRESS (grpc, http)' on stdout for each address once the model has scored a first pair; "
        "logs "
        "go to stderr. SIGTERM and SIGINT end it after the requests in flight are answered.\n\n"
        "Settings come from, each overriding the one before: defaults, the file's base_config.yaml (with "
        "--experiment), the file, --set, the other flags. An experiment that asks for "
        "cross-encoder/ms-marco-MiniLM-L-6-v2 where it can't be found gets the seeded cross-encoder, and the log "
        "says so.",
    .run = run,
};
