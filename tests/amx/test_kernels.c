/* SPDX-License-Identifier: Apache-2.0 */
/* test_kernels.c - each AMX kernel against plain C in double, on tiles in software and on real ones where there are
 * any: products for every way of cutting them, attention at ragged lengths, layer norm and quantising with rows of
 * nothing and of no numbers. Buffers end at their last byte, so that the address sanitizer sees what is read too far.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "cuda/random_model.h"
#include "kernel/amx.h"

#define AMX_MODEL(name) name##_model
CPL_AMX_DECLARE(AMX_MODEL);

static uint64_t seed;
static cpl_cpu cpu;

static int runs(const cpl_amx_kernels *k)
{
    const uint32_t software = CPL_CPU_AVX512 | CPL_CPU_AVX512_VNNI | CPL_CPU_AVX512_BF16 | CPL_CPU_AVX512_VBMI;
    const uint32_t needs =
        software |
        (k == &cpl_amx_table ? CPL_CPU_AVX512_FP16 | CPL_CPU_AMX_TILE | CPL_CPU_AMX_INT8 | CPL_CPU_AMX_BF16 : 0);
    return (cpu.features & needs) == needs && (k != &cpl_amx_table || cpl_amx_permit());
}

static void *take(size_t bytes)
{
    void *p = NULL;
    assert_int_equal(posix_memalign(&p, 64, bytes), 0);
    memset(p, 0, bytes);
    return p;
}

static float from_bf16(uint16_t x)
{
    const uint32_t bits = (uint32_t)x << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint16_t to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static double from_half(uint16_t x)
{
    const int exponent = x >> 10 & 31;
    const double m = exponent ? ldexp(1024 + (x & 1023), exponent - 25) : ldexp(x & 1023, -24);
    return x & 0x8000 ? -m : m;
}

static uint16_t to_half(double x) /* of normal halves */
{
    int exponent;
    const double m = frexp(fabs(x), &exponent);
    const long mantissa = lrint(m * 2048);
    return (uint16_t)((x < 0 ? 0x8000 : 0) + ((exponent + 13) << 10) + mantissa);
}

/* ---- products --------------------------------------------------------------------------------------------------- */

enum { BLOCKS = 3, PANELS = 4, STEPS = 6, ROWS_MAX = BLOCKS * 32, N = PANELS * 32, K_MAX = STEPS * 64 };

typedef struct problem {
    cpl_amx_gemm g;
    cpl_amx_activation activation;
    uint32_t rows, k, group;
    char *a, *b;
    float *scale, *bias, *row_scale;
    uint16_t *scale16, *bias16, *row_scale16;
    char *out, *most, *scratch, *partial;
    size_t out_bytes;
    double sums[ROWS_MAX][N];
} problem;

static double element(const problem *p, const char *from, size_t at, int is_a)
{
    if (p->g.kind == CPL_AMX_BF16) return from_bf16(((const uint16_t *)(const void *)from)[at]);
    return is_a && p->g.kind == CPL_AMX_UINT8 ? ((const uint8_t *)from)[at] : ((const int8_t *)from)[at];
}

/* The sums as amx.h describes A tiles and panels. */
static void sum_up(problem *p)
{
    const uint32_t per_step = 16 * p->group;
    for (uint32_t r = 0; r < p->rows; r++)
        for (uint32_t n = 0; n < N; n++) {
            double sum = 0;
            for (uint32_t k = 0; k < p->k; k++) {
                const uint32_t s = k / per_step, in = k % per_step, c = n % 32;
                const size_t a = ((r / 16 * (size_t)STEPS + s) * 16 + r % 16) * per_step + in;
                const size_t b = (((n / 32 * (size_t)STEPS + s) * 2 + c / 16) * 16 + in / p->group) * 16 * p->group +
                                 c % 16 * p->group + in % p->group;
                sum += element(p, p->a, a, 1) * element(p, p->b, b, 0);
            }
            p->sums[r][n] = sum;
        }
}

