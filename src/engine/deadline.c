/* SPDX-License-Identifier: Apache-2.0 */
/* deadline.c - which waiting request runs out of time next.
 *
 * A pairing heap: adding is one comparison (every request with a deadline pays it), and only those removed pay for
 * order, most of them long before they are due. A binary heap would need an array to grow, a timer wheel a clock that
 * ticks; a simulated clock jumps.
 *
 * Invariant: a node's at_ns is no later than its children's; `back` of the root is NULL. Threads: the caller's. */
#include "engine/deadline.h"

#include <stddef.h>

/* Both are roots (no siblings, no back); returns the earlier with the other as its first child. */
static cpl_due *meld(cpl_due *a, cpl_due *b)
{
    if (!a) return b;
    if (!b) return a;
    if (b->at_ns < a->at_ns) {
        cpl_due *t = a;
        a = b;
        b = t;
    }
    b->next = a->child;
    if (b->next) b->next->back = b;
    b->back = a;
    a->child = b;
    return a;
}

/* Melds a list of siblings in pairs, then the pairs from the last to the first: what makes it O(log n). */
static cpl_due *meld_siblings(cpl_due *first)
{
    cpl_due *pairs = NULL; /* a stack, linked by next */
    while (first) {
        cpl_due *a = first, *b = a->next;
        first = b ? b->next : NULL;
        a->next = a->back = NULL;
        if (b) b->next = b->back = NULL;
        a = meld(a, b);
        a->next = pairs;
        pairs = a;
    }
    cpl_due *root = NULL;
    while (pairs) {
        cpl_due *a = pairs;
        pairs = a->next;
        a->next = NULL;
        root = meld(root, a);
    }
    return root;
}

void cpl_due_add(cpl_due **heap, cpl_due *d)
{
    d->child = d->next = d->back = NULL;
    *heap = meld(*heap, d);
}

void cpl_due_remove(cpl_due **heap, cpl_due *d)
{
    cpl_due *below = meld_siblings(d->child);
    if (d == *heap) {
        *heap = below;
    } else {
        if (d->back->child == d)
            d->back->child = d->next;
        else
            d->back->next = d->next;
        if (d->next) d->next->back = d->back;
        *heap = meld(*heap, below);
    }
    d->child = d->next = d->back = NULL;
}
