/* SPDX-License-Identifier: Apache-2.0 */
/* runner.c - experiments from file to result. The one idea: a job is one experiment, a round is every row of it once;
 * jobs that will be compared take their rounds in turn (A B C A B C), so a machine that slows down slows all of them.
 * Invariants: one server at a time and none left behind; a job that fails keeps the rows it has and the others go on;
 * all files are read and planned before the first server starts, so a typo in the last costs nothing.
 * Threads: the caller's only. Rejected: a server for each row (start-up costs more than many rows, and a warm server is
 * what production has). */
#include "lab/runner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/system.h"
#include "base/thread.h"
#include "lab/accuracy.h"
#include "lab/child.h"
#include "lab/describe.h"
#include "lab/job.h"
#include "lab/machine.h"
#include "lab/page.h"
#include "lab/resume.h"
#include "model/locate.h"

enum { START_TIMEOUT_MS = 60000, STOP_GRACE_MS = 40000, ARGS_MAX = 64 };

static void give_up(cpl_lab_job *job, const char *status, const cpl_error *e)
{
    job->skip = true;
    job->result->status = status;
    job->result->reason = cpl_lab_text(job->result, "%s", e->what);
    /* What can't run here is in the result, which is shown; what failed is also a warning. */
    cpl_log_write(job->options->log, strcmp(status, "failed") != 0 ? CPL_LOG_INFO : CPL_LOG_WARN, "%s: %s: %s",
                  job->plan->name, status, e->what);
}

/* ---- servers ------------------------------------------------------------------------------------------------- */

static cpl_status serve_arguments(const cpl_lab_job *job, size_t server, const char *program, const char **argv,
                                  cpl_error *err)
{
    size_t n = 0;
    argv[n++] = program;
    argv[n++] = "serve";
    argv[n++] = "--experiment";
    argv[n++] = job->file;
    argv[n++] = "--listen";
    argv[n++] = "127.0.0.1:0";
    const char *const *lists[] = {job->options->sets, job->plan->servers[server].sets};
    for (size_t k = 0; k < 2; k++)
        for (const char *const *s = lists[k]; s && *s; s++) {
            if (n + 3 > ARGS_MAX) return cpl_fail(err, CPL_INVALID, "more than %d arguments for a server", ARGS_MAX);
            argv[n++] = "--set";
            argv[n++] = *s;
        }
    argv[n] = NULL;
    return CPL_OK;
}

static cpl_status find_program(const cpl_lab_options *o, char *program, size_t cap, cpl_error *err)
{
    if (o->program) {
        snprintf(program, cap, "%s", o->program);
        return CPL_OK;
    }
    if (!cpl_system_program(program, cap)) return cpl_fail(err, CPL_IO, "can't tell which file this program is");
    return CPL_OK;
}

/* A swept setting that this machine has nothing for. */
static cpl_status check_server(const cpl_lab_job *job, size_t server, cpl_error *err)
{
    const unsigned long cores = cpl_cpu_count();
    for (const char *const *s = job->plan->servers[server].sets; *s; s++)
        if (!strncmp(*s, "workers=", 8) && strtoul(*s + 8, NULL, 10) > cores)
            return cpl_fail(err, CPL_UNSUPPORTED, "this machine has %lu cores for %s workers", cores, *s + 8);
    return CPL_OK;
}

/* A server of several that can't be started takes its rows with it, not the others'. */
static cpl_status leave_server_out(cpl_lab_job *job, size_t server, const cpl_error *why, cpl_error *err)
{
    const cpl_lab_plan *plan = job->plan;
    const size_t rows = cpl_lab_plan_rows(plan) / plan->server_count;
    bool any = false;
    for (size_t i = 0; i < rows; i++) job->rows[server * rows + i].not_run = cpl_lab_text(job->result, "%s", why->what);
    job->rows_done += rows;
    cpl_log_write(job->options->log, CPL_LOG_WARN, "%s: %s: not run: %s", plan->name, plan->servers[server].label,
                  why->what);
    for (size_t i = 0; i < plan->server_count; i++) any |= !job->rows[i * rows].not_run;
    if (any) return CPL_OK;
    if (err) *err = *why;
    return why->status;
}

/* Every row of this server is left out. */
static bool nothing_left(const cpl_lab_job *job, size_t server)
{
    const size_t rows = cpl_lab_plan_rows(job->plan) / job->plan->server_count;
    for (size_t i = 0; i < rows; i++)
        if (!job->rows[server * rows + i].not_run) return false;
    return true;
}

