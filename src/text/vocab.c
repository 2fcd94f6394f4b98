/* SPDX-License-Identifier: Apache-2.0 */
/* vocab.c - the two look-ups that WordPiece lives on.
 * The one idea: nine words of ten are in the vocabulary whole, so they cost one cache line of a table that holds the
 * words themselves (16 bytes of text and the id), two to a line. Low ids go in first, because vocabularies are sorted
 * by frequency: the words of a text are nearly always in the line their hash says. Words that found both their lines
 * full are left out, which costs time and nothing else: whatever the table doesn't answer, the trie does. The trie is a
 * double array: a step is one load and one comparison, and no word costs more than its length times the longest entry
 * (a probe per candidate end, the textbook way, is quadratic and a gift to hostile texts). Invariants: the child of
 * every unit by every byte is inside the array (bases are below its size, which is a multiple of 256), so any bytes may
 * be looked up. Threads: read-only once built. Rejected: a perfect hash (its displacements take half the first-level
 * cache), a trie of sorted siblings (a scan and two mispredictions a step), one probe sequence of 16-byte slots with
 * the text elsewhere (two more cache misses). */
#include "text/vocab.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/error.h"

/* ---- order ----------------------------------------------------------------------------------------------------- */

static int compare_entries(const void *x, const void *y)
{
    const cpl_vocab_entry *a = x, *b = y;
    if (a->kind != b->kind) return a->kind < b->kind ? -1 : 1;
    int c = memcmp(a->text, b->text, a->size < b->size ? a->size : b->size);
    if (c) return c;
    if (a->size != b->size) return a->size < b->size ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

typedef struct sort_key {
    uint64_t first; /* kind and the first seven bytes, big-endian; or an id */
    const cpl_vocab_entry *entry;
} sort_key;

static int compare_keys(const void *x, const void *y)
{
    return compare_entries(((const sort_key *)x)->entry, ((const sort_key *)y)->entry);
}

/* By `first`, stably, a byte a pass; passes in which all agree are skipped. Leaves them in keys; spare has n too. */
static void radix_sort(sort_key *keys, sort_key *spare, size_t n)
{
    sort_key *from = keys, *to = spare;
    for (unsigned shift = 0; shift < 64; shift += 8) {
        size_t starts[257] = {0};
        for (size_t i = 0; i < n; i++) starts[(from[i].first >> shift & 0xFF) + 1]++;
        if (starts[(from[0].first >> shift & 0xFF) + 1] == n) continue;
        for (size_t k = 1; k < 257; k++) starts[k] += starts[k - 1];
        for (size_t i = 0; i < n; i++) to[starts[from[i].first >> shift & 0xFF]++] = from[i];
        sort_key *swap = from;
        from = to;
        to = swap;
    }
    if (from != keys) memcpy(keys, from, n * sizeof *keys);
}

static cpl_status sort_all(cpl_vocab_entry *entries, size_t n, cpl_error *err)
{
    sort_key *keys = malloc(n * 2 * sizeof *keys);
    cpl_vocab_entry *copy = malloc(n * sizeof *copy);
    if (!keys || !copy) {
        free(keys);
        free(copy);
        return cpl_fail_memory(err, n * (2 * sizeof *keys + sizeof *copy));
    }
    memcpy(copy, entries, n * sizeof *copy);
    for (size_t i = 0; i < n; i++) {
        uint64_t first = (uint64_t)copy[i].kind << 56;
        for (uint32_t k = 0; k < 7 && k < copy[i].size; k++)
            first |= (uint64_t)(uint8_t)copy[i].text[k] << (48 - 8 * k);
        keys[i] = (sort_key){first, &copy[i]};
    }
    radix_sort(keys, keys + n, n);
    for (size_t i = 0, end; i < n; i = end) { /* what agrees so far */
        for (end = i + 1; end < n && keys[end].first == keys[i].first;) end++;
        if (end - i > 1) qsort(keys + i, end - i, sizeof *keys, compare_keys);
    }
    for (size_t i = 0; i < n; i++) entries[i] = *keys[i].entry;
    free(keys);
    free(copy);
    return CPL_OK;
}

/* Comes nearly always with few entries out of order at the end. */
cpl_status cpl_vocab_sort(cpl_vocab_entry *entries, size_t n, cpl_error *err)
{
    size_t sorted = n ? 1 : 0;
    while (sorted < n && compare_entries(&entries[sorted - 1], &entries[sorted]) < 0) sorted++;
    if (sorted == n) return CPL_OK;
    cpl_status st = sort_all(entries + sorted, n - sorted, err);
    if (st || compare_entries(&entries[sorted - 1], &entries[sorted]) < 0) return st;
    return sort_all(entries, n, err);
}

static bool same_entry(const cpl_vocab_entry *a, const cpl_vocab_entry *b)
{
    return a->kind == b->kind && a->size == b->size && !memcmp(a->text, b->text, a->size);
}

/* Leaves one of each, without the empty ones. */
static size_t deduplicate(cpl_vocab_entry *entries, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (!entries[i].size) continue;
        if (kept && same_entry(&entries[kept - 1], &entries[i])) kept--;
        entries[kept++] = entries[i];
    }
    return kept;
}

