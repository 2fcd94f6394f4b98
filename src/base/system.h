/* SPDX-License-Identifier: Apache-2.0 */
/* system.h - what each operating system has in its own way, once: files system_linux.c and system_macos.c have a side
 * each, and nothing outside base/ and kernel/cpu_arm.c calls what only one of them has (tools/check_macos.sh). Calls
 * return as the system does: -1 and errno, or 0. */
#ifndef CPL_BASE_SYSTEM_H
#define CPL_BASE_SYSTEM_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Descriptors, closed on exec from the start. */
int cpl_system_socket(int family, bool blocking); /* of a stream */
int cpl_system_accept(int fd);                    /* without blocking, nor does what it gives */
int cpl_system_pipe(int ends[2]);
int cpl_system_scratch_file(const char *name); /* empty, in no folder, gone with its last descriptor */

/* Something another thread can make readable: poll ends[0], set ends[1] (which may be the same). */
int cpl_system_event_open(int ends[2]);
void cpl_system_event_set(const int ends[2]);
void cpl_system_event_close(int ends[2]);

/* A descriptor that is readable once CLOCK_MONOTONIC has reached a time, to the microsecond or better. */
int cpl_system_timer_open(void);
int cpl_system_timer_set(int fd, uint64_t when_ns);
bool cpl_system_timer_take(int fd); /* true: the time had come; readable no longer */

/* Conditions on CLOCK_MONOTONIC. Waiting gives 0 or ETIMEDOUT. */
int cpl_system_cond_init(pthread_cond_t *c);
int cpl_system_cond_wait_until(pthread_cond_t *c, pthread_mutex_t *lock, uint64_t when_ns);
void cpl_system_sleep_until_ns(uint64_t when_ns);

/* CPUs that this process may use (at most cap are written; returns how many there are), and keeping the calling thread
 * to some of them: 0, or an errno; ENOTSUP where a system knows no such thing. */
uint32_t cpl_system_cpus(int *cpus, uint32_t cap);
int cpl_system_stay_on(const int *cpus, uint32_t n);
void cpl_system_name_thread(const char *name);

bool cpl_system_random(void *out, size_t n); /* n up to 256 */
uint64_t cpl_system_memory_bytes(void);      /* 0: unreadable */
/* This program's file; false when it can't be told. */
bool cpl_system_program(char *path, size_t cap);
/* In a child between fork and exec: it is killed when `parent` ends. */
void cpl_system_die_with(pid_t parent);

#endif
