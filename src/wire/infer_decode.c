/* SPDX-License-Identifier: Apache-2.0 */
/* infer_decode.c - InferRequest{1: repeated Pair{1: query, 2: document}} into an array of borrowed texts.
 * The one idea: one walk; whatever a client may send that can't be scored is told apart here, with the pair's number,
 * before the engine hears of it. Fields we don't know are skipped, as protobuf asks; a field we know in another wire
 * type means the client speaks another message, and that is said. Threads: none of its own.
 * Invariant: count <= limits->pairs_max, and each text lies inside the message. */
#include "wire/infer_decode.h"

#include <stdlib.h>

#include "base/error.h"
#include "base/utf8.h"
#include "wire/pb.h"

void cpl_pair_list_deinit(cpl_pair_list *list)
{
    free(list->pairs);
    *list = (cpl_pair_list){0};
}

static cpl_status add(cpl_pair_list *list, const cpl_pair *pair, cpl_error *err)
{
    if (list->count == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 64;
        cpl_pair *grown = realloc(list->pairs, cap * sizeof *grown);
        if (!grown) return cpl_fail_memory(err, cap * sizeof *grown);
        list->pairs = grown;
        list->cap = cap;
    }
    list->pairs[list->count++] = *pair;
    return CPL_OK;
}

static cpl_status check_text(cpl_text text, size_t index, const char *side, const cpl_infer_limits *limits,
                             cpl_error *err)
{
    if (text.size > limits->text_bytes_max)
        return cpl_fail(err, CPL_INVALID,
                        "pairs[%zu].%s has %zu bytes, the limit is %u (server.limits.max_text_bytes): shorten it",
                        index, side, text.size, limits->text_bytes_max);
    size_t valid = cpl_utf8_valid_prefix(text.data, text.size);
    if (valid < text.size)
        return cpl_fail(err, CPL_INVALID, "pairs[%zu].%s is not valid UTF-8 at byte %zu: send text, not other bytes",
                        index, side, valid);
    return CPL_OK;
}

static cpl_status decode_pair(cpl_pair *out, cpl_text message, size_t index, const cpl_infer_limits *limits,
                              cpl_error *err)
{
    cpl_pb_reader r = cpl_pb_read(message.data, message.size);
    cpl_pb_field field;
    bool ok;
    *out = (cpl_pair){{"", 0}, {"", 0}};
    while (cpl_pb_next(&r, &field, &ok)) {
        if (field.number != 1 && field.number != 2) continue;
        if (field.type != CPL_PB_BYTES)
            return cpl_fail(err, CPL_INVALID,
                            "pairs[%zu].%s is not text (wire type %d): is this an inference.InferRequest?", index,
                            field.number == 1 ? "query" : "document", (int)field.type);
        *(field.number == 1 ? &out->query : &out->document) = field.bytes;
    }
    if (!ok)
        return cpl_fail(err, CPL_INVALID, "pairs[%zu] is truncated or no protobuf message, at its byte %zu", index,
                        cpl_pb_offset(&r));
    cpl_status st = check_text(out->query, index, "query", limits, err);
    return st ? st : check_text(out->document, index, "document", limits, err);
}

cpl_status cpl_infer_decode(cpl_pair_list *out, const void *data, size_t n, const cpl_infer_limits *limits,
                            cpl_error *err)
{
    cpl_pb_reader r = cpl_pb_read(data, n);
    cpl_pb_field field;
    bool ok;
    size_t seen = 0;
    out->count = 0;
    while (cpl_pb_next(&r, &field, &ok)) {
        if (field.number != 1) continue;
        if (field.type != CPL_PB_BYTES)
            return cpl_fail(err, CPL_INVALID,
                            "field 1 (pairs) is not a message (wire type %d): is this an inference.InferRequest?",
                            (int)field.type);
        if (seen++ >= limits->pairs_max) continue; /* counted to the end, so that the sentence can say how many */
        cpl_pair pair;
        cpl_status st = decode_pair(&pair, field.bytes, seen - 1, limits, err);
        if (!st) st = add(out, &pair, err);
        if (st) return st;
    }
    if (!ok)
        return cpl_fail(err, CPL_INVALID, "the message is truncated or no protobuf message, at byte %zu of %zu",
                        cpl_pb_offset(&r), n);
    if (seen > limits->pairs_max)
        return cpl_fail(err, CPL_INVALID,
                        "%zu pairs in one request, the limit is %u (server.limits.max_pairs): send several requests",
                        seen, limits->pairs_max);
    if (seen == 0) return cpl_fail(err, CPL_INVALID, "no pairs: send at least one query and document");
    return CPL_OK;
}
