/* SPDX-License-Identifier: Apache-2.0 */
/* bootstrap.h - how sure the ratio of two measured figures is, when each was measured in several rounds. */
#ifndef CPL_LAB_BOOTSTRAP_H
#define CPL_LAB_BOOTSTRAP_H

#include <stddef.h>
#include <stdint.h>

#include "load/measure.h"

enum { CPL_BOOTSTRAP_ROUNDS_MAX = 64 };

typedef struct cpl_bootstrap {
    /* Logarithm of the figure of one side (0 or 1) when its round i is taken times[i] times; NAN: not defined. Rounds
     * are taken whole: what they hold (a histogram) is merged, never averaged. */
    double (*log_of)(void *user, int side, const uint8_t *times, size_t rounds);
    void *user;
    size_t rounds[2];
    bool paired;     /* round i of both sides ran next to each other: they are drawn together */
    double log_step; /* resolution of the figure (0.004 for a histogram's percentile); 0: exact */
    uint64_t seed;
} cpl_bootstrap;

/* Side 1 over side 0 with its 95 % interval: bootstrap over rounds gives the standard error of the log ratio (all
 * resamples where there are at most 4 rounds, else 2,000 drawn by the seed), Student's quantile the width, because
 * percentiles of a few rounds' resamples cover far less than 95 %. Not known with one round on either side. */
cpl_interval cpl_bootstrap_ratio(const cpl_bootstrap *b);

#endif
