/* SPDX-License-Identifier: Apache-2.0 */
/* ref.h - what the reference kernels share among themselves. */
#ifndef CPL_KERNEL_REF_H
#define CPL_KERNEL_REF_H

#include "kernel/kernels.h"

enum { CPL_REF_MR = 4, CPL_REF_NR = 8 };

void cpl_tile_f32_ref(const cpl_tile_f32 *t);
void cpl_i8_install_ref(cpl_kernels *k);
void cpl_h16_install_ref(cpl_kernels *k);
float cpl_ref_epilogue(cpl_epilogue e, float sum, float bias, float residual);
float cpl_ref_gelu(float x);
float cpl_ref_gelu_tanh(float x);

#endif
