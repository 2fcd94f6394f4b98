/* SPDX-License-Identifier: Apache-2.0 */
/* test_fold.c - int8's folded matrices against the stored ones: before quantising they must give the same outputs for
 * any input, on every ISA; quantised, weights are the nearest steps and the bias takes their error out where it says.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backend/native/calibrate.h"
#include "backend/native/fold.h"
#include "base/error.h"
#include "kernel/cpu.h"

static const char *const models[] = {"tests/golden/models/cross-encoder", "tests/golden/models/cross-encoder-3-labels",
                                     "tests/golden/models/embedder-cls", "tests/golden/models/embedder-mean",
                                     "tests/golden/models/embedder-max"};

typedef struct fixture {
    cpl_model *model;
    cpl_kernels kernels;
    cpl_fold *fold;
    uint64_t random;
    float *row, *exact, *mul, *add;
    double *x, *y, *z, *moved;
    int8_t *q;
    uint32_t wide;
} fixture;

static void check(cpl_status st, const cpl_error *err)
{
    if (st) fail_msg("%s", err->what);
}

static double uniform(fixture *f) /* -1 to 1 */
{
    f->random = f->random * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)f->random / 9.3e18;
}

static void open_fixture(fixture *f, const char *dir, cpl_isa isa)
{
    cpl_error err;
    *f = (fixture){.random = 7};
    check(cpl_model_open(&f->model, dir, &err), &err);
    cpl_kernels_choose(&f->kernels, isa);
    check(cpl_fold_open(&f->fold, f->model, &f->kernels, &err), &err);
    const cpl_arch *a = &f->model->arch;
    f->wide = a->intermediate > a->hidden ? a->intermediate : a->hidden;
    float **floats[] = {&f->row, &f->exact, &f->mul, &f->add};
    double **doubles[] = {&f->x, &f->y, &f->z, &f->moved};
    for (int i = 0; i < 4; i++) *floats[i] = malloc(f->wide * sizeof(float));
    for (int i = 0; i < 4; i++) *doubles[i] = malloc(f->wide * sizeof(double));
    f->q = malloc(f->wide);
}

static void close_fixture(fixture *f)
{
    void *all[] = {f->row, f->exact, f->mul, f->add, f->x, f->y, f->z, f->moved, f->q};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) free(all[i]);
    cpl_fold_close(f->fold);
    cpl_model_close(f->model);
}

static double dot(const float *w, const double *x, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += w[i] * x[i];
    return sum;
}

/* What the stored matrix gives. */
static double stored(fixture *f, uint32_t layer, cpl_fold_matrix m, uint32_t column, const double *x)
{
    const cpl_fold_tensors t = cpl_fold_tensors_of(f->model, layer, m);
    float b = 0;
    cpl_tensor_read_f32(t.weight, (size_t)column * t.weight->shape[1], t.weight->shape[1], f->exact);
    if (t.bias->data) cpl_tensor_read_f32(t.bias, column, 1, &b);
    return dot(f->exact, x, t.weight->shape[1]) + b;
}

static double folded(fixture *f, uint32_t layer, cpl_fold_matrix m, uint32_t column, const double *moved)
{
    float bias;
    cpl_fold_exact(f->fold, layer, m, column, f->row, &bias);
    return dot(f->row, moved, cpl_fold_tensors_of(f->model, layer, m).weight->shape[1]) + bias;
}

static void draw(fixture *f, uint32_t layer, cpl_fold_matrix m)
{
    const cpl_fold_site site = cpl_fold_site_of(m);
    const uint32_t n = cpl_fold_tensors_of(f->model, layer, m).weight->shape[1];
    if (site != CPL_FOLD_INNER) cpl_fold_input(f->fold, layer, site, f->mul, f->add);
    for (uint32_t i = 0; i < n; i++) {
        f->x[i] = 3 * uniform(f);
        f->moved[i] = site == CPL_FOLD_INNER ? f->x[i] - cpl_fold_floor(f->fold) : f->x[i] * f->mul[i] + f->add[i];
    }
}

static void near(double got, double want, const char *what, int m)
{
    if (!(fabs(got - want) <= 2e-5 * (1 + fabs(want))))
        fail_msg("%s, matrix %d: %.9g, expected %.9g", what, m, got, want);
}

/* q, k, up and down by themselves; v and out one after the other, since v's columns carry out's scales. */
static void same_outputs(fixture *f)
{
    static const cpl_fold_matrix alone[] = {CPL_FOLD_Q, CPL_FOLD_K, CPL_FOLD_UP, CPL_FOLD_DOWN};
    const cpl_arch *a = &f->model->arch;
    for (uint32_t l = 0; l < a->layers; l++) {
        for (size_t i = 0; i < sizeof alone / sizeof alone[0]; i++) {
            draw(f, l, alone[i]);
            for (uint32_t n = 0; n < (alone[i] == CPL_FOLD_UP ? a->intermediate : a->hidden); n++)
                near(folded(f, l, alone[i], n, f->moved), stored(f, l, alone[i], n, f->x), "folded", (int)alone[i]);
        }
        draw(f, l, CPL_FOLD_V);
        for (uint32_t n = 0; n < a->hidden; n++) {
            f->y[n] = stored(f, l, CPL_FOLD_V, n, f->x);
            f->z[n] = folded(f, l, CPL_FOLD_V, n, f->moved);
        }
        for (uint32_t n = 0; n < a->hidden; n++)
            near(folded(f, l, CPL_FOLD_OUT, n, f->z), stored(f, l, CPL_FOLD_OUT, n, f->y), "v then out", CPL_FOLD_OUT);
    }
}

static void rounded(fixture *f)
{
    const cpl_arch *a = &f->model->arch;
    const double floor = cpl_fold_floor(f->fold);
    for (uint32_t l = 0; l < a->layers; l++) {
        for (int m = 0; m < CPL_FOLD_MATRICES; m++) {
            const cpl_tensor *t = cpl_fold_tensors_of(f->model, l, (cpl_fold_matrix)m).weight;
            for (uint32_t n = 0; n < t->shape[0]; n++) {
                float scale, bias, exact_bias;
                double at_zero = 0;
                cpl_fold_exact(f->fold, l, (cpl_fold_matrix)m, n, f->exact, &exact_bias);
                cpl_fold_column(f->fold, l, (cpl_fold_matrix)m, n, f->row, f->q, &scale, &bias);
                for (uint32_t i = 0; i < t->shape[1]; i++) {
                    assert_true(fabsf(f->q[i] * scale - f->exact[i]) <= 0.5001f * scale);
                    at_zero += (double)f->q[i] * scale * -floor;
                }
                if (m != CPL_FOLD_DOWN) {
                    assert_true(bias == exact_bias);
                    continue;
                }
                memset(f->x, 0, f->wide * sizeof *f->x);
                near(at_zero + bias, stored(f, l, CPL_FOLD_DOWN, n, f->x), "inner rows of 0", m);
            }
        }
    }
}

static void each_model(void (*fn)(fixture *))
{
    cpl_cpu cpu;
    cpl_cpu_detect(&cpu);
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        for (int isa = 0; isa < CPL_ISA_COUNT; isa++) {
            fixture f;
            if (!cpl_isa_runs((cpl_isa)isa, &cpu)) continue;
            open_fixture(&f, models[i], (cpl_isa)isa);
            fn(&f);
            close_fixture(&f);
        }
    }
}

static void folding_changes_nothing(void **state)
{
    (void)state;
    each_model(same_outputs);
}

static void quantising_is_nearest(void **state)
{
    (void)state;
    each_model(rounded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folding_changes_nothing),
        cmocka_unit_test(quantising_is_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
