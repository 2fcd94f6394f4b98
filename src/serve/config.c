/* SPDX-License-Identifier: Apache-2.0 */
/* config.c - the values of all settings: defaults, files, --set, flags, in that order of precedence.
 * The one idea: a value is converted and range-checked once, when it is stored, with its place in the file at hand; so
 * reads can't fail, and a wrong type is reported where it was written. A key asked for under a wrong name or type is
 * the program's error and asserts.
 * Invariant: values[i] belongs to cpl_config_keys[i] and always holds a valid value.
 * Threads: read-only once loaded; loading and overriding are one thread's. */
#include "serve/config_values.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"

enum { FILE_BYTES_MAX = 1 << 20 };

cpl_status cpl_config_fail(cpl_error *err, cpl_status status, const cpl_config_where *where, const char *key,
                           const char *fmt, ...)
{
    char sentence[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(sentence, sizeof sentence, fmt, args);
    va_end(args);
    for (char *at = sentence; *at; at++) /* a key or value may hold newlines; the sentence stays one line */
        if ((unsigned char)*at < ' ' || *at == 127) *at = '?';
    if (where->file) return cpl_fail_line(err, status, where->file, where->line, where->column, key, "%s", sentence);
    cpl_status st = cpl_fail(err, status, "%s: %s", where->origin ? where->origin : "default", sentence);
    if (err) snprintf(err->key, sizeof err->key, "%s", key ? key : "");
    return st;
}

static const char *origin_of(cpl_config *c, const cpl_config_where *where)
{
    if (!where->file) return where->origin;
    char buf[512];
    int n = snprintf(buf, sizeof buf, "%s:%d", where->file, where->line);
    return cpl_arena_copy(&c->arena, buf, n < (int)sizeof buf ? (size_t)n : sizeof buf - 1);
}

static bool same_word(const char *text, size_t n, const char *word)
{
    return strlen(word) == n && !memcmp(text, word, n);
}

static cpl_status convert_bool(bool *out, const char *text, size_t n, const cpl_config_key *k,
                               const cpl_config_where *where, cpl_error *err)
{
    static const char *const yes[] = {"true", "True", "TRUE"}, *const no[] = {"false", "False", "FALSE"};
    for (int i = 0; i < 3; i++) {
        if (same_word(text, n, yes[i]) || same_word(text, n, no[i])) {
            *out = same_word(text, n, yes[i]);
            return CPL_OK;
        }
    }
    return cpl_config_fail(err, CPL_INVALID, where, k->name, "'%s' is not true or false: '%.*s'", k->name,
                           n < 60 ? (int)n : 60, text);
}

/* text is terminated at n. */
static cpl_status convert_number(int64_t *number, double *decimal, const char *text, size_t n, const cpl_config_key *k,
                                 const cpl_config_where *where, cpl_error *err)
{
    bool whole = k->type != CPL_CONFIG_FLOAT;
    char *end = NULL;
    errno = 0;
    *number = 0;
    if (whole) {
        *number = strtoll(text, &end, 10);
        *decimal = (double)*number;
    } else {
        *decimal = strtod(text, &end);
    }
    bool plain = n > 0 && strspn(text, "+-.0123456789eE") == n && end == text + n;
    if (!plain || errno == EINVAL)
        return cpl_config_fail(err, CPL_INVALID, where, k->name, "'%s' takes a %s, not '%.*s'", k->name,
                               whole ? "whole number" : "number", n < 60 ? (int)n : 60, text);
    if (errno == ERANGE || !isfinite(*decimal) || *decimal < k->min || *decimal > k->max)
        return cpl_config_fail(err, CPL_INVALID, where, k->name, "'%s' is out of range: %.*s is not in %.15g..%.15g",
                               k->name, n < 60 ? (int)n : 60, text, k->min, k->max);
    return CPL_OK;
}

cpl_status cpl_config_store(cpl_config *c, int key, const char *text, size_t n, const cpl_config_where *where,
                            cpl_error *err)
{
    const cpl_config_key *k = &cpl_config_keys[key];
    cpl_config_value v = {.where = *where};
    cpl_status st = CPL_OK;
    v.text = cpl_arena_copy(&c->arena, text, n);
    v.origin = origin_of(c, where);
    if (!v.text) return cpl_fail_memory(err, n);
    if (memchr(text, 0, n)) return cpl_config_fail(err, CPL_INVALID, where, k->name, "'%s' holds a zero byte", k->name);
    switch (k->type) {
    case CPL_CONFIG_TEXT: break;
    case CPL_CONFIG_BOOL: st = convert_bool(&v.truth, text, n, k, where, err); break;
    case CPL_CONFIG_INT:
    case CPL_CONFIG_FLOAT: st = convert_number(&v.number, &v.decimal, v.text, n, k, where, err); break;
    case CPL_CONFIG_CHOICE:
        /* The empty default of a choice means nothing was said; nobody writes it. */
        if (n == 0 && !*k->fallback) break;
        if (!cpl_config_choice_has(k->choices, text, n))
            st = cpl_config_fail(err, CPL_INVALID, where, k->name, "'%s' can't be '%.*s': choose one of %s", k->name,
                                 n < 60 ? (int)n : 60, text, k->choices);
        break;
    default:
        return cpl_config_fail(err, CPL_INVALID, where, k->name, "'%s' takes a %s", k->name,
                               k->type == CPL_CONFIG_SWEEP ? "map of keys to lists" : "list, as in [a, b]");
    }
    if (!st) c->values[key] = v;
    return st;
}

cpl_status cpl_config_store_list(cpl_config *c, int key, const char *const *texts, size_t n,
                                 const cpl_config_where *where, cpl_error *err)
{
    const cpl_config_key *k = &cpl_config_keys[key];
    if (k->type != CPL_CONFIG_TEXT_LIST && k->type != CPL_CONFIG_INT_LIST)
        return cpl_config_fail(err, CPL_INVALID, where, k->name, "'%s' takes one value, not a list", k->name);
    if (k->type == CPL_CONFIG_INT_LIST && n == 0)
        return cpl_config_fail(err, CPL_INVALID, where, k->name, "'%s' is an empty list: give at least one number",
                               k->name);
    cpl_config_value v = {.count = n, .where = *where, .origin = origin_of(c, where)};
    v.texts = CPL_ARENA_NEW(&c->arena, const char *, n + 1);
    v.numbers = CPL_ARENA_NEW(&c->arena, int64_t, n + 1);
    if (!v.texts || !v.numbers) return cpl_fail_memory(err, n * 16);
    for (size_t i = 0; i < n; i++) {
        double ignored;
        v.texts[i] = cpl_arena_copy(&c->arena, texts[i], strlen(texts[i]));
        if (!v.texts[i]) return cpl_fail_memory(err, strlen(texts[i]));
        if (k->type != CPL_CONFIG_INT_LIST) continue;
        cpl_status st = convert_number(&v.numbers[i], &ignored, texts[i], strlen(texts[i]), k, where, err);
        if (st) return st;
    }
    c->values[key] = v;
    return CPL_OK;
}

static cpl_status store_defaults(cpl_config *c, cpl_error *err)
{
    CPL_ASSERT(cpl_config_key_count <= CPL_CONFIG_KEYS_MAX);
    static const cpl_config_where nowhere = {0};
    for (size_t i = 0; i < cpl_config_key_count; i++) {
        const cpl_config_key *k = &cpl_config_keys[i];
        cpl_status st = CPL_OK;
        if (k->type == CPL_CONFIG_INT_LIST)
            st = cpl_config_store_list(c, (int)i, &k->fallback, 1, &nowhere, err);
        else if (k->type == CPL_CONFIG_TEXT_LIST)
            st = cpl_config_store_list(c, (int)i, NULL, 0, &nowhere, err);
        else if (k->type < CPL_CONFIG_TEXT_LIST)
            st = cpl_config_store(c, (int)i, k->fallback, strlen(k->fallback), &nowhere, err);
        if (st) return st;
    }
    return CPL_OK;
}

static cpl_status read_file(cpl_config *c, const char *path, cpl_error *err)
{
    cpl_buf text = {0};
    cpl_status st = cpl_file_read(&text, path, FILE_BYTES_MAX, err);
    if (!st) st = cpl_config_read_yaml(c, path, text.data ? text.data : "", text.size, err);
    cpl_buf_deinit(&text);
    return st;
}

static cpl_status read_base(cpl_config *c, const char *path, cpl_error *err)
{
    static const char base[] = "base_config.yaml";
    const char *slash = strrchr(path, '/');
    size_t dir = slash ? (size_t)(slash + 1 - path) : 0;
    if (!strcmp(path + dir, base)) return CPL_OK;
    char *beside = cpl_arena_take(&c->arena, dir + sizeof base, 1);
    if (!beside) return cpl_fail_memory(err, dir + sizeof base);
    memcpy(beside, path, dir);
    memcpy(beside + dir, base, sizeof base);
    return cpl_file_exists(beside) ? read_file(c, beside, err) : CPL_OK;
}

cpl_status cpl_config_load(cpl_config **out, const char *path, bool inherit, const char *const *sets, cpl_error *err)
{
    *out = NULL;
    cpl_config *c = calloc(1, sizeof *c);
    if (!c) return cpl_fail_memory(err, sizeof *c);
    cpl_arena_init(&c->arena, 16384, 0);
    cpl_status st = store_defaults(c, err);
    if (!st && path) {
        c->path = cpl_arena_copy(&c->arena, path, strlen(path));
        st = c->path ? CPL_OK : cpl_fail_memory(err, strlen(path));
        if (!st && inherit) st = read_base(c, path, err);
        if (!st) st = read_file(c, path, err);
    }
    for (size_t i = 0; !st && sets && sets[i]; i++) st = cpl_config_read_set(c, sets[i], err);
    if (st) {
        cpl_config_close(c);
        return st;
    }
    *out = c;
    return CPL_OK;
}

void cpl_config_close(cpl_config *c)
{
    if (!c) return;
    cpl_arena_deinit(&c->arena);
    free(c);
}

cpl_status cpl_config_override(cpl_config *c, const char *key, const char *const *values, size_t n, const char *origin,
                               cpl_error *err)
{
    int i = cpl_config_key_find(key, strlen(key));
    CPL_ASSERT(i >= 0);
    cpl_config_where where = {.origin = cpl_arena_copy(&c->arena, origin, strlen(origin))};
    if (!where.origin) return cpl_fail_memory(err, strlen(origin));
    if (cpl_config_keys[i].type >= CPL_CONFIG_TEXT_LIST) return cpl_config_store_list(c, i, values, n, &where, err);
    CPL_ASSERT(n == 1);
    return cpl_config_store(c, i, values[0], strlen(values[0]), &where, err);
}

/* ---- typed reads ---- */

const cpl_config_value *cpl_config_value_of(const cpl_config *c, const char *key)
{
    int i = cpl_config_key_find(key, strlen(key));
    CPL_ASSERT(i >= 0);
    return &c->values[i];
}

static const cpl_config_value *typed(const cpl_config *c, const char *key, cpl_config_type type, cpl_config_type also)
{
    int i = cpl_config_key_find(key, strlen(key));
    CPL_ASSERT(i >= 0);
    CPL_ASSERT(cpl_config_keys[i].type == type || cpl_config_keys[i].type == also);
    return &c->values[i];
}

const char *cpl_config_text(const cpl_config *c, const char *key)
{
    return typed(c, key, CPL_CONFIG_TEXT, CPL_CONFIG_CHOICE)->text;
}

int64_t cpl_config_int(const cpl_config *c, const char *key)
{
    return typed(c, key, CPL_CONFIG_INT, CPL_CONFIG_INT)->number;
}

double cpl_config_float(const cpl_config *c, const char *key)
{
    return typed(c, key, CPL_CONFIG_FLOAT, CPL_CONFIG_INT)->decimal;
}

bool cpl_config_bool(const cpl_config *c, const char *key)
{
    return typed(c, key, CPL_CONFIG_BOOL, CPL_CONFIG_BOOL)->truth;
}

size_t cpl_config_count(const cpl_config *c, const char *key) { return cpl_config_value_of(c, key)->count; }

const char *cpl_config_text_at(const cpl_config *c, const char *key, size_t i)
{
    const cpl_config_value *v = typed(c, key, CPL_CONFIG_TEXT_LIST, CPL_CONFIG_INT_LIST);
    CPL_ASSERT(i < v->count);
    return v->texts[i];
}

int64_t cpl_config_int_at(const cpl_config *c, const char *key, size_t i)
{
    const cpl_config_value *v = typed(c, key, CPL_CONFIG_INT_LIST, CPL_CONFIG_INT_LIST);
    CPL_ASSERT(i < v->count);
    return v->numbers[i];
}

bool cpl_config_given(const cpl_config *c, const char *key) { return cpl_config_value_of(c, key)->origin != NULL; }

const char *cpl_config_origin(const cpl_config *c, const char *key)
{
    const char *origin = cpl_config_value_of(c, key)->origin;
    return origin ? origin : "default";
}

bool cpl_config_sweep(const cpl_config *c, size_t i, const char **key, size_t *values)
{
    if (i >= c->swept_count) return false;
    *key = c->swept[i].key;
    *values = c->swept[i].count;
    return true;
}

const char *cpl_config_sweep_value(const cpl_config *c, size_t i, size_t j)
{
    CPL_ASSERT(i < c->swept_count && j < c->swept[i].count);
    return c->swept[i].values[j];
}
