/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_experiment_compare.c - `couplet experiment compare OLD NEW`: results held against each other, row by row, and a
 * gate for a build that must not get slower. Threads: the main one. */
#include <stdio.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/file.h"
#include "cli/options.h"
#include "lab/compare.h"

/* A result file, or a folder of them. */
static cpl_status load(cpl_lab_results *out, const char *path, cpl_error *err)
{
    struct stat info;
    if (!stat(path, &info) && S_ISDIR(info.st_mode)) return cpl_lab_results_load(out, path, err);
    cpl_buf text = {0};
    cpl_lab_result *r = NULL;
    cpl_status st = cpl_file_read(&text, path, 64 << 20, err);
    if (!st) st = cpl_lab_result_parse(&r, path, text.data, text.size, err);
    cpl_buf_deinit(&text);
    return st ? st : cpl_lab_results_add(out, r, err);
}

static int run(const cpl_args *args)
{
    cpl_error err;
    cpl_lab_results old = {0}, next = {0};
    cpl_lab_comparisons all = {0};
    cpl_buf out = {0};
    const size_t n = cpl_args_positional_count(args);
    cpl_status st =
        n == 1 || n == 2 ? CPL_OK : cpl_fail(&err, CPL_INVALID, "give OLD and NEW, or one result of a sweep");
    if (!st) st = load(&old, cpl_args_positional(args, 0), &err);
    if (!st && n == 2) st = load(&next, cpl_args_positional(args, 1), &err);
    if (!st)
        st =
            cpl_lab_comparisons_make(&all, &old, n == 2 ? &next : NULL, cpl_args_number(args, "threshold") / 100, &err);
    if (!st && cpl_args_switch(args, "json")) cpl_lab_comparisons_json(&all, &out);
    if (!st && !cpl_args_switch(args, "json")) cpl_lab_comparisons_text(&all, &out);
    if (!st) st = cpl_buf_status(&out, &err);
    if (!st) fputs(out.data, stdout);
    const size_t regressions = all.regressions;
    cpl_buf_deinit(&out);
    cpl_lab_comparisons_deinit(&all);
    cpl_lab_results_deinit(&old);
    cpl_lab_results_deinit(&next);
    if (st) return cpl_cli_fail(&err);
    return regressions ? 1 : 0;
}

static const cpl_flag flags[] = {
    {"threshold", CPL_FLAG_NUMBER, "PERCENT", "0",
     "a regression is worse by more than this even at its interval's near end"},
    {"json", CPL_FLAG_SWITCH, NULL, NULL, "print one JSON document"},
    {NULL, CPL_FLAG_SWITCH, NULL, NULL, NULL},
};

const cpl_command cpl_command_experiment_compare = {
    .name = "experiment compare",
    .summary = "compare results row by row: better, worse or no difference",
    .positional = "OLD [NEW]",
    .flags = flags,
    .details =
        "OLD and NEW are results (NAME.json) or folders of them; rows of the same experiment, setting, batch and "
        "load are compared; two single files needn't have the same name. With OLD alone, a sweep: each setting "
        "against the first. For each row the ratio new over old of throughput and of the latency's 50th, 95th and "
        "99th percentile, with a 95 % interval from a seeded bootstrap over rounds, whose latencies are merged "
        "and never averaged; rounds that alternated are drawn together.\n\nExit status 1 when something is a "
        "regression, or when the two have no row in common.",
    .run = run,
};
