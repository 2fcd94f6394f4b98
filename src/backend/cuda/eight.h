/* SPDX-License-Identifier: Apache-2.0 */
/* eight.h - int8 and int4 weights as the device wants them, on the host. */
#ifndef CPL_BACKEND_CUDA_EIGHT_H
#define CPL_BACKEND_CUDA_EIGHT_H

#include "backend/native/fold.h"

typedef struct cpl_cuda_fold cpl_cuda_fold;

/* Calibrates (fold.h). four_bits: the second FFN matrix in groups of 64 values of 4 bits, as the CPU's int4. The model
 * is borrowed until close. */
cpl_status cpl_cuda_fold_open(cpl_cuda_fold **out, const cpl_model *model, int four_bits, cpl_error *err);
void cpl_cuda_fold_close(cpl_cuda_fold *f); /* NULL is fine */

/* hidden factors and terms: what the products of CPL_FOLD_LAYER and CPL_FOLD_NORMED multiply is fma(x, mul, add). */
void cpl_cuda_fold_input(const cpl_cuda_fold *f, uint32_t layer, cpl_fold_site site, float *mul, float *add);

/* Output column `column` of a layer's matrix: its weights are q times *scale. The input it goes with is as above for q,
 * k, v and up, the context as it comes for out, and the activation's result as it is for down. q has room for 3 times
 * the matrix's rows, scratch for once. */
void cpl_cuda_fold_column(const cpl_cuda_fold *f, uint32_t layer, cpl_fold_matrix matrix, uint32_t column, int8_t *q,
                          float *scale, float *bias, float *scratch);

/* The same of a column in 4 bits (q, by and less as that leaves them in its room: k values, then a byte a group at
 * q + k and at q + 2 k), as the device keeps it: a value is nibble x by - less, element 2 i in the low half of byte i;
 * groups: by and less in turn. */
enum { CPL_CUDA_FOUR_GROUP = 64 };
void cpl_cuda_pack_four(const int8_t *q, uint32_t k, uint8_t *nibbles, uint8_t *groups);

#endif
