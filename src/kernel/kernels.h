/* SPDX-License-Identifier: Apache-2.0 */
/* kernels.h - the table of kernels a forward pass runs on, filled once for an ISA.
 *
 * Every slot is valid on every rung: the reference C fills the table, then each rung overrides what it does better.
 * The packing geometry stands beside the kernel that reads it, so packing and loop can't disagree.
 *
 * One promise holds for all of them and is tested: an output element is the same sequence of floating-point operations
 * whatever row it sits in, however many rows come along and however columns, heads or rows are split over threads.
 * So a sequence's result has the same bits in any batch. (Between ISAs the bits differ.)
 *
 * Kernels read and write only the elements named, take any alignment, allocate nothing and keep no state. */
#ifndef CPL_KERNEL_KERNELS_H
#define CPL_KERNEL_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "kernel/cpu.h"

/* What happens to a GEMM's sums before they are stored. BIAS is part of all but NONE. */
typedef enum cpl_epilogue {
    CPL_EPILOGUE_NONE,
    CPL_EPILOGUE_BIAS,
    CPL_EPILOGUE_GELU,      /* x * Phi(x), by erf */
    CPL_EPILOGUE_GELU_TANH, /* the tanh approximation of it */
    CPL_EPILOGUE_RELU,
    CPL_EPILOGUE_TANH,
    CPL_EPILOGUE_RESIDUAL /* + residual */
} cpl_epilogue;

typedef struct cpl_kernels cpl_kernels;

/* One register tile, m <= mr rows by all nr columns of one panel:
 * c[i][j] = epilogue(sum over p of a[i][p] * b[p][j]), p rising. */
typedef struct cpl_tile_f32 {
    const float *a; /* m x k, rows lda floats apart */
    size_t lda;
    const float *b; /* k x nr, rows ldb floats apart (nr in a packed panel) */
    size_t ldb;
    float *c; /* m x nr, rows ldc floats apart */
    size_t ldc;
    const float *bias;     /* nr, or NULL with NONE */
    const float *residual; /* m x nr, rows ldr floats apart; may be c itself */
    size_t ldr;
    const void *prefetch; /* hint: lines that will be wanted soon, one for every 4 steps of k; never NULL */
    uint32_t m, k;
    cpl_epilogue epilogue;
} cpl_tile_f32;

/* c = epilogue(a b^T + bias) for panels [panel_begin, panel_end) of b. */
typedef struct cpl_gemm_f32 {
    const float *a; /* m x k, rows lda floats apart; must not overlap c */
    size_t lda;
    const float *b;    /* packed by cpl_gemm_f32_pack */
    const float *bias; /* n rounded up to whole panels; NULL with NONE */
    float *c;          /* m x n, rows ldc floats apart */
    size_t ldc;
    const float *residual; /* with RESIDUAL: m x n, rows ldr floats apart; may be c itself */
    size_t ldr;
    uint32_t m, n, k;
    uint32_t panel_begin, panel_end;
    cpl_epilogue epilogue;
} cpl_gemm_f32;

/* How rows become int8. x' = fma(x, mul, add), or x - floor without mul; then values nearest(x' / scale), ties to even,
 * with scale the row's largest |x'| over 127, or over 255 where values are unsigned and what is below 0 becomes 0.
 * A row with nothing above 1e-36 is all 0 with scale 0; one with an infinity or a NaN is all 0 with scale NaN, so that
 * what comes of it is NaN. Each row is filled up with zeros to whole groups. */
typedef struct cpl_rows_i8 {
    void *q; /* rows ldq bytes apart */
    size_t ldq;
    float *scale;           /* one a row */
    const float *mul, *add; /* one a column; both NULL: floor */
    float floor;
    int is_unsigned;
} cpl_rows_i8;

/* The same with int8 factors. Row i of the quantised a holds values qa[i][p] (cpl_rows_i8), column j of b weights
 * qb[p][j] within +-127 with column_scale[j]; the sum over p of qa qb is an exact int32 on every rung, and
 * then c[i][j] = epilogue(fma(float(sum) * row_scale[i], column_scale[j], bias[j])), so all rungs give the same bits up
 * to the activation, which is each rung's own. */
