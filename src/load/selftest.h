/* SPDX-License-Identifier: Apache-2.0 */
/* selftest.h - what the generator itself can do here and now: the same workload against a server that answers at once.
 * What a run shows can't be better than that, and where it comes near it, the run has measured the generator. */
#ifndef CPL_LOAD_SELFTEST_H
#define CPL_LOAD_SELFTEST_H

#include "load/load.h"

typedef struct cpl_null_server cpl_null_server;

/* A server on a thread and a port of its own that answers every request of the workload's dialect with a whole reply.
 */
cpl_status cpl_null_server_open(cpl_null_server **out, const cpl_workload *workload, const char *path, cpl_error *err);
const char *cpl_null_server_address(const cpl_null_server *s);
void cpl_null_server_close(cpl_null_server *s); /* NULL is fine */

/* Runs for well under a second: a closed loop at the options' concurrency (open loops: 64), and for an open loop its
 * own schedule besides. The target isn't touched. */
cpl_status cpl_selftest_run(cpl_selftest *out, const cpl_load_run_options *options, const cpl_workload *workload,
                            cpl_error *err);

#endif
