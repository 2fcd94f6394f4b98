/* SPDX-License-Identifier: Apache-2.0 */
/* A tokenizer.json, a NUL byte, a text (any bytes at all). A tokenizer that is accepted must keep its ids in its
 * vocabulary, count what it encodes, and encode a prefix of the same when room is short; refusals must say why. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { IDS_MAX = 4096, SHORT = 7 };

static void check(int good)
{
    if (!good) abort();
}

static void use(const cpl_tokenizer *t, cpl_text text)
{
    static int32_t ids[IDS_MAX], some[SHORT];
    static uint8_t types[IDS_MAX];
    cpl_tokenizer_scratch *s = NULL;
    cpl_error err;
    size_t count = 0, some_count = 0, whole = 0, length = 0;
    check(cpl_tokenizer_scratch_open(&s, &err) == CPL_OK);
    check(cpl_tokenizer_encode(t, s, text, ids, IDS_MAX, &count, &err) == CPL_OK && count <= IDS_MAX);
    for (size_t i = 0; i < count; i++) check(ids[i] >= 0 && (uint32_t)ids[i] < cpl_tokenizer_vocab_size(t));
    check(cpl_tokenizer_count(t, s, text, &whole, &err) == CPL_OK && whole >= count);
    check(count == IDS_MAX || whole == count);
    check(cpl_tokenizer_encode(t, s, text, some, SHORT, &some_count, &err) == CPL_OK);
    check(some_count == (count < SHORT ? count : SHORT) && !memcmp(some, ids, some_count * sizeof *ids));
    size_t limit = cpl_tokenizer_added(t, 1) + 9;
    check(cpl_tokenizer_pair(t, s, text, &text, limit, ids, types, IDS_MAX, &length, &err) == CPL_OK);
    check(length <= limit && length >= cpl_tokenizer_added(t, 1));
    for (size_t i = 0; i < length && i < IDS_MAX; i++)
        check(ids[i] >= 0 && (uint32_t)ids[i] < cpl_tokenizer_vocab_size(t));
    cpl_tokenizer_scratch_close(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *cut = size ? memchr(data, 0, size) : NULL;
    size_t n = cut ? (size_t)(cut - data) : size;
    cpl_tokenizer *t = NULL;
    cpl_error err;
    cpl_error_clear(&err);
    cpl_status st = cpl_tokenizer_parse(&t, "fuzz", (const char *)data, n, &err);
    if (st)
        check(!t && err.status == st && err.what[0] && !strpbrk(err.what, "\r\n"));
    else
        use(t, cut ? (cpl_text){(const char *)cut + 1, size - n - 1} : cpl_text_of("Hello, w\xC3\xB6rld [SEP] abab"));
    cpl_tokenizer_close(t);
    return 0;
}
