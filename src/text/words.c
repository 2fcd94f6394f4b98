/* SPDX-License-Identifier: Apache-2.0 */
/* words.c - from normalised text to ids.
 * The one idea: a window of text is gone through three times, each time by a loop without a branch that depends on the
 * text: where words start and end (scan.h), each word's hash and the line of the table it asks for (prefetched), then
 * the comparison. Only a word that is not in the vocabulary whole leaves the loops, for the trie.
 * Invariants: the window has a padding of spaces, so 16 bytes may be read of the last word, and 64 of the last block.
 * Words that don't fit in a window are collected in s->word as far as word_chars_max admits them.
 * What is kept of cut words is bounded (2^CPL_CUT_BITS of them in a scratch) and known by word and tokenizer.
 * Threads: tokenizer shared and read-only, scratch the caller's own. */
#include <string.h>

#include "text/encoder.h"

static size_t characters(const char *p, size_t n)
{
    size_t chars = 0;
    for (size_t i = 0; i < n; i++) chars += ((uint8_t)p[i] & 0xC0) != 0x80;
    return chars;
}

/* Longest match first; a rest that matches nothing makes the whole word unknown. */
static __attribute__((noinline)) void cut_word(cpl_encoder *e, const char *word, size_t n)
{
    size_t before = e->count, at = 0;
    cpl_vocab_kind kind = CPL_VOCAB_WORD;
    while (at < n) {
        int32_t id = 0;
        size_t got = cpl_vocab_longest(&e->t->vocab, kind, word + at, n - at, &id);
        if (!got) {
            e->count = before;
            cpl_encoder_put(e, e->t->unk_id);
            return;
        }
        cpl_encoder_put(e, id);
        at += got;
        kind = CPL_VOCAB_PIECE;
    }
}

static void cut_short_enough(cpl_encoder *e, const char *word, size_t n)
{
    if (n > e->t->word_chars_max && characters(word, n) > e->t->word_chars_max)
        cpl_encoder_put(e, e->t->unk_id);
    else
        cut_word(e, word, n);
}

static inline cpl_vocab_key key_of(const char *word, size_t n)
{
    static const uint8_t ones[32] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
    cpl_vocab_key key, mask;
    memcpy(&key, word, sizeof key);
    memcpy(&mask, ones + CPL_VOCAB_KEY_MAX - n, sizeof mask);
    key.half[0] &= mask.half[0];
    key.half[1] &= mask.half[1];
    return key;
}

/* A word of the window that is not in the table: cut, unless that was done lately. */
static __attribute__((noinline)) void cut_again(cpl_encoder *e, const char *word, size_t n, uint64_t hash)
{
    const cpl_tokenizer *t = e->t;
    cpl_vocab_key key = key_of(word, n);
    cpl_cut *cut = &e->s->cuts[hash >> 8 & ((1u << CPL_CUT_BITS) - 1)];
    key.half[0] ^= t->identity;
    if (!((cut->key.half[0] ^ key.half[0]) | (cut->key.half[1] ^ key.half[1]) | (cut->size ^ n))) {
        if (e->count + CPL_CUT_IDS <= e->room) {
            memcpy(e->ids + e->count, cut->ids, sizeof cut->ids);
            e->count += cut->count;
        } else {
            for (uint32_t i = 0; i < cut->count; i++) cpl_encoder_put(e, cut->ids[i]);
        }
        return;
    }
    size_t before = e->count;
    cut_short_enough(e, word, n);
    size_t count = e->count - before;
    if (count > CPL_CUT_IDS || e->count > e->room) return;
    memcpy(cut->ids, e->ids + before, count * sizeof *cut->ids);
    cut->key = key;
    cut->size = (uint32_t)n;
    cut->count = (uint32_t)count;
}

/* Words of the window, the first of them number `from`. */
static void look_up(cpl_encoder *e, size_t from, size_t n)
{
    const cpl_vocab *v = &e->t->vocab;
    cpl_tokenizer_scratch *s = e->s;
    for (size_t i = from; i < n; i++) {
        size_t size = (size_t)(s->ends[i] - s->starts[i]);
        cpl_vocab_key key = key_of(s->window + s->starts[i], size < CPL_VOCAB_KEY_MAX ? size : CPL_VOCAB_KEY_MAX);
        s->hashes[i] = cpl_vocab_hash(key);
        __builtin_prefetch(&v->lines[cpl_vocab_line_of(v, s->hashes[i])]);
    }
    for (size_t i = from; i < n; i++) {
        const char *word = s->window + s->starts[i];
        size_t size = (size_t)(s->ends[i] - s->starts[i]);
        if (__builtin_expect(size > CPL_VOCAB_KEY_MAX, 0)) {
            cut_short_enough(e, word, size);
            continue;
        }
        cpl_vocab_key key = key_of(word, size);
        size_t line = cpl_vocab_line_of(v, s->hashes[i]);
        int32_t id = cpl_vocab_in_line(v, line, key, size);
        if (__builtin_expect(id < 0, 0)) {
            if (v->lines[line].way[0].full)
                id = cpl_vocab_in_line(v, cpl_vocab_other_line(v, line, s->hashes[i]), key, size);
            if (id < 0) {
                cut_again(e, word, size, s->hashes[i]);
                continue;
            }
        }
        cpl_encoder_put(e, id);
    }
}

/* ---- words longer than the window ------------------------------------------------------------------------------ */

static void extend_long_word(cpl_encoder *e, const char *p, size_t n)
{
    e->in_long_word = true;
    e->long_chars += characters(p, n);
    if (e->long_chars > e->t->word_chars_max) return;
    memcpy(e->s->word + e->long_size, p, n);
    e->long_size += n;
}

static void end_long_word(cpl_encoder *e)
{
    if (e->long_chars > e->t->word_chars_max)
        cpl_encoder_put(e, e->t->unk_id);
    else
        cut_word(e, e->s->word, e->long_size);
    e->in_long_word = false;
    e->long_chars = e->long_size = 0;
}

/* What the window begins with may be more of a long word. Returns the first word that is none of it; n: it fills the
 * window and goes on. */
static size_t continue_long_word(cpl_encoder *e, size_t n, bool final)
{
    const cpl_tokenizer_scratch *s = e->s;
    size_t next = 0;
    if (n && !s->starts[0] && e->t->classes.of[(uint8_t)s->window[0]] != CPL_ASCII_PUNCT) {
        extend_long_word(e, s->window, s->ends[0]);
        next = 1;
        if (s->ends[0] == e->used && !final) return n;
    }
    if (e->used || final) end_long_word(e);
    return next;
}

void cpl_encoder_drain(cpl_encoder *e, bool final)
{
    cpl_tokenizer_scratch *s = e->s;
    memset(s->window + e->used, ' ', CPL_SCAN_SLACK);
    size_t n = e->t->scan->split(s->window, e->used, &e->t->classes, s->starts, s->ends), first = 0, kept = 0;
    if (e->in_long_word) {
        first = continue_long_word(e, n, final);
        if (e->in_long_word) {
            e->used = 0;
            return;
        }
    }
    size_t last = n;
    if (!final && n > first && s->ends[n - 1] == e->used) {
        last--;
        kept = (size_t)(e->used - s->starts[last]);
    }
    look_up(e, first, last);
    if (kept > CPL_WINDOW_BYTES / 2) {
        extend_long_word(e, s->window + s->starts[last], kept);
        kept = 0;
    } else if (kept) {
        memmove(s->window, s->window + s->starts[last], kept);
    }
    e->used = kept;
}
