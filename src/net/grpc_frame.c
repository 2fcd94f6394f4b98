/* SPDX-License-Identifier: Apache-2.0 */
/* grpc_frame.c - reassembles gRPC messages from whatever pieces DATA frames bring.
 *
 * The declared length is checked before anything is buffered, and buffers grow with the bytes that really came, so a
 * prefix that promises 4 GB costs nothing. Decompression starts once the compressed message is whole (it is bounded by
 * the same limit) and stops at the limit, so a bomb costs one message's worth of memory. Streaming inflate, overlapped
 * with arrival, was rejected: it needs a 40 KB zlib state a call instead of one a thread.
 *
 * Invariant: prefix_size < 5 means that no message is begun and `wire` belongs to the message handed out last. */
#include "net/grpc_frame.h"

#include <stdlib.h>
#include <zlib.h>

#include "base/error.h"

enum { INFLATE_STEP_MIN = 16 * 1024, INFLATE_STEP_MAX = 64 * 1024 * 1024 };

bool cpl_encoding_of(const char *name, size_t n, cpl_encoding *out)
{
    static const struct {
        const char *name;
        cpl_encoding value;
    } known[] = {{"identity", CPL_ENCODING_IDENTITY}, {"gzip", CPL_ENCODING_GZIP}, {"deflate", CPL_ENCODING_DEFLATE}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strlen(known[i].name) == n && !memcmp(known[i].name, name, n)) {
            *out = known[i].value;
            return true;
        }
    }
    return false;
}

void cpl_inflater_deinit(cpl_inflater *z)
{
    if (z->stream) inflateEnd(z->stream);
    free(z->stream);
    z->stream = NULL;
}

static bool inflater_start(cpl_inflater *z, cpl_encoding encoding)
{
    int bits = encoding == CPL_ENCODING_GZIP ? 15 + 16 : 15;
    if (z->stream) return inflateReset2(z->stream, bits) == Z_OK;
    z_stream *s = calloc(1, sizeof *s);
    if (!s) return false;
    if (inflateInit2(s, bits) != Z_OK) {
        free(s);
        return false;
    }
    z->stream = s;
    return true;
}

void cpl_frame_reader_reset(cpl_frame_reader *r, uint32_t message_bytes_max, cpl_inflater *inflater)
{
    r->prefix_size = 0;
    r->has_encoding = false;
    r->encoding = CPL_ENCODING_IDENTITY;
    r->message_bytes_max = message_bytes_max;
    r->inflater = inflater;
    cpl_buf_clear(&r->wire);
    cpl_buf_clear(&r->plain);
}

void cpl_frame_reader_trim(cpl_frame_reader *r, size_t retained_bytes_max)
{
    if (!retained_bytes_max || r->wire.cap > retained_bytes_max) cpl_buf_deinit(&r->wire);
    if (!retained_bytes_max || r->plain.cap > retained_bytes_max) cpl_buf_deinit(&r->plain);
}

bool cpl_frame_at_boundary(const cpl_frame_reader *r) { return r->prefix_size == 0; }

static uint32_t declared(const cpl_frame_reader *r)
{
    return (uint32_t)r->prefix[1] << 24 | (uint32_t)r->prefix[2] << 16 | (uint32_t)r->prefix[3] << 8 | r->prefix[4];
}

static cpl_grpc_code no_memory(cpl_error *err)
{
    cpl_fail(err, CPL_NO_MEMORY, "out of memory while reading a message");
    return CPL_GRPC_RESOURCE_EXHAUSTED;
}

static cpl_grpc_code check_prefix(const cpl_frame_reader *r, cpl_error *err)
{
    if (r->prefix[0] > 1) {
        cpl_fail(err, CPL_INTERNAL, "message prefix has flag byte %u; 0 (plain) and 1 (compressed) are defined",
                 r->prefix[0]);
        return CPL_GRPC_INTERNAL;
    }
    if (r->prefix[0] && (!r->has_encoding || r->encoding == CPL_ENCODING_IDENTITY)) {
        cpl_fail(err, CPL_INTERNAL, "message is flagged compressed, but grpc-encoding names no compression");
        return CPL_GRPC_INTERNAL;
    }
    if (declared(r) > r->message_bytes_max) {
        cpl_fail(err, CPL_QUEUE_FULL, "message of %u bytes is larger than the limit of %u bytes", declared(r),
                 r->message_bytes_max);
        return CPL_GRPC_RESOURCE_EXHAUSTED;
    }
    return CPL_GRPC_OK;
}

