/* SPDX-License-Identifier: Apache-2.0 */
/* random.c - splitmix64: one word of state, every seed equally good, and short enough to repeat in another language
 * when a result has to be checked there. Not for secrets. */
#include "base/random.h"

uint64_t cpl_random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}
