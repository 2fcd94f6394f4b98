/* SPDX-License-Identifier: Apache-2.0 */
/* matrix.c - a weight matrix in any of the kinds the kernels know: room, packing, and panels of a product.
 *
 * The one place where the kinds differ: everything else of the backend asks here for bytes, for the form its rows must
 * be in, and for some panels of a product. What rows are turned into before a product (quantised, rounded, nothing) is
 * the kind's, so products of one stage share it.
 *
 * Threads: filled at load, then only read. */
#include <string.h>

#include "backend/native/native.h"
#include "base/error.h"

static cpl_h16_format format_of(const cpl_native_matrix *m)
{
    return m->kind == CPL_NATIVE_FP16 ? CPL_H16_FP16 : CPL_H16_BF16;
}

cpl_native_kind cpl_native_kind_of(cpl_precision precision)
{
    switch (precision) {
    case CPL_PRECISION_BF16: return CPL_NATIVE_BF16;
    case CPL_PRECISION_FP16: return CPL_NATIVE_FP16;
    case CPL_PRECISION_INT8: return CPL_NATIVE_I8;
    case CPL_PRECISION_INT4: return CPL_NATIVE_I4;
    default: return CPL_NATIVE_F32;
    }
}

uint32_t cpl_native_panels(const cpl_kernels *k, const cpl_native_matrix *m)
{
    switch (m->kind) {
    case CPL_NATIVE_F32: return cpl_gemm_f32_panels(k, m->n);
    case CPL_NATIVE_BF16:
    case CPL_NATIVE_FP16: return cpl_gemm_h16_panels(&k->h16[format_of(m)], m->n);
    case CPL_NATIVE_I8:
    case CPL_NATIVE_I4: return cpl_gemm_i8_panels(k, m->n);
    }
    return 0;
}

static int is_integer(cpl_native_kind kind) { return kind == CPL_NATIVE_I8 || kind == CPL_NATIVE_I4; }

static size_t padded_columns(const cpl_kernels *k, const cpl_native_matrix *m)
{
    const size_t panels = cpl_native_panels(k, m);
    if (m->kind == CPL_NATIVE_F32) return panels * k->nr;
    return panels * (is_integer(m->kind) ? k->i8_nr : k->h16[format_of(m)].nr);
}

static size_t packed_bytes(const cpl_kernels *k, const cpl_native_matrix *m)
{
    switch (m->kind) {
    case CPL_NATIVE_F32: return cpl_gemm_f32_packed_count(k, m->n, m->k) * sizeof(float);
    case CPL_NATIVE_BF16:
    case CPL_NATIVE_FP16: return cpl_gemm_h16_packed_bytes(&k->h16[format_of(m)], m->n, m->k);
    case CPL_NATIVE_I8: return cpl_gemm_i8_packed_bytes(k, m->n, m->k);
    case CPL_NATIVE_I4: return cpl_gemm_i4_packed_bytes(k, m->n, m->k, m->group);
    }
    return 0;
}

void cpl_native_matrix_take(cpl_native_matrix *m, cpl_native_kind kind, uint32_t group, cpl_native_bump *b,
                            const cpl_kernels *k, uint32_t n, uint32_t kk)
{
    *m = (cpl_native_matrix){.kind = kind, .n = n, .k = kk, .group = group};
    const size_t padded = padded_columns(k, m);
    m->b = cpl_native_take(b, (packed_bytes(k, m) + 3) / sizeof(float));
    m->bias = cpl_native_take(b, padded);
    if (!is_integer(kind)) return;
    m->b8.b = m->b;
    m->b8.scale = cpl_native_take(b, padded);
    m->b8.start = (int32_t *)(void *)cpl_native_take(b, padded);
}

void cpl_native_matrix_clear(cpl_native_matrix *m, const cpl_kernels *k)
{
    const size_t padded = padded_columns(k, m);
    memset(m->b, 0, packed_bytes(k, m));
    memset(m->bias, 0, padded * sizeof(float));
    if (!is_integer(m->kind)) return;
    memset(m->b8.scale, 0, padded * sizeof(float));
    memset(m->b8.start, 0, padded * sizeof(int32_t));
}

void cpl_native_matrix_place(cpl_native_matrix *m, const cpl_kernels *k, uint32_t column, const float *row, float bias)
{
    CPL_ASSERT(!is_integer(m->kind));
    if (m->kind == CPL_NATIVE_F32)
        cpl_gemm_f32_pack(k, m->b, column, m->k, row);
    else
        cpl_gemm_h16_pack(k, format_of(m), m->b, column, m->k, row);
    m->bias[column] = bias;
}

void cpl_native_matrix_fill(cpl_native_matrix *m, const cpl_kernels *k, const cpl_tensor *weight,
                            const cpl_tensor *bias, float *row)
{
    cpl_native_matrix_clear(m, k);
    for (uint32_t n = 0; n < m->n; n++) {
        cpl_tensor_read_f32(weight, (size_t)n * m->k, m->k, row);
        cpl_native_matrix_place(m, k, n, row, 0);
    }
    if (bias->data) cpl_tensor_read_f32(bias, 0, cpl_tensor_count(bias), m->bias);
}

