/* SPDX-License-Identifier: Apache-2.0 */
/* normalize.c - the normaliser: clean, CJK spacing, strip accents (canonical decomposition, ordering, nonspacing marks
 * away), lower case, in Hugging Face's order.
 * The one idea: what a character becomes depends on nothing but itself, unless it leaves a non-starter waiting that
 * canonical ordering may still move. So the steps are run once for every character when a tokenizer is opened, and what
 * they gave is kept as a page of 64 entries where it is short (three bytes, perhaps between spaces): accented Latin,
 * Greek, Cyrillic, CJK and punctuation are then one look-up a character. Plain ASCII is copied in blocks (scan.h),
 * Hangul taken apart by arithmetic, everything else goes through the steps themselves.
 * White space is written as a space and other punctuation than ASCII's between spaces, so that the bytes of the window
 * say where words end. Nonspacing marks never enter the run of waiting non-starters: dropping them before a stable sort
 * or after it is the same, as long as those of class 0 still end the run.
 * Invariants: pages are used only while no non-starter waits; the window is always valid UTF-8, whatever the text is.
 * Threads: tokenizer shared and read-only, scratch the caller's own. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/utf8.h"
#include "text/encoder.h"
#include "text/unicode_tables.h"

/* An entry of a page: up to three bytes, how many in bits 24 and 25, and: */
#define COPY   (1u << 26) /* the character's own bytes instead */
#define SPACED (1u << 27) /* a space before and behind */
#define HANGUL (1u << 28) /* a syllable to be taken apart */
#define STEPS  (1u << 29) /* through the steps */

enum { STEP_BYTES = 16 }; /* no entry, syllable or single character of a step writes more */

/* ---- steps, a character at a time ------------------------------------------------------------------------------ */

/* One character of normalised text into the window. */
static void place(cpl_encoder *e, uint32_t c)
{
    uint8_t flags = cpl_unicode_flags(c);
    if (e->used + STEP_BYTES > CPL_WINDOW_BYTES) cpl_encoder_drain(e, false);
    char *p = e->s->window + e->used, *from = p;
    if (flags & CPL_CHAR_WHITE) {
        *p++ = ' ';
    } else {
        bool spaced = c >= 0x80 && flags & CPL_CHAR_PUNCT;
        if (spaced) *p++ = ' ';
        p += cpl_utf8_encode(c, p);
        if (spaced) *p++ = ' ';
    }
    e->used += (size_t)(p - from);
}

static void emit(cpl_encoder *e, uint32_t c)
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

static inline void emit_lower(cpl_encoder *e, uint32_t c, uint8_t flags)
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

static void flush_run(cpl_encoder *e)
{
    cpl_tokenizer_scratch *s = e->s;
    if (!s->run_count) return;
    if (!sort_run(s)) e->no_memory = s->run_cap * sizeof *s->sorted;
    for (size_t i = 0; i < s->run_count; i++) emit_lower(e, s->run[i].scalar, cpl_unicode_flags(s->run[i].scalar));
    s->run_count = 0;
}

/* One character of a canonical decomposition. */
static void strip_part(cpl_encoder *e, uint32_t c)
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

static bool is_hangul(uint32_t c) { return c - 0xAC00 < 11172; }