static void fill_operands(problem *p, uint64_t *state)
{
    const size_t a = ROWS_MAX / 16 * (size_t)STEPS * 1024, b = PANELS * (size_t)STEPS * 2048;
    for (size_t i = 0; i < a; i++) p->a[i] = (char)(cpl_random_below(state, 255) - 127);
    for (size_t i = 0; i < b; i++) p->b[i] = (char)(cpl_random_below(state, 255) - 127);
    if (p->g.kind == CPL_AMX_BF16) {
        for (size_t i = 0; i < a / 2; i++) ((uint16_t *)(void *)p->a)[i] = to_bf16((float)cpl_random_normal(state) * 3);
        for (size_t i = 0; i < b / 2; i++) ((uint16_t *)(void *)p->b)[i] = to_bf16((float)cpl_random_normal(state) / 8);
    }
    for (uint32_t n = 0; n < N; n++) {
        p->scale[n] = (float)(1e-3 * (0.5 + cpl_random_unit(state)));
        p->bias[n] = (float)cpl_random_normal(state);
        p->scale16[n] = to_half(p->scale[n] * 64);
        p->bias16[n] = to_half(p->bias[n]);
    }
    for (uint32_t r = 0; r < ROWS_MAX; r++) {
        p->row_scale[r] = (float)(0.01 * (0.5 + cpl_random_unit(state)));
        p->row_scale16[r] = to_half(p->row_scale[r] * 4);
    }
}

static void make_problem(problem *p, cpl_amx_kind kind, cpl_amx_out what, cpl_epilogue e, uint64_t *state)
{
    memset(p, 0, sizeof *p);
    p->g.kind = kind;
    p->group = kind == CPL_AMX_BF16 ? 2 : 4;
    p->k = STEPS * 16 * p->group;
    p->a = take(ROWS_MAX / 16 * (size_t)STEPS * 1024);
    p->b = take(PANELS * (size_t)STEPS * 2048);
    p->scale = take(N * sizeof(float));
    p->bias = take(N * sizeof(float));
    p->row_scale = take(ROWS_MAX * sizeof(float));
    p->scale16 = take(N * 2);
    p->bias16 = take(N * 2);
    p->row_scale16 = take(ROWS_MAX * 2);
    p->most = take(ROWS_MAX * 64);
    p->scratch = take(CPL_AMX_TILES_MAX * 2048);
    p->partial = take((size_t)(PANELS > BLOCKS ? PANELS : BLOCKS) * CPL_AMX_TILES_MAX * 2048);
    p->out_bytes = ROWS_MAX * (size_t)N * 4;
    p->out = take(p->out_bytes);
    p->activation = (cpl_amx_activation){e, 0x421a, {0x362e, 0xaaaa, 0x1c86, 0x88e5}, 8};
    p->g.what = what;
    fill_operands(p, state);
}

static void free_problem(problem *p)
{
    void *all[] = {p->a,      p->b,           p->scale, p->bias,    p->row_scale, p->scale16,
                   p->bias16, p->row_scale16, p->most,  p->scratch, p->partial,   p->out};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static double exact(const problem *p, uint32_t r, uint32_t n)
{
    if (p->g.kind == CPL_AMX_BF16) return p->sums[r][n] + p->bias[n];
    return p->sums[r][n] * p->row_scale[r] * p->scale[n] + p->bias[n];
}

static double activated(double x, cpl_epilogue e)
{
    if (e == CPL_EPILOGUE_RELU) return fmax(x, 0);
    if (e == CPL_EPILOGUE_GELU) return 0.5 * x * (1 + erf(x / sqrt(2)));
    return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979) * (x + 0.044715 * x * x * x)));
}

