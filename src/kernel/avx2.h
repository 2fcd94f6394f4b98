/* SPDX-License-Identifier: Apache-2.0 */
/* avx2.h - the AVX2 rung's files among themselves. */
#ifndef CPL_KERNEL_AVX2_H
#define CPL_KERNEL_AVX2_H

#include "kernel/kernels.h"

void cpl_tile_install_avx2(cpl_kernels *k);
void cpl_i8_install_avx2(cpl_kernels *k);
void cpl_h16_install_avx2(cpl_kernels *k);
void cpl_unpack_i4_avx2(const cpl_kernels *k, int8_t *out, const uint8_t *in, uint32_t steps, uint32_t steps_a_group);

#endif
