/* SPDX-License-Identifier: Apache-2.0 */
/* options.c - parses one command's flags against its table. The one idea: the table is the only description, so help,
 * man pages, completion and parsing can't disagree. Errors name the flag and, for a typo, the nearest one. */
#include "cli/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/edit_distance.h"
#include "base/error.h"

typedef struct flag_value {
    const char *text;  /* last value given */
    const char **list; /* LIST: NULL-terminated */
    size_t list_count;
    uint64_t count;
    double number;
    bool given;
} flag_value;

struct cpl_args {
    const cpl_command *command;
    flag_value *values;
    const char **positional;
    size_t positional_count;
};

static size_t flag_total(const cpl_command *c)
{
    size_t n = 0;
    while (c->flags && c->flags[n].name) n++;
    return n;
}

void cpl_args_close(cpl_args *a)
{
    if (!a) return;
    for (size_t i = 0; a->values && i < flag_total(a->command); i++) free(a->values[i].list);
    free(a->values);
    free(a->positional);
    free(a);
}

static cpl_status unknown_flag(const cpl_command *c, const char *name, size_t n, cpl_error *err)
{
    const char *nearest = NULL;
    size_t best = n > 4 ? 4 : 3;
    for (size_t i = 0; i < flag_total(c); i++) {
        size_t d = cpl_edit_distance(name, n, c->flags[i].name, strlen(c->flags[i].name));
        if (d < best) {
            best = d;
            nearest = c->flags[i].name;
        }
    }
    if (nearest)
        return cpl_fail(err, CPL_INVALID, "unknown option '--%.*s': did you mean '--%s'?", (int)n, name, nearest);
    return cpl_fail(err, CPL_INVALID, "unknown option '--%.*s': see 'couplet help %s'", (int)n, name, c->name);
}

static cpl_status take_value(const cpl_flag *f, flag_value *v, const char *text, cpl_error *err)
{
    char *end = NULL;
    v->text = text;
    errno = 0;
    if (f->kind == CPL_FLAG_COUNT) {
        v->count = strtoull(text, &end, 10);
        if (!*text || *end || *text == '-' || errno)
            return cpl_fail(err, CPL_INVALID, "'--%s %s': expected a whole number", f->name, text);
    } else if (f->kind == CPL_FLAG_NUMBER) {
        v->number = strtod(text, &end);
        if (!*text || *end || !(v->number >= 0) || errno)
            return cpl_fail(err, CPL_INVALID, "'--%s %s': expected a number that isn't negative", f->name, text);
    } else if (f->kind == CPL_FLAG_LIST) {
        const char **grown = realloc(v->list, (v->list_count + 2) * sizeof *grown);
        if (!grown) return cpl_fail_memory(err, sizeof *grown);
        v->list = grown;
        v->list[v->list_count++] = text;
        v->list[v->list_count] = NULL;
    }
    return CPL_OK;
}

static cpl_status parse_flag(cpl_args *a, int argc, char **argv, int *i, cpl_error *err)
{
    const cpl_command *c = a->command;
    const char *name = argv[*i] + 2, *equals = strchr(name, '=');
    size_t n = equals ? (size_t)(equals - name) : strlen(name), k = 0, total = flag_total(c);
    while (k < total && (strlen(c->flags[k].name) != n || memcmp(c->flags[k].name, name, n) != 0)) k++;
    if (k == total) return unknown_flag(c, name, n, err);
    const cpl_flag *f = &c->flags[k];
    flag_value *v = &a->values[k];
    v->given = true;
    if (f->kind == CPL_FLAG_SWITCH)
        return equals ? cpl_fail(err, CPL_INVALID, "'--%s' takes no value", f->name) : CPL_OK;
    const char *text = equals ? equals + 1 : *i + 1 < argc ? argv[++*i] : NULL;
    if (!text) return cpl_fail(err, CPL_INVALID, "'--%s' needs a value: %s", f->name, f->metavar);
    return take_value(f, v, text, err);
}

