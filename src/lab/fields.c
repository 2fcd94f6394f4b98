/* SPDX-License-Identifier: Apache-2.0 */
/* fields.c - see fields.h. Results outlive the program that wrote them, so reading is lenient about what is missing and
 * strict about what is wrong. No state. */
#include "lab/fields.h"

#include "base/error.h"

void cpl_fields_write(cpl_json_writer *w, const cpl_field *fields, const void *from)
{
    for (const cpl_field *f = fields; f->name; f++) {
        const char *at = (const char *)from + f->offset;
        switch (f->kind) {
        case CPL_FIELD_TEXT: {
            const char *text = *(const char *const *)(const void *)at;
            cpl_json_text(w, f->name, text ? text : "");
            break;
        }
        case CPL_FIELD_COUNT: cpl_json_int(w, f->name, (int64_t) * (const uint64_t *)(const void *)at); break;
        case CPL_FIELD_NUMBER: cpl_json_double(w, f->name, *(const double *)(const void *)at); break;
        case CPL_FIELD_TRUTH: cpl_json_bool(w, f->name, *(const bool *)(const void *)at); break;
        }
    }
}

static bool read_one(char *at, cpl_field_kind kind, json_t *v)
{
    switch (kind) {
    case CPL_FIELD_TEXT:
        if (!json_is_string(v)) return false;
        *(const char **)(void *)at = json_string_value(v);
        return true;
    case CPL_FIELD_COUNT:
        if (!json_is_integer(v) || json_integer_value(v) < 0) return false;
        *(uint64_t *)(void *)at = (uint64_t)json_integer_value(v);
        return true;
    case CPL_FIELD_NUMBER:
        if (json_is_null(v)) return true; /* was not finite */
        if (!json_is_number(v)) return false;
        *(double *)(void *)at = json_number_value(v);
        return true;
    case CPL_FIELD_TRUTH:
        if (!json_is_boolean(v)) return false;
        *(bool *)(void *)at = json_is_true(v);
        return true;
    }
    return false;
}

cpl_status cpl_fields_read(void *into, const cpl_field *fields, json_t *object, const char *file, cpl_error *err)
{
    for (const cpl_field *f = fields; f->name; f++) {
        char *at = (char *)into + f->offset;
        json_t *v = json_object_get(object, f->name);
        if (!v) {
            if (f->kind == CPL_FIELD_TEXT) *(const char **)(void *)at = "";
            continue;
        }
        if (!read_one(at, f->kind, v))
            return cpl_fail_file(err, CPL_CORRUPT, file,
                                 "'%s' has the wrong type for a result: run the experiment again", f->name);
    }
    return CPL_OK;
}
