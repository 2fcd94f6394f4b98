/* SPDX-License-Identifier: Apache-2.0 */
/* test_kerncheck.c - every kernel of every ISA this machine runs, against double precision.
 *
 *     test_kerncheck [--bench] [--seed N] [--isa NAME]
 *
 * Ragged sizes by seed, every buffer ending at a page that may not be touched, values from ordinary to extreme, a
 * stated error bound for each kernel, and the promise of kernels.h: the same bits for a row wherever it sits. --bench
 * times the shapes of a 384-wide model and gives the fraction of the FMA peak measured beside each. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "kernel/cpu.h"
#include "kernel/kernels.h"
#include "kernel/peak.h"

static uint64_t random_state;
static int failures;
static int model_strides; /* --bench: rows as far apart as the engine puts them */

static uint64_t random_bits(void) /* splitmix64 */
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint32_t between(uint32_t lo, uint32_t hi) { return lo + (uint32_t)(random_bits() % (hi - lo + 1)); }

static float uniform(float lo, float hi) { return lo + (hi - lo) * (float)(random_bits() >> 40) * 0x1p-24f; }

#define CHECK(condition, ...)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            failures++;                                                                                                \
            printf("FAILED %s: ", #condition);                                                                         \
            printf(__VA_ARGS__);                                                                                       \
            printf("\n");                                                                                              \
            if (failures > 20) exit(1);                                                                                \
        }                                                                                                              \
    } while (0)

/* ---- memory that ends at a guard page -------------------------------------------------------------------------- */

typedef struct guarded {
    float *at;
    size_t n, bytes;
    char *base;
} guarded;

static guarded take(size_t n)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = (n * sizeof(float) + page - 1) / page * page + page;
    char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p + bytes - page, page, PROT_NONE)) {
        perror("mmap");
        exit(1);
    }
    return (guarded){(float *)(void *)(p + bytes - page) - n, n, bytes, p};
}

static guarded take_random(size_t n, float lo, float hi)
{
    guarded g = take(n);
    for (size_t i = 0; i < n; i++) g.at[i] = uniform(lo, hi);
    return g;
}

static void give(guarded *g) { munmap(g->base, g->bytes); }

/* rows x n floats ld apart, the last row ending at the guard. */
static size_t span(size_t rows, size_t n, size_t ld) { return rows ? (rows - 1) * ld + n : 0; }

/* ---- reference in double ------------------------------------------------------------------------------------------
 */