static cpl_status parse_all(cpl_args *a, int argc, char **argv, cpl_error *err)
{
    bool flags_over = false;
    for (size_t k = 0; k < flag_total(a->command); k++) {
        const cpl_flag *f = &a->command->flags[k];
        if (f->fallback && f->kind != CPL_FLAG_LIST) {
            cpl_status st = take_value(f, &a->values[k], f->fallback, err);
            if (st) return st;
        }
    }
    for (int i = 0; i < argc; i++) {
        if (!flags_over && strcmp(argv[i], "--") == 0) {
            flags_over = true;
        } else if (!flags_over && strncmp(argv[i], "--", 2) == 0) {
            cpl_status st = parse_flag(a, argc, argv, &i, err);
            if (st) return st;
        } else if (!flags_over && argv[i][0] == '-' && argv[i][1]) {
            return cpl_fail(err, CPL_INVALID, "unknown option '%s': options start with two dashes", argv[i]);
        } else if (!a->command->positional) {
            return cpl_fail(err, CPL_INVALID, "unexpected argument '%s': see 'couplet help %s'", argv[i],
                            a->command->name);
        } else {
            a->positional[a->positional_count++] = argv[i];
        }
    }
    return CPL_OK;
}

cpl_status cpl_args_parse(cpl_args **out, const cpl_command *command, int argc, char **argv, cpl_error *err)
{
    *out = NULL;
    cpl_args *a = calloc(1, sizeof *a);
    if (!a) return cpl_fail_memory(err, sizeof *a);
    a->command = command;
    a->values = calloc(flag_total(command) + 1, sizeof *a->values);
    a->positional = calloc((size_t)argc + 1, sizeof *a->positional);
    cpl_status st = a->values && a->positional ? parse_all(a, argc, argv, err) : cpl_fail_memory(err, sizeof *a);
    if (st) {
        cpl_args_close(a);
        return st;
    }
    *out = a;
    return CPL_OK;
}

static const flag_value *find(const cpl_args *a, const char *name, cpl_flag_kind kind)
{
    size_t k = 0, total = flag_total(a->command);
    while (k < total && strcmp(a->command->flags[k].name, name) != 0) k++;
    CPL_ASSERT(k < total);
    CPL_ASSERT(a->command->flags[k].kind == kind);
    return &a->values[k];
}

bool cpl_args_given(const cpl_args *a, const char *name)
{
    size_t k = 0, total = flag_total(a->command);
    while (k < total && strcmp(a->command->flags[k].name, name) != 0) k++;
    CPL_ASSERT(k < total);
    return a->values[k].given;
}

bool cpl_args_switch(const cpl_args *a, const char *name) { return find(a, name, CPL_FLAG_SWITCH)->given; }
const char *cpl_args_text(const cpl_args *a, const char *name) { return find(a, name, CPL_FLAG_TEXT)->text; }
uint64_t cpl_args_count(const cpl_args *a, const char *name) { return find(a, name, CPL_FLAG_COUNT)->count; }
double cpl_args_number(const cpl_args *a, const char *name) { return find(a, name, CPL_FLAG_NUMBER)->number; }

const char *const *cpl_args_list(const cpl_args *a, const char *name)
{
    static const char *const none[] = {NULL};
    const flag_value *v = find(a, name, CPL_FLAG_LIST);
    return v->list ? v->list : none;
}

size_t cpl_args_positional_count(const cpl_args *a) { return a->positional_count; }
const char *cpl_args_positional(const cpl_args *a, size_t i) { return a->positional[i]; }

int cpl_cli_fail(const cpl_error *err)
{
    fprintf(stderr, "couplet: %s\n", err->what);
    return err->status == CPL_INVALID ? 2 : 1;
}

static void write_stderr(void *user, cpl_log_level level, const char *line)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    (void)user;
    fprintf(stderr, "couplet: [%s] %s\n", names[level], line);
}

const cpl_log *cpl_cli_log(cpl_log *storage, const char *level)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    if (!level) level = getenv("COUPLET_LOG");
    *storage = (cpl_log){.write = write_stderr, .level = CPL_LOG_WARN};
    for (int i = 0; level && i < 4; i++)
        if (strcmp(level, names[i]) == 0) storage->level = (cpl_log_level)i;
    return storage;
}
