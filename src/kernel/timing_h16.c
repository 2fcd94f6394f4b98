/* SPDX-License-Identifier: Apache-2.0 */
/* timing_h16.c - products with 16-bit weights, and rows rounded to bf16, on the shapes of a 384-wide model. */
#include "kernel/peak.h"
#include "kernel/timing.h"

static const char *bf16_isa(const cpl_kernels *k) { return k->h16[CPL_H16_BF16].isa; }
static const char *fp16_isa(const cpl_kernels *k) { return k->h16[CPL_H16_FP16].isa; }
static bool rounds_rows(const cpl_kernels *k) { return k->h16[CPL_H16_BF16].round_rows != NULL; }

/* ---- products: a x b by c ---------------------------------------------------------------------------------------- */

static void *gemm_open(cpl_arena *arena, const cpl_kernels *k, const cpl_timing_size *s, cpl_h16_format format)
{
    const cpl_h16 *h = &k->h16[format];
    const size_t lda = cpl_row_stride((cpl_h16_row_bytes(h, s->c) + 3) / 4), ldc = cpl_row_stride(s->b);
    cpl_gemm_h16 *g = CPL_ARENA_NEW(arena, cpl_gemm_h16, 1);
    const float *x = cpl_timing_floats(arena, (size_t)s->a * s->c), *w = cpl_timing_floats(arena, s->c);
    const float *bias = cpl_timing_floats(arena, (size_t)cpl_gemm_h16_panels(h, s->b) * h->nr);
    const float *residual = cpl_timing_floats(arena, s->a * ldc);
    float *a = cpl_timing_floats(arena, s->a * lda), *c = cpl_timing_floats(arena, s->a * ldc);
    uint16_t *b = cpl_arena_take_zeroed(arena, cpl_gemm_h16_packed_bytes(h, s->b, s->c), 1);
    if (!g || !x || !w || !bias || !residual || !a || !c || !b) return NULL;
    for (uint32_t j = 0; j < s->b; j++) cpl_gemm_h16_pack(k, format, b, j, s->c, w);
    if (h->round_rows) h->round_rows(a, lda * sizeof(float), x, s->a, s->c, s->c);
    *g = (cpl_gemm_h16){.a = a,
                        .lda = lda * sizeof(float),
                        .b = b,
                        .bias = bias,
                        .c = c,
                        .ldc = ldc,
                        .residual = residual,
                        .ldr = ldc,
                        .m = s->a,
                        .n = s->b,
                        .k = s->c,
                        .panel_end = cpl_gemm_h16_panels(h, s->b),
                        .epilogue = s->epilogue};
    return g;
}

static void *open_bf16(cpl_arena *arena, const cpl_kernels *k, const cpl_timing_size *s)
{
    return gemm_open(arena, k, s, CPL_H16_BF16);
}
static void *open_fp16(cpl_arena *arena, const cpl_kernels *k, const cpl_timing_size *s)
{
    return gemm_open(arena, k, s, CPL_H16_FP16);
}
static void run_bf16(const cpl_kernels *k, void *state) { cpl_gemm_h16_run(&k->h16[CPL_H16_BF16], state); }
static void run_fp16(const cpl_kernels *k, void *state) { cpl_gemm_h16_run(&k->h16[CPL_H16_FP16], state); }

static const cpl_timing_kind bf16 = {
    .kernel = "gemm_bf16",
    .isa = bf16_isa,
    .peak = cpl_peak_bf16,
    .peak_name = cpl_peak_bf16_name,
    .ops = cpl_timing_gemm_ops,
    .elements = cpl_timing_cells,
    .open = open_bf16,
    .run = run_bf16,
};

static const cpl_timing_kind fp16 = {
    .kernel = "gemm_fp16",
    .isa = fp16_isa,
    .peak = cpl_peak_fp32,
    .peak_name = cpl_isa_name,
    .ops = cpl_timing_gemm_ops,
    .elements = cpl_timing_cells,
    .open = open_fp16,
    .run = run_fp16,
};

/* ---- rounded rows: a of b ---------------------------------------------------------------------------------------- */

typedef struct round_state {
    void *q;
    const float *x;
    size_t ldq, ld;
    uint32_t rows, n;
} round_state;

static void *round_open(cpl_arena *arena, const cpl_kernels *k, const cpl_timing_size *s)
{
    round_state *r = CPL_ARENA_NEW(arena, round_state, 1);
    if (!r) return NULL;
    *r = (round_state){.rows = s->a, .n = s->b, .ld = cpl_row_stride(s->b)};
    r->ldq = cpl_row_stride((cpl_h16_row_bytes(&k->h16[CPL_H16_BF16], s->b) + 3) / 4) * 4;
    r->q = cpl_arena_take(arena, r->rows * r->ldq, 4096);
    r->x = cpl_timing_floats(arena, r->rows * r->ld);
    return r->q && r->x ? r : NULL;
}

static void round_run(const cpl_kernels *k, void *state)
{
    const round_state *r = state;
    k->h16[CPL_H16_BF16].round_rows(r->q, r->ldq, r->x, r->rows, r->n, r->ld);
}

static const cpl_timing_kind rounding = {
    .kernel = "round_bf16",
    .present = rounds_rows,
    .isa = bf16_isa,
    .elements = cpl_timing_cells,
    .open = round_open,
    .run = round_run,
};

/* ---- attention: a keys, head size b ------------------------------------------------------------------------------ */

static bool has_attention(const cpl_kernels *k) { return k->attention_bf16 != NULL; }
static void attention_run(const cpl_kernels *k, void *state) { k->attention_bf16(k, state); }

static void *attention_open(cpl_arena *arena, const cpl_kernels *k, const cpl_timing_size *s)
{
    return cpl_timing_attention(arena, s, cpl_attention_bf16_scratch(k, s->a, s->b));
}

static const cpl_timing_kind attention = {
    .kernel = "attention_bf16",
    .present = has_attention,
    .isa = bf16_isa,
    .peak = cpl_peak_bf16,
    .peak_name = cpl_peak_bf16_name,
    .ops = cpl_timing_attention_ops,
    .elements = cpl_timing_cells,
    .open = attention_open,
    .run = attention_run,
};

const cpl_timing_row cpl_timing_rows_h16[] = {
    {&bf16, "84x384x384", {84, 384, 384, CPL_EPILOGUE_BIAS}},
    {&bf16, "84x1536x384 gelu", {84, 1536, 384, CPL_EPILOGUE_GELU}},
    {&bf16, "84x384x1536 residual", {84, 384, 1536, CPL_EPILOGUE_RESIDUAL}},
    {&bf16, "1x384x384", {1, 384, 384, CPL_EPILOGUE_BIAS}},
    {&fp16, "84x384x384", {84, 384, 384, CPL_EPILOGUE_BIAS}},
    {&fp16, "84x1536x384 gelu", {84, 1536, 384, CPL_EPILOGUE_GELU}},
    {&fp16, "84x384x1536 residual", {84, 384, 1536, CPL_EPILOGUE_RESIDUAL}},
    {&fp16, "1x384x384", {1, 384, 384, CPL_EPILOGUE_BIAS}},
    {&attention, "32 keys, head size 32", {32, 32, 0, 0}},
    {&attention, "128 keys, head size 32", {128, 32, 0, 0}},
    {&attention, "512 keys, head size 32", {512, 32, 0, 0}},
    {&attention, "128 keys, head size 64", {128, 64, 0, 0}},
    {&rounding, "84 x 384", {84, 384, 0, 0}},
    {0},
};
