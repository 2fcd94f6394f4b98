/* SPDX-License-Identifier: Apache-2.0 */
/* shape.h - what a workload's pairs look like: how long they are, how many share a query, how many are repeats. */
#ifndef CPL_LOAD_SHAPE_H
#define CPL_LOAD_SHAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "couplet.h"

typedef enum cpl_lengths {
    CPL_LENGTHS_GIVEN,    /* as the file or the generator has them */
    CPL_LENGTHS_EXACT,    /* all `low` tokens */
    CPL_LENGTHS_UNIFORM,  /* `low` to `high` */
    CPL_LENGTHS_LOGNORMAL /* median `low`, sigma `sigma` */
} cpl_lengths;

enum { CPL_SHAPE_TOKENS_MIN = 5, CPL_SHAPE_TOKENS_MAX = 8192 };

typedef struct cpl_shape {
    cpl_lengths lengths; /* tokens of a pair in BERT's uncased vocabulary, the three special ones included */
    double low, high, sigma;
    uint32_t documents_per_query; /* so many pairs in a row have one query; 0 or 1: each its own */
    double duplicates;            /* part of the queries, with their documents, that are repeats of earlier ones */
    char text[160];               /* for reports: "32 tokens a pair, 10 documents a query"; "" when as given */
} cpl_shape;

/* `lengths`: "" (as given), "32", "16-128", "lognormal:102,0.27", "fit:FILE" (log-normal fitted to a file of pairs, by
 * an estimate of their tokens). Fills *out, also its text. What makes no sense is CPL_INVALID by name. */
cpl_status cpl_shape_parse(cpl_shape *out, const char *lengths, uint32_t documents_per_query, double duplicates,
                           cpl_error *err);
/* Tokens of the next pair, special ones included; for shapes with lengths. */
uint32_t cpl_shape_draw(const cpl_shape *s, uint64_t *state);
/* Of a pair's tokens, those of the query. */
uint32_t cpl_shape_query_tokens(uint32_t tokens);
/* What BERT's vocabulary makes of a text, roughly: a token a word, one more for each three letters past the eighth,
 * one a mark. Within 2 % over English passages. */
size_t cpl_shape_estimate(cpl_text text);

/* One seed for each purpose, so that changing one thing leaves the others as they were. */
typedef enum cpl_purpose {
    CPL_SEED_TEXTS,
    CPL_SEED_ORDER,
    CPL_SEED_ARRIVALS,
    CPL_SEED_LENGTHS,
    CPL_SEED_DUPLICATES
} cpl_purpose;
uint64_t cpl_seed_for(uint64_t seed, cpl_purpose purpose);

#endif
