/* SPDX-License-Identifier: Apache-2.0 */
/* unicode_tables.h - what Hugging Face `tokenizers` does with each Unicode scalar value. The tables themselves are
 * generated (tools/make_unicode_tables.py); the sizes here have to agree with them, or they don't compile.
 *
 * Every lookup is two-stage: index[c >> BITS] names a block, and an index past its last entry means the last entry. */
#ifndef CPL_TEXT_UNICODE_TABLES_H
#define CPL_TEXT_UNICODE_TABLES_H

#include <stddef.h>
#include <stdint.h>

enum {
    CPL_CHAR_WHITE = 1,      /* splits words; clean_text makes it a space */
    CPL_CHAR_DROP = 2,       /* clean_text removes it (before it can be white) */
    CPL_CHAR_CJK = 4,        /* handle_chinese_chars puts spaces around it */
    CPL_CHAR_PUNCT = 8,      /* a word of its own */
    CPL_CHAR_MARK = 16,      /* nonspacing mark: strip_accents removes it, after decomposing */
    CPL_CHAR_LOWER = 32,     /* lower case differs */
    CPL_CHAR_DECOMPOSE = 64, /* canonical decomposition differs; Hangul syllables are not marked */
    CPL_CHAR_WORD = 128      /* \w, which single_word added tokens look at */
};

#define CPL_UNICODE_KIND_BITS   7
#define CPL_UNICODE_KIND_LAST   8703
#define CPL_UNICODE_LOWER_BITS  6
#define CPL_UNICODE_LOWER_LAST  1957
#define CPL_UNICODE_DECOMP_BITS 6
#define CPL_UNICODE_DECOMP_LAST 3049

extern const uint8_t cpl_unicode_kind_flags[78];
extern const uint8_t cpl_unicode_kind_class[78];
extern const uint8_t cpl_unicode_kind_index[CPL_UNICODE_KIND_LAST + 1];
extern const uint8_t cpl_unicode_kind_blocks[29440];
extern const int32_t cpl_unicode_lower_delta[84];
extern const uint8_t cpl_unicode_lower_index[CPL_UNICODE_LOWER_LAST + 1];
extern const uint8_t cpl_unicode_lower_blocks[3520];
extern const uint32_t cpl_unicode_decomp_pool[3267]; /* first scalar | count << 24, then the others */
extern const uint8_t cpl_unicode_decomp_index[CPL_UNICODE_DECOMP_LAST + 1];
extern const uint16_t cpl_unicode_decomp_blocks[5120];

static inline size_t cpl_unicode_slot(const uint8_t *index, unsigned bits, size_t last, uint32_t c)
{
    size_t i = c >> bits;
    return ((size_t)index[i < last ? i : last] << bits) + (c & ((1u << bits) - 1));
}

static inline uint8_t cpl_unicode_kind(uint32_t c)
{
    return cpl_unicode_kind_blocks[cpl_unicode_slot(cpl_unicode_kind_index, CPL_UNICODE_KIND_BITS,
                                                    CPL_UNICODE_KIND_LAST, c)];
}

static inline uint8_t cpl_unicode_flags(uint32_t c) { return cpl_unicode_kind_flags[cpl_unicode_kind(c)]; }

/* Lower case of c as one scalar. U+0130 alone has two, i and U+0307: the caller sees to it. */
static inline uint32_t cpl_unicode_lower(uint32_t c)
{
    uint8_t d = cpl_unicode_lower_blocks[cpl_unicode_slot(cpl_unicode_lower_index, CPL_UNICODE_LOWER_BITS,
                                                          CPL_UNICODE_LOWER_LAST, c)];
    return (uint32_t)((int32_t)c + cpl_unicode_lower_delta[d]);
}

/* Full canonical decomposition of a character flagged CPL_CHAR_DECOMPOSE: the first scalar in bits 0..20 of the first
 * entry, the count in bits 24..31. */
static inline const uint32_t *cpl_unicode_decomposition(uint32_t c)
{
    return &cpl_unicode_decomp_pool[cpl_unicode_decomp_blocks[cpl_unicode_slot(
        cpl_unicode_decomp_index, CPL_UNICODE_DECOMP_BITS, CPL_UNICODE_DECOMP_LAST, c)]];
}

#endif
