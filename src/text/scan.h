/* SPDX-License-Identifier: Apache-2.0 */
/* scan.h - the two loops over every byte of a text, one set of them for each instruction set. All give the same. */
#ifndef CPL_TEXT_SCAN_H
#define CPL_TEXT_SCAN_H

#include <stddef.h>
#include <stdint.h>

/* What an ASCII byte does, the normaliser's options counted in. Bytes from 0x80 on are CPL_ASCII_NOT. */
enum { CPL_ASCII_WORD, CPL_ASCII_WHITE, CPL_ASCII_PUNCT, CPL_ASCII_DROP, CPL_ASCII_NOT };

/* A set of ASCII bytes: byte c belongs to it when bit c / 16 of nibble[c % 16] is set. */
typedef struct cpl_scan_set {
    uint8_t nibble[16];
} cpl_scan_set;

typedef struct cpl_scan_classes {
    uint8_t of[256]; /* CPL_ASCII_... */
    cpl_scan_set drop, punct, space;
    uint8_t lower; /* 0x20: A to Z become a to z; 0 */
} cpl_scan_classes;

enum { CPL_SCAN_SLACK = 64 }; /* bytes, or positions, that may be written behind what is asked for */

typedef struct cpl_scan {
    const char *name;
    /* Copies plain ASCII, lower-cased if so asked, up to the first byte that is dropped or no ASCII; returns how much.
     * Reads no byte beyond from + n. */
    size_t (*copy)(char *to, const char *from, size_t n, const cpl_scan_classes *classes);
    /* The words of text: their first and their last-but-one positions. n below 65,536; CPL_SCAN_SLACK bytes behind
     * text + n are readable (and are spaces); nothing in it is dropped, bytes that are no ASCII belong to words. A
     * punctuation byte is a word. Returns how many; at most n. */
    size_t (*split)(const char *text, size_t n, const cpl_scan_classes *classes, uint16_t *starts, uint16_t *ends);
} cpl_scan;

/* The fastest that this CPU has. */
const cpl_scan *cpl_scan_best(void);
/* By number, for tests: NULL behind the last, *runs 0 where this CPU lacks it. The first is plain C. */
const cpl_scan *cpl_scan_at(size_t i, int *runs);

/* Positions of the bits of `bits`, `first` added, into `to`; returns how many. */
static inline size_t cpl_scan_positions(uint64_t bits, size_t first, uint16_t *to)
{
    size_t n = (size_t)__builtin_popcountll(bits);
    for (size_t done = 0; done < n; done += 8) {
        for (int i = 0; i < 8; i++) { /* beyond n: anything, in the slack */
            to[done + (size_t)i] = (uint16_t)(first + (size_t)__builtin_ctzll(bits | 1ull << 63));
            bits &= bits - 1;
        }
    }
    return n;
}

/* One block of 64: where its words start and end. */
typedef struct cpl_scan_cursor {
    uint64_t in_word, in_punct; /* 1: the byte before this block was one */
    size_t starts, ends;
} cpl_scan_cursor;

static inline void cpl_scan_block(cpl_scan_cursor *c, uint64_t word, uint64_t punct, size_t first, uint16_t *starts,
                                  uint16_t *ends)
{
    uint64_t behind_word = word << 1 | c->in_word, behind_punct = punct << 1 | c->in_punct;
    c->starts += cpl_scan_positions((word & ~behind_word) | punct, first, starts + c->starts);
    c->ends += cpl_scan_positions((~word & behind_word) | behind_punct, first, ends + c->ends);
    c->in_word = word >> 63;
    c->in_punct = punct >> 63;
}

static inline size_t cpl_scan_finish(const cpl_scan_cursor *c, size_t n, uint16_t *ends)
{
    if (c->ends < c->starts) ends[c->ends] = (uint16_t)n;
    return c->starts;
}

#endif
