/* SPDX-License-Identifier: Apache-2.0 */
/* precision.h - names of precisions and the one place where requested becomes effective. */
#ifndef CPL_BACKEND_PRECISION_H
#define CPL_BACKEND_PRECISION_H

#include "backend/backend.h"

const char *cpl_precision_name(cpl_precision p);
/* "fp32" ...; CPL_INVALID lists the valid names. */
cpl_status cpl_precision_parse(cpl_precision *out, const char *name, cpl_error *err);

/* What will run for `requested` on a backend with `caps`. AUTO takes what the backend's own rule says, else the first
 * of a fixed order that executes (either is written into reason). A precision that doesn't execute is CPL_UNSUPPORTED,
 * or with fallback the nearest that does, and `reason` (96 bytes or more) says "int8 requested, fp32 runs: WHY". reason
 * is "" when nothing was substituted. */
cpl_status cpl_precision_resolve(cpl_precision *effective, char *reason, size_t reason_cap, cpl_precision requested,
                                 int fallback, const char *backend, const cpl_caps *caps, cpl_error *err);

#endif
