/* SPDX-License-Identifier: Apache-2.0 */
/* fields.c - the only way the model floor looks into JSON.
 * The one idea: each reader states what it expects, so that "expected X, found Y" is written once and not at fifty
 * places. Values are range-checked here, as doubles first: a whole number outside 2^53 is out of every range we ask
 * for. Threads: no state. */
#include "model/fields.h"

#include <math.h>
#include <string.h>

#include "base/error.h"

const char *cpl_json_kind(const json_t *value)
{
    switch (value ? (int)json_typeof(value) : -1) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "a list";
    case JSON_STRING: return "a string";
    case JSON_INTEGER:
    case JSON_REAL: return "a number";
    case JSON_TRUE:
    case JSON_FALSE: return "a boolean";
    case JSON_NULL: return "null";
    default: return "nothing";
    }
}

const char *cpl_show(char buf[CPL_SHOW_BYTES], const char *text)
{
    size_t n = strlen(text), room = CPL_SHOW_BYTES - 4;
    size_t keep = n <= room ? n : room;
    while (keep < n && keep && ((unsigned char)text[keep] & 0xC0) == 0x80) keep--; /* never half a character */
    for (size_t i = 0; i < keep; i++) {
        unsigned char c = (unsigned char)text[i];
        buf[i] = c < 0x20 || c == 0x7F ? '?' : (char)c;
    }
    memcpy(buf + keep, keep < n ? "..." : "", keep < n ? 4 : 1);
    return buf;
}

const json_t *cpl_field_any(const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);
    return v && !json_is_null(v) ? v : NULL;
}

cpl_status cpl_field_expect_object(const json_t *value, const char *file, const char *what, cpl_error *err)
{
    if (json_is_object(value)) return CPL_OK;
    return cpl_fail_file(err, CPL_CORRUPT, file, "%s: expected an object, found %s", what, cpl_json_kind(value));
}

static cpl_status wrong_kind(const json_t *v, const char *file, const char *key, const char *expected, cpl_error *err)
{
    return cpl_fail_line(err, CPL_CORRUPT, file, 0, 0, key, "key '%s': expected %s, found %s", key, expected,
                         cpl_json_kind(v));
}

cpl_status cpl_field_u32(const json_t *object, const char *file, const char *key, uint32_t min, uint32_t max,
                         const uint32_t *fallback, uint32_t *out, cpl_error *err)
{
    const json_t *v = cpl_field_any(object, key);
    if (!v && fallback) {
        *out = *fallback;
        return CPL_OK;
    }
    if (!v)
        return cpl_fail_line(err, CPL_CORRUPT, file, 0, 0, key,
                             "key '%s' is missing: expected a whole number from %u to %u", key, min, max);
    if (!json_is_number(v)) return wrong_kind(v, file, key, "a whole number", err);
    double d = json_number_value(v);
    if (!(d >= min && d <= max) || d != floor(d))
        return cpl_fail_line(err, CPL_CORRUPT, file, 0, 0, key,
                             "key '%s': expected a whole number from %u to %u, found %.17g", key, min, max, d);
    *out = (uint32_t)d;
    return CPL_OK;
}

cpl_status cpl_field_number(const json_t *object, const char *file, const char *key, double fallback, double *out,
                            cpl_error *err)
{
    const json_t *v = cpl_field_any(object, key);
    if (v && !json_is_number(v)) return wrong_kind(v, file, key, "a number", err);
    *out = v ? json_number_value(v) : fallback;
    return CPL_OK;
}

cpl_status cpl_field_bool(const json_t *object, const char *file, const char *key, bool fallback, bool *out,
                          cpl_error *err)
{
    const json_t *v = cpl_field_any(object, key);
    if (v && !json_is_boolean(v)) return wrong_kind(v, file, key, "true or false", err);
    *out = v ? json_is_true(v) : fallback;
    return CPL_OK;
}

cpl_status cpl_field_text(const json_t *object, const char *file, const char *key, const char *fallback,
                          const char **out, cpl_error *err)
{
    const json_t *v = cpl_field_any(object, key);
    if (v && !json_is_string(v)) return wrong_kind(v, file, key, "a string", err);
    *out = v ? json_string_value(v) : fallback;
    return CPL_OK;
}
