/* SPDX-License-Identifier: Apache-2.0 */
/* describe.h - everything in a result but its numbers: what was asked for, and what the server says runs. */
#ifndef CPL_LAB_DESCRIBE_H
#define CPL_LAB_DESCRIBE_H

#include "lab/plan.h"
#include "lab/result.h"
#include "lab/runner.h"

/* Before the run: names, date, command, machine, build, configuration. `like`: a result of this run that knows machine,
 * build and backends already and outlives this one (probing every runtime takes time); NULL: they are looked at. */
cpl_status cpl_lab_describe_plan(cpl_lab_result *r, const cpl_config *c, const cpl_lab_plan *plan,
                                 const cpl_lab_options *o, const char *file, const char *stand_in,
                                 const cpl_lab_result *like, cpl_error *err);
/* When its rounds began; one moment for all whose rounds alternate, because that is how they are known to each other
 * (cpl_lab_interleaved). */
void cpl_lab_describe_date(cpl_lab_result *r, double wall_seconds);
/* After each row: model, backend, precision as the server reports them. The first row that knows them sets them. */
void cpl_lab_describe_server(cpl_lab_result *r, const cpl_load_result *load);

/* "off", "greedy" or "up to 96 pairs, 20 ms": the batching policy the configuration amounts to. */
void cpl_lab_batching_text(const cpl_config *c, char *out, size_t cap);

#endif
