/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_i4.c - 4-bit weights. Quantised columns must be what kernels.h says they are, within half a step of weights that
 * fit; packed and unpacked, a panel must be the int8 panel of the same values, byte for byte; so products must have the
 * bits of int8 products. */
#include <math.h>
#include <string.h>

#include "check.h"

static const char *i8_isa(const cpl_kernels *k) { return k->i8_isa; }

static cpl_kernels right; /* what a wrong kernel calls first */

typedef struct weights {
    uint32_t n, k, group;
    cpl_packed_i8 packed, wide; /* 4 bits, and the same values as int8 */
} weights;

/* Values and steps of a column, against the definition. */
static void check_column(check *c, const weights *s, const float *w, const int8_t *q, const uint8_t *by,
                         const uint8_t *less, float scale)
{
    for (uint32_t i = 0; i < s->k; i++) {
        const int b = by[i / s->group], v = (q[i] + less[i / s->group]) / (b ? b : 1);
        CHECK_THAT(c, b >= 1 && b <= 16 && v >= 0 && v <= 15 && v * b - less[i / s->group] == q[i],
                   "weight %u: %d by %d less %d", i, q[i], b, less[i / s->group]);
        if (v > 0 && v < 15 && isfinite(scale)) /* not clipped */
            CHECK_NEAR(c, q[i] * (double)scale, w[i], 0.5001 * b * (double)scale + 1e-30, "weight %u of %u", i, s->k);
    }
}

/* No group is off by more than one of 15 even steps over its range, however wide and skewed it is. */
static void check_groups(check *c, const weights *s, const float *w, const int8_t *q, float scale)
{
    for (uint32_t from = 0; isfinite(scale) && scale > 1e-36f && from < s->k; from += s->group) {
        const uint32_t n = s->k - from < s->group ? s->k - from : s->group;
        double low = 0, high = 0, squares = 0;
        for (uint32_t i = from; i < from + n; i++) {
            low = fmin(low, w[i]);
            high = fmax(high, w[i]);
            squares += (q[i] * (double)scale - w[i]) * (q[i] * (double)scale - w[i]);
        }
        CHECK_NEAR(c, sqrt(squares / n), 0, (high - low) / 15 + (double)scale, "group at %u of %u, %g to %g", from,
                   s->k, low, high);
    }
}

static weights make_weights(check *c, uint32_t round)
{
    const cpl_kernels *k = c->k;
    weights s = {.n = check_between(c, 1, 100), .group = 32u << round % 3};
    s.k = check_between(c, 1, round % 4 ? 200 : 1600);
    const size_t padded = (size_t)cpl_gemm_i8_panels(k, s.n) * k->i8_nr;
    float *w = check_take_floats(c, s.k, -1, 1);
    int8_t *q = check_take(c, s.k);
    const uint32_t groups = (s.k + s.group - 1) / s.group;
    uint8_t *by = check_take(c, groups), *less = check_take(c, groups);
    s.packed = (cpl_packed_i8){check_take(c, cpl_gemm_i4_packed_bytes(k, s.n, s.k, s.group)),
                               check_take(c, padded * sizeof(float)), check_take(c, padded * sizeof(int32_t))};
    s.wide = (cpl_packed_i8){check_take(c, cpl_gemm_i8_packed_bytes(k, s.n, s.k)),
                             check_take(c, padded * sizeof(float)), check_take(c, padded * sizeof(int32_t))};
    for (uint32_t j = 0; j < s.n; j++) {
        float scale;
        for (uint32_t i = 0; i < s.k; i++) w[i] = check_uniform(c, -1, 1) * (i % 97 == 5 ? 9.0f : 1.0f);
        check_spoil(c, w, s.k, j % 3 ? CHECK_ORDINARY : (check_kind)(round % (CHECK_TINY + 1)));
        cpl_i4_quantise(w, s.k, s.group, q, by, less, &scale);
        check_column(c, &s, w, q, by, less, scale);
        check_groups(c, &s, w, q, scale);
        cpl_gemm_i4_place(k, &s.packed, j, s.k, s.group, q, by, less, scale, (int)(round % 2));
        cpl_gemm_i8_place(k, &s.wide, j, s.k, q, scale, (int)(round % 2));
    }
    return s;
}

