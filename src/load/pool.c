/* SPDX-License-Identifier: Apache-2.0 */
/* pool.c - pairs read or generated once, and put into shape.
 * The one idea: what is asked of the workload (lengths, documents a query, repeats) is done here to a list of pairs, so
 * that requests are cut from it the same way whatever it is, and what was repeated on purpose is known pair by pair.
 * Invariants: texts live in one buffer and pairs point into it once it has stopped growing; a repeat copies an earlier
 * original; pairs of one query stand together, groups whole. Threads: read-only once open. */
#include "load/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/random.h"
#include "base/records.h"
#include "text/english_words.h"
#include "text/generator.h"

struct cpl_pool {
    cpl_buf texts; /* query, document, query, document, ... end to end */
    size_t *ends;  /* 2 a pair: where each text ends */
    size_t count, cap;
    cpl_pair *pairs;
    bool *copies; /* NULL: none */
    uint32_t documents_per_query;
    char source[600];
};

static cpl_status pool_add(cpl_pool *p, const cpl_buf *query, const cpl_buf *document, cpl_error *err)
{
    if (p->count == p->cap) {
        size_t cap = p->cap ? p->cap * 2 : 1024;
        size_t *ends = realloc(p->ends, cap * 2 * sizeof *ends);
        if (!ends) return cpl_fail_memory(err, cap * 2 * sizeof *ends);
        p->ends = ends;
        p->cap = cap;
    }
    cpl_buf_add(&p->texts, query->size ? query->data : "", query->size);
    p->ends[2 * p->count] = p->texts.size;
    cpl_buf_add(&p->texts, document->size ? document->data : "", document->size);
    p->ends[2 * p->count + 1] = p->texts.size;
    p->count++;
    return cpl_buf_status(&p->texts, err);
}

static cpl_status pool_read(cpl_pool *p, const char *path, cpl_error *err)
{
    cpl_records *r = NULL;
    cpl_buf query = {0}, document = {0};
    cpl_status st = cpl_records_open(&r, path, CPL_RECORDS_BY_NAME, true, err);
    while (!st && p->count < CPL_POOL_PAIRS_MAX) {
        bool end = false;
        cpl_buf_clear(&query);
        cpl_buf_clear(&document);
        st = cpl_records_next(r, &query, &document, &end, err);
        if (st || end) break;
        st = pool_add(p, &query, &document, err);
    }
    if (!st && !p->count) st = cpl_fail_file(err, CPL_INVALID, path, "holds no pairs");
    cpl_records_close(r);
    cpl_buf_deinit(&query);
    cpl_buf_deinit(&document);
    return st;
}

static cpl_status pool_generate(cpl_pool *p, uint64_t seed, size_t pairs, cpl_error *err)
{
    cpl_text_generator g;
    cpl_text_generator_init(&g, seed);
    cpl_buf query = {0}, document = {0};
    cpl_status st = CPL_OK;
    for (size_t i = 0; !st && i < pairs; i++) {
        cpl_buf_clear(&query);
        cpl_buf_clear(&document);
        st = cpl_text_generator_pair(&g, &query, &document, err);
        if (!st) st = pool_add(p, &query, &document, err);
    }
    cpl_buf_deinit(&query);
    cpl_buf_deinit(&document);
    return st;
}

/* Words of one token each, by Zipf's law: as many as asked, a space between. */
static void add_words(cpl_buf *out, const char *const *words, uint32_t n, uint64_t *state)
{
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t draw = cpl_random_next(state);
        const uint32_t octave = (uint32_t)(draw >> 40) % 12;
        const char *word = words[(1u << octave) - 1 + (uint32_t)(draw & 0xFFFFFF) % (1u << octave)];
        if (i) cpl_buf_text(out, " ");
        cpl_buf_add(out, word, strcspn(word, " "));
    }
}

static cpl_status pool_generate_lengths(cpl_pool *p, const cpl_shape *shape, uint64_t seed, size_t pairs,
                                        cpl_error *err)
{
    enum { WORDS = 4095, SPECIAL = 3 };
    const char **words = malloc(WORDS * sizeof *words);
    cpl_buf query = {0}, document = {0};
    uint64_t texts = cpl_seed_for(seed, CPL_SEED_TEXTS), lengths = cpl_seed_for(seed, CPL_SEED_LENGTHS);
    const uint32_t group = p->documents_per_query;
    uint32_t asked = 0;
    if (!words) return cpl_fail_memory(err, WORDS * sizeof *words);
    const char *at = cpl_english_words;
    for (size_t i = 0; i < WORDS; i++, at += strcspn(at, " ") + 1) words[i] = at;
    cpl_status st = CPL_OK;
    for (size_t i = 0; !st && i < pairs; i++) {
        const uint32_t tokens = cpl_shape_draw(shape, &lengths);
        if (i % group == 0) {
            asked = cpl_shape_query_tokens(tokens);
            cpl_buf_clear(&query);
            add_words(&query, words, asked, &texts);
        }
        cpl_buf_clear(&document);
        add_words(&document, words, tokens > asked + SPECIAL ? tokens - asked - SPECIAL : 1, &texts);
        st = pool_add(p, &query, &document, err);
    }
    cpl_buf_deinit(&query);
    cpl_buf_deinit(&document);
    free(words);
    return st;
}

static void shuffle(cpl_pair *pairs, size_t n, uint64_t seed)
{
    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)(cpl_random_next(&seed) % i);
        cpl_pair t = pairs[i - 1];
        pairs[i - 1] = pairs[j];
        pairs[j] = t;
    }
}

