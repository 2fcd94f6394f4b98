/* SPDX-License-Identifier: Apache-2.0 */
/* error.h - filling a cpl_error, and assertions. Wording: lower case, error first, subject quoted, then what to do. */
#ifndef CPL_BASE_ERROR_H
#define CPL_BASE_ERROR_H

#include "couplet.h"

/* Each fills *err (which may be NULL) and returns `status`, so that a caller can write `return cpl_fail(...)`. What it
 * quotes may be anything: the sentence is one line. The location given is part of it already: err->what stands alone.
 */
cpl_status cpl_fail(cpl_error *err, cpl_status status, const char *fmt, ...) CPL_PRINTF(3, 4);
/* "FILE: sentence"; file is kept in err->file. */
cpl_status cpl_fail_file(cpl_error *err, cpl_status status, const char *file, const char *fmt, ...) CPL_PRINTF(4, 5);
/* "FILE:LINE:COLUMN: sentence", key kept in err->key (may be NULL); column 0 leaves the column out. */
cpl_status cpl_fail_line(cpl_error *err, cpl_status status, const char *file, int line, int column, const char *key,
                         const char *fmt, ...) CPL_PRINTF(7, 8);
/* "FILE: byte N: sentence". */
cpl_status cpl_fail_byte(cpl_error *err, cpl_status status, const char *file, int64_t byte, const char *fmt, ...)
    CPL_PRINTF(5, 6);
/* "FILE: sentence: strerror(errnum)", IO or NOT_FOUND by errnum. */
cpl_status cpl_fail_errno(cpl_error *err, const char *file, int errnum, const char *fmt, ...) CPL_PRINTF(4, 5);
cpl_status cpl_fail_memory(cpl_error *err, size_t bytes);
/* Puts "PREFIX: " in front of what err says already (e.g. which pair, which model). */
void cpl_error_prefix(cpl_error *err, const char *fmt, ...) CPL_PRINTF(2, 3);
void cpl_error_clear(cpl_error *err);

/* Programmer errors only; survives release builds. Bad input is never an assertion. */
#define CPL_ASSERT(condition)                                                                                          \
    do {                                                                                                               \
        if (__builtin_expect(!(condition), 0)) cpl_assert_failed(#condition, __FILE__, __LINE__);                      \
    } while (0)
_Noreturn void cpl_assert_failed(const char *condition, const char *file, int line);

#endif
