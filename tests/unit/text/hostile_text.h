/* SPDX-License-Identifier: Apache-2.0 */
/* hostile_text.h - strings that are hard on a tokenizer, by number: the same as tools/hostile_text.py makes. Change
 * both together, then run tools/make_tokenizer_golden.py. */
#ifndef CPL_TESTS_HOSTILE_TEXT_H
#define CPL_TESTS_HOSTILE_TEXT_H

#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "base/utf8.h"

#define HOSTILE_SEED 0x636F75706C657431u

static const char *const hostile_words[] = {
    "the",   "playing", "unaffordable", "Tokenization", "naïve", "Straße",    "ΟΔΥΣΣΕΥΣ", "İstanbul",
    "ﬁancé", "don't",   "e-mail",       "C++",          "3.14",  "1,000,000", "U.S.A.",   "embeddings",
    "réélu", "Müller",  "ñandú",        "Ǆungla",       "ß",     "ﬀ"};
static const char *const hostile_special[] = {
    "[CLS]",     "[SEP]",   "[MASK]",  "[PAD]",    "[UNK]", "[cls]", "[[MASK]]", "[MASK", "[ SEP]",
    "##ing",     "[MASK]s", "a[SEP]b", " [MASK] ", "<k>",   "<K>",   "  <l>",    "<r>  ", "new york",
    "New  York", "<both> ", "Ünï",     "x<k>",     "<k>y",  "_<k>",  "\n<l>",    "x<kk>", "<kk>"};
static const uint32_t hostile_white[] = {0x20,   0x09,   0x0A,   0x0D,   0x0B,   0x0C,   0x85,   0xA0,
                                         0x1680, 0x2000, 0x2009, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000};
static const uint32_t hostile_control[] = {0x00,   0x01,   0x08,   0x1B,    0x7F,    0x80,    0x9F,     0xAD,   0x600,
                                           0x200B, 0x200C, 0x200D, 0x200E,  0x202E,  0x2060,  0xFEFF,   0xFFFD, 0xFFFE,
                                           0xFFFF, 0xE000, 0xF8FF, 0xE0001, 0xE0041, 0xF0000, 0x10FFFF, 0x1D173};
static const uint32_t hostile_ordered[] = {0x0300,  0x0316,  0x0327,  0x0345,  0x034F, 0x035C, 0x302A, 0x302E, 0x302F,
                                           0x1D165, 0x1D166, 0x1D16D, 0x0898,  0x08CA, 0x1DFA, 0x094D, 0x09BE, 0x1133B,
                                           0x16FF0, 0x0F71,  0x0F72,  0x05B0,  0x0651, 0x3099, 0x1ABF, 0x20D0, 0x1DCE,
                                           0x1BAA,  0x1B44,  0x10A0D, 0x1E94A, 0x0C55, 0x0CE6, 0x0DCF, 0x0344};
static const uint32_t hostile_ranges[][2] = {{0xC0, 0x180},    {0x370, 0x2A0},   {0x590, 0x170},  {0x900, 0x480},
                                             {0xE00, 0x200},   {0x1E00, 0x200},  {0x1100, 0x100}, {0x3040, 0xC0},
                                             {0x4E00, 0x5200}, {0xAC00, 0x2BA4}, {0xF900, 0x200}, {0x2F800, 0x21E},
                                             {0x2B800, 0x140}, {0x1F300, 0x400}, {0x2000, 0x300}, {0x10400, 0x50},
                                             {0x1D100, 0x100}, {0x11100, 0x200}, {0xFF00, 0xF0},  {0x2150, 0x350}};

#define HOSTILE_COUNT(list) ((uint32_t)(sizeof(list) / sizeof(list)[0]))

static inline uint32_t hostile_below(uint64_t *state, uint32_t n)
{
    *state += 0x9E3779B97F4A7C15u;
    uint64_t z = *state;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)((z ^ z >> 31) >> 32) % n;
}

static inline void hostile_add(cpl_buf *out, uint32_t c)
{
    char utf8[4];
    if (c >= 0xD800 && c < 0xE000) c = c - 0xD800 + 0x4E00;
    cpl_buf_add(out, utf8, cpl_utf8_encode(c, utf8));
}

