/* SPDX-License-Identifier: Apache-2.0 */
/* priority.c - SCHED_RR at its lowest level, else a better nice value, else nothing.
 * Why: an open loop's sender sleeps until the next arrival. On a machine whose cores all compute (a server's workers,
 * one a core) an ordinary thread that wakes up waits for the end of a worker's slice, milliseconds, which is then part
 * of every latency although no client was late. What it takes is a few per cent of a core, and it is in every result.
 * Threads: the calling one. Rejected: pinning to a core (with workers on all of them there is none to pin to). */
#include "load/priority.h"

#include <pthread.h>
#include <sched.h>
#ifdef __linux__
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#ifdef __linux__
enum { BETTER_NICE = -15 };

void cpl_priority_raise(cpl_priority *p)
{
    struct sched_param now = {0};
    *p = (cpl_priority){.name = "normal"};
    const id_t self = (id_t)syscall(SYS_gettid);
    p->policy = sched_getscheduler(0);
    if (p->policy < 0 || sched_getparam(0, &now)) return;
    p->level = now.sched_priority;
    p->nice = getpriority(PRIO_PROCESS, self);
    const struct sched_param lowest = {.sched_priority = sched_get_priority_min(SCHED_RR)};
    if (sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &lowest) == 0) {
        p->raised = 1;
        p->name = "real-time";
    } else if (p->nice > BETTER_NICE && setpriority(PRIO_PROCESS, self, BETTER_NICE) == 0) {
        p->raised = 2;
        p->name = "nice -15";
    }
}

void cpl_priority_restore(const cpl_priority *p)
{
    const struct sched_param old = {.sched_priority = p->level};
    if (p->raised == 1) sched_setscheduler(0, p->policy, &old);
    if (p->raised == 2) setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), p->nice);
}
#else
void cpl_priority_raise(cpl_priority *p)
{
    struct sched_param now = {0};
    *p = (cpl_priority){.name = "normal"};
    if (pthread_getschedparam(pthread_self(), &p->policy, &now)) return;
    p->level = now.sched_priority;
    const struct sched_param lowest = {.sched_priority = sched_get_priority_min(SCHED_RR)};
    if (pthread_setschedparam(pthread_self(), SCHED_RR, &lowest)) return;
    p->raised = 1;
    p->name = "real-time";
}

void cpl_priority_restore(const cpl_priority *p)
{
    const struct sched_param old = {.sched_priority = p->level};
    if (p->raised) pthread_setschedparam(pthread_self(), p->policy, &old);
}
#endif
