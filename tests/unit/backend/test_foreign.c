/* SPDX-License-Identifier: Apache-2.0 */
/* test_foreign.c - finding somebody else's library: every way in which it can be absent or wrong is one line that says
 * what to install; one that is there is opened from where it was said to be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend/foreign/foreign.h"

static char dir[] = "/tmp/couplet-foreign-XXXXXX";

static const cpl_foreign_spec spec = {.what = "Some Runtime",
                                      .setup = "some",
                                      .variable = "COUPLET_TEST_FOREIGN",
                                      .pattern = "some/libsome.so*",
                                      .soname = "libcouplet-has-no-such.so.1"};

static void expect(const char *part)
{
    cpl_foreign lib;
    cpl_error err = {0};
    assert_int_equal(cpl_foreign_open(&lib, &spec, &err), CPL_UNSUPPORTED);
    assert_null(lib.handle);
    assert_non_null(strstr(err.what, "tools/setup.sh some"));
    assert_null(strchr(err.what, '\n'));
    if (!strstr(err.what, part)) fail_msg("'%s' lacks '%s'", err.what, part);
}

static void absent_ones_are_named(void **state)
{
    (void)state;
    expect("Some Runtime is not installed");
    setenv("COUPLET_TEST_FOREIGN", "/nowhere/at/all", 1);
    expect("not at '/nowhere/at/all', where COUPLET_TEST_FOREIGN says");
}

static void a_file_that_is_no_library(void **state)
{
    (void)state;
    char path[256];
    snprintf(path, sizeof path, "%s/libsome.so.1", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("not a library\n", f);
    fclose(f);
    setenv("COUPLET_TEST_FOREIGN", dir, 1); /* a folder with it */
    expect("can't be used");
    char found[256];
    assert_true(cpl_foreign_find(found, sizeof found, &spec));
    assert_string_equal(found, path);
    remove(path);
}

static void one_in_a_virtual_environment(void **state)
{
    (void)state;
    const char *build = getenv("COUPLET_BUILD");
    if (!build) skip();
    char path[512], link[512];
    static const char *const parts[] = {"lib", "python3.9", "site-packages", "some"};
    snprintf(path, sizeof path, "%s", dir);
    for (size_t i = 0; i < 4; i++) {
        size_t n = strlen(path);
        snprintf(path + n, sizeof path - n, "/%s", parts[i]);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    snprintf(link, sizeof link, "%s/libsome.so.7", path);
    snprintf(path, sizeof path, "%s/plugins/couplet-fake.so", build);
    assert_int_equal(symlink(path, link), 0);
    unsetenv("COUPLET_TEST_FOREIGN");
    setenv("COUPLET_VENV", dir, 1);
    cpl_foreign lib;
    cpl_error err = {0};
    if (cpl_foreign_open(&lib, &spec, &err)) fail_msg("%s", err.what);
    assert_string_equal(lib.path, link);
    void *entry = NULL;
    const cpl_foreign_symbol good[] = {{"cpl_plugin", &entry}}, bad[] = {{"cpl_plugin", &entry}, {"some_call", &entry}};
    assert_int_equal(cpl_foreign_symbols(&lib, &spec, good, 1, &err), CPL_OK);
    assert_non_null(entry);
    assert_int_equal(cpl_foreign_symbols(&lib, &spec, bad, 2, &err), CPL_UNSUPPORTED);
    assert_non_null(strstr(err.what, "it has no 'some_call', so it is of another version"));
    assert_non_null(strstr(err.what, "tools/setup.sh some"));
    unsetenv("COUPLET_VENV");
    while (strlen(link) > strlen(dir)) {
        remove(link);
        *strrchr(link, '/') = 0;
    }
}

static int make(void **state)
{
    (void)state;
    unsetenv("COUPLET_VENV");
    unsetenv("VIRTUAL_ENV");
    return mkdtemp(dir) ? 0 : -1;
}

static int clean(void **state)
{
    (void)state;
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(absent_ones_are_named),
        cmocka_unit_test(a_file_that_is_no_library),
        cmocka_unit_test(one_in_a_virtual_environment),
    };
    return cmocka_run_group_tests(tests, make, clean);
}
