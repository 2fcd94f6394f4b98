/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_experiment.c - `couplet experiment run | list | check`. The work is the lab's; this reads flags, draws the bar
 * and prints tables. Threads: the main one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "lab/machine.h"
#include "lab/page.h"
#include "lab/plan.h"
#include "lab/runner.h"

#define FOLDER "experiments"

/* ---- run ------------------------------------------------------------------------------------------------------ */

typedef struct run_state {
    cpl_progress bar;
    char label[160];
    bool json;
    cpl_buf out; /* JSON: the results so far */
    size_t count;
} run_state;

static void on_progress(void *user, const char *name, size_t row, size_t rows, double part)
{
    run_state *s = user;
    char label[160];
    snprintf(label, sizeof label, "%.80s row %zu of %zu", name, row + 1, rows);
    if (strcmp(label, s->label) != 0) {
        cpl_progress_finish(&s->bar);
        memcpy(s->label, label, sizeof label);
        cpl_progress_init(&s->bar, s->label, 1000);
    }
    cpl_progress_update(&s->bar, (uint64_t)(part * 1000));
}

static void on_finished(void *user, const cpl_lab_result *r)
{
    run_state *s = user;
    cpl_progress_finish(&s->bar);
    if (s->json) {
        cpl_buf_text(&s->out, s->count++ ? ",\n" : "");
        cpl_lab_result_write(r, &s->out);
        return;
    }
    printf("%s%s: %s%s%s\n", s->count++ ? "\n" : "", r->name, r->status, *r->status && r->reason ? ": " : "",
           r->reason ? r->reason : "");
    if (r->model_note && *r->model_note) printf("%s\n", r->model_note);
    cpl_buf table = {0};
    if (r->point_count) cpl_lab_table(r, &table);
    if (table.data) fputs(table.data, stdout);
    cpl_buf_deinit(&table);
    fflush(stdout);
}

static void on_kept(void *user, const char *name, const char *date)
{
    run_state *s = user;
    if (!s->json)
        printf("%s: kept: measured %s by this program with this configuration (--force measures it again)\n", name,
               date);
    fflush(stdout);
}

/* ---- run --dry-run --------------------------------------------------------------------------------------------- */

typedef struct dry_state {
    run_state run; /* first: the runner's callbacks share one pointer */
    cpl_json_writer w;
    double seconds;
} dry_state;

static void on_planned(void *user, const cpl_lab_result *r, const char *what, const char *why,
                       const cpl_lab_forecast *f)
{
    dry_state *s = user;
    s->seconds += f->expected_s;
    if (s->run.json) {
        cpl_json_open(&s->w, NULL, '{');
        cpl_json_text(&s->w, "name", r->name);
        cpl_json_text(&s->w, "backend", r->backend);
        cpl_json_text(&s->w, "what", what);
        cpl_json_text(&s->w, "why", why);
        cpl_json_int(&s->w, "rows", (int64_t)f->rows);
        cpl_json_int(&s->w, "rows_known", (int64_t)f->known);
        cpl_json_double(&s->w, "seconds", f->expected_s);
        cpl_json_double(&s->w, "seconds_measured_max", f->most_s);
        cpl_json_close(&s->w, '}');
        return;
    }
    printf("%-38s %-9s %-8s", r->name, r->backend, what);
    if (!strcmp(what, "run")) printf(" %3zu rows %5.0f s, %.0f s measured at most", f->rows, f->expected_s, f->most_s);
    printf("%s%s\n", *why ? " " : "", why);
}

static cpl_status dry_run(cpl_lab_options *o, bool json, cpl_error *err)
{
    size_t failed;
    cpl_buf out = {0};
    dry_state s = {.run.json = json, .w = {.out = &out, .pretty = true}};
    o->planned = on_planned;
    o->user = &s;
    cpl_json_open(&s.w, NULL, '{');
    cpl_json_open(&s.w, "experiments", '[');
    cpl_status st = cpl_lab_run(o, &failed, err);
    cpl_json_close(&s.w, ']');
    cpl_json_double(&s.w, "seconds", s.seconds);
    cpl_json_close(&s.w, '}');
    if (!st && json) st = cpl_buf_status(&out, err);
    if (!st && json) printf("%s\n", out.data);
    if (!st && !json)
        printf("In all %.0f minutes, by the speeds of older results where there are any; rounds measured again come on "
               "top.\n",
               s.seconds / 60);
    cpl_buf_deinit(&out);
    return st;
}

static bool is_all(const cpl_args *args)
{
    return cpl_args_positional_count(args) == 1 && !strcmp(cpl_args_positional(args, 0), "all");
}

