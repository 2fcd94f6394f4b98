/* SPDX-License-Identifier: Apache-2.0 */
/* config_models.c - several models in one configuration: each as a configuration of its own.
 * The one idea: an entry of `models` keeps only what it says, and is put on top of the section `model` when somebody
 * asks; so --set, flags and sweeps of `model` reach every entry that doesn't say otherwise, and whoever reads a model's
 * settings reads `model.*`, whether there is one model or ten. The entries of model_pool.instances are replicas of one
 * model, so they must be alike, and come down to their number.
 * Threads: reads only; a view borrows its configuration's texts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "serve/config_values.h"

size_t cpl_config_model_count(const cpl_config *c)
{
    size_t n = cpl_config_count(c, "models");
    return n ? n : 1;
}

static void put_on_top(cpl_config *view, const cpl_config_entry *e)
{
    for (size_t k = 0; k < cpl_config_key_count; k++)
        if (cpl_config_entry_gives(e, k)) view->values[k] = e->values[k];
}

/* Replicas are alike: every entry says what the first one says. */
static cpl_status check_alike(const cpl_config *c, size_t n, cpl_error *err)
{
    for (size_t i = 1; i < n; i++) {
        for (size_t k = 0; k < cpl_config_key_count; k++) {
            const cpl_config_entry *a = &c->instances[0], *b = &c->instances[i];
            bool both = cpl_config_entry_gives(a, k) && cpl_config_entry_gives(b, k);
            if (cpl_config_entry_gives(a, k) == cpl_config_entry_gives(b, k) &&
                (!both || !strcmp(a->values[k].text, b->values[k].text)))
                continue;
            const cpl_config_value *v = cpl_config_entry_gives(b, k) ? &b->values[k] : &a->values[k];
            return cpl_config_fail(
                err, CPL_INVALID, &v->where, "model_pool.instances",
                "'model_pool.instances' differ in '%s': replicas of a model are alike (`models` takes "
                "different ones)",
                cpl_config_keys[k].name);
        }
    }
    return CPL_OK;
}

static cpl_status count_instances(cpl_config *view, const cpl_config *c, cpl_error *err)
{
    const cpl_config_value *pool = cpl_config_value_of(c, "model_pool.instances");
    const int key = cpl_config_key_find("model.replicas", 14);
    cpl_config_value *replicas = &view->values[key];
    if (!pool->count) return CPL_OK;
    if (c->models)
        return cpl_config_fail(
            err, CPL_INVALID, &pool->where, "model_pool.instances",
            "'model_pool.instances' is about one model, and 'models' (%s) lists %zu: give `replicas` "
            "in its entries",
            cpl_config_origin(c, "models"), cpl_config_model_count(c));
    if (replicas->origin)
        return cpl_config_fail(err, CPL_INVALID, &pool->where, "model_pool.instances",
                               "'model_pool.instances' and 'model.replicas' (%s) say the same thing: keep one of them",
                               replicas->origin);
    cpl_status st = check_alike(c, pool->count, err);
    if (st) return st;
    put_on_top(view, &c->instances[0]);
    replicas->number = (int64_t)pool->count;
    replicas->decimal = (double)pool->count;
    return CPL_OK;
}

/* The section's own place isn't another model's. */
static void forget_path(cpl_config *view)
{
    static const cpl_config_value none = {.text = ""};
    view->values[cpl_config_key_find("model.path", 10)] = none;
}

cpl_status cpl_config_model(cpl_config **out, const cpl_config *c, size_t i, cpl_error *err)
{
    CPL_ASSERT(i < cpl_config_model_count(c));
    cpl_config *view = *out = calloc(1, sizeof *view);
    if (!view) return cpl_fail_memory(err, sizeof *view);
    memcpy(view->values, c->values, sizeof view->values);
    if (c->models) {
        forget_path(view);
        put_on_top(view, &c->models[i]);
    }
    cpl_status st = count_instances(view, c, err);
    if (!st) return CPL_OK;
    cpl_config_close(view);
    *out = NULL;
    return st;
}

/* Is the key (a full name) among the given ones? */
static bool is_given(const uint64_t *given, const char *name)
{
    int key = cpl_config_key_find(name, strlen(name));
    return given[key / 64] >> (key % 64) & 1;
}

/* What c says of the model that is called `name`; NULL in *out when it knows none. */
static cpl_status find_known(cpl_config **out, const cpl_config *c, const char *name, cpl_error *err)
{
    cpl_status st = CPL_OK;
    *out = NULL;
    for (size_t i = 0; i < cpl_config_model_count(c) && !st; i++) {
        st = cpl_config_model(out, c, i, err);
        if (!st && !strcmp(cpl_config_model_name(*out), name)) return CPL_OK;
        cpl_config_close(*out);
        *out = NULL;
    }
    return st;
}

/* Values of `from` where the text gave none; the name and place of a known model are its own. */
static void fill_in(cpl_config *view, const cpl_config *from, const uint64_t *given, bool known)
{
    const int name = cpl_config_key_find("model.name", 10);
    for (size_t k = 0; k < cpl_config_key_count; k++) {
        bool said = given[k / 64] >> (k % 64) & 1;
        if (!said || (known && (int)k == name && !is_given(given, "model.path"))) view->values[k] = from->values[k];
    }
    if (!known && !is_given(given, "model.path")) forget_path(view);
}

cpl_status cpl_config_model_parse(cpl_config **out, const cpl_config *c, const char *text, size_t n, cpl_error *err)
{
    uint64_t given[CPL_CONFIG_KEYS_MAX / 64] = {0};
    cpl_config *known = NULL;
    cpl_config *view = *out = calloc(1, sizeof *view);
    if (!view) return cpl_fail_memory(err, sizeof *view);
    cpl_arena_init(&view->arena, 4096, 0);
    memcpy(view->values, c->values, sizeof view->values);
    forget_path(view);
    cpl_status st = cpl_config_read_model(view, "request", text, n, given, err);
    if (!st && !is_given(given, "model.name"))
        st = cpl_fail(err, CPL_INVALID, "request: 'name' is missing: the model to load");
    if (!st) st = find_known(&known, c, cpl_config_model_name(view), err);
    if (!st) {
        fill_in(view, known ? known : c, given, known != NULL);
        st = cpl_config_check_model(view, err);
    }
    cpl_config_close(known);
    if (!st) return CPL_OK;
    cpl_config_close(view);
    *out = NULL;
    return st;
}

const char *cpl_config_model_place(const cpl_config *model)
{
    const char *path = cpl_config_text(model, "model.path");
    return *path ? path : cpl_config_text(model, "model.name");
}

const char *cpl_config_model_name(const cpl_config *model)
{
    const char *name = cpl_config_text(model, "model.name");
    if (*cpl_config_text(model, "model.path")) return name;
    size_t n = strlen(name);
    while (n > 0 && name[n - 1] != '/') n--;
    return name[n] ? name + n : name;
}
