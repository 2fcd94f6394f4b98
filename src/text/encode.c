/* SPDX-License-Identifier: Apache-2.0 */
/* encode.c - from text to ids: normalise, split, look up, in one pass.
 * The one idea: a character goes through the normaliser's steps by itself and lands in the word being read, so a text
 * is never copied; ASCII takes a table of 256 bytes instead of the steps. Only two things look further than one
 * character: non-starters that canonical ordering may move (they wait in `run` until a starter comes) and added tokens.
 * The steps and their order are Hugging Face's BertNormalizer: clean, CJK spacing, strip accents (canonical
 * decomposition, ordering, nonspacing marks away), lower case. Nonspacing marks never enter the run: dropping them
 * before a stable sort or after it is the same, as long as those of class 0 still end the run.
 * Added tokens: first those of the raw text cut it into parts; each part is normalised by itself, then cut by those
 * that match normalised text (only this case needs the normalised text in memory).
 * Invariants: s->word has room for every character that word_chars_max admits; ids at `room` and beyond are counted
 * but not written. Threads: tokenizer shared and read-only, scratch the caller's own.
 * Rejected: normalising into a buffer first (twice the memory traffic for what is nearly always ASCII). */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/utf8.h"
#include "text/tokenizer_impl.h"
#include "text/unicode_tables.h"

typedef struct encoder {
    const cpl_tokenizer *t;
    cpl_tokenizer_scratch *s;
    int32_t *ids;
    size_t room;  /* ids that may be written */
    size_t stop;  /* enough ids: whatever follows can't matter */
    size_t count; /* ids so far, written or not */
    size_t word_size, word_chars;
    size_t no_memory; /* bytes that were not to be had; 0: fine */
    bool to_text;     /* characters go to s->text instead of words */
} encoder;

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

/* ---- words to ids ------------------------------------------------------------------------------------------- */

static inline void put(encoder *e, int32_t id)
{
    if (e->count < e->room) e->ids[e->count] = id;
    e->count++;
}

/* Longest match first; a rest that matches nothing makes the whole word unknown. */
static void cut_word(encoder *e, const char *word, size_t n)
{
    size_t before = e->count, at = 0;
    cpl_vocab_kind kind = CPL_VOCAB_WORD;
    while (at < n) {
        int32_t id = 0;
        size_t got = cpl_vocab_longest(&e->t->vocab, kind, word + at, n - at, &id);
        if (!got) {
            e->count = before;
            put(e, e->t->unk_id);
            return;
        }
        put(e, id);
        at += got;
        kind = CPL_VOCAB_PIECE;
    }
}

static inline void end_word(encoder *e)
{
    if (!e->word_chars) return;
    if (e->word_chars > e->t->word_chars_max) {
        put(e, e->t->unk_id);
    } else {
        int32_t id = cpl_vocab_word(&e->t->vocab, e->s->word, e->word_size);
        if (id >= 0)
            put(e, id);
        else
            cut_word(e, e->s->word, e->word_size);
    }
    e->word_chars = e->word_size = 0;
}

static inline void add_to_word(encoder *e, uint32_t c)
{
    if (e->word_chars++ < e->t->word_chars_max) e->word_size += cpl_utf8_encode(c, e->s->word + e->word_size);
}

/* One character of normalised text. */
static void place(encoder *e, uint32_t c)
{
    uint8_t flags = cpl_unicode_flags(c);
    if (!(flags & (CPL_CHAR_WHITE | CPL_CHAR_PUNCT))) {
        add_to_word(e, c);
        return;
    }
    end_word(e);
    if (flags & CPL_CHAR_WHITE) return;
    add_to_word(e, c);
    end_word(e);
}

/* ---- normaliser --------------------------------------------------------------------------------------------- */

static void emit(encoder *e, uint32_t c)
{
    if (!e->to_text) {
        place(e, c);
        return;
    }
    cpl_tokenizer_scratch *s = e->s;
    if (s->text_size + 4 > s->text_cap && !cpl_tokenizer_grow((void **)&s->text, &s->text_cap, s->text_size + 4, 1)) {
        e->no_memory = s->text_size + 4;
        return;
    }
    s->text_size += cpl_utf8_encode(c, s->text + s->text_size);
}

static inline void emit_lower(encoder *e, uint32_t c, uint8_t flags)
{
    if (e->t->lower && flags & CPL_CHAR_LOWER) {
        if (c == 0x130) {
            emit(e, 'i');
            c = 0x307;
        } else {
            c = cpl_unicode_lower(c);
        }
    }
    emit(e, c);
}

