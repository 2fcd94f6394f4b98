/* SPDX-License-Identifier: Apache-2.0 */
/* arena.c - memory for things that die together (a request, a model's records).
 * The one idea: take is a pointer bump; reset gives everything back at once and keeps the largest chunk that fits the
 * retention cap, so a warm request allocates nothing and a huge one leaves nothing behind.
 * Invariant: chunk->used <= chunk->size; only the head chunk is filled. Threads: the owner's only. */
#include "base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

struct cpl_arena_chunk {
    cpl_arena_chunk *next;
    size_t size, used; /* of the bytes behind this header */
};

void cpl_arena_init(cpl_arena *a, size_t chunk_bytes_min, size_t retained_bytes_max)
{
    *a = (cpl_arena){.chunk_bytes_min = chunk_bytes_min ? chunk_bytes_min : 4096,
                     .retained_bytes_max = retained_bytes_max};
}

static void free_chain(cpl_arena_chunk *c)
{
    while (c) {
        cpl_arena_chunk *next = c->next;
        free(c);
        c = next;
    }
}

void cpl_arena_deinit(cpl_arena *a)
{
    free_chain(a->head);
    a->head = NULL;
    a->used_bytes = 0;
}

size_t cpl_arena_reset(cpl_arena *a)
{
    cpl_arena_chunk *keep = NULL;
    for (cpl_arena_chunk *c = a->head; c; c = c->next)
        if (c->size <= a->retained_bytes_max && (!keep || c->size > keep->size)) keep = c;
    for (cpl_arena_chunk *c = a->head, *next; c; c = next) {
        next = c->next;
        if (c != keep) free(c);
    }
    if (keep) {
        keep->next = NULL;
        keep->used = 0;
    }
    a->head = keep;
    a->used_bytes = 0;
    return keep ? keep->size : 0;
}

static void *take_from(cpl_arena_chunk *c, size_t size, size_t align)
{
    uintptr_t base = (uintptr_t)(c + 1);
    uintptr_t at = (base + c->used + align - 1) & ~(uintptr_t)(align - 1);
    size_t end = at - base + size;
    if (end > c->size) return NULL;
    c->used = end;
    return (void *)at;
}

void *cpl_arena_take(cpl_arena *a, size_t size, size_t align)
{
    CPL_ASSERT(align && !(align & (align - 1)) && align <= 4096);
    if (size > SIZE_MAX / 4) return NULL;
    void *p = a->head ? take_from(a->head, size, align) : NULL;
    if (!p) {
        size_t want = size + align;
        size_t grown = a->head ? a->head->size * 2 : a->chunk_bytes_min;
        if (grown > (size_t)1 << 22) grown = (size_t)1 << 22;
        if (want < grown) want = grown;
        cpl_arena_chunk *c = malloc(sizeof *c + want);
        if (!c) return NULL;
        *c = (cpl_arena_chunk){.next = a->head, .size = want};
        a->head = c;
        p = take_from(c, size, align);
    }
    a->used_bytes += size;
    return p;
}

void *cpl_arena_take_zeroed(cpl_arena *a, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) return NULL;
    void *p = cpl_arena_take(a, total, 16);
    if (p) memset(p, 0, total);
    return p;
}

char *cpl_arena_copy(cpl_arena *a, const char *data, size_t n)
{
    if (n == SIZE_MAX) return NULL;
    char *p = cpl_arena_take(a, n + 1, 1);
    if (!p) return NULL;
    if (n) memcpy(p, data, n);
    p[n] = 0;
    return p;
}
