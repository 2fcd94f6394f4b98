/* SPDX-License-Identifier: Apache-2.0 */
/* test_registry.c - finding backends: built-in, as plug-ins, missing, mismatching. The plug-ins come from the build
 * directory that ctest names in COUPLET_BUILD; without it those tests are skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend/registry.h"
#include "base/system.h"

static cpl_host host;

static const char *test_plugins(void)
{
    static char dir[512];
    const char *build = getenv("COUPLET_BUILD");
    if (!build) {
        print_message("skipped: COUPLET_BUILD names no build directory\n");
        skip();
    }
    snprintf(dir, sizeof dir, "%s/test-plugins", build);
    return dir;
}

static void expect(const char *name, const char *dir, cpl_status status, const char *words)
{
    cpl_backend_ref ref;
    cpl_error err = {0};
    assert_int_equal(cpl_backend_find(&ref, name, dir, &host, &err), status);
    assert_null(ref.backend);
    if (!strstr(err.what, words)) fail_msg("'%s' does not say '%s'", err.what, words);
    assert_null(strchr(err.what, '\n'));
    cpl_backend_release(&ref);
}

static void builtin_ones_are_found(void **state)
{
    (void)state;
    const char *const *names = cpl_backend_names();
    assert_string_equal(names[0], "native");
    for (int i = 0; i < 2; i++) {
        cpl_backend_ref ref;
        const char *name = i ? "fake" : "native";
        assert_int_equal(cpl_backend_find(&ref, name, NULL, &host, NULL), CPL_OK);
        assert_string_equal(ref.backend->name, name);
        assert_string_equal(ref.path, "");
        cpl_backend_release(&ref);
        cpl_backend_release(&ref);
    }
}

static void missing_ones_say_what_to_install(void **state)
{
    (void)state;
    expect("onnx", "/nowhere", CPL_NOT_FOUND, "no couplet-onnx.so in '/nowhere'; install that plug-in");
    expect("plugin:native", "/nowhere", CPL_NOT_FOUND, "couplet-native.so");
    expect("tpu", "/nowhere", CPL_NOT_FOUND, "unknown backend 'tpu'");
    expect("../native", "/nowhere", CPL_INVALID, "invalid backend name");
    expect("", "/nowhere", CPL_INVALID, "invalid backend name");
}

static void the_fake_plugin_loads(void **state)
{
    (void)state;
    if (!getenv("COUPLET_PLUGINS") || !getenv("COUPLET_BUILD")) {
        print_message("skipped: COUPLET_PLUGINS names no folder\n");
        skip();
    }
    cpl_backend_ref ref;
    cpl_error err = {0};
    if (cpl_backend_find(&ref, "plugin:fake", NULL, &host, &err)) fail_msg("%s", err.what);
    assert_ptr_not_equal(ref.backend, &cpl_backend_fake);
    assert_string_equal(ref.backend->name, "fake");
    assert_non_null(strstr(ref.path, "couplet-fake.so"));
    cpl_caps caps;
    assert_int_equal(ref.backend->probe(&caps, &host, &err), CPL_OK);
    cpl_backend_release(&ref);
    cpl_host other = host;
    other.abi++;
    assert_int_equal(cpl_backend_find(&ref, "plugin:fake", NULL, &other, &err), CPL_UNSUPPORTED);
    assert_non_null(strstr(err.what, "another ABI"));
}

/* A build's program finds the plug-ins of that build, in the folder beside it, without being told. */
static void those_beside_the_program_are_found(void **state)
{
    (void)state;
    char program[512], wanted[600];
    cpl_backend_ref ref;
    cpl_error err = {0};
    assert_true(cpl_system_program(program, sizeof program));
    snprintf(wanted, sizeof wanted, "%.*s/plugins/couplet-fake.so", (int)(strrchr(program, '/') - program), program);
    if (access(wanted, F_OK) != 0) {
        print_message("skipped: no %s\n", wanted);
        skip();
    }
    const char *given = getenv("COUPLET_PLUGINS");
    char *kept = given ? strdup(given) : NULL;
    unsetenv("COUPLET_PLUGINS");
    const cpl_status st = cpl_backend_find(&ref, "plugin:fake", NULL, &host, &err);
    if (kept) setenv("COUPLET_PLUGINS", kept, 1);
    free(kept);
    if (st) fail_msg("%s", err.what);
    assert_string_equal(ref.path, wanted);
    cpl_backend_release(&ref);
    expect("onnx", "/nowhere", CPL_NOT_FOUND, "no couplet-onnx.so in '/nowhere';"); /* a folder that is named is all */
}

static void mismatching_ones_are_refused(void **state)
{
    (void)state;
    const char *dir = test_plugins();
    expect("wrongabi", dir, CPL_UNSUPPORTED, "plug-in has ABI 7");
    expect("wrongabi", dir, CPL_UNSUPPORTED, "install the plug-in that was built with couplet");
    expect("empty", dir, CPL_UNSUPPORTED, "empty slots");
    expect("alias", dir, CPL_UNSUPPORTED, "another backend than its file name");
    expect("nosymbol", dir, CPL_UNSUPPORTED, "cpl_plugin");
    char temporary[] = "/tmp/couplet-plugins-XXXXXX", path[64];
    assert_non_null(mkdtemp(temporary));
    snprintf(path, sizeof path, "%s/couplet-mlx.so", temporary);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("this is no library", f);
    fclose(f);
    expect("mlx", temporary, CPL_UNSUPPORTED, "plug-in can't be loaded");
    unlink(path);
    rmdir(temporary);
}

static void the_host_lends_memory(void **state)
{
    (void)state;
    const size_t sizes[] = {1, 100, 4096, (2u << 20) - 1, 2u << 20, (5u << 20) + 3};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char *p = host.allocate(sizes[i], 64);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 64, 0);
        assert_int_equal(p[0] | p[sizes[i] - 1], 0); /* zeroed */
        memset(p, 1, sizes[i]);
        host.release(p, sizes[i]);
    }
    host.release(NULL, 5);
    assert_null(host.allocate(0, 64));
    assert_null(host.allocate(SIZE_MAX / 2, 64));
    assert_null(host.allocate(64, 48));
}

int main(void)
{
    cpl_host_init(&host, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(builtin_ones_are_found),
        cmocka_unit_test(missing_ones_say_what_to_install),
        cmocka_unit_test(the_fake_plugin_loads),
        cmocka_unit_test(mismatching_ones_are_refused),
        cmocka_unit_test(those_beside_the_program_are_found),
        cmocka_unit_test(the_host_lends_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
