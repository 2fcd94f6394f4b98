/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_i8.c - quantised rows and int8 products. Rows must be those of a plain formula and products the exact integer
 * sums, scaled: without an activation the very same bits on every ISA, with one within the activation's own error. Sums
 * at the ends of their range, scale 0 and NaN, and a row's bits alone and in company. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

static const char *i8_isa(const cpl_kernels *k) { return k->i8_isa; }

static cpl_kernels right; /* what a wrong kernel calls first */

/* ---- quantised rows ---------------------------------------------------------------------------------------------- */

static int value_at(const cpl_kernels *k, const void *row, size_t i, int is_unsigned)
{
    int16_t wide;
    const int zero = is_unsigned ? k->i8_zero_unsigned : k->i8_zero;
    if (k->i8_bytes == 2) {
        memcpy(&wide, (const char *)row + 2 * i, sizeof wide);
        return wide - zero;
    }
    return (zero > 0 || (is_unsigned && !zero) ? ((const uint8_t *)row)[i] : ((const int8_t *)row)[i]) - zero;
}

/* How rows are to become int8, for round `round`: as they are, moved by one number, moved and stretched by column; with
 * and without a sign. */
static cpl_rows_i8 draw_form(check *c, uint32_t round, uint32_t n)
{
    cpl_rows_i8 form = {.is_unsigned = round / 3 % 2, .floor = round % 3 == 1 ? check_uniform(c, -1, 1) : 0};
    if (round % 3 == 2) {
        form.mul = check_take_floats(c, n, 0.1f, 3);
        form.add = check_take_floats(c, n, -1, 1);
    }
    return form;
}

static void move(const cpl_rows_i8 *form, float *to, const float *x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) to[i] = form->mul ? fmaf(x[i], form->mul[i], form->add[i]) : x[i] - form->floor;
}

static int nearest(const cpl_rows_i8 *form, float moved, float inverse)
{
    const int value = inverse > 0 ? (int)lrintf(moved * inverse) : 0;
    return form->is_unsigned && value < 0 ? 0 : value;
}

/* The formula of kernels.h: *inverse is 0 for rows stored as zeros. */
static float scale_of(const float *x, uint32_t n, int is_unsigned, float *inverse)
{
    const float steps = is_unsigned ? 255.0f : 127.0f;
    float most = 0;
    *inverse = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) return NAN;
        most = fmaxf(most, fabsf(x[i]));
    }
    if (!(most > 1e-36f)) return 0;
    *inverse = steps / most;
    return most / steps;
}

static void quantise_round(check *c, uint32_t round)
{
    const cpl_kernels *k = c->k;
    const uint32_t rows = check_between(c, 1, 4), n = check_between(c, 1, round % 4 ? 140 : 1600);
    const size_t bytes = cpl_i8_row_bytes(k, n), ldq = bytes + 2 * check_between(c, 0, 9),
                 ld = n + check_between(c, 0, 5);
    float *x = check_take_floats(c, check_span(rows, n, ld), -2, 2), *scale = check_take(c, rows * sizeof *scale);
    char *q = check_take(c, check_span(rows, bytes, ldq));
    float *moved = check_take(c, n * sizeof *moved);
    cpl_rows_i8 form = draw_form(c, round / CHECK_KINDS, n);
    form.q = q;
    form.ldq = ldq;
    form.scale = scale;
    for (uint32_t r = 0; r < rows; r++) check_spoil(c, x + r * ld, n, (check_kind)(round % CHECK_KINDS));
    k->quantise_i8(&form, x, rows, n, ld);
    for (uint32_t r = 0; r < rows; r++) {
        float inverse;
        move(&form, moved, x + r * ld, n);
        const float want = scale_of(moved, n, form.is_unsigned, &inverse);
        CHECK_NEAR(c, scale[r], want, 0, "scale of row %u, n %u", r, n);
        for (size_t i = 0; i < bytes / k->i8_bytes; i++) {
            const int value = i < n ? nearest(&form, moved[i], inverse) : 0;
            CHECK_NEAR(c, value_at(k, q + r * ldq, i, form.is_unsigned), value, 0, "n %u at %u,%zu", n, r, i);
        }
        for (size_t i = bytes; r + 1 < rows && i < ldq; i++)
            CHECK_THAT(c, q[r * ldq + i] == 0, "wrote between rows, n %u", n);
    }
}

