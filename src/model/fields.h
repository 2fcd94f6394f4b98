/* SPDX-License-Identifier: Apache-2.0 */
/* fields.h - typed reading of the keys of a JSON object, with errors that name file, key, expected and found.
 * A key that is absent or null is the same thing: Python tools write None as null. */
#ifndef CPL_MODEL_FIELDS_H
#define CPL_MODEL_FIELDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "couplet.h"

/* Reads whole numbers that JSON writes as 12 or as 12.0. Absent: *fallback, or with fallback NULL CPL_CORRUPT. */
cpl_status cpl_field_u32(const json_t *object, const char *file, const char *key, uint32_t min, uint32_t max,
                         const uint32_t *fallback, uint32_t *out, cpl_error *err);
/* Absent: fallback. */
cpl_status cpl_field_number(const json_t *object, const char *file, const char *key, double fallback, double *out,
                            cpl_error *err);
cpl_status cpl_field_bool(const json_t *object, const char *file, const char *key, bool fallback, bool *out,
                          cpl_error *err);
/* Borrowed from the object; absent: fallback (may be NULL). */
cpl_status cpl_field_text(const json_t *object, const char *file, const char *key, const char *fallback,
                          const char **out, cpl_error *err);
/* The value, or NULL where it is absent or null. */
const json_t *cpl_field_any(const json_t *object, const char *key);

/* CPL_CORRUPT unless `value` is an object. */
cpl_status cpl_field_expect_object(const json_t *value, const char *file, const char *what, cpl_error *err);

/* Hostile text made fit for a one-line message: control characters become '?', long text is cut with "...". */
enum { CPL_SHOW_BYTES = 96 };
const char *cpl_show(char buf[CPL_SHOW_BYTES], const char *text);

/* "a string", "a number", ... for messages. */
const char *cpl_json_kind(const json_t *value);

#endif
