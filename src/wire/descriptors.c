/* SPDX-License-Identifier: Apache-2.0 */
/* descriptors.c - finds files and symbols in a serialized FileDescriptorSet without decoding it.
 * The one idea: which field of which descriptor holds which kind of child is a table of ten rows, and a dotted name is
 * followed down that table. Reflection is asked a few times by a person's tool, so nothing is indexed.
 * Threads: constant data. */
#include "wire/descriptors.h"

#include <stdio.h>

#include "wire/pb.h"

extern const unsigned char cpl_descriptor_set[];
extern const size_t cpl_descriptor_set_size;

/* Fields of descriptor.proto. */
enum { SET_FILE = 1, NAME = 1, FILE_PACKAGE = 2, FILE_IMPORT = 3, FILE_SERVICE = 6 };

typedef enum kind { FILE_KIND, MESSAGE_KIND, ENUM_KIND, SERVICE_KIND, LEAF_KIND } kind;
static const struct child {
    kind in;
    uint32_t field;
    kind is;
} children[] = {
    {FILE_KIND, 4, MESSAGE_KIND}, {FILE_KIND, 5, ENUM_KIND},    {FILE_KIND, FILE_SERVICE, SERVICE_KIND},
    {FILE_KIND, 7, LEAF_KIND},    {MESSAGE_KIND, 2, LEAF_KIND}, {MESSAGE_KIND, 3, MESSAGE_KIND},
    {MESSAGE_KIND, 4, ENUM_KIND}, {MESSAGE_KIND, 8, LEAF_KIND}, {ENUM_KIND, 2, LEAF_KIND},
    {SERVICE_KIND, 2, LEAF_KIND},
};

cpl_descriptors cpl_descriptors_own(void) { return (cpl_descriptors){cpl_descriptor_set, cpl_descriptor_set_size}; }

/* The i-th occurrence of a bytes field. */
static bool nth(cpl_text message, uint32_t number, size_t i, cpl_text *out)
{
    cpl_pb_reader r = cpl_pb_read(message.data, message.size);
    cpl_pb_field field;
    bool ok;
    while (cpl_pb_next(&r, &field, &ok)) {
        if (field.number != number || field.type != CPL_PB_BYTES || i-- > 0) continue;
        *out = field.bytes;
        return true;
    }
    return false;
}

static bool same(cpl_text a, cpl_text b) { return a.size == b.size && !memcmp(a.data, b.data, a.size); }

/* Takes "name." off the front of *path; false when it doesn't start so. */
static bool strip(cpl_text *path, cpl_text name)
{
    if (path->size <= name.size || memcmp(path->data, name.data, name.size) || path->data[name.size] != '.')
        return false;
    path->data += name.size + 1;
    path->size -= name.size + 1;
    return true;
}

static bool declares(cpl_text message, kind of, cpl_text path, int depth)
{
    cpl_pb_reader r = cpl_pb_read(message.data, message.size);
    cpl_pb_field field;
    bool ok;
    while (depth < 32 && cpl_pb_next(&r, &field, &ok)) {
        for (size_t c = 0; c < sizeof children / sizeof *children; c++) {
            cpl_text name, rest = path;
            if (children[c].in != of || children[c].field != field.number || field.type != CPL_PB_BYTES) continue;
            if (!nth(field.bytes, NAME, 0, &name)) continue;
            if (same(name, path)) return true;
            if (strip(&rest, name) && declares(field.bytes, children[c].is, rest, depth + 1)) return true;
        }
    }
    return false;
}

bool cpl_descriptors_file(const cpl_descriptors *d, size_t i, cpl_text *file)
{
    return nth((cpl_text){d->data, d->size}, SET_FILE, i, file);
}

int cpl_descriptors_find_file(const cpl_descriptors *d, cpl_text wanted)
{
    cpl_text file, name;
    for (size_t i = 0; cpl_descriptors_file(d, i, &file); i++)
        if (nth(file, NAME, 0, &name) && same(name, wanted)) return (int)i;
    return -1;
}

int cpl_descriptors_find_symbol(const cpl_descriptors *d, cpl_text symbol)
{
    cpl_text file, package;
    for (size_t i = 0; cpl_descriptors_file(d, i, &file); i++) {
        cpl_text path = symbol;
        if (nth(file, FILE_PACKAGE, 0, &package) && !strip(&path, package)) continue;
        if (declares(file, FILE_KIND, path, 0)) return (int)i;
    }
    return -1;
}

int cpl_descriptors_import(const cpl_descriptors *d, size_t i, size_t j)
{
    cpl_text file, name;
    if (!cpl_descriptors_file(d, i, &file) || !nth(file, FILE_IMPORT, j, &name)) return -1;
    return cpl_descriptors_find_file(d, name);
}

bool cpl_descriptors_service(const cpl_descriptors *d, size_t i, size_t j, char *buf, size_t cap)
{
    cpl_text file, package = {"", 0}, service, name;
    if (!cpl_descriptors_file(d, i, &file) || !nth(file, FILE_SERVICE, j, &service)) return false;
    if (!nth(service, NAME, 0, &name)) return false;
    nth(file, FILE_PACKAGE, 0, &package);
    snprintf(buf, cap, "%.*s%s%.*s", (int)package.size, package.data, package.size ? "." : "", (int)name.size,
             name.data);
    return true;
}
