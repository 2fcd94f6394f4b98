/* SPDX-License-Identifier: Apache-2.0 */
/* passages.h - seeded passages for benches of the tokenizer, in several scripts.
 *
 * English has the word frequencies of MS MARCO passages, by octaves of the rank: 8,191 words of the vocabulary, made-up
 * ones that it lacks (7 % of the words), numbers, punctuation, capitals, some typographic characters. 0.43 MB of each:
 * see docs/PERFORMANCE.md. The pairs of generator.h are made for their token counts; their 512 words are too few to
 * time a vocabulary by. The same seed gives the same passages on every machine; no passage repeats. */
#ifndef CPL_TEXT_PASSAGES_H
#define CPL_TEXT_PASSAGES_H

#include "text/english_words.h"
#include "text/generator.h"

typedef enum cpl_script {
    CPL_SCRIPT_ENGLISH,
    CPL_SCRIPT_ACCENTED, /* made-up Latin words, a letter of nine with a diacritic */
    CPL_SCRIPT_CJK,      /* ideographs, one of three a frequent one, and their punctuation */
    CPL_SCRIPT_HANGUL,   /* words of one to five syllables */
    CPL_SCRIPT_COUNT
} cpl_script;

const char *cpl_script_name(cpl_script script);

/* Caller's memory (33 KB), nothing to release; one thread at a time. */
typedef struct cpl_passages {
    cpl_text_generator generator;
    uint32_t word_at[CPL_ENGLISH_WORDS + 1];
} cpl_passages;

void cpl_passages_init(cpl_passages *p, uint64_t seed);
/* Appends the next passage, UTF-8 of about 400 bytes without line breaks. The only failure is CPL_NO_MEMORY. */
cpl_status cpl_passages_next(cpl_passages *p, cpl_script script, cpl_buf *out, cpl_error *err);

#endif