static cpl_status run_server(cpl_lab_job *job, size_t server, cpl_error *err)
{
    if (job->options->target) return cpl_lab_drive(job, server, job->options->target, err);
    if (nothing_left(job, server)) return CPL_OK;
    const char *argv[ARGS_MAX];
    char program[1024];
    cpl_error why;
    cpl_child child = {0};
    cpl_status st = find_program(job->options, program, sizeof program, err);
    if (!st) st = serve_arguments(job, server, program, argv, err);
    if (st) return st;
    st = check_server(job, server, &why);
    if (!st) st = cpl_child_start(&child, argv, START_TIMEOUT_MS, &why);
    if (st) return leave_server_out(job, server, &why, err);
    if (child.ready_ms > job->result->ready_ms_max) job->result->ready_ms_max = child.ready_ms;
    st = cpl_lab_drive(job, server, child.address, err);
    cpl_error stop;
    cpl_status stopped = cpl_child_stop(&child, STOP_GRACE_MS, &stop);
    if (!stopped) return st;
    if (err) *err = stop; /* a server that died explains the failed requests better than they do */
    return stopped;
}

static void run_round(cpl_lab_job *job)
{
    cpl_error e;
    for (size_t s = 0; !job->skip && s < job->plan->server_count; s++)
        if (run_server(job, s, &e)) give_up(job, "failed", &e);
}

/* ---- jobs ---------------------------------------------------------------------------------------------------- */

static void job_deinit(cpl_lab_job *job)
{
    cpl_config_close(job->config);
    cpl_lab_plan_close(job->plan);
    cpl_pool_close(job->pool);
    cpl_lab_result_close(job->result);
    free(job->rows);
    free(job->selftests);
}

static cpl_status check_target(const cpl_lab_job *job, cpl_error *err)
{
    const char *key;
    size_t values;
    if (!job->options->target || !cpl_config_sweep(job->config, 0, &key, &values)) return CPL_OK;
    return cpl_fail_file(err, CPL_INVALID, job->file,
                         "sweeps '%s', a setting of the server: it can't be done against --target %s; leave --target "
                         "out and the runner starts its own servers",
                         key, job->options->target);
}

static cpl_status job_init(cpl_lab_job *job, const cpl_lab_options *o, const char *file, const cpl_lab_result *like,
                           cpl_error *err)
{
    *job = (cpl_lab_job){.options = o, .file = file};
    cpl_status st = cpl_config_load(&job->config, file, true, o->sets, err);
    if (!st) st = cpl_lab_plan_open(&job->plan, job->config, file, o->quick, err);
    if (st) return st;
    st = check_target(job, err);
    if (!st) st = cpl_lab_result_open(&job->result, err);
    if (st) return st;
    job->rows = calloc(cpl_lab_plan_rows(job->plan), sizeof *job->rows);
    job->selftests = calloc(job->plan->level_count, sizeof *job->selftests);
    if (!job->rows || !job->selftests) return cpl_fail_memory(err, cpl_lab_plan_rows(job->plan) * sizeof *job->rows);
    const char *model = cpl_config_text(job->config, "model.name");
    cpl_error missing; /* reported when the job's turn comes: the others go on */
    if (cpl_model_locate(job->model_dir, sizeof job->model_dir, model, true, &job->seeded, &missing))
        job->model_dir[0] = 0;
    return cpl_lab_describe_plan(job->result, job->config, job->plan, o, file, job->seeded ? job->model_dir : NULL,
                                 like, err);
}

/* A dialect whose requests are one query each needs as many documents of each as any of its rows sends at once. */
static uint32_t documents_of(const cpl_lab_job *job)
{
    const cpl_lab_plan *plan = job->plan;
    uint64_t all = (uint64_t)cpl_config_int(job->config, "experiment.documents_per_query");
    for (size_t b = 0; plan->dialect->one_query && b < plan->batch_count; b++) {
        uint64_t x = all, y = plan->batches[b];
        while (y) {
            const uint64_t rest = x % y;
            x = y;
            y = rest;
        }
        all *= plan->batches[b] / x;
        if (all > CPL_POOL_PAIRS_MAX) return CPL_POOL_PAIRS_MAX + 1u; /* refused by name */
    }
    return (uint32_t)all;
}

