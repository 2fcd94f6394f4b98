/* SPDX-License-Identifier: Apache-2.0 */
/* fields.h - plain structs to JSON and back by one table, so that what is written is what is read. */
#ifndef CPL_LAB_FIELDS_H
#define CPL_LAB_FIELDS_H

#include <stddef.h>

#include "base/json.h"

typedef enum cpl_field_kind { CPL_FIELD_TEXT, CPL_FIELD_COUNT, CPL_FIELD_NUMBER, CPL_FIELD_TRUTH } cpl_field_kind;

/* TEXT: const char *, written as "" when NULL and never NULL once read. COUNT: uint64_t. NUMBER: double. TRUTH: bool.
 */
typedef struct cpl_field {
    const char *name; /* NULL ends a table */
    cpl_field_kind kind;
    size_t offset;
} cpl_field;

/* The members one after another, into the object that is open. */
void cpl_fields_write(cpl_json_writer *w, const cpl_field *fields, const void *from);
/* A member that is missing keeps what `into` holds (texts become ""), so older files stay readable; one of another type
 * is CPL_CORRUPT naming file and key. Texts point into `object`. */
cpl_status cpl_fields_read(void *into, const cpl_field *fields, json_t *object, const char *file, cpl_error *err);

#endif
