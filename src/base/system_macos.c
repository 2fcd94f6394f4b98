/* SPDX-License-Identifier: Apache-2.0 */
/* system_macos.c - macOS's side of system.h. The one idea: where it lacks a call, the nearest that keeps the promise:
 * kqueue for timers and for the end of a process, a pipe for an event, flags set after the fact for descriptors (a fork
 * of another thread in between would inherit one; couplet forks before it serves). Threads can't be kept to a CPU on
 * Apple Silicon: they are marked as interactive instead, which keeps them on the fast cores. Compiled in CI
 * (tools/check_macos.sh), not run there. Threads: any. */
#ifdef __APPLE__
#include "base/system.h"

#include <errno.h>
#include <fcntl.h>
#include <mach-o/dyld.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/event.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/sysctl.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* fd with the flags; -1 stays -1, and a failure closes it. */
static int flagged(int fd, bool blocking)
{
    if (fd < 0) return -1;
    const int have = fcntl(fd, F_GETFL);
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 && have >= 0 &&
        fcntl(fd, F_SETFL, blocking ? have & ~O_NONBLOCK : have | O_NONBLOCK) == 0)
        return fd;
    const int error = errno;
    close(fd);
    errno = error;
    return -1;
}

int cpl_system_socket(int family, bool blocking)
{
    const int fd = flagged(socket(family, SOCK_STREAM, 0), blocking);
    const int yes = 1; /* a closed peer is EPIPE, not a signal, whoever writes */
    if (fd >= 0) setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &yes, sizeof yes);
    return fd;
}

int cpl_system_accept(int fd)
{
    const int got = flagged(accept(fd, NULL, NULL), false);
    const int yes = 1;
    if (got >= 0) setsockopt(got, SOL_SOCKET, SO_NOSIGPIPE, &yes, sizeof yes);
    return got;
}

static int pipe_with(int ends[2], bool blocking)
{
    if (pipe(ends)) return -1;
    ends[0] = flagged(ends[0], blocking);
    ends[1] = flagged(ends[1], blocking);
    if (ends[0] >= 0 && ends[1] >= 0) return 0;
    const int error = errno;
    cpl_system_event_close(ends);
    errno = error;
    return -1;
}

int cpl_system_pipe(int ends[2]) { return pipe_with(ends, true); }
int cpl_system_scratch_file(const char *name)
{
    char path[256];
    const char *folder = getenv("TMPDIR");
    const int n = snprintf(path, sizeof path, "%s/%s.XXXXXX", folder && *folder ? folder : "/var/tmp", name);
    if (n < 0 || (size_t)n >= sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    const int fd = mkstemp(path);
    if (fd >= 0) unlink(path);
    return flagged(fd, true);
}

int cpl_system_event_open(int ends[2])
{
    ends[0] = ends[1] = -1;
    return pipe_with(ends, false);
}

void cpl_system_event_set(const int ends[2])
{
    const ssize_t n = write(ends[1], "", 1); /* can only fail when it is set already */
    (void)n;
}

void cpl_system_event_close(int ends[2])
{
    for (int i = 0; i < 2; i++) {
        if (ends[i] >= 0) close(ends[i]);
        ends[i] = -1;
    }
}

int cpl_system_timer_open(void) { return flagged(kqueue(), true); }

int cpl_system_timer_set(int fd, uint64_t when_ns)
{
    const uint64_t now = now_ns(), wait = when_ns > now ? when_ns - now : 1;
    struct kevent change;
    EV_SET(&change, 1, EVFILT_TIMER, EV_ADD | EV_ONESHOT, NOTE_NSECONDS | NOTE_CRITICAL, (intptr_t)wait, NULL);
    return kevent(fd, &change, 1, NULL, 0, NULL) < 0 ? -1 : 0;
}

bool cpl_system_timer_take(int fd)
{
    const struct timespec none = {0, 0};
    struct kevent event;
    return kevent(fd, NULL, 0, &event, 1, &none) > 0;
}

int cpl_system_cond_init(pthread_cond_t *c) { return pthread_cond_init(c, NULL); }

int cpl_system_cond_wait_until(pthread_cond_t *c, pthread_mutex_t *lock, uint64_t when_ns)
{
    const uint64_t now = now_ns(), wait = when_ns > now ? when_ns - now : 0;
    const struct timespec t = {(time_t)(wait / 1000000000u), (long)(wait % 1000000000u)};
    return pthread_cond_timedwait_relative_np(c, lock, &t);
}

void cpl_system_sleep_until_ns(uint64_t when_ns)
{
    for (uint64_t now = now_ns(); now < when_ns; now = now_ns()) {
        const struct timespec t = {(time_t)((when_ns - now) / 1000000000u), (long)((when_ns - now) % 1000000000u)};
        nanosleep(&t, NULL);
    }
}

static uint64_t read_number(const char *name)
{
    uint64_t value = 0;
    size_t n = sizeof value;
    return sysctlbyname(name, &value, &n, NULL, 0) ? 0 : value; /* little endian: 4 bytes fill the low half */
}

uint32_t cpl_system_cpus(int *cpus, uint32_t cap)
{
    const uint32_t n = (uint32_t)read_number("hw.activecpu");
    for (uint32_t i = 0; i < n && i < cap; i++) cpus[i] = (int)i;
    return n;
}

int cpl_system_stay_on(const int *cpus, uint32_t n)
{
    (void)cpus, (void)n;
    pthread_set_qos_class_self_np(QOS_CLASS_USER_INTERACTIVE, 0);
    return ENOTSUP;
}

void cpl_system_name_thread(const char *name) { pthread_setname_np(name); }

bool cpl_system_random(void *out, size_t n) { return getentropy(out, n) == 0; }

uint64_t cpl_system_memory_bytes(void) { return read_number("hw.memsize"); }

bool cpl_system_program(char *path, size_t cap)
{
    char raw[1024];
    uint32_t n = sizeof raw;
    if (_NSGetExecutablePath(raw, &n)) return false;
    char *real = realpath(raw, NULL);
    if (!real) return false;
    const size_t size = strlen(real) + 1;
    if (size <= cap) memcpy(path, real, size);
    free(real);
    return size <= cap;
}

/* A second child waits for the end of either; it holds no descriptor of ours, so nobody waits for it. */
void cpl_system_die_with(pid_t parent)
{
    const pid_t child = getpid();
    const pid_t watcher = fork();
    if (watcher != 0) return;
    for (int fd = 0; fd < 1024; fd++) close(fd);
    const int queue = kqueue();
    struct kevent ends[2], event;
    EV_SET(&ends[0], (uintptr_t)parent, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0, NULL);
    EV_SET(&ends[1], (uintptr_t)child, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0, NULL);
    const int waits = queue >= 0 && kevent(queue, ends, 2, NULL, 0, NULL) == 0;
    if (!waits || (kevent(queue, NULL, 0, &event, 1, NULL) > 0 && event.ident == (uintptr_t)parent))
        kill(child, SIGKILL);
    kill(getpid(), SIGKILL); /* done; nothing of this copy of the program may run on */
}
#else
typedef int cpl_system_macos_empty; /* a file needs a declaration */
#endif
