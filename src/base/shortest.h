/* SPDX-License-Identifier: Apache-2.0 */
/* shortest.h - a float as the shortest decimal that reads back as it. */
#ifndef CPL_BASE_SHORTEST_H
#define CPL_BASE_SHORTEST_H

enum { CPL_FLOAT_TEXT = 24 };

/* Writes a finite float as printf's %.Ng does, N the least of 6 to 9 that reads back the same; returns the length. */
int cpl_float_text(char out[CPL_FLOAT_TEXT], float v);

#endif
