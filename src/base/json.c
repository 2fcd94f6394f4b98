/* SPDX-License-Identifier: Apache-2.0 */
/* json.c - reading is jansson's (strict: no duplicate keys, no trailing text); writing is a few functions, because
 * building a tree only to print it would cost more than the printing. Threads: no state. */
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/shortest.h"
#include "base/utf8.h"

cpl_status cpl_json_parse(json_t **out, const char *file, const char *data, size_t n, cpl_error *err)
{
    json_error_t e;
    *out = json_loadb(data, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
    if (*out) return CPL_OK;
    if (json_error_code(&e) == json_error_out_of_memory) return cpl_fail_memory(err, n);
    return cpl_fail_line(err, CPL_CORRUPT, file, e.line, e.column, NULL, "not valid JSON: %s", e.text);
}

cpl_status cpl_json_load(json_t **out, const char *path, size_t bytes_max, cpl_error *err)
{
    cpl_buf text = {0};
    *out = NULL;
    cpl_status st = cpl_file_read(&text, path, bytes_max, err);
    if (!st) st = cpl_json_parse(out, path, text.data, text.size, err);
    cpl_buf_deinit(&text);
    return st;
}

static void before(cpl_json_writer *w, const char *key)
{
    uint64_t bit = (uint64_t)1 << w->depth;
    if (w->comma & bit) cpl_buf_add(w->out, ",", 1);
    w->comma |= bit;
    if (w->pretty && w->depth) {
        cpl_buf_add(w->out, "\n", 1);
        for (uint32_t i = 0; i < w->depth; i++) cpl_buf_add(w->out, "  ", 2);
    }
    if (!key) return;
    cpl_json_quote(w->out, key, strlen(key));
    cpl_buf_text(w->out, w->pretty ? ": " : ":");
}

void cpl_json_open(cpl_json_writer *w, const char *key, char bracket)
{
    before(w, key);
    cpl_buf_add(w->out, &bracket, 1);
    w->depth++;
    CPL_ASSERT(w->depth < 64);
    w->comma &= ~((uint64_t)1 << w->depth);
}

void cpl_json_close(cpl_json_writer *w, char bracket)
{
    CPL_ASSERT(w->depth > 0);
    bool any = w->comma & (uint64_t)1 << w->depth;
    w->depth--;
    if (w->pretty && any) {
        cpl_buf_add(w->out, "\n", 1);
        for (uint32_t i = 0; i < w->depth; i++) cpl_buf_add(w->out, "  ", 2);
    }
    cpl_buf_add(w->out, &bracket, 1);
}

void cpl_json_quote(cpl_buf *out, const char *value, size_t n)
{
    cpl_buf_add(out, "\"", 1);
    size_t from = 0, i = 0;
    while (i < n) {
        unsigned char c = (unsigned char)value[i];
        if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\') {
            i++;
            continue;
        }
        uint32_t scalar;
        size_t len = cpl_utf8_decode(value + i, n - i, &scalar);
        bool intact = c >= 0x80 && cpl_utf8_valid_prefix(value + i, len) == len;
        if (intact) {
            i += len;
            continue;
        }
        cpl_buf_add(out, value + from, i - from);
        if (c >= 0x80)
            cpl_buf_text(out, "\xEF\xBF\xBD");
        else if (c == '"' || c == '\\')
            cpl_buf_print(out, "\\%c", c);
        else if (c == '\n')
            cpl_buf_text(out, "\\n");
        else if (c == '\t')
            cpl_buf_text(out, "\\t");
        else
            cpl_buf_print(out, "\\u%04x", c);
        i += len;
        from = i;
    }
    cpl_buf_add(out, value + from, i - from);
    cpl_buf_add(out, "\"", 1);
}

void cpl_json_bytes(cpl_json_writer *w, const char *key, const char *value, size_t n)
{
    before(w, key);
    cpl_json_quote(w->out, value, n);
}

void cpl_json_text(cpl_json_writer *w, const char *key, const char *value)
{
    before(w, key);
    if (value)
        cpl_json_quote(w->out, value, strlen(value));
    else
        cpl_buf_text(w->out, "null");
}

void cpl_json_int(cpl_json_writer *w, const char *key, int64_t value)
{
    before(w, key);
    cpl_buf_print(w->out, "%lld", (long long)value);
}

void cpl_json_double(cpl_json_writer *w, const char *key, double value)
{
    before(w, key);
    if (!isfinite(value)) {
        cpl_buf_text(w->out, "null");
        return;
    }
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    cpl_buf_text(w->out, text);
}

void cpl_json_float(cpl_json_writer *w, const char *key, double value)
{
    before(w, key);
    float v = (float)value;
    if (!isfinite(v)) {
        cpl_buf_text(w->out, "null");
        return;
    }
    char text[CPL_FLOAT_TEXT];
    cpl_buf_add(w->out, text, (size_t)cpl_float_text(text, v));
}

void cpl_json_bool(cpl_json_writer *w, const char *key, bool value)
{
    before(w, key);
    cpl_buf_text(w->out, value ? "true" : "false");
}
