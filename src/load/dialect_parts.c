/* SPDX-License-Identifier: Apache-2.0 */
/* dialect_parts.c - indices that must each come once, arrays of ranks, documents as a list.
 * The idea: a reply is believed only when it names every document exactly once with a finite score, whatever else a
 * server adds to it and in whatever order. Threads: no state. */
#include "load/dialect_parts.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

cpl_status cpl_places_init(cpl_places *p, size_t n, cpl_error *err)
{
    p->n = n;
    p->filled = 0;
    p->seen = p->small;
    const size_t bytes = n / 8 + 1;
    if (bytes <= sizeof p->small)
        memset(p->small, 0, bytes);
    else if (!(p->seen = calloc(bytes, 1)))
        return cpl_fail_memory(err, bytes);
    return CPL_OK;
}

void cpl_places_deinit(cpl_places *p)
{
    if (p->seen != p->small) free(p->seen);
}

bool cpl_places_fill(cpl_places *p, double index)
{
    if (!(index >= 0 && index < (double)p->n)) return false;
    const size_t i = (size_t)index;
    if ((double)i != index || (p->seen[i / 8] >> i % 8 & 1)) return false;
    p->seen[i / 8] |= (uint8_t)(1u << i % 8);
    p->filled++;
    return true;
}

cpl_status cpl_reply_broken(const cpl_json_scan *s, const uint8_t *data, const char *dialect, cpl_error *err)
{
    return cpl_fail(err, CPL_CORRUPT, "the reply is not one of %s: broken at byte %td of %td", dialect,
                    s->at - (const char *)data, s->end - (const char *)data);
}

/* One {"index": i, SCORE: x}; false: something is missing or twice. */
static bool read_rank(cpl_json_scan *s, cpl_places *places, const char *score)
{
    bool first = true, has_index = false, has_score = false;
    double index = 0;
    cpl_text key;
    if (!cpl_json_scan_enter(s, '{')) return false;
    while (cpl_json_scan_next(s, &first, '}', &key)) {
        if (cpl_json_scan_is(key, "index")) {
            has_index = true;
            index = cpl_json_scan_number(s);
        } else if (cpl_json_scan_is(key, score)) {
            has_score = true;
            cpl_json_scan_number(s);
        } else {
            cpl_json_scan_skip(s);
        }
    }
    return !s->bad && has_index && has_score && cpl_places_fill(places, index);
}

cpl_status cpl_ranks_check(cpl_json_scan *s, size_t n, const char *score, const char *dialect, cpl_error *err)
{
    cpl_places places;
    const char *from = s->at;
    bool first = true, good = cpl_json_scan_enter(s, '[');
    cpl_status st = cpl_places_init(&places, n, err);
    if (st) return st;
    while (good && cpl_json_scan_next(s, &first, ']', NULL)) good = read_rank(s, &places, score);
    if (s->bad)
        st = cpl_fail(err, CPL_CORRUPT, "the reply is not one of %s: broken %td bytes into its list", dialect,
                      s->at - from);
    else if (!good)
        st =
            cpl_fail(err, CPL_CORRUPT, "the reply's entry %zu lacks 'index' or '%s', or names a document twice or none",
                     places.filled, score);
    else if (places.filled != n)
        st = cpl_fail(err, CPL_CORRUPT, "the reply holds %zu scores for %zu pairs", places.filled, n);
    cpl_places_deinit(&places);
    return st;
}

bool cpl_json_scan_find(cpl_json_scan *s, const char *key)
{
    bool first = true;
    cpl_text found;
    if (!cpl_json_scan_enter(s, '{')) return false;
    while (cpl_json_scan_next(s, &first, '}', &found)) {
        if (cpl_json_scan_is(found, key)) return true;
        cpl_json_scan_skip(s);
    }
    return false;
}

void cpl_json_documents(cpl_json_writer *w, const char *key, const cpl_pair *pairs, size_t n)
{
    cpl_json_open(w, key, '[');
    for (size_t i = 0; i < n; i++) cpl_json_bytes(w, NULL, pairs[i].document.data, pairs[i].document.size);
    cpl_json_close(w, ']');
}

void cpl_json_ranks(cpl_buf *out, size_t n, const char *score)
{
    for (size_t i = 0; i < n; i++)
        cpl_buf_print(out, "%s{\"index\":%zu,\"%s\":0.%zu}", i ? "," : "[", i, score, 1 + i % 9);
    cpl_buf_text(out, "]");
}

bool cpl_pairs_share_query(const cpl_pair *pairs, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (pairs[i].query.size != pairs[0].query.size ||
            memcmp(pairs[i].query.data, pairs[0].query.data, pairs[0].query.size) != 0)
            return false;
    return true;
}
