/* SPDX-License-Identifier: Apache-2.0 */
/* config_yaml.c - YAML text into a configuration, with line and column for everything that is wrong.
 * The one idea: libfyaml builds the document, and one walk over it follows the key table: a name that is neither a key
 * nor a section ends the walk with the nearest key, so depth is bounded by the table and not by the file.
 * Invariant: aliases are refused, not resolved (a dozen lines of them can stand for gigabytes). null means "the
 * default". `models: [{...}]` with one entry is the section `model` in another place; of more entries only their number
 * is kept, for cpl_config_check to refuse. Threads: none of its own. */
#include <libfyaml.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/utf8.h"
#include "serve/config_values.h"

typedef struct reader {
    cpl_config *config;
    const char *file; /* NULL: --set */
    cpl_error *err;
    uint64_t seen[CPL_CONFIG_KEYS_MAX / 64]; /* keys stored by this text: an alias beside its key is an error */
} reader;

enum { PATH_CAP = 192 };

/* The first token in or below a node; NULL for an empty collection. Depth is limited by libfyaml. */
static const struct fy_mark *mark_of(struct fy_node *node)
{
    for (int depth = 0; node && depth < 64; depth++) {
        void *iter = NULL;
        struct fy_token *token = NULL;
        if (fy_node_is_scalar(node)) {
            token = fy_node_get_scalar_token(node);
            return token ? fy_token_start_mark(token) : NULL;
        }
        if (fy_node_is_sequence(node)) {
            node = fy_node_sequence_iterate(node, &iter);
        } else {
            struct fy_node_pair *pair = fy_node_mapping_iterate(node, &iter);
            node = pair ? fy_node_pair_key(pair) : NULL;
        }
    }
    return NULL;
}

static cpl_config_where where_of(const reader *r, struct fy_node *node, struct fy_node *otherwise)
{
    if (!r->file) return (cpl_config_where){.origin = "--set"};
    const struct fy_mark *mark = node ? mark_of(node) : NULL;
    if (!mark && otherwise) mark = mark_of(otherwise);
    return (cpl_config_where){
        .file = r->file, .line = mark ? mark->line + 1 : 1, .column = mark ? mark->column + 1 : 1};
}

static bool is_null(struct fy_node *node)
{
    if (!node) return true;
    if (!fy_node_is_scalar(node) || fy_node_get_style(node) != FYNS_PLAIN) return false;
    size_t n = 0;
    const char *text = fy_node_get_scalar(node, &n);
    return !text || !n || (n == 1 && *text == '~') ||
           (n == 4 && (!memcmp(text, "null", 4) || !memcmp(text, "Null", 4)));
}

/* The scalar's text, terminated, in the arena; for a sweep a quoted one keeps (new) quotes. */
static const char *scalar_text(reader *r, struct fy_node *node, size_t *n, bool as_yaml)
{
    const char *text = fy_node_get_scalar(node, n);
    if (!text) text = "", *n = 0;
    if (!as_yaml || fy_node_get_style(node) == FYNS_PLAIN) return cpl_arena_copy(&r->config->arena, text, *n);
    cpl_buf quoted = {0};
    cpl_json_quote(&quoted, text, *n);
    const char *copy = quoted.failed ? NULL : cpl_arena_copy(&r->config->arena, quoted.data, quoted.size);
    *n = quoted.size;
    cpl_buf_deinit(&quoted);
    return copy;
}

static cpl_status plain_only(reader *r, struct fy_node *node, const char *key)
{
    cpl_config_where where = where_of(r, node, NULL);
    if (node && fy_node_is_alias(node))
        return cpl_config_fail(r->err, CPL_INVALID, &where, key,
                               "'%s' is a YAML alias: write the value out, aliases are not read here", key);
    if (node && fy_node_is_scalar(node)) return CPL_OK;
    return cpl_config_fail(r->err, CPL_INVALID, &where, key, "'%s' takes plain values here, not lists or maps", key);
}

static cpl_status store_sequence(reader *r, int key, struct fy_node *node, const cpl_config_where *where)
{
    const char *texts[CPL_CONFIG_LIST_MAX], *name = cpl_config_keys[key].name;
    size_t n = 0;
    void *iter = NULL;
    struct fy_node *item;
    while ((item = fy_node_sequence_iterate(node, &iter))) {
        size_t size;
        cpl_status st = plain_only(r, item, name);
        if (st) return st;
        if (n == CPL_CONFIG_LIST_MAX)
            return cpl_config_fail(r->err, CPL_INVALID, where, name, "'%s' has more than %d entries", name,
                                   CPL_CONFIG_LIST_MAX);
        texts[n] = scalar_text(r, item, &size, false);
        if (!texts[n]) return cpl_fail_memory(r->err, size);
        if (strlen(texts[n]) != size)
            return cpl_config_fail(r->err, CPL_INVALID, where, name, "'%s' holds a zero byte", name);
        n++;
    }
    return cpl_config_store_list(r->config, key, texts, n, where, r->err);
}

