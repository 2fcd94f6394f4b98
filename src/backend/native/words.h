/* SPDX-License-Identifier: Apache-2.0 */
/* words.h - the table of word embeddings: by far the largest of a small model, read one row a token.
 *
 * As stored, or int8 with a scale a row: a quarter of fp32's memory, for 0.7 % of a row's length in rounding, once,
 * where each int8 product rounds its input by about 1 %. */
#ifndef CPL_BACKEND_NATIVE_WORDS_H
#define CPL_BACKEND_NATIVE_WORDS_H

#include "backend/native/native.h"

/* Room for the table of `stored`; as_i8: 1 for int8. */
void cpl_native_words_take(cpl_native_words *w, cpl_native_bump *b, const cpl_tensor *stored, int as_i8);
/* row: a row of floats of scratch. */
void cpl_native_words_fill(cpl_native_words *w, const cpl_kernels *k, const cpl_tensor *stored, float *row);
/* Fetches word id's row. */
void cpl_native_words_fetch(const cpl_native_words *w, uint32_t id);
/* x = (word id's embedding + b) + c. */
void cpl_native_words_add(const cpl_native_words *w, const cpl_kernels *k, uint32_t id, const float *b, const float *c,
                          float *x);

#endif
