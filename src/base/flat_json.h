/* SPDX-License-Identifier: Apache-2.0 */
/* flat_json.h - the quick way through a JSON line that is one flat object of strings and plain values. */
#ifndef CPL_BASE_FLAT_JSON_H
#define CPL_BASE_FLAT_JSON_H

#include <stdbool.h>

#include "base/buf.h"

enum { CPL_FLAT_WANTED_MAX = 2 };

/* Appends the strings under keys[0..count) to out[0..count) where `line`, which is valid UTF-8, is an object this
 * reader knows how to read whole. False, with nothing appended, says only that cpl_json_parse has to be asked: about
 * anything nested, wrong, rare, or without one of the keys. */
bool cpl_flat_json_take(const char *line, size_t n, const char *const *keys, size_t count, cpl_buf *const *out);

#endif
