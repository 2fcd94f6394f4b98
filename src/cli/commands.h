/* SPDX-License-Identifier: Apache-2.0 */
/* commands.h - the list of subcommands, and what is made from it: help, man pages, shell completion. */
#ifndef CPL_CLI_COMMANDS_H
#define CPL_CLI_COMMANDS_H

#include "base/buf.h"
#include "cli/options.h"

/* NULL-terminated, in the order help shows them. */
const cpl_command *const *cpl_commands(void);
/* The command that argv starts with ("bench engine" takes two words), or NULL; *words says how many it took. */
const cpl_command *cpl_command_find(int argc, char **argv, int *words);

void cpl_help_overview(cpl_buf *out);
void cpl_help_command(const cpl_command *c, cpl_buf *out);
/* roff: couplet(1) with c NULL, else couplet-NAME(1). */
void cpl_help_man(const cpl_command *c, cpl_buf *out);
/* shell: "bash", "zsh" or "fish"; anything else is CPL_INVALID. */
cpl_status cpl_help_completion(const char *shell, cpl_buf *out, cpl_error *err);

extern const cpl_command cpl_command_help;

#endif
