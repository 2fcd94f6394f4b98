/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_h16.c - products with 16-bit weights, and rows rounded to bf16. Weights must be the nearest of their format,
 * ties to even; rows likewise where the rung rounds them; the products of those, summed in double, bound the error of
 * any order of summing. And a row's bits alone and in company. */
#include <math.h>
#include <string.h>

#include "check.h"

static const char *bf16_isa(const cpl_kernels *k) { return k->h16[CPL_H16_BF16].isa; }
static const char *fp16_isa(const cpl_kernels *k) { return k->h16[CPL_H16_FP16].isa; }
static bool rounds_rows(const cpl_kernels *k) { return k->h16[CPL_H16_BF16].round_rows != NULL; }

static cpl_kernels right; /* what a wrong kernel calls first */

/* ---- the formats, by their definition ---------------------------------------------------------------------------- */

typedef struct definition {
    int fraction, lowest; /* bits behind the point; exponent of the smallest normal */
    double most;          /* from here on: infinity */
} definition;

static const definition formats[CPL_H16_FORMATS] = {
    [CPL_H16_BF16] = {7, -126, 0x1.ffp127},
    [CPL_H16_FP16] = {10, -14, 65520},
};

static double nearest(const definition *f, double x)
{
    int e;
    if (!isfinite(x) || x == 0) return x;
    if (fabs(x) >= f->most) return copysign(INFINITY, x);
    frexp(x, &e);
    const int unit = (e - 1 < f->lowest ? f->lowest : e - 1) - f->fraction;
    return ldexp(nearbyint(ldexp(x, -unit)), unit);
}

/* As the dot product's instruction takes its factors. */
static double factor(double x) { return fabs(x) < 0x1p-126 ? 0 : x; }

/* ---- rounded rows ------------------------------------------------------------------------------------------------ */

static void round_round(check *c, uint32_t round)
{
    const cpl_h16 *h = &c->k->h16[CPL_H16_BF16];
    const uint32_t rows = check_between(c, 1, 4), n = check_between(c, 1, round % 4 ? 140 : 1600);
    const size_t bytes = cpl_h16_row_bytes(h, n), ldq = bytes + 2 * check_between(c, 0, 9),
                 ld = n + check_between(c, 0, 5);
    float *x = check_take_floats(c, check_span(rows, n, ld), -2, 2);
    char *q = check_take(c, check_span(rows, bytes, ldq));
    for (uint32_t r = 0; r < rows; r++) check_spoil(c, x + r * ld, n, (check_kind)(round % CHECK_KINDS));
    if (round % 3 == 0) /* ties */
        for (uint32_t i = 0; i < n; i++) x[i] = 1 + (float)check_between(c, 0, 511) * 0x1p-8f;
    h->round_rows(q, ldq, x, rows, n, ld);
    for (uint32_t r = 0; r < rows; r++) {
        for (size_t i = 0; i < bytes / 2; i++) {
            uint32_t bits = 0;
            float got;
            memcpy((char *)&bits + 2, q + r * ldq + 2 * i, 2);
            memcpy(&got, &bits, sizeof got);
            const double want = i < n ? nearest(&formats[CPL_H16_BF16], factor(x[r * ld + i])) : 0;
            CHECK_NEAR(c, got, want, 0, "n %u at %u,%zu", n, r, i);
        }
        for (size_t i = bytes; r + 1 < rows && i < ldq; i++)
            CHECK_THAT(c, q[r * ldq + i] == 0, "wrote between rows, n %u", n);
    }
}

static void cut(void *q, size_t ldq, const float *x, size_t rows, size_t n, size_t ld)
{
    right.h16[CPL_H16_BF16].round_rows(q, ldq, x, rows, n, ld);
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < n; i++) memcpy((char *)q + r * ldq + 2 * i, (const char *)&x[r * ld + i] + 2, 2);
}
static void install_cut(cpl_kernels *k)
{
    right = *k;
    k->h16[CPL_H16_BF16].round_rows = cut;
}

const check_case check_round_bf16 = {
    .name = "round_bf16",
    .bound = "0: exact",
    .rounds = 120,
    .round = round_round,
    .wrong = (const check_wrong[]){{"values cut instead of rounded", install_cut}, {0}},
    .present = rounds_rows,
    .isa = bf16_isa,
};

