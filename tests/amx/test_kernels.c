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
    uint16_t *scale16, *bias16;
    uint32_t *row_scale16;
    char *out, *scratch, *partial;
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
        const double by = p->g.what == CPL_AMX_ACTIVATE && p->activation.kind != CPL_EPILOGUE_RELU ? 0.5 : 1;
        p->scale16[n] = to_half(p->scale[n] * 64 * by);
        p->bias16[n] = to_half(p->bias[n] * by);
    }
    for (uint32_t r = 0; r < ROWS_MAX; r++) {
        p->row_scale[r] = (float)(0.01 * (0.5 + cpl_random_unit(state)));
        p->row_scale16[r] = to_half(p->row_scale[r] * 4) * 0x10001u;
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
    p->row_scale16 = take(ROWS_MAX * 4);
    p->scratch = take(CPL_AMX_TILES_MAX * 2048);
    p->partial = take((size_t)(PANELS > BLOCKS ? PANELS : BLOCKS) * CPL_AMX_TILES_MAX * 2048);
    p->out_bytes = ROWS_MAX * (size_t)N * 4;
    p->out = take(p->out_bytes);
    p->activation = (cpl_amx_activation){e, 0x3e79, {0xaba4, 0x4040, 0xbdbe, 0x3535}};
    p->g.shift = 8;
    p->g.what = what;
    fill_operands(p, state);
}

static void free_problem(problem *p)
{
    void *all[] = {p->a,      p->b,           p->scale,   p->bias,    p->row_scale, p->scale16,
                   p->bias16, p->row_scale16, p->scratch, p->partial, p->out};
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
    const char *const halves = p->out + r / 16 * p->g.out_row + panel * (size_t)1024 + r % 16 * (size_t)64;
    if (p->g.what == CPL_AMX_ADD) { /* a half's 2^-11 of scales, bias and sums, and the sum's bits */
        *to = y + 1;
        *allowed = 0.0006 + 0.0005 * fabs(y) +
                   (p->g.kind == CPL_AMX_BF16 ? 0 : 0.002 * (1 + fabs(y)) + 128 * p->row_scale[r] * p->scale[n]);
        return from_half(((const uint16_t *)(const void *)halves)[c]);
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
        return from_bf16(((const uint16_t *)(const void *)halves)[c]);
    }
    /* halves: 2^-11 each of sum, scales, bias, result; the polynomial's 0.0036; and the sum's 8 bits */
    *allowed = 0.0036 + 0.004 * fabs(y) + 0.003 + 128 * p->row_scale[r] * p->scale[n];
    return from_half(((const uint16_t *)(const void *)halves)[c]);
}

/* int8 sums become halves with even columns from the first tile: what is column n there. */
static void swap_columns(problem *p)
{
    for (uint32_t r = 0; r < p->rows; r++)
        for (uint32_t panel = 0; panel < PANELS; panel++) {
            double was[32];
            memcpy(was, &p->sums[r][32 * panel], sizeof was);
            for (uint32_t t = 0; t < 2; t++)
                for (uint32_t c = 0; c < 16; c++) p->sums[r][32 * panel + cpl_amx_half_column(t, c)] = was[16 * t + c];
        }
}

static void prepare_output(problem *p)
{
    memset(p->out, 0, p->out_bytes);
    p->g.out_panel = ROWS_MAX * 64;
    p->g.out_row = PANELS * 1024;
    for (size_t i = 0; p->g.what == CPL_AMX_ADD && i < ROWS_MAX * (size_t)N; i++)
        ((uint16_t *)(void *)p->out)[i] = 0x3c00;
}

