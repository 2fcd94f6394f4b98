/* SPDX-License-Identifier: Apache-2.0 */
/* lane.h - the parts of a layer, as one thread runs them over rows of its own or a team over rows it shares. */
#ifndef CPL_BACKEND_NATIVE_LANE_H
#define CPL_BACKEND_NATIVE_LANE_H

#include "backend/native/native.h"

typedef struct cpl_native_pass {
    cpl_session *s;
    const cpl_weights *w;
    const cpl_batch *batch;
} cpl_native_pass;

/* Who runs: with a team, every part is a stage that its members split by columns, heads or rows; without, the calling
 * thread does all of it in scratch that no other lane of the pass uses. */
typedef struct cpl_native_lane {
    const cpl_native_pass *pass;
    cpl_team *team;
    uint32_t members;
    uint32_t index;               /* whose counts of the session's stages */
    uint32_t block;               /* rows that go through a product together, at most */
    float *mid;                   /* block x intermediate */
    float **scratch;              /* one a member */
    cpl_native_operand converted; /* block rows */
} cpl_native_lane;

/* The whole session's scratch, for a team (NULL: alone). */
cpl_native_lane cpl_native_lane_whole(const cpl_native_pass *p, cpl_team *team, uint32_t members);
/* One of `members` lanes that run at once, each alone. */
cpl_native_lane cpl_native_lane_of(const cpl_native_pass *p, uint32_t member, uint32_t members);

/* Member's share of `total` units. */
void cpl_native_share(uint32_t total, uint32_t members, uint32_t member, uint32_t *from, uint32_t *to);

/* A group of sequences [first, end), and which of its rows: [from, to). Keys and values of all its rows lie in k and v,
 * queries in q, a row for each of the group's, attention's output replaces them. With cls, q has a row a sequence, and
 * from and to aren't used. */
typedef struct cpl_native_group {
    uint32_t first, end, from, to;
    float *q, *k, *v;
    int cls;
} cpl_native_group;

/* x of rows [from, to) of the pass: word + type + position, normalised. */
void cpl_native_embed(const cpl_native_lane *l, uint32_t from, uint32_t to);
/* Q (unless cls), K and V of the group's rows [from, to). */
void cpl_native_project(const cpl_native_lane *l, const cpl_native_layer *y, const cpl_native_group *g);
void cpl_native_attend(const cpl_native_lane *l, const cpl_native_group *g);
/* What follows attention, row by row: output projection, residual, norm, FFN, residual, norm. x in place. */
void cpl_native_finish(const cpl_native_lane *l, const cpl_native_layer *y, float *x, const float *context,
                       uint32_t rows);
/* c = epilogue(a m^T + bias), in blocks of rows. */
void cpl_native_project_one(const cpl_native_lane *l, cpl_native_stage stage, const cpl_native_matrix *m,
                            const float *a, size_t lda, uint32_t rows, float *c, size_t ldc, cpl_epilogue epilogue);

#endif
