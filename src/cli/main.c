/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - finds the subcommand, parses its flags, runs it. Exit status: 0 done, 1 failed, 2 wrong usage. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "cli/commands.h"

static int overview(FILE *to, int status)
{
    cpl_buf out = {0};
    cpl_help_overview(&out);
    if (out.data) fwrite(out.data, 1, out.size, to);
    cpl_buf_deinit(&out);
    return status;
}

static int unknown_command(int argc, char **argv)
{
    size_t n = strlen(argv[1]);
    bool group = false; /* "bench" alone is the start of a two-word name */
    for (size_t i = 0; cpl_commands()[i]; i++) {
        const char *name = cpl_commands()[i]->name;
        if (strncmp(name, argv[1], n) == 0 && name[n] == ' ') {
            fprintf(stderr, "%s couplet %s - %s\n", group ? "      " : "usage:", name, cpl_commands()[i]->summary);
            group = true;
        }
    }
    if (group && argc > 2) fprintf(stderr, "couplet: unknown command '%s %s'\n", argv[1], argv[2]);
    if (!group) fprintf(stderr, "couplet: unknown command '%s': 'couplet help' lists them\n", argv[1]);
    return 2;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) return overview(stderr, 2);
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "version") == 0) {
        printf("couplet %s\n", cpl_version());
        return 0;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) return overview(stdout, 0);
    int words = 0;
    const cpl_command *c = cpl_command_find(argc - 1, argv + 1, &words);
    if (!c) return unknown_command(argc, argv);
    if (argc > 1 + words && (strcmp(argv[1 + words], "--help") == 0 || strcmp(argv[1 + words], "-h") == 0)) {
        cpl_buf out = {0};
        cpl_help_command(c, &out);
        if (out.data) fwrite(out.data, 1, out.size, stdout);
        cpl_buf_deinit(&out);
        return 0;
    }
    cpl_error err;
    cpl_args *args;
    if (cpl_args_parse(&args, c, argc - 1 - words, argv + 1 + words, &err)) return cpl_cli_fail(&err);
    int status = c->run(args);
    if (fflush(stdout) && status == 0) {
        fprintf(stderr, "couplet: can't write standard output\n");
        status = 1;
    }
    cpl_args_close(args);
    return status;
}
