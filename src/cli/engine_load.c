/* SPDX-License-Identifier: Apache-2.0 */
/* engine_load.c - what `bench engine` runs, made before anything is timed.
 * The idea: operations are counted here from shapes and real lengths, by the formula that every report uses, and not
 * by the backend that is being measured. No state, no threads. */
#include "cli/engine_load.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/random.h"
#include "load/workload.h"

enum { FIXED_TOKENS = 1 << 21, SPARE_SEQUENCES = 64, MIX_TOKENS_MAX = 1 << 22, MIX_GENERATED = 2000 };

static double sequence_ops(const cpl_scorer_info *m, double s, bool useful)
{
    double h = m->hidden, i = m->intermediate;
    double layer = s * (4 * h * h + 2 * h * i) + 2 * s * s * h;
    double last = layer;
    if (useful && m->cls_only) last = s * 2 * h * h + 2 * h * h + 2 * s * h + 2 * h * i;
    double head = m->task == CPL_TASK_CROSS_ENCODER ? h * h + h * m->labels : 0;
    return 2 * ((m->layers - 1) * layer + last + head);
}

double cpl_engine_load_ops(const cpl_engine_load *l, size_t from, size_t n, const cpl_scorer_info *info, bool useful)
{
    double ops = 0;
    for (size_t i = from; i < from + n; i++) ops += sequence_ops(info, l->cu_seqlens[i + 1] - l->cu_seqlens[i], useful);
    return ops;
}

void cpl_engine_load_deinit(cpl_engine_load *l)
{
    free(l->ids);
    free(l->type_ids);
    free(l->cu_seqlens);
    *l = (cpl_engine_load){0};
}

static cpl_status take_memory(cpl_engine_load *l, size_t n, size_t tokens, cpl_error *err)
{
    *l = (cpl_engine_load){0};
    l->ids = malloc(tokens * sizeof *l->ids);
    l->type_ids = calloc(tokens, 1);
    l->cu_seqlens = calloc(n + 1, sizeof *l->cu_seqlens);
    if (l->ids && l->type_ids && l->cu_seqlens) return CPL_OK;
    cpl_engine_load_deinit(l);
    return cpl_fail_memory(err, tokens * sizeof *l->ids);
}

cpl_status cpl_engine_load_fixed(cpl_engine_load *l, uint32_t length, const cpl_scorer_info *info, cpl_error *err)
{
    size_t n = FIXED_TOKENS / length + SPARE_SEQUENCES;
    cpl_status st = take_memory(l, n, n * length, err);
    if (st) return st;
    uint64_t state = length;
    for (size_t i = 0; i < n * length; i++) l->ids[i] = (int32_t)(cpl_random_next(&state) % info->vocab);
    for (size_t i = 0; i <= n; i++) l->cu_seqlens[i] = (uint32_t)(i * length);
    l->n = n;
    snprintf(l->name, sizeof l->name, "%u", length);
    return CPL_OK;
}

static cpl_status tokenize_all(cpl_engine_load *l, const cpl_pool *pool, size_t count, cpl_scorer *scorer,
                               cpl_error *err)
{
    uint32_t longest = cpl_scorer_describe(scorer)->max_length;
    const cpl_pair *pairs = cpl_pool_pairs(pool);
    size_t tokens = 0;
    for (size_t i = 0; i < count; i++) {
        size_t got = 0;
        cpl_status st = cpl_scorer_tokenize(scorer, pairs[i].query, &pairs[i].document, longest, l->ids + tokens,
                                            l->type_ids + tokens, longest, &got, err);
        if (st) return st;
        tokens += got;
        l->cu_seqlens[++l->n] = (uint32_t)tokens;
    }
    return CPL_OK;
}

cpl_status cpl_engine_load_pairs(cpl_engine_load *l, const char *path, cpl_scorer *scorer, cpl_error *err)
{
    cpl_pool *pool;
    *l = (cpl_engine_load){0};
    cpl_status st = cpl_pool_open(&pool, path, 1, MIX_GENERATED, err);
    if (st) return st;
    uint32_t longest = cpl_scorer_describe(scorer)->max_length;
    size_t n = cpl_pool_size(pool);
    if (n > MIX_TOKENS_MAX / longest) n = MIX_TOKENS_MAX / longest;
    st = take_memory(l, n, n * longest, err);
    if (!st) st = tokenize_all(l, pool, n, scorer, err);
    cpl_pool_close(pool);
    if (st) cpl_engine_load_deinit(l);
    snprintf(l->name, sizeof l->name, "mix");
    return st;
}
