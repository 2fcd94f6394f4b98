/* SPDX-License-Identifier: Apache-2.0 */
/* test_precision.c - names, the fixed rule of auto, refusal and fallback. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "backend/precision.h"

static void names_go_both_ways(void **state)
{
    (void)state;
    cpl_error err;
    cpl_precision p;
    for (int i = 0; i <= CPL_PRECISION_COUNT; i++) {
        assert_int_equal(cpl_precision_parse(&p, cpl_precision_name((cpl_precision)i), &err), CPL_OK);
        assert_int_equal(p, i);
    }
    assert_int_equal(cpl_precision_parse(&p, "FP32", &err), CPL_INVALID);
    assert_non_null(strstr(err.what, "'FP32'"));
    assert_non_null(strstr(err.what, "fp32, bf16"));
}

static cpl_status resolve(cpl_precision *out, char *reason, cpl_precision asked, int fallback, uint32_t runs,
                          cpl_error *err)
{
    cpl_caps caps = {.precisions = runs};
    snprintf(caps.reason[CPL_PRECISION_INT8], sizeof caps.reason[0], "no int8 engine on this platform");
    return cpl_precision_resolve(out, reason, 160, asked, fallback, "mps", &caps, err);
}

#define BIT(p) (1u << CPL_PRECISION_##p)

static void what_runs_is_what_was_asked(void **state)
{
    (void)state;
    char reason[160];
    cpl_precision p;
    for (int i = 0; i < CPL_PRECISION_COUNT; i++) {
        assert_int_equal(resolve(&p, reason, (cpl_precision)i, 1, 0x3f, NULL), CPL_OK);
        assert_int_equal(p, i);
        assert_string_equal(reason, "");
    }
}

static void nothing_is_replaced_unasked(void **state)
{
    (void)state;
    char reason[160];
    cpl_precision p;
    cpl_error err;
    assert_int_equal(resolve(&p, reason, CPL_PRECISION_INT8, 0, BIT(FP32) | BIT(FP16), &err), CPL_UNSUPPORTED);
    assert_non_null(strstr(err.what, "backend 'mps' can't run int8 here: no int8 engine on this platform"));
    assert_non_null(strstr(err.what, "on_unsupported: fallback"));
    assert_int_equal(resolve(&p, reason, CPL_PRECISION_INT8, 1, BIT(FP32) | BIT(FP16), &err), CPL_OK);
    assert_int_equal(p, CPL_PRECISION_FP16);
    assert_string_equal(reason, "int8 requested, fp16 runs: no int8 engine on this platform");
    assert_int_equal(resolve(&p, reason, CPL_PRECISION_FP8, 1, 0, &err), CPL_UNSUPPORTED);
}

static void auto_follows_a_fixed_order(void **state)
{
    (void)state;
    char reason[160];
    cpl_precision p;
    cpl_error err;
    const struct {
        uint32_t runs;
        cpl_precision expected;
    } rows[] = {{0x3f, CPL_PRECISION_BF16},
                {BIT(FP32) | BIT(INT8), CPL_PRECISION_FP32},
                {BIT(FP32) | BIT(FP16), CPL_PRECISION_FP16},
                {BIT(INT8) | BIT(INT4), CPL_PRECISION_INT8}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(resolve(&p, reason, CPL_PRECISION_AUTO, 0, rows[i].runs, &err), CPL_OK);
        assert_int_equal(p, rows[i].expected);
        assert_non_null(strstr(reason, cpl_precision_name(p)));
    }
    assert_int_equal(resolve(&p, reason, CPL_PRECISION_AUTO, 1, 0, &err), CPL_UNSUPPORTED);
}

static void a_backends_own_rule_comes_first(void **state)
{
    (void)state;
    char reason[160];
    cpl_precision p;
    cpl_caps caps = {.precisions = BIT(FP32) | BIT(BF16) | BIT(INT8), .automatic = CPL_PRECISION_INT8};
    assert_int_equal(cpl_precision_resolve(&p, reason, sizeof reason, CPL_PRECISION_AUTO, 0, "x", &caps, NULL), CPL_OK);
    assert_int_equal(p, CPL_PRECISION_BF16); /* no rule */
    snprintf(caps.automatic_rule, sizeof caps.automatic_rule, "whenever it rains");
    assert_int_equal(cpl_precision_resolve(&p, reason, sizeof reason, CPL_PRECISION_AUTO, 0, "x", &caps, NULL), CPL_OK);
    assert_int_equal(p, CPL_PRECISION_INT8);
    assert_string_equal(reason, "auto: int8 (whenever it rains)");
    caps.automatic = CPL_PRECISION_FP16; /* what doesn't run is never taken */
    assert_int_equal(cpl_precision_resolve(&p, reason, sizeof reason, CPL_PRECISION_AUTO, 0, "x", &caps, NULL), CPL_OK);
    assert_int_equal(p, CPL_PRECISION_BF16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_go_both_ways),
        cmocka_unit_test(what_runs_is_what_was_asked),
        cmocka_unit_test(nothing_is_replaced_unasked),
        cmocka_unit_test(auto_follows_a_fixed_order),
        cmocka_unit_test(a_backends_own_rule_comes_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
