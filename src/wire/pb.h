/* SPDX-License-Identifier: Apache-2.0 */
/* pb.h - protobuf's wire form, read in place and written into a buffer. Nothing is allocated to read a message, and
 * texts are borrowed from it with their length, so U+0000 inside a string survives and UTF-8 can be checked. */
#ifndef CPL_WIRE_PB_H
#define CPL_WIRE_PB_H

#include <stdbool.h>

#include "base/buf.h"
#include "couplet.h"

typedef enum cpl_pb_type {
    CPL_PB_VARINT = 0,
    CPL_PB_FIXED64 = 1,
    CPL_PB_BYTES = 2,
    CPL_PB_GROUP = 3,
    CPL_PB_GROUP_END = 4,
    CPL_PB_FIXED32 = 5
} cpl_pb_type;

typedef struct cpl_pb_reader {
    const uint8_t *at, *end, *start;
} cpl_pb_reader;

typedef struct cpl_pb_field {
    uint32_t number;
    cpl_pb_type type;
    uint64_t value; /* VARINT, FIXED64, FIXED32 */
    cpl_text bytes; /* BYTES; borrowed */
} cpl_pb_field;

cpl_pb_reader cpl_pb_read(const void *data, size_t n);
/* The next field; false at the end of the message or where it is broken: *ok tells which. Groups (which proto3 doesn't
 * have) are skipped whole. */
bool cpl_pb_next(cpl_pb_reader *r, cpl_pb_field *out, bool *ok);
/* Byte at which reading stopped. */
size_t cpl_pb_offset(const cpl_pb_reader *r);

void cpl_pb_put_varint(cpl_buf *out, uint32_t field, uint64_t value);
void cpl_pb_put_bytes(cpl_buf *out, uint32_t field, const void *data, size_t n);
void cpl_pb_put_text(cpl_buf *out, uint32_t field, const char *terminated);

#endif
