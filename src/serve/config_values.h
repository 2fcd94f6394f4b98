/* SPDX-License-Identifier: Apache-2.0 */
/* config_values.h - what a loaded configuration is made of; for the config_*.c files only. */
#ifndef CPL_SERVE_CONFIG_VALUES_H
#define CPL_SERVE_CONFIG_VALUES_H

#include "base/arena.h"
#include "serve/config.h"
#include "serve/config_keys.h"

enum { CPL_CONFIG_KEYS_MAX = 128, CPL_CONFIG_LIST_MAX = 256, CPL_CONFIG_SWEEP_MAX = 16, CPL_CONFIG_ENTRIES_MAX = 16 };

/* Where a value stands. file NULL: a flag, whose name is `origin`. */
typedef struct cpl_config_where {
    const char *file;
    int line, column; /* 1-based; line 0: "--set" */
    const char *origin;
} cpl_config_where;

typedef struct cpl_config_value {
    const char *text; /* of scalars: as written */
    int64_t number;
    double decimal;
    bool truth;
    const char **texts; /* of lists */
    int64_t *numbers;
    size_t count;
    const char *origin; /* NULL: the default */
    cpl_config_where where;
} cpl_config_value;

typedef struct cpl_config_swept {
    const char *key;
    const char **values;
    size_t count;
} cpl_config_swept;

/* An entry of `models` or `model_pool.instances`: what it says of the section `model`. */
typedef struct cpl_config_entry {
    uint64_t given[CPL_CONFIG_KEYS_MAX / 64];
    cpl_config_value values[CPL_CONFIG_KEYS_MAX]; /* of the keys given */
} cpl_config_entry;

struct cpl_config {
    cpl_arena arena; /* every text in here; of a view (cpl_config_model) none: its texts are the whole one's */
    const char *path;
    cpl_config_value values[CPL_CONFIG_KEYS_MAX];
    cpl_config_swept swept[CPL_CONFIG_SWEEP_MAX];
    size_t swept_count;
    cpl_config_entry *models, *instances; /* as many as their keys count; `models` NULL when it has one entry, which is
                                             then the section `model` itself */
};

/* Is the key among those that the entry gives? */
static inline bool cpl_config_entry_gives(const cpl_config_entry *e, size_t key)
{
    return e->given[key / 64] >> (key % 64) & 1;
}

/* Converts `text` by the key's type and range and stores it. */
cpl_status cpl_config_store(cpl_config *c, int key, const char *text, size_t n, const cpl_config_where *where,
                            cpl_error *err);
/* The same for a list key. */
cpl_status cpl_config_store_list(cpl_config *c, int key, const char *const *texts, size_t n,
                                 const cpl_config_where *where, cpl_error *err);
/* "FILE:LINE:COLUMN: sentence", or "--set: sentence". */
cpl_status cpl_config_fail(cpl_error *err, cpl_status status, const cpl_config_where *where, const char *key,
                           const char *fmt, ...) CPL_PRINTF(5, 6);
/* Reads YAML text into c. prefix: "" for a file; for --set the key whose value the text is. */
cpl_status cpl_config_read_yaml(cpl_config *c, const char *file, const char *yaml, size_t n, cpl_error *err);
/* Reads YAML text (JSON is YAML) of the keys of `model` into that section; *given says which. */
cpl_status cpl_config_read_model(cpl_config *c, const char *file, const char *yaml, size_t n,
                                 uint64_t given[CPL_CONFIG_KEYS_MAX / 64], cpl_error *err);
/* One model's own settings, in a view. */
cpl_status cpl_config_check_model(const cpl_config *model, cpl_error *err);
cpl_status cpl_config_read_set(cpl_config *c, const char *set, cpl_error *err);
const cpl_config_value *cpl_config_value_of(const cpl_config *c, const char *key);

#endif
