/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_f32.c - C = epilogue(A B^T + bias) over packed panels, by whatever register tile the table holds.
 *
 * The idea: panels outside, row tiles inside, the whole of K in registers. A panel (nr columns, 48 KB at K = 384) comes
 * from L3 once and then serves every row tile of the block from L2 at about 5 bytes a cycle, which the tile's loads
 * hide; while a panel is worked on, the next one is prefetched into L2, a share in each tile. Rows are dealt evenly to
 * tiles (26 rows = 9 + 9 + 8, not 12 + 12 + 2), because a short tile uses the FMA units badly.
 *
 * Invariant: one output element is one chain of FMAs over k = 0, 1, 2, ... in one accumulator, whatever tile it falls
 * in; so results don't depend on m or on how panels are split over threads. That rules out split-K.
 *
 * Partial panels go through a stack tile, so the ISA kernels know only full ones. Rejected: packing A (activations are
 * read straight from their rows; a copy costs more than the strided broadcasts), K blocking (C would travel to memory
 * and back for nothing: A tile and B panel stream well from L2). */
#include "kernel/edge.h"
#include "kernel/kernels.h"

#include "base/error.h"

uint32_t cpl_gemm_f32_panels(const cpl_kernels *k, uint32_t n) { return (n + k->nr - 1) / k->nr; }

size_t cpl_gemm_f32_packed_count(const cpl_kernels *k, uint32_t n, uint32_t kk)
{
    return (size_t)cpl_gemm_f32_panels(k, n) * k->nr * kk;
}

void cpl_gemm_f32_pack(const cpl_kernels *k, float *packed, uint32_t column, uint32_t kk, const float *row)
{
    float *to = packed + (size_t)(column / k->nr) * k->nr * kk + column % k->nr;
    for (uint32_t i = 0; i < kk; i++) to[(size_t)i * k->nr] = row[i];
}

static void partial_panel(const cpl_kernels *k, cpl_tile_f32 t, uint32_t columns)
{
    cpl_edge edge;
    float *c = t.c;
    const size_t ldc = t.ldc, nr = k->nr;
    if (t.epilogue == CPL_EPILOGUE_RESIDUAL) {
        t.residual = cpl_edge_residual(&edge, t.residual, t.ldr, t.m, nr, columns);
        t.ldr = nr;
    }
    t.c = edge.out;
    t.ldc = nr;
    k->tile_f32(&t);
    cpl_edge_store(&edge, c, ldc, t.m, nr, columns);
}

void cpl_gemm_f32_tiled(const cpl_kernels *k, const cpl_gemm_f32 *g)
{
    CPL_ASSERT(k->mr <= CPL_EDGE_MR_MAX && k->nr <= CPL_EDGE_NR_MAX);
    const uint32_t nr = k->nr, tiles = (g->m + k->mr - 1) / k->mr;
    const size_t panel_floats = (size_t)nr * g->k;
    const size_t hinted = (size_t)(g->k + 3) / 4 * 16; /* floats one tile's prefetch covers */
    for (uint32_t p = g->panel_begin; p < g->panel_end; p++) {
        const uint32_t column = p * nr, columns = g->n - column < nr ? g->n - column : nr;
        const float *panel = g->b + p * panel_floats;
        const float *next = p + 1 < g->panel_end ? panel + panel_floats : panel;
        uint32_t row = 0;
        for (uint32_t i = 0; i < tiles; i++) {
            const uint32_t rows = (g->m - row + tiles - i - 1) / (tiles - i);
            const size_t ahead = i * hinted + hinted <= panel_floats ? i * hinted : 0;
            const cpl_tile_f32 t = {
                .a = g->a + row * g->lda,
                .lda = g->lda,
                .b = panel,
                .ldb = nr,
                .c = g->c + row * g->ldc + column,
                .ldc = g->ldc,
                .bias = g->bias ? g->bias + column : NULL,
                .residual = g->residual ? g->residual + row * g->ldr + column : NULL,
                .ldr = g->ldr,
                .prefetch = next + ahead,
                .m = rows,
                .k = g->k,
                .epilogue = g->epilogue,
            };
            if (columns == nr)
                k->tile_f32(&t);
            else
                partial_panel(k, t, columns);
            row += rows;
        }
    }
}
