/* SPDX-License-Identifier: Apache-2.0 */
/* child.h - `couplet serve` as a child process: started, waited for until it can score, stopped, and gone for sure. */
#ifndef CPL_LAB_CHILD_H
#define CPL_LAB_CHILD_H

#include <stdint.h>
#include <sys/types.h>

#include "couplet.h"

typedef struct cpl_child {
    pid_t pid;         /* 0: not running */
    int out;           /* its stdout; -1: none */
    int log;           /* its stderr, an unnamed file; -1: none */
    uint64_t ready_ms; /* from start to the line that says it is listening */
    char address[300]; /* "127.0.0.1:43210" */
} cpl_child;

/* Runs argv (argv[0] is the program's path) and waits for "listening on ADDRESS" on its stdout, at most timeout_ms. It
 * dies with this process. On failure nothing is left running, and the error ends with the last line of its stderr. */
cpl_status cpl_child_start(cpl_child *c, const char *const *argv, uint32_t timeout_ms, cpl_error *err);
/* SIGTERM, and SIGKILL after grace_ms. A zeroed or stopped child is fine. CPL_INTERNAL when it had died by itself or
 * ended with an error; the child is gone in any case. */
cpl_status cpl_child_stop(cpl_child *c, uint32_t grace_ms, cpl_error *err);

#endif
