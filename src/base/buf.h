/* SPDX-License-Identifier: Apache-2.0 */
/* buf.h - a growable byte buffer that remembers whether any append failed, so that a long chain of appends is checked
 * once at its end. One thread at a time. */
#ifndef CPL_BASE_BUF_H
#define CPL_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>

#include "couplet.h"

typedef struct cpl_buf {
    char *data; /* data[size] is always 0 once anything was appended */
    size_t size, cap;
    bool failed; /* an append found no memory; the content is then a prefix */
} cpl_buf;

/* A zeroed cpl_buf is an empty one. */
void cpl_buf_deinit(cpl_buf *b);
void cpl_buf_clear(cpl_buf *b); /* keeps the memory */
bool cpl_buf_reserve(cpl_buf *b, size_t more);
void cpl_buf_add(cpl_buf *b, const void *data, size_t n);
void cpl_buf_text(cpl_buf *b, const char *terminated);
void cpl_buf_print(cpl_buf *b, const char *fmt, ...) CPL_PRINTF(2, 3);
/* CPL_OK, or CPL_NO_MEMORY if any append failed. */
cpl_status cpl_buf_status(const cpl_buf *b, cpl_error *err);

#endif
