/* SPDX-License-Identifier: Apache-2.0 */
/* clock.c - CLOCK_MONOTONIC everywhere, so a step of the wall clock never bends a latency. Threads: any. */
#include "base/clock.h"

#include <time.h>

#include "base/system.h"

static uint64_t read_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t cpl_clock_ns(void) { return read_ns(CLOCK_MONOTONIC); }
uint64_t cpl_clock_thread_cpu_ns(void) { return read_ns(CLOCK_THREAD_CPUTIME_ID); }
uint64_t cpl_clock_process_cpu_ns(void) { return read_ns(CLOCK_PROCESS_CPUTIME_ID); }
int64_t cpl_clock_wall_seconds(void) { return (int64_t)time(NULL); }

void cpl_clock_sleep_until_ns(uint64_t when_ns) { cpl_system_sleep_until_ns(when_ns); }
