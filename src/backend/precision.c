/* SPDX-License-Identifier: Apache-2.0 */
/* precision.c - names of precisions, and what runs when something is asked for.
 *
 * Two fixed tables, so that replicas with the same hardware agree: the order in which `auto` tries, and for each
 * precision what stands in for it, the more exact first. A backend that knows its speeds and losses says itself what
 * `auto` means on it, in words that are printed (caps.automatic_rule); for the others `auto` stays with formats that
 * lose next to nothing, and takes int8 and below only where nothing else executes. Threads: none. */
#include "backend/precision.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"

static const char *const names[CPL_PRECISION_COUNT + 1] = {"fp32", "bf16", "fp16", "fp8", "int8", "int4", "auto"};

static const unsigned char auto_order[CPL_PRECISION_COUNT] = {CPL_PRECISION_BF16, CPL_PRECISION_FP16,
                                                              CPL_PRECISION_FP32, CPL_PRECISION_INT8,
                                                              CPL_PRECISION_FP8,  CPL_PRECISION_INT4};

/* Row p: what stands in for p, nearest first. */
static const unsigned char nearest[CPL_PRECISION_COUNT][CPL_PRECISION_COUNT - 1] = {
    [CPL_PRECISION_FP32] = {CPL_PRECISION_FP16, CPL_PRECISION_BF16, CPL_PRECISION_INT8, CPL_PRECISION_FP8,
                            CPL_PRECISION_INT4},
    [CPL_PRECISION_BF16] = {CPL_PRECISION_FP16, CPL_PRECISION_FP32, CPL_PRECISION_INT8, CPL_PRECISION_FP8,
                            CPL_PRECISION_INT4},
    [CPL_PRECISION_FP16] = {CPL_PRECISION_BF16, CPL_PRECISION_FP32, CPL_PRECISION_INT8, CPL_PRECISION_FP8,
                            CPL_PRECISION_INT4},
    [CPL_PRECISION_FP8] = {CPL_PRECISION_INT8, CPL_PRECISION_FP16, CPL_PRECISION_BF16, CPL_PRECISION_FP32,
                           CPL_PRECISION_INT4},
    [CPL_PRECISION_INT8] = {CPL_PRECISION_FP8, CPL_PRECISION_FP16, CPL_PRECISION_BF16, CPL_PRECISION_FP32,
                            CPL_PRECISION_INT4},
    [CPL_PRECISION_INT4] = {CPL_PRECISION_INT8, CPL_PRECISION_FP8, CPL_PRECISION_FP16, CPL_PRECISION_BF16,
                            CPL_PRECISION_FP32},
};

const char *cpl_precision_name(cpl_precision p)
{
    CPL_ASSERT((unsigned)p <= CPL_PRECISION_COUNT);
    return names[p];
}

cpl_status cpl_precision_parse(cpl_precision *out, const char *name, cpl_error *err)
{
    for (int i = 0; i <= CPL_PRECISION_COUNT; i++) {
        if (strcmp(names[i], name) != 0) continue;
        *out = (cpl_precision)i;
        return CPL_OK;
    }
    return cpl_fail(err, CPL_INVALID, "unknown precision '%s': use fp32, bf16, fp16, fp8, int8, int4 or auto", name);
}

static int runs(const cpl_caps *caps, unsigned p) { return (caps->precisions >> p & 1) != 0; }

static cpl_status resolve_auto(cpl_precision *effective, char *reason, size_t cap, const char *backend,
                               const cpl_caps *caps, cpl_error *err)
{
    if (caps->automatic_rule[0] && runs(caps, caps->automatic)) {
        *effective = caps->automatic;
        snprintf(reason, cap, "auto: %s (%s)", names[*effective], caps->automatic_rule);
        return CPL_OK;
    }
    for (int i = 0; i < CPL_PRECISION_COUNT; i++) {
        if (!runs(caps, auto_order[i])) continue;
        *effective = (cpl_precision)auto_order[i];
        snprintf(reason, cap, "auto: %s is the first of bf16, fp16, fp32, int8, fp8, int4 that %s runs",
                 names[*effective], backend);
        return CPL_OK;
    }
    return cpl_fail(err, CPL_UNSUPPORTED, "backend '%s' runs no precision on this machine", backend);
}

cpl_status cpl_precision_resolve(cpl_precision *effective, char *reason, size_t reason_cap, cpl_precision requested,
                                 int fallback, const char *backend, const cpl_caps *caps, cpl_error *err)
{
    CPL_ASSERT((unsigned)requested <= CPL_PRECISION_COUNT && reason_cap);
    reason[0] = 0;
    if (requested == CPL_PRECISION_AUTO) return resolve_auto(effective, reason, reason_cap, backend, caps, err);
    if (runs(caps, requested)) {
        *effective = requested;
        return CPL_OK;
    }
    const char *why = caps->reason[requested][0] ? caps->reason[requested] : "not offered by this backend";
    for (int i = 0; fallback && i < CPL_PRECISION_COUNT - 1; i++) {
        unsigned p = nearest[requested][i];
        if (!runs(caps, p)) continue;
        *effective = (cpl_precision)p;
        snprintf(reason, reason_cap, "%s requested, %s runs: %s", names[requested], names[p], why);
        return CPL_OK;
    }
    return cpl_fail(err, CPL_UNSUPPORTED, "backend '%s' can't run %s here: %s%s", backend, names[requested], why,
                    fallback ? "" : " (on_unsupported: fallback allows another precision)");
}
