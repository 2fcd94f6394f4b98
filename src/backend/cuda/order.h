/* SPDX-License-Identifier: Apache-2.0 */
/* order.h - in which order the device holds columns, and how passes are cut: arithmetic that host and device share. */
#ifndef CPL_BACKEND_CUDA_ORDER_H
#define CPL_BACKEND_CUDA_ORDER_H

#include <stdint.h>

/* Column (below 32) of a head that stands at `position` (below 32) of the context rows. */
static inline uint32_t cpl_cuda_context_column(uint32_t position)
{
    return 8 * (position % 8 / 2) + 2 * (position / 8) + position % 2;
}

/* Column (below 16) that stands at `position` (below 16) of the rows of an e4m3 result. */
static inline uint32_t cpl_cuda_middle_column(uint32_t position)
{
    return 8 * (position % 4 / 2) + 2 * (position / 4) + position % 2;
}

/* Groups of 64 values of 4 bits in a row of k. */
static inline uint32_t cpl_cuda_four_groups(uint32_t k) { return (k + 63) / 64; }

/* Heads that share an attention block of 128 head rows, by a sequence's length alone. */
static inline uint32_t cpl_cuda_heads_together(uint32_t length) { return length <= 32 ? 4 : length <= 64 ? 2 : 1; }

/* The size class of n: the next quarter of a power of two, at least 16, at most `most`. */
static inline uint32_t cpl_cuda_bound(uint32_t n, uint32_t most)
{
    uint32_t step = 4, up = 16;
    while (up < n) {
        if (up >= 8 * step) step *= 2;
        up += step;
    }
    return up < most ? up : most;
}

#endif
