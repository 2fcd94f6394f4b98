/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_report.c - `couplet report`: every generated page, made anew from the results. */
#include <stdio.h>

#include "base/error.h"
#include "cli/options.h"
#include "lab/summary.h"

static const cpl_flag flags[] = {
    {"results", CPL_FLAG_TEXT, "DIR", "docs/experiments", "folder of NAME.json; the pages are written beside them"},
    {"experiments", CPL_FLAG_TEXT, "DIR", "experiments", "folder whose README.md shows the progression"},
    {"price-per-hour", CPL_FLAG_NUMBER, "PRICE", "0", "of this machine, for the cost of a million pairs; 0: not given"},
    {"currency", CPL_FLAG_TEXT, "NAME", "USD", "of that price"},
    {"json", CPL_FLAG_SWITCH, NULL, NULL, "print one JSON document"},
    {NULL, CPL_FLAG_SWITCH, NULL, NULL, NULL},
};

static int run(const cpl_args *args)
{
    cpl_error err;
    size_t count = 0;
    const char *dir = cpl_args_text(args, "results"), *experiments = cpl_args_text(args, "experiments");
    const cpl_lab_report_options options = {
        .dir = dir,
        .experiments_dir = experiments,
        .index = {cpl_args_number(args, "price-per-hour"), cpl_args_text(args, "currency")}};
    const char *plots = "";
    if (cpl_lab_report(&options, &count, &plots, &err)) return cpl_cli_fail(&err);
    if (cpl_args_switch(args, "json"))
        printf("{\"results\": %zu}\n", count);
    else
        printf("%zu results: wrote their pages, %s/index.html, summary.md, rows.csv, rows.json and %s/README.md\n%s",
               count, dir, experiments, plots);
    return 0;
}

const cpl_command cpl_command_report = {
    .name = "report",
    .summary = "write the pages over all experiments from their results",
    .flags = flags,
    .details = "Reads every result in --results and writes NAME.md for each, summary.md (executive summary, findings "
               "with their evidence, comparisons, what works here, platform x precision, recommendations, next steps), "
               "index.html (all of it as figures and tables: one file that needs nothing else), rows.csv and rows.json "
               "(every row) and the README.md of the experiments' folder. Nothing but the results is looked at.\n\n"
               "Where gnuplot is installed the pages in Markdown get figures too, plots/NAME.svg and .png.",
    .run = run,
};
