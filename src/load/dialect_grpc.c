/* SPDX-License-Identifier: Apache-2.0 */
/* dialect_grpc.c - couplet's own InferenceService/Infer, and TEI's Rerank over gRPC. Threads: no state. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "load/dialect_parts.h"
#include "wire/infer_client.h"
#include "wire/pb.h"

enum { SCORES_LOOKED_AT_MAX = 4096 };

static cpl_status couplet_encode(const cpl_pair *pairs, size_t n, const char *model, cpl_buf *out, cpl_error *err)
{
    (void)model;
    cpl_infer_request_encode(out, pairs, n);
    return cpl_buf_status(out, err);
}

static cpl_status couplet_check(const uint8_t *data, size_t size, size_t n, cpl_error *err)
{
    float scores[SCORES_LOOKED_AT_MAX];
    cpl_infer_reply reply;
    cpl_status st = cpl_infer_reply_decode(&reply, scores, SCORES_LOOKED_AT_MAX, data, size, err);
    if (st) return st;
    /* experiment.mode tokenize: the server says that there are no scores. */
    if (reply.status_code == 204 && !reply.scores && reply.num_pairs == (int64_t)n) return CPL_OK;
    if (reply.scores != n)
        return cpl_fail(err, CPL_CORRUPT, "the reply holds %zu scores for %zu pairs", reply.scores, n);
    for (size_t i = 0; i < n && i < SCORES_LOOKED_AT_MAX; i++)
        if (!isfinite(scores[i])) return cpl_fail(err, CPL_CORRUPT, "score %zu of %zu is not a finite number", i, n);
    return CPL_OK;
}

static void couplet_answer(size_t n, cpl_buf *out)
{
    cpl_buf scores = {0};
    const float half = 0.5f;
    for (size_t i = 0; i < n; i++) cpl_buf_add(&scores, &half, 4);
    cpl_pb_put_bytes(out, 1, scores.data ? scores.data : "", scores.size);
    cpl_pb_put_varint(out, 2, n);
    cpl_buf_deinit(&scores);
}

const cpl_dialect cpl_dialect_couplet_grpc = {.name = "couplet-grpc",
                                              .path = CPL_INFER_PATH,
                                              .speaks = "couplet's and the reference's inference.InferenceService",
                                              .model_metadata = true,
                                              .encode = couplet_encode,
                                              .check = couplet_check,
                                              .answer = couplet_answer};

/* ---- tei.v1.Rerank/Rerank ---------------------------------------------------------------------------------------- */

static cpl_status tei_encode(const cpl_pair *pairs, size_t n, const char *model, cpl_buf *out, cpl_error *err)
{
    (void)model;
    cpl_pb_put_bytes(out, 1, pairs[0].query.data, pairs[0].query.size);
    for (size_t i = 0; i < n; i++) cpl_pb_put_bytes(out, 2, pairs[i].document.data, pairs[i].document.size);
    cpl_pb_put_varint(out, 3, 1); /* truncate */
    return cpl_buf_status(out, err);
}

/* Rank{1 index, 2 text?, 3 score}; an index of 0 isn't on the wire, nor is a score of exactly 0. */
static bool read_rank(cpl_text message, cpl_places *places, bool *ok)
{
    cpl_pb_reader r = cpl_pb_read(message.data, message.size);
    cpl_pb_field f;
    uint64_t index = 0;
    float score = 0;
    while (cpl_pb_next(&r, &f, ok)) {
        if (f.number == 1 && f.type == CPL_PB_VARINT) index = f.value;
        if (f.number == 3 && f.type == CPL_PB_FIXED32) {
            const uint32_t bits = (uint32_t)f.value;
            memcpy(&score, &bits, 4);
        }
    }
    return *ok && isfinite(score) && cpl_places_fill(places, (double)index);
}

static cpl_status tei_check(const uint8_t *data, size_t size, size_t n, cpl_error *err)
{
    cpl_pb_reader r = cpl_pb_read(data, size);
    cpl_pb_field f;
    cpl_places places;
    bool ok = true, good = true;
    cpl_status st = cpl_places_init(&places, n, err);
    if (st) return st;
    while (good && ok && cpl_pb_next(&r, &f, &ok))
        if (f.number == 1) good = f.type == CPL_PB_BYTES && read_rank(f.bytes, &places, &ok);
    if (!ok)
        st = cpl_fail(err, CPL_CORRUPT, "the reply is not a RerankResponse: broken at byte %zu of %zu",
                      cpl_pb_offset(&r), size);
    else if (!good)
        st = cpl_fail(err, CPL_CORRUPT, "rank %zu names a document twice or none, or its score is not finite",
                      places.filled);
    else if (places.filled != n)
        st = cpl_fail(err, CPL_CORRUPT, "the reply holds %zu scores for %zu pairs", places.filled, n);
    cpl_places_deinit(&places);
    return st;
}

static void tei_answer(size_t n, cpl_buf *out)
{
    for (size_t i = 0; i < n; i++) {
        cpl_buf rank = {0};
        const float half = 0.5f;
        if (i) cpl_pb_put_varint(&rank, 1, i);
        cpl_buf_add(&rank, "\x1d", 1); /* field 3, fixed32 */
        cpl_buf_add(&rank, &half, 4);
        cpl_pb_put_bytes(out, 1, rank.data ? rank.data : "", rank.size);
        cpl_buf_deinit(&rank);
    }
}

const cpl_dialect cpl_dialect_tei_grpc = {.name = "tei-grpc",
                                          .path = "/tei.v1.Rerank/Rerank",
                                          .speaks = "text-embeddings-inference's tei.v1.Rerank",
                                          .one_query = true,
                                          .encode = tei_encode,
                                          .check = tei_check,
                                          .answer = tei_answer};
