/* SPDX-License-Identifier: Apache-2.0 */
/* peak_threads.h - the machine's own arithmetic peak on n cores at once, by the loops of kernel/peak.h. */
#ifndef CPL_CLI_PEAK_THREADS_H
#define CPL_CLI_PEAK_THREADS_H

#include "couplet.h"

typedef enum cpl_peak_loop { CPL_PEAK_FP32, CPL_PEAK_INT8 } cpl_peak_loop;

/* Runs the multiply-add loop of `isa` (NULL: what COUPLET_ISA or the machine gives) on `threads` pinned threads for
 * about duration_ns each, all at once; *ops_per_s is their sum, 2 operations a multiply-add. */
cpl_status cpl_peak_threads(double *ops_per_s, cpl_peak_loop loop, const char *isa, uint32_t threads,
                            uint64_t duration_ns, cpl_error *err);

#endif
