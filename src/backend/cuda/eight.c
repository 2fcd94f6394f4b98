/* SPDX-License-Identifier: Apache-2.0 */
/* eight.c - the CPU's int8 and int4 (backend/native/fold.h), with one difference: the FFN's second product takes the
 * activation's results as they are, since the device multiplies them in bf16, and not counted from their floor. What
 * that adds to a sum is a constant by column and goes into the bias.
 *
 * Plain C, so that every build compiles and tests it, with or without nvcc. Threads: read-only after open. */
#include "backend/cuda/eight.h"

#include <stdlib.h>

#include "base/error.h"

struct cpl_cuda_fold {
    cpl_fold *fold;
    cpl_kernels kernels;
    const cpl_model *model;
    int four_bits;
};

cpl_status cpl_cuda_fold_open(cpl_cuda_fold **out, const cpl_model *model, int four_bits, cpl_error *err)
{
    *out = NULL;
    cpl_cuda_fold *f = calloc(1, sizeof *f);
    if (!f) return cpl_fail_memory(err, sizeof *f);
    cpl_cpu cpu;
    cpl_isa isa;
    f->model = model;
    f->four_bits = four_bits;
    cpl_cpu_detect(&cpu);
    cpl_status st = cpl_isa_choose(&isa, NULL, &cpu, err);
    if (!st) {
        cpl_kernels_choose(&f->kernels, isa);
        st = cpl_fold_open(&f->fold, model, &f->kernels, err);
    }
    if (st)
        cpl_cuda_fold_close(f);
    else
        *out = f;
    return st;
}

void cpl_cuda_fold_close(cpl_cuda_fold *f)
{
    if (!f) return;
    cpl_fold_close(f->fold);
    free(f);
}

void cpl_cuda_fold_input(const cpl_cuda_fold *f, uint32_t layer, cpl_fold_site site, float *mul, float *add)
{
    cpl_fold_input(f->fold, layer, site, mul, add);
}

void cpl_cuda_fold_column(const cpl_cuda_fold *f, uint32_t layer, cpl_fold_matrix matrix, uint32_t column, int8_t *q,
                          float *scale, float *bias, float *scratch)
{
    const uint32_t k = matrix == CPL_FOLD_DOWN ? f->model->arch.intermediate : f->model->arch.hidden;
    uint8_t *by = (uint8_t *)q + k, *less = by + k;
    if (matrix == CPL_FOLD_DOWN && f->four_bits)
        cpl_fold_column_i4(f->fold, layer, matrix, column, CPL_CUDA_FOUR_GROUP, scratch, q, by, less, scale, bias);
    else
        cpl_fold_column(f->fold, layer, matrix, column, scratch, q, scale, bias);
    if (matrix != CPL_FOLD_DOWN) return;
    int64_t sum = 0;
    for (uint32_t i = 0; i < k; i++) sum += q[i];
    *bias -= cpl_fold_floor(f->fold) * *scale * (float)sum;
}

void cpl_cuda_pack_four(const int8_t *q, uint32_t k, uint8_t *nibbles, uint8_t *groups)
{
    const uint8_t *by = (const uint8_t *)q + k, *less = by + k;
    for (uint32_t i = 0; i < k; i++) {
        const uint32_t g = i / CPL_CUDA_FOUR_GROUP;
        const uint8_t nibble = (uint8_t)((q[i] + less[g]) / by[g]);
        nibbles[i / 2] = i % 2 ? (uint8_t)(nibbles[i / 2] | nibble << 4) : nibble;
        groups[2 * g] = by[g];
        groups[2 * g + 1] = less[g];
    }
}