static void check_product(const cpl_amx_kernels *k, problem *p, uint32_t tiles, uint32_t split)
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
    g->out = p->out;
    g->activation = &p->activation;
    g->ahead = (cpl_amx_ahead){p->b, p->b + PANELS * (size_t)STEPS * 2048, 3};
    g->scratch = p->scratch;
    g->partial = p->partial;
    sum_up(p);
    if (g->what != CPL_AMX_ROWS && g->kind != CPL_AMX_BF16) swap_columns(p);
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
                fail_msg("kind %d, what %d, tiles %u, split %u: row %u, column %u is %g, not %g", g->kind, g->what,
                         tiles, split, r, n, is, to);
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
        for (uint32_t way = 0; way < 6; way++) check_product(k, p, 1 + way % 2, (uint32_t[]){6, 2, 1}[way / 2]);
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
        /* scores of a few; of about a hundred, as real models' first layers have; and so large, up or down, that the
         * fast softmax gives up */
        const double size = i % 5 == 4 ? 3000 : i % 5 == 3 ? 900 : 30;
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

/* Where row, column lies in half tiles of WIDTH columns, in halves. */
static size_t half_at(uint32_t row, uint32_t c)
{
    return (row / 16 * (size_t)(WIDTH / 32) + c / 32) * 512 + row % 16 * 32 + c % 32;
}

static void check_norm(const cpl_amx_rows *r, const float *was, float gamma[4][WIDTH], uint32_t row)
{
    const int bf16 = r->kind == CPL_AMX_BF16;
    double mean = 0, variance = 0;
    for (int c = 0; c < WIDTH; c++) mean += was[row * WIDTH + c] / (double)WIDTH;
    for (int c = 0; c < WIDTH; c++) variance += pow(was[row * WIDTH + c] - mean, 2) / WIDTH;
    if (!bf16) {
        const double scale = r->row_scale[row];
        assert_true(fabs(from_half((uint16_t)r->row_scale16[row]) - 4 * scale) < 0.001 * scale * 4);
        assert_int_equal(r->row_scale16[row] >> 16, r->row_scale16[row] & 0xffff);
    }
    for (uint32_t c = 0; c < WIDTH; c++) {
        const double v = (was[row * WIDTH + c] - mean) / sqrt(variance + 1e-5), y = v * gamma[2][c] + gamma[3][c];
        const double x = v * gamma[0][c] + gamma[1][c],
                     off = 0.003 * (0.3 + fabs(v)); /* halves: 2^-11 here and there */
        assert_true(fabs(from_half(((uint16_t *)r->x)[half_at(row, c)]) - x) < off);
        if (bf16)
            assert_true(fabs(from_bf16(((uint16_t *)r->a)[half_at(row, c)]) - y) < off + 0.004 * fabs(y));
        else
            assert_true(fabs(quantised(r->a, WIDTH / 64, row, c, cpl_amx_order_halves, 0) * r->row_scale[row] - y) <
                        off + 0.51 * r->row_scale[row]);
    }
}

