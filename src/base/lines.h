/* SPDX-License-Identifier: Apache-2.0 */
/* lines.h - a file as a stream of lines in constant memory: plain, gzip or zstd (told by their first bytes), or stdin.
 */
#ifndef CPL_BASE_LINES_H
#define CPL_BASE_LINES_H

#include <stdbool.h>

#include "couplet.h"

typedef struct cpl_lines cpl_lines;

enum { CPL_LINE_BYTES_MAX = 256 << 20 };

/* path "-" is standard input. */
cpl_status cpl_lines_open(cpl_lines **out, const char *path, cpl_error *err);
void cpl_lines_close(cpl_lines *l); /* NULL is fine */

/* The next line without its "\n" or "\r\n", borrowed until the next call. *end is set, and *line is not, after the last
 * one. A last line without "\n" counts; a line over CPL_LINE_BYTES_MAX is CPL_INVALID; a damaged or cut compressed file
 * is CPL_CORRUPT. A byte order mark before the first line is dropped. */
cpl_status cpl_lines_next(cpl_lines *l, const char **line, size_t *n, bool *end, cpl_error *err);
/* 1-based number of the line last returned. */
uint64_t cpl_lines_number(const cpl_lines *l);
const char *cpl_lines_path(const cpl_lines *l);
/* Ends a wait for input, now or at the next one, with CPL_CANCELLED. Any thread. */
void cpl_lines_interrupt(cpl_lines *l);

#endif
