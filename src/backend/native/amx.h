/* SPDX-License-Identifier: Apache-2.0 */
/* amx.h - the AMX path's files among themselves: int8 and bf16 on tiles, the whole pass in layouts of its own. */
#ifndef CPL_BACKEND_NATIVE_AMX_H
#define CPL_BACKEND_NATIVE_AMX_H

#include "backend/native/native.h"
#include "kernel/amx.h"

/* How the work is cut. Speed only, but for `part`: results have the same bits whatever else stands here. */
typedef struct cpl_amx_tuning {
    uint32_t tiles;        /* row tiles of a block, 1 or 2 */
    uint32_t split;        /* bytes of K that a block goes through at once, a multiple of 64 */
    uint32_t rows;         /* that go through a product and the sweep after it together; a multiple of 32 */
    uint32_t block_rows;   /* about as many rows go through attention and what it needs together, 0: all */
    uint32_t inner_rows;   /* as many go through all parts of the FFN together, 0: all; a multiple of 32 */
    uint32_t ahead;        /* lines of the weights needed next fetched into L2 a k step, at most; 0: none */
    uint32_t batch_tokens; /* recommended tokens a pass */
    uint32_t part;         /* of the FFN's inner columns, dealt with at a time and quantised by a scale each; a multiple
                            * of 64 */
} cpl_amx_tuning;

extern const cpl_amx_tuning cpl_amx_tuned[2]; /* int8, bf16 */

/* A matrix as panels. The bias is that of the quantised product: what shifts and folds do to it is in it. It lies in
 * parts of so many panels or k steps, each a matrix of its own, part_bytes apart; most have one. */
typedef struct cpl_amx_matrix {
    char *b;
    float *scale, *bias;
    uint16_t *scale16, *bias16; /* int8: of products that become halves */
    float input16;              /* those: rows' scales times this are row_scale16 */
    uint32_t shift;
    uint32_t n, k, steps;
    uint32_t parts, part_panels, part_steps;
    size_t part_bytes;
} cpl_amx_matrix;

typedef struct cpl_amx_norm_weights {
    uint16_t *gamma, *beta;     /* halves */
    uint16_t *q_gamma, *q_beta; /* of what the next product reads */
    int down;                   /* how far its input is scaled down to be squared */
} cpl_amx_norm_weights;

typedef struct cpl_amx_layer {
    cpl_amx_matrix qkv, out, up, down;
    cpl_amx_norm_weights attention_norm, output_norm;
    cpl_amx_activation activation;
} cpl_amx_layer;

/* Read-only after load. All arrays lie in one block. */
typedef struct cpl_amx_weights {
    cpl_native_head head;
    cpl_host host;
    const cpl_amx_kernels *amx;
    cpl_kernels kernels; /* fp32: embedding, pooling, pooler and classifier */
    cpl_precision precision;
    cpl_amx_tuning tuning;
    cpl_arch arch;
    cpl_pooling pooling;
    cpl_native_limits limits;
    int stages;
    float shift;  /* int8: the activation's output is stored with this added */
    float *zeros; /* as many as the hidden size: the bias of all parts of a sum but the first */
    cpl_native_words words;
    float *position, *type;
    cpl_amx_norm_weights embedding_norm;
    cpl_amx_layer *layers;
    cpl_native_matrix pooler, classifier;
    void *block;
    size_t block_bytes;
} cpl_amx_weights;

/* What a team's member keeps for itself in a pass of so many rows (amx_team.c). */
enum { CPL_AMX_TEAM_ROWS = 64 };

typedef struct cpl_amx_own {
    char *x[3];               /* half tiles of residual rows */
    char *a, *cls_a, *mid_a;  /* A tiles */
    float *scale, *cls_scale; /* of their rows */
    uint32_t *scale16;
    float *mid_scale;
    uint32_t *mid_scale16;
} cpl_amx_own;

/* A team member's own scratch. */
typedef struct cpl_amx_member {
    void *scratch, *partial, *attention;
    cpl_amx_own own; /* int8 */
} cpl_amx_member;

typedef struct cpl_amx_session {
    cpl_native_head head;
    const cpl_amx_weights *weights;
    size_t x_stride;    /* floats, of fp32 rows */
    size_t rows;        /* padded */
    size_t panel_bytes; /* of q, k, v */
    char *x, *cls;      /* residual stream, rows of [CLS]: half tiles */
    float *wide;        /* fp32 rows, where results come from them */
    char *a, *cls_a;    /* A tiles of the hidden size */
    float *row_scale, *cls_scale;
    uint32_t *row_scale16, *cls_scale16;
    char *qkv, *cls_q; /* panels of bf16 rows */
    char *context;     /* int8: half tiles */
    char *mid, *mid_a; /* int8: half tiles of inner rows, A tiles; bf16: mid_a only; alone, of a part of a few rows */
    float *mid_scale;
    uint32_t *mid_scale16;
    size_t mid_part,
        mid_a_part;      /* bytes, and `rows` scales, from part to part where a team makes all of them at once */
    cpl_amx_ahead ahead; /* what is left to fetch */
    cpl_amx_member member[CPL_NATIVE_TEAM_MAX];
    uint64_t stage_ns[CPL_NATIVE_STAGES];
    double stage_ops[CPL_NATIVE_STAGES];
    uint64_t passes, tokens;
    void *block;
    size_t block_bytes;
} cpl_amx_session;

/* What a load is made with; cpl_native_amx uses the hardware's kernels and cpl_amx_tuned. */
cpl_status cpl_amx_load_with(cpl_weights **out, const cpl_model *model, const cpl_load_options *options,
                             const cpl_native_settings *settings, cpl_load_report *report, const cpl_host *host,
                             const cpl_amx_kernels *kernels, const cpl_amx_tuning *tuning, cpl_error *err);
void cpl_amx_unload(cpl_weights *w);
cpl_status cpl_amx_open(cpl_session **out, cpl_weights *w, cpl_error *err);
void cpl_amx_close(cpl_session *s);
cpl_status cpl_amx_run(cpl_session *s, const cpl_batch *batch, cpl_team *team, float *rows, cpl_error *err);

void cpl_amx_stages(const cpl_session *s, uint64_t *ns, double *ops);

/* Part i of m as a matrix of its own. What is added to a sum is added with its first part. */
cpl_amx_matrix cpl_amx_part(const cpl_amx_weights *w, const cpl_amx_matrix *m, uint32_t i);
/* Of panels [from, to) of m those of its part i, counted from the part's first; none if from is to. */
void cpl_amx_part_panels(const cpl_amx_matrix *m, uint32_t i, uint32_t *from, uint32_t *to);
/* What the norm makes of the residual rows at x: rows for the next product in a, with their scales. input16 is that
 * product's if it makes halves, else 0. */
cpl_amx_rows cpl_amx_norm_rows(const cpl_amx_weights *w, const cpl_amx_norm_weights *norm, char *x, char *a,
                               float *scale, uint32_t *scale16, float input16);

/* 1 when the model's shapes fit the tiles. */
int cpl_amx_fits(const cpl_model *model);

extern const cpl_native_path cpl_native_amx;

#endif
