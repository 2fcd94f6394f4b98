/* SPDX-License-Identifier: Apache-2.0 */
/* system_linux.c - Linux's side of system.h. One idea: nothing here but the call and its flags. Threads: any. */
#ifdef __linux__
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "base/system.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static struct timespec time_of(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
}

int cpl_system_socket(int family, bool blocking)
{
    return socket(family, SOCK_STREAM | SOCK_CLOEXEC | (blocking ? 0 : SOCK_NONBLOCK), 0);
}

int cpl_system_accept(int fd) { return accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC); }
int cpl_system_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC); }

int cpl_system_scratch_file(const char *name) { return memfd_create(name, MFD_CLOEXEC); }

int cpl_system_event_open(int ends[2])
{
    ends[0] = ends[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return ends[0] < 0 ? -1 : 0;
}

void cpl_system_event_set(const int ends[2]) { eventfd_write(ends[1], 1); /* can only fail when it is set already */ }

void cpl_system_event_close(int ends[2])
{
    if (ends[0] >= 0) close(ends[0]);
    ends[0] = ends[1] = -1;
}

int cpl_system_timer_open(void) { return timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC); }

int cpl_system_timer_set(int fd, uint64_t when_ns)
{
    const struct itimerspec at = {.it_value = time_of(when_ns ? when_ns : 1)}; /* all zero would disarm it */
    return timerfd_settime(fd, TFD_TIMER_ABSTIME, &at, NULL);
}

bool cpl_system_timer_take(int fd)
{
    uint64_t times;
    return !(read(fd, &times, sizeof times) < 0 && errno == EAGAIN);
}

int cpl_system_cond_init(pthread_cond_t *c)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    const int e = pthread_cond_init(c, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return e;
}

int cpl_system_cond_wait_until(pthread_cond_t *c, pthread_mutex_t *lock, uint64_t when_ns)
{
    const struct timespec at = time_of(when_ns);
    return pthread_cond_timedwait(c, lock, &at);
}

void cpl_system_sleep_until_ns(uint64_t when_ns)
{
    const struct timespec at = time_of(when_ns);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) {
    }
}

uint32_t cpl_system_cpus(int *cpus, uint32_t cap)
{
    cpu_set_t set;
    uint32_t n = 0;
    if (sched_getaffinity(0, sizeof set, &set)) return 0;
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (!CPU_ISSET((size_t)i, &set)) continue;
        if (n < cap) cpus[n] = i;
        n++;
    }
    return n;
}

int cpl_system_stay_on(const int *cpus, uint32_t n)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (uint32_t i = 0; i < n; i++)
        if (cpus[i] >= 0 && cpus[i] < CPU_SETSIZE) CPU_SET((size_t)cpus[i], &set);
    return pthread_setaffinity_np(pthread_self(), sizeof set, &set); /* an empty or forbidden set changes nothing */
}

void cpl_system_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }

bool cpl_system_random(void *out, size_t n) { return getrandom(out, n, 0) == (ssize_t)n; }

uint64_t cpl_system_memory_bytes(void)
{
    struct sysinfo s;
    return sysinfo(&s) ? 0 : (uint64_t)s.totalram * s.mem_unit;
}

bool cpl_system_program(char *path, size_t cap)
{
    const ssize_t n = readlink("/proc/self/exe", path, cap - 1);
    if (n <= 0) return false;
    path[n] = 0;
    return true;
}

void cpl_system_die_with(pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) raise(SIGKILL); /* it ended before the line above */
}
#else
typedef int cpl_system_linux_empty; /* a file needs a declaration */
#endif
