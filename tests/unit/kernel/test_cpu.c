/* SPDX-License-Identifier: Apache-2.0 */
/* test_cpu.c - features, the ISA ladder, COUPLET_ISA, and that the peak loops measure something. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernel/cpu.h"
#include "kernel/kernels.h"
#include "kernel/peak.h"

static const cpl_cpu plain = {.features = 0, .name = "plain"};
static const cpl_cpu server = {.features = CPL_CPU_AVX2 | CPL_CPU_AVX512 | CPL_CPU_AVX512_VNNI, .name = "server"};
static const cpl_cpu arm = {.features = CPL_CPU_NEON | CPL_CPU_DOTPROD, .name = "arm"};

static void test_detect(void **state)
{
    (void)state;
    cpl_cpu cpu;
    cpl_cpu_detect(&cpu);
    assert_true(strlen(cpu.name) > 0);
    assert_in_range(cpu.l1d_bytes, 4 << 10, 4 << 20);
    assert_in_range(cpu.l2_bytes, 64 << 10, 256 << 20);
    assert_true(cpl_isa_runs(cpl_isa_best(&cpu), &cpu));
    if (cpu.features & CPL_CPU_AVX512) assert_true(cpu.features & CPL_CPU_AVX2);
    if (cpu.features & CPL_CPU_AMX_INT8) assert_true(cpu.features & CPL_CPU_AMX_TILE);
}

static void test_feature_names(void **state)
{
    (void)state;
    char buf[64];
    cpl_cpu_feature_names(0, buf, sizeof buf);
    assert_string_equal(buf, "");
    cpl_cpu_feature_names(CPL_CPU_AVX2 | CPL_CPU_AMX_TILE, buf, sizeof buf);
    assert_string_equal(buf, "avx2 amx_tile");
    cpl_cpu_feature_names(UINT32_MAX, buf, 8);
    assert_true(strlen(buf) < 8);
}

static void test_choose(void **state)
{
    (void)state;
    cpl_isa isa = CPL_ISA_COUNT;
    cpl_error err;
    unsetenv("COUPLET_ISA");
    assert_int_equal(cpl_isa_choose(&isa, NULL, &plain, &err), CPL_OK);
    assert_int_equal(isa, CPL_ISA_REF);
    assert_int_equal(cpl_isa_choose(&isa, "", &server, &err), CPL_OK);
    assert_int_equal(isa, CPL_ISA_AVX512);
    assert_int_equal(cpl_isa_choose(&isa, "avx2", &server, &err), CPL_OK);
    assert_int_equal(isa, CPL_ISA_AVX2);
    assert_int_equal(cpl_isa_choose(&isa, "amx", &server, &err), CPL_UNSUPPORTED);
    assert_non_null(strstr(err.what, "\"amx\""));
    assert_non_null(strstr(err.what, "avx512"));
    assert_int_equal(cpl_isa_choose(&isa, "avxvnni", &server, &err), CPL_UNSUPPORTED);
    assert_int_equal(cpl_isa_choose(&isa, "sse9", &server, &err), CPL_INVALID);
    assert_non_null(strstr(err.what, "ref, avx2, avxvnni, avx512 or amx"));
    assert_int_equal(cpl_isa_choose(&isa, NULL, &arm, &err), CPL_OK);
    assert_int_equal(isa, CPL_ISA_NEON_DOTPROD);
    assert_int_equal(cpl_isa_choose(&isa, "neon", &arm, &err), CPL_OK);
    assert_int_equal(isa, CPL_ISA_NEON);
    assert_int_equal(cpl_isa_choose(&isa, "neon-i8mm", &arm, &err), CPL_UNSUPPORTED);
    assert_int_equal(cpl_isa_choose(&isa, "neon", &server, &err), CPL_UNSUPPORTED);
    assert_int_equal(cpl_isa_choose(&isa, "avx2", &arm, &err), CPL_UNSUPPORTED);
    isa = CPL_ISA_AVX2;
    assert_int_equal(cpl_isa_choose(&isa, "sse9", &server, &err), CPL_INVALID);
    assert_int_equal(isa, CPL_ISA_AVX2); /* untouched by failures */
}

