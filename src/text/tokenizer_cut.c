/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_cut.c - reads the vocabulary out of a tokenizer.json without building a JSON object of it.
 * The one idea: 98 % of such a file is one flat object of words and numbers. It is read here straight into the draft,
 * and the JSON library gets the file with {} in its place: a tenth of the time, and no heap of 30,000 small objects.
 * What is read here is a strict part of JSON (whole numbers, plain escapes, valid UTF-8); at anything else, malformed
 * or just unusual, the cut is called off and the whole file goes to the library, whose errors name line and column. A
 * document is valid JSON exactly when it is with the object, which is, replaced by {}. Repeated keys show when the
 * words are sorted. Threads: no state. */
#include <string.h>

#include "base/error.h"
#include "base/utf8.h"
#include "text/tokenizer_impl.h"

typedef struct reader {
    const char *at, *end;
} reader;

static void skip_space(reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t')) r->at++;
}

static bool take(reader *r, char c)
{
    skip_space(r);
    if (r->at == r->end || *r->at != c) return false;
    r->at++;
    return true;
}

/* A string's raw inside, escapes as they are. */
static bool take_string(reader *r, const char **text, size_t *size, bool *escaped)
{
    if (!take(r, '"')) return false;
    *text = r->at;
    *escaped = false;
    for (; r->at < r->end && *r->at != '"'; r->at++) {
        if ((unsigned char)*r->at < 0x20) return false;
        if (*r->at != '\\') continue;
        *escaped = true;
        if (++r->at == r->end) return false;
    }
    if (r->at == r->end) return false;
    *size = (size_t)(r->at++ - *text);
    return true;
}

/* Past one value of any kind; what it skips is checked by the library. */
static bool skip_value(reader *r)
{
    const char *text;
    size_t size, depth = 0;
    bool escaped;
    skip_space(r);
    do {
        skip_space(r);
        if (r->at == r->end) return false;
        if (*r->at == '"') {
            if (!take_string(r, &text, &size, &escaped)) return false;
            continue;
        }
        if (*r->at == '{' || *r->at == '[') depth++;
        if (*r->at == '}' || *r->at == ']') {
            if (!depth) return false;
            depth--;
        }
        if (!depth && *r->at == ',') return false;
        r->at++;
        while (!depth && r->at < r->end && !strchr(",]} \n\r\t", *r->at)) r->at++; /* the rest of a number or word */
    } while (depth);
    return true;
}

/* To the value of a key of the object that begins here. */
static bool find_key(reader *r, const char *key)
{
    const char *text;
    size_t size, n = strlen(key);
    bool escaped;
    if (!take(r, '{')) return false;
    while (take_string(r, &text, &size, &escaped) && take(r, ':')) {
        skip_space(r);
        if (size == n && !memcmp(text, key, n)) return true;
        if (!skip_value(r) || !take(r, ',')) return false;
    }
    return false;
}

static bool take_id(reader *r, int64_t *id)
{
    skip_space(r);
    const char *from = r->at;
    *id = 0;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9' && r->at - from < 10) *id = *id * 10 + (*r->at++ - '0');
    return r->at > from && r->at - from < 10 && (*from != '0' || r->at - from == 1);
}

static int hex4(const char *p)
{
    int value = 0;
    for (int i = 0; i < 4; i++) {
        int c = p[i] | 0x20, digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* Resolves the escapes of a string into out, which has size bytes; false: one that the library shall see to. */
static bool unescape(const char *text, size_t size, char *out, size_t *made)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        if (text[i] != '\\') {
            out[n++] = text[i];
            continue;
        }
        const char *simple = text[++i] ? strchr(from, text[i]) : NULL;
        if (simple) {
            out[n++] = to[simple - from];
            continue;
        }
        int scalar = text[i] == 'u' && size - i > 4 ? hex4(text + i + 1) : -1;
        if (scalar <= 0 || (scalar >= 0xD800 && scalar < 0xE000)) return false;
        n += cpl_utf8_encode((uint32_t)scalar, out + n);
        i += 4;
    }
    *made = n;
    return true;
}

/* One word and its id. *usual false: call the cut off. */
static cpl_status read_word(cpl_draft *d, reader *r, bool *usual, cpl_error *err)
{
    const char *text;
    size_t size;
    bool escaped;
    int64_t id;
    *usual = take_string(r, &text, &size, &escaped) && take(r, ':') && take_id(r, &id);
    if (!*usual) return CPL_OK;
    if (escaped) {
        char *plain = cpl_arena_take(&d->t->arena, size, 1);
        if (!plain) return cpl_fail_memory(err, size);
        *usual = unescape(text, size, plain, &size);
        text = plain;
    }
    return *usual ? cpl_draft_add_word(d, text, size, id, err) : CPL_OK;
}

static cpl_status read_words(cpl_draft *d, reader *r, bool *usual, cpl_error *err)
{
    *usual = take(r, '{');
    if (*usual && take(r, '}')) return CPL_OK;
    while (*usual) {
        cpl_status st = read_word(d, r, usual, err);
        if (st || !*usual || take(r, '}')) return st;
        *usual = take(r, ',');
    }
    return CPL_OK;
}

cpl_status cpl_draft_cut_vocab(cpl_draft *d, const char *json, size_t n, cpl_buf *rest, bool *cut, cpl_error *err)
{
    reader r = {json, json + n};
    *cut = cpl_utf8_valid_prefix(json, n) == n && find_key(&r, "model") && find_key(&r, "vocab");
    if (!*cut) return CPL_OK;
    const char *from = r.at;
    cpl_status st = read_words(d, &r, cut, err);
    if (st || !*cut) {
        d->entry_count = 0;
        d->t->vocab_size = 0;
        *cut = false;
        return st;
    }
    cpl_buf_add(rest, json, (size_t)(from - json));
    cpl_buf_text(rest, "{}");
    cpl_buf_add(rest, r.at, (size_t)(r.end - r.at));
    return cpl_buf_status(rest, err);
}
