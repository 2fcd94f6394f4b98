/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors.h - the table of contents of a safetensors file, validated as a whole before any tensor is used. */
#ifndef CPL_MODEL_SAFETENSORS_H
#define CPL_MODEL_SAFETENSORS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "couplet.h"
#include "model/model.h"

typedef struct cpl_safetensor {
    const char *name;          /* no control characters */
    const char *dtype_name;    /* as written: "F32", "I64", ... */
    const unsigned char *data; /* `bytes` of them; any alignment */
    uint64_t bytes, begin;     /* begin: offset in the data section */
    uint64_t *shape;           /* rank of them; rank 0 is a scalar */
    uint32_t rank;
    bool readable; /* F32, F16 or BF16: then dtype holds */
    cpl_dtype dtype;
    bool used; /* for the caller: which tensors a model took */
} cpl_safetensor;

typedef struct cpl_safetensors {
    const char *file;
    cpl_safetensor *tensors; /* sorted by name */
    size_t count;
} cpl_safetensors;

/* Reads the header of the n bytes at `data` (a whole mapped file; borrowed as long as *out is used; any alignment).
 * `file` names it in errors. Checked: header length against the file and against 100 MB, JSON without duplicate names,
 * known dtypes, shape x element size against the byte range, ranges inside the file, no overlap, no hole, nothing
 * behind the last tensor. Safe on hostile bytes (tests/fuzz/fuzz_safetensors.c). *out and everything in it live in
 * arena. */
cpl_status cpl_safetensors_parse(cpl_safetensors *out, const char *file, const unsigned char *data, size_t n,
                                 cpl_arena *arena, cpl_error *err);

/* NULL when there is none of that name. */
cpl_safetensor *cpl_safetensors_find(const cpl_safetensors *s, const char *name);

/* "[30522, 384]" for messages. */
enum { CPL_SHAPE_BYTES = 96 };
const char *cpl_safetensor_shape(char buf[CPL_SHAPE_BYTES], const cpl_safetensor *t);

#endif
