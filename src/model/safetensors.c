/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors.c - a hostile-proof reading of the safetensors header.
 *
 * The file is 8 bytes of little-endian header length, that many bytes of JSON, then the data. The one idea: the whole
 * table of contents is checked before anybody gets a pointer into the data, and checked as a partition: sorted by
 * offset, each tensor starts where the one before it ended and the last one ends where the file does. Overlaps, holes
 * and appended bytes all break that one rule, and the format itself asks for it.
 *
 * Invariants: name, shape and offsets are copied into the arena, so the JSON tree is gone when this returns; `data` +
 * `bytes` of every tensor lies inside what was given. Offsets are never trusted to be aligned: readers use memcpy.
 * What this can't see is a file cut short after it was mapped: touching the lost pages is a SIGBUS, as with any mapped
 * file. Replace a model by renaming a new file over it, never by writing into it.
 *
 * Rejected: a hand-written JSON scanner (jansson is there, and this runs once a load). Threads: no state. */
#include "model/safetensors.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "model/fields.h"

enum { LENGTH_BYTES = 8, HEADER_BYTES_MAX = 100000000, RANK_MAX = 32 };

static const struct dtype {
    const char *name;
    uint32_t bits;
    bool readable;
    cpl_dtype dtype;
} dtypes[] = {
    {"F32", 32, true, CPL_DTYPE_F32},
    {"F16", 16, true, CPL_DTYPE_F16},
    {"BF16", 16, true, CPL_DTYPE_BF16},
    {"F64", 64, false, 0},
    {"C64", 64, false, 0},
    {"I64", 64, false, 0},
    {"U64", 64, false, 0},
    {"I32", 32, false, 0},
    {"U32", 32, false, 0},
    {"I16", 16, false, 0},
    {"U16", 16, false, 0},
    {"I8", 8, false, 0},
    {"U8", 8, false, 0},
    {"BOOL", 8, false, 0},
    {"F8_E4M3", 8, false, 0},
    {"F8_E5M2", 8, false, 0},
    {"F8_E8M0", 8, false, 0},
    {"F8_E4M3FNUZ", 8, false, 0},
    {"F8_E5M2FNUZ", 8, false, 0},
    {"F6_E2M3", 6, false, 0},
    {"F6_E3M2", 6, false, 0},
    {"F4", 4, false, 0},
};

const char *cpl_safetensor_shape(char buf[CPL_SHAPE_BYTES], const cpl_safetensor *t)
{
    size_t at = 1;
    buf[0] = '[';
    for (uint32_t i = 0; i < t->rank && at < CPL_SHAPE_BYTES - 32; i++)
        at += (size_t)snprintf(buf + at, CPL_SHAPE_BYTES - at, "%s%" PRIu64, i ? ", " : "", t->shape[i]);
    snprintf(buf + at, CPL_SHAPE_BYTES - at, "]");
    return buf;
}

cpl_safetensor *cpl_safetensors_find(const cpl_safetensors *s, const char *name)
{
    size_t lo = 0, hi = s->count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = strcmp(s->tensors[mid].name, name);
        if (!c) return &s->tensors[mid];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

/* Fills key with the tensor's name; the name is shown cut. */
#define FAIL_TENSOR(file, t, ...) fail_tensor(err, CPL_CORRUPT, file, (t)->name, __VA_ARGS__)
static cpl_status fail_tensor(cpl_error *err, cpl_status status, const char *file, const char *name, const char *fmt,
                              ...) CPL_PRINTF(5, 6);
static cpl_status fail_tensor(cpl_error *err, cpl_status status, const char *file, const char *name, const char *fmt,
                              ...)
{
    char text[320], shown[CPL_SHOW_BYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return cpl_fail_line(err, status, file, 0, 0, name, "tensor '%s': %s", cpl_show(shown, name), text);
}

static cpl_status read_name(cpl_safetensor *t, const char *file, const char *name, cpl_arena *arena, cpl_error *err)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c < 0x20 || c == 0x7F)
            return fail_tensor(err, CPL_CORRUPT, file, name, "control character in the name, expected text");
    }
    t->name = cpl_arena_copy(arena, name, n);
    return t->name ? CPL_OK : cpl_fail_memory(err, n + 1);
}

