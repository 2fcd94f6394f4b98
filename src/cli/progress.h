/* SPDX-License-Identifier: Apache-2.0 */
/* progress.h - a progress bar on stderr when that is a terminal, nothing otherwise. */
#ifndef CPL_CLI_PROGRESS_H
#define CPL_CLI_PROGRESS_H

#include <stdint.h>

typedef struct cpl_progress {
    const char *label;
    uint64_t total, done; /* total 0: unknown */
    uint64_t start_ns, drawn_ns;
    int enabled;
} cpl_progress;

void cpl_progress_init(cpl_progress *p, const char *label, uint64_t total);
/* Draws at most ten times a second. */
void cpl_progress_update(cpl_progress *p, uint64_t done);
/* Clears the line. */
void cpl_progress_finish(cpl_progress *p);

#endif
