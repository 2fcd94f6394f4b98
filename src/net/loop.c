/* SPDX-License-Identifier: Apache-2.0 */
/* loop.c - one network thread's loop: posts from other threads, deadlines, and one write a connection a turn.
 *
 * Posts: a lock-free stack that the loop takes whole and reverses. Only the push that finds it empty wakes the loop, so
 * a thousand results cost one wake-up. Writes: whatever happened during a turn only marks channels dirty; the
 * prepare hook, which libuv runs right before it waits, writes each once. Timers: everything that has a time sits in
 * one heap behind one precise timer, so that deadlines and an open-loop load generator's schedule have microseconds,
 * where uv_timer has milliseconds; it is re-armed only for an earlier time, because most deadlines are removed
 * unexpired.
 *
 * Threads: only cpl_loop_post and cpl_loop_stop may be called from elsewhere. Invariant: armed_ns is never later than
 * the heap's first entry when the loop waits. */
#include "net/loop_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/system.h"
#include "net/channel.h"

void cpl_loop_post(cpl_loop *loop, cpl_post *post)
{
    cpl_post *head = atomic_load_explicit(&loop->posts, memory_order_relaxed);
    do {
        post->next = head;
    } while (
        !atomic_compare_exchange_weak_explicit(&loop->posts, &head, post, memory_order_release, memory_order_relaxed));
    if (!head) uv_async_send(&loop->wake);
}

bool cpl_loop_timer_start(cpl_loop *loop, cpl_deadline *timer) { return cpl_deadline_add(&loop->deadlines, timer); }
void cpl_loop_timer_stop(cpl_loop *loop, cpl_deadline *timer) { cpl_deadline_remove(&loop->deadlines, timer); }
void **cpl_loop_user(cpl_loop *loop) { return &loop->user; }

static void run_posts(cpl_loop *loop)
{
    cpl_post *taken = atomic_exchange_explicit(&loop->posts, NULL, memory_order_acquire);
    cpl_post *ordered = NULL;
    while (taken) {
        cpl_post *next = taken->next;
        taken->next = ordered;
        ordered = taken;
        taken = next;
    }
    while (ordered) {
        cpl_post *post = ordered;
        ordered = post->next; /* the post is its owner's again once it runs */
        post->run(post);
    }
}

static void on_wake(uv_async_t *wake)
{
    cpl_loop *loop = wake->data;
    run_posts(loop);
    if (atomic_load_explicit(&loop->stopping, memory_order_acquire)) uv_stop(&loop->uv);
}

static void arm(cpl_loop *loop, uint64_t when_ns)
{
    if (cpl_system_timer_set(loop->timer_fd, when_ns) == 0) loop->armed_ns = when_ns;
}

static void on_timer(uv_poll_t *timer, int status, int events)
{
    cpl_loop *loop = timer->data;
    (void)status, (void)events;
    if (!cpl_system_timer_take(loop->timer_fd)) return;
    loop->armed_ns = UINT64_MAX;
    cpl_deadline_run(&loop->deadlines, cpl_clock_ns());
}

void cpl_loop_flush(cpl_loop *loop)
{
    while (loop->dirty) {
        cpl_channel *ch = loop->dirty;
        loop->dirty = ch->next_dirty;
        ch->dirty = false;
        cpl_channel_flush(ch);
    }
    uint64_t next_ns = cpl_deadline_next_ns(&loop->deadlines);
    if (next_ns < loop->armed_ns) arm(loop, next_ns);
}

static void on_before_poll(uv_prepare_t *prepare) { cpl_loop_flush(prepare->data); }

static int start_handles(cpl_loop *loop)
{
    int rc = uv_async_init(&loop->uv, &loop->wake, on_wake);
    if (rc) return rc;
    uv_prepare_init(&loop->uv, &loop->before_poll);
    uv_prepare_start(&loop->before_poll, on_before_poll);
    loop->timer_fd = cpl_system_timer_open();
    if (loop->timer_fd < 0) return -errno;
    rc = uv_poll_init(&loop->uv, &loop->timer, loop->timer_fd);
    if (rc) return rc;
    loop->wake.data = loop->before_poll.data = loop->timer.data = loop;
    return uv_poll_start(&loop->timer, UV_READABLE, on_timer);
}

cpl_status cpl_loop_init(cpl_loop *loop, cpl_error *err)
{
    *loop = (cpl_loop){.timer_fd = -1, .armed_ns = UINT64_MAX};
    loop->in = malloc(CPL_LOOP_READ_BYTES);
    if (!loop->in || !cpl_buf_reserve(&loop->out, 128 * 1024)) {
        free(loop->in);
        cpl_buf_deinit(&loop->out);
        return cpl_fail_memory(err, CPL_LOOP_READ_BYTES);
    }
    int rc = uv_loop_init(&loop->uv);
    if (rc) {
        free(loop->in);
        cpl_buf_deinit(&loop->out);
        return cpl_fail(err, CPL_IO, "event loop can't start: %s", uv_strerror(rc));
    }
    rc = start_handles(loop);
    if (!rc) return CPL_OK;
    cpl_loop_deinit(loop);
    return cpl_fail(err, CPL_IO, "event loop can't start: %s", uv_strerror(rc));
}

static void close_handle(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle)) uv_close(handle, NULL);
}

void cpl_loop_deinit(cpl_loop *loop)
{
    uv_walk(&loop->uv, close_handle, NULL);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    int rc = uv_loop_close(&loop->uv);
    CPL_ASSERT(rc == 0);
    if (loop->timer_fd >= 0) close(loop->timer_fd);
    cpl_deadline_heap_deinit(&loop->deadlines);
    cpl_inflater_deinit(&loop->inflater);
    cpl_buf_deinit(&loop->out);
    free(loop->in);
    loop->in = NULL;
}

void cpl_loop_run(cpl_loop *loop)
{
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    run_posts(loop);
}

void cpl_loop_stop(cpl_loop *loop)
{
    atomic_store_explicit(&loop->stopping, true, memory_order_release);
    uv_async_send(&loop->wake);
}

void cpl_loop_turn(cpl_loop *loop, bool wait) { uv_run(&loop->uv, wait ? UV_RUN_ONCE : UV_RUN_NOWAIT); }

void cpl_loop_turn_end(cpl_loop *loop) { uv_stop(&loop->uv); }