/* A swept value must be one that the key takes: it is stored into a scratch copy of the key's value and put back. */
static cpl_status check_swept_value(reader *r, int key, const char *text, size_t n, const cpl_config_where *where)
{
    cpl_config_value kept = r->config->values[key];
    cpl_status st = cpl_config_store(r->config, key, text, n, where, r->err);
    r->config->values[key] = kept;
    return st;
}

static cpl_status read_swept(reader *r, struct fy_node *name_node, struct fy_node *list)
{
    cpl_config_where where = where_of(r, name_node, NULL);
    cpl_config *c = r->config;
    size_t n = 0;
    const char *name = fy_node_is_scalar(name_node) ? fy_node_get_scalar(name_node, &n) : NULL;
    int key = name ? cpl_config_key_find(name, n) : -1;
    if (key < 0 || cpl_config_keys[key].type >= CPL_CONFIG_TEXT_LIST || !strncmp(name, "experiment.", 11))
        return cpl_config_fail(r->err, CPL_INVALID, &where, "experiment.sweep",
                               "'%.*s' can't be swept: give the full name of a server setting with one value",
                               n < 80 ? (int)n : 80, name ? name : "");
    if (!fy_node_is_sequence(list) || fy_node_sequence_item_count(list) < 1)
        return cpl_config_fail(r->err, CPL_INVALID, &where, "experiment.sweep", "'%s' takes a list of values to try",
                               cpl_config_keys[key].name);
    if (c->swept_count == CPL_CONFIG_SWEEP_MAX || fy_node_sequence_item_count(list) > CPL_CONFIG_LIST_MAX)
        return cpl_config_fail(r->err, CPL_INVALID, &where, "experiment.sweep", "more than %d keys or %d values swept",
                               CPL_CONFIG_SWEEP_MAX, CPL_CONFIG_LIST_MAX);
    cpl_config_swept *s = &c->swept[c->swept_count];
    s->key = cpl_config_keys[key].name;
    s->count = 0;
    s->values = CPL_ARENA_NEW(&c->arena, const char *, (size_t)fy_node_sequence_item_count(list));
    if (!s->values) return cpl_fail_memory(r->err, 64);
    void *iter = NULL;
    struct fy_node *item;
    while ((item = fy_node_sequence_iterate(list, &iter))) {
        size_t size;
        cpl_config_where at = where_of(r, item, name_node);
        cpl_status st = plain_only(r, item, s->key);
        const char *text = st ? NULL : scalar_text(r, item, &size, false);
        if (!st && !text) st = cpl_fail_memory(r->err, size);
        if (!st) st = check_swept_value(r, key, text, size, &at);
        if (st) return st;
        s->values[s->count] = scalar_text(r, item, &size, true);
        if (!s->values[s->count++]) return cpl_fail_memory(r->err, size);
    }
    c->swept_count++;
    return CPL_OK;
}

static cpl_status read_sweep(reader *r, struct fy_node *node, const cpl_config_where *where)
{
    if (!fy_node_is_mapping(node))
        return cpl_config_fail(r->err, CPL_INVALID, where, "experiment.sweep",
                               "'experiment.sweep' takes a map of keys to lists, as {batching.timeout_ms: [5, 10]}");
    r->config->swept_count = 0; /* a file's sweep replaces the one it inherits */
    void *iter = NULL;
    struct fy_node_pair *pair;
    while ((pair = fy_node_mapping_iterate(node, &iter))) {
        struct fy_node *list = fy_node_pair_value(pair);
        cpl_status st =
            list ? read_swept(r, fy_node_pair_key(pair), list)
                 : cpl_config_fail(r->err, CPL_INVALID, where, "experiment.sweep", "a swept key has no values");
        if (st) return st;
    }
    return CPL_OK;
}

static cpl_status read_mapping(reader *r, struct fy_node *node, const char *prefix);