/* ---- products ---------------------------------------------------------------------------------------------------- */

typedef struct product {
    cpl_h16_format format;
    cpl_gemm_h16 g;
    const float *x, *w, *residual; /* m x k, n x k as stored, the residual as it was */
    size_t ldx;
    bool in_place;
} product;

static product make_product(check *c, cpl_h16_format format, uint32_t round)
{
    const cpl_h16 *h = &c->k->h16[format];
    const cpl_epilogue e = (cpl_epilogue)(round % 7);
    const uint32_t m = check_between(c, 1, 40), n = check_between(c, 1, 100),
                   k = check_between(c, 1, round % 5 ? 90 : 400);
    const check_kind kind = round % 2 ? CHECK_ORDINARY : (check_kind)(round / 2 % CHECK_KINDS);
    const size_t ldx = k + check_between(c, 0, 5), row = cpl_h16_row_bytes(h, k),
                 ldq = row + 4 * check_between(c, 0, 9), ldc = n + check_between(c, 0, 9);
    const size_t cells = check_span(m, n, ldc), padded = (size_t)cpl_gemm_h16_panels(h, n) * h->nr;
    product p = {.format = format, .ldx = ldx, .in_place = e == CPL_EPILOGUE_RESIDUAL && round % 2};
    float *x = check_take_floats(c, check_span(m, k, ldx), -1, 1), *w = check_take_floats(c, (size_t)n * k, -1, 1);
    for (uint32_t i = 0; i < m; i += 3) check_spoil(c, x + i * ldx, k, kind);
    for (uint32_t j = 0; j < n; j += 3)
        check_spoil(c, w + (size_t)j * k, k, kind <= CHECK_TINY ? kind : CHECK_ORDINARY);
    const void *a = x;
    if (h->round_rows) {
        void *q = check_take(c, check_span(m, row, ldq));
        h->round_rows(q, ldq, x, m, k, ldx);
        a = q;
    }
    uint16_t *b = check_take(c, cpl_gemm_h16_packed_bytes(h, n, k));
    float *bias = check_take(c, padded * sizeof *bias), *out = check_take(c, cells * sizeof *out);
    for (uint32_t j = 0; j < n; j++) {
        cpl_gemm_h16_pack(c->k, format, b, j, k, w + (size_t)j * k);
        bias[j] = check_uniform(c, -1, 1);
    }
    float *residual = check_take_floats(c, cells, -3, 3);
    for (size_t i = 0; i < cells; i++) out[i] = p.in_place ? residual[i] : 777.0f;
    p.x = x;
    p.w = w;
    p.residual = residual;
    p.g = (cpl_gemm_h16){.a = a,
                         .lda = h->round_rows ? ldq : ldx * sizeof(float),
                         .b = b,
                         .bias = e == CPL_EPILOGUE_NONE ? NULL : bias,
                         .c = out,
                         .ldc = ldc,
                         .residual = p.in_place ? out : residual,
                         .ldr = ldc,
                         .m = m,
                         .n = n,
                         .k = k,
                         .panel_end = cpl_gemm_h16_panels(h, n),
                         .epilogue = e};
    return p;
}

/* k + 4 roundings of at most the sum of magnitudes each (twice k where pairs are added), through functions of slope at
 * most 1.13; what is flushed to 0 on the way is below 2^-126 each time. */
static void check_product(check *c, const product *p)
{
    const cpl_gemm_h16 *g = &p->g;
    const bool pairs = c->k->h16[p->format].round_rows != NULL;
    const definition *f = &formats[p->format];
    for (uint32_t i = 0; i < g->m; i++) {
        for (uint32_t j = 0; j < g->n; j++) {
            double sum = 0, size = 4;
            for (uint32_t q = 0; q < g->k; q++) {
                double x = p->x[i * p->ldx + q], w = nearest(f, p->w[(size_t)j * g->k + q]);
                if (pairs) x = nearest(f, factor(x)), w = factor(w);
                sum += x * w;
                size += fabs(x * w);
            }
            const float bias = g->bias ? g->bias[j] : 0;
            const float residual = g->epilogue == CPL_EPILOGUE_RESIDUAL ? p->residual[i * g->ldr + j] : 0;
            const double want = check_epilogue(g->epilogue, sum, bias, residual);
            const double bound =
                1.13 * ((pairs ? 2.0 : 1.0) * g->k + 4.0) * 0x1p-24 * size + check_epilogue_bound(g->epilogue, want);
            CHECK_NEAR(c, g->c[i * g->ldc + j], want, size < 1e37 ? bound : INFINITY, "%ux%ux%u epilogue %d at %u,%u",
                       g->m, g->n, g->k, (int)g->epilogue, i, j);
        }
        for (size_t j = g->n; !p->in_place && i + 1 < g->m && j < g->ldc; j++)
            CHECK_THAT(c, g->c[i * g->ldc + j] == 777.0f, "wrote beyond column %u", g->n);
    }
}