/* 1 + below(most) characters, each first + below(size). */
static inline void hostile_run(uint64_t *r, cpl_buf *out, uint32_t most, uint32_t first, uint32_t size)
{
    for (uint32_t n = 1 + hostile_below(r, most); n; n--) hostile_add(out, first + hostile_below(r, size));
}

static inline void hostile_pick(uint64_t *r, cpl_buf *out, uint32_t most, const uint32_t *list, uint32_t size)
{
    for (uint32_t n = 1 + hostile_below(r, most); n; n--) hostile_add(out, list[hostile_below(r, size)]);
}

static inline void hostile_limit(uint64_t *r, cpl_buf *out)
{
    static const uint32_t bases[] = {0x61, 0xE9, 0x3B1, 0x61};
    if (hostile_below(r, 8)) {
        hostile_run(r, out, 5, 0x30, 10);
        return;
    }
    uint32_t base = bases[hostile_below(r, 4)];
    for (uint32_t n = 95 + hostile_below(r, 12); n; n--) hostile_add(out, base + hostile_below(r, 3));
}

static inline void hostile_emoji(uint64_t *r, cpl_buf *out)
{
    for (uint32_t n = 1 + hostile_below(r, 3); n; n--) {
        uint32_t c = 0x1F300 + hostile_below(r, 0x500), parts = 1 + hostile_below(r, 3);
        hostile_add(out, c);
        if (parts > 1) hostile_add(out, 0xFE0F);
        if (parts > 2) hostile_add(out, 0x200D);
    }
}

static inline void hostile_letters(uint64_t *r, cpl_buf *out)
{
    for (uint32_t n = 1 + hostile_below(r, 12); n; n--) {
        uint32_t base = hostile_below(r, 4) ? 0x61 : 0x41;
        hostile_add(out, base + hostile_below(r, 26));
    }
}

static inline void hostile_piece(uint64_t *r, cpl_buf *out)
{
    uint32_t kind = hostile_below(r, 16), i;
    switch (kind) {
    case 0: hostile_letters(r, out); break;
    case 1: cpl_buf_text(out, hostile_words[hostile_below(r, HOSTILE_COUNT(hostile_words))]); break;
    case 2: hostile_run(r, out, 4, 0, 0x10000); break;
    case 3: hostile_run(r, out, 4, 0, 0x110000); break;
    case 4:
        hostile_add(out, 0x61 + hostile_below(r, 26));
        hostile_run(r, out, 4, 0x300, 0x70);
        break;
    case 5:
    case 6:
        i = hostile_below(r, HOSTILE_COUNT(hostile_ranges));
        hostile_run(r, out, 6, hostile_ranges[i][0], hostile_ranges[i][1]);
        break;
    case 7: hostile_pick(r, out, 3, hostile_white, HOSTILE_COUNT(hostile_white)); break;
    case 8: hostile_pick(r, out, 3, hostile_control, HOSTILE_COUNT(hostile_control)); break;
    case 9: hostile_emoji(r, out); break;
    case 10: hostile_limit(r, out); break;
    case 11: cpl_buf_text(out, hostile_special[hostile_below(r, HOSTILE_COUNT(hostile_special))]); break;
    case 12: hostile_run(r, out, 4, 0x21, 15); break;
    case 13:
        i = hostile_below(r, 32) ? 6 : 40;
        hostile_pick(r, out, i, hostile_ordered, HOSTILE_COUNT(hostile_ordered));
        break;
    case 14: hostile_run(r, out, 8, 0x61, 5); break;
    default: hostile_run(r, out, 8, 0x80, 0x780); break;
    }
}

/* Appends string `number`. */
static inline void hostile_string(cpl_buf *out, uint64_t number)
{
    uint64_t r = HOSTILE_SEED + number * 0xD1342543DE82EF95u;
    for (uint32_t n = hostile_below(&r, 13); n; n--) {
        hostile_piece(&r, out);
        if (hostile_below(&r, 2)) cpl_buf_add(out, " ", 1);
    }
}

#endif
