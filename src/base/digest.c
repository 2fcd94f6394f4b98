/* SPDX-License-Identifier: Apache-2.0 */
/* digest.c - see digest.h. Four chains over every fourth word, each a multiplication that loses nothing (odd factor)
 * and a shift that brings high bits down, so that they run side by side; what is left is filled up with zeros, the
 * length tells it from data that had them. Rejected: SHA-256, which takes longer for the weights than the whole load.
 * No state. */
#include "base/digest.h"

#include <string.h>

enum { CHAINS = 4, BLOCK = CHAINS * 8 };

static uint64_t mix(uint64_t h, uint64_t word)
{
    h = (h ^ word) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

static uint64_t word_at(const unsigned char *p)
{
    uint64_t x = 0;
    for (int i = 0; i < 8; i++) x |= (uint64_t)p[i] << 8 * i;
    return x;
}

static void take(uint64_t *h, const unsigned char *block)
{
    for (int i = 0; i < CHAINS; i++) h[i] = mix(h[i], word_at(block + 8 * i));
}

uint64_t cpl_digest(const void *data, size_t n)
{
    const unsigned char *p = data;
    uint64_t h[CHAINS] = {1, 2, 3, 4}, all = n;
    size_t left = n;
    for (; left >= BLOCK; left -= BLOCK, p += BLOCK) take(h, p);
    if (left) {
        unsigned char last[BLOCK] = {0};
        memcpy(last, p, left);
        take(h, last);
    }
    for (int i = 0; i < CHAINS; i++) all = mix(mix(all, h[i]), h[i] >> 32);
    return all;
}
