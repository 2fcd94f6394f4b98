/* SPDX-License-Identifier: Apache-2.0 */
/* test_cuda_host.c - what the cuda backend does before a launch, on any machine: the order of columns, size classes,
 * and int8 and int4 weights: a product made of them, as the device makes it, is near the exact one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "backend/cuda/eight.h"
#include "backend/cuda/order.h"
#include "cuda/random_model.h"

static void columns_are_permuted(void **state)
{
    (void)state;
    uint64_t context = 0, middle = 0;
    for (uint32_t i = 0; i < 32; i++) context |= 1ull << cpl_cuda_context_column(i);
    for (uint32_t i = 0; i < 16; i++) middle |= 1ull << cpl_cuda_middle_column(i);
    assert_int_equal(context, 0xffffffffull);
    assert_int_equal(middle, 0xffffull);
}

static void size_classes_hold_what_they_are_for(void **state)
{
    (void)state;
    uint32_t classes = 0, last = 0;
    for (uint32_t n = 1; n <= 70000; n++) {
        const uint32_t b = cpl_cuda_bound(n, 65536);
        assert_true(n > 65536 ? b == 65536 : b >= n);
        assert_true(b >= last);
        if (n > 16 && n <= 65536) assert_true(b <= n + n / 4 + 4);
        classes += b != last;
        last = b;
    }
    assert_in_range(classes, 30, 64); /* as many graphs as a session keeps */
    for (uint32_t n = 1; n <= 512; n++) {
        const uint32_t together = cpl_cuda_heads_together(n);
        assert_true(together == 1 || together * n <= 128);
    }
}

/* What fp32 says of one row: w x + b. */
static double exact(const cpl_tensor *w, const cpl_tensor *b, uint32_t n, const float *x, uint32_t k, float *row)
{
    float bias;
    double sum;
    cpl_tensor_read_f32(w, (uint64_t)n * k, k, row);
    cpl_tensor_read_f32(b, n, 1, &bias);
    sum = bias;
    for (uint32_t i = 0; i < k; i++) sum += (double)row[i] * x[i];
    return sum;
}

/* Relative error over the rows of one matrix of what the device computes: x recentred (mul, add given), rounded to int8
 * by its largest, exact sums, or x as it is. */
static double error_of(const cpl_cuda_fold *f, cpl_fold_matrix which, const cpl_tensor *w, const cpl_tensor *b,
                       uint32_t rows, uint32_t k, const float *x, const float *mul, const float *add)
{
    float *row = malloc(k * sizeof *row), *u = malloc(k * sizeof *u), most = 0, scale, bias;
    int8_t *q = malloc(3ul * k);
    double wrong = 0, all = 0;
    for (uint32_t i = 0; i < k; i++) {
        u[i] = mul ? fmaf(x[i], mul[i], add[i]) : x[i];
        most = fmaxf(most, fabsf(u[i]));
    }
    for (uint32_t n = 0; n < rows; n++) {
        cpl_cuda_fold_column(f, 0, which, n, q, &scale, &bias, row);
        double sum = 0;
        for (uint32_t i = 0; i < k; i++)
            sum += (double)q[i] * (mul ? rint((double)u[i] * 127 / (double)most) * (double)most / 127 : (double)u[i]);
        const double got = sum * scale + bias, want = exact(w, b, n, x, k, row);
        wrong += (got - want) * (got - want);
        all += want * want;
    }
    free(row);
    free(u);
    free(q);
    return sqrt(wrong / all);
}

static void products_of_eight_bits_are_near_the_exact_ones(void **state)
{
    (void)state;
    const uint64_t seed = 20261122;
    cpl_random_model m;
    cpl_arch arch = cpl_minilm_arch(1);
    arch.layers = 1;
    arch.vocab = 500;
    print_message("seed %llu\n", (unsigned long long)seed);
    assert_true(cpl_random_model_make(&m, &arch, 512, seed));
    const cpl_layer *y = &m.model.weights.layers[0];
    const uint32_t h = arch.hidden, inner = arch.intermediate;
    float *x = malloc(inner * sizeof *x), *fold = malloc(4ul * h * sizeof *fold);
    uint64_t random = seed;
    for (int four_bits = 0; four_bits < 2; four_bits++) {
        cpl_error err;
        cpl_cuda_fold *f;
        assert_int_equal(cpl_cuda_fold_open(&f, &m.model, four_bits, &err), CPL_OK);
        for (uint32_t i = 0; i < h; i++) x[i] = cpl_random_normal(&random);
        cpl_cuda_fold_input(f, 0, CPL_FOLD_LAYER, fold, fold + h);
        cpl_cuda_fold_input(f, 0, CPL_FOLD_NORMED, fold + 2 * h, fold + 3 * h);
        const double q = error_of(f, CPL_FOLD_Q, &y->q_weight, &y->q_bias, h, h, x, fold, fold + h);
        const double up = error_of(f, CPL_FOLD_UP, &y->up_weight, &y->up_bias, inner, h, x, fold + 2 * h, fold + 3 * h);
        for (uint32_t i = 0; i < inner; i++) { /* what an activation gives */
            const float v = cpl_random_normal(&random);
            x[i] = 0.5f * v * (1 + erff(v * 0.70710678f));
        }
        const double down = error_of(f, CPL_FOLD_DOWN, &y->down_weight, &y->down_bias, h, inner, x, NULL, NULL);
        print_message("%s: relative error q %.2e, up %.2e, down %.2e\n", four_bits ? "int4" : "int8", q, up, down);
        assert_true(q < 0.03 && up < 0.03 && down < (four_bits ? 0.15 : 0.015));
        assert_true(!four_bits || down > 0.02); /* 4 bits were really used */
        cpl_cuda_fold_close(f);
    }
    free(x);
    free(fold);
    cpl_random_model_free(&m);
}

/* What the device reads back (nibble x by - less) is what was packed. */
static void four_bits_are_packed(void **state)
{
    enum { K = 160 };
    int8_t q[3 * K];
    uint8_t nibbles[K / 2], groups[2 * 3], *by = (uint8_t *)q + K, *less = by + K;
    (void)state;
    assert_int_equal(cpl_cuda_four_groups(K), 3);
    for (uint32_t g = 0; g < 3; g++) {
        by[g] = (uint8_t)(1 + 7 * g);
        less[g] = (uint8_t)(by[g] * (6 + g));
    }
    for (uint32_t i = 0; i < K; i++) q[i] = (int8_t)((int)(i * 7 % 16) * by[i / 64] - less[i / 64]);
    memset(nibbles, 0xff, sizeof nibbles);
    cpl_cuda_pack_four(q, K, nibbles, groups);
    for (uint32_t i = 0; i < K; i++) {
        const uint8_t *g = groups + i / 64 * 2;
        assert_int_equal((nibbles[i / 2] >> i % 2 * 4 & 15) * g[0] - g[1], q[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_are_permuted),
        cmocka_unit_test(four_bits_are_packed),
        cmocka_unit_test(size_classes_hold_what_they_are_for),
        cmocka_unit_test(products_of_eight_bits_are_near_the_exact_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
