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
/* Was it set by a file or --set, or is it the default? "default", "FILE:LINE", "--set" or a flag. */
const char *cpl_config_origin(const cpl_config *c, const char *key);

/* experiment.sweep: the i-th swept key and its j-th value (as YAML text); false past the end. */
bool cpl_config_sweep(const cpl_config *c, size_t i, const char **key, size_t *values);
const char *cpl_config_sweep_value(const cpl_config *c, size_t i, size_t j);

/* Overrides a key by text that isn't YAML (a command-line flag's value); lists take `n` values, other keys one.
 * `origin` is what cpl_config_origin then says ("--model"). */
cpl_status cpl_config_override(cpl_config *c, const char *key, const char *const *values, size_t n, const char *origin,
                               cpl_error *err);

/* Refuses what was asked for and isn't there ("not supported in this version", naming the key and where it was set)
 * and keys that contradict each other. Loading alone checks only each value's own type and range. */
cpl_status cpl_config_check(const cpl_config *c, cpl_error *err);

/* Models to serve: the entries of `models`, or the one that the section `model` is. */
size_t cpl_config_model_count(const cpl_config *c);
/* The i-th of them as a configuration whose section `model` is its own, model.replicas counting model_pool.instances
 * too. To be closed before c. */
cpl_status cpl_config_model(cpl_config **out, const cpl_config *c, size_t i, cpl_error *err);
/* Such a one from a request's text, a map with keys of `model` in YAML or JSON that has a name. Of a model of that name
 * in c it changes what the text says; else it is c's section `model` with that on top. It is checked. */
cpl_status cpl_config_model_parse(cpl_config **out, const cpl_config *c, const char *text, size_t n, cpl_error *err);
/* Of such a one: where the model is (model.path, else model.name), and what requests call it (model.name; its last part
 * where it is also the place). */
const char *cpl_config_model_place(const cpl_config *model);
const char *cpl_config_model_name(const cpl_config *model);

/* What several keys mean together. Precision: "fp32" ... "auto", from model.precision, model.quantized with
 * quantization_mode, or the backend's own section; two that disagree are CPL_INVALID naming both. */
cpl_status cpl_config_precision(const cpl_config *c, const char **precision, cpl_error *err);
/* "greedy", "timeout" or "off" (see batching.policy in the table). */
cpl_status cpl_config_policy(const cpl_config *c, const char **policy, cpl_error *err);
/* Was the key given (by a file, --set or a flag) rather than left at its default? */
bool cpl_config_given(const cpl_config *c, const char *key);
/* Keys set in the backend's own section (model.BACKEND.*) that are no precision, each "key=value" appended to *out
 * with a 0 behind it; returns how many. */
size_t cpl_config_backend_settings(const cpl_config *c, cpl_buf *out);

/* The whole effective configuration as YAML, each line that isn't a default marked with where it came from. */
void cpl_config_print(const cpl_config *c, cpl_buf *out);
/* Only what was given, as a file that says the same. */
void cpl_config_print_given(const cpl_config *c, cpl_buf *out);
/* Every key with type, default, range and meaning, for people. */
void cpl_config_describe(cpl_buf *out);

#endif
