/* SPDX-License-Identifier: Apache-2.0 */
/* onnx_proto.c - the few messages of onnx.proto that a graph needs.
 *
 * The one idea: a message's length goes before it, so five bytes are left for it and filled in afterwards (a varint may
 * have more bytes than it needs). So a model of a hundred megabytes is written once, in order, into one buffer. Field
 * numbers are those of onnx.proto and stand beside each use. Threads: none. */
#include "model/onnx_proto.h"

#include <string.h>

enum { VARINT = 0, LENGTH = 2, FIXED32 = 5, LENGTH_BYTES = 5 };

static void put_varint(cpl_buf *b, uint64_t v)
{
    unsigned char bytes[10];
    size_t n = 0;
    do {
        bytes[n] = (unsigned char)(v & 127u);
        v >>= 7;
        if (v) bytes[n] |= 128u;
        n++;
    } while (v);
    cpl_buf_add(b, bytes, n);
}

static void put_tag(cpl_buf *b, uint32_t field, uint32_t wire) { put_varint(b, (uint64_t)field << 3 | wire); }

size_t cpl_onnx_begin(cpl_buf *b, uint32_t field)
{
    static const char room[LENGTH_BYTES] = {0};
    put_tag(b, field, LENGTH);
    cpl_buf_add(b, room, sizeof room);
    return b->size;
}

void cpl_onnx_end(cpl_buf *b, size_t mark)
{
    if (b->failed) return;
    uint64_t n = b->size - mark;
    for (size_t i = 0; i < LENGTH_BYTES; i++, n >>= 7)
        b->data[mark - LENGTH_BYTES + i] = (char)((n & 127u) | (i + 1 < LENGTH_BYTES ? 128u : 0u));
}

void cpl_onnx_int(cpl_buf *b, uint32_t field, int64_t value)
{
    put_tag(b, field, VARINT);
    put_varint(b, (uint64_t)value);
}

static void put_bytes(cpl_buf *b, uint32_t field, const char *text, size_t n)
{
    put_tag(b, field, LENGTH);
    put_varint(b, n);
    cpl_buf_add(b, text, n);
}

void cpl_onnx_text(cpl_buf *b, uint32_t field, const char *text) { put_bytes(b, field, text, strlen(text)); }

/* Each word of `names` as one repeated string. */
static void put_words(cpl_buf *b, uint32_t field, const char *names)
{
    while (*names) {
        size_t n = strcspn(names, " ");
        if (n) put_bytes(b, field, names, n);
        names += n + (names[n] == ' ');
    }
}

static void put_attribute(cpl_buf *b, const cpl_onnx_attribute *a)
{
    if (!a->kind) return;
    size_t at = cpl_onnx_begin(b, 5); /* NodeProto.attribute */
    cpl_onnx_text(b, 1, a->name);
    if (a->kind == 'i') {
        cpl_onnx_int(b, 3, a->i);
        cpl_onnx_int(b, 20, 2); /* type: INT */
    } else if (a->kind == 'f') {
        put_tag(b, 2, FIXED32);
        cpl_buf_add(b, &a->f, sizeof a->f);
        cpl_onnx_int(b, 20, 1); /* FLOAT */
    } else {
        for (size_t i = 0; i < a->n; i++) cpl_onnx_int(b, 8, a->list[i]);
        cpl_onnx_int(b, 20, 7); /* INTS */
    }
    cpl_onnx_end(b, at);
}

void cpl_onnx_node(cpl_buf *b, const char *op, const char *inputs, const char *outputs,
                   const cpl_onnx_attribute *attributes, size_t count)
{
    size_t at = cpl_onnx_begin(b, 1); /* GraphProto.node */
    put_words(b, 1, inputs);
    put_words(b, 2, outputs);
    put_bytes(b, 3, outputs, strcspn(outputs, " "));
    cpl_onnx_text(b, 4, op);
    for (size_t i = 0; i < count; i++) put_attribute(b, &attributes[i]);
    cpl_onnx_end(b, at);
}

size_t cpl_onnx_tensor(cpl_buf *b, const char *name, int type, const int64_t *dims, size_t rank, size_t bytes)
{
    size_t at = cpl_onnx_begin(b, 5); /* GraphProto.initializer */
    for (size_t i = 0; i < rank; i++) cpl_onnx_int(b, 1, dims[i]);
    cpl_onnx_int(b, 2, type);
    cpl_onnx_text(b, 8, name);
    put_tag(b, 9, LENGTH); /* raw_data */
    put_varint(b, bytes);
    return at;
}

void cpl_onnx_value(cpl_buf *b, uint32_t field, const char *name, int type, const cpl_onnx_dim *dims, size_t rank)
{
    size_t value = cpl_onnx_begin(b, field);
    cpl_onnx_text(b, 1, name);
    size_t kind = cpl_onnx_begin(b, 2);   /* ValueInfoProto.type */
    size_t tensor = cpl_onnx_begin(b, 1); /* TypeProto.tensor_type */
    cpl_onnx_int(b, 1, type);
    size_t shape = cpl_onnx_begin(b, 2);
    for (size_t i = 0; i < rank; i++) {
        size_t dim = cpl_onnx_begin(b, 1);
        if (dims[i].name)
            cpl_onnx_text(b, 2, dims[i].name);
        else
            cpl_onnx_int(b, 1, dims[i].size);
        cpl_onnx_end(b, dim);
    }
    cpl_onnx_end(b, shape);
    cpl_onnx_end(b, tensor);
    cpl_onnx_end(b, kind);
    cpl_onnx_end(b, value);
}
