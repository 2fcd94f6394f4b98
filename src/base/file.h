/* SPDX-License-Identifier: Apache-2.0 */
/* file.h - whole files: mapped, read, written in one step. */
#ifndef CPL_BASE_FILE_H
#define CPL_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "couplet.h"

/* A read-only mapping. An empty file maps to data = "" and size 0. */
typedef struct cpl_map {
    const unsigned char *data;
    size_t size;
} cpl_map;

cpl_status cpl_file_map(cpl_map *out, const char *path, cpl_error *err);
void cpl_file_unmap(cpl_map *m); /* a zeroed or unmapped cpl_map is fine */

/* Appends the file to *out; refuses more than bytes_max. */
cpl_status cpl_file_read(cpl_buf *out, const char *path, size_t bytes_max, cpl_error *err);
/* Writes beside `path`, syncs, renames: readers see the old file or the whole new one. */
cpl_status cpl_file_write(const char *path, const void *data, size_t n, cpl_error *err);
bool cpl_file_exists(const char *path);
/* mkdir -p. */
cpl_status cpl_file_make_dirs(const char *path, cpl_error *err);
/* dir + "/" + name into buf; CPL_INVALID when it doesn't fit. */
cpl_status cpl_file_join(char *buf, size_t cap, const char *dir, const char *name, cpl_error *err);

#endif
