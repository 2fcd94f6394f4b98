/* SPDX-License-Identifier: Apache-2.0 */
/* machine.h - what a result must say about where it comes from: machine, build, backends as probed. */
#ifndef CPL_LAB_MACHINE_H
#define CPL_LAB_MACHINE_H

#include "lab/result.h"

/* Fills r->machine, r->build and r->probes. Unknown things read "not readable". */
cpl_status cpl_lab_capture(cpl_lab_result *r, cpl_error *err);

/* CPL_OK when backend `name` is here and runs, in `precision` if that is one ("auto" and "" always do); else the
 * reason.
 */
cpl_status cpl_lab_backend_check(const char *name, const char *precision, cpl_error *err);

/* How many sessions backend `name` wants on its devices together; 0: one a core. */
cpl_status cpl_lab_backend_sessions(uint32_t *out, const char *name, cpl_error *err);

#endif