static bool sort_run(cpl_tokenizer_scratch *s)
{
    cpl_nonstarter *run = s->run;
    size_t n = s->run_count;
    if (n <= 16) {
        for (size_t i = 1; i < n; i++) {
            cpl_nonstarter x = run[i];
            size_t j = i;
            for (; j && run[j - 1].combining_class > x.combining_class; j--) run[j] = run[j - 1];
            run[j] = x;
        }
        return true;
    }
    size_t starts[257] = {0}; /* counting sort: hostile runs are as long as the text */
    for (size_t i = 0; i < n; i++) starts[run[i].combining_class + 1]++;
    for (size_t k = 1; k < 257; k++) starts[k] += starts[k - 1];
    if (!cpl_tokenizer_grow((void **)&s->sorted, &s->sorted_cap, n, sizeof *s->sorted)) return false;
    cpl_nonstarter *sorted = s->sorted;
    for (size_t i = 0; i < n; i++) sorted[starts[run[i].combining_class]++] = run[i];
    memcpy(run, sorted, n * sizeof *run);
    return true;
}

static void flush_run(encoder *e)
{
    cpl_tokenizer_scratch *s = e->s;
    if (!s->run_count) return;
    if (!sort_run(s)) e->no_memory = s->run_cap * sizeof *s->sorted;
    for (size_t i = 0; i < s->run_count; i++) emit_lower(e, s->run[i].scalar, cpl_unicode_flags(s->run[i].scalar));
    s->run_count = 0;
}

/* One character of a canonical decomposition. */
static void strip_part(encoder *e, uint32_t c)
{
    uint8_t kind = cpl_unicode_kind(c), flags = cpl_unicode_kind_flags[kind];
    uint8_t combining_class = cpl_unicode_kind_class[kind];
    cpl_tokenizer_scratch *s = e->s;
    if (!combining_class) {
        flush_run(e);
        if (!(flags & CPL_CHAR_MARK)) emit_lower(e, c, flags);
    } else if (!(flags & CPL_CHAR_MARK)) {
        if (s->run_count == s->run_cap &&
            !cpl_tokenizer_grow((void **)&s->run, &s->run_cap, s->run_cap + 64, sizeof *s->run)) {
            e->no_memory = s->run_cap * sizeof *s->run;
            return;
        }
        s->run[s->run_count++] = (cpl_nonstarter){c, combining_class};
    }
}

static void strip(encoder *e, uint32_t c, uint8_t flags)
{
    if (c - 0xAC00 < 11172) { /* Hangul syllables decompose by arithmetic */
        uint32_t at = c - 0xAC00;
        strip_part(e, 0x1100 + at / 588);
        strip_part(e, 0x1161 + at % 588 / 28);
        if (at % 28) strip_part(e, 0x11A7 + at % 28);
    } else if (flags & CPL_CHAR_DECOMPOSE) {
        const uint32_t *parts = cpl_unicode_decomposition(c);
        uint32_t n = parts[0] >> 24;
        strip_part(e, parts[0] & 0xFFFFFF);
        for (uint32_t i = 1; i < n; i++) strip_part(e, parts[i]);
    } else {
        strip_part(e, c);
    }
}

/* One character of raw text. */
static void normalize(encoder *e, uint32_t c)
{
    const cpl_tokenizer *t = e->t;
    uint8_t flags = cpl_unicode_flags(c);
    if (t->clean) {
        if (flags & CPL_CHAR_DROP) return;
        if (flags & CPL_CHAR_WHITE) {
            flush_run(e);
            emit(e, ' ');
            return;
        }
    }
    bool spaced = t->cjk && flags & CPL_CHAR_CJK;
    if (spaced) {
        flush_run(e);
        emit(e, ' ');
    }
    if (t->strip)
        strip(e, c, flags);
    else
        emit_lower(e, c, flags);
    if (spaced) {
        flush_run(e);
        emit(e, ' ');
    }
}

/* ---- one part of a text that holds no added token ------------------------------------------------------------ */

/* ASCII from at on, as far as it goes; returns where it ends. */
static size_t encode_ascii(encoder *e, const unsigned char *text, size_t n, size_t at)
{
    const cpl_tokenizer *t = e->t;
    char *word = e->s->word;
    flush_run(e);
    for (;;) {
        uint8_t kind = CPL_ASCII_NOT;
        while (at < n && (kind = t->ascii_class[text[at]]) == CPL_ASCII_WORD) {
            if (e->word_chars++ < t->word_chars_max) word[e->word_size++] = t->ascii_lower[text[at]];
            at++;
        }
        if (at == n || kind == CPL_ASCII_NOT) return at;
        if (kind != CPL_ASCII_DROP) {
            end_word(e);
            if (kind == CPL_ASCII_PUNCT) put(e, t->ascii_punct_id[text[at]]);
            if (e->count >= e->stop) return n;
        }
        at++;
    }
}

