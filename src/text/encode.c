/* SPDX-License-Identifier: Apache-2.0 */
/* encode.c - from text to ids: added tokens cut the text into parts, normalize.c and words.c do the parts.
 * The one idea: first the added tokens of the raw text cut it; each part is normalised by itself, then cut by those
 * that match normalised text, and only this case needs the normalised text in memory. Without them a text goes through
 * a window of two kilobytes that stays in the first-level cache (encoder.h). Invariant: ids at `room` and beyond are
 * counted but not written. Threads: tokenizer shared and read-only, scratch the caller's own. Rejected: normalising
 * whole texts into a buffer (twice the memory traffic, and a limit on lengths). */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/utf8.h"
#include "text/encoder.h"
#include "text/unicode_tables.h"

bool cpl_tokenizer_grow(void **data, size_t *cap, size_t want, size_t item)
{
    if (want <= *cap) return true;
    size_t bigger = *cap * 2 > want ? *cap * 2 : want;
    if (bigger > SIZE_MAX / 2 / item) return false;
    void *p = realloc(*data, bigger * item);
    if (!p) return false;
    *data = p;
    *cap = bigger;
    return true;
}

/* ---- added tokens ------------------------------------------------------------------------------------------- */

/* The next added token at or behind `from`, leftmost and then longest; false: none. */
static bool find_added(const cpl_tokenizer *t, cpl_vocab_kind kind, cpl_text text, size_t from, size_t *at,
                       size_t *size, int32_t *which)
{
    const unsigned char *p = (const unsigned char *)text.data;
    for (size_t i = from; i < text.size; i++) {
        if (t->match_only[kind] >= 0) {
            const unsigned char *hit = memchr(p + i, t->match_only[kind], text.size - i);
            if (!hit) return false;
            i = (size_t)(hit - p);
        } else if (!t->match_first[kind][p[i]]) {
            continue;
        }
        *size = cpl_vocab_longest(&t->vocab, kind, text.data + i, text.size - i, which);
        if (*size) {
            *at = i;
            return true;
        }
    }
    return false;
}

static bool is_flagged(uint32_t c, uint8_t flag) { return cpl_unicode_flags(c) & flag; }

/* Start of the last character before `at` (at > 0). */
static size_t step_back(cpl_text text, size_t at)
{
    size_t i = at - 1;
    while (i && at - i < 4 && ((unsigned char)text.data[i] & 0xC0) == 0x80) i--;
    return i;
}

static bool flagged_before(cpl_text text, size_t at, uint8_t flag)
{
    if (!at) return false;
    uint32_t c;
    size_t i = step_back(text, at);
    cpl_utf8_decode(text.data + i, at - i, &c);
    return is_flagged(c, flag);
}

static size_t flagged_after(cpl_text text, size_t at, uint8_t flag)
{
    uint32_t c;
    if (at == text.size) return 0;
    size_t n = cpl_utf8_decode(text.data + at, text.size - at, &c);
    return is_flagged(c, flag) ? n : 0;
}

static void encode_raw_part(cpl_encoder *e, const char *data, size_t n);

static void encode_between(cpl_encoder *e, cpl_vocab_kind kind, const char *data, size_t n)
{
    if (kind == CPL_VOCAB_RAW)
        encode_raw_part(e, data, n);
    else
        cpl_encoder_split(e, data, n);
}

/* Cuts text at the added tokens of `kind`. As in the library, a token refused for single_word still hides what overlaps
 * it, and white space that a token takes with it may have been looked at already. */
static void encode_cut(cpl_encoder *e, cpl_vocab_kind kind, cpl_text text)
{
    const cpl_tokenizer *t = e->t;
    size_t done = 0, search = 0, at = 0, size = 0;
    int32_t which = 0;
    while (!cpl_encoder_done(e) && find_added(t, kind, text, search, &at, &size, &which)) {
        const cpl_added_token *token = &t->added[which];
        size_t start = at, end = at + size;
        search = end;
        if (token->single_word &&
            (flagged_before(text, start, CPL_CHAR_WORD) || flagged_after(text, end, CPL_CHAR_WORD)))
            continue;
        if (token->lstrip)
            while (start > done && flagged_before(text, start, CPL_CHAR_WHITE)) start = step_back(text, start);
        if (token->rstrip)
            for (size_t n; (n = flagged_after(text, end, CPL_CHAR_WHITE));) end += n;
        if (start > done) encode_between(e, kind, text.data + done, start - done);
        if (e->count >= e->stop) return;
        cpl_encoder_put(e, token->id);
        done = end;
    }
    if (done < text.size) encode_between(e, kind, text.data + done, text.size - done);
}

/* A part of the raw text between added tokens of the raw text. */
static void encode_raw_part(cpl_encoder *e, const char *data, size_t n)
{
    if (cpl_encoder_done(e)) return;
    if (!e->t->matchers[CPL_VOCAB_NORMAL]) {
        cpl_encoder_normalize(e, data, n);
        return;
    }
    e->s->text_size = 0;
    e->to_text = true;
    cpl_encoder_normalize(e, data, n);
    e->to_text = false;
    cpl_text normalized = {e->s->text, e->s->text_size};
    if (normalized.size && !e->no_memory) encode_cut(e, CPL_VOCAB_NORMAL, normalized);
}

/* ---- exported ----------------------------------------------------------------------------------------------- */

/* Room for the longest word the text can make: normalised text has no more characters than raw text has bytes (the
 * table generator makes sure of that). */
