/* SPDX-License-Identifier: Apache-2.0 */
/* rows_f32.c - layer norm, softmax, pooling, transposition and sums: kernels over rows of floats. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "check.h"

static cpl_kernels right; /* what a wrong kernel calls first */

/* ---- layer norm -------------------------------------------------------------------------------------------------- */

/* The mean is off by d <= (n + 8) 2^-24 of the largest magnitude; so is every difference from it, twice with its own
 * rounding; the variance relatively by the same sum's roundings and by d^2. */
static void check_layernorm_row(check *c, const float *x, const float *y, uint32_t n, const float *gamma,
                                const float *beta, double epsilon)
{
    double mean = 0, var = 0, most = 0;
    for (uint32_t j = 0; j < n; j++) {
        mean += x[j] / (double)n;
        most = fmax(most, fabs((double)x[j]));
    }
    for (uint32_t j = 0; j < n; j++) var += (x[j] - mean) * (x[j] - mean) / n;
    const double s = sqrt(var + epsilon), roundings = (n + 8) * 0x1p-24, d = roundings * most;
    for (uint32_t j = 0; j < n; j++) {
        const double z = (x[j] - mean) / s, want = z * gamma[j] + beta[j];
        double bound = fabs((double)gamma[j]) * (2 * d / s + fabs(z) * (2 * roundings + d * d / (s * s))) +
                       0x1p-23 * (fabs(want) + fabs((double)beta[j])) + 1e-37;
        if (isfinite(want) && most * most * n > FLT_MAX) bound = INFINITY;
        CHECK_NEAR(c, y[j], want, bound, "n %u at %u", n, j);
    }
}

static void layernorm_round(check *c, uint32_t round)
{
    const uint32_t rows = check_between(c, 1, 4), n = check_between(c, 1, round % 4 ? 100 : 800);
    const size_t ld = n + check_between(c, 0, 5), all = check_span(rows, n, ld);
    const float shift = round % 3 ? check_uniform(c, -5, 5) : 0, epsilon = round % 2 ? 1e-12f : 1e-5f;
    float *x = check_take_floats(c, all, shift - 2, shift + 2), *y = check_take(c, all * sizeof(float));
    float *gamma = check_take_floats(c, n, -2, 2), *beta = check_take_floats(c, n, -2, 2);
    check_spoil(c, x, n, (check_kind)(round % CHECK_KINDS));
    memcpy(y, x, all * sizeof(float));
    c->k->layernorm_f32(y, rows, n, ld, gamma, beta, epsilon);
    for (uint32_t i = 0; i < rows; i++) {
        check_layernorm_row(c, x + i * ld, y + i * ld, n, gamma, beta, (double)epsilon);
        for (size_t j = n; i + 1 < rows && j < ld; j++)
            CHECK_THAT(c, !memcmp(&y[i * ld + j], &x[i * ld + j], sizeof *y), "wrote between rows");
    }
}

static void wrong_layernorm(float *x, size_t rows, size_t n, size_t ld, const float *g, const float *b, float e)
{
    right.layernorm_f32(x, rows, n, ld, g, b, e * 4);
}
static void install_wrong_layernorm(cpl_kernels *k)
{
    right = *k;
    k->layernorm_f32 = wrong_layernorm;
}
static void layernorm_reads_on(float *x, size_t rows, size_t n, size_t ld, const float *g, const float *b, float e)
{
    (void)*(const volatile float *)&g[n];
    right.layernorm_f32(x, rows, n, ld, g, b, e);
}
static void install_layernorm_reads_on(cpl_kernels *k)
{
    right = *k;
    k->layernorm_f32 = layernorm_reads_on;
}

const check_case check_layernorm_f32 = {
    .name = "layernorm_f32",
    .bound = "|gamma| (2 d / s + |z| (2 (n + 8) 2^-24 + (d / s)^2)) + 2^-23 (|y| + |beta|), d = (n + 8) 2^-24 max |x|",
    .rounds = 120,
    .round = layernorm_round,
    .wrong = (const check_wrong[]){{"four times the epsilon", install_wrong_layernorm},
                                   {"one float read behind gamma", install_layernorm_reads_on},
                                   {0}},
};

/* ---- softmax ----------------------------------------------------------------------------------------------------- */

