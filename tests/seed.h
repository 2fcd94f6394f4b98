/* SPDX-License-Identifier: Apache-2.0 */
/* seed.h - where tests' random numbers come from: one seed a run, printed, so that COUPLET_SEED repeats a failure. */
#ifndef CPL_TESTS_SEED_H
#define CPL_TESTS_SEED_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/random.h"

/* COUPLET_SEED, else another one each second. */
static inline uint64_t test_seed(void)
{
    const char *given = getenv("COUPLET_SEED");
    const uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    printf("seed %llu (COUPLET_SEED)\n", (unsigned long long)seed);
    return seed;
}

static inline uint32_t test_below(uint64_t *state, uint32_t n) { return (uint32_t)(cpl_random_next(state) % n); }

#endif
