/* SPDX-License-Identifier: Apache-2.0 */
/* amx.h - kernels on AMX tiles, with the layouts they read and write.
 *
 * A tile is 16 rows of 64 bytes. "A tiles" hold activations: 16 tokens x one k step (64 int8 or 32 bf16), row tile
 * after row tile, in each k step after k step, 1 KiB each. "Panels" hold weights: 32 output columns, k step after k
 * step, in each two B tiles (16 columns of 4 int8 or 2 bf16 side by side, 16 such rows): 2 KiB a step.
 *
 * "Half tiles" hold rows of halves on their way: 16 rows x 32 columns (64 bytes), row tile after row tile, in each
 * panel after panel, 1 KiB each, so that what a block of sums becomes lies together.
 *
 * K may lie in any order as long as A and panels agree; the order in which the row kernels write A is told by
 * cpl_amx_order_*, and weights are packed in it. Rows are padded to whole blocks in memory: kernels read and write rows
 * up to the next multiple of 16, and what padding holds reaches no other row.
 *
 * Everything here needs cpl_amx_permit() once a process, and cpl_amx_begin()/end() on the thread around it. */
#ifndef CPL_KERNEL_AMX_H
#define CPL_KERNEL_AMX_H

#include <stddef.h>
#include <stdint.h>

#include "kernel/kernels.h"

enum { CPL_AMX_TILES_MAX = 2, CPL_AMX_PANEL = 32, CPL_AMX_NORM_MAX = 1024 /* columns */ };

typedef enum cpl_amx_kind { CPL_AMX_INT8, CPL_AMX_UINT8, CPL_AMX_BF16 } cpl_amx_kind; /* of A; B is int8 or bf16 */

/* What becomes of y = sum * row_scale * scale + bias (int8) or sum + bias (bf16). */
typedef enum cpl_amx_out {
    CPL_AMX_ROWS,     /* bf16, 32 columns of a panel together: out + panel * out_panel + row * 64 */
    CPL_AMX_ACTIVATE, /* int8: half tiles of the activated; bf16: A tiles of them */
    CPL_AMX_ADD       /* half tiles += y */
} cpl_amx_out;

/* Activation in half precision, of x = 2 h: h + |h| Q(c) with c = min(|h|, limit), Q of degree 3, Q(limit) = 1. So
 * GELU's scales and biases are those of h. */
typedef struct cpl_amx_activation {
    cpl_epilogue kind;         /* GELU, GELU_TANH or RELU (of x itself) */
    uint16_t limit, factor[4]; /* halves; factor[0] is the constant one */
} cpl_amx_activation;

/* Weights soon needed, fetched into L2 meanwhile: `lines` of 64 bytes every k step, from `at` on up to `end`. */
typedef struct cpl_amx_ahead {
    const char *at, *end;
    uint32_t lines;
} cpl_amx_ahead;

typedef struct cpl_amx_gemm {
    cpl_amx_kind kind;
    cpl_amx_out what;
    const void *a;                    /* A tiles of all blocks */
    const void *b;                    /* panels */
    const float *scale, *bias;        /* columns in the order of the panels; scale: int8 */
    const uint16_t *scale16, *bias16; /* ACTIVATE and ADD on int8: halves, in the order of the halves written */
    const float *row_scale;           /* int8 */
    const uint32_t *row_scale16;      /* ACTIVATE and ADD on int8: for each row the half twice */
    uint32_t shift;                   /* those: sums go to 16 bits by this shift, at most 16, and must fit */
    uint32_t tiles;                   /* row tiles of a block, 1 or 2 */
    uint32_t blocks;
    uint32_t steps, split; /* k steps; those between which sums go through `partial` */
    uint32_t panel_begin, panel_end;
    void *out;
    size_t out_row, out_panel; /* bytes: of a row tile; ROWS: of a panel */
    const cpl_amx_activation *activation;
    void *scratch; /* tiles * 2 KiB */
    void *partial; /* steps > split: panels * tiles * 2 KiB */
    cpl_amx_ahead ahead;
} cpl_amx_gemm;

/* Attention of a run of heads of one sequence. */
typedef struct cpl_amx_attention {
    /* bf16 as CPL_AMX_ROWS writes them, from the sequence's first row on: 64 bytes a row, 32 columns a panel, panels
     * q_panel and kv_panel bytes apart. q holds 128 log2(e) / sqrt(head_size) times the query. Up to 15 rows behind the
     * last of q are read. */
    const void *q, *k, *v;
    size_t q_panel, kv_panel;
    uint32_t queries, keys, head_size, head_begin, head_end;
    void *out; /* int8: half tiles; bf16: A tiles; of both the sequence's first row is `out_first`, and each row tile
                * has `out_steps` */
    uint32_t out_first, out_steps;
    int out_bf16_tiles;
    void *scratch; /* attention_scratch(keys, head_size) bytes, 64-byte aligned */
} cpl_amx_attention;

