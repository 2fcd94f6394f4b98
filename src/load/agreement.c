/* SPDX-License-Identifier: Apache-2.0 */
/* agreement.c - what a lower precision costs, as figures.
 * The ideas: Spearman is Pearson over ranks, so ties need no formula of their own. Kendall by Knight's way: with the
 * pairs sorted by the first list, the discordant ones are the exchanges a merge sort by the second list makes; ties are
 * counted from runs. All sums are in double; n^2 / 2 is below 2^53 for any list that fits a bench.
 * Threads: pure functions. Rejected: Kendall by all pairs (half a second for 20,000 scores), an exponential gain in
 * nDCG (the ten places of a reference order have no grades, and 2^10 would make it a test of the first place alone). */
#include "load/agreement.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

cpl_differences cpl_differences_of(const double *reference, const double *values, size_t n)
{
    cpl_differences d = {0};
    double mean = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        double difference = fabs(values[i] - reference[i]);
        if (difference > d.max_abs || isnan(difference)) d.max_abs = difference;
        d.mean_abs += difference / (double)n;
        mean += reference[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) squares += (reference[i] - mean) * (reference[i] - mean);
    d.deviation = n ? sqrt(squares / (double)n) : 0;
    return d;
}

/* ---- correlations ---------------------------------------------------------------------------------------------- */

typedef struct point {
    double a, b;
    size_t at;
} point;

static int by_a(const void *x, const void *y)
{
    const point *p = x, *q = y;
    if (p->a != q->a) return p->a < q->a ? -1 : 1;
    return (p->b > q->b) - (p->b < q->b);
}

/* Mean ranks of the values in `a`, into ranks[at]. */
static void give_ranks(point *p, size_t n, double *ranks)
{
    qsort(p, n, sizeof *p, by_a);
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && p[end].a == p[i].a;) end++;
        for (size_t j = i; j < end; j++) ranks[p[j].at] = (double)(i + end - 1) / 2;
    }
}

static double pearson(const double *x, const double *y, size_t n)
{
    double mx = 0, my = 0, xx = 0, yy = 0, xy = 0;
    for (size_t i = 0; i < n; i++) {
        mx += x[i] / (double)n;
        my += y[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        xx += (x[i] - mx) * (x[i] - mx);
        yy += (y[i] - my) * (y[i] - my);
        xy += (x[i] - mx) * (y[i] - my);
    }
    return xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : NAN;
}

static bool any_nan(const double *a, const double *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (isnan(a[i]) || isnan(b[i])) return true;
    return false;
}

cpl_status cpl_spearman(double *out, const double *a, const double *b, size_t n, cpl_error *err)
{
    *out = NAN;
    if (n < 2 || any_nan(a, b, n)) return CPL_OK;
    point *p = malloc(n * sizeof *p);
    double *ranks = malloc(2 * n * sizeof *ranks);
    cpl_status st = p && ranks ? CPL_OK : cpl_fail_memory(err, n * sizeof *p);
    if (!st) {
        for (size_t i = 0; i < n; i++) p[i] = (point){a[i], 0, i};
        give_ranks(p, n, ranks);
        for (size_t i = 0; i < n; i++) p[i] = (point){b[i], 0, i};
        give_ranks(p, n, ranks + n);
        *out = pearson(ranks, ranks + n, n);
    }
    free(p);
    free(ranks);
    return st;
}

/* Sorts p by b (stably) and returns how many pairs were out of order. */
static double count_exchanges(point *p, point *spare, size_t n)
{
    double exchanges = 0;
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t from = 0; from < n; from += 2 * width) {
            size_t middle = from + width < n ? from + width : n, end = from + 2 * width < n ? from + 2 * width : n;
            size_t i = from, j = middle, to = from;
            while (i < middle && j < end) {
                if (p[j].b < p[i].b) exchanges += (double)(middle - i);
                spare[to++] = p[j].b < p[i].b ? p[j++] : p[i++];
            }
            while (i < middle) spare[to++] = p[i++];
            while (j < end) spare[to++] = p[j++];
        }
        memcpy(p, spare, n * sizeof *p);
    }
    return exchanges;
}

static double pairs_of(size_t n) { return (double)n * ((double)n - 1) / 2; }

typedef enum tie { TIE_A, TIE_B, TIE_BOTH } tie;

/* Pairs that are tied, in a list where equal ones are neighbours. */
static double count_tied(const point *p, size_t n, tie kind)
{
    double tied = 0;
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n; end++)
            if ((kind != TIE_B && p[end].a != p[i].a) || (kind != TIE_A && p[end].b != p[i].b)) break;
        tied += pairs_of(end - i);
    }
    return tied;
}

cpl_status cpl_kendall(double *out, const double *a, const double *b, size_t n, cpl_error *err)
{
    *out = NAN;
    if (n < 2 || any_nan(a, b, n)) return CPL_OK;
    point *p = malloc(2 * n * sizeof *p);
    if (!p) return cpl_fail_memory(err, 2 * n * sizeof *p);
    for (size_t i = 0; i < n; i++) p[i] = (point){a[i], b[i], i};
    qsort(p, n, sizeof *p, by_a);
    double all = pairs_of(n), tied_a = count_tied(p, n, TIE_A), tied_both = count_tied(p, n, TIE_BOTH);
    double discordant = count_exchanges(p, p + n, n);
    double tied_b = count_tied(p, n, TIE_B);
    double norm = sqrt((all - tied_a) * (all - tied_b));
    if (norm > 0) *out = (all - tied_a - tied_b + tied_both - 2 * discordant) / norm;
    free(p);
    return CPL_OK;
}

double cpl_cosine(const float *a, const float *b, size_t n)
{
    double aa = 0, bb = 0, ab = 0;
    for (size_t i = 0; i < n; i++) {
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
        ab += (double)a[i] * (double)b[i];
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : NAN;
}

/* ---- rankings ---------------------------------------------------------------------------------------------------- */

/* Candidates, best first. */
static void order_by(const double *scores, size_t n, size_t *order)
{
    for (size_t i = 0; i < n; i++) {
        size_t at = i;
        for (; at > 0 && scores[order[at - 1]] < scores[i]; at--) order[at] = order[at - 1];
        order[at] = i;
    }
}

double cpl_ndcg(const double *reference, const double *scores, size_t n, size_t k)
{
    CPL_ASSERT(n <= CPL_RANKING_MAX);
    size_t order[CPL_RANKING_MAX];
    double gain[CPL_RANKING_MAX] = {0}, ideal = 0, got = 0;
    order_by(reference, n, order);
    if (k > n) k = n;
    for (size_t i = 0; i < k; i++) {
        gain[order[i]] = (double)(k - i);
        ideal += (double)(k - i) / log2((double)i + 2);
    }
    order_by(scores, n, order);
    for (size_t i = 0; i < k; i++) got += gain[order[i]] / log2((double)i + 2);
    return k ? got / ideal : NAN;
}

double cpl_reciprocal_rank(const double *scores, size_t n, size_t relevant, size_t k)
{
    size_t place = 1;
    for (size_t i = 0; i < n; i++)
        if (i != relevant && !(scores[i] < scores[relevant])) place++;
    return place <= k ? 1.0 / (double)place : 0;
}
