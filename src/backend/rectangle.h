/* SPDX-License-Identifier: Apache-2.0 */
/* rectangle.h - packed sequences as padded rectangles, for runtimes that know nothing else; and what that costs.
 *
 * A backend sizes a plan once for the most sequences a pass may have, plans each batch, and for each rectangle fills
 * its input tensors and later finds the batch's row of rectangle row i at plan->order[rectangle->first + i]. */
#ifndef CPL_BACKEND_RECTANGLE_H
#define CPL_BACKEND_RECTANGLE_H

#include "backend/backend.h"

typedef struct cpl_rectangle {
    uint32_t first, rows; /* plan->order[first .. first + rows) */
    uint32_t width;       /* padded length of each row */
} cpl_rectangle;

typedef struct cpl_rectangle_limits {
    uint32_t rows_max;       /* of a rectangle; 0: no limit */
    uint32_t tokens_max;     /* rows x width; 0: no limit; a single longer row stands alone */
    uint32_t width_multiple; /* widths are rounded up to it; 0: 1 */
    uint32_t launch_tokens;  /* what one more rectangle costs, in tokens: padding up to that is cheaper */
} cpl_rectangle_limits;

typedef struct cpl_rectangle_plan {
    uint32_t *order;           /* caller's, n_max entries */
    cpl_rectangle *rectangles; /* caller's, n_max entries */
    uint32_t n_max;
    uint32_t count;                       /* rectangles in use */
    uint64_t tokens_real, tokens_padding; /* of this batch */
} cpl_rectangle_plan;

/* Input tensors of one rectangle, rows x width each, row-major, as runtimes want them. */
typedef struct cpl_rectangle_tensors {
    int64_t *ids, *type_ids, *mask; /* caller's */
} cpl_rectangle_tensors;

/* Groups by length, longest first, the order within equal lengths kept: the same batch gives the same plan. */
cpl_status cpl_rectangle_plan_make(cpl_rectangle_plan *plan, const cpl_batch *batch, const cpl_rectangle_limits *limits,
                                   cpl_error *err);
void cpl_rectangle_fill(const cpl_rectangle_plan *plan, uint32_t rectangle, const cpl_batch *batch, int32_t pad_id,
                        const cpl_rectangle_tensors *out);

/* The same as the host lends it to plug-ins. */
typedef struct cpl_rectangle_helper {
    uint32_t size; /* sizeof(cpl_rectangle_helper) */
    cpl_status (*make)(cpl_rectangle_plan *plan, const cpl_batch *batch, const cpl_rectangle_limits *limits,
                       cpl_error *err);
    void (*fill)(const cpl_rectangle_plan *plan, uint32_t rectangle, const cpl_batch *batch, int32_t pad_id,
                 const cpl_rectangle_tensors *out);
} cpl_rectangle_helper;
extern const cpl_rectangle_helper cpl_rectangles;

#endif
