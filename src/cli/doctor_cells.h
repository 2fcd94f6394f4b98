/* SPDX-License-Identifier: Apache-2.0 */
/* doctor_cells.h - what a backend can do here, and how fast, each found in a process of its own. */
#ifndef CPL_CLI_DOCTOR_CELLS_H
#define CPL_CLI_DOCTOR_CELLS_H

#include <stdbool.h>

#include "backend/backend.h"

enum { CPL_CELL_TOKENS = 32 }; /* of each sequence */

typedef struct cpl_backend_probe {
    bool available;
    char reason[512]; /* why not */
    cpl_caps caps;
} cpl_backend_probe;

typedef struct cpl_cell {
    double per_s;     /* sequences of CPL_CELL_TOKENS tokens a second, all workers; 0: it didn't run */
    char reason[512]; /* why not */
} cpl_cell;

/* Both fork: call them before this process starts threads or opens a runtime. What the child dies of is the reason. */
void cpl_doctor_probe(cpl_backend_probe *out, const char *name, const char *plugin_dir);
void cpl_doctor_run(cpl_cell *out, const char *backend, const char *precision, const char *model,
                    const char *plugin_dir);

#endif