static cpl_grpc_code bad_compression(const cpl_frame_reader *r, cpl_error *err)
{
    cpl_fail(err, CPL_INTERNAL, "message can't be decompressed as %s",
             r->encoding == CPL_ENCODING_GZIP ? "gzip" : "deflate");
    return CPL_GRPC_INTERNAL;
}

static cpl_grpc_code decompress(cpl_frame_reader *r, cpl_error *err)
{
    cpl_buf_clear(&r->plain);
    if (!r->wire.size) return CPL_GRPC_OK; /* some clients flag empty messages */
    if (!inflater_start(r->inflater, r->encoding)) return no_memory(err);
    z_stream *s = r->inflater->stream;
    s->next_in = (unsigned char *)r->wire.data;
    s->avail_in = (uInt)r->wire.size;
    for (;;) {
        /* One byte of room beyond the limit tells "just fits" from "too large". */
        size_t room = (size_t)r->message_bytes_max + 1 - r->plain.size;
        size_t step = r->plain.size < INFLATE_STEP_MIN ? INFLATE_STEP_MIN : r->plain.size;
        if (step > INFLATE_STEP_MAX) step = INFLATE_STEP_MAX;
        if (room > step) room = step;
        if (!cpl_buf_reserve(&r->plain, room)) return no_memory(err);
        s->next_out = (unsigned char *)r->plain.data + r->plain.size;
        s->avail_out = (uInt)room;
        int rc = inflate(s, Z_NO_FLUSH);
        r->plain.size += room - s->avail_out;
        if (r->plain.size > r->message_bytes_max) {
            cpl_fail(err, CPL_QUEUE_FULL, "message is larger than the limit of %u bytes when decompressed",
                     r->message_bytes_max);
            return CPL_GRPC_RESOURCE_EXHAUSTED;
        }
        if (rc == Z_STREAM_END) {
            if (!s->avail_in) return CPL_GRPC_OK;
            /* gzip allows several members in a row; nothing may follow a zlib stream. */
            if (r->encoding != CPL_ENCODING_GZIP || inflateReset(s) != Z_OK) return bad_compression(r, err);
            continue;
        }
        if (rc == Z_MEM_ERROR) return no_memory(err);
        if (rc != Z_OK || (!s->avail_in && s->avail_out)) return bad_compression(r, err);
    }
}

cpl_grpc_code cpl_frame_feed(cpl_frame_reader *r, const uint8_t *data, size_t n, size_t *used, bool *ready,
                             cpl_frame *out, cpl_error *err)
{
    *used = 0;
    *ready = false;
    if (r->prefix_size < CPL_GRPC_PREFIX) {
        size_t take = CPL_GRPC_PREFIX - r->prefix_size;
        if (take > n) take = n;
        if (take) memcpy(r->prefix + r->prefix_size, data, take);
        r->prefix_size += (uint8_t)take;
        *used = take;
        if (r->prefix_size < CPL_GRPC_PREFIX) return CPL_GRPC_OK;
        cpl_grpc_code code = check_prefix(r, err);
        if (code) return code;
        cpl_buf_clear(&r->wire);
    }
    size_t missing = declared(r) - r->wire.size;
    size_t take = n - *used < missing ? n - *used : missing;
    cpl_buf_add(&r->wire, data + *used, take);
    if (r->wire.failed) return no_memory(err);
    *used += take;
    if (take < missing) return CPL_GRPC_OK;
    r->prefix_size = 0;
    const cpl_buf *whole = &r->wire;
    if (r->prefix[0]) {
        cpl_grpc_code code = decompress(r, err);
        if (code) return code;
        whole = &r->plain;
    }
    *ready = true;
    out->data = whole->data ? (const uint8_t *)whole->data : (const uint8_t *)"";
    out->size = whole->size;
    return CPL_GRPC_OK;
}

void cpl_frame_prefix(uint8_t out[CPL_GRPC_PREFIX], uint32_t n)
{
    out[0] = 0;
    out[1] = (uint8_t)(n >> 24);
    out[2] = (uint8_t)(n >> 16);
    out[3] = (uint8_t)(n >> 8);
    out[4] = (uint8_t)n;
}

void cpl_frame_write(cpl_buf *out, const void *message, size_t n)
{
    CPL_ASSERT(n <= UINT32_MAX);
    uint8_t prefix[CPL_GRPC_PREFIX];
    cpl_frame_prefix(prefix, (uint32_t)n);
    cpl_buf_add(out, prefix, sizeof prefix);
    cpl_buf_add(out, message, n);
}