typedef struct cpl_tile_i8 {
    const void *a; /* m rows of k elements (i8_bytes each, i8_group a group), lda bytes apart */
    size_t lda;
    const int8_t *b;           /* one packed panel */
    const float *row_scale;    /* m */
    const float *column_scale; /* i8_nr */
    const int32_t *start;      /* i8_nr: what sums start from: -i8_zero (or _unsigned) times the column's sum */
    float *c;                  /* m x i8_nr, rows ldc floats apart */
    size_t ldc;
    const float *bias;     /* i8_nr, or NULL with NONE */
    const float *residual; /* m x i8_nr, rows ldr floats apart; may be c itself */
    size_t ldr;
    const void *prefetch; /* hint: lines that will be wanted soon, `lines` for every 4 groups */
    uint32_t lines;
    uint32_t m, groups; /* groups of i8_group elements in k, the last filled up with zeros */
    cpl_epilogue epilogue;
} cpl_tile_i8;

/* An n x k matrix as the int8 kernels read it. All of n rounded up to whole panels. */
typedef struct cpl_packed_i8 {
    int8_t *b; /* cpl_gemm_i8_packed_bytes */
    float *scale;
    int32_t *start;
} cpl_packed_i8;

/* c = epilogue(a b^T + bias) for panels [panel_begin, panel_end) of b; the rest as in cpl_gemm_f32. */
typedef struct cpl_gemm_i8 {
    const void *a; /* m x k as quantise_i8 wrote it, rows lda bytes apart */
    size_t lda;
    const float *row_scale; /* m */
    cpl_packed_i8 b;
    const float *bias;
    float *c;
    size_t ldc;
    const float *residual;
    size_t ldr;
    uint32_t m, n, k;
    uint32_t panel_begin, panel_end;
    const void *after; /* hint: what is read after the last panel; NULL: nothing to fetch */
    cpl_epilogue epilogue;
} cpl_gemm_i8;

/* int8's product with weights of 4 bits (gemm_i4.c): product.b.b is packed by cpl_gemm_i4_place, one `by` and `less`
 * for each `group` weights of a column. */
typedef struct cpl_gemm_i4 {
    cpl_gemm_i8 product;
    uint32_t group;
    int8_t *scratch; /* cpl_gemm_i4_scratch bytes */
} cpl_gemm_i4;

/* Weights of 16 bits, bf16 or fp16; sums, bias and epilogue are fp32. Rows of a are fp32, each product one fused
 * multiply-add on the widened weight; or, where the slot has round_rows, rounded to the weights' format first, two
 * products at a time added in the instruction's own order (denormal factors and sums count as 0 there). */
typedef struct cpl_tile_h16 {
    const void *a; /* m rows of k elements, lda bytes apart */
    size_t lda;
    const uint16_t *b; /* one packed panel */
    float *c;          /* m x nr, rows ldc floats apart */
    size_t ldc;
    const float *bias;     /* nr, or NULL with NONE */
    const float *residual; /* m x nr, rows ldr floats apart; may be c itself */
    size_t ldr;
    const void *prefetch; /* hint: lines that will be wanted soon, one for every 4 groups; never NULL */
    uint32_t m, groups;   /* groups of `group` elements in k, the last filled up with zeros */
    cpl_epilogue epilogue;
} cpl_tile_h16;

/* c = epilogue(a b^T + bias) for panels [panel_begin, panel_end) of b; the rest as in cpl_gemm_f32. */
typedef struct cpl_gemm_h16 {
    const void *a; /* m x k, fp32 or as round_rows wrote it; rows lda bytes apart */
    size_t lda;
    const uint16_t *b; /* packed by cpl_gemm_h16_pack */
    const float *bias;
    float *c;
    size_t ldc;
    const float *residual;
    size_t ldr;
    uint32_t m, n, k;
    uint32_t panel_begin, panel_end;
    cpl_epilogue epilogue;
} cpl_gemm_h16;