/* ---- trie ------------------------------------------------------------------------------------------------------ */

enum { BLOCK = 256, TRIES = 96 };
#define FREE      UINT32_MAX
#define UNITS_MAX ((size_t)1 << 30)

/* Free units form a ring through `ring`, oldest first; head is one of them, or FREE when there is none. */
typedef struct ring {
    uint32_t next, prev;
} ring;

/* Entries lo .. hi-1 agree in their first `depth` bytes, which lead to unit `at`. */
typedef struct pending {
    uint32_t at, lo, hi, depth;
} pending;

typedef struct builder {
    const cpl_vocab_entry *entries;
    cpl_vocab_unit *units;
    int32_t *values;
    ring *free_units;
    uint32_t head;
    size_t count, cap;
    pending *todo;
    size_t todo_count, todo_cap;
} builder;

static bool grow(void **data, size_t count, size_t item)
{
    void *p = realloc(*data, count * item);
    if (p) *data = p;
    return p != NULL;
}

static bool add_block(builder *b)
{
    if (b->count + BLOCK > b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 16 * BLOCK;
        if (cap > UNITS_MAX || !grow((void **)&b->units, cap, sizeof *b->units) ||
            !grow((void **)&b->values, cap, sizeof *b->values) ||
            !grow((void **)&b->free_units, cap, sizeof *b->free_units))
            return false;
        b->cap = cap;
    }
    for (uint32_t i = (uint32_t)b->count; i < b->count + BLOCK; i++) {
        b->units[i] = (cpl_vocab_unit){0, FREE};
        b->values[i] = -1;
        uint32_t next = b->head == FREE ? i : b->head, prev = b->head == FREE ? i : b->free_units[b->head].prev;
        b->free_units[i] = (ring){next, prev};
        b->free_units[prev].next = i;
        b->free_units[next].prev = i;
        if (b->head == FREE) b->head = i;
    }
    b->count += BLOCK;
    return true;
}

static void take_unit(builder *b, uint32_t at, uint32_t parent)
{
    ring r = b->free_units[at];
    b->free_units[r.prev].next = r.next;
    b->free_units[r.next].prev = r.prev;
    if (b->head == at) b->head = r.next == at ? FREE : r.next;
    b->units[at].parent = parent;
}

static bool base_fits(const builder *b, uint32_t base, const uint8_t *labels, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (b->units[base ^ labels[i]].parent != FREE) return false;
    return true;
}

/* A base whose children by `labels` are all free. Single children fill the oldest holes, families look through the
 * newest units, where there is room. False: no memory. */
static bool find_base(builder *b, const uint8_t *labels, size_t n, uint32_t *base)
{
    uint32_t at = b->head;
    for (int i = 0; at != FREE && i < TRIES; i++) {
        if (n > 1) at = b->free_units[at].prev;
        *base = at ^ labels[0];
        if (base_fits(b, *base, labels, n)) return true;
        if (n == 1) at = b->free_units[at].next;
        if (at == b->head) break;
    }
    *base = (uint32_t)b->count; /* a fresh block fits anything */
    return add_block(b);
}

static bool push(builder *b, pending p)
{
    if (b->todo_count == b->todo_cap) {
        size_t cap = b->todo_cap ? b->todo_cap * 2 : 1024;
        if (!grow((void **)&b->todo, cap, sizeof *b->todo)) return false;
        b->todo_cap = cap;
    }
    b->todo[b->todo_count++] = p;
    return true;
}

static bool grow_children(builder *b, pending p)
{
    const cpl_vocab_entry *entries = b->entries;
    uint8_t labels[256];
    uint32_t from[257], n = 0, i = p.lo, base = 0, ends = 0;
    if (i < p.hi && entries[i].size == p.depth) {
        b->values[p.at] = entries[i++].value;
        ends = 1;
    }
    while (i < p.hi) {
        uint8_t byte = (uint8_t)entries[i].text[p.depth];
        labels[n] = byte;
        from[n++] = i;
        while (i < p.hi && (uint8_t)entries[i].text[p.depth] == byte) i++;
    }
    from[n] = p.hi;
    if (n) {
        if (!find_base(b, labels, n, &base)) return false;
        for (uint32_t k = 0; k < n; k++) take_unit(b, base ^ labels[k], p.at);
        for (uint32_t k = n; k-- > 0;)
            if (!push(b, (pending){base ^ labels[k], from[k], from[k + 1], p.depth + 1})) return false;
    }
    b->units[p.at].base = base << 1 | ends;
    return true;
}