static void encode_part(encoder *e, const char *data, size_t n)
{
    const unsigned char *text = (const unsigned char *)data;
    size_t at = 0;
    while (at < n && e->count < e->stop && !e->no_memory) {
        if (text[at] < 0x80 && !e->to_text) {
            at = encode_ascii(e, text, n, at);
        } else {
            uint32_t c;
            at += cpl_utf8_decode(data + at, n - at, &c);
            normalize(e, c);
        }
    }
    flush_run(e);
    end_word(e);
}

static void encode_normalized(encoder *e, const char *text, size_t n)
{
    for (size_t at = 0; at < n && e->count < e->stop;) {
        uint32_t c;
        at += cpl_utf8_decode(text + at, n - at, &c);
        place(e, c);
    }
    end_word(e);
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

static void encode_raw_part(encoder *e, const char *data, size_t n);

static void encode_between(encoder *e, cpl_vocab_kind kind, const char *data, size_t n)
{
    if (kind == CPL_VOCAB_RAW)
        encode_raw_part(e, data, n);
    else
        encode_normalized(e, data, n);
}

/* Cuts text at the added tokens of `kind`. As in the library, a token refused for single_word still hides what overlaps
 * it, and white space that a token takes with it may have been looked at already. */
static void encode_cut(encoder *e, cpl_vocab_kind kind, cpl_text text)
{
    const cpl_tokenizer *t = e->t;
    size_t done = 0, search = 0, at = 0, size = 0;
    int32_t which = 0;
    while (e->count < e->stop && !e->no_memory && find_added(t, kind, text, search, &at, &size, &which)) {
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
        put(e, token->id);
        done = end;
    }
    if (done < text.size) encode_between(e, kind, text.data + done, text.size - done);
}

/* A part of the raw text between added tokens of the raw text. */
static void encode_raw_part(encoder *e, const char *data, size_t n)
{
    if (e->count >= e->stop || e->no_memory) return;
    if (!e->t->matchers[CPL_VOCAB_NORMAL]) {
        encode_part(e, data, n);
        return;
    }
    e->s->text_size = 0;
    e->to_text = true;
    encode_part(e, data, n);
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
    encoder e = {.t = t, .s = s, .ids = ids, .room = room, .stop = stop};
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
    encoder e = {.t = t, .s = s, .stop = SIZE_MAX, .to_text = true};
    s->text_size = 0;
    encode_part(&e, text.data, text.size);
    return e.no_memory ? cpl_fail_memory(err, e.no_memory) : CPL_OK;
}

void cpl_tokenizer_set_ascii(cpl_tokenizer *t)
{
    memset(t->ascii_class, CPL_ASCII_NOT, sizeof t->ascii_class);
    for (uint32_t c = 0; c < 128; c++) {
        uint8_t flags = cpl_unicode_flags(c);
        bool upper = t->lower && flags & CPL_CHAR_LOWER;
        t->ascii_lower[c] = (char)(upper ? cpl_unicode_lower(c) : c);
        t->ascii_class[c] = t->clean && flags & CPL_CHAR_DROP ? CPL_ASCII_DROP
                            : flags & CPL_CHAR_WHITE          ? CPL_ASCII_WHITE
                            : flags & CPL_CHAR_PUNCT          ? CPL_ASCII_PUNCT
                                                              : CPL_ASCII_WORD;
    }
}

void cpl_tokenizer_set_lookups(cpl_tokenizer *t)
{
    for (uint32_t c = 0; c < 128; c++) {
        char one = (char)c;
        int32_t id = t->word_chars_max ? cpl_vocab_word(&t->vocab, &one, 1) : -1;
        t->ascii_punct_id[c] = id >= 0 ? id : t->unk_id;
    }
    for (size_t kind = 0; kind < CPL_VOCAB_KINDS; kind++) {
        int bytes = 0;
        t->match_only[kind] = -1;
        for (int b = 0; b < 256; b++) {
            t->match_first[kind][b] = t->vocab.root[kind][b] != 0;
            if (!t->match_first[kind][b]) continue;
            t->match_only[kind] = bytes++ ? -1 : b;
        }
    }
}

cpl_status cpl_tokenizer_scratch_open(cpl_tokenizer_scratch **out, cpl_error *err)
{
    *out = calloc(1, sizeof **out);
    return *out ? CPL_OK : cpl_fail_memory(err, sizeof **out);
}

void cpl_tokenizer_scratch_close(cpl_tokenizer_scratch *s)
{
    if (!s) return;
    free(s->word);
    free(s->text);
    free(s->run);
    free(s->sorted);
    free(s->side[0]);
    free(s->side[1]);
    free(s);
}
