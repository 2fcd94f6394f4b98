/* SPDX-License-Identifier: Apache-2.0 */
/* id_cache.c - a hash table from texts to their ids.
 *
 * The one idea: rows are only ever added, so one that was found needs no lock to be copied from. What is compared is
 * the whole text, not its hash, so a found row is the tokenizer's own for exactly that text, and scores are what they
 * would be without the cache. Once full it stays as it is: the runs it is for repeat their texts, and how many were
 * found is counted and told.
 *
 * Threads: any; one lock around chains, arena and counts. Rejected: throwing old rows out (readers would need to hold
 * them). */
#include "engine/id_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/digest.h"
#include "base/error.h"

enum { CHAINS = 1 << 16, CHUNK_BYTES = 1 << 18 };

typedef struct row {
    struct row *next;
    uint64_t hash;
    uint32_t a_size, b_size, max_length, count;
    bool pair;
    const char *texts; /* both, end to end */
    const int32_t *ids;
    const uint8_t *type_ids;
} row;

struct cpl_id_cache {
    pthread_mutex_t lock;
    cpl_arena arena;
    uint64_t bytes_max, hits, misses;
    row *chains[CHAINS];
};

static uint64_t hash_key(const cpl_id_key *k)
{
    uint64_t h = cpl_digest(k->a.data, k->a.size) ^ (uint64_t)k->max_length << 32;
    return k->pair ? h * 31 + cpl_digest(k->b.data, k->b.size) : h;
}

static bool is_row(const row *r, uint64_t hash, const cpl_id_key *k)
{
    return r->hash == hash && r->a_size == k->a.size && r->pair == k->pair && r->max_length == k->max_length &&
           (!k->a.size || !memcmp(r->texts, k->a.data, k->a.size)) &&
           (!k->pair ||
            (r->b_size == k->b.size && (!k->b.size || !memcmp(r->texts + r->a_size, k->b.data, k->b.size))));
}

/* (locked) */
static const row *find(const cpl_id_cache *c, uint64_t hash, const cpl_id_key *k)
{
    const row *r = c->chains[hash % CHAINS];
    while (r && !is_row(r, hash, k)) r = r->next;
    return r;
}

cpl_status cpl_id_cache_open(cpl_id_cache **out, uint64_t bytes_max, cpl_error *err)
{
    cpl_id_cache *c = *out = calloc(1, sizeof *c);
    if (!c) return cpl_fail_memory(err, sizeof *c);
    pthread_mutex_init(&c->lock, NULL);
    cpl_arena_init(&c->arena, CHUNK_BYTES, 0);
    c->bytes_max = bytes_max;
    return CPL_OK;
}

void cpl_id_cache_close(cpl_id_cache *c)
{
    if (!c) return;
    cpl_arena_deinit(&c->arena);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

bool cpl_id_cache_find(cpl_id_cache *c, const cpl_id_key *key, cpl_id_row *out)
{
    uint64_t hash = hash_key(key);
    pthread_mutex_lock(&c->lock);
    const row *r = find(c, hash, key);
    if (r)
        c->hits++;
    else
        c->misses++;
    pthread_mutex_unlock(&c->lock);
    if (r) *out = (cpl_id_row){r->ids, r->type_ids, r->count};
    return r != NULL;
}

/* (locked) NULL: no room. */
static row *make_row(cpl_id_cache *c, const cpl_id_key *key, const cpl_id_row *in)
{
    size_t b_size = key->pair ? key->b.size : 0, ids = in->count * sizeof *in->ids;
    size_t bytes = sizeof(row) + key->a.size + b_size + ids + in->count;
    if (c->arena.used_bytes + bytes > c->bytes_max) return NULL;
    row *r = CPL_ARENA_NEW(&c->arena, row, 1);
    int32_t *id_room = cpl_arena_take(&c->arena, ids + in->count + key->a.size + b_size, 8);
    if (!r || !id_room) return NULL;
    uint8_t *types = (uint8_t *)(id_room + in->count);
    char *texts = (char *)types + in->count;
    memcpy(id_room, in->ids, ids);
    memcpy(types, in->type_ids, in->count);
    if (key->a.size) memcpy(texts, key->a.data, key->a.size);
    if (b_size) memcpy(texts + key->a.size, key->b.data, b_size);
    *r = (row){.a_size = (uint32_t)key->a.size,
               .b_size = (uint32_t)b_size,
               .max_length = key->max_length,
               .count = in->count,
               .pair = key->pair,
               .texts = texts,
               .ids = id_room,
               .type_ids = types};
    return r;
}

void cpl_id_cache_add(cpl_id_cache *c, const cpl_id_key *key, const cpl_id_row *in)
{
    uint64_t hash = hash_key(key);
    pthread_mutex_lock(&c->lock);
    row *r = find(c, hash, key) ? NULL : make_row(c, key, in);
    if (r) {
        r->hash = hash;
        r->next = c->chains[hash % CHAINS];
        c->chains[hash % CHAINS] = r;
    }
    pthread_mutex_unlock(&c->lock);
}

void cpl_id_cache_count(cpl_id_cache *c, uint64_t *hits, uint64_t *misses)
{
    pthread_mutex_lock(&c->lock);
    *hits = c->hits;
    *misses = c->misses;
    pthread_mutex_unlock(&c->lock);
}