/* What an entry says is read into the section `model`, kept, and the section put back as it was. */
static cpl_status read_entry(reader *r, struct fy_node *node, const char *list, cpl_config_entry *out)
{
    cpl_config *c = r->config;
    cpl_config_where where = where_of(r, node, NULL);
    if (is_null(node)) return CPL_OK;
    if (!fy_node_is_mapping(node))
        return cpl_config_fail(r->err, CPL_INVALID, &where, list, "an entry of '%s' takes the keys of `model`", list);
    reader inner = {.config = c, .file = r->file, .err = r->err};
    cpl_config_value *kept = CPL_ARENA_NEW(&c->arena, cpl_config_value, CPL_CONFIG_KEYS_MAX);
    if (!kept) return cpl_fail_memory(r->err, sizeof c->values);
    memcpy(kept, c->values, sizeof c->values);
    cpl_status st = read_mapping(&inner, node, "model");
    memcpy(out->given, inner.seen, sizeof out->given);
    memcpy(out->values, c->values, sizeof out->values);
    memcpy(c->values, kept, sizeof c->values);
    return st;
}

static cpl_status read_list_of_maps(reader *r, int key, struct fy_node *node, const cpl_config_where *where)
{
    const cpl_config_key *k = &cpl_config_keys[key];
    cpl_config *c = r->config;
    if (!fy_node_is_sequence(node))
        return cpl_config_fail(r->err, CPL_INVALID, where, k->name, "'%s' takes a list", k->name);
    int count = fy_node_sequence_item_count(node);
    size_t n = count > 0 ? (size_t)count : 0;
    if (n > CPL_CONFIG_ENTRIES_MAX)
        return cpl_config_fail(r->err, CPL_INVALID, where, k->name, "'%s' has more than %d entries", k->name,
                               CPL_CONFIG_ENTRIES_MAX);
    cpl_config_entry **entries = k->type == CPL_CONFIG_MODELS ? &c->models : &c->instances;
    c->values[key] = (cpl_config_value){.count = n, .where = *where};
    char origin[512];
    snprintf(origin, sizeof origin, "%s:%d", where->file ? where->file : "--set", where->line);
    c->values[key].origin = where->file ? cpl_arena_copy(&c->arena, origin, strlen(origin)) : where->origin;
    *entries = NULL;
    if (k->type == CPL_CONFIG_MODELS && n == 1) {
        struct fy_node *only = fy_node_sequence_get_by_index(node, 0);
        if (only && fy_node_is_mapping(only)) return read_mapping(r, only, "model");
        return cpl_config_fail(r->err, CPL_INVALID, where, k->name, "an entry of '%s' takes the keys of `model`",
                               k->name);
    }
    if (!n) return CPL_OK;
    *entries = CPL_ARENA_NEW(&c->arena, cpl_config_entry, n);
    if (!*entries) return cpl_fail_memory(r->err, n * sizeof **entries);
    cpl_status st = CPL_OK;
    for (size_t i = 0; i < n && !st; i++)
        st = read_entry(r, fy_node_sequence_get_by_index(node, (int)i), k->name, &(*entries)[i]);
    return st;
}

static cpl_status read_value(reader *r, int key, struct fy_node *value, struct fy_node *name_node)
{
    const cpl_config_key *k = &cpl_config_keys[key];
    cpl_config_where where = where_of(r, value, name_node);
    if (r->file && name_node && is_null(value)) where = where_of(r, name_node, NULL);
    if (r->seen[key / 64] >> (key % 64) & 1)
        return cpl_config_fail(r->err, CPL_INVALID, &where, k->name, "'%s' is given twice (as %s and %s?)", k->name,
                               k->name, k->alias ? k->alias : "an entry of models");
    r->seen[key / 64] |= (uint64_t)1 << (key % 64);
    if (value && fy_node_is_alias(value)) return plain_only(r, value, k->name);
    if (is_null(value)) {
        if (k->type == CPL_CONFIG_SWEEP) r->config->swept_count = 0;
        if (k->type > CPL_CONFIG_INT_LIST) {
            r->config->values[key] = (cpl_config_value){0};
            return CPL_OK;
        }
        if (k->type == CPL_CONFIG_TEXT_LIST) return cpl_config_store_list(r->config, key, NULL, 0, &where, r->err);
        if (k->type == CPL_CONFIG_INT_LIST)
            return cpl_config_store_list(r->config, key, &k->fallback, 1, &where, r->err);
        cpl_status st = cpl_config_store(r->config, key, k->fallback, strlen(k->fallback), &where, r->err);
        r->config->values[key].origin = NULL; /* null says: as if never set */
        return st;
    }
    switch (k->type) {
    case CPL_CONFIG_SWEEP: return read_sweep(r, value, &where);
    case CPL_CONFIG_MODELS:
    case CPL_CONFIG_INSTANCES: return read_list_of_maps(r, key, value, &where);
    default: break;
    }
    if (fy_node_is_sequence(value)) return store_sequence(r, key, value, &where);
    cpl_status st = plain_only(r, value, k->name);
    if (st) return st;
    size_t n;
    const char *text = scalar_text(r, value, &n, false);
    if (!text) return cpl_fail_memory(r->err, n);
    if (k->type == CPL_CONFIG_CHOICE && !n)
        return cpl_config_fail(r->err, CPL_INVALID, &where, k->name, "'%s' is empty: choose one of %s", k->name,
                               k->choices);
    /* [32] and 32 are both fine for a list of numbers or texts. */
    if (k->type == CPL_CONFIG_INT_LIST || k->type == CPL_CONFIG_TEXT_LIST)
        return cpl_config_store_list(r->config, key, &text, 1, &where, r->err);
    return cpl_config_store(r->config, key, text, n, &where, r->err);
}