/* Pairs the longest row of the plan may send. */
static cpl_status open_pool(cpl_lab_job *job, cpl_error *err)
{
    uint64_t most = 1;
    const cpl_lab_plan *plan = job->plan;
    for (size_t b = 0; b < plan->batch_count; b++)
        for (size_t l = 0; l < plan->level_count; l++) {
            uint64_t n = plan->requests + cpl_lab_warmup_of(plan, plan->levels[l]) + 4 * (uint64_t)plan->levels[l];
            if (n * plan->batches[b] > most) most = n * plan->batches[b];
        }
    /* Inference only: the warm-up must have sent every text, in each of its rows. */
    if (plan->inference_only) {
        most = plan->warmup ? plan->warmup : 1;
        most *= plan->batches[0];
        for (size_t b = 1; b < plan->batch_count; b++)
            if (plan->warmup * plan->batches[b] < most) most = plan->warmup * plan->batches[b];
    }
    cpl_shape shape;
    const char *path = cpl_config_text(job->config, "experiment.pairs");
    cpl_status st = cpl_shape_parse(&shape, cpl_config_text(job->config, "experiment.lengths"), documents_of(job),
                                    cpl_config_float(job->config, "experiment.duplicates"), err);
    if (st) return st;
    if (!*path && shape.lengths == CPL_LENGTHS_GIVEN) path = getenv("COUPLET_DATA");
    job->pairs = path && *path ? path : NULL;
    st = cpl_pool_open_shaped(&job->pool, job->pairs, &shape, plan->seed,
                              most > CPL_POOL_PAIRS_MAX ? CPL_POOL_PAIRS_MAX : (size_t)most, err);
    if (!st) job->result->pairs_source = cpl_lab_text(job->result, "%s", cpl_pool_source(job->pool));
    return st;
}

/* What must hold before its first server starts; a job that can't run here says so. */
static void job_prepare(cpl_lab_job *job)
{
    cpl_error e;
    const char *precision = "", *fallback = cpl_config_text(job->config, "model.on_unsupported");
    if (strcmp(fallback, "fallback") != 0) cpl_config_precision(job->config, &precision, NULL);
    if (!job->options->target && cpl_lab_backend_check(cpl_config_text(job->config, "model.backend"), precision, &e)) {
        give_up(job, "not run", &e);
        return;
    }
    if (!job->options->target && !*job->model_dir) {
        cpl_model_locate(job->model_dir, sizeof job->model_dir, cpl_config_text(job->config, "model.name"), true,
                         &job->seeded, &e);
        give_up(job, "not run", &e);
        return;
    }
    if (open_pool(job, &e)) give_up(job, "failed", &e);
}

/* "a=1 b=2": the settings of the backend's own section. */
static void own_settings(const cpl_lab_job *job, char *out, size_t cap)
{
    cpl_buf text = {0};
    const size_t n = cpl_config_backend_settings(job->config, &text);
    size_t used = 0;
    out[0] = 0;
    for (size_t i = 0, at = 0; i < n && !text.failed && used < cap; i++, at += strlen(text.data + at) + 1)
        used += (size_t)snprintf(out + used, cap - used, "%s%s", i ? " " : "", text.data + at);
    cpl_buf_deinit(&text);
}

/* Has `other` measured what `job` would: the same numbers, model and texts? */
static bool same_accuracy(const cpl_lab_job *other, const cpl_lab_job *job, uint64_t count)
{
    char a[512], b[512];
    const cpl_lab_result *x = other->result, *y = job->result;
    own_settings(other, a, sizeof a);
    own_settings(job, b, sizeof b);
    return x->quality.pairs == count && x->precision_effective && !strcmp(x->backend, y->backend) &&
           !strcmp(x->precision_effective, y->precision_effective) && !strcmp(a, b) &&
           !strcmp(other->model_dir, job->model_dir) && other->plan->seed == job->plan->seed &&
           !strcmp(other->pairs ? other->pairs : "", job->pairs ? job->pairs : "");
}

/* Once the rounds are through. A run whose accuracy can't be measured still has its speed. */
static void measure_accuracy(cpl_lab_job *job)
{
    uint64_t count = job->plan->quality_pairs;
    const char *backend = job->result->backend, *precision = job->result->precision_effective;
    char program[1024];
    cpl_error e;
    if (job->skip || job->options->target || !count || !precision || !*precision) return;
    if (job->options->quick && count > CPL_LAB_QUICK_REQUESTS) count = CPL_LAB_QUICK_REQUESTS;
    char settings[512];
    own_settings(job, settings, sizeof settings);
    for (const cpl_lab_job *other = job->first; other < job; other++) {
        if (!same_accuracy(other, job, count)) continue;
        job->result->quality = other->result->quality;
        return;
    }
    const cpl_lab_accuracy_options o = {program,    job->model_dir,  backend, precision,     settings,
                                        job->pairs, job->plan->seed, count,   count / 20 + 1};
    cpl_status st = find_program(job->options, program, sizeof program, &e);
    if (!st) st = cpl_lab_accuracy(&job->result->quality, &o, &e);
    if (st) cpl_log_write(job->options->log, CPL_LOG_WARN, "%s: accuracy not measured: %s", job->plan->name, e.what);
}

