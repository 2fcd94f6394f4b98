/* SPDX-License-Identifier: Apache-2.0 */
/* workload.c - pairs read or generated once, requests written once, so that sending one costs the generator nothing.
 * Invariants: request i holds the pairs i*k .. i*k+k-1 of the pool, taken round and round, so the first pool-full of
 * pairs sent has no repeat; texts live in one buffer and pairs point into it once it has stopped growing.
 * Threads: read-only once open. Rejected: drawing pairs at random (repeats come long before the pool is used up, and
 * nobody sees how many). */
#include "load/workload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/random.h"
#include "base/records.h"
#include "text/generator.h"

struct cpl_pool {
    cpl_buf texts; /* query, document, query, document, ... end to end */
    size_t *ends;  /* 2 a pair: where each text ends */
    size_t count, cap;
    cpl_pair *pairs;
    char source[400];
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

cpl_status cpl_pool_open(cpl_pool **out, const char *path, uint64_t seed, size_t pairs, cpl_error *err)
{
    *out = NULL;
    cpl_pool *p = calloc(1, sizeof *p);
    if (!p) return cpl_fail_memory(err, sizeof *p);
    if (pairs > CPL_POOL_PAIRS_MAX) pairs = CPL_POOL_PAIRS_MAX;
    if (!pairs) pairs = 1;
    cpl_status st = path ? pool_read(p, path, err) : pool_generate(p, seed, pairs, err);
    if (!st) st = pool_point(p, err);
    if (st) {
        cpl_pool_close(p);
        return st;
    }
    const char *name = path ? strrchr(path, '/') : NULL;
    if (path) {
        shuffle(p->pairs, p->count, seed);
        snprintf(p->source, sizeof p->source, "%s (%zu pairs), seed %llu", name ? name + 1 : path, p->count,
                 (unsigned long long)seed);
    } else {
        snprintf(p->source, sizeof p->source, "seeded generator, seed %llu", (unsigned long long)seed);
    }
    *out = p;
    return CPL_OK;
}

void cpl_pool_close(cpl_pool *p)
{
    if (!p) return;
    cpl_buf_deinit(&p->texts);
    free(p->ends);
    free(p->pairs);
    free(p);
}

size_t cpl_pool_size(const cpl_pool *p) { return p->count; }
const cpl_pair *cpl_pool_pairs(const cpl_pool *p) { return p->pairs; }
const char *cpl_pool_source(const cpl_pool *p) { return p->source; }

struct cpl_workload {
    const cpl_dialect *dialect;
    uint32_t pairs_per_request;
    size_t pool, written; /* pairs in the pool, requests written */
    cpl_buf bytes;
    size_t *ends;
};

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t t = a % b;
        a = b;
        b = t;
    }
    return a;
}

static cpl_status write_requests(cpl_workload *w, const cpl_pool *pool, size_t requests, cpl_error *err)
{
    size_t k = w->pairs_per_request;
    cpl_pair *take = malloc(k * sizeof *take);
    w->ends = malloc(requests * sizeof *w->ends);
    cpl_status st = take && w->ends ? CPL_OK : cpl_fail_memory(err, requests * sizeof *w->ends);
    for (size_t i = 0; !st && i < requests; i++) {
        for (size_t j = 0; j < k; j++) take[j] = pool->pairs[(i * k + j) % pool->count];
        st = w->dialect->encode(take, k, &w->bytes, err);
        if (st) break;
        w->ends[w->written++] = w->bytes.size;
        if (w->bytes.size > CPL_WORKLOAD_BYTES_MAX) break;
    }
    free(take);
    return st;
}

cpl_status cpl_workload_open(cpl_workload **out, const cpl_pool *pool, const cpl_dialect *dialect,
                             uint32_t pairs_per_request, uint64_t requests, cpl_error *err)
{
    *out = NULL;
    if (!pairs_per_request) return cpl_fail(err, CPL_INVALID, "pairs per request is 0: a request needs at least one");
    cpl_workload *w = calloc(1, sizeof *w);
    if (!w) return cpl_fail_memory(err, sizeof *w);
    w->dialect = dialect;
    w->pairs_per_request = pairs_per_request;
    w->pool = pool->count;
    uint64_t cycle = pool->count / common_divisor(pool->count, pairs_per_request);
    if (!requests || requests > cycle) requests = cycle;
    cpl_status st = write_requests(w, pool, (size_t)requests, err);
    if (st) {
        cpl_workload_close(w);
        return st;
    }
    *out = w;
    return CPL_OK;
}

void cpl_workload_close(cpl_workload *w)
{
    if (!w) return;
    cpl_buf_deinit(&w->bytes);
    free(w->ends);
    free(w);
}

cpl_text cpl_workload_request(const cpl_workload *w, uint64_t i)
{
    size_t at = (size_t)(i % w->written);
    size_t from = at ? w->ends[at - 1] : 0;
    return (cpl_text){w->bytes.data ? w->bytes.data + from : "", w->ends[at] - from};
}

const cpl_dialect *cpl_workload_dialect(const cpl_workload *w) { return w->dialect; }
uint32_t cpl_workload_pairs_per_request(const cpl_workload *w) { return w->pairs_per_request; }

uint64_t cpl_workload_repeats(const cpl_workload *w, uint64_t requests)
{
    uint64_t sent = requests * w->pairs_per_request;
    uint64_t distinct = (uint64_t)w->written * w->pairs_per_request;
    if (distinct > w->pool) distinct = w->pool;
    return sent > distinct ? sent - distinct : 0;
}