static bool grow_trie(builder *b, size_t n)
{
    b->head = FREE;
    if (!add_block(b)) return false;
    uint32_t lo = (uint32_t)n;
    for (uint32_t k = 0; k < CPL_VOCAB_KINDS; k++) take_unit(b, k, FREE - 1);
    for (uint32_t k = CPL_VOCAB_KINDS; k-- > 0;) {
        uint32_t hi = lo;
        while (lo && (uint32_t)b->entries[lo - 1].kind == k) lo--;
        if (!push(b, (pending){k, lo, hi, 0})) return false;
    }
    while (b->todo_count)
        if (!grow_children(b, b->todo[--b->todo_count])) return false;
    return true;
}

static cpl_status build_trie(cpl_vocab *v, cpl_arena *arena, const cpl_vocab_entry *entries, size_t n, cpl_error *err)
{
    builder b = {.entries = entries};
    bool fine = grow_trie(&b, n);
    cpl_vocab_unit *units = fine ? cpl_arena_take(arena, b.count * sizeof *units, 64) : NULL;
    int32_t *values = fine ? cpl_arena_take(arena, b.count * sizeof *values, 64) : NULL;
    if (units && values) {
        memcpy(units, b.units, b.count * sizeof *units);
        memcpy(values, b.values, b.count * sizeof *values);
    }
    v->units = units;
    v->values = values;
    v->unit_count = b.count;
    free(b.units);
    free(b.values);
    free(b.free_units);
    free(b.todo);
    return units && values ? CPL_OK : cpl_fail_memory(err, b.count * (sizeof *units + sizeof *values));
}

/* ---- table ----------------------------------------------------------------------------------------------------- */

static size_t characters(const cpl_vocab_entry *e)
{
    size_t n = 0;
    for (uint32_t i = 0; i < e->size; i++) n += ((uint8_t)e->text[i] & 0xC0) != 0x80;
    return n;
}

static bool put_in_line(cpl_vocab_line *line, cpl_vocab_key key, uint32_t mark)
{
    for (int i = 0; i < CPL_VOCAB_WAYS; i++) {
        if (line->way[i].mark) continue;
        line->way[i].key = key;
        line->way[i].mark = mark;
        return true;
    }
    return false;
}

static cpl_status build_table(cpl_vocab *v, cpl_arena *arena, const cpl_vocab_entry *entries, size_t n,
                              size_t word_chars_max, cpl_error *err)
{
    sort_key *order = malloc((n + 1) * 2 * sizeof *order);
    if (!order) return cpl_fail_memory(err, n * 2 * sizeof *order);
    size_t words = 0;
    for (size_t i = 0; i < n && entries[i].kind == CPL_VOCAB_WORD; i++)
        if (entries[i].size <= CPL_VOCAB_KEY_MAX && characters(&entries[i]) <= word_chars_max)
            order[words++] = (sort_key){(uint64_t)entries[i].value, &entries[i]};
    v->line_bits = 1;
    while ((size_t)3 << v->line_bits < words * 2) v->line_bits++; /* at most three of four ways full */
    cpl_vocab_line *lines = cpl_arena_take(arena, sizeof *lines << v->line_bits, 64);
    if (!lines) {
        free(order);
        return cpl_fail_memory(err, sizeof *lines << v->line_bits);
    }
    memset(lines, 0, sizeof *lines << v->line_bits);
    if (words) radix_sort(order, order + words, words);
    for (size_t i = 0; i < words; i++) {
        const cpl_vocab_entry *e = order[i].entry;
        cpl_vocab_key key = {{0, 0}};
        memcpy(&key, e->text, e->size);
        uint64_t hash = cpl_vocab_hash(key);
        uint32_t mark = e->size << 24 | (uint32_t)e->value;
        size_t line = cpl_vocab_line_of(v, hash);
        if (put_in_line(&lines[line], key, mark)) continue;
        lines[line].way[0].full = 1;
        put_in_line(&lines[cpl_vocab_other_line(v, line, hash)], key, mark);
    }
    free(order);
    v->lines = lines;
    return CPL_OK;
}

/* ---- exported -------------------------------------------------------------------------------------------------- */

cpl_status cpl_vocab_build(cpl_vocab *v, cpl_arena *arena, cpl_vocab_entry *entries, size_t n, size_t word_chars_max,
                           cpl_error *err)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) bytes += entries[i].size;
    if (bytes > (size_t)1 << 30 || n > (size_t)1 << 30)
        return cpl_fail(err, CPL_UNSUPPORTED, "vocabulary of more than 1 GiB of text");
    cpl_status st = cpl_vocab_sort(entries, n, err);
    if (st) return st;
    n = deduplicate(entries, n);
    st = build_trie(v, arena, entries, n, err);
    return st ? st : build_table(v, arena, entries, n, word_chars_max, err);
}

int cpl_vocab_begins(const cpl_vocab *v, cpl_vocab_kind kind, unsigned char byte)
{
    return v->units[v->units[kind].base >> 1 ^ byte].parent == (uint32_t)kind;
}
