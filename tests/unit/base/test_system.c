/* SPDX-License-Identifier: Apache-2.0 */
/* test_system.c - this system's side of system.h keeps its promises: flags of descriptors, events, timers and waits
 * that never end early, a program that finds itself, a child that dies with its parent. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/system.h"

static void check_flags(int fd, int blocking)
{
    assert_true(fd >= 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(!(fcntl(fd, F_GETFL) & O_NONBLOCK), blocking);
}

static int readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static void descriptors(void **state)
{
    int ends[2], blocking = cpl_system_socket(AF_UNIX, true), not_blocking = cpl_system_socket(AF_INET, false);
    (void)state;
    check_flags(blocking, 1);
    check_flags(not_blocking, 0);
    close(not_blocking);
    close(blocking);
    assert_int_equal(cpl_system_pipe(ends), 0);
    check_flags(ends[0], 1);
    check_flags(ends[1], 1);
    close(ends[0]);
    close(ends[1]);
    const int file = cpl_system_scratch_file("couplet-test");
    check_flags(file, 1);
    assert_int_equal(write(file, "abc", 3), 3);
    assert_int_equal(lseek(file, 0, SEEK_END), 3);
    close(file);
    assert_int_equal(cpl_system_socket(-1, true), -1);
}

static void accepting(void **state)
{
    struct sockaddr_storage at;
    socklen_t n = sizeof at;
    (void)state;
    const int server = cpl_system_socket(AF_INET, false), client = cpl_system_socket(AF_INET, true);
    memset(&at, 0, sizeof at);
    at.ss_family = AF_INET; /* any address, any port */
    assert_int_equal(bind(server, (struct sockaddr *)&at, 16), 0);
    assert_int_equal(listen(server, 1), 0);
    assert_int_equal(cpl_system_accept(server), -1);
    assert_true(errno == EAGAIN || errno == EWOULDBLOCK);
    assert_int_equal(getsockname(server, (struct sockaddr *)&at, &n), 0);
    assert_int_equal(connect(client, (struct sockaddr *)&at, n), 0);
    const int got = cpl_system_accept(server);
    check_flags(got, 0);
    close(got);
    close(client);
    close(server);
}

static void events(void **state)
{
    int ends[2];
    (void)state;
    assert_int_equal(cpl_system_event_open(ends), 0);
    check_flags(ends[0], 0);
    assert_false(readable(ends[0]));
    for (int i = 0; i < 100000; i++) cpl_system_event_set(ends); /* never blocks */
    assert_true(readable(ends[0]));
    cpl_system_event_close(ends);
    assert_int_equal(ends[0], -1);
}

static void timers(void **state)
{
    const int fd = cpl_system_timer_open();
    (void)state;
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_false(readable(fd));
    for (int i = 0; i < 3; i++) {
        const uint64_t when = cpl_clock_ns() + 3000000;
        struct pollfd p = {.fd = fd, .events = POLLIN};
        assert_int_equal(cpl_system_timer_set(fd, when + 1000000000000u), 0);
        assert_int_equal(cpl_system_timer_set(fd, when), 0); /* the later word counts */
        assert_int_equal(poll(&p, 1, 10000), 1);
        assert_true(cpl_clock_ns() >= when);
        assert_true(cpl_system_timer_take(fd));
        assert_false(readable(fd));
    }
    assert_int_equal(cpl_system_timer_set(fd, 0), 0); /* long past: at once */
    struct pollfd p = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 10000), 1);
    close(fd);
}

static void waits(void **state)
{
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t c;
    int rc = 0;
    (void)state;
    assert_int_equal(cpl_system_cond_init(&c), 0);
    uint64_t when = cpl_clock_ns() + 3000000;
    pthread_mutex_lock(&lock);
    while (!rc) rc = cpl_system_cond_wait_until(&c, &lock, when);
    assert_int_equal(rc, ETIMEDOUT);
    assert_true(cpl_clock_ns() >= when);
    assert_int_equal(cpl_system_cond_wait_until(&c, &lock, 1), ETIMEDOUT);
    pthread_mutex_unlock(&lock);
    pthread_cond_destroy(&c);
    when = cpl_clock_ns() + 3000000;
    cpl_system_sleep_until_ns(when);
    assert_true(cpl_clock_ns() >= when);
    cpl_system_sleep_until_ns(1);
}

static void machine(void **state)
{
    char path[1024];
    unsigned char a[64], b[64];
    int cpus[4096];
    (void)state;
    assert_true(cpl_system_program(path, sizeof path));
    assert_non_null(strstr(path, "system"));
    assert_int_equal(access(path, X_OK), 0);
    assert_true(cpl_system_memory_bytes() > 64u << 20);
    assert_true(cpl_system_random(a, sizeof a) && cpl_system_random(b, sizeof b));
    assert_memory_not_equal(a, b, sizeof a);
    const uint32_t n = cpl_system_cpus(cpus, 4096);
    assert_true(n >= 1 && n == cpl_system_cpus(NULL, 0));
    const int e = cpl_system_stay_on(cpus, n);
    assert_true(e == 0 || e == ENOTSUP);
}

/* A child has a child of its own that sleeps; when the child is killed, the grandchild's end of the pipe closes. */
static void dying_together(void **state)
{
    int ends[2];
    char byte;
    (void)state;
    assert_int_equal(cpl_system_pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
        const pid_t me = getpid();
        if (fork() == 0) {
            cpl_system_die_with(me);
            if (write(ends[1], "x", 1) == 1) pause();
            _exit(1);
        }
        close(ends[1]);
        pause();
        _exit(1);
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], &byte, 1), 1); /* it is under way */
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(read(ends[0], &byte, 1), 0);
    close(ends[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(descriptors),   cmocka_unit_test(accepting),
                                       cmocka_unit_test(events),        cmocka_unit_test(timers),
                                       cmocka_unit_test(waits),         cmocka_unit_test(machine),
                                       cmocka_unit_test(dying_together)};
    alarm(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
