/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_export.c - `couplet export`: a model as the ONNX graph that couplet's own plug-ins give their runtimes, for
 * anybody else's: checkers, other runtimes, and benches that set couplet beside a runtime used directly. */
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "cli/options.h"
#include "cli/scorer_flags.h"
#include "model/locate.h"
#include "model/onnx.h"

static cpl_status numbers_of(cpl_onnx_numbers *out, const char *name, cpl_error *err)
{
    static const char *const names[] = {"fp32", "fp16", "int8"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) != 0) continue;
        *out = (cpl_onnx_numbers)i;
        return CPL_OK;
    }
    return cpl_fail(err, CPL_INVALID, "unknown precision '%s' of an ONNX graph: fp32, fp16 or int8", name);
}

static cpl_status export(const cpl_args *a, cpl_error *err)
{
    char dir[4096];
    cpl_model *model = NULL;
    cpl_buf graph = {0};
    cpl_onnx_options options = {.tokens = cpl_args_switch(a, "tokens"), .seven_bits = cpl_args_switch(a, "seven-bits")};
    if (cpl_args_positional_count(a) != 1) return cpl_fail(err, CPL_INVALID, "name one file to write");
    cpl_status st = numbers_of(&options.numbers, cpl_args_text(a, "precision"), err);
    if (!st) st = cpl_model_locate(dir, sizeof dir, cpl_args_text(a, "model"), false, NULL, err);
    if (!st) st = cpl_model_open(&model, dir, err);
    if (!st) st = cpl_onnx_write(&graph, model, &options, err);
    if (!st) st = cpl_file_write(cpl_args_positional(a, 0), graph.data, graph.size, err);
    cpl_buf_deinit(&graph);
    cpl_model_close(model);
    return st;
}

static int run(const cpl_args *a)
{
    cpl_error err;
    return export(a, &err) ? cpl_cli_fail(&err) : 0;
}

static const cpl_flag flags[] = {
    {"model", CPL_FLAG_TEXT, "DIR", CPL_DEFAULT_MODEL, "model directory, or a cached model's id"},
    {"precision", CPL_FLAG_TEXT, "NAME", "fp32", "fp32, fp16, or int8 with dynamic quantisation"},
    {"tokens", CPL_FLAG_SWITCH, NULL, NULL, "the last hidden states as output, instead of logits or pooled vectors"},
    {"seven-bits", CPL_FLAG_SWITCH, NULL, NULL, "int8: weights of 7 bits, for x86 without VNNI"},
    {0},
};

const cpl_command cpl_command_export = {
    .name = "export",
    .summary = "a model as an ONNX graph",
    .positional = "FILE",
    .flags = flags,
    .details =
        "Writes the graph that the onnx and openvino plug-ins give their runtimes: inputs input_ids, attention_mask "
        "and token_type_ids, int64 [batch, sequence] of any size; output logits [batch, labels] or pooled "
        "[batch, hidden], not normalised, or with --tokens tokens [batch, sequence, hidden].",
    .run = run,
};
