/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_f32.c - fp32 products: ragged m, n, k, all epilogues, residual apart and in place; and the promise that a row
 * alone, panel by panel, has the bits it has in company. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "check.h"

typedef struct product {
    cpl_gemm_f32 g;
    const float *w, *residual; /* n x k as stored; the residual as it was */
    bool in_place;
} product;

static product make_product(check *c, uint32_t m, uint32_t n, uint32_t kk, cpl_epilogue e, check_kind kind)
{
    const cpl_kernels *k = c->k;
    product p = {.in_place = e == CPL_EPILOGUE_RESIDUAL && c->round % 2};
    const size_t lda = kk + check_between(c, 0, 9), ldc = n + check_between(c, 0, 9);
    const size_t panels = cpl_gemm_f32_panels(k, n), cells = check_span(m, n, ldc);
    float *a = check_take_floats(c, check_span(m, kk, lda), -1, 1);
    float *w = check_take_floats(c, (size_t)n * kk, -1, 1);
    float *packed = check_take(c, cpl_gemm_f32_packed_count(k, n, kk) * sizeof(float));
    float *bias = check_take(c, panels * k->nr * sizeof(float));
    float *residual = check_take_floats(c, cells, -3, 3), *out = check_take(c, cells * sizeof(float));
    for (uint32_t i = 0; i < m; i += 3) check_spoil(c, a + i * lda, kk, kind);
    for (uint32_t j = 0; j < n; j += 5) check_spoil(c, w + (size_t)j * kk, kk, kind < CHECK_OUTLIER ? kind : 0);
    for (uint32_t j = 0; j < n; j++) {
        cpl_gemm_f32_pack(k, packed, j, kk, w + (size_t)j * kk);
        bias[j] = check_uniform(c, -1, 1);
    }
    for (size_t i = 0; i < cells; i++) out[i] = p.in_place ? residual[i] : 777.0f;
    p.w = w;
    p.residual = residual;
    p.g = (cpl_gemm_f32){.a = a,
                         .lda = lda,
                         .b = packed,
                         .bias = e == CPL_EPILOGUE_NONE ? NULL : bias,
                         .c = out,
                         .ldc = ldc,
                         .residual = p.in_place ? out : residual,
                         .ldr = ldc,
                         .m = m,
                         .n = n,
                         .k = kk,
                         .panel_end = (uint32_t)panels,
                         .epilogue = e};
    return p;
}

static void check_product(check *c, const product *p)
{
    const cpl_gemm_f32 *g = &p->g;
    for (uint32_t i = 0; i < g->m; i++) {
        for (uint32_t j = 0; j < g->n; j++) {
            const double bias = g->bias ? g->bias[j] : 0;
            const double residual = g->epilogue == CPL_EPILOGUE_RESIDUAL ? p->residual[i * g->ldr + j] : 0;
            double sum = 0, size = fabs(bias) + fabs(residual);
            for (uint32_t q = 0; q < g->k; q++) {
                const double x = (double)g->a[i * g->lda + q] * p->w[(size_t)j * g->k + q];
                sum += x;
                size += fabs(x);
            }
            const double want = check_epilogue(g->epilogue, sum, bias, residual);
            double bound = 1.13 * (g->k + 4.0) * (0x1p-24 * size + 0x1p-149) + check_epilogue_bound(g->epilogue, want);
            if (isfinite(sum) && size > FLT_MAX) bound = INFINITY;
            CHECK_NEAR(c, g->c[i * g->ldc + j], want, bound, "%ux%ux%u epilogue %d at %u,%u", g->m, g->n, g->k,
                       (int)g->epilogue, i, j);
        }
        for (size_t j = g->n; !p->in_place && i + 1 < g->m && j < g->ldc; j++)
            CHECK_THAT(c, g->c[i * g->ldc + j] == 777.0f, "wrote beyond column %u", g->n);
    }
}

