/* SPDX-License-Identifier: Apache-2.0 */
/* options.h - a subcommand described once: parsing, `couplet help`, man pages and shell completion all read this.
 *
 * A command file defines one `const cpl_command cpl_command_NAME` (src/cli/cmd_NAME.c) and main.c lists it. */
#ifndef CPL_CLI_OPTIONS_H
#define CPL_CLI_OPTIONS_H

#include <stdbool.h>

#include "couplet.h"

typedef enum cpl_flag_kind {
    CPL_FLAG_SWITCH, /* --json */
    CPL_FLAG_TEXT,   /* --model DIR */
    CPL_FLAG_COUNT,  /* --threads N: a whole number, 0 allowed */
    CPL_FLAG_NUMBER, /* --seconds S: decimal, not negative */
    CPL_FLAG_LIST    /* --set KEY=VALUE, repeatable */
} cpl_flag_kind;

typedef struct cpl_flag {
    const char *name; /* without the dashes; NULL ends a table */
    cpl_flag_kind kind;
    const char *metavar;  /* "DIR"; NULL for a switch */
    const char *fallback; /* value when not given, as text, or NULL; shown in help */
    const char *help;     /* one sentence, lower case, no full stop */
} cpl_flag;

typedef struct cpl_args cpl_args;

typedef struct cpl_command {
    const char *name;       /* "serve", "bench engine" */
    const char *summary;    /* one line */
    const char *positional; /* "FILE..." or NULL: none allowed */
    const cpl_flag *flags;
    const char *details;              /* paragraphs for help and man page; may be NULL */
    int (*run)(const cpl_args *args); /* exit status: 0 done, 1 failed, 2 wrong usage */
} cpl_command;

/* Parses what follows the command's name. `--name value`, `--name=value`, `--` ends flags. Unknown flags get the
 * nearest known one in the error. */
cpl_status cpl_args_parse(cpl_args **out, const cpl_command *command, int argc, char **argv, cpl_error *err);
void cpl_args_close(cpl_args *a);

/* Values by flag name; a name that isn't in the table, or of another kind, is an assertion. */
bool cpl_args_given(const cpl_args *a, const char *name);
bool cpl_args_switch(const cpl_args *a, const char *name);
const char *cpl_args_text(const cpl_args *a, const char *name); /* NULL when neither given nor with a fallback */
uint64_t cpl_args_count(const cpl_args *a, const char *name);   /* 0 likewise */
double cpl_args_number(const cpl_args *a, const char *name);
const char *const *cpl_args_list(const cpl_args *a, const char *name); /* NULL-terminated, never NULL */
size_t cpl_args_positional_count(const cpl_args *a);
const char *cpl_args_positional(const cpl_args *a, size_t i);

/* Prints "couplet: SENTENCE" to stderr and returns 1 (2 when the status is CPL_INVALID and usage is true). */
int cpl_cli_fail(const cpl_error *err);
/* A log that writes "couplet: [warn] ..." lines to stderr. level: "error", "warn", "info", "debug" or NULL (warn, or
 * $COUPLET_LOG). */
const cpl_log *cpl_cli_log(cpl_log *storage, const char *level);

#endif
