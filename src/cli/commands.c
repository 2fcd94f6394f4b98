/* SPDX-License-Identifier: Apache-2.0 */
/* commands.c - the list of subcommands and everything that is written from it: help, man pages, shell completion.
 * The one idea: a cpl_command is the only description of a command, so these can't go stale. No state. */
#include "cli/commands.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"

extern const cpl_command cpl_command_serve, cpl_command_score, cpl_command_rank, cpl_command_embed,
    cpl_command_tokenize, cpl_command_bench_engine, cpl_command_bench_kernel, cpl_command_bench_quality,
    cpl_command_bench_tokenizer, cpl_command_calibrate, cpl_command_load, cpl_command_experiment_run,
    cpl_command_experiment_list, cpl_command_experiment_check, cpl_command_experiment_compare, cpl_command_report,
    cpl_command_tune, cpl_command_doctor, cpl_command_export;

static const cpl_command *const commands[] = {
    &cpl_command_serve,
    &cpl_command_score,
    &cpl_command_rank,
    &cpl_command_embed,
    &cpl_command_tokenize,
    &cpl_command_bench_engine,
    &cpl_command_bench_kernel,
    &cpl_command_bench_quality,
    &cpl_command_bench_tokenizer,
    &cpl_command_calibrate,
    &cpl_command_load,
    &cpl_command_experiment_run,
    &cpl_command_experiment_list,
    &cpl_command_experiment_check,
    &cpl_command_experiment_compare,
    &cpl_command_report,
    &cpl_command_tune,
    &cpl_command_export,
    &cpl_command_doctor,
    &cpl_command_help,
    NULL,
};

const cpl_command *const *cpl_commands(void) { return commands; }

const cpl_command *cpl_command_find(int argc, char **argv, int *words)
{
    if (argc < 1) return NULL;
    for (size_t i = 0; commands[i]; i++) {
        const char *name = commands[i]->name, *space = strchr(name, ' ');
        size_t first = space ? (size_t)(space - name) : strlen(name);
        if (strlen(argv[0]) != first || memcmp(argv[0], name, first) != 0) continue;
        if (space && (argc < 2 || strcmp(argv[1], space + 1) != 0)) continue;
        *words = space ? 2 : 1;
        return commands[i];
    }
    return NULL;
}

/* ---- help ---------------------------------------------------------------------------------------------------- */

void cpl_help_overview(cpl_buf *out)
{
    cpl_buf_print(out,
                  "couplet %s - scores pairs of texts, and measures how fast\n\n"
                  "usage: couplet COMMAND [OPTIONS]\n\n",
                  cpl_version());
    for (size_t i = 0; commands[i]; i++) cpl_buf_print(out, "  %-18s %s\n", commands[i]->name, commands[i]->summary);
    cpl_buf_text(out, "\n'couplet help COMMAND' describes one; 'couplet --version' prints the version.\n");
}

static void synopsis(const cpl_command *c, cpl_buf *out)
{
    cpl_buf_print(out, "couplet %s%s%s%s", c->name, c->flags && c->flags[0].name ? " [OPTIONS]" : "",
                  c->positional ? " " : "", c->positional ? c->positional : "");
}

/* "--threads N" */
static void flag_form(const cpl_flag *f, char *text, size_t cap)
{
    snprintf(text, cap, "--%s%s%s", f->name, f->metavar ? " " : "", f->metavar ? f->metavar : "");
}

void cpl_help_command(const cpl_command *c, cpl_buf *out)
{
    cpl_buf_print(out, "couplet %s - %s\n\nusage: ", c->name, c->summary);
    synopsis(c, out);
    cpl_buf_text(out, "\n");
    if (c->flags && c->flags[0].name) cpl_buf_text(out, "\n");
    for (const cpl_flag *f = c->flags; f && f->name; f++) {
        char form[80];
        flag_form(f, form, sizeof form);
        cpl_buf_print(out, "  %-26s %s%s", form, strlen(form) > 26 ? "\n                             " : "", f->help);
        if (f->kind == CPL_FLAG_LIST) cpl_buf_text(out, " (repeatable)");
        if (f->fallback) cpl_buf_print(out, " (default: %s)", f->fallback);
        cpl_buf_text(out, "\n");
    }
    if (c->details) cpl_buf_print(out, "\n%s\n", c->details);
}

/* ---- man pages ------------------------------------------------------------------------------------------------ */

/* Text with roff's own characters made plain; a line that starts with '.' or '\'' would be a request. */
static void roff(cpl_buf *out, const char *text)
{
    bool line_start = true;
    for (const char *p = text; *p; p++) {
        if (line_start && (*p == '.' || *p == '\'')) cpl_buf_text(out, "\\&");
        if (*p == '\\')
            cpl_buf_text(out, "\\e");
        else if (*p == '-')
            cpl_buf_text(out, "\\-");
        else
            cpl_buf_add(out, p, 1);
        line_start = *p == '\n';
    }
}

static void man_head(const char *name, const char *summary, cpl_buf *out)
{
    cpl_buf_print(out, ".TH COUPLET 1 \"\" \"couplet %s\" \"User Commands\"\n.SH NAME\n", cpl_version());
    roff(out, name);
    cpl_buf_text(out, " \\- ");
    roff(out, summary);
    cpl_buf_text(out, "\n.SH SYNOPSIS\n.nf\n");
}

