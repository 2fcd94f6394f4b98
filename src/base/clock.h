/* SPDX-License-Identifier: Apache-2.0 */
/* clock.h - the monotonic clock in nanoseconds, the only clock couplet measures with. */
#ifndef CPL_BASE_CLOCK_H
#define CPL_BASE_CLOCK_H

#include <stdint.h>

uint64_t cpl_clock_ns(void);
void cpl_clock_sleep_until_ns(uint64_t when_ns);
/* Seconds since the epoch, for names and reports only. */
int64_t cpl_clock_wall_seconds(void);
/* CPU time of the calling thread, and of the whole process. */
uint64_t cpl_clock_thread_cpu_ns(void);
uint64_t cpl_clock_process_cpu_ns(void);

#endif
