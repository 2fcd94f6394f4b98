/* SPDX-License-Identifier: Apache-2.0 */
/* generator.h - seeded English-like query / document pairs for benches and demos, where no real pairs are at hand.
 *
 * With the BERT uncased vocabulary the pairs have the token counts of MS MARCO pairs (mean 103 with the special
 * tokens, median 101, 95th percentile 159, largest 232). Of 20,000 from seed 1: mean 103.9, median 100, 95th percentile
 * 157, 29 to 234; a query has 8.0 (2 to 23). Words follow Zipf's law, 1.28 tokens each, punctuation included. The same
 * seed gives the same pairs on every machine, and neither a query nor a document of one generator ever repeats. */
#ifndef CPL_TEXT_GENERATOR_H
#define CPL_TEXT_GENERATOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "couplet.h"

/* Caller's memory, nothing to release; one thread at a time. */
typedef struct cpl_text_generator {
    uint64_t state;   /* splitmix64 */
    uint64_t ordinal; /* pairs made so far */
} cpl_text_generator;

void cpl_text_generator_init(cpl_text_generator *g, uint64_t seed);

/* Appends the next pair's query and document, ASCII without line breaks or tabs, to the two buffers (clear them
 * yourself). The only failure is CPL_NO_MEMORY; the generator has then moved on by one pair. */
cpl_status cpl_text_generator_pair(cpl_text_generator *g, cpl_buf *query, cpl_buf *document, cpl_error *err);

/* A number below n, n > 0; the state moves on. */
uint32_t cpl_text_generator_below(cpl_text_generator *g, uint32_t n);
/* Appends a made-up name, three syllables for every 18 bits of `ordinal`, another for each; returns its tokens in
 * BERT's vocabulary, roughly. */
uint32_t cpl_text_generator_name(cpl_buf *out, uint64_t ordinal, bool capital);

#endif
