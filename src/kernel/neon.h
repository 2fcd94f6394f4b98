/* SPDX-License-Identifier: Apache-2.0 */
/* neon.h - the NEON rungs' files among themselves. */
#ifndef CPL_KERNEL_NEON_H
#define CPL_KERNEL_NEON_H

#include "kernel/kernels.h"

void cpl_tile_install_neon(cpl_kernels *k);
void cpl_i8_install_neon(cpl_kernels *k);
void cpl_h16_install_neon(cpl_kernels *k);
/* unpack_i4 in steps of 1, 4 and 8 k. */
void cpl_unpack_i4_neon(const cpl_kernels *k, int8_t *out, const uint8_t *in, uint32_t steps, uint32_t steps_a_group);
/* quantise_i8 into int8 rows in groups of 4 and of 8, for the rungs with products of such. */
void cpl_quantise4_neon(const cpl_rows_i8 *to, const float *x, size_t rows, size_t n, size_t ld);
void cpl_quantise8_neon(const cpl_rows_i8 *to, const float *x, size_t rows, size_t n, size_t ld);

#endif