static void truncating(const cpl_rows_i8 *to, const float *x, size_t rows, size_t n, size_t ld)
{
    right.quantise_i8(to, x, rows, n, ld);
    const int zero = to->is_unsigned ? right.i8_zero_unsigned : right.i8_zero;
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < n && to->scale[r] > 0 && !to->mul; i++) {
            const int whole = (int)((x[r * ld + i] - to->floor) * (1 / to->scale[r]));
            char *row = (char *)to->q + r * to->ldq;
            if (right.i8_bytes == 1) ((uint8_t *)row)[i] = (uint8_t)(whole + zero);
            if (right.i8_bytes == 2) ((int16_t *)(void *)row)[i] = (int16_t)(whole + zero);
        }
}
static void install_truncating(cpl_kernels *k)
{
    right = *k;
    k->quantise_i8 = truncating;
}

static void hides_nan(const cpl_rows_i8 *to, const float *x, size_t rows, size_t n, size_t ld)
{
    right.quantise_i8(to, x, rows, n, ld);
    for (size_t r = 0; r < rows; r++)
        if (isnan(to->scale[r])) to->scale[r] = 1;
}
static void install_hides_nan(cpl_kernels *k)
{
    right = *k;
    k->quantise_i8 = hides_nan;
}

static void ignores_add(const cpl_rows_i8 *to, const float *x, size_t rows, size_t n, size_t ld)
{
    cpl_rows_i8 wrong = *to;
    if (wrong.mul) wrong.add = wrong.mul;
    right.quantise_i8(&wrong, x, rows, n, ld);
}
static void install_ignores_add(cpl_kernels *k)
{
    right = *k;
    k->quantise_i8 = ignores_add;
}

const check_case check_quantise_i8 = {
    .name = "quantise_i8",
    .bound = "0: exact",
    .rounds = 240,
    .round = quantise_round,
    .wrong = (const check_wrong[]){{"values cut instead of rounded", install_truncating},
                                   {"a row with a NaN has a scale", install_hides_nan},
                                   {"the terms by column not added", install_ignores_add},
                                   {0}},
    .isa = i8_isa,
};

/* ---- columns of weights ------------------------------------------------------------------------------------------ */

static void weights_round(check *c, uint32_t round)
{
    const uint32_t n = check_between(c, 1, round % 4 ? 140 : 1600);
    float *w = check_take_floats(c, n, -1, 1), scale, inverse;
    int8_t *q = check_take(c, n);
    check_spoil(c, w, n, (check_kind)(round % CHECK_KINDS));
    c->k->weights_i8(q, &scale, w, n);
    const float want = scale_of(w, n, 0, &inverse);
    CHECK_NEAR(c, scale, want, 0, "scale, n %u", n);
    for (uint32_t i = 0; i < n; i++)
        CHECK_NEAR(c, q[i], nearest(&(cpl_rows_i8){0}, w[i], inverse), 0, "n %u at %u", n, i);
}

static void one_short(int8_t *q, float *scale, const float *w, size_t n)
{
    right.weights_i8(q, scale, w, n);
    if (n > 1) q[n - 1] = 1;
}
static void install_one_short(cpl_kernels *k)
{
    right = *k;
    k->weights_i8 = one_short;
}

const check_case check_weights_i8 = {
    .name = "weights_i8",
    .bound = "0: exact",
    .rounds = 120,
    .round = weights_round,
    .wrong = (const check_wrong[]){{"the last weight is another", install_one_short}, {0}},
    .isa = i8_isa,
};

static void magnitudes_round(check *c, uint32_t round)
{
    const uint32_t rows = check_between(c, 1, 20), n = check_between(c, 1, round % 4 ? 70 : 400);
    float *x = check_take_floats(c, (size_t)rows * n, -1, 1), *most = check_take_floats(c, n, 0, 1);
    float *want = check_take(c, n * sizeof *want);
    const check_kind kind = (check_kind)(round % CHECK_KINDS);
    for (uint32_t r = 0; r < rows; r++) check_spoil(c, x + (size_t)r * n, n, kind);
    for (uint32_t i = 0; i < n; i++) {
        want[i] = most[i];
        for (uint32_t r = 0; r < rows; r++) want[i] = fmaxf(want[i], fabsf(x[(size_t)r * n + i]));
    }
    c->k->magnitudes_f32(most, x, rows, n);
    for (uint32_t i = 0; i < n; i++) CHECK_NEAR(c, most[i], want[i], 0, "%u rows of %u at %u", rows, n, i);
}

static void with_sign(float *most, const float *x, size_t rows, size_t n)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < n; i++) most[i] = fmaxf(most[i], x[r * n + i]);
}
static void install_with_sign(cpl_kernels *k) { k->magnitudes_f32 = with_sign; }

