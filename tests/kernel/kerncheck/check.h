/* SPDX-License-Identifier: Apache-2.0 */
/* check.h - the frame of kerncheck, and how a kernel gets into it.
 *
 * To add a kernel:
 *   1. In tests/kernel/kerncheck/ a file with one `const check_case check_NAME`: what bounds its error, in words; a
 *      function that makes one round of checks out of the calls below; at least one deliberately wrong kernel, which
 *      --self-test expects to be caught.
 *   2. X(NAME) in CHECK_CASES below.
 *   3. To have it timed (kerncheck --bench, `couplet bench kernel`): its rows in src/kernel/timing_*.c (timing.h).
 * Memory from check_take lies between two pages that may not be touched, flush with one of them, with a pattern up to
 * the other; it is checked and given back when the round ends. A fault, a changed pattern, a value off by more than its
 * bound: each is one failure. Random numbers come from --seed and the case's name, so a failure repeats under any
 * filter. */
#ifndef CPL_TESTS_CHECK_H
#define CPL_TESTS_CHECK_H

#include <stdbool.h>

#include "kernel/kernels.h"

#define CHECK_CASES(X)                                                                                                 \
    X(gemm_f32)                                                                                                        \
    X(attention_f32)                                                                                                   \
    X(attention_bf16)                                                                                                  \
    X(layernorm_f32)                                                                                                   \
    X(softmax_f32)                                                                                                     \
    X(gelu_f32)                                                                                                        \
    X(gelu_tanh_f32)                                                                                                   \
    X(relu_f32)                                                                                                        \
    X(tanh_f32)                                                                                                        \
    X(transpose_f32)                                                                                                   \
    X(add3_f32)                                                                                                        \
    X(add3_i8)                                                                                                         \
    X(pool_mean_f32)                                                                                                   \
    X(pool_max_f32)                                                                                                    \
    X(quantise_i8)                                                                                                     \
    X(weights_i8)                                                                                                      \
    X(magnitudes_f32)                                                                                                  \
    X(gemm_i8)                                                                                                         \
    X(unpack_i4)                                                                                                       \
    X(gemm_i4)                                                                                                         \
    X(round_bf16)                                                                                                      \
    X(gemm_bf16)                                                                                                       \
    X(gemm_fp16)

typedef struct check check;

/* A mistake put into the table on purpose. The wrong kernel may keep the right one in a static variable. */
typedef struct check_wrong {
    const char *what;
    void (*install)(cpl_kernels *k);
} check_wrong;

typedef struct check_case {
    const char *name;  /* the table's slot */
    const char *bound; /* of the error, in words; it is what check_near is given */
    uint32_t rounds;
    void (*round)(check *c, uint32_t round);
    const check_wrong *wrong;              /* ends with {0} */
    bool (*present)(const cpl_kernels *k); /* NULL: on every rung */
    const char *(*isa)(const cpl_kernels *)/* what the kernels at work call themselves; NULL: k->isa */;
} check_case;

struct check {
    const cpl_kernels *k;
    const check_case *what;
    const char *isa; /* the rung */
    uint32_t round;
    bool quiet;        /* count failures, print none */
    uint64_t random;   /* generator's state */
    double worst;      /* error in units of its bound */
    uint64_t compared; /* values */
    uint64_t failures;
    struct check_block *blocks;
    size_t count, cap;
};

#define X(name) extern const check_case check_##name;
CHECK_CASES(X)
#undef X

/* ---- random numbers --------------------------------------------------------------------------------------------- */

uint64_t check_bits(check *c);
uint32_t check_between(check *c, uint32_t lo, uint32_t hi); /* both included */
float check_uniform(check *c, float lo, float hi);

/* ---- memory ------------------------------------------------------------------------------------------------------ */

void *check_take(check *c, size_t bytes); /* zeroed, aligned to what its size is a multiple of (1, 2 or 4 bytes) */
float *check_take_floats(check *c, size_t n, float lo, float hi);
/* Elements in rows of n, ld apart, the last one ending where its data ends. */
size_t check_span(size_t rows, size_t n, size_t ld);

/* What check_spoil makes of ordinary values. */
typedef enum check_kind {
    CHECK_ORDINARY,
    CHECK_SAME,     /* all one value */
    CHECK_ZEROS,    /* of both signs */
    CHECK_DENORMAL, /* times 1e-42 */
    CHECK_TINY,     /* times 1e-35 */
    CHECK_HUGE,     /* times FLT_MAX / 4 */
    CHECK_OUTLIER,  /* one of them -1e4 */
    CHECK_INFINITY, /* one of them, either sign */
    CHECK_NAN,      /* one of them */
    CHECK_KINDS
} check_kind;
void check_spoil(check *c, float *x, size_t n, check_kind kind);

/* ---- verdicts ---------------------------------------------------------------------------------------------------- */

/* `got` stands for `want`, up to `bound`: where want is NaN so must got be; where it is infinite got must equal it. A
 * bound that isn't finite (the sum may overflow on the way) accepts anything. */
#define CHECK_NEAR(c, got, want, bound, ...)                                                                           \
    do {                                                                                                               \
        const double near_got = (got), near_want = (want), near_bound = (bound);                                       \
        if (!check_near(c, near_got, near_want, near_bound)) {                                                         \
            check_failed(c, __VA_ARGS__);                                                                              \
            check_failed_by(c, near_got, near_want, near_bound);                                                       \
        }                                                                                                              \
    } while (0)
#define CHECK_THAT(c, condition, ...)                                                                                  \
    do {                                                                                                               \
        if (!(condition)) check_failed(c, __VA_ARGS__);                                                                \
    } while (0)

bool check_near(check *c, double got, double want, double bound);
void check_failed(check *c, const char *fmt, ...) CPL_PRINTF(2, 3);
void check_failed_by(check *c, double got, double want, double bound);

/* ---- in double --------------------------------------------------------------------------------------------------- */

double check_gelu(double x);
double check_gelu_tanh(double x);
double check_relu(double x);
/* epilogue(sum + bias) as kernels.h has it; bias and residual are read where the epilogue has them. */
double check_epilogue(cpl_epilogue e, double sum, double bias, double residual);
/* The activations' own part of a bound, around `want`. */
double check_epilogue_bound(cpl_epilogue e, double want);

#endif
