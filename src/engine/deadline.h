/* SPDX-License-Identifier: Apache-2.0 */
/* deadline.h - an intrusive pairing heap of points in time: earliest first, no allocation. One thread at a time. */
#ifndef CPL_ENGINE_DEADLINE_H
#define CPL_ENGINE_DEADLINE_H

#include <stdint.h>

/* Lives inside the caller's struct. Zeroed: in no heap. */
typedef struct cpl_deadline {
    uint64_t at_ns;
    struct cpl_deadline *child, *next; /* first child; next sibling */
    struct cpl_deadline *back;         /* previous sibling, or the parent of a first child */
} cpl_deadline;

/* The heap is its root: NULL when empty. d->at_ns is set by the caller and must not change while d is in. O(1). */
void cpl_deadline_add(cpl_deadline **heap, cpl_deadline *d);
/* d must be in the heap. Amortised O(log n). */
void cpl_deadline_remove(cpl_deadline **heap, cpl_deadline *d);

#endif