static void check_row_bits(check *c, const product *p)
{
    const uint32_t row = check_between(c, 0, p->g.m - 1);
    cpl_gemm_f32 one = p->g;
    one.a += row * one.lda;
    one.residual = p->residual + row * one.ldr;
    one.c = check_take(c, p->g.n * sizeof(float));
    one.m = 1;
    for (uint32_t panel = p->g.panel_end; panel-- > 0;) {
        one.panel_begin = panel;
        one.panel_end = panel + 1;
        c->k->gemm_f32(c->k, &one);
    }
    CHECK_THAT(c, !memcmp(one.c, p->g.c + row * p->g.ldc, p->g.n * sizeof(float)), "row %u of %u differs alone", row,
               p->g.m);
}

/* An infinity through an activation is left out: gelu(-inf) may be 0 or NaN. */
static void check_round(check *c, uint32_t round)
{
    const cpl_epilogue e = (cpl_epilogue)(round % 7);
    const check_kind kind = round % 3 ? CHECK_ORDINARY : (check_kind)(round / 3 % CHECK_KINDS);
    const bool curved = e >= CPL_EPILOGUE_GELU && e <= CPL_EPILOGUE_TANH;
    const uint32_t m = check_between(c, 1, 40), n = check_between(c, 1, 100);
    const uint32_t kk = check_between(c, 1, round % 5 ? 80 : 400);
    product p = make_product(c, m, n, kk, curved && kind == CHECK_INFINITY ? CPL_EPILOGUE_BIAS : e, kind);
    c->k->gemm_f32(c->k, &p.g);
    check_product(c, &p);
    check_row_bits(c, &p);
}

/* ---- wrong on purpose -------------------------------------------------------------------------------------------- */

static cpl_kernels right;

static void short_sum(const cpl_tile_f32 *t)
{
    cpl_tile_f32 wrong = *t;
    if (wrong.k > 1) wrong.k--;
    right.tile_f32(&wrong);
}
static void install_short_sum(cpl_kernels *k)
{
    right = *k;
    k->tile_f32 = short_sum;
}

static void company(const cpl_tile_f32 *t)
{
    right.tile_f32(t);
    if (t->m > 1) t->c[0] = nextafterf(t->c[0], 2); /* well within the bound, but not for a row alone */
}
static void install_company(cpl_kernels *k)
{
    right = *k;
    k->tile_f32 = company;
}

static void beyond_c(const cpl_kernels *k, const cpl_gemm_f32 *g)
{
    right.gemm_f32(k, g);
    if (g->panel_end * k->nr >= g->n) g->c[check_span(g->m, g->n, g->ldc)] = 0;
}
static void install_beyond_c(cpl_kernels *k)
{
    right = *k;
    k->gemm_f32 = beyond_c;
}

static void beyond_a(const cpl_kernels *k, const cpl_gemm_f32 *g)
{
    right.gemm_f32(k, g);
    (void)*(const volatile float *)&g->a[check_span(g->m, g->k, g->lda)];
}
static void install_beyond_a(cpl_kernels *k)
{
    right = *k;
    k->gemm_f32 = beyond_a;
}

static void before_a(const cpl_kernels *k, const cpl_gemm_f32 *g)
{
    right.gemm_f32(k, g);
    (void)*(const volatile float *)(g->a - 1);
}
static void install_before_a(cpl_kernels *k)
{
    right = *k;
    k->gemm_f32 = before_a;
}

static void between_rows(const cpl_kernels *k, const cpl_gemm_f32 *g)
{
    right.gemm_f32(k, g);
    if (g->m > 1 && g->ldc > g->n) g->c[g->n] = 0;
}
static void install_between_rows(cpl_kernels *k)
{
    right = *k;
    k->gemm_f32 = between_rows;
}

static const check_wrong wrong[] = {
    {"the last product of each sum left out", install_short_sum},
    {"a row's bits depend on its company", install_company},
    {"one float written behind the last row", install_beyond_c},
    {"one float written between rows", install_between_rows},
    {"one float read behind a", install_beyond_a},
    {"one float read before a", install_before_a},
    {0},
};

const check_case check_gemm_f32 = {
    .name = "gemm_f32",
    .bound = "1.13 (k + 4) 2^-24 (sum |ab| + |bias| + |residual|) + the activation's own bound",
    .rounds = 210,
    .round = check_round,
    .wrong = wrong,
};
