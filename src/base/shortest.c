/* SPDX-License-Identifier: Apache-2.0 */
/* shortest.c - embeddings are files of floats, and printing one by trial with printf and strtof costs 1 us.
 *
 * The one idea: for numbers of everyday size, N significant digits are one rounded double product with an exact power
 * of ten, and whether they read back is a comparison with the middles between v and its neighbours, which doubles hold
 * exactly. The product's error is under 2^-52 of its size; whatever lies nearer than 2^-40 to a decision is left to
 * printf and strtof, so the text is always theirs. Rejected: a general shortest-digits algorithm, whose tables and
 * proofs buy nothing at nine digits. Threads: no state. */
#include "base/shortest.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int by_trial(char out[CPL_FLOAT_TEXT], float v)
{
    int n = 0;
    for (int digits = 6; digits <= 9; digits++) {
        n = snprintf(out, CPL_FLOAT_TEXT, "%.*g", digits, (double)v);
        if (strtof(out, NULL) == v) break;
    }
    return n;
}

/* `digits` decimal digits of m, a point behind the first 1 + exponent of them, no zeros behind it. */
static int write_fixed(char *out, bool negative, uint32_t m, int digits, int exponent)
{
    char text[10], *at = out;
    for (int i = digits; i-- > 0; m /= 10) text[i] = (char)('0' + m % 10);
    while (digits > 1 && digits > exponent + 1 && text[digits - 1] == '0') digits--;
    if (negative) *at++ = '-';
    if (exponent < 0) {
        *at++ = '0';
        *at++ = '.';
        for (int i = -1; i > exponent; i--) *at++ = '0';
    }
    for (int i = 0; i < digits; i++) {
        if (i && i == exponent + 1) *at++ = '.';
        *at++ = text[i];
    }
    *at = 0;
    return (int)(at - out);
}

int cpl_float_text(char out[CPL_FLOAT_TEXT], float v)
{
    static const double powers[] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13};
    const double near = 0x1p-40;
    float a = fabsf(v);
    if (!(a >= 1e-4f && a < 1e5f)) return by_trial(out, v);
    int exponent = -4;
    while (exponent < 5 && (double)a >= (exponent < -1 ? 1 / powers[-exponent - 1] : powers[exponent + 1])) exponent++;
    double low = ((double)a + (double)nextafterf(a, 0)) / 2, high = ((double)a + (double)nextafterf(a, INFINITY)) / 2;
    for (int digits = 6; digits <= 9; digits++) {
        double scale = powers[digits - 1 - exponent], scaled = (double)a * scale, whole = floor(scaled);
        double rest = scaled - whole;
        if (fabs(rest - 0.5) < scaled * near) break;
        if (rest > 0.5) whole += 1;
        if (whole < powers[digits - 1] || whole >= powers[digits]) break;
        double back = whole / scale;
        if (fabs(back - low) < back * near || fabs(back - high) < back * near) break;
        if (back > low && back < high) return write_fixed(out, signbit(v) != 0, (uint32_t)whole, digits, exponent);
    }
    return by_trial(out, v);
}
