/* SPDX-License-Identifier: Apache-2.0 */
/* deadline.h - an intrusive pairing heap of points in time: earliest first, no allocation. One thread at a time. */
#ifndef CPL_ENGINE_DEADLINE_H
#define CPL_ENGINE_DEADLINE_H

#include <stdint.h>

/* Lives inside the caller's struct. Zeroed: in no heap. */
typedef struct cpl_due {
    uint64_t at_ns;
    struct cpl_due *child, *next; /* first child; next sibling */
    struct cpl_due *back;         /* previous sibling, or the parent of a first child */
} cpl_due;

/* The heap is its root: NULL when empty. d->at_ns is set by the caller and must not change while d is in. O(1). */
void cpl_due_add(cpl_due **heap, cpl_due *d);
/* d must be in the heap. Amortised O(log n). */
void cpl_due_remove(cpl_due **heap, cpl_due *d);

#endif