static void man_command(const cpl_command *c, cpl_buf *out)
{
    char name[64];
    snprintf(name, sizeof name, "couplet-%s", c->name);
    for (char *p = name; *p; p++)
        if (*p == ' ') *p = '-';
    man_head(name, c->summary, out);
    cpl_buf line = {0};
    synopsis(c, &line);
    if (line.data) roff(out, line.data);
    out->failed |= line.failed;
    cpl_buf_deinit(&line);
    cpl_buf_text(out, "\n.fi\n");
    if (c->flags && c->flags[0].name) cpl_buf_text(out, ".SH OPTIONS\n");
    for (const cpl_flag *f = c->flags; f && f->name; f++) {
        char form[80];
        flag_form(f, form, sizeof form);
        cpl_buf_text(out, ".TP\n.B ");
        roff(out, form);
        cpl_buf_text(out, "\n");
        roff(out, f->help);
        if (f->kind == CPL_FLAG_LIST) cpl_buf_text(out, " (repeatable)");
        if (f->fallback) {
            cpl_buf_text(out, " (default: ");
            roff(out, f->fallback);
            cpl_buf_text(out, ")");
        }
        cpl_buf_text(out, ".\n");
    }
    if (!c->details) return;
    cpl_buf_text(out, ".SH DESCRIPTION\n.nf\n");
    roff(out, c->details);
    cpl_buf_text(out, "\n.fi\n");
}

void cpl_help_man(const cpl_command *c, cpl_buf *out)
{
    if (c) {
        man_command(c, out);
        return;
    }
    man_head("couplet", "scores pairs of texts, and measures how fast", out);
    cpl_buf_text(out, "couplet COMMAND [OPTIONS]\n.fi\n.SH COMMANDS\n");
    for (size_t i = 0; commands[i]; i++) {
        cpl_buf_text(out, ".TP\n.B ");
        roff(out, commands[i]->name);
        cpl_buf_text(out, "\n");
        roff(out, commands[i]->summary);
        cpl_buf_text(out, ".\n");
    }
}

/* ---- completion ----------------------------------------------------------------------------------------------- */

static void bash(cpl_buf *out)
{
    cpl_buf_text(out,
                 "_couplet()\n{\n    local word=${COMP_WORDS[COMP_CWORD]} one=${COMP_WORDS[1]} two=${COMP_WORDS[2]}\n"
                 "    local words=\n    case \"$one $two \" in\n");
    for (int pass = 0; pass < 2; pass++) { /* two-word names first: the first pattern that fits wins */
        for (size_t i = 0; commands[i]; i++) {
            const cpl_command *c = commands[i];
            if ((strchr(c->name, ' ') != NULL) != (pass == 0)) continue;
            cpl_buf_print(out, "    \"%s \"*) words=\"", c->name);
            for (const cpl_flag *f = c->flags; f && f->name; f++) cpl_buf_print(out, "--%s ", f->name);
            cpl_buf_text(out, "\" ;;\n");
        }
    }
    cpl_buf_text(out, "    esac\n    if [ \"$COMP_CWORD\" = 1 ]; then\n        words=\"");
    for (size_t i = 0; commands[i]; i++) {
        const char *name = commands[i]->name, *space = strchr(name, ' ');
        cpl_buf_print(out, "%.*s ", (int)(space ? space - name : (long)strlen(name)), name);
    }
    cpl_buf_text(out, "\"\n    elif [ \"$COMP_CWORD\" = 2 ]; then\n        case \"$one\" in\n");
    for (size_t i = 0; commands[i]; i++) {
        const char *name = commands[i]->name, *space = strchr(name, ' ');
        if (space) cpl_buf_print(out, "        %.*s) words=\"$words %s\" ;;&\n", (int)(space - name), name, space + 1);
    }
    cpl_buf_text(
        out, "        esac\n    fi\n    COMPREPLY=($(compgen -W \"$words\" -- \"$word\") $(compgen -f -- \"$word\"))\n"
             "}\ncomplete -o filenames -F _couplet couplet\n");
}

static void fish(cpl_buf *out)
{
    for (size_t i = 0; commands[i]; i++) {
        const cpl_command *c = commands[i];
        const char *space = strchr(c->name, ' ');
        int n = (int)(space ? space - c->name : (long)strlen(c->name));
        cpl_buf_print(out, "complete -c couplet -n __fish_use_subcommand -a %.*s", n, c->name);
        if (!space) cpl_buf_print(out, " -d '%s'", c->summary);
        cpl_buf_text(out, "\n");
        if (space)
            cpl_buf_print(out, "complete -c couplet -n '__fish_seen_subcommand_from %.*s' -a %s -d '%s'\n", n, c->name,
                          space + 1, c->summary);
        for (const cpl_flag *f = c->flags; f && f->name; f++)
            cpl_buf_print(out, "complete -c couplet -n '__fish_seen_subcommand_from %s' -l %s%s\n",
                          space ? space + 1 : c->name, f->name, f->kind == CPL_FLAG_SWITCH ? "" : " -r");
    }
}

cpl_status cpl_help_completion(const char *shell, cpl_buf *out, cpl_error *err)
{
    if (strcmp(shell, "bash") == 0) {
        bash(out);
    } else if (strcmp(shell, "zsh") == 0) {
        cpl_buf_text(out, "#compdef couplet\nautoload -U +X bashcompinit && bashcompinit\n");
        bash(out);
    } else if (strcmp(shell, "fish") == 0) {
        fish(out);
    } else {
        return cpl_fail(err, CPL_INVALID, "unknown shell '%s': expected bash, zsh or fish", shell);
    }
    return cpl_buf_status(out, err);
}
