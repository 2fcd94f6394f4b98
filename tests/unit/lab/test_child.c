/* SPDX-License-Identifier: Apache-2.0 */
/* Children of every temper, played by sh. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "lab/child.h"

static cpl_status start(cpl_child *c, const char *script, uint32_t timeout_ms, cpl_error *err)
{
    const char *const argv[] = {"/bin/sh", "-c", script, NULL};
    return cpl_child_start(c, argv, timeout_ms, err);
}

static int gone(pid_t pid) { return kill(pid, 0) < 0 && errno == ESRCH; }

static void a_good_child(void **state)
{
    (void)state;
    cpl_child c;
    cpl_error err;
    const char *script = "trap 'exit 0' TERM; echo hello; printf 'listening on '; echo '127.0.0.1:4711 (grpc, http)';"
                         "while :; do sleep 0.05; done";
    assert_int_equal(start(&c, script, 10000, &err), CPL_OK);
    assert_string_equal(c.address, "127.0.0.1:4711");
    pid_t pid = c.pid;
    assert_int_equal(cpl_child_stop(&c, 10000, &err), CPL_OK);
    assert_true(gone(pid));
    assert_int_equal(cpl_child_stop(&c, 10000, &err), CPL_OK); /* twice is fine */
}

static void one_that_ends_early(void **state)
{
    (void)state;
    cpl_child c;
    cpl_error err;
    assert_int_equal(start(&c, "echo first >&2; echo 'no such model' >&2; exit 3", 10000, &err), CPL_UNAVAILABLE);
    assert_string_equal(err.what, "the server ended before it was ready: no such model");
    assert_int_equal(c.pid, 0);
}

static void one_that_never_listens(void **state)
{
    (void)state;
    cpl_child c;
    cpl_error err;
    assert_int_equal(start(&c, "exec sleep 60", 50, &err), CPL_DEADLINE);
    assert_int_equal(c.pid, 0);
}

static void one_that_ignores_sigterm(void **state)
{
    (void)state;
    cpl_child c;
    cpl_error err;
    assert_int_equal(start(&c, "trap '' TERM; echo 'listening on x:1'; while :; do sleep 0.05; done", 10000, &err),
                     CPL_OK);
    pid_t pid = c.pid;
    assert_int_equal(cpl_child_stop(&c, 100, &err), CPL_INTERNAL);
    assert_non_null(strstr(err.what, "did not end within 100 ms"));
    assert_true(gone(pid));
}

static void one_that_dies_in_between(void **state)
{
    (void)state;
    cpl_child c;
    cpl_error err;
    assert_int_equal(start(&c, "echo 'listening on x:1'; echo bye >&2; kill -9 $$", 10000, &err), CPL_OK);
    siginfo_t info = {0};
    waitid(P_PID, (id_t)c.pid, &info, WEXITED | WNOWAIT); /* until it is dead, and leave it to be reaped */
    assert_int_equal(cpl_child_stop(&c, 1000, &err), CPL_INTERNAL);
    assert_string_equal(err.what, "the server ended by itself (signal 9); its last words: bye");
}

static void no_such_program(void **state)
{
    (void)state;
    cpl_child c;
    cpl_error err;
    const char *const argv[] = {"/nonexistent/couplet", NULL};
    assert_int_equal(cpl_child_start(&c, argv, 10000, &err), CPL_UNAVAILABLE);
    assert_non_null(strstr(err.what, "can't run '/nonexistent/couplet'"));
    cpl_child zeroed = {0};
    assert_int_equal(cpl_child_stop(&zeroed, 10, &err), CPL_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_child),
        cmocka_unit_test(one_that_ends_early),
        cmocka_unit_test(one_that_never_listens),
        cmocka_unit_test(one_that_ignores_sigterm),
        cmocka_unit_test(one_that_dies_in_between),
        cmocka_unit_test(no_such_program),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
