/* SPDX-License-Identifier: Apache-2.0 */
/* timing.h - how fast each kernel is on the shapes of a 384-wide model, beside the peak of its instructions: what
 * kerncheck --bench and `couplet bench kernel` print.
 *
 * To have a kernel timed: a cpl_timing_kind in a timing_*.c (what it allocates, what one run does, which peak it is
 * held against), its rows {kind, shape, sizes}, and that list in timing.c. */
#ifndef CPL_KERNEL_TIMING_H
#define CPL_KERNEL_TIMING_H

#include <stdbool.h>

#include "base/arena.h"
#include "kernel/kernels.h"

/* The best of many short samples, the peak loop in turn with them, on the calling thread. */
typedef struct cpl_timing {
    const char *kernel, *shape; /* "gemm_f32", "96x1536x384 gelu" */
    const char *isa;            /* what the kernels at work call themselves */
    const char *peak;           /* the loop beside, or NULL: a kernel that isn't multiply-adds has none */
    double ops_per_s;           /* a multiply-add counts 2; 0 where peak is NULL */
    double peak_ops_per_s;      /* likewise */
    double elements_per_s;      /* of its output */
} cpl_timing;

size_t cpl_timing_count(void);
const char *cpl_timing_kernel(size_t i);
/* Whether this table has the kernel of timing i. */
bool cpl_timing_runs(size_t i, const cpl_kernels *k);
/* Measures for about `seconds`. `isa` is the rung that *k was chosen for. CPL_NO_MEMORY. */
cpl_status cpl_timing_measure(cpl_timing *out, size_t i, const cpl_kernels *k, cpl_isa isa, double seconds,
                              cpl_error *err);

/* ---- for timing_*.c ---------------------------------------------------------------------------------------------- */

typedef struct cpl_timing_size {
    uint32_t a, b, c; /* what the kind makes of them: m, n, k; keys, head size; rows, n */
    cpl_epilogue epilogue;
} cpl_timing_size;

/* The usual counts: a x b elements; a product of a x b by c. */
double cpl_timing_cells(const cpl_timing_size *s);
double cpl_timing_gemm_ops(const cpl_timing_size *s);

typedef struct cpl_timing_kind {
    const char *kernel;
    bool (*present)(const cpl_kernels *k);        /* NULL: always */
    const char *(*isa)(const cpl_kernels *k);     /* NULL: k->isa */
    double (*peak)(cpl_isa isa, uint32_t us);     /* NULL: none */
    const char *(*peak_name)(cpl_isa isa);        /* NULL with peak NULL */
    double (*ops)(const cpl_timing_size *s);      /* of one run; NULL with peak NULL */
    double (*elements)(const cpl_timing_size *s); /* of one run */
    /* What run is given; everything from the arena. NULL when memory is out. */
    void *(*open)(cpl_arena *arena, const cpl_kernels *k, const cpl_timing_size *s);
    void (*run)(const cpl_kernels *k, void *state);
} cpl_timing_kind;

typedef struct cpl_timing_row {
    const cpl_timing_kind *kind;
    const char *shape;
    cpl_timing_size size;
} cpl_timing_row;

/* Rows of each file, ended by {0}. */
extern const cpl_timing_row cpl_timing_rows_f32[], cpl_timing_rows_i8[], cpl_timing_rows_h16[];

/* Attention of s->a keys, head size s->b (timing_f32.c): the call's arguments, and its operations. */
void *cpl_timing_attention(cpl_arena *arena, const cpl_timing_size *s, size_t scratch_floats);
double cpl_timing_attention_ops(const cpl_timing_size *s);

/* n floats at a page's start, in a fixed pattern within +-1; NULL when memory is out. */
float *cpl_timing_floats(cpl_arena *arena, size_t n);

#endif
