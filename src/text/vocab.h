/* SPDX-License-Identifier: Apache-2.0 */
/* vocab.h - from token strings to ids: whole words by hash, longest prefixes by trie. Read-only once built. */
#ifndef CPL_TEXT_VOCAB_H
#define CPL_TEXT_VOCAB_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "couplet.h"

/* Each kind is a set of its own. Only CPL_VOCAB_WORD is in the hash; all are in the trie. */
typedef enum cpl_vocab_kind {
    CPL_VOCAB_WORD,   /* every entry of the vocabulary as it is written */
    CPL_VOCAB_PIECE,  /* those that continue a word, without their prefix */
    CPL_VOCAB_RAW,    /* added tokens looked for in the raw text; the value is an index, not an id */
    CPL_VOCAB_NORMAL, /* added tokens, normalised, looked for in the normalised text; also an index */
    CPL_VOCAB_KINDS
} cpl_vocab_kind;

typedef struct cpl_vocab_entry {
    const char *text; /* borrowed while building; empty ones are left out */
    uint32_t size;
    uint32_t order; /* of equal entries of a kind the one with the highest order wins */
    int32_t value;  /* >= 0 */
    cpl_vocab_kind kind;
} cpl_vocab_entry;

typedef struct cpl_vocab_node {
    uint32_t first; /* the children are nodes first .. first + count - 1, by rising label */
    int32_t value;  /* -1: no entry ends here */
    uint32_t count;
} cpl_vocab_node;

typedef struct cpl_vocab_slot {
    uint32_t tag;  /* upper half of the hash */
    int32_t value; /* -1: empty */
    uint32_t at, size;
} cpl_vocab_slot;

typedef struct cpl_vocab {
    const cpl_vocab_node *nodes; /* the first CPL_VOCAB_KINDS are the roots */
    const uint8_t *labels;       /* the byte that leads to each node */
    uint32_t (*root)[256];       /* child of a root by byte; 0: none */
    const cpl_vocab_slot *slots;
    const char *pool;
    size_t mask;
} cpl_vocab;

/* Sorts `entries`, copies what it needs into `arena`. Only CPL_NO_MEMORY can happen (and CPL_UNSUPPORTED above 1 GiB
 * of text). */
cpl_status cpl_vocab_build(cpl_vocab *v, cpl_arena *arena, cpl_vocab_entry *entries, size_t n, cpl_error *err);

/* Value of a whole word, or -1. */
int32_t cpl_vocab_word(const cpl_vocab *v, const char *word, size_t n);
/* Bytes of the longest entry of `kind` that text begins with, its value in *value; 0: none. */
size_t cpl_vocab_longest(const cpl_vocab *v, cpl_vocab_kind kind, const char *text, size_t n, int32_t *value);

#endif