static cpl_status make_points(cpl_lab_job *job, cpl_error *err)
{
    const cpl_lab_plan *plan = job->plan;
    cpl_lab_result *r = job->result;
    size_t rows = cpl_lab_plan_rows(plan);
    r->points = CPL_ARENA_NEW(&r->arena, cpl_lab_point, rows);
    if (!r->points) return cpl_fail_memory(err, rows * sizeof *r->points);
    for (size_t i = 0; i < rows; i++) {
        if (!job->rows[i].rounds && !job->rows[i].not_run) continue;
        cpl_lab_point *p = &r->points[r->point_count++];
        const size_t k = i / plan->model_count;
        const char *setting = plan->servers[k / (plan->batch_count * plan->level_count)].label;
        const char *model = plan->models[i % plan->model_count];
        p->server = model ? cpl_lab_text(r, "%s%smodel=%s", setting, *setting ? ", " : "", model) : setting;
        p->batch = plan->batches[k / plan->level_count % plan->batch_count];
        const uint32_t level = plan->levels[k % plan->level_count];
        p->concurrency = plan->scenario->open ? 0 : level;
        p->rate = plan->scenario->open ? level : 0;
        cpl_lab_row_finish(&job->rows[i], p->batch, p, r);
    }
    return CPL_OK;
}

static cpl_status write_result(cpl_lab_job *job, const char *dir, cpl_error *err)
{
    char path[1024];
    cpl_buf json = {0}, page = {0};
    cpl_lab_result *again = NULL;
    cpl_lab_result_write(job->result, &json);
    cpl_status st = cpl_buf_status(&json, err);
    /* The page is made from the document, as `couplet report` would, not from what is in memory. */
    if (!st) st = cpl_lab_result_parse(&again, job->plan->name, json.data, json.size, err);
    if (!st) cpl_lab_page(again, "", &page);
    if (!st) st = cpl_buf_status(&page, err);
    const char *const suffix[] = {".json", ".md"};
    for (int i = 0; !st && i < 2; i++) {
        char name[300];
        snprintf(name, sizeof name, "%.250s%s", job->plan->name, suffix[i]);
        st = cpl_file_join(path, sizeof path, dir, name, err);
        if (!st) st = cpl_file_write(path, i ? page.data : json.data, i ? page.size : json.size, err);
    }
    cpl_lab_result_close(again);
    cpl_buf_deinit(&json);
    cpl_buf_deinit(&page);
    return st;
}

static cpl_status job_finish(cpl_lab_job *job, const char *dir, size_t *failed, cpl_error *err)
{
    if (!job->skip) job->result->status = "ran";
    measure_accuracy(job);
    cpl_pool_close(job->pool); /* the next one has its own */
    job->pool = NULL;
    cpl_status st = make_points(job, err);
    if (!st) st = write_result(job, dir, err);
    if (st) return st;
    *failed += !strcmp(job->result->status, "failed");
    if (job->options->finished) job->options->finished(job->options->user, job->result);
    return CPL_OK;
}

/* ---- groups -------------------------------------------------------------------------------------------------- */

/* How many jobs from `jobs` on take their rounds in turn. */
static size_t group_size(const cpl_lab_job *jobs, size_t n)
{
    size_t k = 1;
    if (jobs[0].plan->rounds < 2) return 1;
    while (k < n && jobs[k].plan->rounds == jobs[0].plan->rounds &&
           cpl_lab_plan_related(jobs[0].plan->name, jobs[k].plan->name))
        k++;
    return k;
}

static void name_group(cpl_lab_job *jobs, size_t n)
{
    for (size_t i = 0; n > 1 && i < n; i++) {
        char text[1024] = "";
        size_t used = 0;
        for (size_t k = 0; k < n && used < sizeof text; k++)
            if (k != i)
                used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", used ? ", " : "", jobs[k].plan->name);
        jobs[i].result->interleaved = cpl_lab_text(jobs[i].result, "%s", text);
    }
}

