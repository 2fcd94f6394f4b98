/* SPDX-License-Identifier: Apache-2.0 */
/* verdict_text.c - a row's verdicts in words, by the rules of load/verdict.h and nowhere else. No state. */
#include <stdio.h>

#include "lab/result.h"
#include "load/verdict.h"

const char *cpl_lab_verdict_name(const cpl_lab_point *p)
{
    return !p->valid ? "INVALID" : p->beyond_capacity ? "VALID, beyond capacity" : "VALID";
}

void cpl_lab_percentile_verdict(const cpl_lab_point *p, int percentile, char out[CPL_LAB_VERDICT])
{
    char why[CPL_PERCENTILE_WHY];
    const cpl_verdict v = {.valid = p->valid, .beyond = p->beyond_capacity};
    const bool good = cpl_verdict_percentile(&v, percentile / 100.0, p->requests, why);
    snprintf(out, CPL_LAB_VERDICT, "%s%s", good ? "VALID" : "INVALID: ", why);
}
