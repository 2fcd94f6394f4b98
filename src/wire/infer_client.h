/* SPDX-License-Identifier: Apache-2.0 */
/* infer_client.h - the client's half of inference.InferenceService/Infer: what `rank`, `load` and the laboratory send
 * and read. */
#ifndef CPL_WIRE_INFER_CLIENT_H
#define CPL_WIRE_INFER_CLIENT_H

#include "base/buf.h"
#include "couplet.h"

#define CPL_INFER_PATH "/inference.InferenceService/Infer"

/* Appends one encoded InferRequest of n pairs. A failed append stays in out (cpl_buf_status). */
void cpl_infer_request_encode(cpl_buf *out, const cpl_pair *pairs, size_t n);

typedef struct cpl_infer_reply {
    int32_t num_pairs, status_code;
    float latency_ms;
    size_t scores; /* how many came */
} cpl_infer_reply;

/* Decodes an InferResponse; writes at most cap scores. CPL_CORRUPT when it isn't one. */
cpl_status cpl_infer_reply_decode(cpl_infer_reply *out, float *scores, size_t cap, const uint8_t *data, size_t n,
                                  cpl_error *err);

#endif
