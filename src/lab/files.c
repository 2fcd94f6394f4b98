/* SPDX-License-Identifier: Apache-2.0 */
/* files.c - the experiment files of a folder, and whether one makes sense before anything runs. A check loads the file
 * once for each server it asks for, so a swept value that contradicts another key is found too. No state. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "lab/plan.h"
#include "lab/runner.h"

static cpl_status check_server(const char *file, const char *const *sets, const cpl_lab_server *server, cpl_error *err)
{
    size_t n = 0, m = 0;
    while (sets && sets[n]) n++;
    while (server->sets[m]) m++;
    const char **all = calloc(n + m + 1, sizeof *all);
    if (!all) return cpl_fail_memory(err, (n + m + 1) * sizeof *all);
    for (size_t i = 0; i < n; i++) all[i] = sets[i];
    for (size_t i = 0; i < m; i++) all[n + i] = server->sets[i];
    cpl_config *c = NULL;
    const char *word;
    cpl_status st = cpl_config_load(&c, file, true, all, err);
    if (!st) st = cpl_config_check(c, err);
    if (!st) st = cpl_config_precision(c, &word, err);
    if (!st) st = cpl_config_policy(c, &word, err);
    cpl_config_close(c);
    free(all);
    if (st && *server->label) cpl_error_prefix(err, "with %s", server->label);
    return st;
}

cpl_status cpl_lab_check(const char *file, const char *const *sets, cpl_error *err)
{
    cpl_config *c = NULL;
    cpl_lab_plan *plan = NULL;
    cpl_status st = cpl_config_load(&c, file, true, sets, err);
    if (!st) st = cpl_lab_plan_open(&plan, c, file, false, err);
    for (size_t i = 0; !st && i < plan->server_count; i++) st = check_server(file, sets, &plan->servers[i], err);
    cpl_lab_plan_close(plan);
    cpl_config_close(c);
    return st;
}

static int is_experiment(const struct dirent *e)
{
    size_t n = strlen(e->d_name);
    return n > 5 && e->d_name[0] != '.' && !strcmp(e->d_name + n - 5, ".yaml") &&
           strcmp(e->d_name, "base_config.yaml") != 0;
}

cpl_status cpl_lab_files_list(char ***out, const char *dir, cpl_error *err)
{
    struct dirent **names = NULL;
    int n = scandir(dir, &names, is_experiment, alphasort);
    *out = NULL;
    if (n < 0) return cpl_fail_file(err, CPL_NOT_FOUND, dir, "no such folder: experiments are looked for there");
    char **files = calloc((size_t)n + 1, sizeof *files);
    cpl_status st = files ? CPL_OK : cpl_fail_memory(err, ((size_t)n + 1) * sizeof *files);
    for (int i = 0; i < n; i++) {
        char path[1024];
        if (!st) st = cpl_file_join(path, sizeof path, dir, names[i]->d_name, err);
        if (!st && !(files[i] = strdup(path))) st = cpl_fail_memory(err, strlen(path) + 1);
        free(names[i]);
    }
    free(names);
    if (!st && n == 0) st = cpl_fail_file(err, CPL_NOT_FOUND, dir, "holds no experiment (*.yaml)");
    if (st) {
        cpl_lab_files_close(files);
        return st;
    }
    *out = files;
    return CPL_OK;
}

void cpl_lab_files_close(char **files)
{
    for (char **f = files; f && *f; f++) free(*f);
    free(files);
}
