/* SPDX-License-Identifier: Apache-2.0 */
/* json_scan.c - a cursor over JSON. The one idea: whoever reads knows what should stand there and asks for it in order;
 * what isn't there makes the cursor bad, once, and every later question then answers no. Nesting is bounded, so that
 * skipping needs no stack that a reply can exhaust.
 * Threads: the caller's cursor. Rejected: a tree (jansson's costs more than the request did). */
#include "load/json_scan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER_BYTES = 64, DEPTH_MAX = 64 };

cpl_json_scan cpl_json_scan_open(const void *data, size_t n)
{
    return (cpl_json_scan){data, (const char *)data + n, false};
}

static bool fail(cpl_json_scan *s)
{
    s->bad = true;
    return false;
}

static char look(cpl_json_scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\t' || *s->at == '\r')) s->at++;
    return s->bad || s->at == s->end ? 0 : *s->at;
}

static bool take(cpl_json_scan *s, char c)
{
    if (look(s) != c) return fail(s);
    s->at++;
    return true;
}

bool cpl_json_scan_is(cpl_text key, const char *word)
{
    return key.size == strlen(word) && !memcmp(key.data, word, key.size);
}

bool cpl_json_scan_enter(cpl_json_scan *s, char bracket) { return take(s, bracket); }

cpl_text cpl_json_scan_string(cpl_json_scan *s)
{
    cpl_text none = {"", 0};
    if (!take(s, '"')) return none;
    const char *from = s->at;
    while (s->at < s->end && *s->at != '"') {
        if ((unsigned char)*s->at < 0x20) {
            fail(s);
            return none;
        }
        s->at += *s->at == '\\' && s->at + 1 < s->end ? 2 : 1;
    }
    if (s->at >= s->end) {
        fail(s);
        return none;
    }
    return (cpl_text){from, (size_t)(s->at++ - from)};
}

bool cpl_json_scan_next(cpl_json_scan *s, bool *first, char closing, cpl_text *key)
{
    const char c = look(s);
    if (c == closing) {
        s->at++;
        return false;
    }
    if (!*first && !take(s, ',')) return false;
    *first = false;
    if (key) {
        *key = cpl_json_scan_string(s);
        if (!take(s, ':')) return false;
    }
    return look(s) != 0 || fail(s);
}

static bool is_number_byte(char c)
{
    return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

double cpl_json_scan_number(cpl_json_scan *s)
{
    char text[NUMBER_BYTES], *end;
    size_t n = 0;
    const char c = look(s);
    if (c != '-' && (c < '0' || c > '9')) {
        fail(s);
        return 0;
    }
    while (s->at < s->end && is_number_byte(*s->at) && n + 1 < sizeof text) text[n++] = *s->at++;
    text[n] = 0;
    const double v = strtod(text, &end);
    if (*end || !isfinite(v)) {
        fail(s);
        return 0;
    }
    return v;
}

static void skip_word(cpl_json_scan *s)
{
    static const char *const words[] = {"true", "false", "null"};
    for (size_t i = 0; i < 3; i++) {
        const size_t n = strlen(words[i]);
        if ((size_t)(s->end - s->at) >= n && !memcmp(s->at, words[i], n)) {
            s->at += n;
            return;
        }
    }
    fail(s);
}

/* One scalar, or an opening or closing bracket with what has to stand around it. */
void cpl_json_scan_skip(cpl_json_scan *s)
{
    char closing[DEPTH_MAX];
    bool first[DEPTH_MAX];
    int depth = 0;
    do {
        if (depth) {
            cpl_text key;
            if (!cpl_json_scan_next(s, &first[depth - 1], closing[depth - 1],
                                    closing[depth - 1] == '}' ? &key : NULL)) {
                depth--;
                continue;
            }
        }
        const char c = look(s);
        if (c == '{' || c == '[') {
            if (depth == DEPTH_MAX) {
                fail(s);
                return;
            }
            s->at++;
            first[depth] = true;
            closing[depth++] = c == '{' ? '}' : ']';
        } else if (c == '"') {
            cpl_json_scan_string(s);
        } else if (c == '-' || (c >= '0' && c <= '9')) {
            cpl_json_scan_number(s);
        } else {
            skip_word(s);
        }
    } while (depth && !s->bad);
}

bool cpl_json_scan_whole(cpl_json_scan *s) { return look(s) == 0 && !s->bad && s->at == s->end; }
