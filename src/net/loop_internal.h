/* SPDX-License-Identifier: Apache-2.0 */
/* loop_internal.h - what a network thread is made of; for the net floor's own files. */
#ifndef CPL_NET_LOOP_INTERNAL_H
#define CPL_NET_LOOP_INTERNAL_H

#include <stdatomic.h>
#include <uv.h>

#include "base/buf.h"
#include "net/deadline_heap.h"
#include "net/grpc_frame.h"
#include "net/loop.h"

enum { CPL_LOOP_READ_BYTES = 256 * 1024 };

struct cpl_channel;

struct cpl_loop {
    uv_loop_t uv;
    uv_async_t wake;          /* posts came */
    uv_prepare_t before_poll; /* writes what was queued, arms the timer */
    int timer_fd;
    uv_poll_t timer;
    uint64_t armed_ns; /* when the timer fires; UINT64_MAX: not armed */
    _Atomic(cpl_post *) posts;
    atomic_bool stopping;
    cpl_deadline_heap deadlines;
    struct cpl_channel *dirty;                 /* have frames to write */
    uint8_t *in;                               /* CPL_LOOP_READ_BYTES, for the channel being read */
    cpl_buf out;                               /* frames of the channel being written */
    uint64_t read_ns;                          /* when the bytes being handled were read */
    uint64_t write_ns;                         /* when the frames being gathered are handed to the socket */
    atomic_uint_least64_t bytes_in, bytes_out; /* written by this thread only */
    cpl_inflater inflater;
    void *user;
};

/* For counters that one thread writes and any reads. */
static inline void cpl_count(atomic_uint_least64_t *counter, int64_t by)
{
    uint64_t now = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, now + (uint64_t)by, memory_order_relaxed);
}

cpl_status cpl_loop_init(cpl_loop *loop, cpl_error *err);
/* After a failed init, or once every channel is closed. */
void cpl_loop_deinit(cpl_loop *loop);
/* Runs until cpl_loop_stop (from any thread) and then what posts are left. */
void cpl_loop_run(cpl_loop *loop);
void cpl_loop_stop(cpl_loop *loop);
/* One turn: waits for events at most until the next deadline. */
void cpl_loop_turn(cpl_loop *loop, bool wait);
/* Inside a turn: it handles what is there and doesn't wait. */
void cpl_loop_turn_end(cpl_loop *loop);
/* Writes every dirty channel and arms the timer; cpl_loop_run does it before each wait. */
void cpl_loop_flush(cpl_loop *loop);

#endif