/* Rows of half tiles to A tiles; n columns. */
typedef struct cpl_amx_rows {
    cpl_amx_kind kind;
    void *x;
    uint32_t n;
    const uint16_t *gamma, *beta;     /* halves */
    const uint16_t *q_gamma, *q_beta; /* what goes into A: normed x * q_gamma + q_beta; may be gamma and beta */
    float epsilon;
    int down; /* x * 2^-down can be squared and added up in halves */
    void *a;  /* A tiles */
    uint32_t steps;
    float *row_scale;      /* int8 */
    uint32_t *row_scale16; /* int8, or NULL: as cpl_amx_gemm wants it, of row_scale * scale16 */
    float scale16;
} cpl_amx_rows;

/* Half tiles to A tiles: quantise_halves makes int8 of a row by its largest magnitude, quantise_activated uint8 of
 * an activated one by its largest value, with x = row_scale * u - shift: no value is below -shift but by a hair. */
typedef struct cpl_amx_halves {
    const void *x;
    uint32_t n;
    const float *from_scale; /* uint8: the row scales of the product that made x: a row whose is NaN becomes NaN */
    float shift;
    void *a;
    uint32_t steps;
    float *row_scale;
    uint32_t *row_scale16; /* as in cpl_amx_rows */
    float scale16;
} cpl_amx_halves;

typedef struct cpl_amx_kernels {
    void (*begin)(void);
    void (*end)(void);
    void (*gemm)(const cpl_amx_gemm *g);
    void (*attention)(const cpl_amx_attention *a);
    size_t (*attention_scratch)(uint32_t keys, uint32_t head_size); /* bytes; heads of 32 or 64 */
    /* Row `row` of half tiles of n columns from and to fp32. */
    void (*put_row)(const float *x, uint32_t n, void *tiles, uint32_t row);
    void (*get_row)(float *x, uint32_t n, const void *tiles, uint32_t row);
    /* x = norm(x) in place, and quantised (or as bf16) into A tiles; rows [from, to). */
    void (*norm)(const cpl_amx_rows *r, uint32_t from, uint32_t to);
    void (*quantise_halves)(const cpl_amx_halves *h, uint32_t from, uint32_t to);
    void (*quantise_activated)(const cpl_amx_halves *h, uint32_t from, uint32_t to);
} cpl_amx_kernels;

extern const cpl_amx_kernels cpl_amx_table;

/* The table's parts; name##_model where the tests compile them against tiles in software. */
#define CPL_AMX_DECLARE(name)                                                                                          \
    void name(cpl_amx_gemm_run)(const cpl_amx_gemm *g);                                                                \
    void name(cpl_amx_attention_run)(const cpl_amx_attention *a);                                                      \
    size_t name(cpl_amx_attention_room)(uint32_t keys, uint32_t head_size);                                            \
    void name(cpl_amx_put_row)(const float *x, uint32_t n, void *tiles, uint32_t row);                                 \
    void name(cpl_amx_get_row)(float *x, uint32_t n, const void *tiles, uint32_t row);                                 \
    void name(cpl_amx_norm)(const cpl_amx_rows *r, uint32_t from, uint32_t to);                                        \
    void name(cpl_amx_quantise_halves)(const cpl_amx_halves *h, uint32_t from, uint32_t to);                           \
    void name(cpl_amx_quantise_activated)(const cpl_amx_halves *h, uint32_t from, uint32_t to);                        \
    extern const cpl_amx_kernels name(cpl_amx_table)

/* 1 when the operating system lets this process use tiles; asks it. Linux only, before the first begin(). */
int cpl_amx_permit(void);

/* In what order the columns of a k step of 64 lie in int8 A tiles that come from half tiles: position p holds column
 * order(p). bf16 stays as it is. */
uint32_t cpl_amx_order_halves(uint32_t p);
/* Attention's output of a head: position p holds column order(p) of each 32. */
uint32_t cpl_amx_order_context(uint32_t p);
/* Column of a panel that lies in tile t, place c, where int8 sums become halves; elsewhere 16 t + c. */
static inline uint32_t cpl_amx_half_column(uint32_t t, uint32_t c) { return 2 * c + t; }

#endif
