/* SPDX-License-Identifier: Apache-2.0 */
/* golden.h - reads what tools/make_golden.py wrote (tests/golden/README.md). Header only, for tests: everything is
 * static, and a broken file is a failed load with a sentence on stderr. */
#ifndef CPL_TESTS_GOLDEN_H
#define CPL_TESTS_GOLDEN_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One sequence and what PyTorch makes of it. */
typedef struct cpl_golden_case {
    size_t n; /* tokens */
    int32_t *ids;
    uint8_t *type_ids;
    float *row;    /* cpl_golden.width: logits, or the pooled vector, not normalised */
    float *tokens; /* n x hidden: the last layer; NULL where the file has none */
    /* Text the ids come from, or NULL: query and document of a pair, or text alone. */
    const char *query, *document, *text;
    float *final; /* width: score after the activation, or vector as embedded; NULL where the file has none */
} cpl_golden_case;

typedef struct cpl_golden {
    const char *model; /* directory, from the root of the source tree */
    bool cross_encoder;
    size_t width, hidden, count;
    cpl_golden_case *cases;
    json_t *root; /* owns the texts */
} cpl_golden;

static inline void cpl_golden_free(cpl_golden *g)
{
    for (size_t i = 0; g->cases && i < g->count; i++) {
        free(g->cases[i].ids);
        free(g->cases[i].type_ids);
        free(g->cases[i].row);
        free(g->cases[i].tokens);
        free(g->cases[i].final);
    }
    free(g->cases);
    json_decref(g->root);
    memset(g, 0, sizeof *g);
}

/* NULL when `key` is absent; *ok false when it is there and does not hold `count` numbers. */
static inline float *cpl_golden_floats(const json_t *object, const char *key, size_t count, bool *ok)
{
    const json_t *list = json_object_get(object, key);
    if (!list) return NULL;
    float *out = malloc((count ? count : 1) * sizeof *out);
    if (!out || json_array_size(list) != count) *ok = false;
    for (size_t i = 0; *ok && i < count; i++) out[i] = (float)json_number_value(json_array_get(list, i));
    return out;
}

static inline bool cpl_golden_read_case(cpl_golden_case *c, const cpl_golden *g, const json_t *from)
{
    const json_t *ids = json_object_get(from, "ids"), *types = json_object_get(from, "type_ids");
    bool ok = true;
    c->n = json_array_size(ids);
    if (!c->n || json_array_size(types) != c->n) return false;
    c->ids = malloc(c->n * sizeof *c->ids);
    c->type_ids = malloc(c->n);
    if (!c->ids || !c->type_ids) return false;
    for (size_t i = 0; i < c->n; i++) {
        c->ids[i] = (int32_t)json_integer_value(json_array_get(ids, i));
        c->type_ids[i] = (uint8_t)json_integer_value(json_array_get(types, i));
    }
    c->row = cpl_golden_floats(from, "row", g->width, &ok);
    c->tokens = cpl_golden_floats(from, "tokens", c->n * g->hidden, &ok);
    c->final = cpl_golden_floats(from, "final", g->width, &ok);
    c->query = json_string_value(json_object_get(from, "query"));
    c->document = json_string_value(json_object_get(from, "document"));
    c->text = json_string_value(json_object_get(from, "text"));
    return ok && c->row;
}

/* path: "tests/golden/NAME.json". False, with the reason on stderr and *g empty, when it can't be read. */
static inline bool cpl_golden_load(const char *path, cpl_golden *g)
{
    json_error_t e = {0};
    memset(g, 0, sizeof *g);
    g->root = json_load_file(path, 0, &e);
    if (!g->root) {
        fprintf(stderr, "%s:%d: %s\n", path, e.line, e.text);
        return false;
    }
    const json_t *cases = json_object_get(g->root, "cases");
    const char *kind = json_string_value(json_object_get(g->root, "kind"));
    g->model = json_string_value(json_object_get(g->root, "model"));
    g->cross_encoder = kind && strcmp(kind, "cross-encoder") == 0;
    g->width = (size_t)json_integer_value(json_object_get(g->root, "width"));
    g->hidden = (size_t)json_integer_value(json_object_get(g->root, "hidden"));
    g->count = json_array_size(cases);
    g->cases = calloc(g->count + 1, sizeof *g->cases);
    bool ok = g->cases && g->count && g->model && kind && g->width && g->hidden;
    for (size_t i = 0; ok && i < g->count; i++) {
        ok = cpl_golden_read_case(&g->cases[i], g, json_array_get(cases, i));
        if (!ok) fprintf(stderr, "%s: case %zu is broken\n", path, i);
    }
    if (ok) return true;
    fprintf(stderr, "%s: not a golden file: make it again with tools/make_golden.py\n", path);
    cpl_golden_free(g);
    return false;
}

#endif
