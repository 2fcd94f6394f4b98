/* SPDX-License-Identifier: Apache-2.0 */
/* Stored elements to fp32: every F16 and BF16 bit pattern, at an odd address. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "model/model.h"

static unsigned char storage[1 + 65536 * 4];
static float out[65536];

static cpl_tensor all_patterns(cpl_dtype dtype)
{
    for (uint32_t i = 0; i < 65536; i++) {
        storage[1 + 2 * i] = (unsigned char)i;
        storage[2 + 2 * i] = (unsigned char)(i >> 8);
    }
    return (cpl_tensor){.data = storage + 1, .dtype = dtype, .rank = 2, .shape = {256, 256}};
}

/* By definition: sign, 5 bits of exponent, 10 of fraction. */
static double half_by_definition(uint32_t bits)
{
    int exponent = (int)(bits >> 10 & 31);
    double fraction = bits & 1023, sign = bits & 0x8000 ? -1 : 1;
    if (exponent == 31) return fraction > 0 ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * ldexp(fraction, -24);
    return sign * ldexp(1024 + fraction, exponent - 25);
}

static void reads_every_half(void **state)
{
    (void)state;
    cpl_tensor t = all_patterns(CPL_DTYPE_F16);
    assert_int_equal(cpl_tensor_count(&t), 65536);
    cpl_tensor_read_f32(&t, 0, 65536, out);
    for (uint32_t i = 0; i < 65536; i++) {
        double expected = half_by_definition(i);
        if (isnan(expected)) {
            assert_true(isnan(out[i]));
            continue;
        }
        assert_true((double)out[i] == expected);
        assert_int_equal(!!signbit(out[i]), i >> 15);
    }
    assert_true(out[0x0001] == 0x1p-24f && out[0x03FF] == 0x3FFp-24f && out[0x7BFF] == 65504.0f);
}

static void reads_every_bfloat(void **state)
{
    (void)state;
    cpl_tensor t = all_patterns(CPL_DTYPE_BF16);
    cpl_tensor_read_f32(&t, 0, 65536, out);
    for (uint32_t i = 0; i < 65536; i++) {
        uint32_t bits;
        memcpy(&bits, &out[i], sizeof bits);
        assert_int_equal(bits, i << 16);
    }
}

static void reads_a_part(void **state)
{
    (void)state;
    float values[6] = {1, -2.5f, 3e-40f, INFINITY, -0.0f, 6}, got[3];
    memcpy(storage + 1, values, sizeof values);
    cpl_tensor t = {.data = storage + 1, .dtype = CPL_DTYPE_F32, .rank = 2, .shape = {2, 3}};
    cpl_tensor_read_f32(&t, 2, 3, got);
    assert_memory_equal(got, values + 2, sizeof got);
    cpl_tensor_read_f32(&t, 6, 0, got); /* nothing, at the very end */
    t = all_patterns(CPL_DTYPE_F16);
    cpl_tensor_read_f32(&t, 0x3C00, 2, got);
    assert_true(got[0] == 1.0f && got[1] == 1.0f + 0x1p-10f);
}

static void an_absent_tensor_is_empty(void **state)
{
    (void)state;
    cpl_tensor t = {.shape = {3, 3}};
    assert_int_equal(cpl_tensor_count(&t), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_half),
        cmocka_unit_test(reads_every_bfloat),
        cmocka_unit_test(reads_a_part),
        cmocka_unit_test(an_absent_tensor_is_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