static cpl_status unknown_key(reader *r, const char *path, const cpl_config_where *where)
{
    const char *nearest = cpl_config_key_nearest(path, strlen(path));
    if (nearest)
        return cpl_config_fail(r->err, CPL_INVALID, where, path, "unknown key '%s': did you mean '%s'?", path, nearest);
    return cpl_config_fail(r->err, CPL_INVALID, where, path, "unknown key '%s': `couplet help config` lists the keys",
                           path);
}

static cpl_status read_pair(reader *r, struct fy_node_pair *pair, const char *prefix)
{
    struct fy_node *name_node = fy_node_pair_key(pair), *value = fy_node_pair_value(pair);
    cpl_config_where where = where_of(r, name_node, value);
    size_t n = 0;
    const char *name = name_node && fy_node_is_scalar(name_node) && !fy_node_is_alias(name_node)
                           ? fy_node_get_scalar(name_node, &n)
                           : NULL;
    if (!name || !n || memchr(name, 0, n))
        return cpl_config_fail(r->err, CPL_INVALID, &where, prefix, "a key must be a plain word");
    char path[PATH_CAP];
    int size = snprintf(path, sizeof path, "%s%s%.*s", prefix, *prefix ? "." : "", n < 120 ? (int)n : 120, name);
    int key = n < 120 ? cpl_config_key_find(path, (size_t)size) : -1;
    if (key >= 0) return read_value(r, key, value, name_node);
    if (n >= 120 || !cpl_config_key_section(path, (size_t)size)) return unknown_key(r, path, &where);
    if (is_null(value)) return CPL_OK;
    if (fy_node_is_mapping(value)) return read_mapping(r, value, path);
    return cpl_config_fail(r->err, CPL_INVALID, &where, path, "'%s' is a section: it takes keys, not a value", path);
}

static cpl_status read_mapping(reader *r, struct fy_node *node, const char *prefix)
{
    void *iter = NULL;
    struct fy_node_pair *pair;
    while ((pair = fy_node_mapping_iterate(node, &iter))) {
        cpl_status st = read_pair(r, pair, prefix);
        if (st) return st;
    }
    return CPL_OK;
}

/* ---- documents ---- */

static cpl_status syntax_error(struct fy_diag *diag, const char *file, cpl_error *err)
{
    void *iter = NULL;
    struct fy_diag_error *first = fy_diag_errors_iterate(diag, &iter);
    cpl_config_where where = {.file = file, .line = 1, .column = 1, .origin = "--set"};
    if (first && file) {
        where.line = first->line > 0 ? first->line : 1;
        where.column = first->column > 0 ? first->column : 1;
    }
    return cpl_config_fail(err, CPL_INVALID, &where, NULL, "not YAML: %s",
                           first && first->msg && *first->msg ? first->msg : "the document can't be read");
}

typedef struct document {
    struct fy_diag *diag;
    struct fy_parser *parser;
    struct fy_document *doc;
} document;

static void document_close(document *d)
{
    if (d->doc) fy_parse_document_destroy(d->parser, d->doc);
    if (d->parser) fy_parser_destroy(d->parser);
    if (d->diag) fy_diag_destroy(d->diag);
}