/* The element of row r, column n in the output; *to is what it should be, *allowed how far off it may be. */
static double result(const problem *p, uint32_t r, uint32_t n, double *to, double *allowed)
{
    const double y = exact(p, r, n);
    const uint32_t panel = n / 32, c = n % 32;
    if (p->g.what == CPL_AMX_ADD) {
        *to = y + 1;
        *allowed = 1e-5 * (1 + fabs(y));
        return ((const float *)(const void *)(p->out + r * p->g.out_row))[n];
    }
    if (p->g.what == CPL_AMX_ROWS) {
        *to = y;
        *allowed = 0.004 * fabs(y) + 1e-5;
        const char *at = p->out + panel * p->g.out_panel + r * (size_t)64;
        return from_bf16(((const uint16_t *)(const void *)at)[c]);
    }
    *to = activated(y, p->activation.kind);
    if (p->g.kind == CPL_AMX_BF16) {
        *allowed = 0.004 * fabs(y) + 1e-5;
        const char *at = p->out + r / 16 * p->g.out_row + panel * (size_t)1024 + r % 16 * (size_t)64;
        return from_bf16(((const uint16_t *)(const void *)at)[c]);
    }
    /* halves: 2^-11 each of sum, scales, bias, result; the polynomial's 0.0036; and the sum's 8 bits */
    *allowed = 0.0036 + 0.004 * fabs(y) + 0.003 + 128 * p->row_scale[r] * p->scale[n];
    const char *at = p->out + r * p->g.out_row + panel * (size_t)64;
    return from_half(((const uint16_t *)(const void *)at)[c]);
}

/* ACTIVATE on int8 takes even columns from the first tile: what is column n there. */
static void swap_columns(problem *p)
{
    for (uint32_t r = 0; r < p->rows; r++)
        for (uint32_t panel = 0; panel < PANELS; panel++) {
            double was[32];
            memcpy(was, &p->sums[r][32 * panel], sizeof was);
            for (uint32_t t = 0; t < 2; t++)
                for (uint32_t c = 0; c < 16; c++)
                    p->sums[r][32 * panel + cpl_amx_activate_column(t, c)] = was[16 * t + c];
        }
}

static void prepare_output(problem *p)
{
    memset(p->out, 0, p->out_bytes);
    memset(p->most, 0, ROWS_MAX * 64);
    p->g.out_panel = ROWS_MAX * 64;
    p->g.out_row = p->g.what == CPL_AMX_ADD ? N * 4 : p->g.kind == CPL_AMX_BF16 ? PANELS * 1024 : N * 2;
    for (size_t i = 0; p->g.what == CPL_AMX_ADD && i < ROWS_MAX * (size_t)N; i++) ((float *)(void *)p->out)[i] = 1;
}

static void check_product(const cpl_amx_kernels *k, problem *p, uint32_t tiles, uint32_t split, int outside)
{
    cpl_amx_gemm *g = &p->g;
    p->rows = tiles * 16 * BLOCKS;
    prepare_output(p);
    g->a = p->a;
    g->b = p->b;
    g->scale = p->scale;
    g->bias = p->bias;
    g->scale16 = p->scale16;
    g->bias16 = p->bias16;
    g->row_scale = p->row_scale;
    g->row_scale16 = p->row_scale16;
    g->tiles = tiles;
    g->blocks = BLOCKS;
    g->steps = STEPS;
    g->split = split;
    g->panels_outside = outside;
    g->out = p->out;
    g->most = p->most;
    g->activation = &p->activation;
    g->scratch = p->scratch;
    g->partial = p->partial;
    sum_up(p);
    if (g->what == CPL_AMX_ACTIVATE && g->kind != CPL_AMX_BF16) swap_columns(p);
    k->begin();
    for (uint32_t from = 0; from < PANELS; from += 2) { /* as two members of a team */
        g->panel_begin = from;
        g->panel_end = from + 2;
        k->gemm(g);
    }
    k->end();
    for (uint32_t r = 0; r < p->rows; r++)
        for (uint32_t n = 0; n < N; n++) {
            double to, allowed;
            const double is = result(p, r, n, &to, &allowed);
            if (!(fabs(is - to) <= allowed))
                fail_msg("kind %d, what %d, tiles %u, split %u, outside %d: row %u, column %u is %g, not %g", g->kind,
                         g->what, tiles, split, outside, r, n, is, to);
        }
}

