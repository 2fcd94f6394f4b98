/* SPDX-License-Identifier: Apache-2.0 */
/* pool.h - the pairs that a run sends, in the order in which it sends them. */
#ifndef CPL_LOAD_POOL_H
#define CPL_LOAD_POOL_H

#include "load/shape.h"

typedef struct cpl_pool cpl_pool;

/* From a file (TSV or JSON lines, records.h), shuffled by the seed; or with path NULL `pairs` of the seeded generator.
 * At most CPL_POOL_PAIRS_MAX pairs are kept. An empty file is CPL_INVALID. */
enum { CPL_POOL_PAIRS_MAX = 65536 };
cpl_status cpl_pool_open(cpl_pool **out, const char *path, uint64_t seed, size_t pairs, cpl_error *err);
/* The same in a shape (shape.h; NULL: as they are). With lengths the texts are generated and path must be NULL. The
 * pairs are a multiple of documents_per_query. */
cpl_status cpl_pool_open_shaped(cpl_pool **out, const char *path, const cpl_shape *shape, uint64_t seed, size_t pairs,
                                cpl_error *err);
void cpl_pool_close(cpl_pool *p); /* NULL is fine */
size_t cpl_pool_size(const cpl_pool *p);
const cpl_pair *cpl_pool_pairs(const cpl_pool *p);
/* Is pair i one of the repeats that the shape asked for? */
bool cpl_pool_is_copy(const cpl_pool *p, size_t i);
uint32_t cpl_pool_documents_per_query(const cpl_pool *p); /* 1 unless the shape says more */
/* For reports: "seeded generator, seed 1" or "pairs.jsonl (1000 pairs), seed 1". */
const char *cpl_pool_source(const cpl_pool *p);

#endif