static cpl_status read_shape(cpl_safetensor *t, const json_t *shape, const char *file, cpl_arena *arena,
                             uint64_t *elements, cpl_error *err)
{
    if (!json_is_array(shape))
        return FAIL_TENSOR(file, t, "expected a list as its 'shape', found %s", cpl_json_kind(shape));
    size_t rank = json_array_size(shape);
    if (rank > RANK_MAX) return FAIL_TENSOR(file, t, "expected at most %d dimensions, found %zu", RANK_MAX, rank);
    t->rank = (uint32_t)rank;
    t->shape = CPL_ARENA_NEW(arena, uint64_t, rank + 1);
    if (!t->shape) return cpl_fail_memory(err, (rank + 1) * sizeof *t->shape);
    *elements = 1;
    for (size_t i = 0; i < rank; i++) {
        const json_t *d = json_array_get(shape, i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return FAIL_TENSOR(file, t, "expected whole numbers in its 'shape', found %s",
                               json_is_integer(d) ? "a negative one" : cpl_json_kind(d));
        t->shape[i] = (uint64_t)json_integer_value(d);
        if (__builtin_mul_overflow(*elements, t->shape[i], elements))
            return FAIL_TENSOR(file, t, "its 'shape' has more than 2^64 elements");
    }
    return CPL_OK;
}

static cpl_status read_offsets(cpl_safetensor *t, const json_t *range, const char *file, uint64_t data_bytes,
                               cpl_error *err)
{
    const json_t *b = json_array_get(range, 0), *e = json_array_get(range, 1);
    if (!json_is_array(range) || json_array_size(range) != 2 || !json_is_integer(b) || !json_is_integer(e))
        return FAIL_TENSOR(file, t, "expected 'data_offsets' to be two whole numbers");
    int64_t begin = json_integer_value(b), end = json_integer_value(e);
    if (begin < 0 || end < begin)
        return FAIL_TENSOR(file, t, "expected 'data_offsets' that ascend from 0, found [%" PRId64 ", %" PRId64 "]",
                           begin, end);
    if ((uint64_t)end > data_bytes)
        return FAIL_TENSOR(file, t,
                           "expected bytes %" PRId64 " to %" PRId64 " of the data, found only %" PRIu64
                           ": the file is truncated or its header is wrong",
                           begin, end, data_bytes);
    t->begin = (uint64_t)begin;
    t->bytes = (uint64_t)(end - begin);
    return CPL_OK;
}

static cpl_status read_dtype(cpl_safetensor *t, const json_t *value, const char *file, uint32_t *bits, cpl_error *err)
{
    const char *name = json_string_value(value);
    if (!name) return FAIL_TENSOR(file, t, "expected a string as its 'dtype', found %s", cpl_json_kind(value));
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(name, dtypes[i].name) != 0) continue;
        t->dtype_name = dtypes[i].name;
        t->readable = dtypes[i].readable;
        t->dtype = dtypes[i].dtype;
        *bits = dtypes[i].bits;
        return CPL_OK;
    }
    char shown[CPL_SHOW_BYTES];
    return FAIL_TENSOR(file, t, "unknown dtype '%s': expected F32, F16, BF16 or another of the safetensors format",
                       cpl_show(shown, name));
}

static cpl_status read_entry(cpl_safetensor *t, const char *name, const json_t *entry, const char *file,
                             const unsigned char *data, uint64_t data_bytes, cpl_arena *arena, cpl_error *err)
{
    cpl_status st = read_name(t, file, name, arena, err);
    if (st) return st;
    if (!json_is_object(entry)) return FAIL_TENSOR(file, t, "expected an object, found %s", cpl_json_kind(entry));
    uint64_t elements = 0, total_bits;
    uint32_t bits = 0;
    st = read_dtype(t, json_object_get(entry, "dtype"), file, &bits, err);
    if (!st) st = read_shape(t, json_object_get(entry, "shape"), file, arena, &elements, err);
    if (!st) st = read_offsets(t, json_object_get(entry, "data_offsets"), file, data_bytes, err);
    if (st) return st;
    char shape[CPL_SHAPE_BYTES];
    if (__builtin_mul_overflow(elements, (uint64_t)bits, &total_bits) || total_bits % 8 || total_bits / 8 != t->bytes)
        return FAIL_TENSOR(file, t, "expected %" PRIu64 " elements of %u bits for %s %s, found %" PRIu64 " bytes",
                           elements, bits, t->dtype_name, cpl_safetensor_shape(shape, t), t->bytes);
    t->data = data + t->begin;
    return CPL_OK;
}

static cpl_status check_metadata(const json_t *metadata, const char *file, cpl_error *err)
{
    cpl_status st = cpl_field_expect_object(metadata, file, "'__metadata__'", err);
    if (st) return st;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)metadata, key, value)
    {
        if (!json_is_string(value))
            return cpl_fail_file(err, CPL_CORRUPT, file, "'__metadata__': expected strings, found %s",
                                 cpl_json_kind(value));
    }
    return CPL_OK;
}

