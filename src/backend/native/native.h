/* SPDX-License-Identifier: Apache-2.0 */
/* native.h - the native backend's files among themselves. */
#ifndef CPL_BACKEND_NATIVE_NATIVE_H
#define CPL_BACKEND_NATIVE_NATIVE_H

#include "backend/backend.h"
#include "kernel/kernels.h"

/* Members of a team that take part in a pass; a larger team's others return at once. */
enum { CPL_NATIVE_TEAM_MAX = 8 };

/* Tokens a pass: enough that weights cross from L3 a few times only, short enough that nothing waits long behind a
 * pass. What computes in fp32 is so slow that its weights cost nothing to stream again: half as many (60 ms at 100
 * GFLOP/s). */
enum { CPL_NATIVE_BATCH_TOKENS = 512, CPL_NATIVE_BATCH_TOKENS_FP32 = 256 };

/* What has kernels, on every rung, and what is said of the rest. */
#define CPL_NATIVE_PRECISIONS                                                                                          \
    (1u << CPL_PRECISION_FP32 | 1u << CPL_PRECISION_BF16 | 1u << CPL_PRECISION_FP16 | 1u << CPL_PRECISION_INT8 |       \
     1u << CPL_PRECISION_INT4)
#define CPL_NATIVE_REASON "the native backend runs fp32, bf16, fp16, int8 and int4"

/* Parts of a pass, for those who count them (cpl_load_options.count_stages, setting stages=1). */
typedef enum cpl_native_stage {
    CPL_NATIVE_EMBED,
    CPL_NATIVE_QKV,
    CPL_NATIVE_ATTENTION,
    CPL_NATIVE_OUT,
    CPL_NATIVE_UP,
    CPL_NATIVE_DOWN,
    CPL_NATIVE_NORM,
    CPL_NATIVE_CONVERT,
    CPL_NATIVE_HEAD,
    CPL_NATIVE_STAGES
} cpl_native_stage;

typedef struct cpl_native_settings {
    cpl_isa isa;
    int stages;          /* count time and work of each stage */
    uint32_t group_size; /* of int4 */
    const char *keep;    /* what of int8 and int4 is kept in a higher precision (keep.h); NULL: nothing */
} cpl_native_settings;

/* One way of running a pass. native.c picks one when loading; what it makes begins with a pointer to it
 * (cpl_native_head), so that weights and sessions find their way back. */
typedef struct cpl_native_path {
    /* 1 when this path runs `model` in this precision on this rung. NULL: it takes whatever is left. */
    int (*suits)(const cpl_model *model, cpl_precision precision, const cpl_native_settings *settings,
                 const cpl_cpu *cpu);
    cpl_status (*load)(cpl_weights **out, const cpl_model *model, const cpl_load_options *options,
                       const cpl_native_settings *settings, cpl_load_report *report, const cpl_host *host,
                       cpl_error *err);
    cpl_status (*open)(cpl_session **out, cpl_weights *w, cpl_error *err);
    cpl_status (*run)(cpl_session *s, const cpl_batch *batch, cpl_team *team, float *rows, cpl_error *err);
    /* Fills in CPL_NATIVE_STAGES times and operations, what was counted so far. */
    void (*stages)(const cpl_session *s, uint64_t *ns, double *ops);
    void (*close)(cpl_session *s);
    void (*unload)(cpl_weights *w);
} cpl_native_path;

typedef struct cpl_native_head {
    const cpl_native_path *path;
} cpl_native_head;

extern const cpl_native_path cpl_native_rows; /* kernels of kernels.h over fp32 rows: every ISA */

/* What a pass may hold, for cpl_native_check_batch. */
typedef struct cpl_native_limits {
    uint32_t max_length, tokens_max, sequences_max;
} cpl_native_limits;

cpl_native_limits cpl_native_limits_of(const cpl_model *model, const cpl_load_options *options);
/* Every index in the batch is inside the model's tables and the session's scratch, or CPL_INVALID says which isn't. */
cpl_status cpl_native_check_batch(const cpl_native_limits *limits, const cpl_arch *arch, const cpl_batch *batch,
                                  cpl_error *err);

