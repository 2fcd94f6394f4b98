/* SPDX-License-Identifier: Apache-2.0 */
/* deadline_heap.c - a binary heap with places written back into the nodes, so that a call that ends in time (nearly all
 * do) leaves in O(log n) with no search. Rejected: one uv_timer a call (a red-black tree insert, and milliseconds
 * only), and a wheel (cheaper still, but deadlines span microseconds to hours and n is at most the streams in flight).
 *
 * Invariant: nodes[i]->place == i + 1, and no node is due before its parent. */
#include "net/deadline_heap.h"

#include <stdlib.h>

#include "base/error.h"

void cpl_deadline_heap_deinit(cpl_deadline_heap *h)
{
    free(h->nodes);
    *h = (cpl_deadline_heap){0};
}

static void put(cpl_deadline_heap *h, size_t i, cpl_deadline *node)
{
    h->nodes[i] = node;
    node->place = i + 1;
}

static void sift_up(cpl_deadline_heap *h, size_t i, cpl_deadline *node)
{
    while (i) {
        size_t parent = (i - 1) / 2;
        if (h->nodes[parent]->when_ns <= node->when_ns) break;
        put(h, i, h->nodes[parent]);
        i = parent;
    }
    put(h, i, node);
}

static void sift_down(cpl_deadline_heap *h, size_t i, cpl_deadline *node)
{
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= h->count) break;
        if (child + 1 < h->count && h->nodes[child + 1]->when_ns < h->nodes[child]->when_ns) child++;
        if (h->nodes[child]->when_ns >= node->when_ns) break;
        put(h, i, h->nodes[child]);
        i = child;
    }
    put(h, i, node);
}

bool cpl_deadline_add(cpl_deadline_heap *h, cpl_deadline *node)
{
    CPL_ASSERT(!node->place);
    if (h->count == h->cap) {
        size_t cap = h->cap ? h->cap * 2 : 64;
        cpl_deadline **nodes = realloc(h->nodes, cap * sizeof *nodes);
        if (!nodes) return false;
        h->nodes = nodes;
        h->cap = cap;
    }
    sift_up(h, h->count++, node);
    return true;
}

void cpl_deadline_remove(cpl_deadline_heap *h, cpl_deadline *node)
{
    if (!node->place) return;
    size_t i = node->place - 1;
    CPL_ASSERT(i < h->count && h->nodes[i] == node);
    node->place = 0;
    cpl_deadline *last = h->nodes[--h->count];
    if (last == node) return;
    if (i && h->nodes[(i - 1) / 2]->when_ns > last->when_ns) {
        sift_up(h, i, last);
    } else {
        sift_down(h, i, last);
    }
}

uint64_t cpl_deadline_next_ns(const cpl_deadline_heap *h) { return h->count ? h->nodes[0]->when_ns : UINT64_MAX; }

void cpl_deadline_run(cpl_deadline_heap *h, uint64_t now_ns)
{
    while (h->count && h->nodes[0]->when_ns <= now_ns) {
        cpl_deadline *node = h->nodes[0];
        cpl_deadline_remove(h, node);
        node->expired(node);
    }
}
