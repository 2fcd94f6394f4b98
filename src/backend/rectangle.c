/* SPDX-License-Identifier: Apache-2.0 */
/* rectangle.c - packed sequences as padded rectangles.
 *
 * Longest first, a rectangle is as wide as its first row; the next sequence joins while the padding it adds to the
 * rectangle stays below what another launch would cost (`launch_tokens`). That is one pass after the sort; the optimal
 * split (dynamic programming) saves under a percent on real length mixes. Nothing allocates: shell sort in the caller's
 * array (qsort may call malloc).
 *
 * Invariants: every sequence is in exactly one rectangle; rows x width <= tokens_max unless rows is 1. Threads: none.
 */
#include "backend/rectangle.h"

#include "base/error.h"

static uint32_t length_of(const cpl_batch *b, uint32_t i) { return b->cu_seqlens[i + 1] - b->cu_seqlens[i]; }

/* Longer first, then as in the batch. */
static int before(const cpl_batch *b, uint32_t i, uint32_t j)
{
    uint32_t li = length_of(b, i), lj = length_of(b, j);
    return li != lj ? li > lj : i < j;
}

static void sort(uint32_t *order, const cpl_batch *b)
{
    static const uint32_t gaps[] = {1750, 701, 301, 132, 57, 23, 10, 4, 1};
    for (size_t g = 0; g < sizeof gaps / sizeof *gaps; g++) {
        for (uint32_t i = gaps[g]; i < b->n; i++) {
            uint32_t moving = order[i], j = i;
            for (; j >= gaps[g] && before(b, moving, order[j - gaps[g]]); j -= gaps[g]) order[j] = order[j - gaps[g]];
            order[j] = moving;
        }
    }
}

static uint32_t rounded(uint32_t length, uint32_t multiple)
{
    return multiple > 1 ? (length + multiple - 1) / multiple * multiple : length;
}

static int joins(const cpl_rectangle *r, uint64_t padding, uint32_t length, const cpl_rectangle_limits *l)
{
    if (l->rows_max && r->rows >= l->rows_max) return 0;
    if (l->tokens_max && (uint64_t)(r->rows + 1) * r->width > l->tokens_max) return 0;
    return rounded(length, l->width_multiple) == r->width || padding + (r->width - length) <= l->launch_tokens;
}

cpl_status cpl_rectangle_plan_make(cpl_rectangle_plan *plan, const cpl_batch *b, const cpl_rectangle_limits *l,
                                   cpl_error *err)
{
    if (b->n > plan->n_max)
        return cpl_fail(err, CPL_INVALID, "batch of %u sequences is larger than the plan's %u", b->n, plan->n_max);
    for (uint32_t i = 0; i < b->n; i++) plan->order[i] = i;
    sort(plan->order, b);
    plan->count = 0;
    plan->tokens_real = b->n ? b->cu_seqlens[b->n] : 0;
    plan->tokens_padding = 0;
    uint64_t padding = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        uint32_t length = length_of(b, plan->order[i]);
        cpl_rectangle *r = plan->count ? &plan->rectangles[plan->count - 1] : NULL;
        if (!r || !joins(r, padding, length, l)) {
            r = &plan->rectangles[plan->count++];
            *r = (cpl_rectangle){.first = i, .width = rounded(length, l->width_multiple)};
            padding = 0;
        }
        r->rows++;
        padding += r->width - length;
        plan->tokens_padding += r->width - length;
    }
    return CPL_OK;
}

void cpl_rectangle_fill(const cpl_rectangle_plan *plan, uint32_t rectangle, const cpl_batch *b, int32_t pad_id,
                        const cpl_rectangle_tensors *out)
{
    CPL_ASSERT(rectangle < plan->count);
    const cpl_rectangle *r = &plan->rectangles[rectangle];
    for (uint32_t row = 0; row < r->rows; row++) {
        uint32_t i = plan->order[r->first + row], length = length_of(b, i);
        size_t from = b->cu_seqlens[i], to = (size_t)row * r->width;
        for (uint32_t k = 0; k < length; k++) {
            out->ids[to + k] = b->ids[from + k];
            out->type_ids[to + k] = b->type_ids[from + k];
            out->mask[to + k] = 1;
        }
        for (uint32_t k = length; k < r->width; k++) {
            out->ids[to + k] = pad_id;
            out->type_ids[to + k] = out->mask[to + k] = 0;
        }
    }
}

const cpl_rectangle_helper cpl_rectangles = {sizeof(cpl_rectangle_helper), cpl_rectangle_plan_make, cpl_rectangle_fill};
