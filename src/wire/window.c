/* SPDX-License-Identifier: Apache-2.0 */
/* window.c - a sliding minute in twelve slots of five seconds.
 * The one idea: a slot knows which five seconds it holds; one that is written in another starts over, one that is read
 * too late doesn't count. So nothing has to run on a timer, and the window reaches back 55 to 60 seconds.
 * Threads: one window a network thread, whose lock is only ever contended by a reader of metrics. Time is an argument,
 * so tests turn the clock. */
#include "wire/window.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/error.h"

enum { SLOTS = 12 };
#define SLOT_NS UINT64_C(5000000000)

typedef struct slot {
    uint64_t turn; /* now / SLOT_NS + 1; 0: never written */
    uint64_t pairs;
    cpl_histogram latency_ns;
} slot;

struct cpl_window {
    pthread_mutex_t lock;
    uint64_t opened_ns, requests, pairs;
    slot slots[SLOTS];
};

cpl_status cpl_window_open(cpl_window **out, uint64_t now_ns, cpl_error *err)
{
    *out = calloc(1, sizeof **out);
    if (!*out) return cpl_fail_memory(err, sizeof **out);
    (*out)->opened_ns = now_ns;
    pthread_mutex_init(&(*out)->lock, NULL);
    return CPL_OK;
}

void cpl_window_close(cpl_window *w)
{
    if (!w) return;
    pthread_mutex_destroy(&w->lock);
    free(w);
}

void cpl_window_add(cpl_window *w, uint64_t now_ns, uint64_t latency_ns, uint64_t pairs)
{
    uint64_t turn = now_ns / SLOT_NS + 1;
    pthread_mutex_lock(&w->lock);
    slot *s = &w->slots[turn % SLOTS];
    if (s->turn != turn) {
        s->latency_ns = (cpl_histogram){0};
        s->pairs = 0;
        s->turn = turn;
    }
    cpl_histogram_add(&s->latency_ns, latency_ns);
    s->pairs += pairs;
    w->requests++;
    w->pairs += pairs;
    pthread_mutex_unlock(&w->lock);
}

void cpl_window_merge(cpl_window_sum *sum, cpl_window *w, uint64_t now_ns)
{
    uint64_t turn = now_ns / SLOT_NS + 1;
    uint64_t reach_ns = (SLOTS - 1) * SLOT_NS + now_ns % SLOT_NS;
    pthread_mutex_lock(&w->lock);
    if (now_ns - w->opened_ns < reach_ns) reach_ns = now_ns - w->opened_ns;
    if (reach_ns > sum->recent_ns) sum->recent_ns = reach_ns;
    sum->requests += w->requests;
    sum->pairs += w->pairs;
    for (int i = 0; i < SLOTS; i++) {
        const slot *s = &w->slots[i];
        if (!s->turn || s->turn + SLOTS <= turn || s->turn > turn) continue;
        sum->recent_requests += s->latency_ns.count;
        sum->recent_pairs += s->pairs;
        cpl_histogram_merge(&sum->latency_ns, &s->latency_ns);
    }
    pthread_mutex_unlock(&w->lock);
}
