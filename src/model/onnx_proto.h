/* SPDX-License-Identifier: Apache-2.0 */
/* onnx_proto.h - the few messages of onnx.proto that a graph needs, written one after the other into a cpl_buf. */
#ifndef CPL_MODEL_ONNX_PROTO_H
#define CPL_MODEL_ONNX_PROTO_H

#include <stdint.h>

#include "base/buf.h"

/* TensorProto.DataType */
enum { CPL_ONNX_FLOAT = 1, CPL_ONNX_UINT8 = 2, CPL_ONNX_I8 = 3, CPL_ONNX_INT64 = 7, CPL_ONNX_FLOAT16 = 10 };

/* Opens a message in field `field`; the result closes it. Its length is written as five bytes whatever it is, so that
 * nothing is moved or built twice. */
size_t cpl_onnx_begin(cpl_buf *b, uint32_t field);
void cpl_onnx_end(cpl_buf *b, size_t mark);
void cpl_onnx_int(cpl_buf *b, uint32_t field, int64_t value);
void cpl_onnx_text(cpl_buf *b, uint32_t field, const char *text);

/* An attribute of a node: name and kind, "i", "f" or "is". */
typedef struct cpl_onnx_attribute {
    const char *name;
    char kind; /* 'i': i; 'f': f; 'l': list of n ints; 0: none */
    int64_t i;
    float f;
    const int64_t *list;
    size_t n;
} cpl_onnx_attribute;

/* A node of GraphProto. inputs: names with spaces between. It is called after its first output. */
void cpl_onnx_node(cpl_buf *b, const char *op, const char *inputs, const char *outputs,
                   const cpl_onnx_attribute *attributes, size_t count);
/* A TensorProto in GraphProto.initializer up to its data, of which `bytes` follow from the caller; then cpl_onnx_end.
 */
size_t cpl_onnx_tensor(cpl_buf *b, const char *name, int type, const int64_t *dims, size_t rank, size_t bytes);
/* An input (field 11) or output (12) of GraphProto; a dimension is a name, or where that is NULL a number. */
typedef struct cpl_onnx_dim {
    const char *name;
    int64_t size;
} cpl_onnx_dim;
void cpl_onnx_value(cpl_buf *b, uint32_t field, const char *name, int type, const cpl_onnx_dim *dims, size_t rank);

#endif
