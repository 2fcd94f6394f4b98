/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_help.c - `couplet help`: the overview, one command, the settings, a man page or shell completion. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "cli/commands.h"
#include "serve/config.h"

static int run(const cpl_args *a)
{
    cpl_buf out = {0};
    cpl_error err;
    cpl_error_clear(&err);
    const char *shell = cpl_args_text(a, "completion");
    size_t n = cpl_args_positional_count(a);
    const cpl_command *c = NULL;
    cpl_status st = CPL_OK;
    bool settings = n == 1 && !strcmp(cpl_args_positional(a, 0), "config");
    if (n && !settings) {
        char *words[2] = {(char *)cpl_args_positional(a, 0), n > 1 ? (char *)cpl_args_positional(a, 1) : NULL};
        int used;
        c = cpl_command_find(n > 1 ? 2 : 1, words, &used);
        if (!c)
            st = cpl_fail(&err, CPL_INVALID, "unknown command '%s%s%s': 'couplet help' lists them", words[0],
                          n > 1 ? " " : "", n > 1 ? words[1] : "");
    }
    if (st == CPL_OK && shell)
        st = cpl_help_completion(shell, &out, &err);
    else if (st == CPL_OK && cpl_args_switch(a, "man"))
        cpl_help_man(c, &out);
    else if (st == CPL_OK && cpl_args_switch(a, "list"))
        for (size_t i = 0; cpl_commands()[i]; i++) cpl_buf_print(&out, "%s\n", cpl_commands()[i]->name);
    else if (st == CPL_OK && settings)
        cpl_config_describe(&out);
    else if (st == CPL_OK && c)
        cpl_help_command(c, &out);
    else if (st == CPL_OK)
        cpl_help_overview(&out);
    if (st == CPL_OK) st = cpl_buf_status(&out, &err);
    if (st == CPL_OK) fwrite(out.data, 1, out.size, stdout);
    cpl_buf_deinit(&out);
    return st ? cpl_cli_fail(&err) : 0;
}

static const cpl_flag flags[] = {
    {"man", CPL_FLAG_SWITCH, NULL, NULL, "as a man page (roff)"},
    {"list", CPL_FLAG_SWITCH, NULL, NULL, "only the names of all commands, one a line"},
    {"completion", CPL_FLAG_TEXT, "SHELL", NULL, "a completion script for bash, zsh or fish"},
    {0},
};

const cpl_command cpl_command_help = {
    .name = "help",
    .summary = "describes the commands; man pages and shell completion come from here",
    .positional = "[COMMAND]",
    .details = "'couplet help config' lists every setting of configuration and experiment files, with type, default, "
               "range and meaning.",
    .flags = flags,
    .run = run,
};