/* The files named, or those of the folder for "all". *listed is what must be released. */
static cpl_status take_files(const cpl_args *args, const char *const **files, char ***listed, const char **room,
                             size_t cap, cpl_error *err)
{
    size_t n = cpl_args_positional_count(args);
    *listed = NULL;
    if (!n) return cpl_fail(err, CPL_INVALID, "no experiment was given: name files, or 'all'");
    if (is_all(args)) {
        cpl_status st = cpl_lab_files_list(listed, FOLDER, err);
        *files = (const char *const *)*listed;
        return st;
    }
    if (n >= cap) return cpl_fail(err, CPL_INVALID, "more than %zu experiments: use 'all'", cap - 1);
    for (size_t i = 0; i < n; i++) room[i] = cpl_args_positional(args, i);
    room[n] = NULL;
    *files = room;
    return CPL_OK;
}

enum { FILES_MAX = 256 };

static int run(const cpl_args *args)
{
    cpl_error err;
    cpl_log storage;
    const char *room[FILES_MAX];
    char **listed;
    size_t failed = 0;
    run_state s = {.json = cpl_args_switch(args, "json")};
    cpl_lab_options o = {.sets = cpl_args_list(args, "set"),
                         .output_dir = cpl_args_text(args, "output"),
                         .target = cpl_args_text(args, "target"),
                         .quick = cpl_args_switch(args, "quick"),
                         .resume = is_all(args) && !cpl_args_switch(args, "force"),
                         .progress = isatty(2) ? on_progress : NULL,
                         .finished = on_finished,
                         .kept = on_kept,
                         .user = &s,
                         .log = cpl_cli_log(&storage, NULL)};
    cpl_status st = take_files(args, &o.files, &listed, room, FILES_MAX, &err);
    const bool dry = cpl_args_switch(args, "dry-run");
    if (!st) st = dry ? dry_run(&o, s.json, &err) : cpl_lab_run(&o, &failed, &err);
    if (dry) {
        cpl_lab_files_close(listed);
        return st ? cpl_cli_fail(&err) : 0;
    }
    cpl_progress_finish(&s.bar);
    if (s.json && !st) st = cpl_buf_status(&s.out, &err);
    if (s.json && !st) printf("{\"results\": [\n%s]}\n", s.out.data ? s.out.data : "");
    cpl_buf_deinit(&s.out);
    cpl_lab_files_close(listed);
    if (st) return cpl_cli_fail(&err);
    return failed ? 1 : 0;
}

static const cpl_flag run_flags[] = {
    {"target", CPL_FLAG_TEXT, "HOST:PORT", NULL, "drive the server that is up there instead of starting one"},
    {"quick", CPL_FLAG_SWITCH, NULL, NULL, "a few requests a row, one round: to see that it works; results say so"},
    {"force", CPL_FLAG_SWITCH, NULL, NULL, "with 'all': measure again what a result of this program already says"},
    {"dry-run", CPL_FLAG_SWITCH, NULL, NULL,
     "run nothing: say what would be run, kept or can't be, and how long it takes"},
    {"output", CPL_FLAG_TEXT, "DIR", "docs/experiments", "folder for NAME.json and NAME.md"},
    {"set", CPL_FLAG_LIST, "KEY=VALUE", NULL, "override any key of the files; results say so"},
    {"json", CPL_FLAG_SWITCH, NULL, NULL, "print one JSON document"},
    {NULL, CPL_FLAG_SWITCH, NULL, NULL, NULL},
};

const cpl_command cpl_command_experiment_run = {
    .name = "experiment run",
    .summary = "run experiments and write up their results",
    .positional = "FILE... | all",
    .flags = run_flags,
    .details =
        "For each file: starts `couplet serve` with its settings (once for each combination of swept ones), drives it "
        "with every batch size at every concurrency, and writes NAME.json and NAME.md. An experiment whose backend "
        "isn't here says so in its result and the others go on; --set model.backend=native runs it anyway. "
        "Experiments side by side whose names start with the same number and that repeat their rounds take them in "
        "turn, so that they can be compared. `couplet report` then writes the pages over all of them.\n\n"
        "'all' runs everything in the folder experiments and goes on where it stopped: what the same program (its "
        "digest), configuration and machine have measured already is kept; --force measures it again. What this "
        "machine can't run gets a result that says why.\n\n"
        "With --target nothing is started: the server that is up is driven as it is, and a file that sweeps server "
        "settings is refused. Exit status 1 when an experiment failed.",
    .run = run,
};

/* ---- list ----------------------------------------------------------------------------------------------------- */

/* Seconds that rows are measured, as planned and at most; one without a limit doesn't count. */
typedef struct planned {
    double seconds, most;
} planned;

