/* SPDX-License-Identifier: Apache-2.0 */
/* edit_distance.c - one row of the classical table at a time, on the stack. No state. */
#include "base/edit_distance.h"

#include <stdint.h>

size_t cpl_edit_distance(const char *a, size_t a_size, const char *b, size_t b_size)
{
    size_t row[CPL_EDIT_DISTANCE_MAX + 1];
    if (a_size > CPL_EDIT_DISTANCE_MAX || b_size > CPL_EDIT_DISTANCE_MAX) return SIZE_MAX;
    for (size_t j = 0; j <= b_size; j++) row[j] = j;
    for (size_t i = 1; i <= a_size; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_size; j++) {
            size_t up = row[j], best = diagonal + (a[i - 1] != b[j - 1]);
            if (up + 1 < best) best = up + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = up;
            row[j] = best;
        }
    }
    return row[b_size];
}
