/* SPDX-License-Identifier: Apache-2.0 */
/* edit_distance.h - how far a misspelt name is from a known one. */
#ifndef CPL_BASE_EDIT_DISTANCE_H
#define CPL_BASE_EDIT_DISTANCE_H

#include <stddef.h>

enum { CPL_EDIT_DISTANCE_MAX = 255 }; /* bytes of either text */

/* Levenshtein distance in bytes; SIZE_MAX when a text is longer than CPL_EDIT_DISTANCE_MAX. */
size_t cpl_edit_distance(const char *a, size_t a_size, const char *b, size_t b_size);

#endif