static void check_row_bits(check *c, const product *p)
{
    const uint32_t row = check_between(c, 0, p->g.m - 1);
    cpl_gemm_h16 one = p->g;
    one.a = (const char *)one.a + row * one.lda;
    one.residual = p->residual + row * one.ldr;
    one.c = check_take(c, p->g.n * sizeof(float));
    one.m = 1;
    for (uint32_t panel = p->g.panel_end; panel-- > 0;) {
        one.panel_begin = panel;
        one.panel_end = panel + 1;
        cpl_gemm_h16_run(&c->k->h16[p->format], &one);
    }
    CHECK_THAT(c, !memcmp(one.c, p->g.c + row * p->g.ldc, p->g.n * sizeof(float)), "row %u of %u differs alone", row,
               p->g.m);
}

static void gemm_round(check *c, uint32_t round, cpl_h16_format format)
{
    product p = make_product(c, format, round);
    cpl_gemm_h16_run(&c->k->h16[format], &p.g);
    check_product(c, &p);
    check_row_bits(c, &p);
}

static void bf16_round(check *c, uint32_t round) { gemm_round(c, round, CPL_H16_BF16); }
static void fp16_round(check *c, uint32_t round) { gemm_round(c, round, CPL_H16_FP16); }

static cpl_h16_format wrong_format;

static void last_group_lost(const cpl_tile_h16 *t)
{
    cpl_tile_h16 wrong = *t;
    if (wrong.groups > 1) wrong.groups--;
    right.h16[wrong_format].tile(&wrong);
}
static void install_last_group_lost(cpl_kernels *k, cpl_h16_format format)
{
    right = *k;
    wrong_format = format;
    k->h16[format].tile = last_group_lost;
}
static void install_lost_bf16(cpl_kernels *k) { install_last_group_lost(k, CPL_H16_BF16); }
static void install_lost_fp16(cpl_kernels *k) { install_last_group_lost(k, CPL_H16_FP16); }

static void slightly_off(const cpl_tile_h16 *t)
{
    right.h16[wrong_format].tile(t);
    t->c[0] += 1e-3f * (1 + fabsf(t->c[0]));
}
static void install_off_bf16(cpl_kernels *k)
{
    install_last_group_lost(k, CPL_H16_BF16);
    k->h16[CPL_H16_BF16].tile = slightly_off;
}
static void install_off_fp16(cpl_kernels *k)
{
    install_last_group_lost(k, CPL_H16_FP16);
    k->h16[CPL_H16_FP16].tile = slightly_off;
}

const check_case check_gemm_bf16 = {
    .name = "gemm_bf16",
    .bound = "1.13 (k + 4) 2^-24 times the sum of magnitudes (2 k in pairs), and the activation's own",
    .rounds = 160,
    .round = bf16_round,
    .wrong = (const check_wrong[]){{"the last group of k left out", install_lost_bf16},
                                   {"one element off by a thousandth", install_off_bf16},
                                   {0}},
    .isa = bf16_isa,
};

const check_case check_gemm_fp16 = {
    .name = "gemm_fp16",
    .bound = "1.13 (k + 4) 2^-24 times the sum of magnitudes, and the activation's own",
    .rounds = 160,
    .round = fp16_round,
    .wrong = (const check_wrong[]){{"the last group of k left out", install_lost_fp16},
                                   {"one element off by a thousandth", install_off_fp16},
                                   {0}},
    .isa = fp16_isa,
};
