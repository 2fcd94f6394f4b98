/* SPDX-License-Identifier: Apache-2.0 */
/* runner.h - runs experiments: a server for each server setting, every row against it, results written as they come. */
#ifndef CPL_LAB_RUNNER_H
#define CPL_LAB_RUNNER_H

#include "lab/forecast.h"
#include "lab/result.h"

typedef struct cpl_lab_options {
    const char *const *files; /* experiment files, NULL-terminated */
    const char *const *sets;  /* "key=value" for all of them, NULL-terminated; may be NULL */
    const char *output_dir;   /* NULL: "docs/experiments" */
    const char *target;       /* a server that is up already; NULL: one is started for each setting */
    const char *program;      /* couplet itself, which serves; NULL: this executable */
    bool quick;
    bool resume; /* leave alone what a result in output_dir already says (resume.h) */
    /* Row `row` of `rows` of experiment `name` is at `part` (0..1). May be NULL. */
    void (*progress)(void *user, const char *name, size_t row, size_t rows, double part);
    /* An experiment is through (ran or not) and its files are written. May be NULL. */
    void (*finished)(void *user, const cpl_lab_result *r);
    /* Nothing was run: the result of `date` stands. May be NULL. */
    void (*kept)(void *user, const char *name, const char *date);
    /* Not NULL: nothing is run or written. Told instead, for each experiment: what would become of it ("run", "kept",
     * "not run", and why not or since when), and how long that takes. */
    void (*planned)(void *user, const cpl_lab_result *r, const char *what, const char *why,
                    const cpl_lab_forecast *forecast);
    void *user;
    const cpl_log *log;
} cpl_lab_options;

/* One that can't run here is a result too, and the others go on. Fails when a file is wrong (before anything was
 * started) or nothing can be written. Experiments next to each other whose names start with the same number, with the
 * same number of repeats above 1, run their rounds in turn. *failed: how many ended with status "failed". */
cpl_status cpl_lab_run(const cpl_lab_options *options, size_t *failed, cpl_error *err);

/* The file can be read, makes a plan, and every server it asks for has settings that agree. */
cpl_status cpl_lab_check(const char *file, const char *const *sets, cpl_error *err);

/* Every .yaml of the folder but base_config.yaml, by name; NULL-terminated, release with cpl_lab_files_close. */
cpl_status cpl_lab_files_list(char ***out, const char *dir, cpl_error *err);
void cpl_lab_files_close(char **files); /* NULL is fine */

#endif
