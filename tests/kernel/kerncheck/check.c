/* SPDX-License-Identifier: Apache-2.0 */
/* check.c - memory between guard pages, seeded values, verdicts, and the double-precision functions that several cases
 * share. One thread; the round that is running owns all memory taken. */
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "frame.h"

enum { PATTERN = 0xa5, PRINTED_MAX = 8 };

uint64_t check_bits(check *c) /* splitmix64 */
{
    uint64_t z = c->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

uint32_t check_between(check *c, uint32_t lo, uint32_t hi) { return lo + (uint32_t)(check_bits(c) % (hi - lo + 1)); }

float check_uniform(check *c, float lo, float hi) { return lo + (hi - lo) * (float)(check_bits(c) >> 40) * 0x1p-24f; }

/* ---- memory ------------------------------------------------------------------------------------------------------ */

struct check_block {
    unsigned char *base, *at;
    size_t mapped, bytes;
};

static _Noreturn void out_of_memory(const char *call)
{
    perror(call);
    exit(2);
}

void *check_take(check *c, size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), inside = (bytes + page - 1) / page * page + (bytes ? 0 : page);
    if (c->count == c->cap) {
        c->cap = c->cap * 2 + 16;
        c->blocks = realloc(c->blocks, c->cap * sizeof *c->blocks);
        if (!c->blocks) out_of_memory("realloc");
    }
    unsigned char *base = mmap(NULL, inside + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) out_of_memory("mmap");
    if (mprotect(base + page, inside, PROT_READ | PROT_WRITE)) out_of_memory("mprotect");
    unsigned char *at = base + page + (check_bits(c) & 1 ? 0 : inside - bytes);
    memset(base + page, PATTERN, inside);
    memset(at, 0, bytes);
    c->blocks[c->count++] = (struct check_block){base, at, inside + 2 * page, bytes};
    return at;
}

float *check_take_floats(check *c, size_t n, float lo, float hi)
{
    float *x = check_take(c, n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = check_uniform(c, lo, hi);
    return x;
}

size_t check_span(size_t rows, size_t n, size_t ld) { return rows ? (rows - 1) * ld + n : 0; }

void check_end_round(check *c)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t i = 0; i < c->count; i++) {
        const struct check_block *b = &c->blocks[i];
        const unsigned char *end = b->base + b->mapped - page;
        bool whole = true;
        for (const unsigned char *p = b->base + page; p < end; p++)
            if ((p < b->at || p >= b->at + b->bytes) && *p != PATTERN) whole = false;
        CHECK_THAT(c, whole, "wrote outside buffer %zu of the round (%zu bytes)", i, b->bytes);
        munmap(b->base, b->mapped);
    }
    c->count = 0;
}

void check_fault(check *c, const void *address)
{
    for (size_t i = 0; i < c->count; i++) {
        const struct check_block *b = &c->blocks[i];
        const unsigned char *p = address;
        if (p < b->base || p >= b->base + b->mapped) continue;
        check_failed(c, "touched byte %td of buffer %zu of the round, which has %zu", p - b->at, i, b->bytes);
        return;
    }
    check_failed(c, "faulted at %p, outside every buffer", address);
}

void check_spoil(check *c, float *x, size_t n, check_kind kind)
{
    if (!n) return;
    const float same = check_uniform(c, -3, 3);
    float *one = &x[check_bits(c) % n];
    for (size_t i = 0; i < n; i++) {
        if (kind == CHECK_SAME) x[i] = same;
        if (kind == CHECK_ZEROS) x[i] = i % 2 ? 0.0f : -0.0f;
        if (kind == CHECK_DENORMAL) x[i] *= 1e-42f;
        if (kind == CHECK_TINY) x[i] *= 1e-35f;
        if (kind == CHECK_HUGE) x[i] *= FLT_MAX / 4;
    }
    if (kind == CHECK_OUTLIER) *one = -1e4f;
    if (kind == CHECK_INFINITY) *one = check_bits(c) & 1 ? INFINITY : -INFINITY;
    if (kind == CHECK_NAN) *one = check_bits(c) & 1 ? NAN : -NAN;
}

/* ---- verdicts ---------------------------------------------------------------------------------------------------- */

bool check_near(check *c, double got, double want, double bound)
{
    c->compared++;
    if (!isfinite(bound)) return true;
    if (isnan(want)) return isnan(got);
    if (got == want) return true;
    const double error = fabs(got - want) / bound;
    if (!(error <= 1)) return false;
    if (error > c->worst) c->worst = error;
    return true;
}

void check_failed(check *c, const char *fmt, ...)
{
    c->failures++;
    if (c->quiet || c->failures > PRINTED_MAX) return;
    printf("  FAILED %s %s, round %u: ", c->isa, c->what->name, c->round);
    va_list args;
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    printf("\n");
}

void check_failed_by(check *c, double got, double want, double bound)
{
    if (c->quiet || c->failures > PRINTED_MAX) return;
    printf("    %.9g, expected %.9g within %.3g\n", got, want, bound);
}

/* ---- in double --------------------------------------------------------------------------------------------------- */

double check_gelu(double x) { return 0.5 * x * erfc(-x * M_SQRT1_2); }

double check_gelu_tanh(double x) { return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }

double check_relu(double x) { return x < 0 ? 0 : x; }

double check_epilogue(cpl_epilogue e, double sum, double bias, double residual)
{
    switch (e) {
    case CPL_EPILOGUE_NONE: return sum;
    case CPL_EPILOGUE_BIAS: return sum + bias;
    case CPL_EPILOGUE_GELU: return check_gelu(sum + bias);
    case CPL_EPILOGUE_GELU_TANH: return check_gelu_tanh(sum + bias);
    case CPL_EPILOGUE_RELU: return check_relu(sum + bias);
    case CPL_EPILOGUE_TANH: return tanh(sum + bias);
    case CPL_EPILOGUE_RESIDUAL: return sum + bias + residual;
    }
    return NAN;
}

double check_epilogue_bound(cpl_epilogue e, double want)
{
    switch (e) {
    case CPL_EPILOGUE_GELU: return 1.5e-6 + 2.5e-7 * fabs(want);
    case CPL_EPILOGUE_GELU_TANH: return 1e-6 + 5e-7 * fabs(want);
    case CPL_EPILOGUE_TANH: return 3e-7;
    default: return 0;
    }
}
