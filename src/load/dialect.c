/* SPDX-License-Identifier: Apache-2.0 */
/* dialect.c - couplet's own gRPC dialect, and the names of those that are still to come.
 * The one idea: a request is written once, before the run, and only its bytes are sent; replies are checked one by one
 * during the run, in place and without memory, because a generator that allocates shows in the latencies it reports.
 * Threads: no state. Rejected: trusting a reply by its status alone (a server that answers 31 scores to 32 pairs would
 * then be the fastest). */
#include "load/dialect.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "wire/infer_client.h"

enum { SCORES_LOOKED_AT_MAX = 4096 };

static cpl_status couplet_encode(const cpl_pair *pairs, size_t n, cpl_buf *out, cpl_error *err)
{
    cpl_infer_request_encode(out, pairs, n);
    return cpl_buf_status(out, err);
}

static cpl_status couplet_check(const uint8_t *data, size_t size, size_t n, cpl_error *err)
{
    float scores[SCORES_LOOKED_AT_MAX];
    cpl_infer_reply reply;
    cpl_status st = cpl_infer_reply_decode(&reply, scores, SCORES_LOOKED_AT_MAX, data, size, err);
    if (st) return st;
    if (reply.scores != n)
        return cpl_fail(err, CPL_CORRUPT, "the reply holds %zu scores for %zu pairs", reply.scores, n);
    for (size_t i = 0; i < n && i < SCORES_LOOKED_AT_MAX; i++)
        if (!isfinite(scores[i])) return cpl_fail(err, CPL_CORRUPT, "score %zu of %zu is not a finite number", i, n);
    return CPL_OK;
}

const cpl_dialect cpl_dialect_couplet_grpc = {"couplet-grpc", CPL_INFER_PATH, couplet_encode, couplet_check};

static const char *const later[] = {"tei", "tei-grpc", "cohere", "jina", "openai", "vllm", "oip", "infinity"};

cpl_status cpl_dialect_find(const cpl_dialect **out, const char *name, cpl_error *err)
{
    *out = NULL;
    if (!strcmp(name, cpl_dialect_couplet_grpc.name)) {
        *out = &cpl_dialect_couplet_grpc;
        return CPL_OK;
    }
    for (size_t i = 0; i < sizeof later / sizeof *later; i++)
        if (!strcmp(name, later[i]))
            return cpl_fail(err, CPL_UNSUPPORTED, "dialect '%s' is not in this version: use 'couplet-grpc'", name);
    return cpl_fail(err, CPL_INVALID, "unknown dialect '%s': use 'couplet-grpc'", name);
}