static void products(void **state)
{
    static const struct {
        cpl_amx_kind kind;
        cpl_amx_out what;
        cpl_epilogue e;
    } cases[] = {
        {CPL_AMX_INT8, CPL_AMX_ROWS, CPL_EPILOGUE_BIAS},          {CPL_AMX_INT8, CPL_AMX_ADD, CPL_EPILOGUE_BIAS},
        {CPL_AMX_UINT8, CPL_AMX_ADD, CPL_EPILOGUE_BIAS},          {CPL_AMX_INT8, CPL_AMX_ACTIVATE, CPL_EPILOGUE_GELU},
        {CPL_AMX_INT8, CPL_AMX_ACTIVATE, CPL_EPILOGUE_RELU},      {CPL_AMX_BF16, CPL_AMX_ROWS, CPL_EPILOGUE_BIAS},
        {CPL_AMX_BF16, CPL_AMX_ADD, CPL_EPILOGUE_BIAS},           {CPL_AMX_BF16, CPL_AMX_ACTIVATE, CPL_EPILOGUE_GELU},
        {CPL_AMX_BF16, CPL_AMX_ACTIVATE, CPL_EPILOGUE_GELU_TANH}, {CPL_AMX_BF16, CPL_AMX_ACTIVATE, CPL_EPILOGUE_RELU},
    };
    const cpl_amx_kernels *k = *state;
    if (!runs(k)) skip();
    problem *p = malloc(sizeof *p);
    uint64_t random = seed;
    assert_non_null(p);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make_problem(p, cases[i].kind, cases[i].what, cases[i].e, &random);
        for (uint32_t way = 0; way < 12; way++)
            check_product(k, p, 1 + way % 2, (uint32_t[]){6, 2, 1}[way / 4], (int)(way / 2 % 2));
        free_problem(p);
    }
    free(p);
}

/* ---- attention -------------------------------------------------------------------------------------------------- */

static void check_attention(const cpl_amx_kernels *k, uint32_t keys, uint32_t queries, uint32_t d, double size,
                            uint64_t *random)
{
    enum { HEADS = 3 };
    const uint32_t panels = HEADS * d / 32;
    const size_t panel = (keys + 16) * (size_t)64;
    uint16_t *qkv[3];
    for (int m = 0; m < 3; m++) {
        qkv[m] = take(panels * panel);
        for (size_t i = 0; i < panels * panel / 2; i++)
            qkv[m][i] = to_bf16((float)(cpl_random_normal(random) * (m ? 1 : size)));
    }
    const uint32_t first = 5;
    char *out = take((first + queries + 15) / 16 * (size_t)panels * 1024);
    char *scratch = take(k->attention_scratch(keys, d));
    const cpl_amx_attention a = {.q = qkv[0],
                                 .k = qkv[1],
                                 .v = qkv[2],
                                 .q_panel = panel,
                                 .kv_panel = panel,
                                 .queries = queries,
                                 .keys = keys,
                                 .head_size = d,
                                 .head_end = HEADS,
                                 .out = out,
                                 .out_first = first,
                                 .out_steps = panels,
                                 .out_bf16_tiles = 1,
                                 .scratch = scratch};
    k->begin();
    k->attention(&a);
    k->end();
    double *p = malloc(keys * sizeof *p), worst = 0;
    for (uint32_t head = 0; head < HEADS; head++)
        for (uint32_t t = 0; t < queries; t++) {
            double most = -INFINITY, sum = 0;
#define AT(m, row, i) from_bf16(qkv[m][(head * (d / 32) + (i) / 32) * (panel / 2) + (row)*32 + (i) % 32])
            for (uint32_t j = 0; j < keys; j++) {
                p[j] = 0;
                for (uint32_t i = 0; i < d; i++) p[j] += AT(0, t, i) * AT(1, j, i);
                most = fmax(most, p[j]);
            }
            for (uint32_t j = 0; j < keys; j++) sum += p[j] = exp2((p[j] - most) / 128);
            for (uint32_t i = 0; i < d; i++) {
                double x = 0;
                const uint32_t column = i / 32 * 32 + cpl_amx_order_context(i % 32);
                for (uint32_t j = 0; j < keys; j++) x += p[j] / sum * AT(2, j, column);
                const size_t row = first + t, step = head * (d / 32) + i / 32;
                const size_t at = (row / 16 * panels + step) * 512 + row % 16 * 32 + i % 32;
                worst = fmax(worst, fabs(x - from_bf16(((uint16_t *)(void *)out)[at])));
            }
#undef AT
        }
    free(p);
    if (!(worst < 0.03)) fail_msg("%u queries, %u keys of %u, size %g: off by %g", queries, keys, d, size, worst);
    for (int m = 0; m < 3; m++) free(qkv[m]);
    free(out);
    free(scratch);
}