/* All that can run here have their result: those of a group are only worth something from the same hour. */
static bool stands_already(cpl_lab_job *jobs, size_t n, const char *dir)
{
    char date[32][32];
    size_t can = 0;
    if (!jobs[0].options->resume || n > 32) return false;
    for (size_t i = 0; i < n; i++) {
        if (jobs[i].skip) continue;
        if (!cpl_lab_measured_already(jobs[i].result, dir, date[i], sizeof date[i])) return false;
        can++;
    }
    if (!can) return false; /* nothing was measured: what can't run is looked at again */
    for (size_t i = 0; i < n; i++)
        if (!jobs[i].skip && jobs[i].options->kept && !jobs[i].options->planned)
            jobs[i].options->kept(jobs[i].options->user, jobs[i].plan->name, date[i]);
    return true;
}

/* What run_group would do. */
static void tell_plan(cpl_lab_job *job, const char *dir, bool kept)
{
    char path[1024], name[300];
    cpl_buf text = {0};
    cpl_lab_result *old = NULL;
    snprintf(name, sizeof name, "%.250s.json", job->plan->name);
    if (!cpl_file_join(path, sizeof path, dir, name, NULL) && cpl_file_exists(path) &&
        !cpl_file_read(&text, path, 64 << 20, NULL))
        cpl_lab_result_parse(&old, path, text.data, text.size, NULL);
    cpl_lab_forecast f = cpl_lab_forecast_of(job->plan, old);
    if (job->skip || kept) f.expected_s = f.most_s = 0;
    const cpl_lab_options *o = job->options;
    if (job->skip)
        o->planned(o->user, job->result, job->result->status, job->result->reason, &f);
    else
        o->planned(o->user, job->result, kept ? "kept" : "run", kept && old ? old->date : "", &f);
    cpl_lab_result_close(old);
    cpl_buf_deinit(&text);
}

static cpl_status run_group(cpl_lab_job *jobs, size_t n, const char *dir, size_t *failed, cpl_error *err)
{
    name_group(jobs, n);
    for (size_t i = 0; i < n; i++) job_prepare(&jobs[i]);
    const bool kept = stands_already(jobs, n, dir);
    for (size_t i = 0; jobs[0].options->planned && i < n; i++) {
        tell_plan(&jobs[i], dir, kept);
        cpl_pool_close(jobs[i].pool);
        jobs[i].pool = NULL;
    }
    if (kept || jobs[0].options->planned) return CPL_OK;
    const double now = cpl_clock_wall_seconds();
    for (size_t i = 0; i < n; i++) cpl_lab_describe_date(jobs[i].result, now);
    for (uint32_t round = 0; round < jobs[0].plan->rounds; round++)
        for (size_t i = 0; i < n; i++) run_round(&jobs[i]);
    cpl_status st = CPL_OK;
    for (size_t i = 0; !st && i < n; i++) st = job_finish(&jobs[i], dir, failed, err);
    return st;
}

cpl_status cpl_lab_run(const cpl_lab_options *options, size_t *failed, cpl_error *err)
{
    size_t n = 0, ready = 0;
    const char *dir = options->output_dir ? options->output_dir : "docs/experiments";
    *failed = 0;
    while (options->files[n]) n++;
    cpl_lab_job *jobs = calloc(n ? n : 1, sizeof *jobs);
    cpl_energy *energy = NULL;
    if (!jobs) return cpl_fail_memory(err, n * sizeof *jobs);
    cpl_status st = cpl_energy_open(&energy, NULL, NULL, err);
    if (!st && !options->planned)
        st = n ? cpl_file_make_dirs(dir, err) : cpl_fail(err, CPL_INVALID, "no experiment file was given");
    for (; !st && ready < n; ready++) {
        st = job_init(&jobs[ready], options, options->files[ready], ready ? jobs[0].result : NULL, err);
        if (st) continue;
        jobs[ready].energy = energy;
        jobs[ready].first = jobs;
        jobs[ready].result->energy = cpl_energy_source(energy);
    }
    for (size_t i = 0, k; !st && i < n; i += k) {
        k = group_size(jobs + i, n - i);
        st = run_group(jobs + i, k, dir, failed, err);
    }
    for (size_t i = ready; i-- > 0;) job_deinit(&jobs[i]); /* the first result holds what all say of the machine */
    free(jobs);
    cpl_energy_close(energy);
    return st;
}
