/* SPDX-License-Identifier: Apache-2.0 */
/* test_int8.c - the int8 kernels of every ISA this machine runs.
 *
 *     test_int8 [--bench] [--seed N]
 *
 * Quantised rows must be those of a plain formula, and products the exact integer sums, scaled: without an activation
 * function the very same bits on every ISA, with one within the activation's own error. Ragged sizes by seed, every
 * buffer ending at a page that may not be touched, extremes: all-equal rows, zero rows (scale 0), denormals, largest
 * floats, infinities and NaN, sums at the ends of their range. A row alone, panel by panel, must have the bits it has
 * in company. --bench times a 384-wide model's shapes beside the int8 peak. */
#include <float.h>
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

/* Memory whose end is at a guard page. */
typedef struct guarded {
    void *at;
    size_t bytes;
    char *base;
} guarded;

static guarded take(size_t n)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = (n + page - 1) / page * page + page;
    char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p + bytes - page, page, PROT_NONE)) {
        perror("mmap");
        exit(1);
    }
    return (guarded){p + bytes - page - n, bytes, p};
}

static guarded take_floats(size_t n, float lo, float hi)
{
    guarded g = take(n * sizeof(float));
    for (size_t i = 0; i < n; i++) ((float *)g.at)[i] = uniform(lo, hi);
    return g;
}

static void give(guarded *g) { munmap(g->base, g->bytes); }

static size_t span(size_t rows, size_t n, size_t ld) { return rows ? (rows - 1) * ld + n : 0; }

static int value_at(const cpl_kernels *k, const void *row, size_t i)
{
    int16_t wide;
    if (k->i8_bytes == 2) {
        memcpy(&wide, (const char *)row + 2 * i, sizeof wide);
        return wide - k->i8_zero;
    }
    return k->i8_zero ? ((const uint8_t *)row)[i] - k->i8_zero : ((const int8_t *)row)[i];
}

/* ---- quantised rows ---------------------------------------------------------------------------------------------- */

static void spoil(float *x, uint32_t n, int kind)
{
    const float same = uniform(-3, 3);
    for (uint32_t i = 0; i < n; i++) {
        if (kind == 1) x[i] = same;
        if (kind == 2) x[i] = i % 2 ? 0.0f : -0.0f;
        if (kind == 3) x[i] *= 1e-42f; /* denormals */
        if (kind == 4) x[i] *= FLT_MAX / 4;
        if (kind == 5) x[i] *= 1e-35f;
    }
    if (kind == 6) x[between(0, n - 1)] = INFINITY;
    if (kind == 7) x[between(0, n - 1)] = -NAN;
    if (kind == 8) x[between(0, n - 1)] = -1e4f; /* an outlier */
}

static void check_row(const cpl_kernels *k, const float *x, const void *q, float scale, uint32_t n)
{
    float most = 0;
    int finite = 1;
    for (uint32_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) finite = 0;
        most = fmaxf(most, fabsf(x[i]));
    }
    const size_t elements = cpl_i8_row_bytes(k, n) / k->i8_bytes;
    if (!finite)
        CHECK(isnan(scale), "%s quantise: scale %g of a row that isn't finite", k->i8_isa, (double)scale);
    else if (most <= 1e-36f)
        CHECK(scale == 0, "%s quantise: scale %g of a row of nothing", k->i8_isa, (double)scale);
    else
        CHECK(scale == most / 127.0f, "%s quantise: scale %g, most %g", k->i8_isa, (double)scale, (double)most);
    for (size_t i = 0; i < elements; i++) {
        const float want = i < n && finite && most > 1e-36f ? nearbyintf(x[i] * (127.0f / most)) : 0;
        const int got = value_at(k, q, i);
        CHECK((float)got == want && abs(got) <= 127, "%s quantise n %u at %zu: %d, expected %g", k->i8_isa, n, i, got,
              (double)want);
    }
}

static void check_quantise(const cpl_kernels *k)
{
    for (int round = 0; round < 240; round++) {
        const uint32_t rows = between(1, 4), n = between(1, round % 4 ? 140 : 1600);
        const size_t ld = n + between(0, 5), ldq = cpl_i8_row_bytes(k, n) + 2 * between(0, 9);
        guarded x = take_floats(span(rows, n, ld), -2, 2), q = take(span(rows, cpl_i8_row_bytes(k, n), ldq));
        guarded scale = take(rows * sizeof(float));
        float *xs = x.at, *scales = scale.at;
        for (uint32_t r = 0; r < rows; r++) spoil(xs + r * ld, n, round % 10);
        k->quantise_i8(q.at, ldq, scales, xs, rows, n, ld);
        for (uint32_t r = 0; r < rows; r++) check_row(k, xs + r * ld, (char *)q.at + r * ldq, scales[r], n);
        give(&x);
        give(&q);
        give(&scale);
    }
}

