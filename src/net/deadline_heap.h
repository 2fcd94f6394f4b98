/* SPDX-License-Identifier: Apache-2.0 */
/* deadline_heap.h - which of a loop's calls expires first. Nodes are embedded in the calls; the heap holds pointers.
 * One thread at a time. */
#ifndef CPL_NET_DEADLINE_HEAP_H
#define CPL_NET_DEADLINE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cpl_deadline {
    uint64_t when_ns;
    size_t place;                           /* 1-based index in the heap; 0: not in it */
    void (*expired)(struct cpl_deadline *); /* taken out already; may add and remove others */
} cpl_deadline;

/* A zeroed heap is an empty one. */
typedef struct cpl_deadline_heap {
    cpl_deadline **nodes; /* nodes[0..count) */
    size_t count, cap;
} cpl_deadline_heap;

void cpl_deadline_heap_deinit(cpl_deadline_heap *h);
/* False when memory is out. The node must not be in a heap. */
bool cpl_deadline_add(cpl_deadline_heap *h, cpl_deadline *node);
/* Nothing happens for a node that isn't in a heap. */
void cpl_deadline_remove(cpl_deadline_heap *h, cpl_deadline *node);
/* UINT64_MAX when empty. */
uint64_t cpl_deadline_next_ns(const cpl_deadline_heap *h);
/* Takes out and calls all that are due at now_ns. */
void cpl_deadline_run(cpl_deadline_heap *h, uint64_t now_ns);

#endif