static cpl_status prepare(const cpl_tokenizer *t, cpl_tokenizer_scratch *s, size_t bytes, cpl_error *err)
{
    size_t chars = bytes > SIZE_MAX / 32 ? SIZE_MAX / 32 : bytes;
    if (chars > t->word_chars_max) chars = t->word_chars_max;
    s->run_count = 0;
    if (!cpl_tokenizer_grow((void **)&s->word, &s->word_cap, chars * 4 + 16, 1)) return cpl_fail_memory(err, chars * 4);
    return CPL_OK;
}

static cpl_status encode_text(const cpl_tokenizer *t, cpl_tokenizer_scratch *s, cpl_text text, int32_t *ids,
                              size_t room, size_t stop, size_t *count, cpl_error *err)
{
    *count = 0;
    if (!text.size || !stop) return CPL_OK;
    cpl_status st = prepare(t, s, text.size, err);
    if (st) return st;
    cpl_encoder e = {.t = t, .s = s, .ids = ids, .room = room, .stop = stop};
    if (t->matchers[CPL_VOCAB_RAW])
        encode_cut(&e, CPL_VOCAB_RAW, text);
    else
        encode_raw_part(&e, text.data, text.size);
    if (e.no_memory) return cpl_fail_memory(err, e.no_memory);
    *count = e.count < stop ? e.count : stop;
    return CPL_OK;
}

cpl_status cpl_tokenizer_encode(const cpl_tokenizer *t, cpl_tokenizer_scratch *s, cpl_text text, int32_t *ids,
                                size_t cap, size_t *count, cpl_error *err)
{
    return encode_text(t, s, text, ids, cap, cap, count, err);
}

cpl_status cpl_tokenizer_count(const cpl_tokenizer *t, cpl_tokenizer_scratch *s, cpl_text text, size_t *count,
                               cpl_error *err)
{
    return encode_text(t, s, text, NULL, 0, SIZE_MAX, count, err);
}

cpl_status cpl_tokenizer_normalize(const cpl_tokenizer *t, cpl_tokenizer_scratch *s, cpl_text text, cpl_error *err)
{
    cpl_status st = prepare(t, s, text.size, err);
    if (st) return st;
    cpl_encoder e = {.t = t, .s = s, .stop = SIZE_MAX, .to_text = true};
    s->text_size = 0;
    cpl_encoder_normalize(&e, text.data, text.size);
    return e.no_memory ? cpl_fail_memory(err, e.no_memory) : CPL_OK;
}

static void put_in_set(cpl_scan_set *set, uint32_t c) { set->nibble[c % 16] |= (uint8_t)(1 << c / 16); }

cpl_status cpl_tokenizer_set_tables(cpl_tokenizer *t, cpl_error *err)
{
    cpl_scan_classes *k = &t->classes;
    memset(k, 0, sizeof *k);
    memset(k->of, CPL_ASCII_NOT, sizeof k->of);
    for (uint32_t c = 0; c < 128; c++) {
        uint8_t flags = cpl_unicode_flags(c);
        k->of[c] = t->clean && flags & CPL_CHAR_DROP ? CPL_ASCII_DROP
                   : flags & CPL_CHAR_WHITE          ? CPL_ASCII_WHITE
                   : flags & CPL_CHAR_PUNCT          ? CPL_ASCII_PUNCT
                                                     : CPL_ASCII_WORD;
        if (k->of[c] == CPL_ASCII_DROP) put_in_set(&k->drop, c);
        if (k->of[c] == CPL_ASCII_WHITE) put_in_set(&k->space, c);
        if (k->of[c] == CPL_ASCII_PUNCT) put_in_set(&k->punct, c);
    }
    k->lower = t->lower ? 0x20 : 0;
    t->scan = cpl_scan_best();
    t->identity = (cpl_clock_ns() + 1) * 0x9E3779B97F4A7C15u ^ (uint64_t)(uintptr_t)t;
    cpl_tokenizer_scratch *scratch = NULL;
    cpl_status st = cpl_tokenizer_scratch_open(&scratch, err);
    if (!st) st = cpl_tokenizer_set_pages(t, scratch, err);
    cpl_tokenizer_scratch_close(scratch);
    return st;
}

int cpl_tokenizer_use_scan(cpl_tokenizer *t, size_t number)
{
    int runs = 0;
    const cpl_scan *scan = cpl_scan_at(number, &runs);
    if (scan && runs) t->scan = scan;
    return scan && runs;
}

void cpl_tokenizer_set_matches(cpl_tokenizer *t)
{
    for (int kind = 0; kind < CPL_VOCAB_KINDS; kind++) {
        int bytes = 0;
        t->match_only[kind] = -1;
        for (int b = 0; b < 256; b++) {
            t->match_first[kind][b] = (uint8_t)cpl_vocab_begins(&t->vocab, (cpl_vocab_kind)kind, (unsigned char)b);
            if (!t->match_first[kind][b]) continue;
            t->match_only[kind] = bytes++ ? -1 : b;
        }
    }
}

cpl_status cpl_tokenizer_scratch_open(cpl_tokenizer_scratch **out, cpl_error *err)
{
    *out = calloc(1, sizeof **out);
    if (!*out) return cpl_fail_memory(err, sizeof **out);
    size_t bytes = sizeof(cpl_cut) << CPL_CUT_BITS;
    (*out)->cuts = aligned_alloc(64, bytes);
    if ((*out)->cuts) {
        memset((*out)->cuts, 0, bytes);
        return CPL_OK;
    }
    free(*out);
    *out = NULL;
    return cpl_fail_memory(err, bytes);
}

void cpl_tokenizer_scratch_close(cpl_tokenizer_scratch *s)
{
    if (!s) return;
    free(s->cuts);
    free(s->word);
    free(s->text);
    free(s->run);
    free(s->sorted);
    free(s->side[0]);
    free(s->side[1]);
    free(s);
}