static void test_environment(void **state)
{
    (void)state;
    cpl_isa isa;
    cpl_error err;
    setenv("COUPLET_ISA", "ref", 1);
    assert_int_equal(cpl_isa_choose(&isa, NULL, &server, &err), CPL_OK);
    assert_int_equal(isa, CPL_ISA_REF);
    assert_int_equal(cpl_isa_choose(&isa, "avx512", &server, &err), CPL_OK); /* a name given rules */
    assert_int_equal(isa, CPL_ISA_AVX512);
    setenv("COUPLET_ISA", "fast", 1);
    assert_int_equal(cpl_isa_choose(&isa, NULL, &server, &err), CPL_INVALID);
    assert_non_null(strstr(err.what, "COUPLET_ISA \"fast\""));
    unsetenv("COUPLET_ISA");
}

static void test_table_is_whole(void **state)
{
    (void)state;
    cpl_cpu cpu;
    cpl_cpu_detect(&cpu);
    for (int i = 0; i < CPL_ISA_COUNT; i++) {
        cpl_kernels k;
        if (!cpl_isa_runs((cpl_isa)i, &cpu)) continue;
        memset(&k, 0, sizeof k);
        cpl_kernels_choose(&k, (cpl_isa)i);
        assert_non_null(k.isa);
        assert_true(k.mr && k.nr);
        assert_true(k.tile_f32 && k.gemm_f32 && k.attention_f32 && k.layernorm_f32 && k.softmax_f32 && k.gelu_f32 &&
                    k.gelu_tanh_f32 && k.relu_f32 && k.tanh_f32 && k.transpose_f32 && k.add3_f32 && k.pool_mean_f32 &&
                    k.pool_max_f32);
        assert_true(k.i8_isa && k.i8_mr && k.i8_nr && k.i8_group && k.i8_bytes);
        assert_true(k.tile_i8 && k.gemm_i8 && k.quantise_i8);
        assert_int_equal(!strcmp(k.i8_isa, "avx512-vnni"), cpl_isa_vnni((cpl_isa)i, &cpu));
    }
    for (size_t n = 1; n < 5000; n += 7) {
        assert_true(cpl_row_stride(n) >= n);
        assert_int_equal(cpl_row_stride(n) % 32, 16); /* an odd number of 64-byte lines */
    }
}

static void test_peak(void **state)
{
    (void)state;
    cpl_cpu cpu;
    cpl_cpu_detect(&cpu);
    for (int i = 0; i < CPL_ISA_COUNT; i++) {
        if (!cpl_isa_runs((cpl_isa)i, &cpu)) continue;
        assert_true(cpl_peak_fp32((cpl_isa)i, 200) > 1e6);
        assert_true(cpl_peak_int8((cpl_isa)i, 200) > 1e6);
        assert_int_equal(!strcmp(cpl_peak_int8_name((cpl_isa)i), "vpdpbusd"), cpl_isa_vnni((cpl_isa)i, &cpu));
        const double l2 = cpl_peak_fp32_l2((cpl_isa)i, cpu.l2_bytes, 200);
        assert_true(i == CPL_ISA_REF ? l2 == 0 : l2 > 1e6);
    }
    assert_true(cpl_peak_clock_hz(200) > 1e6);
}

/* Every loop counts what it does, and theory is what is known, else the nearest step. */
static void test_peak_loops(void **state)
{
    (void)state;
    cpl_cpu cpu;
    cpl_cpu_detect(&cpu);
    for (int i = 0; i < CPL_ISA_COUNT; i++) {
        if (!cpl_isa_runs((cpl_isa)i, &cpu)) continue;
        for (int unit = CPL_PEAK_FP32; unit <= CPL_PEAK_INT8; unit++) {
            cpl_peak_loop l;
            float sink = 0;
            cpl_peak_choose(&l, (cpl_peak_unit)unit, (cpl_isa)i, &cpu);
            const double one = l.run(10, &sink), two = l.run(20, &sink);
            assert_true(l.name && one > 0 && two == 2 * one);
            const double instructions = one / 10 / l.ops; /* of a round: a whole number of them */
            assert_true(instructions >= 1 && instructions == (double)(int)instructions);
        }
    }
    const cpl_peak_loop known = {.per_cycle = 2, .step = 1}, stepped = {.step = 1}, unknown = {0};
    assert_true(cpl_peak_expected(&known, 1.2) == 2);
    assert_true(cpl_peak_expected(&stepped, 1.2) == 1 && cpl_peak_expected(&stepped, 1.96) == 2);
    assert_true(cpl_peak_expected(&stepped, 0.3) == 1);
    assert_true(cpl_peak_expected(&unknown, 1.2) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_detect),      cmocka_unit_test(test_feature_names),  cmocka_unit_test(test_choose),
        cmocka_unit_test(test_environment), cmocka_unit_test(test_table_is_whole), cmocka_unit_test(test_peak),
        cmocka_unit_test(test_peak_loops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