static cpl_status list_one(const char *file, bool json, cpl_json_writer *w, planned *all, cpl_error *err)
{
    cpl_config *c = NULL;
    cpl_lab_plan *p = NULL;
    cpl_status st = cpl_config_load(&c, file, true, NULL, err);
    if (!st) st = cpl_lab_plan_open(&p, c, file, false, err);
    const double rows = st ? 0 : (double)(cpl_lab_plan_rows(p) / p->model_count * p->rounds);
    const double seconds = st ? 0 : rows * p->duration_s;
    const double most = st || p->duration_max_s < p->duration_s ? seconds : rows * p->duration_max_s;
    cpl_error why;
    if (!st && !cpl_lab_backend_check(cpl_config_text(c, "model.backend"), "", &why)) {
        all->seconds += seconds;
        all->most += most;
    }
    if (!st && json) {
        cpl_json_open(w, NULL, '{');
        cpl_json_text(w, "name", p->name);
        cpl_json_text(w, "file", file);
        cpl_json_text(w, "phase", cpl_config_text(c, "experiment.phase"));
        cpl_json_text(w, "description", cpl_config_text(c, "experiment.description"));
        cpl_json_text(w, "backend", cpl_config_text(c, "model.backend"));
        cpl_json_int(w, "rows", (int64_t)cpl_lab_plan_rows(p));
        cpl_json_int(w, "rounds", p->rounds);
        cpl_json_double(w, "seconds", seconds);
        cpl_json_double(w, "seconds_max", most);
        cpl_json_close(w, '}');
    } else if (!st) {
        printf("%-38s %-9s %3zu rows x %u %5.0f s  %s\n", p->name, cpl_config_text(c, "model.backend"),
               cpl_lab_plan_rows(p), p->rounds, seconds, cpl_config_text(c, "experiment.description"));
    }
    cpl_lab_plan_close(p);
    cpl_config_close(c);
    return st;
}

static int list(const cpl_args *args)
{
    cpl_error err;
    char **files = NULL;
    bool json = cpl_args_switch(args, "json");
    cpl_buf out = {0};
    cpl_json_writer w = {.out = &out, .pretty = true};
    cpl_status st = cpl_lab_files_list(&files, cpl_args_text(args, "dir"), &err);
    cpl_json_open(&w, NULL, '{');
    cpl_json_open(&w, "experiments", '[');
    planned all = {0, 0};
    for (char **f = files; !st && *f; f++) st = list_one(*f, json, &w, &all, &err);
    cpl_json_close(&w, ']');
    cpl_json_close(&w, '}');
    if (!st && json) st = cpl_buf_status(&out, &err);
    if (!st && json) printf("%s\n", out.data);
    if (!st && !json)
        printf("What can run here is measured for %.0f minutes, at most %.0f where rows are extended "
               "(duration_max); warm-ups and starts come on top.\n",
               all.seconds / 60, all.most / 60);
    cpl_buf_deinit(&out);
    cpl_lab_files_close(files);
    return st ? cpl_cli_fail(&err) : 0;
}

static const cpl_flag list_flags[] = {
    {"dir", CPL_FLAG_TEXT, "DIR", FOLDER, "folder of experiment files"},
    {"json", CPL_FLAG_SWITCH, NULL, NULL, "print one JSON document"},
    {NULL, CPL_FLAG_SWITCH, NULL, NULL, NULL},
};

const cpl_command cpl_command_experiment_list = {
    .name = "experiment list",
    .summary = "list experiment files",
    .flags = list_flags,
    .run = list,
};

/* ---- check ---------------------------------------------------------------------------------------------------- */

static int check(const cpl_args *args)
{
    cpl_error err;
    const char *room[FILES_MAX];
    const char *const *files = NULL;
    char **listed = NULL;
    size_t good = 0, bad = 0;
    cpl_status st = CPL_OK;
    if (cpl_args_positional_count(args)) {
        st = take_files(args, &files, &listed, room, FILES_MAX, &err);
    } else {
        st = cpl_lab_files_list(&listed, FOLDER, &err);
        files = (const char *const *)listed;
    }
    if (st) return cpl_cli_fail(&err);
    for (const char *const *f = files; *f; f++) {
        if (cpl_lab_check(*f, cpl_args_list(args, "set"), &err)) {
            cpl_cli_fail(&err);
            bad++;
        } else {
            good++;
        }
    }
    if (cpl_args_switch(args, "json"))
        printf("{\"good\": %zu, \"bad\": %zu}\n", good, bad);
    else
        printf("%zu experiments are good, %zu are not\n", good, bad);
    cpl_lab_files_close(listed);
    return bad ? 1 : 0;
}

static const cpl_flag check_flags[] = {
    {"set", CPL_FLAG_LIST, "KEY=VALUE", NULL, "override a key before checking"},
    {"json", CPL_FLAG_SWITCH, NULL, NULL, "print one JSON document"},
    {NULL, CPL_FLAG_SWITCH, NULL, NULL, NULL},
};

const cpl_command cpl_command_experiment_check = {
    .name = "experiment check",
    .summary = "check experiment files without running them",
    .positional = "[FILE...]",
    .flags = check_flags,
    .details = "Without files: all of the folder experiments. Every server setting a file asks for is checked, swept "
               "ones included. Exit status 1 when a file is wrong.",
    .run = check,
};