static void attention(void **state)
{
    const cpl_amx_kernels *k = *state;
    if (!runs(k)) skip();
    uint64_t random = seed;
    for (uint32_t i = 0; i < 40; i++) {
        const uint32_t keys = i < 4 ? (uint32_t[]){1, 16, 32, 33}[i] : 1 + cpl_random_below(&random, 150);
        /* scores within 128 x a few; and so large that one key takes all and the fast softmax gives up */
        const double size = i % 5 == 4 ? 3000 : 30;
        check_attention(k, keys, i % 3 ? keys : 1, i % 4 == 3 ? 64 : 32, size, &random);
    }
}

/* ---- rows ------------------------------------------------------------------------------------------------------- */

enum { WIDTH = 192, ROWS = 37 };

static double quantised(const char *a, uint32_t steps, uint32_t row, uint32_t column, uint32_t (*order)(uint32_t),
                        int is_unsigned)
{
    uint32_t p = 0;
    while (order(p) != column % 64) p++;
    const char *at = a + (row / 16 * (size_t)steps + column / 64) * 1024 + row % 16 * (size_t)64 + p;
    return is_unsigned ? *(const uint8_t *)at : *(const int8_t *)at;
}

static void norms(void **state)
{
    const cpl_amx_kernels *k = *state;
    if (!runs(k)) skip();
    uint64_t random = seed;
    float *x = take(ROWS * WIDTH * 4), *was = take(ROWS * WIDTH * 4), *row_scale = take(ROWS * 4);
    uint16_t *row_scale16 = take(ROWS * 2);
    float w[4][WIDTH];
    char *a = take((ROWS + 15) / 16 * (size_t)(WIDTH / 32) * 1024);
    for (int i = 0; i < 4; i++)
        for (int c = 0; c < WIDTH; c++) w[i][c] = (float)(cpl_random_normal(&random) * 0.3 + (i % 2 ? 0 : 1));
    for (int i = 0; i < ROWS * WIDTH; i++) was[i] = (float)cpl_random_normal(&random) * 3;
    for (int bf16 = 0; bf16 < 2; bf16++) {
        memcpy(x, was, ROWS * WIDTH * 4);
        x[5 * WIDTH + 7] = NAN;
        const cpl_amx_rows r = {.kind = bf16 ? CPL_AMX_BF16 : CPL_AMX_INT8,
                                .x = x,
                                .ld = WIDTH,
                                .n = WIDTH,
                                .gamma = w[0],
                                .beta = w[1],
                                .q_gamma = w[2],
                                .q_beta = w[3],
                                .epsilon = 1e-5f,
                                .a = a,
                                .steps = bf16 ? WIDTH / 32 : WIDTH / 64,
                                .row_scale = row_scale,
                                .row_scale16 = row_scale16,
                                .scale16 = 4};
        k->norm(&r, 0, 20);
        k->norm(&r, 20, ROWS);
        for (uint32_t row = 0; row < ROWS; row++) {
            double mean = 0, variance = 0;
            for (int c = 0; c < WIDTH; c++) mean += was[row * WIDTH + c] / (double)WIDTH;
            for (int c = 0; c < WIDTH; c++) variance += pow(was[row * WIDTH + c] - mean, 2) / WIDTH;
            if (row == 5) {
                assert_true(bf16 || isnan(row_scale[row]));
                continue;
            }
            if (!bf16)
                assert_true(fabs(from_half(row_scale16[row]) - 4 * (double)row_scale[row]) <
                            0.001 * row_scale[row] * 4);
            for (uint32_t c = 0; c < WIDTH; c++) {
                const double v = (was[row * WIDTH + c] - mean) / sqrt(variance + 1e-5), y = v * w[2][c] + w[3][c];
                assert_true(fabs(x[row * WIDTH + c] - (v * w[0][c] + w[1][c])) < 1e-5 * (1 + fabs(v)));
                const size_t at = (row / 16 * (size_t)(WIDTH / 32) + c / 32) * 512 + row % 16 * 32 + c % 32;
                if (bf16)
                    assert_true(fabs(from_bf16(((uint16_t *)(void *)a)[at]) - y) < 0.004 * fabs(y) + 1e-5);
                else
                    assert_true(fabs(quantised(a, WIDTH / 64, row, c, cpl_amx_order_rows, 0) * row_scale[row] - y) <
                                0.501 * row_scale[row] + 1e-5);
            }
        }
    }
    free(x);
    free(was);
    free(row_scale);
    free(row_scale16);
    free(a);
}

