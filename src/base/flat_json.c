/* SPDX-License-Identifier: Apache-2.0 */
/* flat_json.c - files of pairs are flat objects of a few strings, and a general parser spends more time on one than
 * the tokenizer does.
 *
 * The one idea: read only what is certain. Whatever this reader accepts, jansson accepts with the same strings (a test
 * compares them on mutated lines); whatever it isn't sure of (nesting, control characters, odd numbers, a lone
 * surrogate, more keys than it can compare) it hands back untouched, so errors and rare forms keep one author.
 * Threads: no state. */
#include "base/flat_json.h"

#include <string.h>

#include "base/utf8.h"

enum { OTHER_KEYS = 8 };

typedef struct reader {
    const char *at, *end;
} reader;

static void skip_space(reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\r' || *r->at == '\n')) r->at++;
}

static bool take(reader *r, char c)
{
    skip_space(r);
    if (r->at == r->end || *r->at != c) return false;
    r->at++;
    return true;
}

/* Four hex digits. */
static bool take_unit(reader *r, uint32_t *unit)
{
    if (r->end - r->at < 4) return false;
    *unit = 0;
    for (int i = 0; i < 4; i++) {
        char c = *r->at++;
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                                : 16;
        if (digit > 15) return false;
        *unit = *unit << 4 | digit;
    }
    return true;
}

static bool take_escape(reader *r, cpl_buf *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (r->at == r->end) return false;
    char c = *r->at++;
    const char *simple = c ? strchr(from, c) : NULL;
    if (simple) {
        cpl_buf_add(out, &to[simple - from], 1);
        return true;
    }
    uint32_t scalar, low;
    if (c != 'u' || !take_unit(r, &scalar)) return false;
    if (scalar >= 0xD800 && scalar < 0xE000) {
        if (scalar >= 0xDC00 || r->end - r->at < 6 || r->at[0] != '\\' || r->at[1] != 'u') return false;
        r->at += 2;
        if (!take_unit(r, &low) || low < 0xDC00 || low > 0xDFFF) return false;
        scalar = 0x10000 + ((scalar - 0xD800) << 10) + (low - 0xDC00);
    }
    char bytes[4];
    cpl_buf_add(out, bytes, cpl_utf8_encode(scalar, bytes));
    return true;
}

/* The rest of a string whose opening quote was read. */
static bool take_string(reader *r, cpl_buf *out)
{
    const char *from = r->at;
    for (; r->at < r->end; r->at++) {
        unsigned char c = (unsigned char)*r->at;
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        if (c < 0x20) return false;
        cpl_buf_add(out, from, (size_t)(r->at - from));
        r->at++;
        if (c == '"') return true;
        if (!take_escape(r, out)) return false;
        from = r->at--;
    }
    return false;
}

/* A string without escapes, in place. */
static bool take_plain(reader *r, const char **text, size_t *n)
{
    if (!take(r, '"')) return false;
    *text = r->at;
    for (; r->at < r->end && *r->at != '"'; r->at++)
        if ((unsigned char)*r->at < 0x20 || *r->at == '\\') return false;
    if (r->at == r->end) return false;
    *n = (size_t)(r->at++ - *text);
    return true;
}

/* The value of a key nobody asked for: a string without escapes, a short whole number, true, false or null. */
static bool skip_value(reader *r)
{
    static const char *const words[] = {"true", "false", "null"};
    const char *text;
    size_t n;
    skip_space(r);
    if (r->at == r->end) return false;
    if (*r->at == '"') return take_plain(r, &text, &n);
    for (size_t i = 0; i < 3; i++) {
        n = strlen(words[i]);
        if ((size_t)(r->end - r->at) < n || memcmp(r->at, words[i], n) != 0) continue;
        r->at += n;
        return true;
    }
    const char *from = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') r->at++;
    n = (size_t)(r->at - from);
    return n && n <= 15 && (n == 1 || *from != '0');
}

/* One object, the position of each key among the wanted ones or behind them told apart by `seen`. */
static bool take_object(reader *r, const char *const *keys, size_t count, cpl_buf *const *out)
{
    const char *other[OTHER_KEYS];
    size_t other_size[OTHER_KEYS], others = 0;
    bool seen[CPL_FLAT_WANTED_MAX] = {false};
    if (!take(r, '{')) return false;
    do {
        const char *key;
        size_t n, k = 0;
        if (!take_plain(r, &key, &n) || !take(r, ':')) return false;
        while (k < count && (strlen(keys[k]) != n || memcmp(keys[k], key, n) != 0)) k++;
        if (k < count) {
            if (seen[k] || !take(r, '"') || !take_string(r, out[k])) return false;
            seen[k] = true;
            continue;
        }
        for (size_t i = 0; i < others; i++)
            if (other_size[i] == n && !memcmp(other[i], key, n)) return false;
        if (others == OTHER_KEYS || !skip_value(r)) return false;
        other[others] = key;
        other_size[others++] = n;
    } while (take(r, ','));
    if (!take(r, '}')) return false;
    for (size_t k = 0; k < count; k++)
        if (!seen[k]) return false;
    skip_space(r);
    return r->at == r->end;
}

bool cpl_flat_json_take(const char *line, size_t n, const char *const *keys, size_t count, cpl_buf *const *out)
{
    reader r = {line, line + n};
    size_t before[CPL_FLAT_WANTED_MAX];
    if (count > CPL_FLAT_WANTED_MAX) return false;
    for (size_t k = 0; k < count; k++) before[k] = out[k]->size;
    if (take_object(&r, keys, count, out)) return true;
    for (size_t k = 0; k < count; k++) {
        out[k]->size = before[k];
        if (out[k]->data) out[k]->data[before[k]] = 0;
    }
    return false;
}
