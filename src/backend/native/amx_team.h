/* SPDX-License-Identifier: Apache-2.0 */
/* amx_team.h - a short pass by a team on tiles: every member keeps what it made. */
#ifndef CPL_BACKEND_NATIVE_AMX_TEAM_H
#define CPL_BACKEND_NATIVE_AMX_TEAM_H

#include "backend/native/amx.h"

/* 1 when a pass over the batch goes this way: int8, at most CPL_AMX_TEAM_ROWS tokens, more than one member. */
int cpl_amx_team_suits(const cpl_amx_session *s, const cpl_batch *batch, uint32_t members);
/* All layers: last hidden states to s->x, or with cls_only those of [CLS] to s->cls. Bits are those of a pass alone. */
void cpl_amx_team_run(cpl_amx_session *s, const cpl_batch *batch, cpl_team *team, uint32_t members, int cls_only);

/* An fp32 product whose panels the members share. */
typedef struct cpl_amx_head {
    const cpl_kernels *kernels;
    const cpl_gemm_f32 *whole; /* panel_begin 0 */
    uint32_t members;
} cpl_amx_head;

void cpl_amx_team_gemm(const cpl_amx_head *x, cpl_team *team);

#endif
