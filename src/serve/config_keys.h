/* SPDX-License-Identifier: Apache-2.0 */
/* config_keys.h - the one table of settings; what loading, checking, printing and help are made from. */
#ifndef CPL_SERVE_CONFIG_KEYS_H
#define CPL_SERVE_CONFIG_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum cpl_config_type {
    CPL_CONFIG_TEXT,
    CPL_CONFIG_INT,
    CPL_CONFIG_FLOAT,
    CPL_CONFIG_BOOL,
    CPL_CONFIG_CHOICE,    /* text out of `choices` */
    CPL_CONFIG_TEXT_LIST, /* of texts */
    CPL_CONFIG_INT_LIST,  /* of whole numbers in [min, max] */
    CPL_CONFIG_SWEEP,     /* {full.key: [values], ...}; the file's own order is kept */
    CPL_CONFIG_MODELS,    /* list of maps with the keys of `model`, which say what the entry doesn't */
    CPL_CONFIG_INSTANCES  /* the same; the entries are alike */
} cpl_config_type;

typedef struct cpl_config_key {
    const char *name; /* full: "batching.timeout_ms" */
    cpl_config_type type;
    const char *fallback; /* default, as text; "" is empty, an empty list or, for a choice, nothing said */
    double min, max;      /* of numbers, inclusive */
    const char *choices;  /* "a|b|c" */
    const char *meaning;  /* one sentence, lower case, no full stop; units in it */
    const char *alias;    /* another full key that means the same, or NULL */
    bool later;           /* the feature isn't there yet: any value but the default is refused by cpl_config_check */
    const char *only;     /* choices whose feature is there, "a|b"; NULL: all of them */
} cpl_config_key;

extern const cpl_config_key cpl_config_keys[];
extern const size_t cpl_config_key_count;

/* Index by full name or alias; -1 when there is none. */
int cpl_config_key_find(const char *name, size_t n);
/* Is `name` a section: does some key begin with "name."? */
bool cpl_config_key_section(const char *name, size_t n);
/* The key nearest to a misspelt one by edit distance, or NULL when nothing is near. */
const char *cpl_config_key_nearest(const char *name, size_t n);
/* Is `word` one of "a|b|c"? */
bool cpl_config_choice_has(const char *choices, const char *word, size_t n);

#endif
