/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_i8.c - C = epilogue(scales (A B^T) + bias) on int8 panels, by whatever register tile the table holds.
 *
 * The idea is gemm_f32.c's: panels outside, row tiles inside, the whole of K in registers, the next panel fetched. A
 * panel is a quarter of the fp32 one's size, and so is the time spent on it: the stream of weights is the same few
 * bytes a cycle.
 *
 * Weights come quantised, a scale for each output column (a row of the stored matrix). Where activations are stored
 * with an offset (VNNI multiplies unsigned by signed), its product with the
 * column's sum is exact and goes into the value that sums start from.
 *
 * Invariant: sums are exact integers, so they can't depend on tile, batch, team or ISA. */
#include <string.h>

#include "base/error.h"
#include "kernel/edge.h"
#include "kernel/kernels.h"

static uint32_t groups(const cpl_kernels *k, uint32_t kk) { return (kk + k->i8_group - 1) / k->i8_group; }

uint32_t cpl_gemm_i8_panels(const cpl_kernels *k, uint32_t n) { return (n + k->i8_nr - 1) / k->i8_nr; }

size_t cpl_i8_row_bytes(const cpl_kernels *k, uint32_t n) { return (size_t)groups(k, n) * k->i8_group * k->i8_bytes; }

static size_t panel_bytes(const cpl_kernels *k, uint32_t kk) { return (size_t)groups(k, kk) * k->i8_group * k->i8_nr; }

size_t cpl_gemm_i8_packed_bytes(const cpl_kernels *k, uint32_t n, uint32_t kk)
{
    return cpl_gemm_i8_panels(k, n) * panel_bytes(k, kk);
}

void cpl_gemm_i8_place(const cpl_kernels *k, const cpl_packed_i8 *to, uint32_t column, uint32_t kk, const int8_t *q,
                       float scale, int is_unsigned)
{
    const uint32_t group = k->i8_group, nr = k->i8_nr;
    int8_t *b = to->b + column / nr * panel_bytes(k, kk) + (size_t)(column % nr) * group;
    int32_t sum = 0;
    uint32_t i = 0;
    for (; group == 4 && i + 4 <= kk; i += 4, b += nr * 4) {
        memcpy(b, q + i, 4);
        sum += q[i] + q[i + 1] + q[i + 2] + q[i + 3];
    }
    for (; group == 2 && i + 2 <= kk; i += 2, b += nr * 2) memcpy(b, q + i, 2), sum += q[i] + q[i + 1];
    for (uint32_t j = 0; i < kk; i++, j++) {
        b[(size_t)(j / group) * nr * group + j % group] = q[i];
        sum += q[i];
    }
    to->scale[column] = scale;
    to->start[column] = -(int32_t)(is_unsigned ? k->i8_zero_unsigned : k->i8_zero) * sum;
}

static void partial_panel(const cpl_kernels *k, cpl_tile_i8 t, uint32_t columns)
{
    cpl_edge edge;
    float *c = t.c;
    const size_t ldc = t.ldc, nr = k->i8_nr;
    if (t.epilogue == CPL_EPILOGUE_RESIDUAL) {
        t.residual = cpl_edge_residual(&edge, t.residual, t.ldr, t.m, nr, columns);
        t.ldr = nr;
    }
    t.c = edge.out;
    t.ldc = nr;
    k->tile_i8(&t);
    cpl_edge_store(&edge, c, ldc, t.m, nr, columns);
}

void cpl_gemm_i8_tiled(const cpl_kernels *k, const cpl_gemm_i8 *g)
{
    CPL_ASSERT(k->i8_mr <= CPL_EDGE_MR_MAX && k->i8_nr <= CPL_EDGE_NR_MAX && g->k <= CPL_I8_K_MAX);
    const uint32_t nr = k->i8_nr, tiles = (g->m + k->i8_mr - 1) / k->i8_mr;
    const size_t panel_size = panel_bytes(k, g->k);
    /* The tiles of a panel fetch the next one between them. */
    const uint32_t steps = (groups(k, g->k) + 3) / 4; /* of 4 groups */
    const uint32_t all = (uint32_t)((panel_size + 63) / 64);
    const uint32_t lines = tiles ? (all + tiles * steps - 1) / (tiles * steps) : 0;
    for (uint32_t p = g->panel_begin; p < g->panel_end; p++) {
        const uint32_t column = p * nr, columns = g->n - column < nr ? g->n - column : nr;
        const int8_t *panel = g->b.b + p * panel_size;
        const char *next = p + 1 < g->panel_end ? (const char *)panel + panel_size : g->after;
        uint32_t row = 0;
        for (uint32_t i = 0; i < tiles; i++) {
            const uint32_t rows = (g->m - row + tiles - i - 1) / (tiles - i);
            const cpl_tile_i8 t = {
                .a = (const char *)g->a + row * g->lda,
                .lda = g->lda,
                .b = panel,
                .row_scale = g->row_scale + row,
                .column_scale = g->b.scale + column,
                .start = g->b.start + column,
                .c = g->c + row * g->ldc + column,
                .ldc = g->ldc,
                .bias = g->bias ? g->bias + column : NULL,
                .residual = g->residual ? g->residual + row * g->ldr + column : NULL,
                .ldr = g->ldr,
                .prefetch = next,
                .lines = next && i * steps * lines < all ? lines : 0,
                .m = rows,
                .groups = groups(k, g->k),
                .epilogue = g->epilogue,
            };
            if (columns == nr)
                k->tile_i8(&t);
            else
                partial_panel(k, t, columns);
            if (t.lines) next += (size_t)steps * lines * 64;
            row += rows;
        }
    }
}