typedef enum cpl_h16_format { CPL_H16_BF16, CPL_H16_FP16, CPL_H16_FORMATS } cpl_h16_format;

/* What one of the two formats runs on. Panels of nr columns, b[k / group][nr][k % group]. */
typedef struct cpl_h16 {
    const char *isa; /* "fp32 avx2": converted in registers, multiplied as fp32; "avx512-vdpbf16ps" */
    uint16_t mr, nr, group;
    void (*tile)(const cpl_tile_h16 *t);
    /* NULL: rows stay fp32. Else rows of n floats, ld apart, into rows ldq bytes apart: each value rounded to nearest
     * even, denormals to 0, each row filled up with zeros to whole groups. */
    void (*round_rows)(void *q, size_t ldq, const float *x, size_t rows, size_t n, size_t ld);
} cpl_h16;

/* Attention of one head of one sequence: out = softmax(scale * q k^T) v. scale > 0. */
typedef struct cpl_attention_f32 {
    const float *q, *k, *v; /* rows q_stride / kv_stride floats apart, head_size floats each */
    float *out;             /* rows out_stride floats apart; may be q itself, must not overlap k or v */
    size_t q_stride, kv_stride, out_stride;
    uint32_t queries, keys, head_size;
    float scale;
    float *scratch; /* cpl_attention_f32_scratch(...) floats, or cpl_attention_bf16_scratch(...) */
} cpl_attention_f32;

struct cpl_kernels {
    const char *isa; /* rung the kernels come from */

    /* GEMM geometry: weights lie in panels of nr columns, k deep: panel p holds b[k][nr] for columns [p nr, p nr + nr),
     * zero beyond n. */
    uint16_t mr, nr;
    void (*tile_f32)(const cpl_tile_f32 *t);
    void (*gemm_f32)(const cpl_kernels *k, const cpl_gemm_f32 *g);
    void (*attention_f32)(const cpl_kernels *k, const cpl_attention_f32 *a);
    /* The same with scale log2(e) q, k, v and the weights 2^(score - largest) rounded to bf16 before they are
     * multiplied (factors and sums that are denormal count as 0); scores, their sum and the rest are fp32. NULL: not on
     * this rung.
     */
    void (*attention_bf16)(const cpl_kernels *k, const cpl_attention_f32 *a);

    /* Rows of n floats, ld floats apart, in place. */
    void (*layernorm_f32)(float *x, size_t rows, size_t n, size_t ld, const float *gamma, const float *beta,
                          float epsilon);
    void (*softmax_f32)(float *x, size_t rows, size_t n, size_t ld, float scale);

    /* x[i] = f(x[i]), n of them. */
    void (*gelu_f32)(float *x, size_t n);
    void (*gelu_tanh_f32)(float *x, size_t n);
    void (*relu_f32)(float *x, size_t n);
    void (*tanh_f32)(float *x, size_t n);

    /* int8 GEMM: panels of i8_nr columns; in a panel, groups of i8_group consecutive k of one column lie side by side:
     * b[k / group][nr][k % group]. Activations are i8_bytes wide (8 or 16 bits) with i8_zero standing for 0, or
     * i8_zero_unsigned where values are unsigned; what is called a value is an element less that. i8_isa names the
     * instructions that multiply. */
    const char *i8_isa;
    uint16_t i8_mr, i8_nr, i8_group, i8_bytes;
    int16_t i8_zero, i8_zero_unsigned;
    void (*tile_i8)(const cpl_tile_i8 *t);
    void (*gemm_i8)(const cpl_kernels *k, const cpl_gemm_i8 *g);
    /* Rows of n floats, ld apart. */
    void (*quantise_i8)(const cpl_rows_i8 *to, const float *x, size_t rows, size_t n, size_t ld);
    /* A column of n weights: q[i] = nearest(w[i] / scale), scale the largest magnitude over 127; 0 and NaN as with
     * rows. */
    void (*weights_i8)(int8_t *q, float *scale, const float *w, size_t n);
    /* most[i] = the largest of most[i] and |x[r][i]|: rows of n floats, end to end. NaN is passed over. */
    void (*magnitudes_f32)(float *most, const float *x, size_t rows, size_t n);

