/* SPDX-License-Identifier: Apache-2.0 */
/* workload.h - what a run sends: a pool of pairs, and the requests written from it beforehand.
 *
 * Pairs are unique by default: none is sent twice before all of the pool have been, and how many were repeats is part
 * of every result, because a server that caches would otherwise shine without being noticed. */
#ifndef CPL_LOAD_WORKLOAD_H
#define CPL_LOAD_WORKLOAD_H

#include "load/dialect.h"
#include "load/pool.h"

typedef struct cpl_workload cpl_workload;

/* Writes requests of pairs_per_request pairs each: as many as `requests`, fewer when the pool's cycle is shorter or
 * when they would pass CPL_WORKLOAD_BYTES_MAX; after the last the first follows. The pool is needed only here. */
enum { CPL_WORKLOAD_BYTES_MAX = 256 << 20 };
cpl_status cpl_workload_open(cpl_workload **out, const cpl_pool *pool, const cpl_dialect *dialect,
                             uint32_t pairs_per_request, uint64_t requests, cpl_error *err);
/* The same with the model's name for APIs that send one; NULL: the dialect's own. A dialect of one query a request
 * takes only pools in which the pairs of each request share theirs (documents_per_query a multiple of
 * pairs_per_request). */
cpl_status cpl_workload_open_model(cpl_workload **out, const cpl_pool *pool, const cpl_dialect *dialect,
                                   const char *model, uint32_t pairs_per_request, uint64_t requests, cpl_error *err);
void cpl_workload_close(cpl_workload *w); /* NULL is fine */
/* The i-th request sent; borrowed from the workload. */
cpl_text cpl_workload_request(const cpl_workload *w, uint64_t i);
const cpl_dialect *cpl_workload_dialect(const cpl_workload *w);
/* Of the requests: the dialect's, the model's name put in; and the model's name, NULL when none was given. */
const char *cpl_workload_path(const cpl_workload *w);
const char *cpl_workload_model(const cpl_workload *w);
uint32_t cpl_workload_pairs_per_request(const cpl_workload *w);
/* Of the pairs in the first `requests` requests, how many had been sent before. */
uint64_t cpl_workload_repeats(const cpl_workload *w, uint64_t requests);

#endif
