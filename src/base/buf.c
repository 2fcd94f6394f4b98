/* SPDX-License-Identifier: Apache-2.0 */
/* buf.c - growable bytes with a sticky failure flag. Invariant: size < cap once data is set, data[size] == 0. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

void cpl_buf_deinit(cpl_buf *b)
{
    free(b->data);
    *b = (cpl_buf){0};
}

void cpl_buf_clear(cpl_buf *b)
{
    b->size = 0;
    b->failed = false;
    if (b->data) b->data[0] = 0;
}

bool cpl_buf_reserve(cpl_buf *b, size_t more)
{
    if (b->failed) return false;
    if (more > SIZE_MAX / 4 || b->size > SIZE_MAX / 4) {
        b->failed = true;
        return false;
    }
    size_t need = b->size + more + 1;
    if (need <= b->cap) return true;
    size_t cap = b->cap ? b->cap * 2 : 256;
    if (cap < need) cap = need;
    char *data = realloc(b->data, cap);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->cap = cap;
    return true;
}

void cpl_buf_add(cpl_buf *b, const void *data, size_t n)
{
    if (!cpl_buf_reserve(b, n)) return;
    if (n) memcpy(b->data + b->size, data, n);
    b->size += n;
    b->data[b->size] = 0;
}

void cpl_buf_text(cpl_buf *b, const char *terminated) { cpl_buf_add(b, terminated, strlen(terminated)); }

void cpl_buf_print(cpl_buf *b, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n >= 0 && cpl_buf_reserve(b, (size_t)n)) {
        vsnprintf(b->data + b->size, (size_t)n + 1, fmt, again);
        b->size += (size_t)n;
    }
    va_end(again);
}

cpl_status cpl_buf_status(const cpl_buf *b, cpl_error *err)
{
    return b->failed ? cpl_fail_memory(err, b->size * 2) : CPL_OK;
}
