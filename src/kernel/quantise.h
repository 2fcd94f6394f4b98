/* SPDX-License-Identifier: Apache-2.0 */
/* quantise.h - the scale of an int8 row from its largest magnitude; one formula for all rungs and for weights.
 *
 * The maximum is taken over bit patterns without their sign: for finite floats that order is the order of magnitudes,
 * and an infinity or a NaN ends up on top instead of getting lost in a comparison. */
#ifndef CPL_KERNEL_QUANTISE_H
#define CPL_KERNEL_QUANTISE_H

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { CPL_I8_SIGNED = 127, CPL_I8_UNSIGNED = 255 };

/* bits: the largest magnitude's; steps: how many of them the scale divides it into. Returns the scale; *inverse is what
 * values are multiplied by, or 0 when the whole row is to be stored as zeros (kernels.h, cpl_rows_i8). */
static inline __attribute__((always_inline)) float cpl_i8_scale(uint32_t bits, float steps, float *inverse)
{
    float most;
    memcpy(&most, &bits, sizeof most);
    *inverse = 0;
    if (bits >= 0x7f800000u) return NAN;
    if (!(most > 1e-36f)) return 0;
    *inverse = steps / most;
    return most / steps;
}

#endif