/* ---- products ---------------------------------------------------------------------------------------------------- */

typedef struct product {
    cpl_gemm_i8 g;
    guarded x, w, q, row_scale, b, scale, start, bias, residual, c;
    size_t ldx;
} product;

static product make_product(const cpl_kernels *k, uint32_t m, uint32_t n, uint32_t kk, cpl_epilogue e, int kind,
                            int in_place)
{
    product p = {.ldx = kk + between(0, 5)};
    const size_t panels = cpl_gemm_i8_panels(k, n), padded = panels * k->i8_nr, row = cpl_i8_row_bytes(k, kk);
    const size_t ldq = kind < 0 ? cpl_row_stride((row + 3) / 4) * 4 : row + 2 * between(0, 9);
    const size_t ldc = kind < 0 ? cpl_row_stride(n) : n + between(0, 9);
    p.x = take_floats(span(m, kk, p.ldx), -1, 1);
    p.w = take_floats((size_t)n * kk, -1, 1);
    p.q = take(span(m, row, ldq));
    p.row_scale = take(m * sizeof(float));
    p.b = take(cpl_gemm_i8_packed_bytes(k, n, kk));
    p.scale = take(padded * sizeof(float));
    p.start = take(padded * sizeof(int32_t));
    p.bias = take(padded * sizeof(float));
    float *x = p.x.at, *w = p.w.at, *bias = p.bias.at;
    for (uint32_t i = 0; kind > 0 && i < m; i++) spoil(x + i * p.ldx, kk, i % 3 ? 0 : kind);
    for (uint32_t j = 0; kind > 0 && j < n; j++) spoil(w + (size_t)j * kk, kk, j % 3 ? 0 : kind % 4);
    const cpl_packed_i8 to = {p.b.at, p.scale.at, p.start.at};
    for (uint32_t j = 0; j < n; j++) {
        cpl_gemm_i8_pack(k, &to, j, kk, w + (size_t)j * kk);
        bias[j] = uniform(-1, 1);
    }
    k->quantise_i8(p.q.at, ldq, p.row_scale.at, x, m, kk, p.ldx);
    p.residual = take_floats(span(m, n, ldc), -3, 3);
    p.c = take(span(m, n, ldc) * sizeof(float));
    for (size_t i = 0; i < span(m, n, ldc); i++) ((float *)p.c.at)[i] = in_place ? ((float *)p.residual.at)[i] : 777.0f;
    p.g = (cpl_gemm_i8){.a = p.q.at,
                        .lda = ldq,
                        .row_scale = p.row_scale.at,
                        .b = to,
                        .bias = e == CPL_EPILOGUE_NONE ? NULL : bias,
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
    guarded *all[] = {&p->x, &p->w, &p->q, &p->row_scale, &p->b, &p->scale, &p->start, &p->bias, &p->residual, &p->c};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) give(all[i]);
}

static float scale_of(const float *x, uint32_t n, float *inverse)
{
    float most = 0;
    for (uint32_t i = 0; i < n; i++) most = fmaxf(most, fabsf(x[i]));
    *inverse = most > 1e-36f ? 127.0f / most : 0;
    return most > 1e-36f ? most / 127.0f : 0;
}