static void halves(void **state)
{
    const cpl_amx_kernels *k = *state;
    if (!runs(k)) skip();
    uint64_t random = seed;
    uint16_t *x = take(ROWS * WIDTH * 2), *most = take(ROWS * 64);
    float *row_scale = take(ROWS * 4);
    char *a = take((ROWS + 15) / 16 * (size_t)(WIDTH / 64) * 1024);
    const float shift = 0.17f;
    for (int activated_rows = 0; activated_rows < 2; activated_rows++) {
        memset(most, 0, ROWS * 64);
        for (uint32_t row = 0; row < ROWS; row++)
            for (uint32_t c = 0; c < WIDTH; c++) {
                double v = cpl_random_normal(&random) * (row % 3 ? 1 : 100);
                if (activated_rows) v = fmax(v, -0.17);
                if (fabs(v) < 1e-4) v = 1e-4;
                x[row * WIDTH + c] = row == 3 ? 0 : row == 4 && c == 9 ? 0x7e00 : to_half(v);
                uint16_t *m = &most[row * 32 + c % 32];
                if (row == 4 && c == 9) *m = 0x7e00;
                if (row != 4 && from_half(x[row * WIDTH + c]) > from_half(*m)) *m = x[row * WIDTH + c];
            }
        const cpl_amx_halves h = {x, WIDTH * 2, WIDTH, most, shift, a, WIDTH / 64, row_scale};
        (activated_rows ? k->quantise_activated : k->quantise_halves)(&h, 0, 7);
        (activated_rows ? k->quantise_activated : k->quantise_halves)(&h, 7, ROWS);
        for (uint32_t row = 0; row < ROWS; row++) {
            if (row == 4) {
                assert_true(isnan(row_scale[row]));
                continue;
            }
            if (row == 3 && !activated_rows) assert_true(row_scale[row] == 0);
            for (uint32_t c = 0; c < WIDTH; c++) {
                const double q = quantised(a, WIDTH / 64, row, c, cpl_amx_order_halves, activated_rows);
                const double is = q * row_scale[row] - (activated_rows ? shift : 0);
                assert_true(fabs(is - from_half(x[row * WIDTH + c])) < 0.6 * row_scale[row] + 1e-6);
            }
        }
    }
    free(x);
    free(most);
    free(row_scale);
    free(a);
}

int main(void)
{
    const char *given = getenv("COUPLET_SEED");
    seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    print_message("seed %llu\n", (unsigned long long)seed);
    cpl_cpu_detect(&cpu);
    static const cpl_amx_kernels *const both[] = {&AMX_MODEL(cpl_amx_table), &cpl_amx_table};
    static const struct {
        const char *name;
        CMUnitTestFunction fn;
    } all[] = {{"products", products}, {"attention", attention}, {"norms", norms}, {"halves", halves}};
    struct CMUnitTest tests[8];
    char names[8][32];
    for (int i = 0; i < 8; i++) {
        snprintf(names[i], sizeof names[i], "%s, %s", all[i / 2].name, i % 2 ? "hardware" : "software");
        tests[i] = (struct CMUnitTest){names[i], all[i / 2].fn, NULL, NULL, (void *)(uintptr_t)both[i % 2]};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
