/* SPDX-License-Identifier: Apache-2.0 */
/* Energy from a made-up powercap folder: which zones count, counters that turn over, and a machine without any. */
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

#include "base/file.h"
#include "lab/energy.h"

static char dir[256];

static void put(const char *zone, const char *file, const char *text)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", dir, zone);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/%s/%s", dir, zone, file);
    assert_int_equal(cpl_file_write(path, text, strlen(text), NULL), CPL_OK);
}

static void zone(const char *name, const char *word, const char *uj)
{
    put(name, "name", word);
    put(name, "max_energy_range_uj", "10000000\n");
    put(name, "energy_uj", uj);
}

static int open_dir(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/couplet-energy-XXXXXX", base ? base : P_tmpdir);
    return mkdtemp(dir) ? 0 : -1;
}

static int close_dir(void **state)
{
    (void)state;
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static void sockets_are_summed(void **state)
{
    (void)state;
    cpl_energy *e;
    zone("intel-rapl:0", "package-0\n", "1000000\n");
    zone("intel-rapl:1", "package-1\n", "9000000\n");
    zone("intel-rapl:0:0", "core\n", "500000\n"); /* part of package-0 */
    zone("other", "package-7\n", "1\n");
    assert_int_equal(cpl_energy_open(&e, dir, "libnothing-of-that-name.so", NULL), CPL_OK);
    assert_true(cpl_energy_available(e));
    assert_string_equal(cpl_energy_source(e), "2 sockets (RAPL)");
    zone("intel-rapl:0", "package-0\n", "3500000\n"); /* 2.5 J */
    zone("intel-rapl:1", "package-1\n", "500000\n");  /* turned over: 1.5 J */
    zone("intel-rapl:0:0", "core\n", "9500000\n");
    assert_float_equal(cpl_energy_take(e), 4.0, 1e-9);
    assert_float_equal(cpl_energy_take(e), 0, 1e-9);
    cpl_energy_close(e);
}

static void none_is_said(void **state)
{
    (void)state;
    cpl_energy *e;
    assert_int_equal(cpl_energy_open(&e, "/nowhere/at/all", "libnothing-of-that-name.so", NULL), CPL_OK);
    assert_false(cpl_energy_available(e));
    assert_non_null(strstr(cpl_energy_source(e), "not available: this machine shows no RAPL counter"));
    assert_float_equal(cpl_energy_take(e), 0, 0);
    cpl_energy_close(e);
    cpl_energy_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sockets_are_summed), cmocka_unit_test(none_is_said)};
    return cmocka_run_group_tests(tests, open_dir, close_dir);
}
