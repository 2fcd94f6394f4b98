/* SPDX-License-Identifier: Apache-2.0 */
/* records.c - one line is one record. Lines are repaired before they are parsed, so what comes out is valid UTF-8
 * whatever went in, and a strange byte never stops a run of a million pairs; a record of the wrong shape does, with its
 * line. Threads: lines come to one at a time; taking them apart is any thread's, with a parser of its own. */
#include "base/records.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/flat_json.h"
#include "base/json.h"
#include "base/lines.h"
#include "base/utf8.h"

struct cpl_records {
    cpl_lines *lines;
    bool pairs, jsonl;
    cpl_record_parser parser; /* of cpl_records_next */
};

cpl_status cpl_record_format_parse(cpl_record_format *out, const char *name, cpl_error *err)
{
    if (!name)
        *out = CPL_RECORDS_BY_NAME;
    else if (strcmp(name, "tsv") == 0 || strcmp(name, "text") == 0)
        *out = CPL_RECORDS_LINES;
    else if (strcmp(name, "jsonl") == 0)
        *out = CPL_RECORDS_JSONL;
    else
        return cpl_fail(err, CPL_INVALID, "unknown format '%s': expected tsv, text or jsonl", name);
    return CPL_OK;
}

static bool named_jsonl(const char *path)
{
    static const char *const endings[] = {".jsonl", ".jsonl.gz", ".jsonl.zst"};
    size_t n = strlen(path);
    for (size_t i = 0; i < 3; i++) {
        size_t m = strlen(endings[i]);
        if (n >= m && strcmp(path + n - m, endings[i]) == 0) return true;
    }
    return false;
}

cpl_status cpl_records_open(cpl_records **out, const char *path, cpl_record_format format, bool pairs, cpl_error *err)
{
    *out = NULL;
    cpl_records *r = calloc(1, sizeof *r);
    if (!r) return cpl_fail_memory(err, sizeof *r);
    r->pairs = pairs;
    r->jsonl = format == CPL_RECORDS_JSONL || (format == CPL_RECORDS_BY_NAME && named_jsonl(path));
    cpl_status st = cpl_lines_open(&r->lines, path, err);
    if (st) {
        free(r);
        return st;
    }
    *out = r;
    return CPL_OK;
}

void cpl_records_close(cpl_records *r)
{
    if (!r) return;
    cpl_lines_close(r->lines);
    cpl_record_parser_deinit(&r->parser);
    free(r);
}

void cpl_records_interrupt(cpl_records *r) { cpl_lines_interrupt(r->lines); }

static cpl_status bad(const cpl_records *r, uint64_t number, cpl_error *err, const char *why)
{
    return cpl_fail_line(err, CPL_INVALID, cpl_lines_path(r->lines), (int)number, 0, NULL, "%s", why);
}

static cpl_status take_field(const cpl_records *r, uint64_t number, const json_t *object, const char *key, cpl_buf *out,
                             cpl_error *err)
{
    const json_t *v = json_object_get(object, key);
    if (!json_is_string(v))
        return cpl_fail_line(err, CPL_INVALID, cpl_lines_path(r->lines), (int)number, 0, key,
                             "expected a JSON object with a string \"%s\"", key);
    cpl_buf_add(out, json_string_value(v), json_string_length(v));
    return cpl_buf_status(out, err);
}

static cpl_status take_json(const cpl_records *r, const char *line, size_t n, uint64_t number, cpl_buf *first,
                            cpl_buf *second, cpl_error *err)
{
    static const char *const pair_keys[] = {"query", "document"}, *const text_keys[] = {"text"};
    const char *const *keys = r->pairs ? pair_keys : text_keys;
    cpl_buf *const out[] = {first, second};
    size_t count = r->pairs ? 2 : 1;
    json_t *object = NULL;
    cpl_error inner;
    if (cpl_flat_json_take(line, n, keys, count, out)) {
        cpl_status st = cpl_buf_status(first, err);
        return st || !r->pairs ? st : cpl_buf_status(second, err);
    }
    cpl_status st = cpl_json_parse(&object, "line", line, n, &inner);
    if (st == CPL_NO_MEMORY) return cpl_fail_memory(err, n);
    if (st) return bad(r, number, err, inner.what);
    for (size_t k = 0; k < count && !st; k++) st = take_field(r, number, object, keys[k], out[k], err);
    json_decref(object);
    return st;
}

static bool blank(const char *line, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (line[i] != ' ' && line[i] != '\t') return false;
    return true;
}

/* The next line that is a record. */
static cpl_status next_line(cpl_records *r, const char **line, size_t *n, bool *end, cpl_error *err)
{
    cpl_status st;
    do st = cpl_lines_next(r->lines, line, n, end, err);
    while (!st && !*end && r->jsonl && blank(*line, *n));
    return st;
}

cpl_status cpl_records_line(cpl_records *r, cpl_buf *out, uint64_t *number, bool *end, cpl_error *err)
{
    const char *line;
    size_t n;
    cpl_status st = next_line(r, &line, &n, end, err);
    if (st || *end) return st;
    *number = cpl_lines_number(r->lines);
    cpl_buf_add(out, line, n);
    return cpl_buf_status(out, err);
}

void cpl_record_parser_deinit(cpl_record_parser *p) { cpl_buf_deinit(&p->repaired); }

cpl_status cpl_records_parse(const cpl_records *r, cpl_record_parser *p, const char *line, size_t n, uint64_t number,
                             cpl_buf *first, cpl_buf *second, cpl_error *err)
{
    if (cpl_utf8_valid_prefix(line, n) < n) {
        cpl_buf_clear(&p->repaired);
        p->repairs += cpl_utf8_repair(&p->repaired, line, n);
        cpl_status st = cpl_buf_status(&p->repaired, err);
        if (st) return st;
        line = p->repaired.data;
        n = p->repaired.size;
    }
    if (r->jsonl) return take_json(r, line, n, number, first, second, err);
    if (!r->pairs) {
        cpl_buf_add(first, line, n);
        return cpl_buf_status(first, err);
    }
    const char *tab = memchr(line, '\t', n);
    if (!tab) return bad(r, number, err, "expected query<TAB>document, found no tab");
    cpl_buf_add(first, line, (size_t)(tab - line));
    cpl_buf_add(second, tab + 1, n - (size_t)(tab - line) - 1);
    cpl_status st = cpl_buf_status(first, err);
    return st ? st : cpl_buf_status(second, err);
}

cpl_status cpl_records_next(cpl_records *r, cpl_buf *first, cpl_buf *second, bool *end, cpl_error *err)
{
    const char *line;
    size_t n;
    cpl_status st = next_line(r, &line, &n, end, err);
    if (st || *end) return st;
    return cpl_records_parse(r, &r->parser, line, n, cpl_lines_number(r->lines), first, second, err);
}

uint64_t cpl_records_repaired(const cpl_records *r) { return r->parser.repairs; }