static void norms(void **state)
{
    const cpl_amx_kernels *k = *state;
    if (!runs(k)) skip();
    uint64_t random = seed;
    float *was = take(ROWS * WIDTH * 4), *row_scale = take(ROWS * 4), *back = take(WIDTH * 4);
    uint32_t *row_scale16 = take(ROWS * 4);
    float w[4][WIDTH];
    uint16_t w16[4][WIDTH] __attribute__((aligned(64)));
    char *a = take((ROWS + 15) / 16 * (size_t)(WIDTH / 32) * 1024), *x = take((ROWS + 15) / 16 * (size_t)WIDTH * 32);
    for (int i = 0; i < 4; i++)
        for (int c = 0; c < WIDTH; c++) {
            const double v = cpl_random_normal(&random) * 0.3 + (i % 2 ? 0 : 1);
            w16[i][c] = to_half(fabs(v) < 1e-3 ? 1e-3 : v);
            w[i][c] = (float)from_half(w16[i][c]);
        }
    for (int bf16 = 0; bf16 < 2; bf16++) {
        const double size = bf16 ? 3 : 1000; /* the larger ones can't be squared as they are */
        for (uint32_t i = 0; i < ROWS * WIDTH; i++) {
            const double v = (cpl_random_normal(&random) + 0.3) * size;
            was[i] = (float)from_half(to_half(fabs(v) < 1e-3 ? 1e-3 : v));
        }
        was[5 * WIDTH + 7] = NAN;
        for (uint32_t row = 0; row < ROWS; row++) {
            k->put_row(was + row * WIDTH, WIDTH, x, row);
            k->get_row(back, WIDTH, x, row);
            if (row != 5) assert_memory_equal(back, was + row * WIDTH, WIDTH * 4);
        }
        const cpl_amx_rows r = {.kind = bf16 ? CPL_AMX_BF16 : CPL_AMX_INT8,
                                .x = x,
                                .n = WIDTH,
                                .gamma = w16[0],
                                .beta = w16[1],
                                .q_gamma = w16[2],
                                .q_beta = w16[3],
                                .epsilon = 1e-5f,
                                .down = bf16 ? 0 : 6,
                                .a = a,
                                .steps = bf16 ? WIDTH / 32 : WIDTH / 64,
                                .row_scale = row_scale,
                                .row_scale16 = row_scale16,
                                .scale16 = 4};
        k->norm(&r, 0, 18);
        k->norm(&r, 18, ROWS);
        for (uint32_t row = 0; row < ROWS; row++) {
            if (row == 5)
                assert_true(bf16 || isnan(row_scale[row]));
            else
                check_norm(&r, was, w, row);
        }
    }
    free(x);
    free(was);
    free(back);
    free(row_scale);
    free(row_scale16);
    free(a);
}

static void halves(void **state)
{
    const cpl_amx_kernels *k = *state;
    if (!runs(k)) skip();
    uint64_t random = seed;
    uint16_t *x = take((ROWS + 15) / 16 * (size_t)WIDTH * 32);
    float *row_scale = take(ROWS * 4), *from_scale = take(ROWS * 4);
    uint32_t *row_scale16 = take(ROWS * 4);
    char *a = take((ROWS + 15) / 16 * (size_t)(WIDTH / 64) * 1024);
    const float shift = 0.17f;
    from_scale[4] = NAN;
    for (int activated_rows = 0; activated_rows < 2; activated_rows++) {
        for (uint32_t row = 0; row < ROWS; row++)
            for (uint32_t c = 0; c < WIDTH; c++) {
                double v = cpl_random_normal(&random) * (row % 3 ? 1 : 100);
                if (activated_rows) v = fmax(v, -0.17);
                if (fabs(v) < 1e-4) v = 1e-4;
                const uint16_t is = row == 3 ? 0 : row == 4 && c == 9 ? 0xfe00 : to_half(v);
                x[half_at(row, c)] = is;
            }
        const cpl_amx_halves h = {x, WIDTH, from_scale, shift, a, WIDTH / 64, row_scale, row_scale16, 4};
        (activated_rows ? k->quantise_activated : k->quantise_halves)(&h, 0, 7);
        (activated_rows ? k->quantise_activated : k->quantise_halves)(&h, 7, ROWS);
        for (uint32_t row = 0; row < ROWS; row++) {
            if (row == 4) {
                assert_true(isnan(row_scale[row]));
                continue;
            }
            if (row == 3 && !activated_rows) assert_true(row_scale[row] == 0);
            assert_true(fabs(from_half((uint16_t)row_scale16[row]) - 4 * (double)row_scale[row]) <=
                        0.001 * row_scale[row] * 4);
            for (uint32_t c = 0; c < WIDTH; c++) {
                const double q = quantised(a, WIDTH / 64, row, c, cpl_amx_order_halves, activated_rows);
                const double is = q * row_scale[row] - (activated_rows ? shift : 0);
                assert_true(fabs(is - from_half(x[half_at(row, c)])) < 0.6 * row_scale[row] + 1e-6);
            }
        }
    }
    free(x);
    free(row_scale);
    free(row_scale16);
    free(from_scale);
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
