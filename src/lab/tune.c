/* SPDX-License-Identifier: Apache-2.0 */
/* tune.c - coarse, local, final. The one idea: dimensions are nearly independent (a precision that is twice as fast is
 * so under every policy), so after one look at what differs most, a walk along one axis at a time finds the top with a
 * few dozen measurements where the grid has hundreds; what noise got wrong, the interleaved final puts right.
 * Invariant: nothing that isn't allowed wins. Threads: the caller's. Rejected: a model fitted to the measurements (more
 * machinery than candidates). */
#include "lab/tune.h"

#include <string.h>

#include "base/error.h"
#include "load/measure.h"

#define NEAR_PART 0.67

typedef struct search {
    cpl_tune *out;
    const cpl_tune_space *space;
    cpl_tune_measure *measure;
    void *user;
} search;

static int find(const cpl_tune *t, const uint32_t *at)
{
    for (uint32_t i = 0; i < t->count; i++)
        if (!memcmp(t->tried[i].at, at, sizeof t->tried[i].at)) return (int)i;
    return -1;
}

/* Measures `at` unless it was; *index: where it is, -1 when no more fit. */
static cpl_status look(const search *s, const uint32_t *at, int *index, cpl_error *err)
{
    *index = find(s->out, at);
    if (*index >= 0 || s->out->count == CPL_TUNE_TRIED_MAX) return CPL_OK;
    cpl_tune_tried *t = &s->out->tried[s->out->count];
    *t = (cpl_tune_tried){0};
    memcpy(t->at, at, sizeof t->at);
    cpl_status st = s->measure(s->user, t, 0, err);
    if (st) return st;
    *index = (int)s->out->count++;
    return CPL_OK;
}

static bool may_win(const search *s, const cpl_tune_tried *t)
{
    return s->space->allowed[t->at[CPL_TUNE_VARIANT]] && t->rate > 0;
}

static int best_of(const search *s)
{
    int best = -1;
    for (uint32_t i = 0; i < s->out->count; i++)
        if (may_win(s, &s->out->tried[i]) && (best < 0 || s->out->tried[i].rate > s->out->tried[best].rate))
            best = (int)i;
    return best;
}

static cpl_status coarse(const search *s, cpl_error *err)
{
    uint32_t at[CPL_TUNE_DIMENSIONS];
    int index;
    cpl_status st = CPL_OK;
    memcpy(at, s->space->start, sizeof at);
    for (uint32_t v = 0; !st && v < s->space->counts[CPL_TUNE_VARIANT]; v++) {
        at[CPL_TUNE_VARIANT] = v;
        at[CPL_TUNE_TOKENS] = s->space->tokens[v];
        st = look(s, at, &index, err);
    }
    const int best = best_of(s);
    const double near = best < 0 ? 0 : s->out->tried[best].rate * NEAR_PART;
    const uint32_t variants = s->out->count;
    for (uint32_t v = 0; !st && v < variants; v++) {
        /* Where the default policy holds at no rate, another may. */
        if (!s->space->allowed[s->out->tried[v].at[CPL_TUNE_VARIANT]] || s->out->tried[v].rate < near) continue;
        memcpy(at, s->out->tried[v].at, sizeof at);
        for (uint32_t p = 0; !st && p < s->space->counts[CPL_TUNE_POLICY]; p++) {
            at[CPL_TUNE_POLICY] = p;
            st = look(s, at, &index, err);
        }
    }
    return st;
}

/* One step from the best along `dimension`, then on in the direction that gains; *moved when it did. */
static cpl_status walk(const search *s, int dimension, bool *moved, cpl_error *err)
{
    cpl_status st = CPL_OK;
    for (int direction = -1; !st && direction <= 1; direction += 2) {
        for (int best = best_of(s); !st && best >= 0;) {
            uint32_t at[CPL_TUNE_DIMENSIONS];
            int index;
            memcpy(at, s->out->tried[best].at, sizeof at);
            const int64_t next = (int64_t)at[dimension] + direction;
            if (next < 0 || next >= s->space->counts[dimension]) break;
            at[dimension] = (uint32_t)next;
            const bool known = find(s->out, at) >= 0;
            st = look(s, at, &index, err);
            if (st || index < 0 || known || s->out->tried[index].rate <= s->out->tried[best].rate) break;
            *moved = true;
            best = index;
        }
    }
    return st;
}

static cpl_status local(const search *s, cpl_error *err)
{
    static const int order[] = {CPL_TUNE_WORKERS, CPL_TUNE_TOKENS, CPL_TUNE_POLICY};
    cpl_status st = CPL_OK;
    for (bool moved = true; !st && moved;) {
        moved = false;
        for (size_t d = 0; !st && d < sizeof order / sizeof *order; d++) st = walk(s, order[d], &moved, err);
    }
    return st;
}

/* Once more around, A B C A B C. */
static cpl_status decide(const search *s, cpl_error *err)
{
    int finalists[CPL_TUNE_VALUES_MAX];
    uint32_t n = 0;
    bool taken[CPL_TUNE_TRIED_MAX] = {false};
    cpl_status st = CPL_OK;
    while (n < s->space->finalists && n < CPL_TUNE_VALUES_MAX) {
        int best = -1;
        for (uint32_t i = 0; i < s->out->count; i++)
            if (!taken[i] && may_win(s, &s->out->tried[i]) &&
                (best < 0 || s->out->tried[i].rate > s->out->tried[best].rate))
                best = (int)i;
        if (best < 0) break;
        taken[best] = true;
        finalists[n++] = best;
    }
    for (uint32_t round = 1; !st && round <= s->space->rounds && round <= CPL_TUNE_ROUNDS_MAX; round++)
        for (uint32_t i = 0; !st && i < n; i++) {
            cpl_tune_tried *t = &s->out->tried[finalists[i]], again = *t;
            st = s->measure(s->user, &again, round, err);
            if (st) break;
            t->rounds[t->round_count++] = again.rate;
            t->latency_ms = again.latency_ms;
        }
    for (uint32_t i = 0; !st && i < n; i++) {
        cpl_tune_tried *t = &s->out->tried[finalists[i]];
        if (t->round_count) t->rate = cpl_median(t->rounds, t->round_count);
        if (t->rate > 0 && (s->out->best < 0 || t->rate > s->out->tried[s->out->best].rate))
            s->out->best = finalists[i];
    }
    return st;
}

cpl_status cpl_tune_search(cpl_tune *out, const cpl_tune_space *space, cpl_tune_measure *measure, void *user,
                           cpl_error *err)
{
    const search s = {out, space, measure, user};
    out->count = 0;
    out->best = -1;
    cpl_status st = coarse(&s, err);
    if (!st) st = local(&s, err);
    if (!st) st = decide(&s, err);
    return st;
}
