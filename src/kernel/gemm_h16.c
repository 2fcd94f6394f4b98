/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_h16.c - C = epilogue(A B^T + bias) on panels of 16-bit weights, bf16 or fp16, by whatever register tile the
 * format's slot holds.
 *
 * The idea is gemm_f32.c's: panels outside, row tiles inside, the whole of K in registers, the next panel prefetched.
 * Half the bytes stream by; whether the tile widens them and multiplies fp32 or multiplies pairs as they are is the
 * slot's affair, which says so in its name.
 *
 * Invariant: one output element is one chain of operations over k in one accumulator, whatever tile it falls in. */

#include "base/error.h"
#include "kernel/half.h"
#include "kernel/edge.h"
#include "kernel/kernels.h"

static uint32_t groups(const cpl_h16 *h, uint32_t kk) { return (kk + h->group - 1) / h->group; }

uint32_t cpl_gemm_h16_panels(const cpl_h16 *h, uint32_t n) { return (n + h->nr - 1) / h->nr; }

static size_t panel_elements(const cpl_h16 *h, uint32_t kk) { return (size_t)groups(h, kk) * h->group * h->nr; }

size_t cpl_gemm_h16_packed_bytes(const cpl_h16 *h, uint32_t n, uint32_t kk)
{
    return cpl_gemm_h16_panels(h, n) * panel_elements(h, kk) * sizeof(uint16_t);
}

size_t cpl_h16_row_bytes(const cpl_h16 *h, uint32_t n)
{
    return h->round_rows ? (size_t)groups(h, n) * h->group * sizeof(uint16_t) : n * sizeof(float);
}

void cpl_gemm_h16_pack(const cpl_kernels *k, cpl_h16_format format, uint16_t *packed, uint32_t column, uint32_t kk,
                       const float *row)
{
    const cpl_h16 *h = &k->h16[format];
    const uint32_t group = h->group, nr = h->nr;
    uint16_t *to = packed + column / nr * panel_elements(h, kk) + (size_t)(column % nr) * group;
    for (uint32_t i = 0; i < kk; i++)
        to[(size_t)(i / group) * nr * group + i % group] =
            format == CPL_H16_BF16 ? cpl_bf16_round(row[i]) : cpl_fp16_round(row[i]);
}

static void partial_panel(const cpl_h16 *h, cpl_tile_h16 t, uint32_t columns)
{
    cpl_edge edge;
    float *c = t.c;
    const size_t ldc = t.ldc, nr = h->nr;
    if (t.epilogue == CPL_EPILOGUE_RESIDUAL) {
        t.residual = cpl_edge_residual(&edge, t.residual, t.ldr, t.m, nr, columns);
        t.ldr = nr;
    }
    t.c = edge.out;
    t.ldc = nr;
    h->tile(&t);
    cpl_edge_store(&edge, c, ldc, t.m, nr, columns);
}

void cpl_gemm_h16_run(const cpl_h16 *h, const cpl_gemm_h16 *g)
{
    CPL_ASSERT(h->mr <= CPL_EDGE_MR_MAX && h->nr <= CPL_EDGE_NR_MAX);
    const uint32_t nr = h->nr, tiles = (g->m + h->mr - 1) / h->mr;
    const size_t elements = panel_elements(h, g->k);
    const size_t hinted = (size_t)(groups(h, g->k) + 3) / 4 * 32; /* elements one tile's prefetch covers */
    for (uint32_t p = g->panel_begin; p < g->panel_end; p++) {
        const uint32_t column = p * nr, columns = g->n - column < nr ? g->n - column : nr;
        const uint16_t *panel = g->b + p * elements;
        const uint16_t *next = p + 1 < g->panel_end ? panel + elements : panel;
        uint32_t row = 0;
        for (uint32_t i = 0; i < tiles; i++) {
            const uint32_t rows = (g->m - row + tiles - i - 1) / (tiles - i);
            const size_t ahead = i * hinted + hinted <= elements ? i * hinted : 0;
            const cpl_tile_h16 t = {
                .a = (const char *)g->a + row * g->lda,
                .lda = g->lda,
                .b = panel,
                .c = g->c + row * g->ldc + column,
                .ldc = g->ldc,
                .bias = g->bias ? g->bias + column : NULL,
                .residual = g->residual ? g->residual + row * g->ldr + column : NULL,
                .ldr = g->ldr,
                .prefetch = next + ahead,
                .m = rows,
                .groups = groups(h, g->k),
                .epilogue = g->epilogue,
            };
            if (columns == nr)
                h->tile(&t);
            else
                partial_panel(h, t, columns);
            row += rows;
        }
    }
}
