/* SPDX-License-Identifier: Apache-2.0 */
/* job.h - one experiment under way: what runner.c plans and drive.c drives. Of the floor alone. */
#ifndef CPL_LAB_JOB_H
#define CPL_LAB_JOB_H

#include "lab/energy.h"
#include "lab/plan.h"
#include "lab/row.h"
#include "lab/runner.h"

typedef struct cpl_lab_job {
    const cpl_lab_options *options;
    const char *file;
    cpl_config *config;
    cpl_lab_plan *plan;
    cpl_pool *pool;
    cpl_energy *energy; /* of the whole run */
    const char *pairs;  /* file of texts; NULL: generated */
    cpl_lab_result *result;
    cpl_lab_row *rows;       /* server by batch by level by model */
    cpl_selftest *selftests; /* by level */
    double fastest;          /* pairs a second, the best of the closed loop's rows so far; 0: none yet */
    bool seeded;             /* the seeded cross-encoder stands in for the model */
    char model_dir[1024];
    size_t rows_done;                /* for progress, over all rounds */
    bool skip;                       /* not run, or failed */
    const struct cpl_lab_job *first; /* of all jobs: those before this one may have measured its accuracy already */
} cpl_lab_job;

/* Requests before the window of a row: at least one a client. */
uint64_t cpl_lab_warmup_of(const cpl_lab_plan *plan, uint32_t level);
/* Every row of one server setting against the server at `target`. A row that can't hold its requests is left out and
 * says so. */
cpl_status cpl_lab_drive(cpl_lab_job *job, size_t server, const char *target, cpl_error *err);

#endif
