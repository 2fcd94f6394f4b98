/* SPDX-License-Identifier: Apache-2.0 */
/* config_print.c - the effective configuration as YAML that loads back to itself, and the key table for people.
 * The one idea: both walk the key table in its order; sections open and close as the dotted names change.
 * Threads: reads only. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "serve/config_values.h"

/* A text as YAML: as it is where no reader could take it for something else, else quoted. */
static void print_text(cpl_buf *out, const char *text)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-";
    static const char *const words[] = {"true", "false", "null", "yes", "no", "on", "off"};
    bool plain = *text && strspn(text, safe) == strlen(text) && *text != '-' && *text != '.';
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcasecmp(text, words[i])) plain = false;
    if (plain)
        cpl_buf_text(out, text);
    else
        cpl_json_quote(out, text, strlen(text));
}

static void print_sweep(const cpl_config *c, cpl_buf *out)
{
    cpl_buf_text(out, "{");
    for (size_t i = 0; i < c->swept_count; i++) {
        cpl_buf_print(out, "%s%s: [", i ? ", " : "", c->swept[i].key);
        for (size_t j = 0; j < c->swept[i].count; j++) cpl_buf_print(out, "%s%s", j ? ", " : "", c->swept[i].values[j]);
        cpl_buf_text(out, "]");
    }
    cpl_buf_text(out, "}");
}

/* Entries of `models` or `model_pool.instances`: what each says, by names that are read back as they stand. */
static void print_entries(const cpl_config_entry *entries, size_t n, cpl_buf *out)
{
    const size_t section = strlen("model.");
    cpl_buf_text(out, "[");
    for (size_t i = 0; i < n; i++) {
        const char *between = "";
        cpl_buf_text(out, i ? ", {" : "{");
        for (size_t k = 0; k < cpl_config_key_count; k++) {
            const cpl_config_value *v = &entries[i].values[k];
            if (!cpl_config_entry_gives(&entries[i], k) || !v->origin) continue;
            cpl_buf_print(out, "%s%s: ", between, cpl_config_keys[k].name + section);
            between = ", ";
            if (cpl_config_keys[k].type == CPL_CONFIG_TEXT || cpl_config_keys[k].type == CPL_CONFIG_CHOICE)
                print_text(out, v->text);
            else
                cpl_buf_text(out, v->text);
        }
        cpl_buf_text(out, "}");
    }
    cpl_buf_text(out, "]");
}

static void print_value(const cpl_config *c, size_t key, cpl_buf *out)
{
    const cpl_config_value *v = &c->values[key];
    switch (cpl_config_keys[key].type) {
    case CPL_CONFIG_TEXT:
    case CPL_CONFIG_CHOICE: print_text(out, v->text); break;
    case CPL_CONFIG_SWEEP: print_sweep(c, out); break;
    case CPL_CONFIG_MODELS: print_entries(c->models, v->count, out); break;
    case CPL_CONFIG_INSTANCES: print_entries(c->instances, v->count, out); break;
    case CPL_CONFIG_TEXT_LIST:
    case CPL_CONFIG_INT_LIST:
        cpl_buf_text(out, "[");
        for (size_t i = 0; i < v->count; i++) {
            if (i) cpl_buf_text(out, ", ");
            print_text(out, v->texts[i]);
        }
        cpl_buf_text(out, "]");
        break;
    case CPL_CONFIG_BOOL: cpl_buf_text(out, v->truth ? "true" : "false"); break;
    default: cpl_buf_text(out, v->text); break;
    }
}

/* `models` with one entry is shown through what it sets; an unset choice has no value to show. */
static bool shown(const cpl_config *c, size_t key)
{
    const cpl_config_key *k = &cpl_config_keys[key];
    if (k->type == CPL_CONFIG_MODELS) return c->models != NULL;
    if (k->type == CPL_CONFIG_INSTANCES) return c->instances != NULL;
    return k->type != CPL_CONFIG_CHOICE || *c->values[key].text;
}

/* Writes the section lines by which `name` differs from `before`; returns the depth of its leaf. */
static int open_sections(cpl_buf *out, const char *before, const char *name)
{
    int depth = 0;
    bool same = true;
    for (const char *dot = strchr(name, '.'), *from = name; dot; from = dot + 1, dot = strchr(from, '.'), depth++) {
        if (same && strncmp(before, name, (size_t)(dot + 1 - name)) == 0) continue;
        same = false;
        cpl_buf_print(out, "%*s%.*s:\n", depth * 2, "", (int)(dot - from), from);
    }
    return depth;
}

static void print_keys(const cpl_config *c, bool all, cpl_buf *out)
{
    const char *before = "";
    for (size_t i = 0; i < cpl_config_key_count; i++) {
        if (!shown(c, i) || (!all && !c->values[i].origin)) continue;
        const char *name = cpl_config_keys[i].name, *leaf = strrchr(name, '.');
        int depth = open_sections(out, before, name);
        cpl_buf_print(out, "%*s%s: ", depth * 2, "", leaf ? leaf + 1 : name);
        print_value(c, i, out);
        if (all && c->values[i].origin) cpl_buf_print(out, "  # %s", c->values[i].origin);
        cpl_buf_text(out, "\n");
        before = name;
    }
}

void cpl_config_print(const cpl_config *c, cpl_buf *out) { print_keys(c, true, out); }
void cpl_config_print_given(const cpl_config *c, cpl_buf *out) { print_keys(c, false, out); }

static const char *type_name(const cpl_config_key *k)
{
    static const char *const names[] = {
        [CPL_CONFIG_TEXT] = "text",
        [CPL_CONFIG_INT] = "whole number",
        [CPL_CONFIG_FLOAT] = "number",
        [CPL_CONFIG_BOOL] = "true or false",
        [CPL_CONFIG_CHOICE] = "one of",
        [CPL_CONFIG_TEXT_LIST] = "list of texts",
        [CPL_CONFIG_INT_LIST] = "list of whole numbers",
        [CPL_CONFIG_SWEEP] = "map of keys to lists",
        [CPL_CONFIG_MODELS] = "list of maps",
        [CPL_CONFIG_INSTANCES] = "list of maps",
    };
    return names[k->type];
}

void cpl_config_describe(cpl_buf *out)
{
    for (size_t i = 0; i < cpl_config_key_count; i++) {
        const cpl_config_key *k = &cpl_config_keys[i];
        cpl_buf_print(out, "%s\n    %s.\n    %s", k->name, k->meaning, type_name(k));
        if (k->choices) cpl_buf_print(out, " %s", k->choices);
        if (k->type == CPL_CONFIG_INT || k->type == CPL_CONFIG_FLOAT || k->type == CPL_CONFIG_INT_LIST)
            cpl_buf_print(out, ", %.15g to %.15g", k->min, k->max);
        if (*k->fallback) cpl_buf_print(out, "; default %s", k->fallback);
        if (k->alias) cpl_buf_print(out, "; also written %s", k->alias);
        if (k->later) cpl_buf_text(out, "; not supported in this version");
        if (k->only) cpl_buf_print(out, "; this version: %s", k->only);
        cpl_buf_text(out, "\n");
    }
}
