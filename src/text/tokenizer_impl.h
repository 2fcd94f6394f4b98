/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_impl.h - what the files of the tokenizer share; nobody else includes it. */
#ifndef CPL_TEXT_TOKENIZER_IMPL_H
#define CPL_TEXT_TOKENIZER_IMPL_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/json.h"
#include "text/scan.h"
#include "text/tokenizer.h"
#include "text/vocab.h"

/* One id or one whole sequence of a template. */
typedef struct cpl_template_piece {
    int32_t id; /* of a special token; -1: sequence A, -2: sequence B */
    uint8_t type_id;
} cpl_template_piece;

typedef struct cpl_template {
    cpl_template_piece *pieces;
    size_t n, added; /* added: ids that are not of a sequence */
} cpl_template;

typedef struct cpl_added_token {
    const char *content;
    const char *pattern; /* what is looked for: the content, normalised if the token is */
    size_t pattern_size;
    uint32_t size;
    int32_t id;
    bool special, single_word, lstrip, rstrip, normalized;
} cpl_added_token;

enum { CPL_WINDOW_BYTES = 2048 };

struct cpl_tokenizer {
    cpl_arena arena; /* everything below lives here, the struct apart */
    cpl_vocab vocab;
    uint32_t vocab_size;
    uint64_t identity; /* no other tokenizer of this process has it, also no earlier one */
    int32_t unk_id;
    size_t word_chars_max;
    bool clean, cjk, strip, lower;
    const cpl_scan *scan;
    cpl_scan_classes classes;
    uint16_t page_of[1024]; /* of the characters below U+10000, 64 a page (normalize.c) */
    const uint32_t (*pages)[64];
    cpl_added_token *added;
    size_t added_count;
    size_t matchers[CPL_VOCAB_KINDS];          /* added tokens of CPL_VOCAB_RAW and CPL_VOCAB_NORMAL */
    uint8_t match_first[CPL_VOCAB_KINDS][256]; /* 1: an added token of that kind begins with this byte */
    int match_only[CPL_VOCAB_KINDS];           /* the one byte that all of a kind begin with, or -1 */
    cpl_template single, pair;
};

/* A non-starter that waits to be put in canonical order. */
typedef struct cpl_nonstarter {
    uint32_t scalar;
    uint32_t combining_class;
} cpl_nonstarter;

enum { CPL_CUT_IDS = 10, CPL_CUT_BITS = 11 };

/* A word that was cut lately, and its ids: one cache line. */
typedef struct cpl_cut {
    cpl_vocab_key key; /* its first half mixed with the tokenizer's identity */
    uint32_t size, count;
    int32_t ids[CPL_CUT_IDS];
} cpl_cut;

struct cpl_tokenizer_scratch {
    cpl_cut *cuts;                                  /* 2^CPL_CUT_BITS of them, each where its word's hash says */
    char window[CPL_WINDOW_BYTES + CPL_SCAN_SLACK]; /* normalised text, as far as it is not ids yet */
    uint16_t starts[CPL_WINDOW_BYTES + CPL_SCAN_SLACK], ends[CPL_WINDOW_BYTES + CPL_SCAN_SLACK]; /* of its words */
    uint64_t hashes[CPL_WINDOW_BYTES];
    char *word; /* a word longer than the window, normalised */
    size_t word_cap;
    char *text; /* a normalised text, where added tokens are looked for in it */
    size_t text_size, text_cap;
    cpl_nonstarter *run, *sorted;
    size_t run_count, run_cap, sorted_cap;
    int32_t *side[2]; /* ids of a and b for cpl_tokenizer_pair */
    size_t side_cap[2];
};

bool cpl_tokenizer_grow(void **data, size_t *cap, size_t want, size_t item);

/* From the options: scan, classes and pages. */
cpl_status cpl_tokenizer_set_tables(cpl_tokenizer *t, cpl_error *err);
/* Its part that needs the normaliser. */
cpl_status cpl_tokenizer_set_pages(cpl_tokenizer *t, cpl_tokenizer_scratch *s, cpl_error *err);
/* From vocab and matchers: match_first and match_only. */
void cpl_tokenizer_set_matches(cpl_tokenizer *t);
/* The same ids by the scan of that number (scan.h), for tests; 0: this CPU lacks it or there is none. */
int cpl_tokenizer_use_scan(cpl_tokenizer *t, size_t number);
/* Leaves the normalised text in s->text (s->text_size bytes). */
cpl_status cpl_tokenizer_normalize(const cpl_tokenizer *t, cpl_tokenizer_scratch *s, cpl_text text, cpl_error *err);

/* ---- from files to a tokenizer ------------------------------------------------------------------------------ */

enum { CPL_TOKEN_IDS_MAX = 1 << 24 }; /* ids from here on are taken for a broken file */

/* A tokenizer while it is read. Strings are borrowed from whatever was parsed until cpl_draft_finish. */
typedef struct cpl_draft {
    const char *name; /* of the file, in errors */
    cpl_tokenizer *t; /* options, templates (in t->arena) and word_chars_max are filled in by the reader */
    const char *unk_token, *prefix;
    size_t prefix_size;
    cpl_vocab_entry *entries;
    size_t entry_count, entry_cap;
    cpl_added_token *added; /* id as the file says, or -1: whatever it comes to */
    size_t added_count, added_cap;
    bool cut;   /* the vocabulary's words are in already, the JSON has none of them (tokenizer_cut.c) */
    bool twins; /* set when a cut draft fails because a word is there twice */
} cpl_draft;

/* A token as an error shows it: at most 60 bytes of it, cut between characters, on one line. */
typedef struct cpl_quoted {
    char text[64];
} cpl_quoted;
const char *cpl_token_quote(cpl_quoted *q, const char *token, size_t size);
#define CPL_QUOTE(token, size) cpl_token_quote(&(cpl_quoted){{0}}, (token), (size))

/* Words of the vocabulary; of equal ones the last counts. */
cpl_status cpl_draft_add_word(cpl_draft *d, const char *text, size_t size, int64_t id, cpl_error *err);
cpl_status cpl_draft_add_token(cpl_draft *d, const cpl_added_token *token, cpl_error *err);
/* One entry of an added_tokens list or of added_tokens_decoder. id -1: read it from the object. */
cpl_status cpl_draft_read_token(cpl_draft *d, const json_t *object, int64_t id, cpl_error *err);
/* [CLS] A [SEP] and [CLS] A [SEP] B [SEP], type ids 0 and 1. */
cpl_status cpl_draft_bert_templates(cpl_draft *d, int32_t cls, int32_t sep, cpl_error *err);
/* The words of a tokenizer.json and, in *rest, the file with {} in their place. *cut false: it is one to read as a
 * whole, nothing happened. */
cpl_status cpl_draft_cut_vocab(cpl_draft *d, const char *json, size_t n, cpl_buf *rest, bool *cut, cpl_error *err);
/* Makes the tokenizer out of the draft. Whether it succeeds or fails, the draft is released; on failure d->t too, and
 * d->twins is left to see. */
cpl_status cpl_draft_finish(cpl_draft *d, cpl_tokenizer **out, cpl_error *err);
cpl_status cpl_draft_init(cpl_draft *d, const char *name, cpl_error *err);
void cpl_draft_deinit(cpl_draft *d); /* for a draft that will not be finished */

/* The tokenizer of a directory that has vocab.txt (tokenizer_vocab.c). */
cpl_status cpl_tokenizer_open_vocab(cpl_tokenizer **out, const char *dir, cpl_error *err);

#endif
