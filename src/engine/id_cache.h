/* SPDX-License-Identifier: Apache-2.0 */
/* id_cache.h - ids of texts that were tokenized before, for runs that measure everything but tokenizing. */
#ifndef CPL_ENGINE_ID_CACHE_H
#define CPL_ENGINE_ID_CACHE_H

#include <stdbool.h>

#include "couplet.h"

typedef struct cpl_id_cache cpl_id_cache;

/* A sequence's text: of a pair both, else `b` is unused. */
typedef struct cpl_id_key {
    cpl_text a, b;
    bool pair;
    uint32_t max_length;
} cpl_id_key;

/* What was made of it; stays where it is until the cache is closed. */
typedef struct cpl_id_row {
    const int32_t *ids;
    const uint8_t *type_ids;
    uint32_t count;
} cpl_id_row;

/* Takes at most bytes_max; once full it keeps what it has. */
cpl_status cpl_id_cache_open(cpl_id_cache **out, uint64_t bytes_max, cpl_error *err);
void cpl_id_cache_close(cpl_id_cache *c); /* NULL is fine */
/* Any thread. */
bool cpl_id_cache_find(cpl_id_cache *c, const cpl_id_key *key, cpl_id_row *out);
/* Copies. Without room, or with the key there already, nothing happens. */
void cpl_id_cache_add(cpl_id_cache *c, const cpl_id_key *key, const cpl_id_row *row);
/* Finds that found, and that didn't. */
void cpl_id_cache_count(cpl_id_cache *c, uint64_t *hits, uint64_t *misses);

#endif
