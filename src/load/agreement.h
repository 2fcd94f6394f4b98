/* SPDX-License-Identifier: Apache-2.0 */
/* agreement.h - how far two lists of scores agree: differences, rank correlations, rankings. Pure functions.
 *
 * What isn't defined for the values given (a correlation with a constant list, say) is NAN. */
#ifndef CPL_LOAD_AGREEMENT_H
#define CPL_LOAD_AGREEMENT_H

#include <stddef.h>

#include "couplet.h"

typedef struct cpl_differences {
    double max_abs, mean_abs;
    double deviation; /* standard deviation of the reference list (divisor n), the scale to read the others by */
} cpl_differences;

cpl_differences cpl_differences_of(const double *reference, const double *values, size_t n);

/* Spearman's rho: Pearson's correlation of the ranks, ties sharing their mean rank. Only CPL_NO_MEMORY can happen. */
cpl_status cpl_spearman(double *out, const double *a, const double *b, size_t n, cpl_error *err);
/* Kendall's tau-b, which allows for ties in either list, in n log n. Only CPL_NO_MEMORY can happen. */
cpl_status cpl_kendall(double *out, const double *a, const double *b, size_t n, cpl_error *err);

/* NAN when either vector is zero. */
double cpl_cosine(const float *a, const float *b, size_t n);

enum { CPL_RANKING_MAX = 64 }; /* candidates of one ranking */

/* nDCG at depth k of the order that `scores` give, against the order of `reference`: its best candidate is worth k, the
 * next k - 1, the k-th 1, all others nothing; a place counts 1 / log2(place + 1). 1: the same first k in the same
 * order. Equal scores keep the order of the list. n is at most CPL_RANKING_MAX. */
double cpl_ndcg(const double *reference, const double *scores, size_t n, size_t k);
/* 1 / place of candidate `relevant`, 0 beyond the k-th. Candidates with an equal score count as being before it. */
double cpl_reciprocal_rank(const double *scores, size_t n, size_t relevant, size_t k);

#endif