static void softmax_round(check *c, uint32_t round)
{
    const uint32_t rows = check_between(c, 1, 4), n = check_between(c, 1, round % 4 ? 70 : 700);
    const size_t ld = n + check_between(c, 0, 5), all = check_span(rows, n, ld);
    const float wide = round % 5 ? 8.0f : 300.0f, scale = check_uniform(c, 0.05f, 1);
    float *x = check_take_floats(c, all, -wide, wide), *y = check_take(c, all * sizeof(float));
    check_spoil(c, x, n, (check_kind)(round % CHECK_KINDS));
    memcpy(y, x, all * sizeof(float));
    c->k->softmax_f32(y, rows, n, ld, scale);
    for (uint32_t i = 0; i < rows; i++) {
        double max = -INFINITY, sum = 0;
        for (uint32_t j = 0; j < n; j++)
            max = x[i * ld + j] > max || isnan(x[i * ld + j]) ? (double)x[i * ld + j] : max;
        for (uint32_t j = 0; j < n; j++) sum += exp((x[i * ld + j] - max) * (double)scale);
        for (uint32_t j = 0; j < n; j++) {
            const double e = (x[i * ld + j] - max) * (double)scale, want = exp(e) / sum;
            const double relative = 1e-6 + n * 0x1p-24 + 2e-7 * fmin(fabs(e), 200);
            CHECK_NEAR(c, y[i * ld + j], want, want * relative + 2e-38, "n %u at %u", n, j);
        }
        for (size_t j = n; i + 1 < rows && j < ld; j++)
            CHECK_THAT(c, !memcmp(&y[i * ld + j], &x[i * ld + j], sizeof *y), "wrote between rows");
    }
}

static void wrong_softmax(float *x, size_t rows, size_t n, size_t ld, float scale)
{
    right.softmax_f32(x, rows, n, ld, scale * 1.00001f);
}
static void install_wrong_softmax(cpl_kernels *k)
{
    right = *k;
    k->softmax_f32 = wrong_softmax;
}

const check_case check_softmax_f32 = {
    .name = "softmax_f32",
    .bound = "y (1e-6 + n 2^-24 + 2e-7 |scale (x - max)|) + 2e-38",
    .rounds = 120,
    .round = softmax_round,
    .wrong = (const check_wrong[]){{"a scale off by 1e-5", install_wrong_softmax}, {0}},
};

/* ---- pooling ----------------------------------------------------------------------------------------------------- */

static void mean_round(check *c, uint32_t round)
{
    const uint32_t rows = check_between(c, 1, 40), n = check_between(c, 1, 100);
    const size_t ld = n + check_between(c, 0, 5);
    float *x = check_take_floats(c, check_span(rows, n, ld), -3, 3), *y = check_take(c, n * sizeof(float));
    check_spoil(c, x, n, (check_kind)(round % CHECK_KINDS));
    c->k->pool_mean_f32(y, x, rows, n, ld);
    for (uint32_t j = 0; j < n; j++) {
        double sum = 0, size = 0;
        for (uint32_t i = 0; i < rows; i++) {
            sum += x[i * ld + j];
            size += fabs((double)x[i * ld + j]);
        }
        CHECK_NEAR(c, y[j], sum / rows, (rows + 2) * 0x1p-24 * size / rows + 0x1p-149, "%u rows, column %u", rows, j);
    }
}

static void wrong_mean(float *out, const float *x, size_t rows, size_t n, size_t ld)
{
    right.pool_mean_f32(out, x, rows > 1 ? rows - 1 : 1, n, ld);
}
static void install_wrong_mean(cpl_kernels *k)
{
    right = *k;
    k->pool_mean_f32 = wrong_mean;
}

const check_case check_pool_mean_f32 = {
    .name = "pool_mean_f32",
    .bound = "(rows + 2) 2^-24 mean |x|",
    .rounds = 60,
    .round = mean_round,
    .wrong = (const check_wrong[]){{"the last row left out", install_wrong_mean}, {0}},
};

static void max_round(check *c, uint32_t round)
{
    const uint32_t rows = check_between(c, 1, 40), n = check_between(c, 1, 100);
    const size_t ld = n + check_between(c, 0, 5);
    float *x = check_take_floats(c, check_span(rows, n, ld), -3, 3), *y = check_take(c, n * sizeof(float));
    const check_kind kind = (check_kind)(round % CHECK_KINDS); /* a maximum over a NaN is not defined */
    check_spoil(c, x, n, kind == CHECK_NAN ? CHECK_ORDINARY : kind);
    c->k->pool_max_f32(y, x, rows, n, ld);
    for (uint32_t j = 0; j < n; j++) {
        float most = x[j];
        for (uint32_t i = 1; i < rows; i++) most = fmaxf(most, x[i * ld + j]);
        CHECK_NEAR(c, y[j], most, 0, "%u rows, column %u", rows, j);
    }
}

static void wrong_max(float *out, const float *x, size_t rows, size_t n, size_t ld)
{
    right.pool_max_f32(out, x, rows > 1 ? rows - 1 : 1, n, ld);
}
static void install_wrong_max(cpl_kernels *k)
{
    right = *k;
    k->pool_max_f32 = wrong_max;
}

