/* SPDX-License-Identifier: Apache-2.0 */
/* attention.h - what every kernel of attention is put through, whatever numbers its products take. */
#ifndef CPL_TESTS_ATTENTION_H
#define CPL_TESTS_ATTENTION_H

#include "check.h"

typedef struct attention {
    void (*run)(const cpl_kernels *k, const cpl_attention_f32 *a);
    size_t (*scratch)(const cpl_kernels *k, uint32_t keys, uint32_t head_size);
    size_t scratch_floats_max; /* a key, of long sequences */
    /* Every row against double. q: the queries as they were; largest_v: of v's magnitudes. */
    void (*check_rows)(check *c, const cpl_attention_f32 *a, const float *q, double largest_v);
} attention;

/* One to 300 keys, or in round 0 8,192; a row alone, and in place. */
void attention_round(check *c, uint32_t round, const attention *by);

#endif