static cpl_status document_open(document *d, const char *file, const char *yaml, size_t n, cpl_error *err)
{
    struct fy_diag_cfg diag_cfg;
    memset(&diag_cfg, 0, sizeof diag_cfg);
    diag_cfg.level = FYET_ERROR;
    diag_cfg.module_mask = (unsigned)-1;
    d->diag = fy_diag_create(&diag_cfg);
    if (!d->diag) return cpl_fail_memory(err, sizeof diag_cfg);
    fy_diag_set_collect_errors(d->diag, true);
    struct fy_parse_cfg cfg = {.flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG | FYPCF_JSON_NONE, .diag = d->diag};
    d->parser = fy_parser_create(&cfg);
    if (!d->parser || fy_parser_set_string(d->parser, yaml, n)) return cpl_fail_memory(err, n);
    d->doc = fy_parse_load_document(d->parser);
    if (!d->doc && fy_diag_got_error(d->diag)) return syntax_error(d->diag, file, err);
    return CPL_OK;
}

static cpl_status no_second_document(document *d, const char *file, cpl_error *err)
{
    struct fy_document *second = fy_parse_load_document(d->parser);
    if (!second) return fy_diag_got_error(d->diag) ? syntax_error(d->diag, file, err) : CPL_OK;
    fy_parse_document_destroy(d->parser, second);
    return cpl_fail_file(err, CPL_INVALID, file ? file : "--set", "holds more than one YAML document");
}

/* A whole document, its keys below `prefix`. */
static cpl_status read_document(reader *in, const char *file, const char *yaml, size_t n, const char *prefix)
{
    cpl_config *c = in->config;
    cpl_error *err = in->err;
    reader r = {.config = c, .err = err, .file = cpl_arena_copy(&c->arena, file, strlen(file))};
    if (!r.file) return cpl_fail_memory(err, strlen(file));
    size_t valid = cpl_utf8_valid_prefix(yaml, n);
    if (valid < n) return cpl_fail_byte(err, CPL_INVALID, file, (int64_t)valid, "not UTF-8");
    document d = {0};
    cpl_status st = n ? document_open(&d, file, yaml, n, err) : CPL_OK;
    struct fy_node *root = !st && d.doc ? fy_document_root(d.doc) : NULL;
    if (!st && root && !is_null(root)) {
        cpl_config_where where = where_of(&r, root, NULL);
        st = fy_node_is_mapping(root)
                 ? read_mapping(&r, root, prefix)
                 : cpl_config_fail(err, CPL_INVALID, &where, NULL, "a configuration is a map of keys");
    }
    if (!st && d.doc) st = no_second_document(&d, file, err);
    document_close(&d);
    memcpy(in->seen, r.seen, sizeof r.seen);
    return st;
}

cpl_status cpl_config_read_yaml(cpl_config *c, const char *file, const char *yaml, size_t n, cpl_error *err)
{
    reader r = {.config = c, .err = err};
    return read_document(&r, file, yaml, n, "");
}

cpl_status cpl_config_read_model(cpl_config *c, const char *file, const char *yaml, size_t n,
                                 uint64_t given[CPL_CONFIG_KEYS_MAX / 64], cpl_error *err)
{
    reader r = {.config = c, .err = err};
    cpl_status st = read_document(&r, file, yaml, n, "model");
    memcpy(given, r.seen, sizeof r.seen);
    return st;
}

cpl_status cpl_config_read_set(cpl_config *c, const char *set, cpl_error *err)
{
    const char *equals = strchr(set, '=');
    cpl_config_where where = {.origin = "--set"};
    reader r = {.config = c, .err = err};
    if (!equals || equals == set)
        return cpl_config_fail(err, CPL_INVALID, &where, NULL, "'%.80s' is not KEY=VALUE", set);
    char name[PATH_CAP];
    size_t name_size = (size_t)(equals - set), n = strlen(equals + 1);
    snprintf(name, sizeof name, "%.*s", name_size < PATH_CAP ? (int)name_size : PATH_CAP - 1, set);
    int key = cpl_config_key_find(set, name_size);
    if (key < 0 && cpl_config_key_section(set, name_size))
        return cpl_config_fail(err, CPL_INVALID, &where, name, "'%s' is a section: set one of its keys", name);
    if (key < 0) return unknown_key(&r, name, &where);
    if (cpl_utf8_valid_prefix(equals + 1, n) < n)
        return cpl_config_fail(err, CPL_INVALID, &where, name, "the value of '%s' is not UTF-8", name);
    document d = {0};
    cpl_status st = n ? document_open(&d, NULL, equals + 1, n, err) : CPL_OK;
    if (!st) st = read_value(&r, key, d.doc ? fy_document_root(d.doc) : NULL, NULL);
    if (!st && d.doc) st = no_second_document(&d, NULL, err);
    document_close(&d);
    return st;
}
