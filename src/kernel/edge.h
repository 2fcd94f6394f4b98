/* SPDX-License-Identifier: Apache-2.0 */
/* edge.h - the last panel of a matrix whose columns don't fill it: the tile runs in full on memory of its own, of which
 * the columns that exist are copied. The one way of doing so, for the drivers of every kind of weights. */
#ifndef CPL_KERNEL_EDGE_H
#define CPL_KERNEL_EDGE_H

#include <stdint.h>
#include <string.h>

enum { CPL_EDGE_MR_MAX = 16, CPL_EDGE_NR_MAX = 64 };

typedef struct cpl_edge {
    float out[CPL_EDGE_MR_MAX * CPL_EDGE_NR_MAX], residual[CPL_EDGE_MR_MAX * CPL_EDGE_NR_MAX];
} cpl_edge;

/* The tile's residual, `columns` of nr wide and rows ldr floats apart, as rows of nr with zeros beyond. */
static inline const float *cpl_edge_residual(cpl_edge *e, const float *residual, size_t ldr, uint32_t m, size_t nr,
                                             uint32_t columns)
{
    for (uint32_t i = 0; i < m; i++) {
        memset(e->residual + i * nr, 0, nr * sizeof(float));
        memcpy(e->residual + i * nr, residual + i * ldr, columns * sizeof(float));
    }
    return e->residual;
}

/* What the tile left in e->out, to where it belongs. */
static inline void cpl_edge_store(const cpl_edge *e, float *c, size_t ldc, uint32_t m, size_t nr, uint32_t columns)
{
    for (uint32_t i = 0; i < m; i++) memcpy(c + i * ldc, e->out + i * nr, columns * sizeof(float));
}

#endif
