/* SPDX-License-Identifier: Apache-2.0 */
/* slo.c - objectives in words, and the sequential test that ends a run early.
 * The one idea: whether a percentile lies below a limit is a coin with a known threshold, so no percentile needs to be
 * estimated: counting the late ones and an exact binomial tail decide, with far fewer requests where the answer is
 * clear. Looking again and again would find anything in the end; so the looks are few and share one error budget.
 * Threads: no state. Rejected: a normal approximation (wrong exactly where p99 of few requests is asked). */
#include "load/slo.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

enum { FIRST_LOOK = 20 };

static cpl_status refuse(cpl_error *err, const char *text)
{
    return cpl_fail(err, CPL_INVALID,
                    "objective '%.80s': give a time as 20ms or 0.5s, or a percentile of it as p99=20ms", text);
}

cpl_status cpl_slo_parse(cpl_slo *out, const char *text, cpl_error *err)
{
    char *end = NULL;
    const char *at = text;
    *out = (cpl_slo){0};
    if (*at == 'p') {
        out->part = strtod(at + 1, &end) / 100;
        if (end == at + 1 || *end != '=' || !(out->part > 0 && out->part < 1)) return refuse(err, text);
        at = end + 1;
    }
    if (!isdigit((unsigned char)*at) && *at != '.') return refuse(err, text);
    out->ms = strtod(at, &end);
    if (!strcmp(end, "s"))
        out->ms *= 1000;
    else if (*end && strcmp(end, "ms") != 0)
        return refuse(err, text);
    return out->ms > 0 && out->ms < 1e9 ? CPL_OK : refuse(err, text);
}

/* P(X <= k) for X of n draws with probability p each. */
static double binomial_below(uint64_t n, uint64_t k, double p)
{
    double sum = 0;
    const double n_ = (double)n;
    for (uint64_t i = 0; i <= k && i <= n; i++) {
        const double x = (double)i;
        sum += exp(lgamma(n_ + 1) - lgamma(x + 1) - lgamma(n_ - x + 1) + x * log(p) + (n_ - x) * log1p(-p));
    }
    return sum < 1 ? sum : 1;
}

cpl_slo_verdict cpl_slo_test(const cpl_slo *slo, uint64_t n, uint64_t late, double alpha)
{
    const double p = 1 - slo->part;
    if (!n) return CPL_SLO_OPEN;
    if (binomial_below(n, late, p) <= alpha) return CPL_SLO_HOLDS;
    if (late && 1 - binomial_below(n, late - 1, p) <= alpha) return CPL_SLO_FAILS;
    return CPL_SLO_OPEN;
}

void cpl_slo_watch_init(cpl_slo_watch *w, const cpl_slo *slo)
{
    *w = (cpl_slo_watch){.slo = *slo, .next_look = FIRST_LOOK};
}

bool cpl_slo_watch_add(cpl_slo_watch *w, bool in_time)
{
    if (w->verdict) return true;
    w->n++;
    w->late += !in_time;
    if (w->n < w->next_look) return false;
    w->next_look += w->next_look / 4;
    w->looks++;
    w->verdict = cpl_slo_test(&w->slo, w->n, w->late, 0.01 / ((double)w->looks * (w->looks + 1)));
    return w->verdict != CPL_SLO_OPEN;
}
