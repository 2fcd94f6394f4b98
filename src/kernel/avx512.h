/* SPDX-License-Identifier: Apache-2.0 */
/* avx512.h - the AVX-512 rung's files among themselves. */
#ifndef CPL_KERNEL_AVX512_H
#define CPL_KERNEL_AVX512_H

#include "kernel/kernels.h"

void cpl_tile_install_avx512(cpl_kernels *k);
void cpl_h16_install_avx512(cpl_kernels *k);
void cpl_unpack_i4_vnni(const cpl_kernels *k, int8_t *out, const uint8_t *in, uint32_t steps, uint32_t steps_a_group);

#endif