static double gelu(double x) { return 0.5 * x * erfc(-x * M_SQRT1_2); }
static double gelu_tanh(double x) { return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
static double relu(double x) { return x > 0 ? x : 0; }

static double apply(cpl_epilogue e, double x, double bias, double residual)
{
    switch (e) {
    case CPL_EPILOGUE_NONE: return x;
    case CPL_EPILOGUE_BIAS: return x + bias;
    case CPL_EPILOGUE_GELU: return gelu(x + bias);
    case CPL_EPILOGUE_GELU_TANH: return gelu_tanh(x + bias);
    case CPL_EPILOGUE_RELU: return relu(x + bias);
    case CPL_EPILOGUE_TANH: return tanh(x + bias);
    case CPL_EPILOGUE_RESIDUAL: return x + bias + residual;
    }
    return NAN;
}

/* ---- GEMM
 * ------------------------------------------------------------------------------------------------------------ */

typedef struct product {
    cpl_gemm_f32 g;
    guarded a, w, packed, bias, residual, c;
} product;

static product make_product(const cpl_kernels *k, uint32_t m, uint32_t n, uint32_t kk, cpl_epilogue e, int in_place)
{
    product p = {0};
    const size_t lda = model_strides ? cpl_row_stride(kk) : kk + between(0, 9);
    const size_t ldc = model_strides ? cpl_row_stride(n) : n + between(0, 9), panels = cpl_gemm_f32_panels(k, n);
    p.a = take_random(span(m, kk, lda), -1, 1);
    p.w = take_random((size_t)n * kk, -1, 1);
    p.packed = take(cpl_gemm_f32_packed_count(k, n, kk));
    p.bias = take(panels * k->nr);
    for (uint32_t i = 0; i < n; i++) {
        cpl_gemm_f32_pack(k, p.packed.at, i, kk, p.w.at + (size_t)i * kk);
        p.bias.at[i] = uniform(-1, 1);
    }
    p.residual = take_random(span(m, n, ldc), -3, 3);
    p.c = take(span(m, n, ldc));
    for (size_t i = 0; i < p.c.n; i++) p.c.at[i] = in_place ? p.residual.at[i] : 777.0f;
    p.g = (cpl_gemm_f32){.a = p.a.at,
                         .lda = lda,
                         .b = p.packed.at,
                         .bias = e == CPL_EPILOGUE_NONE ? NULL : p.bias.at,
                         .c = p.c.at,
                         .ldc = ldc,
                         .residual = in_place ? p.c.at : p.residual.at,
                         .ldr = ldc,
                         .m = m,
                         .n = n,
                         .k = kk,
                         .panel_end = (uint32_t)panels,
                         .epilogue = e};
    return p;
}

static void free_product(product *p)
{
    guarded *all[] = {&p->a, &p->w, &p->packed, &p->bias, &p->residual, &p->c};
    for (size_t i = 0; i < 6; i++) give(all[i]);
}

/* Bound: k + 4 roundings of at most the sum of magnitudes each, through functions of slope at most 1.13, plus the
 * activations' own 1e-6 (1 + |y|). */
static void check_product(const cpl_kernels *k, const product *p, int in_place)
{
    const cpl_gemm_f32 *g = &p->g;
    for (uint32_t i = 0; i < g->m; i++) {
        for (uint32_t j = 0; j < g->n; j++) {
            double sum = 0, size = 4;
            for (uint32_t q = 0; q < g->k; q++) {
                const double x = (double)g->a[i * g->lda + q] * p->w.at[(size_t)j * g->k + q];
                sum += x;
                size += fabs(x);
            }
            const double want = apply(g->epilogue, sum, p->bias.at[j], p->residual.at[i * g->ldr + j]);
            const double bound = 1.13 * (g->k + 4.0) * 0x1p-24 * size + 1e-6 * (1 + fabs(want));
            const double got = g->c[i * g->ldc + j];
            CHECK(fabs(got - want) <= bound, "%s gemm %ux%ux%u epilogue %d at %u,%u: %g, expected %g", k->isa, g->m,
                  g->n, g->k, (int)g->epilogue, i, j, got, want);
        }
        for (size_t j = g->n; i + 1 < g->m && j < g->ldc; j++)
            CHECK(in_place || g->c[i * g->ldc + j] == 777.0f, "%s gemm wrote beyond column %u", k->isa, g->n);
    }
}

/* One row alone, one panel at a time, must give the bits it got in company. */
static void check_row_bits(const cpl_kernels *k, const product *p)
{
    const uint32_t row = between(0, p->g.m - 1);
    guarded c = take(p->g.n);
    cpl_gemm_f32 one = p->g;
    one.a += row * one.lda;
    one.residual = p->residual.at + row * one.ldr;
    one.c = c.at;
    one.m = 1;
    for (uint32_t panel = p->g.panel_end; panel-- > 0;) {
        one.panel_begin = panel;
        one.panel_end = panel + 1;
        k->gemm_f32(k, &one);
    }
    CHECK(!memcmp(c.at, p->g.c + row * p->g.ldc, p->g.n * sizeof(float)), "%s gemm: row %u of %u differs alone", k->isa,
          row, p->g.m);
    give(&c);
}

static void check_gemm(const cpl_kernels *k)
{
    for (int round = 0; round < 160; round++) {
        const cpl_epilogue e = (cpl_epilogue)(round % 7);
        const int in_place = e == CPL_EPILOGUE_RESIDUAL && round % 2;
        const uint32_t m = between(1, 40), n = between(1, 100), kk = between(1, round % 5 ? 80 : 400);
        product p = make_product(k, m, n, kk, e, in_place);
        k->gemm_f32(k, &p.g);
        check_product(k, &p, in_place);
        check_row_bits(k, &p);
        free_product(&p);
    }
}

/* ---- attention -----------------------------------------------------------------------------------------------------
 */

/* out: keys x d. Bound 2e-5: scores within 4 of 0 by (d + 3) roundings, through softmax (relative) and a mean of |v|
 * <= 1. */
static void check_attention_rows(const cpl_kernels *k, const cpl_attention_f32 *a, const float *q)
{
    double *p = malloc(a->keys * sizeof *p);
    for (uint32_t i = 0; i < a->queries; i++) {
        double max = -INFINITY, sum = 0;
        for (uint32_t j = 0; j < a->keys; j++) {
            p[j] = 0;
            for (uint32_t c = 0; c < a->head_size; c++)
                p[j] += (double)q[i * a->q_stride + c] * a->k[j * a->kv_stride + c] * a->scale;
            max = fmax(max, p[j]);
        }
        for (uint32_t j = 0; j < a->keys; j++) sum += p[j] = exp(p[j] - max);
        for (uint32_t c = 0; c < a->head_size; c++) {
            double want = 0;
            for (uint32_t j = 0; j < a->keys; j++) want += p[j] / sum * a->v[j * a->kv_stride + c];
            const double got = a->out[i * a->out_stride + c];
            CHECK(fabs(got - want) <= 2e-5, "%s attention %u keys, head size %u, at %u,%u: %g, expected %g", k->isa,
                  a->keys, a->head_size, i, c, got, want);
        }
    }
    free(p);
}

static void check_attention(const cpl_kernels *k)
{
    static const uint32_t sizes[] = {32, 64, 8, 16, 24, 40, 80, 1, 7};
    for (int round = 0; round < 45; round++) {
        const uint32_t d = sizes[round % 9], keys = between(1, round % 5 ? 90 : 300);
        const size_t stride = d + between(0, 20);
        guarded q = take_random(span(keys, d, stride), -2, 2), kk = take_random(span(keys, d, stride), -2, 2);
        guarded v = take_random(span(keys, d, stride), -1, 1), out = take(span(keys, d, stride));
        guarded scratch = take(cpl_attention_f32_scratch(k, keys, d)), one = take(d);
        cpl_attention_f32 a = {.q = q.at,
                               .k = kk.at,
                               .v = v.at,
                               .out = out.at,
                               .q_stride = stride,
                               .kv_stride = stride,
                               .out_stride = stride,
                               .queries = keys,
                               .keys = keys,
                               .head_size = d,
                               .scale = 1 / sqrtf((float)d),
                               .scratch = scratch.at};
        k->attention_f32(k, &a);
        check_attention_rows(k, &a, q.at);
        const uint32_t row = between(0, keys - 1);
        a.q += row * stride;
        a.out = one.at;
        a.queries = 1;
        k->attention_f32(k, &a);
        CHECK(!memcmp(one.at, out.at + row * stride, d * sizeof(float)), "%s attention: row %u of %u differs alone",
              k->isa, row, keys);
        a.q = q.at; /* in place */
        a.out = q.at;
        a.queries = keys;
        k->attention_f32(k, &a);
        for (uint32_t i = 0; i < keys; i++)
            CHECK(!memcmp(q.at + i * stride, out.at + i * stride, d * sizeof(float)), "%s attention: in place differs",
                  k->isa);
        guarded *all[] = {&q, &kk, &v, &out, &scratch, &one};
        for (size_t i = 0; i < 6; i++) give(all[i]);
    }
}

/* ---- rows
 * -------------------------------------------------------------------------------------------------------------- */

static void check_layernorm(const cpl_kernels *k)
{
    for (int round = 0; round < 80; round++) {
        const uint32_t rows = between(1, 4), n = between(1, round % 4 ? 100 : 800);
        const size_t ld = n + between(0, 5);
        const float shift = round % 3 ? uniform(-5, 5) : 0, epsilon = round % 2 ? 1e-12f : 1e-5f;
        guarded x = take_random(span(rows, n, ld), shift - 2, shift + 2), y = take(x.n);
        guarded gamma = take_random(n, -2, 2), beta = take_random(n, -2, 2);
        if (round % 10 == 9) /* a constant row has variance 0 */
            for (uint32_t j = 0; j < n; j++) x.at[j] = 0.5f;
        memcpy(y.at, x.at, x.n * sizeof(float));
        k->layernorm_f32(y.at, rows, n, ld, gamma.at, beta.at, epsilon);
        for (uint32_t i = 0; i < rows; i++) {
            double mean = 0, var = 0;
            for (uint32_t j = 0; j < n; j++) mean += x.at[i * ld + j] / (double)n;
            for (uint32_t j = 0; j < n; j++) var += (x.at[i * ld + j] - mean) * (x.at[i * ld + j] - mean) / n;
            if (n < 3 || (var > 0 && var < 1e-3)) continue; /* ill-conditioned: any answer within rounding of x / 0 */
            for (uint32_t j = 0; j < n; j++) {
                const double want = (x.at[i * ld + j] - mean) / sqrt(var + (double)epsilon) * gamma.at[j] + beta.at[j];
                const double bound = 2e-5 * (1 + fabs(want)); /* 1e-6 of the spread and of the shift / spread */
                const double got = y.at[i * ld + j];
                CHECK(fabs(got - want) <= bound, "%s layernorm n %u at %u: %g, expected %g", k->isa, n, j, got, want);
            }
        }
        guarded *all[] = {&x, &y, &gamma, &beta};
        for (size_t i = 0; i < 4; i++) give(all[i]);
    }
}

/* Relative error below 1e-6 + n roundings of the sum + 2e-7 times the exponent's size (the product scale (x - max) is
 * rounded once). */
static void check_softmax(const cpl_kernels *k)
{
    for (int round = 0; round < 80; round++) {
        const uint32_t rows = between(1, 4), n = between(1, round % 4 ? 70 : 700);
        const size_t ld = n + between(0, 5);
        const float wide = round % 5 ? 8.0f : 300.0f, scale = uniform(0.05f, 1);
        guarded x = take_random(span(rows, n, ld), -wide, wide), y = take(x.n);
        memcpy(y.at, x.at, x.n * sizeof(float));
        k->softmax_f32(y.at, rows, n, ld, scale);
        for (uint32_t i = 0; i < rows; i++) {
            double max = -INFINITY, sum = 0;
            for (uint32_t j = 0; j < n; j++) max = fmax(max, x.at[i * ld + j]);
            for (uint32_t j = 0; j < n; j++) sum += exp((x.at[i * ld + j] - max) * scale);
            for (uint32_t j = 0; j < n; j++) {
                const double e = (x.at[i * ld + j] - max) * scale, want = exp(e) / sum, got = y.at[i * ld + j];
                CHECK(fabs(got - want) <= want * (1e-6 + n * 0x1p-24 + 2e-7 * fabs(e)) + 2e-38,
                      "%s softmax n %u at %u: %g, expected %g", k->isa, n, j, got, want);
            }
        }
        give(&x);
        give(&y);
    }
}

typedef void elementwise(float *, size_t);

static void check_function(const cpl_kernels *k, const char *name, elementwise *fn, double (*reference)(double),
                           double absolute, double relative)
{
    static const float special[] = {0.0f,   -0.0f,   1e-45f,     -1e-45f,     1e-38f,  -1e-38f, 1e-30f, 3e38f,   -3e38f,
                                    100.0f, -100.0f, 5.2734375f, -5.2734375f, 5.5154f, 3.9f,    -3.9f,  INFINITY};
    double worst = 0;
    for (int round = 0; round < 400; round++) {
        const uint32_t n = between(1, 200);
        const float wide = round % 4 == 0 ? 0.01f : round % 4 == 1 ? 1.0f : round % 4 == 2 ? 6.0f : 40.0f;
        guarded x = take_random(n, -wide, wide), y = take(n);
        if (round % 8 == 0) x.at[between(0, n - 1)] = special[between(0, sizeof special / sizeof special[0] - 1)];
        memcpy(y.at, x.at, n * sizeof(float));
        if (round % 16 == 1) y.at[0] = x.at[0] = NAN;
        fn(y.at, n);
        for (uint32_t i = 0; i < n; i++) {
            const double want = reference(x.at[i]), got = y.at[i];
            if (isnan(x.at[i])) {
                CHECK(isnan(got) || reference == relu, "%s %s of NaN is %g", k->isa, name, got);
                continue;
            }
            if (isinf(want) && got == want) continue;
            const double error = fabs(got - want) / (absolute + relative * fabs(want));
            if (error > worst) worst = error;
            CHECK(error <= 1, "%s %s(%.9g): %.9g, expected %.9g", k->isa, name, (double)x.at[i], got, want);
        }
        give(&x);
        give(&y);
    }
    printf("  %-6s %-10s worst error %.2f of the bound %.0e + %.0e |y|\n", k->isa, name, worst, absolute, relative);
}

static void check_pools(const cpl_kernels *k)
{
    for (int round = 0; round < 40; round++) {
        const uint32_t rows = between(1, 40), n = between(1, 100);
        const size_t ld = n + between(0, 5);
        guarded x = take_random(span(rows, n, ld), -3, 3), mean = take(n), max = take(n), sum = take(n);
        k->pool_mean_f32(mean.at, x.at, rows, n, ld);
        k->pool_max_f32(max.at, x.at, rows, n, ld);
        const size_t second = (rows > 1 ? 1 : 0) * ld, third = (rows > 2 ? 2 : 0) * ld;
        k->add3_f32(sum.at, x.at, x.at + second, x.at + third, n);
        for (uint32_t j = 0; j < n; j++) {
            double s = 0, m = -INFINITY;
            for (uint32_t i = 0; i < rows; i++) {
                s += x.at[i * ld + j];
                m = fmax(m, x.at[i * ld + j]);
            }
            CHECK(fabs(mean.at[j] - s / rows) <= rows * 4e-7, "%s mean of %u rows", k->isa, rows);
            CHECK((double)max.at[j] == m, "%s maximum of %u rows", k->isa, rows);
            CHECK(sum.at[j] == (x.at[j] + x.at[second + j]) + x.at[third + j], "%s add3", k->isa);
        }
        guarded *all[] = {&x, &mean, &max, &sum};
        for (size_t i = 0; i < 4; i++) give(all[i]);
    }
}

static void check_transpose(const cpl_kernels *k)
{
    for (int round = 0; round < 60; round++) {
        const uint32_t rows = between(1, 40), columns = between(1, 40);
        const size_t ld_in = columns + between(0, 5), ld_out = rows + between(0, 5);
        guarded in = take_random(span(rows, columns, ld_in), -3, 3), out = take(span(columns, rows, ld_out));
        k->transpose_f32(out.at, ld_out, in.at, ld_in, rows, columns);
        for (uint32_t c = 0; c < columns; c++) {
            for (uint32_t r = 0; r < rows; r++)
                CHECK(out.at[c * ld_out + r] == in.at[r * ld_in + c], "%s transpose %ux%u", k->isa, rows, columns);
            for (size_t r = rows; c + 1 < columns && r < ld_out; r++)
                CHECK(out.at[c * ld_out + r] == 0, "%s transpose wrote beyond row %u", k->isa, rows);
        }
        give(&in);
        give(&out);
    }
}

static void check_all(const cpl_kernels *k)
{
    check_gemm(k);
    check_attention(k);
    check_layernorm(k);
    check_softmax(k);
    check_function(k, "gelu", k->gelu_f32, gelu, k->mr == 6 ? 1.5e-6 : 6e-7, 2.5e-7); /* math_avx2.h: the looser */
    check_function(k, "gelu_tanh", k->gelu_tanh_f32, gelu_tanh, 1e-6, 5e-7);
    check_function(k, "relu", k->relu_f32, relu, 0x1p-149, 0);
    check_function(k, "tanh", k->tanh_f32, tanh, 3e-7, 0);
    check_pools(k);
    check_transpose(k);
    CHECK(cpl_peak_fp32(CPL_ISA_REF, 100) > 0, "peak of ref");
}

/* ---- bench
 * ------------------------------------------------------------------------------------------------------------- */

typedef struct bench {
    const cpl_kernels *k;
    cpl_isa isa;
    void (*run)(const struct bench *b);
    const void *what;
    float *x;
    double flops, items;
} bench;

static void report(const bench *b, const char *name)
{
    double best = 0, peak = 0, seconds = 1e9;
    b->run(b);
    for (int round = 0; round < 12; round++) {
        const double before = cpl_peak_fp32(b->isa, 300);
        const uint64_t start = cpl_clock_thread_cpu_ns(); /* a neighbour's time slice is not the kernel's */
        uint32_t runs = 0;
        while (cpl_clock_thread_cpu_ns() - start < 10000000) {
            b->run(b);
            runs++;
        }
        const double each = (double)(cpl_clock_thread_cpu_ns() - start) * 1e-9 / runs;
        const double beside = fmax(before, cpl_peak_fp32(b->isa, 300));
        if (each < seconds) seconds = each;
        if (b->flops / each / beside > best) best = b->flops / each / beside;
        if (beside > peak) peak = beside;
    }
    if (b->flops > 0)
        printf("  %-6s %-34s %7.1f GFLOP/s  %.3f of the peak beside (%.1f)\n", b->k->isa, name,
               b->flops / seconds * 1e-9, best, peak * 1e-9);
    else
        printf("  %-6s %-34s %7.2f ns an element\n", b->k->isa, name, seconds * 1e9 / b->items);
}

static void run_gemm(const bench *b) { b->k->gemm_f32(b->k, b->what); }
static void run_attention(const bench *b) { b->k->attention_f32(b->k, b->what); }
static void run_layernorm(const bench *b) { b->k->layernorm_f32(b->x, 96, 384, 400, b->what, b->what, 1e-12f); }
static void run_softmax(const bench *b) { b->k->softmax_f32(b->x, 12, 128, 144, 0.2f); }
static void run_gelu(const bench *b) { b->k->gelu_f32(b->x, 4096); }

static void bench_isa(const cpl_kernels *k, cpl_isa isa)
{
    static const struct {
        uint32_t m, n, k;
        cpl_epilogue e;
        const char *name;
    } gemms[] = {
        {60, 384, 384, CPL_EPILOGUE_BIAS, "gemm 60x384x384"},
        {96, 384, 384, CPL_EPILOGUE_RESIDUAL, "gemm 96x384x384 residual"},
        {96, 1536, 384, CPL_EPILOGUE_BIAS, "gemm 96x1536x384"},
        {96, 1536, 384, CPL_EPILOGUE_GELU, "gemm 96x1536x384 gelu"},
        {60, 384, 1536, CPL_EPILOGUE_RESIDUAL, "gemm 60x384x1536 residual"},
        {96, 384, 1536, CPL_EPILOGUE_RESIDUAL, "gemm 96x384x1536 residual"},
        {17, 1536, 384, CPL_EPILOGUE_GELU, "gemm 17x1536x384 gelu"},
        {1, 384, 384, CPL_EPILOGUE_BIAS, "gemm 1x384x384"},
    };
    for (size_t i = 0; i < sizeof gemms / sizeof gemms[0]; i++) {
        product p = make_product(k, gemms[i].m, gemms[i].n, gemms[i].k, gemms[i].e, 0);
        report(&(bench){k, isa, run_gemm, &p.g, NULL, 2.0 * gemms[i].m * gemms[i].n * gemms[i].k, 0}, gemms[i].name);
        free_product(&p);
    }
    for (uint32_t keys = 32; keys <= 512; keys *= 4) {
        char name[40];
        guarded x = take_random(keys * 400ul, -1, 1), scratch = take(cpl_attention_f32_scratch(k, keys, 32));
        guarded out = take(keys * 400ul);
        const cpl_attention_f32 a = {x.at, x.at + 64, x.at + 128, out.at, 400,  400,
                                     400,  keys,      keys,       32,     0.2f, scratch.at};
        snprintf(name, sizeof name, "attention %u keys, head size 32", keys);
        report(&(bench){k, isa, run_attention, &a, NULL, 4.0 * keys * keys * 32, 0}, name);
        give(&x);
        give(&out);
        give(&scratch);
    }
    guarded x = take_random(96 * 400, -1, 1), gamma = take_random(384, -1, 1);
    report(&(bench){k, isa, run_layernorm, gamma.at, x.at, 0, 96 * 384}, "layernorm 96 x 384");
    report(&(bench){k, isa, run_softmax, NULL, x.at, 0, 12 * 128}, "softmax 12 x 128");
    report(&(bench){k, isa, run_gelu, NULL, x.at, 0, 4096}, "gelu");
    give(&x);
    give(&gamma);
}

int main(int argc, char **argv)
{
    const char *only = NULL;
    int with_bench = 0;
    uint64_t seed = (uint64_t)time(NULL);
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--bench")) {
            with_bench = 1;
        } else if (i + 1 < argc && !strcmp(argv[i], "--seed")) {
            seed = strtoull(argv[++i], NULL, 0);
        } else if (i + 1 < argc && !strcmp(argv[i], "--isa")) {
            only = argv[++i];
        } else {
            fprintf(stderr, "usage: %s [--bench] [--seed N] [--isa NAME]\n", argv[0]);
            return 2;
        }
    }
    cpl_cpu cpu;
    char features[160];
    cpl_cpu_detect(&cpu);
    cpl_cpu_feature_names(cpu.features, features, sizeof features);
    printf("seed %llu; %s: %s\n", (unsigned long long)seed, cpu.name, features);
    for (int isa = 0; isa < CPL_ISA_COUNT; isa++) {
        cpl_kernels k;
        if (!cpl_isa_runs((cpl_isa)isa, &cpu) || (only && strcmp(only, cpl_isa_name((cpl_isa)isa)))) continue;
        cpl_kernels_choose(&k, (cpl_isa)isa);
        random_state = seed;
        printf("%s (kernels of %s)\n", cpl_isa_name((cpl_isa)isa), k.isa);
        model_strides = with_bench;
        if (with_bench)
            bench_isa(&k, (cpl_isa)isa);
        else
            check_all(&k);
    }
    if (failures) printf("%d checks failed\n", failures);
    return failures != 0;
}