const check_case check_magnitudes_f32 = {
    .name = "magnitudes_f32",
    .bound = "0: exact",
    .rounds = 120,
    .round = magnitudes_round,
    .wrong = (const check_wrong[]){{"negative values passed over", install_with_sign}, {0}},
};

/* ---- products ---------------------------------------------------------------------------------------------------- */

typedef struct product {
    cpl_gemm_i8 g;
    cpl_rows_i8 form;
    const float *x, *w, *residual; /* m x k, n x k as stored, the residual as it was */
    size_t ldx;
    bool in_place;
} product;

typedef struct shape {
    uint32_t m, n, k;
    cpl_epilogue e;
    bool in_place;
} shape;

static product make_product(check *c, const shape *s, const cpl_rows_i8 *form, float *x, size_t ldx, const float *w)
{
    const cpl_kernels *k = c->k;
    product p = {.form = *form, .x = x, .w = w, .ldx = ldx, .in_place = s->in_place};
    const size_t panels = cpl_gemm_i8_panels(k, s->n), padded = panels * k->i8_nr, row = cpl_i8_row_bytes(k, s->k);
    const size_t ldq = row + 2 * check_between(c, 0, 9), ldc = s->n + check_between(c, 0, 9);
    const size_t cells = check_span(s->m, s->n, ldc);
    void *q = check_take(c, check_span(s->m, row, ldq));
    float *row_scale = check_take(c, s->m * sizeof *row_scale), *bias = check_take(c, padded * sizeof *bias);
    const cpl_packed_i8 to = {check_take(c, cpl_gemm_i8_packed_bytes(k, s->n, s->k)),
                              check_take(c, padded * sizeof(float)), check_take(c, padded * sizeof(int32_t))};
    int8_t *column = check_take(c, s->k);
    for (uint32_t j = 0; j < s->n; j++) {
        float scale;
        k->weights_i8(column, &scale, w + (size_t)j * s->k, s->k);
        cpl_gemm_i8_place(k, &to, j, s->k, column, scale, form->is_unsigned);
        bias[j] = check_uniform(c, -1, 1);
    }
    p.form.q = q;
    p.form.ldq = ldq;
    p.form.scale = row_scale;
    k->quantise_i8(&p.form, x, s->m, s->k, ldx);
    float *residual = check_take_floats(c, cells, -3, 3), *out = check_take(c, cells * sizeof *out);
    for (size_t i = 0; i < cells; i++) out[i] = s->in_place ? residual[i] : 777.0f;
    p.residual = residual;
    p.g = (cpl_gemm_i8){.a = q,
                        .lda = ldq,
                        .row_scale = row_scale,
                        .b = to,
                        .bias = s->e == CPL_EPILOGUE_NONE ? NULL : bias,
                        .c = out,
                        .ldc = ldc,
                        .residual = s->in_place ? out : residual,
                        .ldr = ldc,
                        .m = s->m,
                        .n = s->n,
                        .k = s->k,
                        .panel_end = (uint32_t)panels,
                        .epilogue = s->e};
    return p;
}

/* Everything from the floats again, sums in 64 bits. */
static void check_product(check *c, const product *p)
{
    const cpl_gemm_i8 *g = &p->g;
    float *x = check_take(c, g->k * sizeof *x);
    for (uint32_t i = 0; i < g->m; i++) {
        float x_inverse, w_inverse;
        move(&p->form, x, p->x + i * p->ldx, g->k);
        const float x_scale = scale_of(x, g->k, p->form.is_unsigned, &x_inverse);
        for (uint32_t j = 0; j < g->n; j++) {
            const float *w = p->w + (size_t)j * g->k;
            const float w_scale = scale_of(w, g->k, 0, &w_inverse);
            int64_t sum = 0;
            for (uint32_t q = 0; q < g->k && x_inverse > 0 && w_inverse > 0; q++)
                sum += nearest(&p->form, x[q], x_inverse) * lrintf(w[q] * w_inverse);
            const float y = fmaf((float)sum * x_scale, w_scale, g->bias ? g->bias[j] : 0);
            const float residual = g->epilogue == CPL_EPILOGUE_RESIDUAL ? p->residual[i * g->ldr + j] : 0;
            const double want =
                g->epilogue == CPL_EPILOGUE_RESIDUAL ? (double)(y + residual) : check_epilogue(g->epilogue, y, 0, 0);
            CHECK_NEAR(c, g->c[i * g->ldc + j], want, check_epilogue_bound(g->epilogue, want),
                       "%ux%ux%u epilogue %d at %u,%u", g->m, g->n, g->k, (int)g->epilogue, i, j);
        }
        for (size_t j = g->n; !p->in_place && i + 1 < g->m && j < g->ldc; j++)
            CHECK_THAT(c, g->c[i * g->ldc + j] == 777.0f, "wrote beyond column %u", g->n);
    }
}

