/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer.h - text to BERT token ids, exactly as Hugging Face `tokenizers` does it.
 *
 * A tokenizer is read-only once open and shared by all threads; a scratch belongs to one thread at a time. Nothing
 * here allocates after the scratch has grown to the longest text seen. */
#ifndef CPL_TEXT_TOKENIZER_H
#define CPL_TEXT_TOKENIZER_H

#include "couplet.h"

typedef struct cpl_tokenizer cpl_tokenizer;
typedef struct cpl_tokenizer_scratch cpl_tokenizer_scratch;

/* Reads DIR/tokenizer.json, or where that is absent DIR/vocab.txt with DIR/tokenizer_config.json's options (absent:
 * lower case on, strip accents with it, CJK spacing on). Another pipeline than BERT's is CPL_UNSUPPORTED by name. The
 * truncation and padding blocks of tokenizer.json are ignored (DESIGN section 6). On failure *out is NULL. */
cpl_status cpl_tokenizer_open(cpl_tokenizer **out, const char *dir, cpl_error *err);
/* The same from the bytes of a tokenizer.json, `name` used in errors (fuzz target). */
cpl_status cpl_tokenizer_parse(cpl_tokenizer **out, const char *name, const char *json, size_t n, cpl_error *err);
void cpl_tokenizer_close(cpl_tokenizer *t); /* NULL is fine */

/* Ids in the vocabulary are in [0, cpl_tokenizer_vocab_size). The model must have at least as many rows. */
uint32_t cpl_tokenizer_vocab_size(const cpl_tokenizer *t);

cpl_status cpl_tokenizer_scratch_open(cpl_tokenizer_scratch **out, cpl_error *err);
void cpl_tokenizer_scratch_close(cpl_tokenizer_scratch *s);

/* Ids of `text` alone, no special tokens added (those written in the text are recognised). Stops once `cap` ids are
 * written: what a longer text would have been cut to; *count is at most cap, and never more than the text has bytes.
 * `text` must be valid UTF-8; other bytes give unspecified ids but touch no memory beyond. The only failure is
 * CPL_NO_MEMORY. */
cpl_status cpl_tokenizer_encode(const cpl_tokenizer *t, cpl_tokenizer_scratch *s, cpl_text text, int32_t *ids,
                                size_t cap, size_t *count, cpl_error *err);
/* How many ids the whole text has. */
cpl_status cpl_tokenizer_count(const cpl_tokenizer *t, cpl_tokenizer_scratch *s, cpl_text text, size_t *count,
                               cpl_error *err);

/* Special tokens the template adds to one text, and to a pair (2 and 3 for BERT). */
size_t cpl_tokenizer_added(const cpl_tokenizer *t, int pair);

/* Lays `a`, or with b not NULL the pair a, b, out as the template says: ids and type ids, truncated longest first to
 * max_length (0: no truncation; smaller than the template's own tokens: CPL_INVALID). Writes to ids and type_ids what
 * fits in cap and returns the full length in *count. No more than max_length ids of a and of b are read, so encode with
 * cap = max_length. One case needs more: when both come back full, the longer text keeps the odd id of an odd budget,
 * so pass as a_count and b_count what cpl_tokenizer_count says of the two texts (cpl_tokenizer_pair does all that). */
cpl_status cpl_tokenizer_lay_out(const cpl_tokenizer *t, const int32_t *a, size_t a_count, const int32_t *b,
                                 size_t b_count, size_t max_length, int32_t *ids, uint8_t *type_ids, size_t cap,
                                 size_t *count, cpl_error *err);

/* Everything at once: the ids of one text (b NULL) or of a pair, special tokens and truncation included. The same
 * max_length, cap and *count as cpl_tokenizer_lay_out. */
cpl_status cpl_tokenizer_pair(const cpl_tokenizer *t, cpl_tokenizer_scratch *s, cpl_text a, const cpl_text *b,
                              size_t max_length, int32_t *ids, uint8_t *type_ids, size_t cap, size_t *count,
                              cpl_error *err);

#endif