const check_case check_pool_max_f32 = {
    .name = "pool_max_f32",
    .bound = "0: exact",
    .rounds = 60,
    .round = max_round,
    .wrong = (const check_wrong[]){{"the last row left out", install_wrong_max}, {0}},
};

/* ---- sums and transposition -------------------------------------------------------------------------------------- */

static void add3_round(check *c, uint32_t round)
{
    const uint32_t n = check_between(c, 1, 100);
    float *x[3], *y = check_take(c, n * sizeof(float));
    for (int i = 0; i < 3; i++) {
        x[i] = check_take_floats(c, n, -3, 3);
        check_spoil(c, x[i], n, (check_kind)(round % CHECK_KINDS));
    }
    c->k->add3_f32(y, x[0], x[1], x[2], n);
    for (uint32_t j = 0; j < n; j++) CHECK_NEAR(c, y[j], (x[0][j] + x[1][j]) + x[2][j], 0, "n %u at %u", n, j);
}

static void wrong_add3(float *out, const float *a, const float *b, const float *c, size_t n)
{
    right.add3_f32(out, a, c, b, n); /* another order of additions, other last bits */
}
static void install_wrong_add3(cpl_kernels *k)
{
    right = *k;
    k->add3_f32 = wrong_add3;
}

const check_case check_add3_f32 = {
    .name = "add3_f32",
    .bound = "0: exact, (a + b) + c",
    .rounds = 60,
    .round = add3_round,
    .wrong = (const check_wrong[]){{"(a + c) + b", install_wrong_add3}, {0}},
};

static void add3_i8_round(check *c, uint32_t round)
{
    const uint32_t n = check_between(c, 1, 100);
    float *x[2], *y = check_take(c, n * sizeof(float));
    int8_t *q = check_take(c, n);
    const float scale = check_uniform(c, 0, 0.1f);
    for (uint32_t j = 0; j < n; j++) q[j] = (int8_t)((int)check_between(c, 0, 254) - 127);
    for (int i = 0; i < 2; i++) {
        x[i] = check_take_floats(c, n, -3, 3);
        check_spoil(c, x[i], n, (check_kind)(round % CHECK_KINDS));
    }
    c->k->add3_i8(y, q, scale, x[0], x[1], n);
    for (uint32_t j = 0; j < n; j++) CHECK_NEAR(c, y[j], fmaf(scale, q[j], x[0][j]) + x[1][j], 0, "n %u at %u", n, j);
}

static void without_sign(float *out, const int8_t *q, float scale, const float *b, const float *c, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = fmaf(scale, (uint8_t)q[i], b[i]) + c[i];
}
static void install_without_sign(cpl_kernels *k) { k->add3_i8 = without_sign; }

const check_case check_add3_i8 = {
    .name = "add3_i8",
    .bound = "0: exact, fma(scale, q, b) + c",
    .rounds = 60,
    .round = add3_i8_round,
    .wrong = (const check_wrong[]){{"bytes read as unsigned", install_without_sign}, {0}},
};

static void transpose_round(check *c, uint32_t round)
{
    (void)round;
    const uint32_t rows = check_between(c, 1, 40), columns = check_between(c, 1, 40);
    const size_t ld_in = columns + check_between(c, 0, 5), ld_out = rows + check_between(c, 0, 5);
    const float *in = check_take_floats(c, check_span(rows, columns, ld_in), -3, 3);
    float *out = check_take(c, check_span(columns, rows, ld_out) * sizeof(float));
    c->k->transpose_f32(out, ld_out, in, ld_in, rows, columns);
    for (uint32_t j = 0; j < columns; j++) {
        for (uint32_t i = 0; i < rows; i++)
            CHECK_NEAR(c, out[j * ld_out + i], in[i * ld_in + j], 0, "%ux%u at %u,%u", rows, columns, i, j);
        for (size_t i = rows; j + 1 < columns && i < ld_out; i++)
            CHECK_THAT(c, out[j * ld_out + i] == 0, "wrote beyond row %u", rows);
    }
}

static void wrong_transpose(float *out, size_t ld_out, const float *in, size_t ld_in, size_t rows, size_t columns)
{
    right.transpose_f32(out, ld_out, in, ld_in, rows, columns);
    if (ld_out > rows && columns > 1) out[rows] = 1;
}
static void install_wrong_transpose(cpl_kernels *k)
{
    right = *k;
    k->transpose_f32 = wrong_transpose;
}

const check_case check_transpose_f32 = {
    .name = "transpose_f32",
    .bound = "0: exact",
    .rounds = 60,
    .round = transpose_round,
    .wrong = (const check_wrong[]){{"one float written between rows", install_wrong_transpose}, {0}},
};
