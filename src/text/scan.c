/* SPDX-License-Identifier: Apache-2.0 */
/* scan.c - the loops over bytes in plain C, and the choice among all of them.
 * The one idea: they are so short that only they need an instruction set of their own; what they find is the same
 * everywhere, so everything behind them is written once. The choice is made when a tokenizer is opened.
 * Threads: no state. */
#include "text/scan.h"

#include "text/scan_isa.h"

static size_t copy_plain(char *to, const char *from, size_t n, const cpl_scan_classes *classes)
{
    size_t i = 0;
    for (; i < n; i++) {
        uint8_t c = (uint8_t)from[i];
        if (classes->of[c] >= CPL_ASCII_DROP) break;
        to[i] = (char)(c | ((uint8_t)(c - 'A') < 26 ? classes->lower : 0));
    }
    return i;
}

static size_t split_plain(const char *text, size_t n, const cpl_scan_classes *classes, uint16_t *starts, uint16_t *ends)
{
    size_t started = 0, ended = 0;
    unsigned in_word = 0, in_punct = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t class = classes->of[(uint8_t)text[i]];
        unsigned punct = class == CPL_ASCII_PUNCT, word = class != CPL_ASCII_PUNCT && class != CPL_ASCII_WHITE;
        starts[started] = ends[ended] = (uint16_t)i;
        started += (word & ~in_word) | punct;
        ended += (in_word & ~word) | in_punct;
        in_word = word;
        in_punct = punct;
    }
    if (ended < started) ends[ended] = (uint16_t)n;
    return started;
}

static const cpl_scan plain = {"c", copy_plain, split_plain};

#if defined(__x86_64__)
static int have_avx2(void) { return __builtin_cpu_supports("avx2") != 0; }

static int have_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

const cpl_scan *cpl_scan_at(size_t i, int *runs)
{
    *runs = 1;
    if (i == 0) return &plain;
#if defined(__x86_64__)
    if (i == 1) {
        *runs = have_avx2();
        return &cpl_scan_avx2;
    }
    if (i == 2) {
        *runs = have_avx512();
        return &cpl_scan_avx512;
    }
#elif defined(__aarch64__)
    if (i == 1) return &cpl_scan_neon;
#endif
    return NULL;
}

const cpl_scan *cpl_scan_best(void)
{
    const cpl_scan *best = &plain, *next;
    int runs;
    for (size_t i = 1; (next = cpl_scan_at(i, &runs)); i++)
        if (runs) best = next;
    return best;
}
