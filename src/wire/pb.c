/* SPDX-License-Identifier: Apache-2.0 */
/* pb.c - protobuf's wire form by hand.
 * The one idea: what couplet reads is shallow (a list of pairs of texts), so one forward walk with borrowed texts does
 * it, and each message is read exactly as far as it is asked for. protobuf-c writes the replies.
 * Rejected: decoding through protobuf-c. It cuts strings at U+0000 and doesn't check UTF-8 unless every field is
 * declared bytes, copies each text, takes about 100 bytes for a 2-byte empty pair (so a 4 MiB message asks for 200 MB
 * before a limit can be checked), and its errors don't say which pair is broken.
 * Invariant: start <= at <= end. Threads: none of its own. */
#include "wire/pb.h"

enum { GROUP_DEPTH_MAX = 32 };

cpl_pb_reader cpl_pb_read(const void *data, size_t n)
{
    static const uint8_t nothing[1] = {0};
    const uint8_t *p = data ? data : nothing;
    return (cpl_pb_reader){.at = p, .end = p + (data ? n : 0), .start = p};
}

size_t cpl_pb_offset(const cpl_pb_reader *r) { return (size_t)(r->at - r->start); }

static bool read_varint(cpl_pb_reader *r, uint64_t *out)
{
    uint64_t value = 0;
    const uint8_t *p = r->at;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (p == r->end) return false;
        uint8_t byte = *p++;
        if (shift == 63 && byte > 1) return false; /* more than 64 bits */
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            r->at = p;
            *out = value;
            return true;
        }
    }
    return false;
}

static bool read_fixed(cpl_pb_reader *r, unsigned size, uint64_t *out)
{
    if ((size_t)(r->end - r->at) < size) return false;
    *out = 0;
    for (unsigned i = 0; i < size; i++) *out |= (uint64_t)r->at[i] << (8 * i);
    r->at += size;
    return true;
}

static bool read_one(cpl_pb_reader *r, cpl_pb_field *out)
{
    uint64_t key, n;
    if (!read_varint(r, &key) || key >> 3 == 0 || key >> 3 > 0x1fffffff) return false;
    out->number = (uint32_t)(key >> 3);
    out->type = (cpl_pb_type)(key & 7);
    switch (out->type) {
    case CPL_PB_VARINT: return read_varint(r, &out->value);
    case CPL_PB_FIXED64: return read_fixed(r, 8, &out->value);
    case CPL_PB_FIXED32: return read_fixed(r, 4, &out->value);
    case CPL_PB_BYTES:
        if (!read_varint(r, &n) || n > (uint64_t)(r->end - r->at)) return false;
        out->bytes = (cpl_text){(const char *)r->at, (size_t)n};
        r->at += n;
        return true;
    case CPL_PB_GROUP:
    case CPL_PB_GROUP_END: return true;
    }
    return false;
}

/* Reads on after a group was opened until it is closed. */
static bool skip_group(cpl_pb_reader *r, uint32_t number)
{
    uint32_t open[GROUP_DEPTH_MAX] = {number};
    for (int depth = 1; depth > 0;) {
        cpl_pb_field field = {0};
        if (r->at == r->end || !read_one(r, &field)) return false;
        if (field.type == CPL_PB_GROUP) {
            if (depth == GROUP_DEPTH_MAX) return false;
            open[depth++] = field.number;
        } else if (field.type == CPL_PB_GROUP_END && open[--depth] != field.number) {
            return false;
        }
    }
    return true;
}

bool cpl_pb_next(cpl_pb_reader *r, cpl_pb_field *out, bool *ok)
{
    while (r->at < r->end) {
        cpl_pb_reader before = *r;
        *out = (cpl_pb_field){0};
        bool good = read_one(r, out) && out->type != CPL_PB_GROUP_END;
        if (good && out->type == CPL_PB_GROUP && skip_group(r, out->number)) continue;
        *ok = good && out->type != CPL_PB_GROUP;
        if (!*ok) *r = before;
        return *ok;
    }
    *ok = true;
    return false;
}

static void put_raw_varint(cpl_buf *out, uint64_t value)
{
    uint8_t bytes[10];
    size_t n = 0;
    do {
        bytes[n++] = (uint8_t)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        value >>= 7;
    } while (value);
    cpl_buf_add(out, bytes, n);
}

void cpl_pb_put_varint(cpl_buf *out, uint32_t field, uint64_t value)
{
    put_raw_varint(out, (uint64_t)field << 3 | CPL_PB_VARINT);
    put_raw_varint(out, value);
}

void cpl_pb_put_bytes(cpl_buf *out, uint32_t field, const void *data, size_t n)
{
    put_raw_varint(out, (uint64_t)field << 3 | CPL_PB_BYTES);
    put_raw_varint(out, n);
    cpl_buf_add(out, data, n);
}

void cpl_pb_put_text(cpl_buf *out, uint32_t field, const char *terminated)
{
    cpl_pb_put_bytes(out, field, terminated, strlen(terminated));
}
