/* SPDX-License-Identifier: Apache-2.0 */
/* generator.h - seeded English-like query / document pairs for benches and demos, where no real pairs are at hand.
 *
 * With the BERT uncased vocabulary the pairs have the token counts of MS MARCO passages: mean about 103 tokens a pair
 * with its special tokens, median 101, 95th percentile 159, largest about 232; a query has about 8. The words follow
 * Zipf's law. The same seed gives the same pairs on every machine, and no pair of one generator repeats. */
#ifndef CPL_TEXT_GENERATOR_H
#define CPL_TEXT_GENERATOR_H

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

#endif
