/* SPDX-License-Identifier: Apache-2.0 */
/* thread.c - starting, pinning, waiting and counting. Threads block all signals: only main's loop hears them. Where
 * there is no futex, waiting on a word is a nap: callers look again in any case. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "base/thread.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#include <time.h>
#endif

#include "base/error.h"
#include "base/system.h"

typedef struct start_record {
    void (*fn)(void *);
    void *arg;
    int cpu;
    char name[16];
} start_record;

static void *run(void *p)
{
    start_record r = *(start_record *)p;
    free(p);
    cpl_system_name_thread(r.name);
    if (r.cpu >= 0) cpl_system_stay_on(&r.cpu, 1); /* a hint: without it the thread runs all the same */
    r.fn(r.arg);
    return NULL;
}

cpl_status cpl_thread_start(cpl_thread *t, const char *name, int cpu, void (*fn)(void *), void *arg, cpl_error *err)
{
    t->started = 0;
    start_record *r = malloc(sizeof *r);
    if (!r) return cpl_fail_memory(err, sizeof *r);
    *r = (start_record){.fn = fn, .arg = arg, .cpu = cpu};
    snprintf(r->name, sizeof r->name, "%s", name);
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int e = pthread_create(&t->id, NULL, run, r);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (e) {
        free(r);
        return cpl_fail_errno(err, NULL, e, "can't start thread '%s'", name);
    }
    t->started = 1;
    return CPL_OK;
}

void cpl_thread_join(cpl_thread *t)
{
    if (t->started) pthread_join(t->id, NULL);
    t->started = 0;
}

cpl_status cpl_thread_pin(int cpu, cpl_error *err)
{
    if (cpu < 0) return cpl_fail(err, CPL_INVALID, "cpu %d is out of range", cpu);
    int e = cpl_system_stay_on(&cpu, 1);
    if (e) return cpl_fail(err, CPL_INVALID, "can't pin to cpu %d: %s", cpu, strerror(e));
    return CPL_OK;
}

#ifdef __linux__
void cpl_wait(atomic_uint *word, unsigned value) { syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0); }

void cpl_wake_all(atomic_uint *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1 << 20, NULL, NULL, 0); }
#else
void cpl_wait(atomic_uint *word, unsigned value)
{
    const struct timespec nap = {0, 50000};
    if (atomic_load(word) == value) nanosleep(&nap, NULL);
}

void cpl_wake_all(atomic_uint *word) { (void)word; }
#endif

uint32_t cpl_cpu_list(int *cpus, uint32_t cap) { return cpl_system_cpus(cpus, cap); }

/* Control group v2: "MAX PERIOD" in cpu.max; "max 100000" means no limit. */
static uint32_t quota_cpus(void)
{
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (!f) return UINT32_MAX;
    long long max = 0, period = 0;
    int got = fscanf(f, "%lld %lld", &max, &period);
    fclose(f);
    if (got != 2 || max <= 0 || period <= 0) return UINT32_MAX;
    return (uint32_t)((max + period - 1) / period);
}

uint32_t cpl_cpu_count(void)
{
    uint32_t n = cpl_cpu_list(NULL, 0), quota = quota_cpus();
    if (n > quota) n = quota;
    return n ? n : 1;
}