/* What a matrix is stored as; the kernels say what that is computed with (cpl_native_arithmetic). */
typedef enum cpl_native_kind {
    CPL_NATIVE_F32,
    CPL_NATIVE_BF16,
    CPL_NATIVE_FP16,
    CPL_NATIVE_I8,
    CPL_NATIVE_I4
} cpl_native_kind;

/* What of a layer has a kind of its own; q, k and v share their input's form, and so their kind. */
typedef enum cpl_native_item {
    CPL_NATIVE_QKV_MATRICES,
    CPL_NATIVE_OUT_MATRIX,
    CPL_NATIVE_UP_MATRIX,
    CPL_NATIVE_DOWN_MATRIX,
    CPL_NATIVE_ITEMS
} cpl_native_item;

/* A matrix in its kind's panels (kernels.h), with its bias padded to whole panels. */
typedef struct cpl_native_matrix {
    cpl_native_kind kind;
    void *b;
    float *bias;
    cpl_packed_i8 b8;  /* I8, I4 */
    const void *after; /* I8: what a pass reads next, fetched ahead (kernels.h) */
    cpl_rows_i8 input; /* I8: how factors become int8; q, ldq and scale are the session's */
    uint32_t n, k;
    uint32_t group; /* I4: weights of a column that share a step */
} cpl_native_matrix;

/* Rows in the form that kinds with cpl_native_converts need them in. */
typedef struct cpl_native_operand {
    void *at;
    size_t stride; /* bytes */
    float *scale;  /* one a row; I8 */
} cpl_native_operand;

/* c = epilogue(a m^T + bias); with kinds that convert, a is what the converted rows were made of. */
typedef struct cpl_native_product {
    const cpl_native_matrix *m;
    const float *a;
    size_t lda;
    float *c; /* and the residual */
    size_t ldc;
    uint32_t rows, panels;
    cpl_epilogue epilogue;
} cpl_native_product;

typedef struct cpl_native_norm {
    float *gamma, *beta;
} cpl_native_norm;

typedef struct cpl_native_layer {
    cpl_native_matrix q, k, v, out, up, down;
    cpl_native_norm attention_norm, output_norm;
    float *input[4]; /* int8: what q, k and v's factors are multiplied with and added to, then up's (fold.h) */
} cpl_native_layer;

/* The word table (words.h). */
typedef struct cpl_native_words {
    cpl_tensor stored; /* data NULL with q */
    int8_t *q;
    float *scale; /* one a row */
} cpl_native_words;

/* Read-only after load, shared by all sessions. Everything lies in one block. */
struct cpl_weights {
    cpl_native_head head;
    cpl_host host;
    cpl_kernels kernels;
    cpl_precision precision;
    cpl_native_kind kind; /* that the precision stands for; kinds has what each matrix of a layer is */
    cpl_native_kind (*kinds)[CPL_NATIVE_ITEMS], (*base_kinds)[CPL_NATIVE_ITEMS]; /* base: without the setting keep */
    uint32_t group_size;
    int attention_bf16; /* attention's products: bf16, else fp32 */
    cpl_arch arch;
    cpl_pooling pooling;
    cpl_native_limits limits; /* a session's scratch is made for */
    int stages;               /* count time and work of each stage; logged at close */
    uint32_t block_rows;      /* rows that go through a layer together: their activations stay in L2 */

    cpl_native_words words;
    float *position, *type;
    cpl_native_norm embedding_norm;
    cpl_native_layer *layers;
    cpl_native_matrix pooler, classifier;

    void *block;
    size_t block_bytes;
};

/* One thread's scratch, all taken at open. Row strides are cpl_row_stride of the row's length. */
struct cpl_session {
    cpl_native_head head;
    const cpl_weights *weights;
    size_t hidden_stride, mid_stride;
    float *x;                  /* tokens_max x hidden: the residual stream */
    float *q[2], *k[2], *v[2]; /* rows of a group of sequences; attention's output replaces q; two: forward.c */
    float *mid;                /* block_rows x intermediate */
    float *cls, *cls_q;        /* sequences_max x hidden: rows of the [CLS]-only last layer */
    float *scratch[CPL_NATIVE_TEAM_MAX]; /* a member's own, for attention and for products that unpack */
    cpl_native_operand converted; /* block_rows of them, the factor of the product at hand; for kinds that convert */