/* Everything from the floats again, sums in 64 bits. Activations: 2e-6 (1 + |y|), else the same bits. */
static void check_product(const cpl_kernels *k, const product *p)
{
    const cpl_gemm_i8 *g = &p->g;
    for (uint32_t i = 0; i < g->m; i++) {
        const float *x = (const float *)p->x.at + i * p->ldx;
        float x_inverse, w_inverse;
        const float x_scale = scale_of(x, g->k, &x_inverse);
        for (uint32_t j = 0; j < g->n; j++) {
            const float *w = (const float *)p->w.at + (size_t)j * g->k;
            const float w_scale = scale_of(w, g->k, &w_inverse);
            int64_t sum = 0;
            for (uint32_t q = 0; q < g->k; q++) sum += lrintf(x[q] * x_inverse) * lrintf(w[q] * w_inverse);
            const float bias = g->epilogue == CPL_EPILOGUE_NONE ? 0 : ((const float *)p->bias.at)[j];
            const float y = fmaf((float)sum * x_scale, w_scale, bias), got = g->c[i * g->ldc + j];
            double want = y;
            if (g->epilogue == CPL_EPILOGUE_GELU) want = 0.5 * y * erfc(-y * M_SQRT1_2);
            if (g->epilogue == CPL_EPILOGUE_GELU_TANH)
                want = 0.5 * y * (1 + tanh(sqrt(2 / M_PI) * (y + 0.044715 * y * y * y)));
            if (g->epilogue == CPL_EPILOGUE_TANH) want = tanh(y);
            if (g->epilogue == CPL_EPILOGUE_RELU) want = fmaxf(y, 0);
            if (g->epilogue == CPL_EPILOGUE_RESIDUAL) want = y + ((const float *)p->residual.at)[i * g->ldr + j];
            const int curved = g->epilogue >= CPL_EPILOGUE_GELU && g->epilogue <= CPL_EPILOGUE_TANH &&
                               g->epilogue != CPL_EPILOGUE_RELU;
            if (curved)
                CHECK(fabs(got - want) <= 2e-6 * (1 + fabs(want)), "%s gemm epilogue %d at %u,%u: %.9g, expected %.9g",
                      k->i8_isa, (int)g->epilogue, i, j, (double)got, want);
            else
                CHECK(got == want, "%s gemm %ux%ux%u epilogue %d at %u,%u: %.9g, expected %.9g", k->i8_isa, g->m, g->n,
                      g->k, (int)g->epilogue, i, j, (double)got, want);
        }
        for (size_t j = g->n; g->epilogue != CPL_EPILOGUE_RESIDUAL && i + 1 < g->m && j < g->ldc; j++)
            CHECK(g->c[i * g->ldc + j] == 777.0f, "%s gemm wrote beyond column %u", k->i8_isa, g->n);
    }
}

static void check_row_bits(const cpl_kernels *k, const product *p)
{
    const uint32_t row = between(0, p->g.m - 1);
    guarded c = take(p->g.n * sizeof(float));
    cpl_gemm_i8 one = p->g;
    one.a = (const char *)one.a + row * one.lda;
    one.row_scale += row;
    one.residual = (const float *)p->residual.at + row * one.ldr;
    one.c = c.at;
    one.m = 1;
    for (uint32_t panel = p->g.panel_end; panel-- > 0;) {
        one.panel_begin = panel;
        one.panel_end = panel + 1;
        k->gemm_i8(k, &one);
    }
    CHECK(!memcmp(c.at, p->g.c + row * p->g.ldc, p->g.n * sizeof(float)), "%s gemm: row %u of %u differs alone",
          k->i8_isa, row, p->g.m);
    give(&c);
}

static void check_gemm(const cpl_kernels *k)
{
    for (int round = 0; round < 140; round++) {
        const cpl_epilogue e = (cpl_epilogue)(round % 7);
        const uint32_t m = between(1, 40), n = between(1, 100), kk = between(1, round % 5 ? 90 : 400);
        const int in_place = e == CPL_EPILOGUE_RESIDUAL && round % 2;
        product p = make_product(k, m, n, kk, e, round % 4, in_place);
        if (in_place) { /* the check reads what was there before */
            k->gemm_i8(k, &p.g);
            product q = p;
            q.g.residual = p.residual.at;
            check_product(k, &q);
        } else {
            k->gemm_i8(k, &p.g);
            check_product(k, &p);
        }
        check_row_bits(k, &p);
        free_product(&p);
    }
}

/* Sums at the ends of their range: all values alike, so every quantised value is +-127, at the largest k. */
static void check_range(const cpl_kernels *k)
{
    for (int sign = -1; sign <= 1; sign += 2) {
        product p = make_product(k, 2, 3, CPL_I8_K_MAX, CPL_EPILOGUE_NONE, -1, 0);
        float *x = p.x.at, *w = p.w.at;
        for (size_t i = 0; i < span(2, CPL_I8_K_MAX, p.ldx); i++) x[i] = 0.5f;
        for (size_t i = 0; i < 3ul * CPL_I8_K_MAX; i++) w[i] = (float)sign * 0.25f;
        for (uint32_t j = 0; j < 3; j++) cpl_gemm_i8_pack(k, &p.g.b, j, CPL_I8_K_MAX, w + (size_t)j * CPL_I8_K_MAX);
        k->quantise_i8(p.q.at, p.g.lda, p.row_scale.at, x, 2, CPL_I8_K_MAX, p.ldx);
        k->gemm_i8(k, &p.g);
        check_product(k, &p);
        free_product(&p);
    }
}

