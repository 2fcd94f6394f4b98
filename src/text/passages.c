/* SPDX-License-Identifier: Apache-2.0 */
/* passages.c - text without meaning that costs a tokenizer what real text costs it.
 * The one idea: what matters is how many different words there are and how often each comes, so English is drawn by
 * octaves of the frequency rank with shares counted in MS MARCO passages (the few function words aside, about as much
 * text in each octave), and the words that no vocabulary has are drawn the same way from 2^17 made-up ones. All integer
 * arithmetic: the same text on every machine. A name that spells the passage's number keeps every line different.
 * Threads: the caller's state. */
#include "text/passages.h"

#include <stdbool.h>
#include <string.h>

#include "base/error.h"
#include "base/utf8.h"

/* Of 1,024 words that are in the vocabulary, so many have a rank of that octave (ranks 1, 2-3, 4-7, ...). */
static const uint16_t octave_share[13] = {64, 70, 108, 73, 76, 70, 69, 74, 82, 95, 101, 89, 53};
static const char *const prefixes[16] = {"re",    "un",  "over", "anti", "inter", "micro", "non",     "sub",
                                         "hyper", "pre", "bio",  "poly", "multi", "trans", "counter", "pseudo"};
static const char *const endings[16] = {"ation", "ative", "izing", "ology", "ously", "ment", "ality", "ized",
                                        "ators", "able",  "ating", "ist",   "s",     "ness", "ency",  "esque"};
static const char *const accented[16] = {"é", "è", "à", "ç", "ö", "ü", "ä", "ñ",
                                         "á", "í", "ó", "ø", "å", "š", "ž", "ł"};
static const char *const onsets[16] = {"b", "c", "d", "f", "g", "l",  "m",  "n",
                                       "p", "r", "s", "t", "v", "st", "pr", "ch"};
static const char *const rimes[16] = {"a",  "e",  "i",  "o",  "u",  "an", "er", "in",
                                      "on", "es", "ar", "el", "it", "or", "en", "al"};
static const char frequent[] =
    "的一是不了人我在有他这为之大来以个中上们到说国和地也子时道出而要于就下得可你年生自会那后能对着事其里所去行过家十"
    "用发天如然作方成者多日都三小军二无同么经法当起与好看学进种将还分此心前面又定见只主没公从";

static uint32_t below(cpl_passages *p, uint32_t n) { return cpl_text_generator_below(&p->generator, n); }

static uint32_t scrambled(uint32_t x)
{
    uint64_t z = ((uint64_t)x + 1) * 0x9E3779B97F4A7C15u;
    return (uint32_t)((z ^ z >> 29) * 0xBF58476D1CE4E5B9u >> 32);
}

/* A rank from octaves first .. first + count - 1, as likely each. */
static uint32_t draw_rank(cpl_passages *p, uint32_t first, uint32_t count)
{
    uint32_t octave = first + below(p, count);
    return (1u << octave) - 1 + below(p, 1u << octave);
}

static void add_listed(const cpl_passages *p, cpl_buf *out, uint32_t rank)
{
    cpl_buf_add(out, cpl_english_words + p->word_at[rank], p->word_at[rank + 1] - p->word_at[rank] - 1);
}

static void add_known(cpl_passages *p, cpl_buf *out)
{
    uint32_t at = below(p, 1024), octave = 0;
    while (at >= octave_share[octave]) at -= octave_share[octave++];
    add_listed(p, out, (1u << octave) - 1 + below(p, 1u << octave));
}

/* The made-up word of a rank: a name, or a listed word with something before or behind it. */
static void add_unknown(cpl_passages *p, cpl_buf *out, uint32_t rank)
{
    uint32_t how = scrambled(rank), listed = 200 + (how >> 8) % 4000;
    if (how % 4 == 0) {
        cpl_text_generator_name(out, scrambled(rank + 77), false);
        return;
    }
    if (how % 4 == 1) cpl_buf_text(out, prefixes[how >> 4 & 15]);
    add_listed(p, out, listed);
    if (how % 4 != 1) cpl_buf_text(out, endings[how >> 4 & 15]);
}

static void add_number(cpl_passages *p, cpl_buf *out)
{
    uint32_t how = below(p, 16);
    if (how < 7)
        cpl_buf_print(out, "%u", below(p, 10));
    else if (how < 11)
        cpl_buf_print(out, "%u", 10 + below(p, 90));
    else if (how < 13)
        cpl_buf_print(out, "%u.%u", below(p, 100), below(p, 10));
    else if (how < 14)
        cpl_buf_print(out, "$%u,%03u", 1 + below(p, 99), below(p, 1000));
    else
        cpl_buf_print(out, "%u", 1800 + below(p, 230));
}

