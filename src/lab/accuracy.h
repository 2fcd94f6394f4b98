/* SPDX-License-Identifier: Apache-2.0 */
/* accuracy.h - what the precision of an experiment costs in accuracy, measured by `couplet bench quality`. */
#ifndef CPL_LAB_ACCURACY_H
#define CPL_LAB_ACCURACY_H

#include "lab/result.h"

typedef struct cpl_lab_accuracy_options {
    const char *program, *model, *backend, *precision;
    const char *settings; /* "key=value ..." of the backend's own; "": none */
    const char *pairs;    /* file; NULL: the seeded generator */
    uint64_t seed, count, ranked;
} cpl_lab_accuracy_options;

/* Runs it as a process of its own and reads what it prints; out->pairs is 0 on failure. A foreign runtime is held
 * against couplet's own fp32: not each of them has one. */
cpl_status cpl_lab_accuracy(cpl_lab_quality *out, const cpl_lab_accuracy_options *o, cpl_error *err);

#endif