static cpl_status pool_point(cpl_pool *p, cpl_error *err)
{
    p->pairs = malloc(p->count * sizeof *p->pairs);
    if (!p->pairs) return cpl_fail_memory(err, p->count * sizeof *p->pairs);
    size_t from = 0;
    for (size_t i = 0; i < p->count; i++) {
        size_t middle = p->ends[2 * i], to = p->ends[2 * i + 1];
        p->pairs[i].query = (cpl_text){p->texts.data + from, middle - from};
        p->pairs[i].document = (cpl_text){p->texts.data + middle, to - middle};
        from = to;
    }
    return CPL_OK;
}

/* The first of each group lends its query to the others. */
static void share_queries(cpl_pool *p)
{
    const uint32_t group = p->documents_per_query;
    for (size_t i = 0; i < p->count; i++) p->pairs[i].query = p->pairs[i / group * group].query;
}

static cpl_status make_copies(cpl_pool *p, double part, uint64_t seed, cpl_error *err)
{
    const size_t group = p->documents_per_query, groups = p->count / group;
    size_t *originals = malloc(groups * sizeof *originals), n = 0;
    uint64_t state = cpl_seed_for(seed, CPL_SEED_DUPLICATES);
    p->copies = calloc(p->count, sizeof *p->copies);
    if (!originals || !p->copies) {
        free(originals);
        return cpl_fail_memory(err, groups * sizeof *originals);
    }
    for (size_t g = 0; g < groups; g++) {
        const double draw = (double)(cpl_random_next(&state) >> 11) * 0x1p-53;
        const uint64_t which = cpl_random_next(&state);
        if (!n || draw >= part) {
            originals[n++] = g;
            continue;
        }
        memcpy(&p->pairs[g * group], &p->pairs[originals[which % n] * group], group * sizeof *p->pairs);
        memset(&p->copies[g * group], true, group * sizeof *p->copies);
    }
    free(originals);
    return CPL_OK;
}

static void name_source(cpl_pool *p, const char *path, const cpl_shape *shape, uint64_t seed)
{
    const char *slash = path ? strrchr(path, '/') : NULL;
    char from[300] = "seeded generator";
    if (path) snprintf(from, sizeof from, "%.250s (%zu pairs)", slash ? slash + 1 : path, p->count);
    snprintf(p->source, sizeof p->source, "%s, seed %llu%s%s", from, (unsigned long long)seed,
             shape && *shape->text ? "; " : "", shape ? shape->text : "");
}

cpl_status cpl_pool_open_shaped(cpl_pool **out, const char *path, const cpl_shape *shape, uint64_t seed, size_t pairs,
                                cpl_error *err)
{
    *out = NULL;
    const bool lengths = shape && shape->lengths != CPL_LENGTHS_GIVEN;
    const uint32_t group = shape && shape->documents_per_query > 1 ? shape->documents_per_query : 1;
    if (lengths && path)
        return cpl_fail(err, CPL_INVALID, "lengths are of generated pairs and '%s' has its own: give one of the two",
                        path);
    if (group > CPL_POOL_PAIRS_MAX)
        return cpl_fail(err, CPL_INVALID, "%u documents a query: at most %d", group, CPL_POOL_PAIRS_MAX);
    cpl_pool *p = calloc(1, sizeof *p);
    if (!p) return cpl_fail_memory(err, sizeof *p);
    p->documents_per_query = group;
    pairs = pairs ? (pairs + group - 1) / group * group : group;
    if (pairs > CPL_POOL_PAIRS_MAX) pairs = CPL_POOL_PAIRS_MAX / group * group;
    cpl_status st = lengths ? pool_generate_lengths(p, shape, seed, pairs, err)
                    : path  ? pool_read(p, path, err)
                            : pool_generate(p, cpl_seed_for(seed, CPL_SEED_TEXTS), pairs, err);
    if (!st && p->count < group)
        st =
            cpl_fail_file(err, CPL_INVALID, path, "holds %zu pairs: too few for %u documents a query", p->count, group);
    if (!st) st = pool_point(p, err);
    if (!st && path) shuffle(p->pairs, p->count, cpl_seed_for(seed, CPL_SEED_ORDER));
    if (!st) p->count = p->count / group * group;
    if (!st) share_queries(p);
    if (!st && shape && shape->duplicates > 0) st = make_copies(p, shape->duplicates, seed, err);
    if (st) {
        cpl_pool_close(p);
        return st;
    }
    name_source(p, path, shape, seed);
    *out = p;
    return CPL_OK;
}

cpl_status cpl_pool_open(cpl_pool **out, const char *path, uint64_t seed, size_t pairs, cpl_error *err)
{
    return cpl_pool_open_shaped(out, path, NULL, seed, pairs, err);
}

void cpl_pool_close(cpl_pool *p)
{
    if (!p) return;
    cpl_buf_deinit(&p->texts);
    free(p->ends);
    free(p->pairs);
    free(p->copies);
    free(p);
}

size_t cpl_pool_size(const cpl_pool *p) { return p->count; }
const cpl_pair *cpl_pool_pairs(const cpl_pool *p) { return p->pairs; }
const char *cpl_pool_source(const cpl_pool *p) { return p->source; }
bool cpl_pool_is_copy(const cpl_pool *p, size_t i) { return p->copies && p->copies[i]; }
uint32_t cpl_pool_documents_per_query(const cpl_pool *p) { return p->documents_per_query; }
