/* SPDX-License-Identifier: Apache-2.0 */
/* thread.h - named, optionally pinned threads, waiting on a word, and which CPUs this process may use. Locks are
 * pthread's own. */
#ifndef CPL_BASE_THREAD_H
#define CPL_BASE_THREAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "couplet.h"

typedef struct cpl_thread {
    pthread_t id;
    int started;
} cpl_thread;

/* Runs fn(arg) on a new thread called `name` (15 bytes show), pinned to `cpu`, or free with cpu < 0. All signals are
 * blocked in it. */
cpl_status cpl_thread_start(cpl_thread *t, const char *name, int cpu, void (*fn)(void *), void *arg, cpl_error *err);
/* Waits for its end. A zeroed or joined cpl_thread is fine. */
void cpl_thread_join(cpl_thread *t);
/* Pins the calling thread; CPL_INVALID when the CPU isn't allowed. */
cpl_status cpl_thread_pin(int cpu, cpl_error *err);

/* In a loop that spins on memory. */
static inline void cpl_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb" ::: "memory");
#endif
}
/* Sleeps while *word is `value`, until a cpl_wake_all on it; may return for no reason. */
void cpl_wait(atomic_uint *word, unsigned value);
void cpl_wake_all(atomic_uint *word);

/* CPUs the affinity mask allows, cut to the control group's quota (rounded up, at least 1). */
uint32_t cpl_cpu_count(void);
/* The allowed CPUs' numbers, at most cap; returns how many there are. */
uint32_t cpl_cpu_list(int *cpus, uint32_t cap);

#endif
