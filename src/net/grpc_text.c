/* SPDX-License-Identifier: Apache-2.0 */
/* grpc_text.c - grpc-timeout and grpc-message. The protocol's grammar is read strictly where a wrong guess would change
 * a deadline (timeouts) and leniently where it is only a sentence for people (messages). */
#include "net/grpc_text.h"

#include <stdint.h>
#include <stdio.h>

static const struct {
    char letter;
    uint64_t ns;
} units[] = {
    {'n', 1}, {'u', 1000}, {'m', 1000000}, {'S', 1000000000}, {'M', 60ull * 1000000000}, {'H', 3600ull * 1000000000}};
enum { UNITS = sizeof units / sizeof units[0], DIGITS_MAX = 8 };

bool cpl_grpc_timeout_parse(const char *data, size_t n, uint64_t *timeout_ns)
{
    if (n < 2 || n > DIGITS_MAX + 1) return false;
    uint64_t value = 0;
    for (size_t i = 0; i + 1 < n; i++) {
        if (data[i] < '0' || data[i] > '9') return false;
        value = value * 10 + (uint64_t)(data[i] - '0');
    }
    for (size_t u = 0; u < UNITS; u++) {
        if (units[u].letter != data[n - 1]) continue;
        *timeout_ns = value > INT64_MAX / units[u].ns ? INT64_MAX : value * units[u].ns;
        return true;
    }
    return false;
}

size_t cpl_grpc_timeout_format(uint64_t timeout_ns, char out[CPL_GRPC_TIMEOUT_TEXT])
{
    if (!timeout_ns) timeout_ns = 1;
    size_t u = 0;
    uint64_t value = timeout_ns;
    while (value > 99999999 && u + 1 < UNITS) {
        u++;
        value = timeout_ns / units[u].ns + (timeout_ns % units[u].ns != 0);
    }
    if (value > 99999999) value = 99999999;
    return (size_t)snprintf(out, CPL_GRPC_TIMEOUT_TEXT, "%llu%c", (unsigned long long)value, units[u].letter);
}

void cpl_grpc_percent_encode(cpl_buf *out, const char *text, size_t n, size_t encoded_max)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        bool plain = c >= 0x20 && c <= 0x7e && c != '%';
        /* A UTF-8 sequence is kept whole: only before a leading byte may the cut fall. */
        size_t cost = plain ? 1 : c >= 0xf0 ? 12 : c >= 0xe0 ? 9 : c >= 0xc0 ? 6 : 3;
        if ((c & 0xc0) != 0x80 && used + cost > encoded_max) return;
        if (plain) {
            cpl_buf_add(out, &text[i], 1);
            used += 1;
            continue;
        }
        char escaped[3] = {'%', hex[c >> 4], hex[c & 15]};
        cpl_buf_add(out, escaped, 3);
        used += 3;
    }
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

void cpl_grpc_percent_decode(cpl_buf *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int high = text[i] == '%' && n - i > 2 ? hex_value(text[i + 1]) : -1;
        int low = high >= 0 ? hex_value(text[i + 2]) : -1;
        char c = low >= 0 ? (char)(high * 16 + low) : text[i];
        cpl_buf_add(out, &c, 1);
        if (low >= 0) i += 2;
    }
}
