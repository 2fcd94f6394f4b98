/* SPDX-License-Identifier: Apache-2.0 */
/* infer_client.c - requests are written straight into a buffer: the message has two levels, and a generator that sends
 * a hundred thousand a second must not build a tree for each. Replies are read the same way. No state. */
#include "wire/infer_client.h"

#include <stdbool.h>
#include <string.h>

#include "base/error.h"

static size_t varint_size(uint64_t v)
{
    size_t n = 1;
    while (v >>= 7) n++;
    return n;
}

static void add_varint(cpl_buf *out, uint64_t v)
{
    char bytes[10];
    size_t n = 0;
    do {
        bytes[n++] = (char)((v & 0x7F) | (v > 0x7F ? 0x80 : 0));
        v >>= 7;
    } while (v);
    cpl_buf_add(out, bytes, n);
}

/* Field `number` of wire type 2. */
static void add_bytes(cpl_buf *out, uint32_t number, cpl_text text)
{
    add_varint(out, number << 3 | 2);
    add_varint(out, text.size);
    cpl_buf_add(out, text.data, text.size);
}

static size_t text_size(cpl_text t) { return 1 + varint_size(t.size) + t.size; }

void cpl_infer_request_encode(cpl_buf *out, const cpl_pair *pairs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        add_varint(out, 1 << 3 | 2);
        add_varint(out, text_size(pairs[i].query) + text_size(pairs[i].document));
        add_bytes(out, 1, pairs[i].query);
        add_bytes(out, 2, pairs[i].document);
    }
}

typedef struct reader {
    const uint8_t *at, *end;
} reader;

static bool read_varint(reader *r, uint64_t *v)
{
    *v = 0;
    for (unsigned shift = 0; shift < 64 && r->at < r->end; shift += 7) {
        uint8_t byte = *r->at++;
        *v |= (uint64_t)(byte & 0x7F) << shift;
        if (!(byte & 0x80)) return true;
    }
    return false;
}

static bool read_float(reader *r, float *v)
{
    if (r->end - r->at < 4) return false;
    memcpy(v, r->at, 4);
    r->at += 4;
    return true;
}

/* Field 1, packed or not. */
static bool read_scores(reader *r, unsigned wire_type, cpl_infer_reply *out, float *scores, size_t cap)
{
    reader values = *r;
    if (wire_type == 2) {
        uint64_t size;
        if (!read_varint(r, &size) || size > (uint64_t)(r->end - r->at) || size % 4) return false;
        values = (reader){r->at, r->at + size};
        r->at += size;
    } else if (wire_type == 5) {
        if (r->end - r->at < 4) return false;
        values.end = values.at + 4;
        r->at += 4;
    } else {
        return false;
    }
    float v;
    while (read_float(&values, &v)) {
        if (out->scores < cap) scores[out->scores] = v;
        out->scores++;
    }
    return true;
}

static bool skip(reader *r, unsigned wire_type)
{
    uint64_t size = wire_type == 5 ? 4 : 8;
    if (wire_type == 0) return read_varint(r, &size);
    if (wire_type == 2 && !read_varint(r, &size)) return false;
    if (wire_type != 1 && wire_type != 2 && wire_type != 5) return false;
    if (size > (uint64_t)(r->end - r->at)) return false;
    r->at += size;
    return true;
}

cpl_status cpl_infer_reply_decode(cpl_infer_reply *out, float *scores, size_t cap, const uint8_t *data, size_t n,
                                  cpl_error *err)
{
    *out = (cpl_infer_reply){0};
    reader r = {data, data + n};
    bool good = true;
    while (good && r.at < r.end) {
        uint64_t tag, v;
        good = read_varint(&r, &tag);
        if (!good) break;
        unsigned wire_type = tag & 7;
        uint64_t number = tag >> 3;
        if (number == 1) {
            good = read_scores(&r, wire_type, out, scores, cap);
        } else if ((number == 2 || number == 4) && wire_type == 0) {
            good = read_varint(&r, &v);
            *(number == 2 ? &out->num_pairs : &out->status_code) = (int32_t)v;
        } else if (number == 3 && wire_type == 5) {
            good = read_float(&r, &out->latency_ms);
        } else {
            good = skip(&r, wire_type);
        }
    }
    if (good) return CPL_OK;
    return cpl_fail(err, CPL_CORRUPT, "the reply is not an InferResponse: broken at byte %td of %zu", r.at - data, n);
}
