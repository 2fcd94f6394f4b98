/* SPDX-License-Identifier: Apache-2.0 */
/* dialect_parts.h - what several dialects have in common. */
#ifndef CPL_LOAD_DIALECT_PARTS_H
#define CPL_LOAD_DIALECT_PARTS_H

#include "base/json.h"
#include "load/dialect.h"
#include "load/json_scan.h"

/* Which of a reply's n places were filled, each once. */
typedef struct cpl_places {
    uint8_t *seen; /* n bits */
    size_t n, filled;
    uint8_t small[512];
} cpl_places;

cpl_status cpl_places_init(cpl_places *p, size_t n, cpl_error *err);
void cpl_places_deinit(cpl_places *p);
/* False for an index of n or more, or one that was there before. */
bool cpl_places_fill(cpl_places *p, double index);

/* Reads an array of {"index": i, SCORE: x, ...}: each of n indices once, each with a finite score. */
cpl_status cpl_ranks_check(cpl_json_scan *s, size_t n, const char *score, const char *dialect, cpl_error *err);
/* Goes to the value of `key` in the object that the reply is; false when it has none. */
bool cpl_json_scan_find(cpl_json_scan *s, const char *key);
/* What every check ends with. */
cpl_status cpl_reply_broken(const cpl_json_scan *s, const uint8_t *data, const char *dialect, cpl_error *err);
/* "texts": [documents of the pairs]. */
void cpl_json_documents(cpl_json_writer *w, const char *key, const cpl_pair *pairs, size_t n);
/* [{"index":0,SCORE:0.5}, ...] */
void cpl_json_ranks(cpl_buf *out, size_t n, const char *score);
bool cpl_pairs_share_query(const cpl_pair *pairs, size_t n);

#endif
