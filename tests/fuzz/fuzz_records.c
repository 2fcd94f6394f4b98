/* SPDX-License-Identifier: Apache-2.0 */
/* A file of pairs or texts, plain or compressed, lines or JSON lines: what comes out is valid UTF-8 whatever went in,
 * the fast JSON reader says what the whole one says, and a refusal is one line. Input: a byte of switches, the file. */
#include <string.h>

#include "base/error.h"
#include "base/flat_json.h"
#include "base/json.h"
#include "base/records.h"
#include "base/utf8.h"
#include "fuzz/scratch_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PAIRS = 1, JSONL = 2, RECORDS_MAX = 2000, OUTPUT_MAX = 1 << 24 };

static void check_valid(const cpl_buf *b)
{
    if (b->size && cpl_utf8_valid_prefix(b->data, b->size) != b->size) abort();
}

/* What the fast reader takes, jansson takes with the same strings. */
static void check_flat(const char *text, size_t n)
{
    static const char *const keys[] = {"query", "document"};
    cpl_buf first = {0}, second = {0};
    cpl_buf *const out[] = {&first, &second};
    if (cpl_utf8_valid_prefix(text, n) == n && cpl_flat_json_take(text, n, keys, 2, out)) {
        json_t *o;
        cpl_error err;
        if (cpl_json_parse(&o, "fuzz", text, n, &err)) abort();
        for (int k = 0; k < 2; k++) {
            const json_t *v = json_object_get(o, keys[k]);
            if (json_string_length(v) != out[k]->size) abort();
            if (out[k]->size && memcmp(json_string_value(v), out[k]->data, out[k]->size) != 0) abort();
        }
        json_decref(o);
    }
    cpl_buf_deinit(&first);
    cpl_buf_deinit(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cpl_records *r = NULL;
    cpl_buf first = {0}, second = {0};
    cpl_error err = {0};
    if (size < 1) return 0;
    const uint8_t switches = data[0];
    check_flat((const char *)data + 1, size - 1);
    const char *path = scratch_file(data + 1, size - 1);
    cpl_status st =
        cpl_records_open(&r, path, switches & JSONL ? CPL_RECORDS_JSONL : CPL_RECORDS_LINES, switches & PAIRS, &err);
    bool end = false;
    for (int i = 0; !st && !end && i < RECORDS_MAX && first.size < OUTPUT_MAX; i++) {
        cpl_buf_clear(&first);
        cpl_buf_clear(&second);
        st = cpl_records_next(r, &first, &second, &end, &err);
        check_valid(&first);
        check_valid(&second);
    }
    if (st && (!err.what[0] || strpbrk(err.what, "\r\n"))) abort();
    cpl_records_close(r);
    cpl_buf_deinit(&first);
    cpl_buf_deinit(&second);
    return 0;
}
