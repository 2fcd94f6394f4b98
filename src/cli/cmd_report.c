/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_report.c - `couplet report`: every generated page, made anew from the results. */
#include <stdio.h>

#include "base/error.h"
#include "cli/options.h"
#include "lab/summary.h"

static const cpl_flag flags[] = {
    {"results", CPL_FLAG_TEXT, "DIR", "docs/experiments", "folder of NAME.json; the pages are written beside them"},
    {"experiments", CPL_FLAG_TEXT, "DIR", "experiments", "folder whose README.md shows the progression"},
    {"json", CPL_FLAG_SWITCH, NULL, NULL, "print one JSON document"},
    {NULL, CPL_FLAG_SWITCH, NULL, NULL, NULL},
};

static int run(const cpl_args *args)
{
    cpl_error err;
    size_t count = 0;
    const char *dir = cpl_args_text(args, "results"), *experiments = cpl_args_text(args, "experiments");
    if (cpl_lab_report(dir, experiments, &count, &err)) return cpl_cli_fail(&err);
    if (cpl_args_switch(args, "json"))
        printf("{\"results\": %zu}\n", count);
    else
        printf("%zu results: wrote their pages, %s/summary.md and %s/README.md\n", count, dir, experiments);
    return 0;
}

const cpl_command cpl_command_report = {
    .name = "report",
    .summary = "write the pages over all experiments from their results",
    .flags = flags,
    .details = "Reads every result in --results and writes NAME.md for each, summary.md (executive summary, findings "
               "with their evidence, comparisons, what works here, platform x precision, recommendations, next steps) "
               "and the README.md of the experiments' folder. Nothing but the results is looked at.",
    .run = run,
};