    /* A packed panel of 4-bit weights into the int8 panel it stands for (gemm_i4.c), `steps` steps of i8_group k. */
    void (*unpack_i4)(const cpl_kernels *k, int8_t *out, const uint8_t *in, uint32_t steps, uint32_t steps_a_group);

    /* 16-bit weights, by format. */
    cpl_h16 h16[CPL_H16_FORMATS];

    /* out[c][r] = in[r][c]: rows of in and out ld_in and ld_out floats apart; no overlap. */
    void (*transpose_f32)(float *out, size_t ld_out, const float *in, size_t ld_in, size_t rows, size_t columns);

    /* out[i] = (a[i] + b[i]) + c[i]: word, type and position embedding. */
    void (*add3_f32)(float *out, const float *a, const float *b, const float *c, size_t n);
    /* The same with a = scale q: out[i] = fma(scale, q[i], b[i]) + c[i]. */
    void (*add3_i8)(float *out, const int8_t *q, float scale, const float *b, const float *c, size_t n);
    /* Over rows of n floats, ld apart: mean and maximum, rows in rising order. rows > 0. */
    void (*pool_mean_f32)(float *out, const float *x, size_t rows, size_t n, size_t ld);
    void (*pool_max_f32)(float *out, const float *x, size_t rows, size_t n, size_t ld);
};

/* Fills every slot for `isa`, which must run here (cpl_isa_runs). */
void cpl_kernels_choose(cpl_kernels *k, cpl_isa isa);
/* The same as if the machine had only the features *cpu lists, which it must have. */
void cpl_kernels_choose_for(cpl_kernels *k, cpl_isa isa, const cpl_cpu *cpu);

/* The rungs. Each overrides slots in *k; only cpl_kernels_choose calls the ones after ref. */
void cpl_kernels_ref(cpl_kernels *k);
void cpl_kernels_avx2(cpl_kernels *k);
void cpl_kernels_avx512(cpl_kernels *k);
void cpl_kernels_avxvnni(cpl_kernels *k); /* int8 on AVX-VNNI */
void cpl_kernels_vnni(cpl_kernels *k);    /* int8 on AVX-512 with VNNI */
void cpl_kernels_bf16(cpl_kernels *k);    /* bf16 and its attention on AVX-512 with BF16 */
void cpl_attention_install_bf16(cpl_kernels *k);
void cpl_kernels_neon(cpl_kernels *k);
void cpl_kernels_dotprod(cpl_kernels *k); /* int8 on NEON with sdot */
void cpl_kernels_i8mm(cpl_kernels *k);    /* int8 on NEON with smmla */
void cpl_kernels_bfmmla(cpl_kernels *k);  /* bf16 on NEON with bfmmla */

/* ---- packed matrices --------------------------------------------------------------------------------------- */

uint32_t cpl_gemm_f32_panels(const cpl_kernels *k, uint32_t n);
/* Floats a packed n x kk matrix takes; its bias takes panels x nr. */
size_t cpl_gemm_f32_packed_count(const cpl_kernels *k, uint32_t n, uint32_t kk);
/* Puts output column `column`'s weights (row `column` of a stored [out, in] matrix, kk floats) in its place. The
 * packed memory is zeroed by the caller. */
void cpl_gemm_f32_pack(const cpl_kernels *k, float *packed, uint32_t column, uint32_t kk, const float *row);

