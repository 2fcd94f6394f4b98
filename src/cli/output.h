/* SPDX-License-Identifier: Apache-2.0 */
/* output.h - results as lines to stdout or to a file that is only there once it is whole: lines go to PATH.part, which
 * a later run can continue, and which becomes PATH at the end. */
#ifndef CPL_CLI_OUTPUT_H
#define CPL_CLI_OUTPUT_H

#include <stdbool.h>

#include "base/buf.h"
#include "couplet.h"

typedef struct cpl_output {
    int fd;
    const char *path; /* NULL: stdout */
    char part[4096];
    uint64_t lines_done; /* whole lines an earlier run left in PATH.part */
} cpl_output;

/* resume: keeps PATH.part's whole lines (lines_done says how many) and continues behind them; else a PATH.part that
 * exists is CPL_PRECONDITION, so that nobody's hours are overwritten by a second start. */
cpl_status cpl_output_open(cpl_output *o, const char *path, bool resume, cpl_error *err);
/* Writes and clears lines. */
cpl_status cpl_output_write(cpl_output *o, cpl_buf *lines, cpl_error *err);
/* Syncs and renames. After a failure PATH.part stays for --resume. */
cpl_status cpl_output_finish(cpl_output *o, cpl_error *err);
void cpl_output_abandon(cpl_output *o); /* closes, keeps PATH.part */

#endif
