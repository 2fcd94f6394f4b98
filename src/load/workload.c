/* SPDX-License-Identifier: Apache-2.0 */
/* workload.c - requests written once from a pool, so that sending one costs the generator nothing.
 * Invariant: request i holds the pairs i*k .. i*k+k-1 of the pool, taken round and round, so the first pool-full of
 * pairs sent has no repeat but those the shape asks for.
 * Threads: read-only once open. Rejected: drawing pairs at random (repeats come long before the pool is used up, and
 * nobody sees how many). */
#include "load/workload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

struct cpl_workload {
    const cpl_dialect *dialect;
    uint32_t pairs_per_request;
    size_t pool, written; /* pairs in the pool, requests written */
    cpl_buf bytes;
    size_t *ends;
    bool *copies; /* of the pool's pairs; NULL: none */
    char *model;  /* NULL: none */
    char path[512];
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
    const cpl_pair *pairs = cpl_pool_pairs(pool);
    cpl_pair *take = malloc(k * sizeof *take);
    w->ends = malloc(requests * sizeof *w->ends);
    cpl_status st = take && w->ends ? CPL_OK : cpl_fail_memory(err, requests * sizeof *w->ends);
    for (size_t i = 0; !st && i < requests; i++) {
        for (size_t j = 0; j < k; j++) take[j] = pairs[(i * k + j) % cpl_pool_size(pool)];
        st = w->dialect->encode(take, k, w->model, &w->bytes, err);
        if (st) break;
        w->ends[w->written++] = w->bytes.size;
        if (w->bytes.size > CPL_WORKLOAD_BYTES_MAX) break;
    }
    free(take);
    return st;
}

static cpl_status note_copies(cpl_workload *w, const cpl_pool *pool, cpl_error *err)
{
    for (size_t i = 0; i < w->pool; i++) {
        if (!cpl_pool_is_copy(pool, i)) continue;
        if (!w->copies) w->copies = calloc(w->pool, sizeof *w->copies);
        if (!w->copies) return cpl_fail_memory(err, w->pool);
        w->copies[i] = true;
    }
    return CPL_OK;
}

static bool plain_name(const char *model)
{
    for (const char *c = model; *c; c++)
        if (*c <= ' ' || *c > '~' || strchr("?#%\"<>\\", *c)) return false;
    return true;
}

static cpl_status take_model(cpl_workload *w, const char *given, cpl_error *err)
{
    const char *model = given && *given ? given : w->dialect->model;
    if (model && !*model) return cpl_fail(err, CPL_INVALID, "dialect '%s' needs the model's name", w->dialect->name);
    if (model && !(w->model = strdup(model))) return cpl_fail_memory(err, strlen(model));
    const char *at = strstr(w->dialect->path, "%s");
    if (!at) {
        snprintf(w->path, sizeof w->path, "%s", w->dialect->path);
        return CPL_OK;
    }
    const int n =
        snprintf(w->path, sizeof w->path, "%.*s%s%s", (int)(at - w->dialect->path), w->dialect->path, model, at + 2);
    if (n < (int)sizeof w->path && plain_name(model)) return CPL_OK;
    return cpl_fail(err, CPL_INVALID, "model name '%.80s' doesn't fit into the path of dialect '%s'", model,
                    w->dialect->name);
}

static cpl_status check_queries(const cpl_workload *w, const cpl_pool *pool, cpl_error *err)
{
    const uint32_t shared = cpl_pool_documents_per_query(pool), k = w->pairs_per_request;
    if (!w->dialect->one_query || shared % k == 0) return CPL_OK;
    return cpl_fail(err, CPL_INVALID,
                    "a request of dialect '%s' has one query: with %u pairs a request, documents per query must be a "
                    "multiple of that and is %u",
                    w->dialect->name, k, shared);
}

cpl_status cpl_workload_open_model(cpl_workload **out, const cpl_pool *pool, const cpl_dialect *dialect,
                                   const char *model, uint32_t pairs_per_request, uint64_t requests, cpl_error *err)
{
    *out = NULL;
    if (!pairs_per_request) return cpl_fail(err, CPL_INVALID, "pairs per request is 0: a request needs at least one");
    cpl_workload *w = calloc(1, sizeof *w);
    if (!w) return cpl_fail_memory(err, sizeof *w);
    w->dialect = dialect;
    w->pairs_per_request = pairs_per_request;
    w->pool = cpl_pool_size(pool);
    uint64_t cycle = w->pool / common_divisor(w->pool, pairs_per_request);
    if (!requests || requests > cycle) requests = cycle;
    cpl_status st = take_model(w, model, err);
    if (!st) st = check_queries(w, pool, err);
    if (!st) st = note_copies(w, pool, err);
    if (!st) st = write_requests(w, pool, (size_t)requests, err);
    if (st) {
        cpl_workload_close(w);
        return st;
    }
    *out = w;
    return CPL_OK;
}

cpl_status cpl_workload_open(cpl_workload **out, const cpl_pool *pool, const cpl_dialect *dialect,
                             uint32_t pairs_per_request, uint64_t requests, cpl_error *err)
{
    return cpl_workload_open_model(out, pool, dialect, NULL, pairs_per_request, requests, err);
}

void cpl_workload_close(cpl_workload *w)
{
    if (!w) return;
    cpl_buf_deinit(&w->bytes);
    free(w->ends);
    free(w->copies);
    free(w->model);
    free(w);
}

cpl_text cpl_workload_request(const cpl_workload *w, uint64_t i)
{
    size_t at = (size_t)(i % w->written);
    size_t from = at ? w->ends[at - 1] : 0;
    return (cpl_text){w->bytes.data ? w->bytes.data + from : "", w->ends[at] - from};
}

const cpl_dialect *cpl_workload_dialect(const cpl_workload *w) { return w->dialect; }
const char *cpl_workload_path(const cpl_workload *w) { return w->path; }
const char *cpl_workload_model(const cpl_workload *w) { return w->model; }
uint32_t cpl_workload_pairs_per_request(const cpl_workload *w) { return w->pairs_per_request; }

uint64_t cpl_workload_repeats(const cpl_workload *w, uint64_t requests)
{
    uint64_t sent = requests * w->pairs_per_request;
    uint64_t distinct = (uint64_t)w->written * w->pairs_per_request;
    if (distinct > w->pool) distinct = w->pool;
    if (distinct > sent) distinct = sent;
    uint64_t first_time = distinct;
    for (size_t i = 0; w->copies && i < distinct; i++) first_time -= w->copies[i];
    return sent - first_time;
}