    /* By lane: CPU time of the thread that ran it, so neighbours on its core do not count. A stage that a team splits
     * by columns counts its leader's time. */
    uint64_t stage_ns[CPL_NATIVE_TEAM_MAX][CPL_NATIVE_STAGES];
    double stage_flops[CPL_NATIVE_TEAM_MAX][CPL_NATIVE_STAGES];
    uint64_t passes, tokens;

    void *block;
    size_t block_bytes;
};

/* Hands out aligned pieces of one block. With base NULL it only counts, so the same code sizes the block and fills it.
 */
typedef struct cpl_native_bump {
    char *base;
    size_t used;
} cpl_native_bump;

float *cpl_native_take(cpl_native_bump *b, size_t floats);

/* matrix.c */
cpl_native_kind cpl_native_kind_of(cpl_precision precision);
/* "avx512-vdpbf16ps", "fp32 avx2": what products of the kind run on. */
const char *cpl_native_arithmetic(const cpl_kernels *k, cpl_native_kind kind);
/* Room for n columns of kk weights. group: of I4. */
void cpl_native_matrix_take(cpl_native_matrix *m, cpl_native_kind kind, uint32_t group, cpl_native_bump *b,
                            const cpl_kernels *k, uint32_t n, uint32_t kk);
/* Everything zero, as packing needs it. */
void cpl_native_matrix_clear(cpl_native_matrix *m, const cpl_kernels *k);
/* row: m->k floats of scratch. Not for I8 and I4, whose columns come from a fold (weights.c). */
void cpl_native_matrix_fill(cpl_native_matrix *m, const cpl_kernels *k, const cpl_tensor *weight,
                            const cpl_tensor *bias, float *row);
/* One output column, not of I8 and I4. */
void cpl_native_matrix_place(cpl_native_matrix *m, const cpl_kernels *k, uint32_t column, const float *row, float bias);
uint32_t cpl_native_panels(const cpl_kernels *k, const cpl_native_matrix *m);
/* 1 when rows are converted before a product. */
int cpl_native_converts(const cpl_kernels *k, cpl_native_kind kind);
/* From row to row of converted rows of n; 0 when nothing is converted. */
size_t cpl_native_row_bytes(const cpl_kernels *k, cpl_native_kind kind, uint32_t n);
/* `rows` rows of m->k floats at x, ld apart, into to's rows from `from` on. */
void cpl_native_convert(const cpl_kernels *k, const cpl_native_matrix *m, const cpl_native_operand *to, uint32_t from,
                        const float *x, uint32_t rows, size_t ld);
/* Floats of scratch that one member needs for products of kk. */
size_t cpl_native_scratch(const cpl_kernels *k, cpl_native_kind kind, uint32_t kk);
/* Panels [from, to) of x. */
void cpl_native_multiply(const cpl_kernels *k, const cpl_native_product *x, const cpl_native_operand *converted,
                         float *scratch, uint32_t from, uint32_t to);

/* The row path's parts, gathered in cpl_native_rows. */
cpl_status cpl_native_rows_load(cpl_weights **out, const cpl_model *model, const cpl_load_options *options,
                                const cpl_native_settings *settings, cpl_load_report *report, const cpl_host *host,
                                cpl_error *err);
void cpl_native_rows_unload(cpl_weights *w);
cpl_status cpl_native_rows_open(cpl_session **out, cpl_weights *w, cpl_error *err);
void cpl_native_rows_close(cpl_session *s);
void cpl_native_rows_stages(const cpl_session *s, uint64_t *ns, double *ops);
cpl_status cpl_native_rows_run(cpl_session *s, const cpl_batch *batch, cpl_team *team, float *rows, cpl_error *err);

#endif
