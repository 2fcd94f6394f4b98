/* SPDX-License-Identifier: Apache-2.0 */
/* timing.c - times kernels beside their peak.
 *
 * The idea: samples of a few milliseconds, the peak loop before each, and the best of both: a neighbour, a time slice
 * or a clock that moves can only make a sample worse. Samples are thread CPU time, so that waiting for a core is not
 * the kernel's. Rejected: the best ratio of one sample to its own peak, which a slow peak lifts. */
#include "kernel/timing.h"

#include "base/clock.h"
#include "base/error.h"

enum { SAMPLE_NS = 2000000, PEAK_US = 400, SAMPLES_MIN = 3 };

static const cpl_timing_row *const lists[] = {cpl_timing_rows_f32, cpl_timing_rows_i8, cpl_timing_rows_h16};

/* NULL beyond the last. */
static const cpl_timing_row *row_at(size_t i)
{
    for (size_t l = 0; l < sizeof lists / sizeof lists[0]; l++)
        for (const cpl_timing_row *r = lists[l]; r->kind; r++)
            if (!i--) return r;
    return NULL;
}

double cpl_timing_cells(const cpl_timing_size *s) { return (double)s->a * s->b; }
double cpl_timing_gemm_ops(const cpl_timing_size *s) { return 2.0 * s->a * s->b * s->c; }

size_t cpl_timing_count(void)
{
    size_t n = 0;
    while (row_at(n)) n++;
    return n;
}

const char *cpl_timing_kernel(size_t i) { return row_at(i)->kind->kernel; }

bool cpl_timing_runs(size_t i, const cpl_kernels *k)
{
    const cpl_timing_kind *kind = row_at(i)->kind;
    return !kind->present || kind->present(k);
}

float *cpl_timing_floats(cpl_arena *arena, size_t n)
{
    float *x = cpl_arena_take(arena, n * sizeof *x, 4096);
    uint64_t state = 1;
    for (size_t i = 0; x && i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        x[i] = (float)(int32_t)(state >> 32) * 0x1p-31f;
    }
    return x;
}

/* Seconds of one run, of `runs` in a row. */
static double sample(const cpl_timing_kind *kind, const cpl_kernels *k, void *state, uint64_t runs)
{
    const uint64_t start = cpl_clock_thread_cpu_ns();
    for (uint64_t i = 0; i < runs; i++) kind->run(k, state);
    return (double)(cpl_clock_thread_cpu_ns() - start) * 1e-9 / (double)runs;
}

cpl_status cpl_timing_measure(cpl_timing *out, size_t i, const cpl_kernels *k, cpl_isa isa, double seconds,
                              cpl_error *err)
{
    const cpl_timing_row *row = row_at(i);
    const cpl_timing_kind *kind = row->kind;
    cpl_arena arena;
    cpl_arena_init(&arena, 1 << 16, 0);
    void *state = kind->open(&arena, k, &row->size);
    if (!state) {
        cpl_arena_deinit(&arena);
        return cpl_fail(err, CPL_NO_MEMORY, "no memory to time %s %s", kind->kernel, row->shape);
    }
    uint64_t runs = 1;
    double best = sample(kind, k, state, runs), peak = 0; /* the first one warms up */
    while ((best = sample(kind, k, state, runs)) * (double)runs * 1e9 < SAMPLE_NS / 2) runs *= 2;
    const uint64_t end = cpl_clock_ns() + (uint64_t)(seconds * 1e9);
    for (uint32_t n = 0; n < SAMPLES_MIN || cpl_clock_ns() < end; n++) {
        const double beside = kind->peak ? kind->peak(isa, PEAK_US) : 0, each = sample(kind, k, state, runs);
        if (beside > peak) peak = beside;
        if (each < best) best = each;
    }
    cpl_arena_deinit(&arena);
    *out = (cpl_timing){.kernel = kind->kernel,
                        .shape = row->shape,
                        .isa = kind->isa ? kind->isa(k) : k->isa,
                        .peak = kind->peak ? kind->peak_name(isa) : NULL,
                        .ops_per_s = kind->peak ? kind->ops(&row->size) / best : 0,
                        .peak_ops_per_s = peak,
                        .elements_per_s = kind->elements(&row->size) / best};
    return CPL_OK;
}