static int by_offset(const void *a, const void *b)
{
    const cpl_safetensor *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const cpl_safetensor *)a)->name, ((const cpl_safetensor *)b)->name);
}

/* The tensors, sorted by offset, must partition the data. */
static cpl_status check_partition(const cpl_safetensors *s, uint64_t data_bytes, cpl_error *err)
{
    uint64_t at = 0;
    char shown[CPL_SHOW_BYTES];
    for (size_t i = 0; i < s->count; i++) {
        const cpl_safetensor *t = &s->tensors[i];
        if (t->begin < at)
            return FAIL_TENSOR(s->file, t,
                               "overlaps tensor '%s': expected it to begin at byte %" PRIu64
                               " of the data, found %" PRIu64,
                               cpl_show(shown, s->tensors[i - 1].name), at, t->begin);
        if (t->begin > at)
            return FAIL_TENSOR(s->file, t,
                               "expected it to begin at byte %" PRIu64 " of the data, found %" PRIu64
                               ": the bytes between belong to no tensor",
                               at, t->begin);
        at = t->begin + t->bytes;
    }
    if (at != data_bytes)
        return cpl_fail_file(err, CPL_CORRUPT, s->file,
                             "expected the data to end with the last tensor at byte %" PRIu64 ", found %" PRIu64
                             " bytes",
                             at, data_bytes);
    return CPL_OK;
}

static cpl_status read_entries(cpl_safetensors *out, json_t *header, const unsigned char *data, uint64_t data_bytes,
                               cpl_arena *arena, cpl_error *err)
{
    cpl_status st = cpl_field_expect_object(header, out->file, "header", err);
    if (st) return st;
    out->tensors = CPL_ARENA_NEW(arena, cpl_safetensor, json_object_size(header) + 1);
    if (!out->tensors) return cpl_fail_memory(err, json_object_size(header) * sizeof *out->tensors);
    const char *name;
    json_t *entry;
    json_object_foreach(header, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0)
            st = check_metadata(entry, out->file, err);
        else
            st = read_entry(&out->tensors[out->count++], name, entry, out->file, data, data_bytes, arena, err);
        if (st) return st;
    }
    qsort(out->tensors, out->count, sizeof *out->tensors, by_offset);
    st = check_partition(out, data_bytes, err);
    if (!st) qsort(out->tensors, out->count, sizeof *out->tensors, by_name);
    return st;
}

cpl_status cpl_safetensors_parse(cpl_safetensors *out, const char *file, const unsigned char *data, size_t n,
                                 cpl_arena *arena, cpl_error *err)
{
    static const char lfs[] = "version https://git-lfs";
    cpl_safetensors s = {.file = file};
    if (n >= sizeof lfs - 1 && memcmp(data, lfs, sizeof lfs - 1) == 0)
        return cpl_fail_file(err, CPL_CORRUPT, file,
                             "is a Git LFS pointer, expected the weights: fetch them with 'git lfs pull'");
    if (n < LENGTH_BYTES)
        return cpl_fail_byte(err, CPL_CORRUPT, file, (int64_t)n,
                             "the file ends: expected %d bytes of header length, found %zu", LENGTH_BYTES, n);
    uint64_t length = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--) length = length << 8 | data[i];
    if (length > HEADER_BYTES_MAX)
        return cpl_fail_byte(err, CPL_CORRUPT, file, 0, "expected a header of at most %d bytes, found %" PRIu64,
                             HEADER_BYTES_MAX, length);
    if (length > n - LENGTH_BYTES)
        return cpl_fail_byte(err, CPL_CORRUPT, file, (int64_t)n,
                             "the file ends inside its header: expected %" PRIu64 " bytes of it, found %zu", length,
                             n - LENGTH_BYTES);
    if (length == 0 || data[LENGTH_BYTES] != '{')
        return cpl_fail_byte(err, CPL_CORRUPT, file, LENGTH_BYTES, "expected '{' at the start of the header");
    json_t *header = NULL;
    cpl_status st = cpl_json_parse(&header, file, (const char *)data + LENGTH_BYTES, (size_t)length, err);
    if (st) return st;
    size_t at = LENGTH_BYTES + (size_t)length;
    st = read_entries(&s, header, data + at, n - at, arena, err);
    json_decref(header);
    if (!st) *out = s;
    return st;
}
