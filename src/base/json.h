/* SPDX-License-Identifier: Apache-2.0 */
/* json.h - reading JSON through jansson with couplet's errors, and writing it into a cpl_buf. */
#ifndef CPL_BASE_JSON_H
#define CPL_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"
#include "couplet.h"

/* Parses a whole document: duplicate keys, invalid UTF-8 and trailing text are errors with line and column. `file`
 * names the source in errors. Release with json_decref. */
cpl_status cpl_json_parse(json_t **out, const char *file, const char *data, size_t n, cpl_error *err);
cpl_status cpl_json_load(json_t **out, const char *path, size_t bytes_max, cpl_error *err);

/* A writer that keeps track of commas. Keys are given inside objects, NULL inside arrays and at the top. Numbers that
 * are not finite are written as null. */
typedef struct cpl_json_writer {
    cpl_buf *out;
    uint32_t depth;
    uint64_t comma; /* bit d: something was written at depth d */
    bool pretty;    /* two-space indentation */
} cpl_json_writer;

void cpl_json_open(cpl_json_writer *w, const char *key, char bracket);      /* '{' or '[' */
void cpl_json_close(cpl_json_writer *w, char bracket);                      /* '}' or ']' */
void cpl_json_text(cpl_json_writer *w, const char *key, const char *value); /* NULL writes null */
void cpl_json_bytes(cpl_json_writer *w, const char *key, const char *value, size_t n);
void cpl_json_int(cpl_json_writer *w, const char *key, int64_t value);
void cpl_json_float(cpl_json_writer *w, const char *key, double value);  /* shortest that reads back as a float */
void cpl_json_double(cpl_json_writer *w, const char *key, double value); /* shortest that reads back as a double */
void cpl_json_bool(cpl_json_writer *w, const char *key, bool value);
/* The bytes of `value` as a JSON string with quotes, appended to out. Invalid UTF-8 becomes U+FFFD. */
void cpl_json_quote(cpl_buf *out, const char *value, size_t n);

#endif
