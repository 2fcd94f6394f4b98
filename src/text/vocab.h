/* SPDX-License-Identifier: Apache-2.0 */
/* vocab.h - from token strings to ids: whole words of up to 16 bytes by table, everything else by trie. Read-only once
 * built. */
#ifndef CPL_TEXT_VOCAB_H
#define CPL_TEXT_VOCAB_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/arena.h"
#include "couplet.h"

/* Each kind is a set of its own. All are in the trie; short ones of CPL_VOCAB_WORD are in the table too. */
typedef enum cpl_vocab_kind {
    CPL_VOCAB_WORD,   /* entries that a word can be */
    CPL_VOCAB_PIECE,  /* those that continue a word, without their prefix */
    CPL_VOCAB_RAW,    /* added tokens looked for in the raw text; the value is an index, not an id */
    CPL_VOCAB_NORMAL, /* added tokens, normalised, looked for in the normalised text; also an index */
    CPL_VOCAB_KINDS
} cpl_vocab_kind;

typedef struct cpl_vocab_entry {
    const char *text; /* borrowed while building; empty ones are left out */
    uint32_t size;
    uint32_t order; /* of equal entries of a kind the one with the highest order wins */
    int32_t value;  /* 0 .. 2^24 - 1 */
    cpl_vocab_kind kind;
} cpl_vocab_entry;

/* A node of the trie (a double array): its child by byte b is units[(base >> 1) ^ b] when that says `parent` is this
 * node. Bit 0 of base: an entry ends here, its value in values[]. */
typedef struct cpl_vocab_unit {
    uint32_t base, parent;
} cpl_vocab_unit;

enum { CPL_VOCAB_KEY_MAX = 16, CPL_VOCAB_WAYS = 2 };

/* A word padded with zeros; two little-endian halves. */
typedef struct cpl_vocab_key {
    uint64_t half[2];
} cpl_vocab_key;

/* One cache line of the table. mark: size << 24 | id, 0: empty. full: a word of this line had to go to its other one.
 */
typedef struct cpl_vocab_line {
    struct {
        cpl_vocab_key key;
        uint32_t mark, full, unused[2]; /* full: of way 0 */
    } way[CPL_VOCAB_WAYS];
} cpl_vocab_line;

typedef struct cpl_vocab {
    const cpl_vocab_unit *units; /* the first CPL_VOCAB_KINDS are the roots; a multiple of 256 */
    const int32_t *values;
    const cpl_vocab_line *lines; /* 2^line_bits of them */
    unsigned line_bits;
    size_t unit_count;
} cpl_vocab;

/* Sorts by kind, then text, then order. */
cpl_status cpl_vocab_sort(cpl_vocab_entry *entries, size_t n, cpl_error *err);
/* Copies what it needs of `entries` into `arena`, sorts them where they aren't. In the table go words of at most
 * word_chars_max characters. Only CPL_NO_MEMORY can happen (and CPL_UNSUPPORTED above 1 GiB of text). */
cpl_status cpl_vocab_build(cpl_vocab *v, cpl_arena *arena, cpl_vocab_entry *entries, size_t n, size_t word_chars_max,
                           cpl_error *err);

/* 1: an entry of `kind` begins with this byte. */
int cpl_vocab_begins(const cpl_vocab *v, cpl_vocab_kind kind, unsigned char byte);

/* ---- look-ups, inline because they are made for every word ----------------------------------------------------- */

/* Bytes of the longest entry of `kind` that text begins with, its value in *value; 0: none. */
static inline size_t cpl_vocab_longest(const cpl_vocab *v, cpl_vocab_kind kind, const char *text, size_t n,
                                       int32_t *value)
{
    const cpl_vocab_unit *units = v->units;
    uint32_t at = (uint32_t)kind, base = units[at].base, best = 0;
    size_t best_size = 0;
    for (size_t i = 0; i < n;) {
        uint32_t next = base >> 1 ^ (uint8_t)text[i++];
        if (units[next].parent != at) break;
        at = next;
        base = units[at].base;
        best = base & 1 ? at : best;
        best_size = base & 1 ? i : best_size;
    }
    if (best_size) *value = v->values[best];
    return best_size;
}

static inline uint64_t cpl_vocab_hash(cpl_vocab_key key)
{
    uint64_t h = key.half[0] * 0x9E3779B97F4A7C15u + key.half[1] * 0xD6E8FEB86659FD93u;
    h ^= h >> 32;
    return h * 0xBF58476D1CE4E5B9u;
}

static inline size_t cpl_vocab_line_of(const cpl_vocab *v, uint64_t hash) { return hash >> (64 - v->line_bits); }

/* Where a word is when its first line was full. */
static inline size_t cpl_vocab_other_line(const cpl_vocab *v, size_t line, uint64_t hash)
{
    return (line ^ (1 + (hash & 0xFF))) & (((size_t)1 << v->line_bits) - 1);
}

/* The id in this line, or -1. */
static inline int32_t cpl_vocab_in_line(const cpl_vocab *v, size_t line, cpl_vocab_key key, size_t size)
{
    const cpl_vocab_line *l = &v->lines[line];
    uint32_t found = 0;
    for (int i = 0; i < CPL_VOCAB_WAYS; i++) {
        uint64_t differs = (l->way[i].key.half[0] ^ key.half[0]) | (l->way[i].key.half[1] ^ key.half[1]) |
                           (l->way[i].mark >> 24 ^ size);
        found |= differs ? 0 : l->way[i].mark;
    }
    return found ? (int32_t)(found & 0xFFFFFF) : -1;
}

#endif
