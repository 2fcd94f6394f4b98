/* SPDX-License-Identifier: Apache-2.0 */
/* amx_session.c - one thread's scratch for the AMX path, taken whole at open.
 *
 * Rows are those of the largest pass, rounded up to blocks of 32, and one block more, since tiles are read whole. What
 * a pass writes and soon reads lies in few arrays: the context's A tiles replace the layer's input, and each block of
 * rows has its Q, K, V and inner rows where the one before had them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/native/amx.h"
#include "base/error.h"
#include "base/log.h"

enum { BLOCK = 32, LINE = 64 };

static char *take(cpl_native_bump *b, size_t bytes)
{
    return (char *)cpl_native_take(b, (bytes + sizeof(float) - 1) / sizeof(float));
}

static void take_own(const cpl_amx_weights *w, cpl_amx_own *o, cpl_native_bump *b)
{
    const size_t rows = CPL_AMX_TEAM_ROWS, tiles = rows / 16 * (size_t)1024;
    const cpl_amx_layer *y = &w->layers[0];
    for (int i = 0; i < 3; i++) o->x[i] = take(b, rows * w->arch.hidden * 2);
    o->a = take(b, tiles * y->qkv.steps);
    o->cls_a = take(b, tiles * y->qkv.steps);
    o->mid_a = take(b, tiles * y->down.steps);
    o->scale = cpl_native_take(b, rows);
    o->cls_scale = cpl_native_take(b, rows);
    o->scale16 = (uint32_t *)(void *)take(b, rows * 4);
    o->mid_scale = cpl_native_take(b, rows);
    o->mid_scale16 = (uint32_t *)(void *)take(b, rows * 4);
}

static void lay_out(cpl_amx_session *s, cpl_native_bump *b)
{
    const cpl_amx_weights *w = s->weights;
    const cpl_amx_layer *y = &w->layers[0];
    const int int8 = w->precision == CPL_PRECISION_INT8;
    const size_t rows = s->rows, h = w->arch.hidden, panels = h / CPL_AMX_PANEL;
    const size_t cls = (w->limits.sequences_max + BLOCK - 1) / BLOCK * BLOCK + BLOCK;
    s->x = take(b, rows * h * 2);
    s->cls = take(b, cls * h * 2);
    s->wide = cpl_native_take(b, (rows + cls) * s->x_stride);
    s->a = take(b, rows / 16 * y->qkv.steps * 1024);
    s->cls_a = take(b, cls / 16 * y->qkv.steps * 1024);
    s->row_scale = cpl_native_take(b, rows);
    s->cls_scale = cpl_native_take(b, cls);
    s->row_scale16 = (uint32_t *)(void *)take(b, rows * 4);
    s->cls_scale16 = (uint32_t *)(void *)take(b, cls * 4);
    s->qkv = take(b, 3 * panels * s->panel_bytes);
    s->cls_q = take(b, panels * s->panel_bytes);
    s->mid_part = rows * y->up.part_panels * CPL_AMX_PANEL * 2;
    s->mid_a_part = rows / 16 * y->down.part_steps * 1024;
    s->mid_a = take(b, y->down.parts * s->mid_a_part);
    if (int8) {
        s->context = take(b, rows * h * 2);
        s->mid = take(b, y->up.parts * s->mid_part);
        s->mid_scale = cpl_native_take(b, y->up.parts * rows);
        s->mid_scale16 = (uint32_t *)(void *)take(b, y->up.parts * rows * 4);
    }
    for (int i = 0; i < CPL_NATIVE_TEAM_MAX; i++) {
        s->member[i].scratch = take(b, CPL_AMX_TILES_MAX * 2048);
        s->member[i].partial = take(b, panels * CPL_AMX_TILES_MAX * 2048);
        s->member[i].attention = take(b, w->amx->attention_scratch(w->limits.max_length, w->arch.head_size));
        if (int8) take_own(w, &s->member[i].own, b);
    }
}

cpl_status cpl_amx_open(cpl_session **out, cpl_weights *weights, cpl_error *err)
{
    const cpl_amx_weights *w = (const cpl_amx_weights *)(const void *)weights;
    *out = NULL;
    cpl_amx_session *s = calloc(1, sizeof *s);
    if (!s) return cpl_fail_memory(err, sizeof *s);
    s->head = w->head;
    s->weights = w;
    s->rows = (w->limits.tokens_max + BLOCK - 1) / BLOCK * (size_t)BLOCK + BLOCK;
    s->x_stride = cpl_row_stride(w->arch.hidden);
    s->panel_bytes = s->rows * LINE;
    cpl_native_bump count = {NULL, 0};
    lay_out(s, &count);
    s->block = w->host.allocate(count.used, 4096);
    if (!s->block) {
        free(s);
        return cpl_fail_memory(err, count.used);
    }
    s->block_bytes = count.used;
    cpl_native_bump into = {s->block, 0};
    lay_out(s, &into);
    *out = (cpl_session *)(void *)s;
    return CPL_OK;
}

void cpl_amx_stages(const cpl_session *session, uint64_t *ns, double *ops)
{
    const cpl_amx_session *s = (const cpl_amx_session *)(const void *)session;
    memcpy(ns, s->stage_ns, sizeof s->stage_ns);
    memcpy(ops, s->stage_ops, sizeof s->stage_ops);
}

static void log_stages(const cpl_amx_session *s)
{
    static const char *const names[CPL_NATIVE_STAGES] = {"embedding", "qkv",   "attention", "output", "ffn up",
                                                         "ffn down",  "norms", "quantise",  "head"};
    double total = 0;
    for (int i = 0; i < CPL_NATIVE_STAGES; i++) total += (double)s->stage_ns[i];
    if (total <= 0) return;
    char line[640];
    int used = snprintf(line, sizeof line, "native amx stages, %.3f s in %llu passes of %llu tokens:", total * 1e-9,
                        (unsigned long long)s->passes, (unsigned long long)s->tokens);
    for (int i = 0; i < CPL_NATIVE_STAGES; i++) {
        if (!s->stage_ns[i]) continue;
        used += snprintf(line + used, sizeof line - (size_t)used, " %s %.1f %% (%.0f ns/token, %.0f GOP/s)", names[i],
                         100 * (double)s->stage_ns[i] / total, (double)s->stage_ns[i] / (double)s->tokens,
                         s->stage_ops[i] / (double)s->stage_ns[i]);
        used += snprintf(line + used, sizeof line - (size_t)used, i + 1 < CPL_NATIVE_STAGES ? "," : "");
    }
    cpl_log_write(s->weights->host.log, CPL_LOG_INFO, "%s", line);
}

void cpl_amx_close(cpl_session *session)
{
    cpl_amx_session *s = (cpl_amx_session *)(void *)session;
    if (!s) return;
    if (s->weights->stages) log_stages(s);
    s->weights->host.release(s->block, s->block_bytes);
    free(s);
}
