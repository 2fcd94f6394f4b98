/* SPDX-License-Identifier: Apache-2.0 */
/* resume.h - is a result that lies there already what a run would measure again? */
#ifndef CPL_LAB_RESUME_H
#define CPL_LAB_RESUME_H

#include "lab/result.h"

/* Looks for NAME.json in dir. True when it is complete and of the same program (digest of the executable), effective
 * configuration (its comments, description and phase aside), overrides, pairs and machine; a full result also stands
 * for a quick one. *date (32 bytes or more) is then its date. */
bool cpl_lab_measured_already(const cpl_lab_result *planned, const char *dir, char *date, size_t cap);

#endif
