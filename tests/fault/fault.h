/* SPDX-License-Identifier: Apache-2.0 */
/* fault.h - makes the nth call fail of those that take something from the system: memory, mappings, threads.
 *
 * A test file declares the wrappers it wants (`void *__wrap_malloc(size_t size);` ...): the build links each declared
 * name with --wrap, so that calls from couplet's own objects come here. Libraries keep the real ones, jansson too: its
 * lexer runs into an assertion of its own (load.c, lex_unget_unsave) when memory runs out in the middle of a token.
 * Include once, in the test's only .c file. Any thread. */
#ifndef CPL_TESTS_FAULT_H
#define CPL_TESTS_FAULT_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
int __real_posix_memalign(void **out, size_t align, size_t size);
void *__real_mmap(void *at, size_t size, int protection, int flags, int file, off_t offset);
int __real_pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);

static atomic_long cpl_fault_calls;   /* seen since the last arming */
static atomic_long cpl_fault_at = -1; /* the call that fails, counted from 0; below 0: none */
static atomic_bool cpl_fault_forever; /* and all after it */
static atomic_long cpl_fault_hits;

/* The nth call from here on fails; with `forever` those behind it too. n below 0 only counts. */
static inline void cpl_fault_arm(long n, bool forever)
{
    atomic_store(&cpl_fault_at, -1);
    atomic_store(&cpl_fault_calls, 0);
    atomic_store(&cpl_fault_hits, 0);
    atomic_store(&cpl_fault_forever, forever);
    atomic_store(&cpl_fault_at, n);
}

/* Back to normal; returns how many calls failed. */
static inline long cpl_fault_disarm(void)
{
    atomic_store(&cpl_fault_at, -1);
    return atomic_load(&cpl_fault_hits);
}

static inline bool cpl_fault_here(void)
{
    long call = atomic_fetch_add(&cpl_fault_calls, 1), at = atomic_load(&cpl_fault_at);
    if (at < 0 || call < at || (call > at && !atomic_load(&cpl_fault_forever))) return false;
    atomic_fetch_add(&cpl_fault_hits, 1);
    return true;
}

void *__wrap_malloc(size_t size)
{
    if (!cpl_fault_here()) return __real_malloc(size);
    errno = ENOMEM;
    return NULL;
}

void *__wrap_calloc(size_t count, size_t size)
{
    if (!cpl_fault_here()) return __real_calloc(count, size);
    errno = ENOMEM;
    return NULL;
}

void *__wrap_realloc(void *old, size_t size)
{
    if (!cpl_fault_here()) return __real_realloc(old, size);
    errno = ENOMEM;
    return NULL;
}

int __wrap_posix_memalign(void **out, size_t align, size_t size)
{
    return cpl_fault_here() ? ENOMEM : __real_posix_memalign(out, align, size);
}

void *__wrap_mmap(void *at, size_t size, int protection, int flags, int file, off_t offset)
{
    if (!cpl_fault_here()) return __real_mmap(at, size, protection, flags, file, offset);
    errno = ENOMEM;
    return MAP_FAILED;
}

int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
    return cpl_fault_here() ? EAGAIN : __real_pthread_create(out, attr, fn, arg);
}

#endif