static void unpack_round(check *c, uint32_t round)
{
    const cpl_kernels *k = c->k;
    const weights s = make_weights(c, round);
    const uint32_t panels = cpl_gemm_i8_panels(k, s.n), steps = (s.k + k->i8_group - 1) / k->i8_group;
    const size_t bytes = cpl_gemm_i4_scratch(k, s.k), each = cpl_gemm_i4_packed_bytes(k, k->i8_nr, s.k, s.group);
    for (uint32_t p = 0; p < panels; p++) {
        int8_t *out = check_take(c, bytes);
        uint8_t *in = check_take(c, each);
        memcpy(in, (const uint8_t *)s.packed.b + p * each, each);
        k->unpack_i4(k, out, in, steps, s.group / k->i8_group);
        for (size_t i = 0; i < bytes; i++)
            CHECK_NEAR(c, out[i], s.wide.b[p * bytes + i], 0, "n %u k %u group %u: panel %u byte %zu", s.n, s.k,
                       s.group, p, i);
    }
}

static void gemm_round(check *c, uint32_t round)
{
    const cpl_kernels *k = c->k;
    const weights s = make_weights(c, round);
    const uint32_t m = check_between(c, 1, 40);
    const size_t row = cpl_i8_row_bytes(k, s.k), ldc = s.n + check_between(c, 0, 9), cells = check_span(m, s.n, ldc);
    float *x = check_take_floats(c, (size_t)m * s.k, round % 2 ? 0 : -1, 1);
    float *row_scale = check_take(c, m * sizeof *row_scale), *want = check_take(c, cells * sizeof *want);
    float *got = check_take(c, cells * sizeof *got), *residual = check_take_floats(c, cells, -3, 3);
    float *bias = check_take_floats(c, (size_t)cpl_gemm_i8_panels(k, s.n) * k->i8_nr, -1, 1);
    void *q = check_take(c, m * row);
    const cpl_rows_i8 rows = {.q = q, .ldq = row, .scale = row_scale, .is_unsigned = (int)(round % 2)};
    k->quantise_i8(&rows, x, m, s.k, s.k);
    cpl_gemm_i8 g = {.a = q,
                     .lda = row,
                     .row_scale = row_scale,
                     .b = s.wide,
                     .bias = bias,
                     .c = want,
                     .ldc = ldc,
                     .residual = residual,
                     .ldr = ldc,
                     .m = m,
                     .n = s.n,
                     .k = s.k,
                     .panel_end = cpl_gemm_i8_panels(k, s.n),
                     .epilogue = (cpl_epilogue)(1 + round % 6)};
    k->gemm_i8(k, &g);
    g.c = got;
    g.b = s.packed;
    const cpl_gemm_i4 packed = {g, s.group, check_take(c, cpl_gemm_i4_scratch(k, s.k))};
    cpl_gemm_i4_run(k, &packed);
    for (size_t i = 0; i < cells; i++)
        CHECK_NEAR(c, got[i], want[i], 0, "%ux%ux%u group %u at %zu", m, s.n, s.k, s.group, i);
}

static void last_group_lost(const cpl_kernels *k, int8_t *out, const uint8_t *in, uint32_t steps,
                            uint32_t steps_a_group)
{
    right.unpack_i4(k, out, in, steps, steps_a_group);
    memset(out + (size_t)(steps - 1) * k->i8_nr * k->i8_group, 0, (size_t)k->i8_nr * k->i8_group);
}
static void install_last_group_lost(cpl_kernels *k)
{
    right = *k;
    k->unpack_i4 = last_group_lost;
}

static void groups_too_long(const cpl_kernels *k, int8_t *out, const uint8_t *in, uint32_t steps,
                            uint32_t steps_a_group)
{
    right.unpack_i4(k, out, in, steps < 2 ? steps : steps - 1, steps_a_group * 2);
}
static void install_groups_too_long(cpl_kernels *k)
{
    right = *k;
    k->unpack_i4 = groups_too_long;
}

const check_case check_unpack_i4 = {
    .name = "unpack_i4",
    .bound = "0: exact; weights within half a step",
    .rounds = 60,
    .round = unpack_round,
    .wrong = (const check_wrong[]){{"the last step of k left out", install_last_group_lost},
                                   {"groups twice as long", install_groups_too_long},
                                   {0}},
    .isa = i8_isa,
};

const check_case check_gemm_i4 = {
    .name = "gemm_i4",
    .bound = "0: the bits of int8 products",
    .rounds = 60,
    .round = gemm_round,
    .wrong = (const check_wrong[]){{"the last step of k left out", install_last_group_lost}, {0}},
    .isa = i8_isa,
};
