/* SPDX-License-Identifier: Apache-2.0 */
/* random.h - the one generator of seeded draws (splitmix64): the same seed, the same draws on every machine. */
#ifndef CPL_BASE_RANDOM_H
#define CPL_BASE_RANDOM_H

#include <stdint.h>

/* Any state is a good seed. */
uint64_t cpl_random_next(uint64_t *state);

#endif
