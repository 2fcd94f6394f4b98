/* SPDX-License-Identifier: Apache-2.0 */
/* error.c - every failure in couplet passes through here and becomes one sentence that stands alone.
 * The one idea: the record is the caller's plain memory, so failing allocates nothing and can't fail. err may be NULL
 * everywhere: callers that only want the status pay nothing. A sentence is one line whatever it quotes: what isn't
 * printed becomes a space or '?' here, so that no caller has to think of it. Threads: no shared state. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const status_texts[] = {
#define STATUS_TEXT(name, text) [CPL_##name] = text,
    CPL_STATUS_LIST(STATUS_TEXT)
#undef STATUS_TEXT
};

const char *cpl_status_text(cpl_status status)
{
    size_t i = (size_t)status;
    return i < sizeof status_texts / sizeof *status_texts ? status_texts[i] : "unknown status";
}

void cpl_error_clear(cpl_error *err)
{
    if (!err) return;
    *err = (cpl_error){.status = CPL_OK, .byte = -1};
}

static void copy_truncated(char *to, size_t cap, const char *from)
{
    size_t n = strlen(from);
    if (n >= cap) n = cap - 1;
    memcpy(to, from, n);
    to[n] = 0;
}

/* Starts *err over and returns how many bytes of `what` the location took. */
static size_t start(cpl_error *err, cpl_status status, const char *file, int line, int column, int64_t byte)
{
    cpl_error_clear(err);
    err->status = status;
    err->byte = byte;
    err->line = line;
    err->column = column;
    if (!file) return 0;
    copy_truncated(err->file, sizeof err->file, file);
    int n;
    if (line > 0 && column > 0)
        n = snprintf(err->what, sizeof err->what, "%s:%d:%d: ", err->file, line, column);
    else if (line > 0)
        n = snprintf(err->what, sizeof err->what, "%s:%d: ", err->file, line);
    else if (byte >= 0)
        n = snprintf(err->what, sizeof err->what, "%s: byte %lld: ", err->file, (long long)byte);
    else
        n = snprintf(err->what, sizeof err->what, "%s: ", err->file);
    return n < 0 ? 0 : (size_t)n;
}

static void make_one_line(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7F) *text = strchr("\n\r\t", *text) ? ' ' : '?';
}

static void append(cpl_error *err, size_t at, const char *fmt, va_list args) CPL_PRINTF(3, 0);
static void append(cpl_error *err, size_t at, const char *fmt, va_list args)
{
    if (at < sizeof err->what) vsnprintf(err->what + at, sizeof err->what - at, fmt, args);
    make_one_line(err->what);
}

cpl_status cpl_fail(cpl_error *err, cpl_status status, const char *fmt, ...)
{
    if (!err) return status;
    va_list args;
    va_start(args, fmt);
    append(err, start(err, status, NULL, 0, 0, -1), fmt, args);
    va_end(args);
    return status;
}

cpl_status cpl_fail_file(cpl_error *err, cpl_status status, const char *file, const char *fmt, ...)
{
    if (!err) return status;
    va_list args;
    va_start(args, fmt);
    append(err, start(err, status, file, 0, 0, -1), fmt, args);
    va_end(args);
    return status;
}

cpl_status cpl_fail_line(cpl_error *err, cpl_status status, const char *file, int line, int column, const char *key,
                         const char *fmt, ...)
{
    if (!err) return status;
    va_list args;
    va_start(args, fmt);
    append(err, start(err, status, file, line, column, -1), fmt, args);
    va_end(args);
    if (key) copy_truncated(err->key, sizeof err->key, key);
    return status;
}

cpl_status cpl_fail_byte(cpl_error *err, cpl_status status, const char *file, int64_t byte, const char *fmt, ...)
{
    if (!err) return status;
    va_list args;
    va_start(args, fmt);
    append(err, start(err, status, file, 0, 0, byte), fmt, args);
    va_end(args);
    return status;
}

cpl_status cpl_fail_errno(cpl_error *err, const char *file, int errnum, const char *fmt, ...)
{
    cpl_status status = errnum == ENOENT || errnum == ENOTDIR ? CPL_NOT_FOUND
                        : errnum == ENOMEM                    ? CPL_NO_MEMORY
                                                              : CPL_IO;
    if (!err) return status;
    va_list args;
    va_start(args, fmt);
    append(err, start(err, status, file, 0, 0, -1), fmt, args);
    va_end(args);
    char text[128] = "";
#ifdef __GLIBC__
    const char *reason = strerror_r(errnum, text, sizeof text); /* GNU's, which may give a text of its own */
#else
    const char *reason = strerror_r(errnum, text, sizeof text) ? "unknown error" : text;
#endif
    size_t at = strlen(err->what);
    snprintf(err->what + at, sizeof err->what - at, ": %s", reason);
    return status;
}

cpl_status cpl_fail_memory(cpl_error *err, size_t bytes)
{
    return cpl_fail(err, CPL_NO_MEMORY, "out of memory: %zu bytes were not to be had", bytes);
}

void cpl_error_prefix(cpl_error *err, const char *fmt, ...)
{
    if (!err) return;
    char prefix[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(prefix, sizeof prefix, fmt, args);
    va_end(args);
    make_one_line(prefix);
    size_t n = strlen(prefix), room = sizeof err->what - 1;
    if (n > room / 2) n = room / 2;
    size_t rest = strlen(err->what);
    if (rest > room - n - 2) rest = room - n - 2;
    memmove(err->what + n + 2, err->what, rest);
    memcpy(err->what, prefix, n);
    memcpy(err->what + n, ": ", 2);
    err->what[n + 2 + rest] = 0;
}

_Noreturn void cpl_assert_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "couplet: internal error: assertion '%s' failed at %s:%d\n", condition, file, line);
    abort();
}
