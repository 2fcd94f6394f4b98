/* SPDX-License-Identifier: Apache-2.0 */
/* arena.h - bump allocation with one owner: everything taken lives until reset or deinit. One thread at a time. */
#ifndef CPL_BASE_ARENA_H
#define CPL_BASE_ARENA_H

#include <stddef.h>

typedef struct cpl_arena_chunk cpl_arena_chunk;
typedef struct cpl_arena {
    cpl_arena_chunk *head; /* the chunk being filled; older ones hang behind it */
    size_t used_bytes;     /* taken since the last reset */
    size_t retained_bytes_max;
    size_t chunk_bytes_min;
} cpl_arena;

/* No memory is taken until the first allocation. After a reset at most retained_bytes_max stay with the arena; reset
 * returns how many do. */
void cpl_arena_init(cpl_arena *a, size_t chunk_bytes_min, size_t retained_bytes_max);
void cpl_arena_deinit(cpl_arena *a);
size_t cpl_arena_reset(cpl_arena *a);

/* NULL when memory is out or size overflows; align is a power of two up to 4096. Not zeroed. */
void *cpl_arena_take(cpl_arena *a, size_t size, size_t align);
void *cpl_arena_take_zeroed(cpl_arena *a, size_t count, size_t size);
/* A terminated copy of n bytes. */
char *cpl_arena_copy(cpl_arena *a, const char *data, size_t n);

#define CPL_ARENA_NEW(a, type, count) ((type *)cpl_arena_take_zeroed((a), (count), sizeof(type)))

#endif
