/* SPDX-License-Identifier: Apache-2.0 */
/* functions_f32.c - GELU, its tanh form, ReLU and tanh over vectors of every length up to 200, with values around
 * each approximation's seams and from denormal to infinite. NaN stays NaN. GELU of -inf may be 0 or NaN. */
#include <math.h>
#include <string.h>

#include "check.h"

typedef void elementwise(float *, size_t);

static void check_function(check *c, elementwise *fn, double (*reference)(double), double absolute, double relative)
{
    static const float special[] = {0.0f,      -0.0f,  1e-45f,   -1e-45f,  1e-38f,     -1e-38f,     1e-30f,
                                    3e38f,     -3e38f, 100.0f,   -100.0f,  5.2734375f, -5.2734375f, 5.5154f,
                                    3.9f,      -3.9f,  INFINITY, -20.0f,   20.0f,      -19.99f,     -88.0f,
                                    -INFINITY, NAN,    -NAN,     -5.5154f, 10.0f};
    static const float widths[] = {0.01f, 1, 6, 40};
    const uint32_t n = check_between(c, 1, 200);
    const float wide = widths[c->round % 4];
    float *x = check_take_floats(c, n, -wide, wide), *y = check_take(c, n * sizeof(float));
    if (c->round % 4 == 3)
        for (uint32_t i = 0; i < n; i += 7) x[i] = special[check_bits(c) % (sizeof special / sizeof special[0])];
    if (c->round % 4 == 0) check_spoil(c, x, n, CHECK_DENORMAL);
    memcpy(y, x, n * sizeof(float));
    fn(y, n);
    for (uint32_t i = 0; i < n; i++) {
        const double at = x[i], want = reference(at);
        if (isinf(at) && isnan(want)) {
            CHECK_NEAR(c, isnan(y[i]) ? 0 : y[i], 0, absolute, "of %g", at);
            continue;
        }
        CHECK_NEAR(c, y[i], want, absolute + relative * fabs(want), "of %.9g", at);
    }
}

/* The rational GELU is the coarser one (math_avx2.h). */
static double gelu_absolute(const cpl_kernels *k)
{
    return !strcmp(k->isa, "avx2") || !strncmp(k->isa, "neon", 4) ? 1.5e-6 : 6e-7;
}

static cpl_kernels right;

#define FUNCTION(slot, reference, absolute, relative, text)                                                            \
    static void round_of_##slot(check *c, uint32_t round)                                                              \
    {                                                                                                                  \
        (void)round;                                                                                                   \
        check_function(c, c->k->slot, reference, absolute, relative);                                                  \
    }                                                                                                                  \
    static void off_##slot(float *x, size_t n)                                                                         \
    {                                                                                                                  \
        right.slot(x, n);                                                                                              \
        for (size_t i = 0; i < n; i++) x[i] += 4e-6f * (1 + fabsf(x[i]));                                              \
    }                                                                                                                  \
    static void install_off_##slot(cpl_kernels *k)                                                                     \
    {                                                                                                                  \
        right = *k;                                                                                                    \
        k->slot = off_##slot;                                                                                          \
    }                                                                                                                  \
    static void on_##slot(float *x, size_t n) { right.slot(x, n + 1); }                                                \
    static void install_on_##slot(cpl_kernels *k)                                                                      \
    {                                                                                                                  \
        right = *k;                                                                                                    \
        k->slot = on_##slot;                                                                                           \
    }                                                                                                                  \
    const check_case check_##slot = {                                                                                  \
        .name = #slot,                                                                                                 \
        .bound = text,                                                                                                 \
        .rounds = 400,                                                                                                 \
        .round = round_of_##slot,                                                                                      \
        .wrong = (const check_wrong[]){{"off by 4e-6", install_off_##slot},                                            \
                                       {"one value too many", install_on_##slot},                                      \
                                       {0}},                                                                           \
    };

FUNCTION(gelu_f32, check_gelu, gelu_absolute(c->k), 2.5e-7, "6e-7 (avx2, neon: 1.5e-6) + 2.5e-7 |y|")
FUNCTION(gelu_tanh_f32, check_gelu_tanh, 1e-6, 5e-7, "1e-6 + 5e-7 |y|")
FUNCTION(relu_f32, check_relu, 0, 0, "0: exact")
FUNCTION(tanh_f32, tanh, 3e-7, 0, "3e-7")
