/* SPDX-License-Identifier: Apache-2.0 */
/* session.c - one thread's scratch, taken whole at open so that run allocates nothing.
 *
 * Sized for the largest pass the load options allow and for one sequence of the model's own limit, whichever is more.
 * q, k and v hold one group of sequences (forward.c), not the whole pass, so they stay in cache. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/native/native.h"
#include "base/error.h"
#include "base/log.h"

static void lay_out(cpl_session *s, cpl_native_bump *b)
{
    const cpl_weights *w = s->weights;
    const uint32_t group = w->block_rows > w->limits.max_length ? w->block_rows : w->limits.max_length;
    s->x = cpl_native_take(b, w->limits.tokens_max * s->hidden_stride);
    for (int i = 0; i < 2; i++) {
        s->q[i] = cpl_native_take(b, group * s->hidden_stride);
        s->k[i] = cpl_native_take(b, group * s->hidden_stride);
        s->v[i] = cpl_native_take(b, group * s->hidden_stride);
    }
    s->mid = cpl_native_take(b, w->block_rows * s->mid_stride);
    s->cls = cpl_native_take(b, w->limits.sequences_max * s->hidden_stride);
    s->cls_q = cpl_native_take(b, w->limits.sequences_max * s->hidden_stride);
    const uint32_t widest = w->arch.intermediate > w->arch.hidden ? w->arch.intermediate : w->arch.hidden;
    const size_t attention = (w->attention_bf16 ? cpl_attention_bf16_scratch : cpl_attention_f32_scratch)(
        &w->kernels, w->limits.max_length, w->arch.head_size);
    const size_t unpacked = cpl_native_scratch(&w->kernels, w->kind, widest);
    for (int i = 0; i < CPL_NATIVE_TEAM_MAX; i++)
        s->scratch[i] = cpl_native_take(b, attention > unpacked ? attention : unpacked);
    if (!s->converted.stride) return;
    s->converted.at = cpl_native_take(b, w->block_rows * s->converted.stride / sizeof(float));
    s->converted.scale = cpl_native_take(b, w->block_rows);
}

/* Bytes of a row of n in the widest form that any matrix needs. */
static size_t widest_row(const cpl_weights *w, uint32_t n)
{
    size_t most = 0;
    for (uint32_t l = 0; l < w->arch.layers; l++) {
        for (int i = 0; i < CPL_NATIVE_ITEMS; i++) {
            const size_t bytes = cpl_native_row_bytes(&w->kernels, w->kinds[l][i], n);
            if (bytes > most) most = bytes;
        }
    }
    return most;
}

cpl_status cpl_native_rows_open(cpl_session **out, cpl_weights *w, cpl_error *err)
{
    *out = NULL;
    cpl_session *s = calloc(1, sizeof *s);
    if (!s) return cpl_fail_memory(err, sizeof *s);
    s->head = w->head;
    s->weights = w;
    s->hidden_stride = cpl_row_stride(w->arch.hidden);
    s->mid_stride = cpl_row_stride(w->arch.intermediate);
    const uint32_t widest = w->arch.intermediate > w->arch.hidden ? w->arch.intermediate : w->arch.hidden;
    s->converted.stride = widest_row(w, widest);
    cpl_native_bump count = {NULL, 0};
    lay_out(s, &count);
    s->block = w->host.allocate(count.used, 4096);
    if (!s->block) {
        free(s);
        return cpl_fail_memory(err, count.used);
    }
    s->block_bytes = count.used;
    cpl_native_bump take = {s->block, 0};
    lay_out(s, &take);
    *out = s;
    return CPL_OK;
}

void cpl_native_rows_stages(const cpl_session *s, uint64_t *ns, double *ops)
{
    for (int i = 0; i < CPL_NATIVE_STAGES; i++) {
        ns[i] = 0;
        ops[i] = 0;
        for (int lane = 0; lane < CPL_NATIVE_TEAM_MAX; lane++) {
            ns[i] += s->stage_ns[lane][i];
            ops[i] += s->stage_flops[lane][i];
        }
    }
}

static void log_stages(const cpl_session *s)
{
    static const char *const names[CPL_NATIVE_STAGES] = {"embedding", "qkv",   "attention", "output", "ffn up",
                                                         "ffn down",  "norms", "rows",      "head"};
    uint64_t ns[CPL_NATIVE_STAGES];
    double total = 0, ops[CPL_NATIVE_STAGES];
    cpl_native_rows_stages(s, ns, ops);
    for (int i = 0; i < CPL_NATIVE_STAGES; i++) total += (double)ns[i];
    if (total <= 0) return;
    char line[640];
    int used = snprintf(line, sizeof line, "native stages, %.3f s in %llu passes of %llu tokens:", total * 1e-9,
                        (unsigned long long)s->passes, (unsigned long long)s->tokens);
    for (int i = 0; i < CPL_NATIVE_STAGES; i++) {
        if (i == CPL_NATIVE_CONVERT && !s->converted.stride) continue;
        used += snprintf(line + used, sizeof line - (size_t)used, " %s %.1f %%", names[i], 100 * (double)ns[i] / total);
        if (ops[i] > 0)
            used += snprintf(line + used, sizeof line - (size_t)used, " (%.1f GFLOP/s)", ops[i] / (double)ns[i]);
        used += snprintf(line + used, sizeof line - (size_t)used, i + 1 < CPL_NATIVE_STAGES ? "," : "");
    }
    cpl_log_write(s->weights->host.log, CPL_LOG_INFO, "%s", line);
}

void cpl_native_rows_close(cpl_session *s)
{
    if (!s) return;
    if (s->weights->stages) log_stages(s);
    s->weights->host.release(s->block, s->block_bytes);
    free(s);
}