static void check_row_bits(check *c, const product *p)
{
    const uint32_t row = check_between(c, 0, p->g.m - 1);
    cpl_gemm_i8 one = p->g;
    one.a = (const char *)one.a + row * one.lda;
    one.row_scale += row;
    one.residual = p->residual + row * one.ldr;
    one.c = check_take(c, p->g.n * sizeof(float));
    one.m = 1;
    for (uint32_t panel = p->g.panel_end; panel-- > 0;) {
        one.panel_begin = panel;
        one.panel_end = panel + 1;
        c->k->gemm_i8(c->k, &one);
    }
    CHECK_THAT(c, !memcmp(one.c, p->g.c + row * p->g.ldc, p->g.n * sizeof(float)), "row %u of %u differs alone", row,
               p->g.m);
}

/* Sums at the ends of their range: all values alike, so every quantised one is +-127, at the largest k. */
static void range_round(check *c, float sign, int is_unsigned)
{
    const cpl_rows_i8 form = {.is_unsigned = is_unsigned};
    const shape s = {2, 3, CPL_I8_K_MAX, CPL_EPILOGUE_NONE, false};
    product p = make_product(c, &s, &form, check_take_floats(c, 2ul * s.k, 0.5f, 0.5f), s.k,
                             check_take_floats(c, 3ul * s.k, sign * 0.25f, sign * 0.25f));
    c->k->gemm_i8(c->k, &p.g);
    check_product(c, &p);
}

static void gemm_round(check *c, uint32_t round)
{
    if (round < 4) {
        range_round(c, round % 2 ? 1.0f : -1.0f, round / 2 != 0);
        return;
    }
    const cpl_epilogue e = (cpl_epilogue)(round % 7);
    const shape s = {check_between(c, 1, 40), check_between(c, 1, 100), check_between(c, 1, round % 5 ? 90 : 400), e,
                     e == CPL_EPILOGUE_RESIDUAL && round % 2};
    const check_kind kind = round % 2 ? CHECK_ORDINARY : (check_kind)(round / 2 % CHECK_KINDS);
    const size_t ldx = s.k + check_between(c, 0, 5);
    float *x = check_take_floats(c, check_span(s.m, s.k, ldx), -1, 1);
    float *w = check_take_floats(c, (size_t)s.n * s.k, -1, 1);
    for (uint32_t i = 0; i < s.m; i += 3) check_spoil(c, x + i * ldx, s.k, kind);
    for (uint32_t j = 0; j < s.n; j += 3)
        check_spoil(c, w + (size_t)j * s.k, s.k, kind <= CHECK_TINY ? kind : CHECK_ORDINARY);
    const cpl_rows_i8 form = draw_form(c, round / 14, s.k);
    product p = make_product(c, &s, &form, x, ldx, w);
    c->k->gemm_i8(c->k, &p.g);
    check_product(c, &p);
    check_row_bits(c, &p);
}

static void saturating(const cpl_tile_i8 *t)
{
    right.tile_i8(t);
    for (uint32_t i = 0; i < t->m; i++) t->c[i * t->ldc] = fminf(t->c[i * t->ldc], 32767 * t->row_scale[i]);
}
static void install_saturating(cpl_kernels *k)
{
    right = *k;
    k->tile_i8 = saturating;
}

static void last_group_lost(const cpl_tile_i8 *t)
{
    cpl_tile_i8 wrong = *t;
    if (wrong.groups > 1) wrong.groups--;
    right.tile_i8(&wrong);
}
static void install_last_group_lost(cpl_kernels *k)
{
    right = *k;
    k->tile_i8 = last_group_lost;
}

static void behind_a(const cpl_kernels *k, const cpl_gemm_i8 *g)
{
    right.gemm_i8(k, g);
    (void)*((const volatile char *)g->a + check_span(g->m, cpl_i8_row_bytes(k, g->k), g->lda));
}
static void install_behind_a(cpl_kernels *k)
{
    right = *k;
    k->gemm_i8 = behind_a;
}

const check_case check_gemm_i8 = {
    .name = "gemm_i8",
    .bound = "0: exact; through an activation its own bound",
    .rounds = 160,
    .round = gemm_round,
    .wrong = (const check_wrong[]){{"sums that stop at 16 bits", install_saturating},
                                   {"the last group of k left out", install_last_group_lost},
                                   {"one byte read behind a", install_behind_a},
                                   {0}},
    .isa = i8_isa,
};
