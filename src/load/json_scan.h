/* SPDX-License-Identifier: Apache-2.0 */
/* json_scan.h - reads replies of servers in one pass, in place, without allocating: a generator that measures a server
 * must not spend its core on trees. Safe on any bytes. */
#ifndef CPL_LOAD_JSON_SCAN_H
#define CPL_LOAD_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "couplet.h"

typedef struct cpl_json_scan {
    const char *at, *end;
    bool bad; /* what was read is not JSON; stays so */
} cpl_json_scan;

cpl_json_scan cpl_json_scan_open(const void *data, size_t n);
/* Enters an object or array: true when the next value is one. */
bool cpl_json_scan_enter(cpl_json_scan *s, char bracket);
/* Inside: goes to the next member, false at the end (the closing bracket is then behind). *first is true before the
 * first. In an object the key, its escapes as they stand, comes in *key; key is NULL in an array. */
bool cpl_json_scan_next(cpl_json_scan *s, bool *first, char closing, cpl_text *key);
/* The next value, which is then behind. A number that is not finite, or no number, is bad. */
double cpl_json_scan_number(cpl_json_scan *s);
/* A string's bytes between its quotes, escapes as they stand. */
cpl_text cpl_json_scan_string(cpl_json_scan *s);
void cpl_json_scan_skip(cpl_json_scan *s);
/* Nothing but white space is left, and nothing was bad. */
bool cpl_json_scan_whole(cpl_json_scan *s);
bool cpl_json_scan_is(cpl_text key, const char *word);

#endif
