/* SPDX-License-Identifier: Apache-2.0 */
/* vocab.c - the two look-ups that WordPiece lives on.
 * The one idea: nine words of ten are in the vocabulary whole, so they cost one hash probe; the others are cut by a
 * trie whose children lie side by side, so that a step is a scan of a few bytes and no word can cost more than its
 * length times the longest entry (a probe per candidate end, the textbook way, is quadratic and a gift to hostile
 * texts). The trie is built breadth first from the sorted entries; its exact size is known beforehand. Invariant:
 * children of a node are consecutive and sorted. Threads: read-only once built. Rejected: a perfect hash (build time
 * for nothing at 50 % load), a double array (faster steps, but slow to build). */
#include "text/vocab.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static inline uint64_t load64(const char *p)
{
    uint64_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

static inline uint32_t load32(const char *p)
{
    uint32_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

static inline uint64_t mix(uint64_t a, uint64_t b)
{
    __uint128_t product = (__uint128_t)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t hash_bytes(const char *p, size_t n)
{
    const uint64_t k = 0x9E3779B97F4A7C15u;
    uint64_t h = k ^ n, a = 0, b = 0;
    if (n > 16) {
        for (const char *end = p + n - 16; p < end; p += 16, n -= 16) h = mix(load64(p) ^ h, load64(p + 8) ^ k);
    }
    if (n >= 8) {
        a = load64(p);
        b = load64(p + n - 8);
    } else if (n >= 4) {
        a = load32(p);
        b = load32(p + n - 4);
    } else if (n) {
        a = (uint64_t)(uint8_t)p[0] << 16 | (uint64_t)(uint8_t)p[n / 2] << 8 | (uint8_t)p[n - 1];
    }
    return mix(a ^ h ^ 0xD6E8FEB86659FD93u, b ^ k);
}

static int compare_entries(const void *x, const void *y)
{
    const cpl_vocab_entry *a = x, *b = y;
    if (a->kind != b->kind) return a->kind < b->kind ? -1 : 1;
    int c = memcmp(a->text, b->text, a->size < b->size ? a->size : b->size);
    if (c) return c;
    if (a->size != b->size) return a->size < b->size ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

static size_t common_prefix(const cpl_vocab_entry *a, const cpl_vocab_entry *b)
{
    size_t i = 0, n = a->size < b->size ? a->size : b->size;
    while (i < n && a->text[i] == b->text[i]) i++;
    return i;
}

/* Leaves one of each, without the empty ones, and says how many trie nodes they make. */
static size_t deduplicate(cpl_vocab_entry *entries, size_t n, size_t *nodes)
{
    size_t kept = 0;
    *nodes = CPL_VOCAB_KINDS;
    for (size_t i = 0; i < n; i++) {
        if (!entries[i].size) continue;
        cpl_vocab_entry *last = kept ? &entries[kept - 1] : NULL;
        size_t shared = last && last->kind == entries[i].kind ? common_prefix(last, &entries[i]) : 0;
        if (last && last->kind == entries[i].kind && shared == entries[i].size && last->size == entries[i].size) {
            *last = entries[i];
            continue;
        }
        *nodes += entries[i].size - shared;
        entries[kept++] = entries[i];
    }
    return kept;
}

/* What a node still has to cover while the trie is built: entries lo .. hi-1, which agree in their first `depth` bytes.
 */
typedef struct pending {
    uint32_t lo, hi, depth;
} pending;

static void grow_children(cpl_vocab_node *nodes, uint8_t *labels, pending *todo, size_t at, size_t *used,
                          const cpl_vocab_entry *entries)
{
    pending p = todo[at];
    nodes[at].value = -1;
    nodes[at].first = (uint32_t)*used;
    nodes[at].count = 0;
    uint32_t i = p.lo;
    if (i < p.hi && entries[i].size == p.depth) nodes[at].value = entries[i++].value;
    while (i < p.hi) {
        uint8_t byte = (uint8_t)entries[i].text[p.depth];
        uint32_t from = i;
        while (i < p.hi && (uint8_t)entries[i].text[p.depth] == byte) i++;
        labels[*used] = byte;
        todo[*used] = (pending){from, i, p.depth + 1};
        (*used)++;
        nodes[at].count++;
    }
}

static cpl_status build_trie(cpl_vocab *v, cpl_arena *arena, const cpl_vocab_entry *entries, size_t n, size_t count,
                             cpl_error *err)
{
    cpl_vocab_node *nodes = cpl_arena_take(arena, count * sizeof *nodes, 16);
    uint8_t *labels = cpl_arena_take(arena, count, 16);
    uint32_t(*root)[256] = cpl_arena_take_zeroed(arena, CPL_VOCAB_KINDS, sizeof *root);
    pending *todo = malloc(count * sizeof *todo);
    if (!nodes || !labels || !root || !todo) {
        free(todo);
        return cpl_fail_memory(err, count * sizeof *todo);
    }
    size_t used = CPL_VOCAB_KINDS, lo = 0;
    for (size_t k = 0; k < CPL_VOCAB_KINDS; k++) {
        size_t hi = lo;
        while (hi < n && (size_t)entries[hi].kind == k) hi++;
        todo[k] = (pending){(uint32_t)lo, (uint32_t)hi, 0};
        labels[k] = 0;
        lo = hi;
    }
    for (size_t at = 0; at < used; at++) grow_children(nodes, labels, todo, at, &used, entries);
    CPL_ASSERT(used == count);
    for (size_t k = 0; k < CPL_VOCAB_KINDS; k++)
        for (uint32_t i = 0; i < nodes[k].count; i++) root[k][labels[nodes[k].first + i]] = nodes[k].first + i;
    free(todo);
    v->nodes = nodes;
    v->labels = labels;
    v->root = root;
    return CPL_OK;
}

static cpl_status build_hash(cpl_vocab *v, cpl_arena *arena, const cpl_vocab_entry *entries, size_t n, cpl_error *err)
{
    size_t words = 0, bytes = 0, size = 16;
    while (words < n && entries[words].kind == CPL_VOCAB_WORD) bytes += entries[words++].size;
    while (size < words * 2) size *= 2;
    cpl_vocab_slot *slots = cpl_arena_take(arena, size * sizeof *slots, 64);
    char *pool = cpl_arena_take(arena, bytes + 1, 16);
    if (!slots || !pool) return cpl_fail_memory(err, size * sizeof *slots + bytes);
    for (size_t i = 0; i < size; i++) slots[i] = (cpl_vocab_slot){.value = -1};
    size_t at = 0;
    for (size_t i = 0; i < words; i++) {
        uint64_t h = hash_bytes(entries[i].text, entries[i].size);
        size_t s = h & (size - 1);
        while (slots[s].value >= 0) s = (s + 1) & (size - 1);
        slots[s] = (cpl_vocab_slot){(uint32_t)(h >> 32), entries[i].value, (uint32_t)at, entries[i].size};
        memcpy(pool + at, entries[i].text, entries[i].size);
        at += entries[i].size;
    }
    v->slots = slots;
    v->pool = pool;
    v->mask = size - 1;
    return CPL_OK;
}

cpl_status cpl_vocab_build(cpl_vocab *v, cpl_arena *arena, cpl_vocab_entry *entries, size_t n, cpl_error *err)
{
    size_t bytes = 0, nodes;
    for (size_t i = 0; i < n; i++) bytes += entries[i].size;
    if (bytes > (size_t)1 << 30 || n > (size_t)1 << 30)
        return cpl_fail(err, CPL_UNSUPPORTED, "vocabulary of more than 1 GiB of text");
    if (n) qsort(entries, n, sizeof *entries, compare_entries);
    n = deduplicate(entries, n, &nodes);
    cpl_status st = build_trie(v, arena, entries, n, nodes, err);
    return st ? st : build_hash(v, arena, entries, n, err);
}

int32_t cpl_vocab_word(const cpl_vocab *v, const char *word, size_t n)
{
    uint64_t h = hash_bytes(word, n);
    uint32_t tag = (uint32_t)(h >> 32);
    for (size_t s = h & v->mask;; s = (s + 1) & v->mask) {
        const cpl_vocab_slot *slot = &v->slots[s];
        if (slot->value < 0) return -1;
        if (slot->tag == tag && slot->size == n && !memcmp(v->pool + slot->at, word, n)) return slot->value;
    }
}

static inline uint32_t child_of(const cpl_vocab *v, const cpl_vocab_node *node, uint8_t byte)
{
    const uint8_t *labels = v->labels + node->first;
    uint32_t lo = 0, hi = node->count;
    while (hi - lo > 8) {
        uint32_t mid = (lo + hi) / 2;
        if (labels[mid] <= byte)
            lo = mid;
        else
            hi = mid;
    }
    for (; lo < hi; lo++)
        if (labels[lo] == byte) return node->first + lo;
    return 0;
}

size_t cpl_vocab_longest(const cpl_vocab *v, cpl_vocab_kind kind, const char *text, size_t n, int32_t *value)
{
    size_t best = 0;
    uint32_t at = n ? v->root[kind][(uint8_t)text[0]] : 0;
    for (size_t i = 1; at; i++) {
        const cpl_vocab_node *node = &v->nodes[at];
        if (node->value >= 0) {
            best = i;
            *value = node->value;
        }
        if (i == n || !node->count) break;
        at = child_of(v, node, (uint8_t)text[i]);
    }
    return best;
}
