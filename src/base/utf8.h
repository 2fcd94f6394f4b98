/* SPDX-License-Identifier: Apache-2.0 */
/* utf8.h - validation, decoding, repair. Surrogates and overlong forms are invalid; U+0000 is a character. */
#ifndef CPL_BASE_UTF8_H
#define CPL_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* Offset of the first byte that is not part of valid UTF-8, or n. Eight ASCII bytes a step. */
size_t cpl_utf8_valid_prefix(const char *data, size_t n);
/* Decodes one scalar value of VALID UTF-8 at p (n >= 1 bytes left) and returns its length. On bytes that are not valid
 * it returns U+FFFD and the length of the maximal subpart (at least 1): memory-safe on anything. */
size_t cpl_utf8_decode(const char *p, size_t n, uint32_t *scalar);
/* Writes 1..4 bytes, returns how many. scalar must be a Unicode scalar value. */
size_t cpl_utf8_encode(uint32_t scalar, char *out);
/* Appends data with each maximal invalid subpart replaced by U+FFFD (Unicode 3.9, as Python's errors="replace");
 * returns how many were. */
size_t cpl_utf8_repair(cpl_buf *out, const char *data, size_t n);

#endif