/* int8: k up to CPL_I8_K_MAX, so that no sum leaves int32 (255 x 127 x k). */
enum { CPL_I8_K_MAX = 1 << 16 };
uint32_t cpl_gemm_i8_panels(const cpl_kernels *k, uint32_t n);
size_t cpl_gemm_i8_packed_bytes(const cpl_kernels *k, uint32_t n, uint32_t kk);
/* Bytes of a row of n quantised activations, in whole groups. */
size_t cpl_i8_row_bytes(const cpl_kernels *k, uint32_t n);
/* Puts output column `column`'s kk int8 weights and their scale in place, for factors of signed or unsigned values. *to
 * is zeroed by the caller. */
void cpl_gemm_i8_place(const cpl_kernels *k, const cpl_packed_i8 *to, uint32_t column, uint32_t kk, const int8_t *q,
                       float scale, int is_unsigned);

/* 4-bit weights. `group`: 32, 64 or 128. */
enum { CPL_I4_GROUP_MAX = 128 };
size_t cpl_gemm_i4_packed_bytes(const cpl_kernels *k, uint32_t n, uint32_t kk, uint32_t group);
/* Bytes of one unpacked panel. */
size_t cpl_gemm_i4_scratch(const cpl_kernels *k, uint32_t kk);
/* n weights of a column as int8 values q, each of which is v by - less with v in 0..15 and its group's by (1..16) and
 * less, chosen for the least squared error; w is nearly q scale. A column that isn't finite gives scale NaN. */
void cpl_i4_quantise(const float *w, uint32_t n, uint32_t group, int8_t *q, uint8_t *by, uint8_t *less, float *scale);
/* Puts such a column in its place. The packed memory is zeroed by the caller, and once it is filled columns beyond n
 * stand for 0. */
void cpl_gemm_i4_place(const cpl_kernels *k, const cpl_packed_i8 *to, uint32_t column, uint32_t kk, uint32_t group,
                       const int8_t *q, const uint8_t *by, const uint8_t *less, float scale, int is_unsigned);
/* Panels [panel_begin, panel_end): unpacked one at a time and multiplied by gemm_i8. */
void cpl_gemm_i4_run(const cpl_kernels *k, const cpl_gemm_i4 *g);
/* unpack_i4 for any geometry. */
void cpl_unpack_i4_plain(const cpl_kernels *k, int8_t *out, const uint8_t *in, uint32_t steps, uint32_t steps_a_group);

/* 16-bit weights. */
uint32_t cpl_gemm_h16_panels(const cpl_h16 *h, uint32_t n);
size_t cpl_gemm_h16_packed_bytes(const cpl_h16 *h, uint32_t n, uint32_t kk);
/* Bytes of a row of n activations as the tile reads it. */
size_t cpl_h16_row_bytes(const cpl_h16 *h, uint32_t n);
/* Rounds output column `column`'s weights (kk floats) to the format, to nearest even (fp16: what is too large becomes
 * an infinity), into their place. The packed memory is zeroed by the caller. */
void cpl_gemm_h16_pack(const cpl_kernels *k, cpl_h16_format format, uint16_t *packed, uint32_t column, uint32_t kk,
                       const float *row);
void cpl_gemm_h16_run(const cpl_h16 *h, const cpl_gemm_h16 *g);

/* Drivers over tile_f32 and tile_i8 that any rung may put into its table (gemm_f32.c, gemm_i8.c, attention_f32.c). */
void cpl_gemm_f32_tiled(const cpl_kernels *k, const cpl_gemm_f32 *g);
void cpl_gemm_i8_tiled(const cpl_kernels *k, const cpl_gemm_i8 *g);
void cpl_attention_f32_tiled(const cpl_kernels *k, const cpl_attention_f32 *a);
size_t cpl_attention_f32_scratch(const cpl_kernels *k, uint32_t keys, uint32_t head_size);
/* Floats; 0 without the slot. */
size_t cpl_attention_bf16_scratch(const cpl_kernels *k, uint32_t keys, uint32_t head_size);

/* Distance in floats between rows of n floats in scratch memory: an odd number of cache lines, so that the rows a tile
 * reads together don't fall into the same few cache sets. */
size_t cpl_row_stride(size_t n);

#endif
