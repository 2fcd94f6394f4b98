/* SPDX-License-Identifier: Apache-2.0 */
/* The embedded descriptors: every proto is there under the name clients know, every kind of symbol is found, what only
 * looks like one isn't, and strings are published as strings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "wire/descriptors.h"

static void test_files(void **state)
{
    (void)state;
    cpl_descriptors d = cpl_descriptors_own();
    static const char *const files[] = {"inference.proto", "stats.proto", "grpc/health/v1/health.proto",
                                        "grpc/reflection/v1/reflection.proto",
                                        "grpc/reflection/v1alpha/reflection.proto"};
    for (int i = 0; i < 5; i++) assert_true(cpl_descriptors_find_file(&d, cpl_text_of(files[i])) >= 0);
    assert_int_equal(cpl_descriptors_find_file(&d, cpl_text_of("inference.prot")), -1);
    assert_int_equal(cpl_descriptors_find_file(&d, cpl_text_of("")), -1);
    cpl_text file;
    assert_false(cpl_descriptors_file(&d, 1000, &file));
}

static void test_symbols(void **state)
{
    (void)state;
    cpl_descriptors d = cpl_descriptors_own();
    static const char *const found[] = {
        "inference.InferenceService",
        "inference.InferenceService.Infer",
        "inference.InferRequest",
        "inference.InferRequest.pairs",
        "grpc.health.v1.HealthCheckResponse.ServingStatus",
        "grpc.health.v1.HealthCheckResponse.ServingStatus.SERVING",
        "grpc.health.v1.HealthListResponse.StatusesEntry",
        "grpc.reflection.v1alpha.ServerReflection",
        "grpc.reflection.v1.ServerReflectionRequest.message_request",
        "couplet.v1.Stats.Get",
    };
    static const char *const missing[] = {"",
                                          ".",
                                          "inference",
                                          "inference.",
                                          "inference.Infer",
                                          "Infer",
                                          "inference.InferenceService.",
                                          "inference.InferenceService.InferX",
                                          "inference.InferRequest.pairs.x",
                                          "grpc.reflection.v1.Health"};
    for (size_t i = 0; i < sizeof found / sizeof *found; i++) {
        int file = cpl_descriptors_find_symbol(&d, cpl_text_of(found[i]));
        if (file < 0) print_error("'%s' not found\n", found[i]);
        assert_true(file >= 0);
    }
    for (size_t i = 0; i < sizeof missing / sizeof *missing; i++)
        assert_int_equal(cpl_descriptors_find_symbol(&d, cpl_text_of(missing[i])), -1);
    assert_int_not_equal(cpl_descriptors_find_symbol(&d, cpl_text_of("grpc.reflection.v1.ServerReflection")),
                         cpl_descriptors_find_symbol(&d, cpl_text_of("grpc.reflection.v1alpha.ServerReflection")));
}

static void test_services(void **state)
{
    (void)state;
    cpl_descriptors d = cpl_descriptors_own();
    char all[1024] = "", name[128];
    cpl_text file;
    for (size_t i = 0; cpl_descriptors_file(&d, i, &file); i++)
        for (size_t j = 0; cpl_descriptors_service(&d, i, j, name, sizeof name); j++)
            snprintf(all + strlen(all), sizeof all - strlen(all), "%s;", name);
    assert_non_null(strstr(all, "inference.InferenceService;"));
    assert_non_null(strstr(all, "couplet.v1.Stats;"));
    assert_non_null(strstr(all, "grpc.health.v1.Health;"));
    assert_non_null(strstr(all, "grpc.reflection.v1.ServerReflection;"));
    assert_non_null(strstr(all, "grpc.reflection.v1alpha.ServerReflection;"));
}

/* A set made by hand: b imports a. */
static void test_imports(void **state)
{
    (void)state;
    static const char set[] = "\x0a\x03\x0a\x01"
                              "a"
                              "\x0a\x06\x0a\x01"
                              "b"
                              "\x1a\x01"
                              "a";
    cpl_descriptors d = {set, sizeof set - 1};
    assert_int_equal(cpl_descriptors_find_file(&d, cpl_text_of("b")), 1);
    assert_int_equal(cpl_descriptors_import(&d, 1, 0), 0);
    assert_int_equal(cpl_descriptors_import(&d, 1, 1), -1);
    assert_int_equal(cpl_descriptors_import(&d, 0, 0), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_symbols),
        cmocka_unit_test(test_services),
        cmocka_unit_test(test_imports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
