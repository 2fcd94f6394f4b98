/* SPDX-License-Identifier: Apache-2.0 */
/* trace.c - stage times as text, and traceparent read and written. The one idea: plain values and strict reading; what
 * isn't exactly a traceparent is no traceparent (the standard asks to restart the trace then). No state. */
#include "wire/trace.h"

#include <stdio.h>
#include <string.h>

static const char *const names[CPL_TRACE_STAGES] = {"read", "tokenize", "queue", "compute", "reply"};

const char *cpl_trace_stage_name(cpl_trace_stage stage) { return names[stage]; }

uint64_t cpl_trace_total_ns(const cpl_trace_times *t)
{
    uint64_t sum = 0;
    for (int i = 0; i < CPL_TRACE_STAGES; i++) sum += t->ns[i];
    return sum;
}

/* ";dur=" and milliseconds with three digits. */
static char *put_time(char *at, const char *name, uint64_t ns)
{
    char digits[24];
    int n = 0;
    uint64_t us = (ns + 500) / 1000;
    do {
        digits[n++] = (char)('0' + us % 10);
        us /= 10;
    } while (us || n < 4);
    while (*name) *at++ = *name++;
    memcpy(at, ";dur=", 5);
    at += 5;
    while (n > 3) *at++ = digits[--n];
    *at++ = '.';
    while (n) *at++ = digits[--n];
    return at;
}

void cpl_trace_times_print(const cpl_trace_times *t, char out[CPL_TRACE_TIMES_CAP])
{
    /* 6 names of at most 8 letters, each with ", ;dur=", and 17 digits and a point: 6 x 33 would not fit, but times
     * below a day (12 digits) do */
    static const uint64_t day_ns = 86400ull * 1000000000;
    char *at = out;
    for (int i = 0; i < CPL_TRACE_STAGES; i++) {
        at = put_time(at, names[i], t->ns[i] < day_ns ? t->ns[i] : day_ns);
        *at++ = ',';
        *at++ = ' ';
    }
    uint64_t total = cpl_trace_total_ns(t);
    at = put_time(at, "total", total < day_ns ? total : day_ns);
    *at = 0;
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1; /* upper case is not allowed */
}

/* False when it isn't hexadecimal; *any: not all of it is 0. */
static bool read_hex(uint8_t *out, size_t n, const char *text, bool *any)
{
    *any = false;
    for (size_t i = 0; i < n; i++) {
        int high = digit_of(text[2 * i]), low = digit_of(text[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        out[i] = (uint8_t)(high << 4 | low);
        *any |= out[i] != 0;
    }
    return true;
}

bool cpl_trace_context_parse(cpl_trace_context *out, cpl_text v)
{
    enum { SIZE = 55 };
    uint8_t version;
    bool any, trace, span, flags;
    if (v.size < SIZE || v.data[2] != '-' || v.data[35] != '-' || v.data[52] != '-') return false;
    if (!read_hex(&version, 1, v.data, &any) || version == 0xFF) return false;
    if (v.size > SIZE && (version == 0 || v.data[SIZE] != '-')) return false; /* later versions may say more */
    cpl_trace_context c;
    if (!read_hex(c.trace, 16, v.data + 3, &trace) || !read_hex(c.span, 8, v.data + 36, &span) ||
        !read_hex(&c.flags, 1, v.data + 53, &flags) || !trace || !span)
        return false;
    *out = c;
    return true;
}

static char *put_hex(char *at, const uint8_t *bytes, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        *at++ = digits[bytes[i] >> 4];
        *at++ = digits[bytes[i] & 15];
    }
    return at;
}

void cpl_trace_context_print(const cpl_trace_context *c, char out[CPL_TRACE_PARENT_CAP])
{
    char *at = out;
    memcpy(at, "00-", 3);
    at = put_hex(at + 3, c->trace, 16);
    *at++ = '-';
    at = put_hex(at, c->span, 8);
    *at++ = '-';
    at = put_hex(at, &c->flags, 1);
    *at = 0;
}
