/* SPDX-License-Identifier: Apache-2.0 */
/* peak_threads.c - the peak loop on several cores at once.
 * The one idea: all threads wait at a gate and start together, each pinned to its own core, because one core's peak
 * times n is not what n cores give. Each reports its own rate over its own time; the sum is the machine's. A gate, not
 * a barrier: when a thread can't be started the gate opens all the same and the others go home. */
#include "cli/peak_threads.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/thread.h"
#include "kernel/cpu.h"
#include "kernel/peak.h"

typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t opened;
    int open; /* 1: run, -1: go home */
} gate;

typedef struct peak_thread {
    cpl_thread thread;
    gate *gate;
    cpl_peak_loop loop;
    cpl_isa isa;
    uint32_t us;
    double ops_per_s;
} peak_thread;

static void run_peak(void *arg)
{
    peak_thread *t = arg;
    pthread_mutex_lock(&t->gate->lock);
    while (!t->gate->open) pthread_cond_wait(&t->gate->opened, &t->gate->lock);
    int open = t->gate->open;
    pthread_mutex_unlock(&t->gate->lock);
    if (open > 0) t->ops_per_s = t->loop == CPL_PEAK_INT8 ? cpl_peak_int8(t->isa, t->us) : cpl_peak_fp32(t->isa, t->us);
}

static cpl_status run_all(peak_thread *t, uint32_t n, const int *cpus, uint32_t cpu_count, cpl_error *err)
{
    gate g = {.lock = PTHREAD_MUTEX_INITIALIZER, .opened = PTHREAD_COND_INITIALIZER};
    cpl_status st = CPL_OK;
    for (uint32_t i = 0; i < n && !st; i++) {
        t[i].gate = &g;
        st = cpl_thread_start(&t[i].thread, "peak", cpus[i % cpu_count], run_peak, &t[i], err);
    }
    pthread_mutex_lock(&g.lock);
    g.open = st ? -1 : 1;
    pthread_cond_broadcast(&g.opened);
    pthread_mutex_unlock(&g.lock);
    for (uint32_t i = 0; i < n; i++) cpl_thread_join(&t[i].thread);
    return st;
}

cpl_status cpl_peak_threads(double *ops_per_s, cpl_peak_loop loop, const char *isa_name, uint32_t threads,
                            uint64_t duration_ns, cpl_error *err)
{
    enum { CPUS_MAX = 1024 };
    int cpus[CPUS_MAX];
    cpl_cpu cpu;
    cpl_isa isa;
    *ops_per_s = 0;
    cpl_cpu_detect(&cpu);
    cpl_status st = cpl_isa_choose(&isa, isa_name, &cpu, err);
    if (st) return st;
    uint32_t cpu_count = cpl_cpu_list(cpus, CPUS_MAX);
    if (cpu_count > CPUS_MAX) cpu_count = CPUS_MAX;
    if (!cpu_count || !threads) return cpl_fail(err, CPL_INVALID, "no cpu to measure on");
    peak_thread *t = calloc(threads, sizeof *t);
    if (!t) return cpl_fail_memory(err, threads * sizeof *t);
    for (uint32_t i = 0; i < threads; i++)
        t[i] = (peak_thread){.loop = loop, .isa = isa, .us = (uint32_t)(duration_ns / 1000)};
    st = run_all(t, threads, cpus, cpu_count, err);
    for (uint32_t i = 0; i < threads; i++) *ops_per_s += t[i].ops_per_s;
    free(t);
    return st;
}
