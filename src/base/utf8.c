/* SPDX-License-Identifier: Apache-2.0 */
/* utf8.c - one decoder that knows Unicode table 3-7 (well-formed byte sequences); the rest builds on it. No state. */
#include "base/utf8.h"

#include <string.h>

/* Length of the well-formed sequence at p, or 0 with *bad = length of the maximal subpart. */
static size_t sequence(const unsigned char *p, size_t n, uint32_t *scalar, size_t *bad)
{
    unsigned char c = p[0];
    *bad = 1;
    if (c < 0x80) {
        *scalar = c;
        return 1;
    }
    size_t len;
    unsigned char low = 0x80, high = 0xBF;
    uint32_t v;
    if (c >= 0xC2 && c <= 0xDF) {
        len = 2;
        v = c & 0x1Fu;
    } else if (c >= 0xE0 && c <= 0xEF) {
        len = 3;
        v = c & 0x0Fu;
        if (c == 0xE0) low = 0xA0;
        if (c == 0xED) high = 0x9F;
    } else if (c >= 0xF0 && c <= 0xF4) {
        len = 4;
        v = c & 0x07u;
        if (c == 0xF0) low = 0x90;
        if (c == 0xF4) high = 0x8F;
    } else {
        return 0;
    }
    for (size_t i = 1; i < len; i++) {
        if (i >= n || p[i] < low || p[i] > high) {
            *bad = i;
            return 0;
        }
        v = v << 6 | (p[i] & 0x3Fu);
        low = 0x80;
        high = 0xBF;
    }
    *scalar = v;
    return len;
}

size_t cpl_utf8_valid_prefix(const char *data, size_t n)
{
    const unsigned char *p = (const unsigned char *)data;
    size_t i = 0;
    while (i < n) {
        uint64_t eight;
        while (i + 8 <= n && (memcpy(&eight, p + i, 8), !(eight & 0x8080808080808080u))) i += 8;
        if (i >= n) break;
        uint32_t scalar;
        size_t bad, len = sequence(p + i, n - i, &scalar, &bad);
        if (!len) return i;
        i += len;
    }
    return n;
}

size_t cpl_utf8_decode(const char *p, size_t n, uint32_t *scalar)
{
    size_t bad, len = sequence((const unsigned char *)p, n, scalar, &bad);
    if (len) return len;
    *scalar = 0xFFFD;
    return bad;
}

size_t cpl_utf8_encode(uint32_t c, char *out)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

size_t cpl_utf8_repair(cpl_buf *out, const char *data, size_t n)
{
    size_t at = 0, replaced = 0;
    while (at < n) {
        size_t good = cpl_utf8_valid_prefix(data + at, n - at);
        cpl_buf_add(out, data + at, good);
        at += good;
        if (at >= n) break;
        uint32_t scalar;
        at += cpl_utf8_decode(data + at, n - at, &scalar);
        cpl_buf_add(out, "\xEF\xBF\xBD", 3);
        replaced++;
    }
    return replaced;
}