int cpl_native_converts(const cpl_kernels *k, cpl_native_kind kind)
{
    if (kind == CPL_NATIVE_BF16) return k->h16[CPL_H16_BF16].round_rows != NULL;
    return is_integer(kind);
}

size_t cpl_native_row_bytes(const cpl_kernels *k, cpl_native_kind kind, uint32_t n)
{
    if (!cpl_native_converts(k, kind)) return 0;
    const size_t bytes = is_integer(kind) ? cpl_i8_row_bytes(k, n) : cpl_h16_row_bytes(&k->h16[CPL_H16_BF16], n);
    return cpl_row_stride((bytes + 3) / sizeof(float)) * sizeof(float);
}

void cpl_native_convert(const cpl_kernels *k, const cpl_native_matrix *m, const cpl_native_operand *to, uint32_t from,
                        const float *x, uint32_t rows, size_t ld)
{
    char *at = (char *)to->at + from * to->stride;
    if (is_integer(m->kind)) {
        cpl_rows_i8 out = m->input;
        out.q = at;
        out.ldq = to->stride;
        out.scale = to->scale + from;
        k->quantise_i8(&out, x, rows, m->k, ld);
    } else {
        k->h16[CPL_H16_BF16].round_rows(at, to->stride, x, rows, m->k, ld);
    }
}

static void multiply_f32(const cpl_kernels *k, const cpl_native_product *x, uint32_t from, uint32_t to)
{
    const cpl_gemm_f32 g = {.a = x->a,
                            .lda = x->lda,
                            .b = x->m->b,
                            .bias = x->m->bias,
                            .c = x->c,
                            .ldc = x->ldc,
                            .residual = x->c,
                            .ldr = x->ldc,
                            .m = x->rows,
                            .n = x->m->n,
                            .k = x->m->k,
                            .panel_begin = from,
                            .panel_end = to,
                            .epilogue = x->epilogue};
    k->gemm_f32(k, &g);
}

static void multiply_h16(const cpl_kernels *k, const cpl_native_product *x, const cpl_native_operand *converted,
                         uint32_t from, uint32_t to)
{
    const cpl_h16 *h = &k->h16[format_of(x->m)];
    const cpl_gemm_h16 g = {.a = h->round_rows ? converted->at : (const void *)x->a,
                            .lda = h->round_rows ? converted->stride : x->lda * sizeof(float),
                            .b = x->m->b,
                            .bias = x->m->bias,
                            .c = x->c,
                            .ldc = x->ldc,
                            .residual = x->c,
                            .ldr = x->ldc,
                            .m = x->rows,
                            .n = x->m->n,
                            .k = x->m->k,
                            .panel_begin = from,
                            .panel_end = to,
                            .epilogue = x->epilogue};
    cpl_gemm_h16_run(h, &g);
}

size_t cpl_native_scratch(const cpl_kernels *k, cpl_native_kind kind, uint32_t kk)
{
    return kind == CPL_NATIVE_I4 ? (cpl_gemm_i4_scratch(k, kk) + 3) / sizeof(float) : 0;
}

static void multiply_i8(const cpl_kernels *k, const cpl_native_product *x, const cpl_native_operand *converted,
                        float *scratch, uint32_t from, uint32_t to)
{
    const cpl_gemm_i8 g = {.a = converted->at,
                           .lda = converted->stride,
                           .row_scale = converted->scale,
                           .b = x->m->b8,
                           .bias = x->m->bias,
                           .c = x->c,
                           .ldc = x->ldc,
                           .residual = x->c,
                           .ldr = x->ldc,
                           .m = x->rows,
                           .n = x->m->n,
                           .k = x->m->k,
                           .panel_begin = from,
                           .panel_end = to,
                           .after = to == x->panels ? x->m->after : NULL,
                           .epilogue = x->epilogue};
    if (x->m->kind == CPL_NATIVE_I8) {
        k->gemm_i8(k, &g);
    } else {
        const cpl_gemm_i4 packed = {g, x->m->group, (int8_t *)scratch};
        cpl_gemm_i4_run(k, &packed);
    }
}

void cpl_native_multiply(const cpl_kernels *k, const cpl_native_product *x, const cpl_native_operand *converted,
                         float *scratch, uint32_t from, uint32_t to)
{
    switch (x->m->kind) {
    case CPL_NATIVE_F32: multiply_f32(k, x, from, to); break;
    case CPL_NATIVE_BF16:
    case CPL_NATIVE_FP16: multiply_h16(k, x, converted, from, to); break;
    case CPL_NATIVE_I8:
    case CPL_NATIVE_I4: multiply_i8(k, x, converted, scratch, from, to); break;
    }
}

const char *cpl_native_arithmetic(const cpl_kernels *k, cpl_native_kind kind)
{
    switch (kind) {
    case CPL_NATIVE_F32: return k->isa;
    case CPL_NATIVE_BF16: return k->h16[CPL_H16_BF16].isa;
    case CPL_NATIVE_FP16: return k->h16[CPL_H16_FP16].isa;
    case CPL_NATIVE_I8:
    case CPL_NATIVE_I4: return k->i8_isa;
    }
    return "";
}