/* What stands behind a word inside a sentence, with the share that it has there. */
static void add_mark(cpl_passages *p, cpl_buf *out)
{
    uint32_t how = below(p, 1024);
    if (how < 45) cpl_buf_text(out, ",");
    if (how >= 45 && how < 49) cpl_buf_text(out, ":");
    if (how == 49) cpl_buf_text(out, ";");
    if (how >= 50 && how < 54) cpl_buf_text(out, "\xE2\x80\x99s"); /* typographic */
    if (how >= 54 && how < 58) cpl_buf_text(out, "'s");
    if (how >= 58 && how < 59) cpl_buf_text(out, " \xE2\x80\x93");
    if (how >= 60 && how < 62) cpl_buf_text(out, "%");
    if (how >= 62 && how < 65) cpl_buf_text(out, "/or");
    if (how >= 65 && how < 75) {
        cpl_buf_text(out, "-");
        add_known(p, out);
    }
    if (how >= 75 && how < 84) {
        cpl_buf_text(out, " (");
        add_known(p, out);
        cpl_buf_text(out, ")");
    }
}

static void make_upper(cpl_buf *out, size_t from, bool all)
{
    for (size_t i = from; i < out->size && (all || i == from); i++)
        if (out->data[i] >= 'a' && out->data[i] <= 'z') out->data[i] = (char)(out->data[i] - 'a' + 'A');
}

static void english(cpl_passages *p, cpl_buf *out)
{
    uint32_t words = 36 + below(p, 66), left = 8 + below(p, 16);
    bool capital = false;
    for (uint32_t i = 0; i < words; i++) {
        uint32_t kind = below(p, 1024), form = below(p, 1024);
        cpl_buf_text(out, " ");
        size_t from = out->size;
        if (kind < 38)
            add_number(p, out);
        else if (kind < 112)
            add_unknown(p, out, draw_rank(p, 4, 13));
        else
            add_known(p, out);
        if (capital || form < 75) make_upper(out, from, form < 8);
        capital = --left == 0;
        if (capital) {
            cpl_buf_text(out, ".");
            left = 8 + below(p, 18);
        } else {
            add_mark(p, out);
        }
    }
    cpl_buf_text(out, ".");
}

/* Two to four syllables by the word's rank; accents too, so that a word is always written the same way. */
static void add_accented_word(cpl_passages *p, cpl_buf *out, uint32_t rank)
{
    (void)p;
    uint32_t how = scrambled(rank), more = scrambled(rank + 12345), syllables = rank < 64 ? 1 : 2 + how % 3;
    for (uint32_t i = 0; i < syllables; i++) {
        uint32_t bits = (i & 1 ? more : how) >> (8 * (i / 2) + 4);
        cpl_buf_text(out, onsets[bits & 15]);
        if ((bits >> 8 & 3) == 0)
            cpl_buf_text(out, accented[bits >> 4 & 15]);
        else
            cpl_buf_text(out, rimes[bits >> 4 & 15]);
    }
}

static void accented_latin(cpl_passages *p, cpl_buf *out)
{
    for (uint32_t words = 45 + below(p, 30); words; words--) {
        cpl_buf_text(out, " ");
        add_accented_word(p, out, draw_rank(p, 0, 14));
        if (below(p, 16) == 0) cpl_buf_text(out, below(p, 2) ? "," : ".");
    }
}

static void add_scalar(cpl_buf *out, uint32_t c)
{
    char utf8[4];
    cpl_buf_add(out, utf8, cpl_utf8_encode(c, utf8));
}

static void ideographs(cpl_passages *p, cpl_buf *out)
{
    for (uint32_t n = 100 + below(p, 60); n; n--) {
        uint32_t listed = (uint32_t)(sizeof frequent / 3);
        if (below(p, 3) == 0)
            cpl_buf_add(out, frequent + 3 * below(p, listed), 3);
        else
            add_scalar(out, 0x4E00 + scrambled(draw_rank(p, 3, 9)) % 20902);
        uint32_t mark = below(p, 20);
        if (mark < 2) add_scalar(out, mark ? 0x3002 : 0xFF0C);
    }
}

static void hangul(cpl_passages *p, cpl_buf *out)
{
    for (uint32_t words = 30 + below(p, 20); words; words--) {
        cpl_buf_text(out, " ");
        for (uint32_t n = 1 + (below(p, 3) + below(p, 4)); n; n--)
            add_scalar(out, 0xAC00 + scrambled(draw_rank(p, 2, 9)) % 11172);
        if (below(p, 12) == 0) cpl_buf_text(out, ".");
    }
}

const char *cpl_script_name(cpl_script script)
{
    static const char *const names[CPL_SCRIPT_COUNT] = {"english", "accented", "cjk", "hangul"};
    return names[script];
}

void cpl_passages_init(cpl_passages *p, uint64_t seed)
{
    cpl_text_generator_init(&p->generator, seed);
    const char *at = cpl_english_words;
    for (uint32_t i = 0; i <= CPL_ENGLISH_WORDS; i++) {
        p->word_at[i] = (uint32_t)(at - cpl_english_words);
        if (i < CPL_ENGLISH_WORDS) at = strchr(at, ' ') + 1;
    }
}

cpl_status cpl_passages_next(cpl_passages *p, cpl_script script, cpl_buf *out, cpl_error *err)
{
    static void (*const add[CPL_SCRIPT_COUNT])(cpl_passages *, cpl_buf *) = {english, accented_latin, ideographs,
                                                                             hangul};
    size_t from = out->size;
    cpl_text_generator_name(out, p->generator.ordinal++, false);
    if (script == CPL_SCRIPT_ENGLISH) make_upper(out, from, false);
    add[script](p, out);
    return cpl_buf_status(out, err);
}
