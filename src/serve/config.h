/* SPDX-License-Identifier: Apache-2.0 */
/* config.h - every setting there is, from YAML files and --set, with defaults, ranges and where each value came from.
 *
 * One table (config_keys.c) names each key with its type, default, range, meaning; loading, printing, checking, help
 * and man page come from it. An unknown key is an error with file, line, column and the nearest known key. */
#ifndef CPL_SERVE_CONFIG_H
#define CPL_SERVE_CONFIG_H

#include <stdbool.h>

#include "base/buf.h"
#include "couplet.h"

typedef struct cpl_config cpl_config;

/* Reads `path` (NULL: defaults only). With inherit, "base_config.yaml" beside it is read first and `path` overrides it.
 * Then each "key=value" of sets (NULL-terminated, may be NULL; the value is parsed as YAML) overrides that. */
cpl_status cpl_config_load(cpl_config **out, const char *path, bool inherit, const char *const *sets, cpl_error *err);
void cpl_config_close(cpl_config *c); /* NULL is fine */

/* Typed reads by full key ("batching.timeout_ms"). The key must exist in the table with that type: a typo is an
 * assertion, so tests catch it. Strings are "" when unset. */
const char *cpl_config_text(const cpl_config *c, const char *key);
int64_t cpl_config_int(const cpl_config *c, const char *key);
double cpl_config_float(const cpl_config *c, const char *key);
bool cpl_config_bool(const cpl_config *c, const char *key);
/* Lists: how many entries, and each as text or number. */
size_t cpl_config_count(const cpl_config *c, const char *key);
const char *cpl_config_text_at(const cpl_config *c, const char *key, size_t i);
int64_t cpl_config_int_at(const cpl_config *c, const char *key, size_t i);
/* Was it set by a file or --set, or is it the default? "default", "FILE:LINE" or "--set". */
const char *cpl_config_origin(const cpl_config *c, const char *key);

/* experiment.sweep: the i-th swept key and its j-th value (as YAML text); false past the end. */
bool cpl_config_sweep(const cpl_config *c, size_t i, const char **key, size_t *values);
const char *cpl_config_sweep_value(const cpl_config *c, size_t i, size_t j);

/* The whole effective configuration as YAML, each line that isn't a default marked with where it came from. */
void cpl_config_print(const cpl_config *c, cpl_buf *out);

#endif
