/* SPDX-License-Identifier: Apache-2.0 */
/* timing_f32.c - fp32 kernels on the shapes of a 384-wide model, rows as far apart as the engine puts them. */
#include <string.h>

#include "kernel/peak.h"
#include "kernel/timing.h"

static const char *fma_name(cpl_isa isa) { return isa == CPL_ISA_REF ? "plain C" : "fma"; }

/* ---- products: a x b by c ---------------------------------------------------------------------------------------- */

static void *gemm_open(cpl_arena *arena, const cpl_kernels *k, const cpl_timing_size *s)
{
    const size_t lda = cpl_row_stride(s->c), ldc = cpl_row_stride(s->b), panels = cpl_gemm_f32_panels(k, s->b);
    cpl_gemm_f32 *g = CPL_ARENA_NEW(arena, cpl_gemm_f32, 1);
    const float *a = cpl_timing_floats(arena, s->a * lda), *bias = cpl_timing_floats(arena, panels * k->nr);
    const float *b = cpl_timing_floats(arena, cpl_gemm_f32_packed_count(k, s->b, s->c));
    const float *residual = cpl_timing_floats(arena, s->a * ldc);
    float *c = cpl_timing_floats(arena, s->a * ldc);
    if (!g || !a || !bias || !b || !residual || !c) return NULL;
    *g = (cpl_gemm_f32){.a = a,
                        .lda = lda,
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

static void gemm_run(const cpl_kernels *k, void *state) { k->gemm_f32(k, state); }

static const cpl_timing_kind gemm = {
    .kernel = "gemm_f32",
    .peak = cpl_peak_fp32,
    .peak_name = fma_name,
    .ops = cpl_timing_gemm_ops,
    .elements = cpl_timing_cells,
    .open = gemm_open,
    .run = gemm_run,
};

/* ---- attention: a keys, head size b ------------------------------------------------------------------------------ */

double cpl_timing_attention_ops(const cpl_timing_size *s) { return 4.0 * s->a * s->a * s->b; }

void *cpl_timing_attention(cpl_arena *arena, const cpl_timing_size *s, size_t scratch_floats)
{
    enum { STRIDE = 400 };
    cpl_attention_f32 *a = CPL_ARENA_NEW(arena, cpl_attention_f32, 1);
    float *x = cpl_timing_floats(arena, (size_t)s->a * STRIDE), *out = cpl_timing_floats(arena, (size_t)s->a * STRIDE);
    float *scratch = cpl_timing_floats(arena, scratch_floats);
    if (!a || !x || !out || !scratch) return NULL;
    *a = (cpl_attention_f32){.q = x,
                             .k = x + 64,
                             .v = x + 128,
                             .out = out,
                             .q_stride = STRIDE,
                             .kv_stride = STRIDE,
                             .out_stride = STRIDE,
                             .queries = s->a,
                             .keys = s->a,
                             .head_size = s->b,
                             .scale = 0.2f,
                             .scratch = scratch};
    return a;
}

static void *attention_open(cpl_arena *arena, const cpl_kernels *k, const cpl_timing_size *s)
{
    return cpl_timing_attention(arena, s, cpl_attention_f32_scratch(k, s->a, s->b));
}

static void attention_run(const cpl_kernels *k, void *state) { k->attention_f32(k, state); }

static const cpl_timing_kind attention = {
    .kernel = "attention_f32",
    .peak = cpl_peak_fp32,
    .peak_name = fma_name,
    .ops = cpl_timing_attention_ops,
    .elements = cpl_timing_cells,
    .open = attention_open,
    .run = attention_run,
};

/* ---- rows: a of b ------------------------------------------------------------------------------------------------ */

typedef struct rows {
    float *x, *kept;
    float *gamma;
    uint32_t n, length;
    size_t ld;
} rows;

static void *rows_open(cpl_arena *arena, const cpl_kernels *k, const cpl_timing_size *s)
{
    (void)k;
    rows *r = CPL_ARENA_NEW(arena, rows, 1);
    if (!r) return NULL;
    *r = (rows){.n = s->a, .length = s->b, .ld = cpl_row_stride(s->b)};
    r->x = cpl_timing_floats(arena, r->n * r->ld);
    r->kept = cpl_timing_floats(arena, r->n * r->ld);
    r->gamma = cpl_timing_floats(arena, r->ld);
    return r->x && r->kept && r->gamma ? r : NULL;
}

/* GELU of GELU of ... ends in denormals, so it gets a copy; that takes a tenth of its time. */
static float *fresh(const rows *r) { return memcpy(r->x, r->kept, r->length * sizeof(float)); }

#define ROWS(name, call)                                                                                               \
    static void run_##name(const cpl_kernels *k, void *state)                                                          \
    {                                                                                                                  \
        const rows *r = state;                                                                                         \
        call;                                                                                                          \
    }                                                                                                                  \
    static const cpl_timing_kind kind_of_##name = {                                                                    \
        .kernel = #name "_f32", .elements = cpl_timing_cells, .open = rows_open, .run = run_##name};

ROWS(layernorm, k->layernorm_f32(r->x, r->n, r->length, r->ld, r->gamma, r->gamma, 1e-12f))
ROWS(softmax, k->softmax_f32(r->x, r->n, r->length, r->ld, 0.2f))
ROWS(gelu, k->gelu_f32(fresh(r), r->length))
ROWS(gelu_tanh, k->gelu_tanh_f32(fresh(r), r->length))
ROWS(relu, k->relu_f32(r->x, r->length))
ROWS(tanh, k->tanh_f32(r->x, r->length))
ROWS(transpose, k->transpose_f32(r->kept, cpl_row_stride(r->n), r->x, r->ld, r->n, r->length))
ROWS(add3, k->add3_f32(r->kept, r->x, r->gamma, r->gamma, r->length))
ROWS(pool_mean, k->pool_mean_f32(r->kept, r->x, r->n, r->length, r->ld))
ROWS(pool_max, k->pool_max_f32(r->kept, r->x, r->n, r->length, r->ld))

const cpl_timing_row cpl_timing_rows_f32[] = {
    {&gemm, "60x384x384", {60, 384, 384, CPL_EPILOGUE_BIAS}},
    {&gemm, "96x384x384 residual", {96, 384, 384, CPL_EPILOGUE_RESIDUAL}},
    {&gemm, "96x1536x384", {96, 1536, 384, CPL_EPILOGUE_BIAS}},
    {&gemm, "96x1536x384 gelu", {96, 1536, 384, CPL_EPILOGUE_GELU}},
    {&gemm, "96x384x1536 residual", {96, 384, 1536, CPL_EPILOGUE_RESIDUAL}},
    {&gemm, "17x1536x384 gelu", {17, 1536, 384, CPL_EPILOGUE_GELU}},
    {&gemm, "1x384x384", {1, 384, 384, CPL_EPILOGUE_BIAS}},
    {&attention, "32 keys, head size 32", {32, 32, 0, 0}},
    {&attention, "128 keys, head size 32", {128, 32, 0, 0}},
    {&attention, "512 keys, head size 32", {512, 32, 0, 0}},
    {&attention, "128 keys, head size 64", {128, 64, 0, 0}},
    {&kind_of_layernorm, "96 x 384", {96, 384, 0, 0}},
    {&kind_of_softmax, "12 x 128", {12, 128, 0, 0}},
    {&kind_of_gelu, "4096", {1, 4096, 0, 0}},
    {&kind_of_gelu_tanh, "4096", {1, 4096, 0, 0}},
    {&kind_of_relu, "4096", {1, 4096, 0, 0}},
    {&kind_of_tanh, "4096", {1, 4096, 0, 0}},
    {&kind_of_transpose, "32 x 32", {32, 32, 0, 0}},
    {&kind_of_add3, "384", {1, 384, 0, 0}},
    {&kind_of_pool_mean, "96 x 384", {96, 384, 0, 0}},
    {&kind_of_pool_max, "96 x 384", {96, 384, 0, 0}},
    {0},
};
