/* SPDX-License-Identifier: Apache-2.0 */
/* Model names: a directory as given, then models/, then the hub's cache by its refs, then (only where allowed and only
 * for its name) the seeded cross-encoder; nothing else ever stands in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "model/locate.h"

static char start[1024], dir[64];

static int enter(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/couplet-locate-XXXXXX");
    if (!getcwd(start, sizeof start) || !mkdtemp(dir)) return -1;
    char cache[128];
    snprintf(cache, sizeof cache, "%s/hf", dir);
    setenv("HF_HOME", cache, 1);
    unsetenv("HF_HUB_CACHE");
    return chdir(dir);
}

static int leave(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return chdir(start) || system(command);
}

static void make(const char *path, const char *file, const char *text)
{
    char name[256];
    assert_int_equal(cpl_file_make_dirs(path, NULL), CPL_OK);
    snprintf(name, sizeof name, "%s/%s", path, file);
    assert_int_equal(cpl_file_write(name, text, strlen(text), NULL), CPL_OK);
}

static void expect(const char *name, bool allow, const char *wanted, bool wanted_seeded)
{
    char found[256];
    bool seeded = !wanted_seeded;
    cpl_error err = {0};
    cpl_status st = cpl_model_locate(found, sizeof found, name, allow, &seeded, &err);
    if (!wanted) {
        assert_int_equal(st, CPL_NOT_FOUND);
        assert_non_null(strstr(err.what, name));
        return;
    }
    if (st) print_error("%s\n", err.what);
    assert_int_equal(st, CPL_OK);
    const char *end = found + strlen(found) - strlen(wanted);
    assert_true(end >= found);
    assert_string_equal(end, wanted);
    assert_int_equal(seeded, wanted_seeded);
}

static void test_order(void **state)
{
    (void)state;
    expect("org/name", true, NULL, false);
    make("hf/hub/models--org--name/snapshots/aaa", "config.json", "{}");
    expect("org/name", true, "models--org--name/snapshots/aaa", false);
    make("hf/hub/models--org--name/snapshots/bbb", "config.json", "{}");
    expect("org/name", true, NULL, false); /* two revisions and nothing that says which */
    make("hf/hub/models--org--name/refs", "main", "bbb\n");
    expect("org/name", true, "models--org--name/snapshots/bbb", false);
    make("models/name", "config.json", "{}");
    expect("org/name", true, "models/name", false);
    expect("name", true, "models/name", false);
    make("org/name", "config.json", "{}");
    expect("org/name", true, "org/name", false);
    expect("../../etc", true, NULL, false);
    expect("org/name/", true, "org/name/", false);
    make("empty", "README", "");
    expect("empty", true, NULL, false);
    expect("a/b/c", true, NULL, false);
}

static void test_the_seeded_one(void **state)
{
    (void)state;
    expect("cross-encoder/ms-marco-MiniLM-L-6-v2", true, NULL, false);
    make("models/seeded-cross-encoder", "config.json", "{}");
    expect("cross-encoder/ms-marco-MiniLM-L-6-v2", true, "models/seeded-cross-encoder", true);
    expect("cross-encoder/ms-marco-MiniLM-L-6-v2", false, NULL, false);
    expect("cross-encoder/ms-marco-MiniLM-L-12-v2", true, NULL, false);
    expect("seeded-cross-encoder", true, "models/seeded-cross-encoder", false);
    make("models/ms-marco-MiniLM-L-6-v2", "config.json", "{}");
    expect("cross-encoder/ms-marco-MiniLM-L-6-v2", true, "models/ms-marco-MiniLM-L-6-v2", false);
}

static void test_limits(void **state)
{
    (void)state;
    char found[16], name[2000];
    bool seeded;
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = 0;
    assert_int_equal(cpl_model_locate(found, sizeof found, name, true, &seeded, NULL), CPL_INVALID);
    assert_int_equal(cpl_model_locate(found, sizeof found, "", true, &seeded, NULL), CPL_INVALID);
    assert_int_equal(cpl_model_locate(found, sizeof found, "cross-encoder", true, &seeded, NULL), CPL_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_order, enter, leave),
        cmocka_unit_test_setup_teardown(test_the_seeded_one, enter, leave),
        cmocka_unit_test_setup_teardown(test_limits, enter, leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
