/* SPDX-License-Identifier: Apache-2.0 */
/* timing_i8.c - int8 products and quantised rows on the shapes of a 384-wide model. */
#include "kernel/peak.h"
#include "kernel/timing.h"

static const char *isa_of(const cpl_kernels *k) { return k->i8_isa; }

/* ---- products: a x b by c ---------------------------------------------------------------------------------------- */

static void *gemm_open(cpl_arena *arena, const cpl_kernels *k, const cpl_timing_size *s)
{
    const size_t ldq = cpl_row_stride((cpl_i8_row_bytes(k, s->c) + 3) / 4) * 4, ldc = cpl_row_stride(s->b);
    const size_t panels = cpl_gemm_i8_panels(k, s->b), padded = panels * k->i8_nr;
    cpl_gemm_i8 *g = CPL_ARENA_NEW(arena, cpl_gemm_i8, 1);
    const float *x = cpl_timing_floats(arena, (size_t)s->a * s->c), *w = cpl_timing_floats(arena, s->c);
    const float *bias = cpl_timing_floats(arena, padded), *residual = cpl_timing_floats(arena, s->a * ldc);
    float *row_scale = cpl_timing_floats(arena, s->a), *c = cpl_timing_floats(arena, s->a * ldc);
    void *q = cpl_arena_take(arena, s->a * ldq, 4096);
    const cpl_packed_i8 b = {cpl_arena_take_zeroed(arena, cpl_gemm_i8_packed_bytes(k, s->b, s->c), 1),
                             cpl_arena_take_zeroed(arena, padded, sizeof(float)),
                             cpl_arena_take_zeroed(arena, padded, sizeof(int32_t))};
    int8_t *column = cpl_arena_take(arena, s->c, 1);
    float scale;
    if (!g || !x || !w || !bias || !residual || !row_scale || !c || !q || !b.b || !b.scale || !b.start || !column)
        return NULL;
    k->weights_i8(column, &scale, w, s->c);
    for (uint32_t j = 0; j < s->b; j++) cpl_gemm_i8_place(k, &b, j, s->c, column, scale, 0);
    k->quantise_i8(&(cpl_rows_i8){.q = q, .ldq = ldq, .scale = row_scale}, x, s->a, s->c, s->c);
    *g = (cpl_gemm_i8){.a = q,
                       .lda = ldq,
                       .row_scale = row_scale,
                       .b = b,
                       .bias = bias,
                       .c = c,
                       .ldc = ldc,
                       .residual = residual,
                       .ldr = ldc,
                       .m = s->a,
                       .n = s->b,
                       .k = s->c,
                       .panel_end = (uint32_t)panels,
                       .epilogue = s->epilogue};
    return g;
}

static void gemm_run(const cpl_kernels *k, void *state) { k->gemm_i8(k, state); }

static const cpl_timing_kind gemm = {
    .kernel = "gemm_i8",
    .isa = isa_of,
    .peak = cpl_peak_int8,
    .peak_name = cpl_peak_int8_name,
    .ops = cpl_timing_gemm_ops,
    .elements = cpl_timing_cells,
    .open = gemm_open,
    .run = gemm_run,
};

/* ---- quantised rows: a of b -------------------------------------------------------------------------------------- */

typedef struct quantise_state {
    cpl_rows_i8 to;
    const float *x;
    size_t ld;
    uint32_t rows, n;
} quantise_state;

static void *quantise_open(cpl_arena *arena, const cpl_kernels *k, const cpl_timing_size *s)
{
    quantise_state *q = CPL_ARENA_NEW(arena, quantise_state, 1);
    if (!q) return NULL;
    float *scale = cpl_timing_floats(arena, s->a), *mul = cpl_timing_floats(arena, s->b);
    *q = (quantise_state){.rows = s->a, .n = s->b, .ld = cpl_row_stride(s->b)};
    q->to = (cpl_rows_i8){.ldq = cpl_row_stride((cpl_i8_row_bytes(k, s->b) + 3) / 4) * 4, .scale = scale};
    q->to.q = cpl_arena_take(arena, q->rows * q->to.ldq, 4096);
    q->x = cpl_timing_floats(arena, q->rows * q->ld);
    if (s->c) q->to.mul = q->to.add = mul;
    return q->to.q && scale && mul && q->x ? q : NULL;
}

static void quantise_run(const cpl_kernels *k, void *state)
{
    const quantise_state *q = state;
    k->quantise_i8(&q->to, q->x, q->rows, q->n, q->ld);
}

static const cpl_timing_kind quantise = {
    .kernel = "quantise_i8",
    .isa = isa_of,
    .elements = cpl_timing_cells,
    .open = quantise_open,
    .run = quantise_run,
};

const cpl_timing_row cpl_timing_rows_i8[] = {
    {&gemm, "84x384x384", {84, 384, 384, CPL_EPILOGUE_BIAS}},
    {&gemm, "84x1536x384", {84, 1536, 384, CPL_EPILOGUE_BIAS}},
    {&gemm, "84x1536x384 gelu", {84, 1536, 384, CPL_EPILOGUE_GELU}},
    {&gemm, "84x384x1536 residual", {84, 384, 1536, CPL_EPILOGUE_RESIDUAL}},
    {&gemm, "1x384x384", {1, 384, 384, CPL_EPILOGUE_BIAS}},
    {&quantise, "84 x 384", {84, 384, 0, 0}},
    {&quantise, "84 x 384 folded", {84, 384, 1, 0}},
    {&quantise, "84 x 1536", {84, 1536, 0, 0}},
    {0},
};
