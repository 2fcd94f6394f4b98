/* SPDX-License-Identifier: Apache-2.0 */
/* encoder.h - one text on its way to ids: normalize.c writes normalised text into the scratch's window, words.c turns
 * what is in the window into ids, encode.c leads them. Nobody else includes it. */
#ifndef CPL_TEXT_ENCODER_H
#define CPL_TEXT_ENCODER_H

#include "text/tokenizer_impl.h"

typedef struct cpl_encoder {
    const cpl_tokenizer *t;
    cpl_tokenizer_scratch *s;
    int32_t *ids;
    size_t room;       /* ids that may be written */
    size_t stop;       /* enough ids: whatever follows can't matter */
    size_t count;      /* ids so far, written or not */
    size_t used;       /* bytes in s->window */
    size_t long_size;  /* bytes of a word too long for the window, in s->word */
    size_t long_chars; /* its characters, also those beyond word_chars_max, which s->word doesn't have */
    size_t no_memory;  /* bytes that were not to be had; 0: fine */
    bool in_long_word; /* what comes next in the window may continue it */
    bool to_text;      /* characters go to s->text instead of the window */
} cpl_encoder;

static inline void cpl_encoder_put(cpl_encoder *e, int32_t id)
{
    if (e->count < e->room) e->ids[e->count] = id;
    e->count++;
}

static inline bool cpl_encoder_done(const cpl_encoder *e) { return e->count >= e->stop || e->no_memory; }

/* words.c: the ids of the words in the window. Without `final`, a word that ends where the window ends stays in it. */
void cpl_encoder_drain(cpl_encoder *e, bool final);

/* normalize.c: a part of a raw text without added tokens, through the normaliser, into window or s->text. */
void cpl_encoder_normalize(cpl_encoder *e, const char *data, size_t n);
/* A part of a normalised text: only split. */
void cpl_encoder_split(cpl_encoder *e, const char *text, size_t n);

#endif