static void strip(cpl_encoder *e, uint32_t c, uint8_t flags)
{
    if (is_hangul(c)) { /* syllables decompose by arithmetic */
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
static void take_steps(cpl_encoder *e, uint32_t c)
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

/* ---- a part of a text ------------------------------------------------------------------------------------------ */

/* Takes one character and, while a non-starter waits, those behind it; returns where the next is. */
static size_t step(cpl_encoder *e, const char *data, size_t n, size_t at)
{
    do {
        uint32_t c;
        at += cpl_utf8_decode(data + at, n - at, &c);
        take_steps(e, c);
    } while (at < n && e->s->run_count && !cpl_encoder_done(e));
    return at;
}

/* The jamo of a syllable, three bytes each: U+1100 and on, U+1161 and on, U+11A8 and on. */
static inline size_t write_hangul(char *to, uint32_t c)
{
    uint32_t at = c - 0xAC00, lead = at / 588, vowel = at % 588 / 28, tail = at % 28;
    uint32_t first = 0x8084E1 + (lead << 16), second = 0xA185E1 + (vowel << 16);
    uint32_t third = tail < 25 ? 0xA786E1 + (tail << 16) : 0x8087E1 + ((tail - 25) << 16);
    memcpy(to, &first, 4);
    memcpy(to + 3, &second, 4);
    memcpy(to + 6, &third, 4);
    return tail ? 9 : 6;
}

/* The four bytes at `at`, zeros behind the text. */
static inline uint32_t four_bytes(const char *data, size_t n, size_t at)
{
    uint32_t x = 0;
    if (__builtin_expect(n - at >= 4, 1))
        memcpy(&x, data + at, 4);
    else
        for (size_t i = 0; i < n - at; i++) x |= (uint32_t)(uint8_t)data[at + i] << 8 * i;
    return x;
}

/* The page of the character that begins x, and its size; page 0, which says STEPS, for all but two and three bytes. */
static inline uint32_t page_of(uint32_t x, size_t *size)
{
    if ((x & 0xC0C0F0) == 0x8080E0) {
        uint32_t page = (x & 0x0F) << 6 | (x >> 8 & 0x3F);
        *size = 3;
        return page < 32 ? 0 : page;
    }
    *size = 2;
    return (x & 0xC0E0) == 0x80C0 ? x & 0x1F : 0; /* 0 and 1 are overlong; their pages say STEPS too */
}

/* Characters that are no plain ASCII, as far as they go and the window has room; returns where they end. */
static size_t take_others(cpl_encoder *e, const char *data, size_t n, size_t at)
{
    const cpl_tokenizer *t = e->t;
    const uint32_t(*pages)[64] = t->pages;
    char *to = e->s->window + e->used, *last = e->s->window + CPL_WINDOW_BYTES - STEP_BYTES;
    while (at < n && to <= last) {
        uint32_t x = four_bytes(data, n, at);
        if (!(x & 0x80)) {
            if (t->classes.of[x & 0xFF] != CPL_ASCII_DROP) break;
            at++;
            continue;
        }
        size_t size;
        uint32_t page = page_of(x, &size), low = size == 2 ? x >> 8 & 0x3F : x >> 16 & 0x3F;
        uint32_t entry = pages[t->page_of[page]][low];
        if (__builtin_expect(entry & (STEPS | HANGUL), 0)) {
            if (entry & HANGUL) {
                to += write_hangul(to, page << 6 | low);
                at += 3;
                continue;
            }
            e->used = (size_t)(to - e->s->window);
            at = step(e, data, n, at);
            if (cpl_encoder_done(e)) return at;
            to = e->s->window + e->used;
            continue;
        }
        size_t spaced = entry & SPACED ? 1 : 0;
        uint32_t bytes = entry & COPY ? x : entry;
        *to = ' ';
        memcpy(to + spaced, &bytes, sizeof bytes);
        to += spaced + (entry >> 24 & 3);
        *to = ' ';
        to += spaced;
        at += size;
    }
    e->used = (size_t)(to - e->s->window);
    return at;
}

static void to_text(cpl_encoder *e, const char *data, size_t n)
{
    for (size_t at = 0; at < n && !cpl_encoder_done(e);) {
        uint32_t c;
        at += cpl_utf8_decode(data + at, n - at, &c);
        take_steps(e, c);
    }
    flush_run(e);
}

void cpl_encoder_normalize(cpl_encoder *e, const char *data, size_t n)
{
    if (e->to_text) {
        to_text(e, data, n);
        return;
    }
    for (size_t at = 0; at < n && !cpl_encoder_done(e);) {
        if (e->used + STEP_BYTES > CPL_WINDOW_BYTES) cpl_encoder_drain(e, false);
        size_t room = CPL_WINDOW_BYTES - e->used, most = n - at < room ? n - at : room;
        size_t copied = e->t->scan->copy(e->s->window + e->used, data + at, most, &e->t->classes);
        e->used += copied;
        at += copied;
        if (copied < most) at = take_others(e, data, n, at);
    }
    flush_run(e);
    cpl_encoder_drain(e, true);
}

void cpl_encoder_split(cpl_encoder *e, const char *text, size_t n)
{
    for (size_t at = 0; at < n && !cpl_encoder_done(e);) {
        uint32_t c;
        at += cpl_utf8_decode(text + at, n - at, &c);
        place(e, c);
    }
    cpl_encoder_drain(e, true);
}

/* ---- pages ----------------------------------------------------------------------------------------------------- */

/* What the steps make of one character. */
static uint32_t entry_of(cpl_encoder *e, uint32_t c)
{
    char own[4];
    size_t size = cpl_utf8_encode(c, own);
    e->used = 0;
    take_steps(e, c);
    const char *made = e->s->window;
    size_t n = e->used;
    if (e->s->run_count) {
        e->s->run_count = 0;
        return STEPS;
    }
    if (is_hangul(c) && n > 3) return HANGUL;
    uint32_t entry = 0, bytes = 0;
    if (n >= 3 && made[0] == ' ' && made[n - 1] == ' ') {
        entry = SPACED;
        made++;
        n -= 2;
    }
    if (n > 3) return STEPS;
    if (n == size && !memcmp(made, own, n)) return entry | COPY | (uint32_t)n << 24;
    memcpy(&bytes, made, n);
    return entry | (uint32_t)n << 24 | bytes;
}

/* Characters of a kind that has neither case nor decomposition all have the same entry, but for Hangul. */
static uint32_t entry_by_kind(cpl_encoder *e, uint32_t known[256], uint32_t c)
{
    uint8_t kind = cpl_unicode_kind(c);
    if (cpl_unicode_kind_flags[kind] & (CPL_CHAR_LOWER | CPL_CHAR_DECOMPOSE) || is_hangul(c) || c < 0x800)
        return entry_of(e, c);
    if (!known[kind]) known[kind] = entry_of(e, c) | 1u << 31;
    return known[kind] & ~(1u << 31);
}

cpl_status cpl_tokenizer_set_pages(cpl_tokenizer *t, cpl_tokenizer_scratch *s, cpl_error *err)
{
    enum { PAGES = 0x10000 >> 6 };
    uint32_t(*pages)[64] = malloc(sizeof *pages * PAGES), known[256] = {0};
    if (!pages) return cpl_fail_memory(err, sizeof *pages * PAGES);
    size_t n = 1, uniform_count = 0, uniform[16];
    cpl_encoder e = {.t = t, .s = s, .stop = SIZE_MAX};
    for (int i = 0; i < 64; i++) pages[0][i] = STEPS; /* ASCII, surrogates and what is no UTF-8 */
    for (uint32_t p = 0; p < PAGES; p++) {
        t->page_of[p] = 0;
        if (p < 2 || (p >= 0xD800 >> 6 && p < 0xE000 >> 6)) continue;
        bool same = true;
        for (uint32_t i = 0; i < 64; i++) {
            pages[n][i] = entry_by_kind(&e, known, p << 6 | i);
            same &= pages[n][i] == pages[n][0];
        }
        size_t k = same ? 0 : uniform_count;
        while (k < uniform_count && pages[uniform[k]][0] != pages[n][0]) k++;
        t->page_of[p] = (uint16_t)(same && k < uniform_count ? uniform[k] : n);
        if (t->page_of[p] != n) continue;
        if (same && uniform_count < sizeof uniform / sizeof *uniform) uniform[uniform_count++] = n;
        n++;
    }
    uint32_t(*kept)[64] = e.no_memory ? NULL : cpl_arena_take(&t->arena, sizeof *kept * n, 64);
    if (kept) memcpy(kept, pages, sizeof *kept * n);
    t->pages = (const uint32_t(*)[64])kept;
    free(pages);
    return kept ? CPL_OK : cpl_fail_memory(err, sizeof *kept * n);
}
