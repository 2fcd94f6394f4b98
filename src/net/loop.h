/* SPDX-License-Identifier: Apache-2.0 */
/* loop.h - one network thread: a libuv loop and a queue by which other threads hand results over, one coalesced
 * wake-up for any number of them. */
#ifndef CPL_NET_LOOP_H
#define CPL_NET_LOOP_H

#include "couplet.h"
#include "net/deadline_heap.h"

typedef struct cpl_loop cpl_loop;

/* Embedded in whatever is handed over; no memory is taken for a post. */
typedef struct cpl_post {
    struct cpl_post *next;
    void (*run)(struct cpl_post *post); /* on the loop's thread */
} cpl_post;

/* From any thread. The post must not be pending already. */
void cpl_loop_post(cpl_loop *loop, cpl_post *post);
/* Calls timer->expired at timer->when_ns, once; false when memory is out. Both on the loop's thread. */
bool cpl_loop_timer_start(cpl_loop *loop, cpl_deadline *timer);
void cpl_loop_timer_stop(cpl_loop *loop, cpl_deadline *timer); /* fine when it isn't running */
/* A scratch slot for the loop's user (e.g. this thread's tokenizer scratch). */
void **cpl_loop_user(cpl_loop *loop);

#endif
