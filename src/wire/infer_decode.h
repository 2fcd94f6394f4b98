/* SPDX-License-Identifier: Apache-2.0 */
/* infer_decode.h - an InferRequest's bytes as pairs of texts, borrowed from the message. */
#ifndef CPL_WIRE_INFER_DECODE_H
#define CPL_WIRE_INFER_DECODE_H

#include "couplet.h"

typedef struct cpl_infer_limits {
    uint32_t pairs_max, text_bytes_max;
} cpl_infer_limits;

/* Grows with the requests it has held; a zeroed one is empty. */
typedef struct cpl_pair_list {
    cpl_pair *pairs;
    size_t count, cap;
} cpl_pair_list;

/* Everything a bad message can be wrong in is CPL_INVALID with a sentence that says which pair ("pairs[3].document",
 * counted from 0 as the scores are). Never more than limits->pairs_max pairs are stored. Nothing is allocated once the
 * list has grown. */
cpl_status cpl_infer_decode(cpl_pair_list *out, const void *data, size_t n, const cpl_infer_limits *limits,
                            cpl_error *err);
void cpl_pair_list_deinit(cpl_pair_list *list);

#endif