/* A row that isn't finite gives NaN, and harms no other row. */
static void check_not_finite(const cpl_kernels *k)
{
    product p = make_product(k, 5, 40, 70, CPL_EPILOGUE_BIAS, 0, 0);
    float *x = p.x.at;
    x[2 * p.ldx + 3] = NAN;
    x[4 * p.ldx] = -INFINITY;
    k->quantise_i8(p.q.at, p.g.lda, p.row_scale.at, x, 5, 70, p.ldx);
    k->gemm_i8(k, &p.g);
    for (uint32_t i = 0; i < 5; i++)
        for (uint32_t j = 0; j < 40; j++)
            CHECK(!isnan(p.g.c[i * p.g.ldc + j]) == (i != 2 && i != 4), "%s gemm of rows with NaN: row %u", k->i8_isa,
                  i);
    free_product(&p);
}

/* ---- bench ------------------------------------------------------------------------------------------------------- */

static void bench_gemm(const cpl_kernels *k, cpl_isa isa, uint32_t m, uint32_t n, uint32_t kk, cpl_epilogue e)
{
    product p = make_product(k, m, n, kk, e, -1, 0);
    double best = 0, rate = 0;
    for (int round = 0; round < 5; round++) {
        const double before = cpl_peak_int8(isa, 300);
        const uint64_t start = cpl_clock_thread_cpu_ns();
        uint32_t runs = 0;
        for (; cpl_clock_thread_cpu_ns() - start < 5000000; runs++) k->gemm_i8(k, &p.g);
        const double each = (double)(cpl_clock_thread_cpu_ns() - start) * 1e-9 / runs;
        const double after = cpl_peak_int8(isa, 300), ops = 2.0 * m * n * kk / each;
        best = fmax(best, ops / fmax(before, after));
        rate = fmax(rate, ops);
    }
    printf("  %-14s gemm %3ux%4ux%4u epilogue %d %8.1f GOP/s  %.3f of the %s peak beside\n", k->i8_isa, m, n, kk,
           (int)e, rate * 1e-9, best, cpl_peak_int8_name(isa));
    free_product(&p);
}

static void bench_isa(const cpl_kernels *k, cpl_isa isa)
{
    bench_gemm(k, isa, 84, 384, 384, CPL_EPILOGUE_BIAS);
    bench_gemm(k, isa, 84, 1536, 384, CPL_EPILOGUE_BIAS);
    bench_gemm(k, isa, 84, 1536, 384, CPL_EPILOGUE_GELU);
    bench_gemm(k, isa, 84, 384, 1536, CPL_EPILOGUE_RESIDUAL);
    bench_gemm(k, isa, 1, 384, 384, CPL_EPILOGUE_BIAS);
}

int main(int argc, char **argv)
{
    int with_bench = 0;
    uint64_t seed = (uint64_t)time(NULL);
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--bench")) {
            with_bench = 1;
        } else if (i + 1 < argc && !strcmp(argv[i], "--seed")) {
            seed = strtoull(argv[++i], NULL, 0);
        } else {
            fprintf(stderr, "usage: %s [--bench] [--seed N]\n", argv[0]);
            return 2;
        }
    }
    cpl_cpu cpu;
    cpl_cpu_detect(&cpu);
    printf("seed %llu; %s\n", (unsigned long long)seed, cpu.name);
    for (int isa = 0; isa < CPL_ISA_COUNT; isa++) {
        cpl_kernels k;
        if (!cpl_isa_runs((cpl_isa)isa, &cpu)) continue;
        cpl_kernels_choose(&k, (cpl_isa)isa);
        random_state = seed;
        printf("%s (int8 kernels of %s)\n", cpl_isa_name((cpl_isa)isa), k.i8_isa);
        if (with_bench) {
            bench_isa(&k, (cpl_isa)isa);
            continue;
        }
        check_quantise(&k);
        check_gemm(&k);
        check_range(&k);
        check_not_finite(&k);
    }
    if (failures) printf("%d checks failed\n", failures);
    return failures != 0;
}
