/* SPDX-License-Identifier: Apache-2.0 */
/* runner.c - experiments from file to result. The one idea: a job is one experiment, a round is every row of it once;
 * jobs that will be compared take their rounds in turn (A B C A B C), so a machine that slows down slows all of them.
 * Invariants: one server at a time and none left behind; a job that fails keeps the rows it has and the others go on;
 * all files are read and planned before the first server starts, so a typo in the last costs nothing.
 * Threads: the caller's only. Rejected: a server for each row (start-up costs more than many rows, and a warm server is
 * what production has). */
#include "lab/runner.h"

#include <pthread.h>
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
#include "lab/energy.h"
#include "lab/machine.h"
#include "lab/page.h"
#include "lab/plan.h"
#include "lab/resume.h"
#include "lab/row.h"
#include "load/selftest.h"
#include "model/locate.h"

enum { START_TIMEOUT_MS = 60000, STOP_GRACE_MS = 40000, ARGS_MAX = 64 };

typedef struct lab_job {
    const cpl_lab_options *options;
    const char *file;
    cpl_config *config;
    cpl_lab_plan *plan;
    cpl_pool *pool;
    cpl_energy *energy; /* of the whole run */
    const char *pairs;  /* file of texts; NULL: generated */
    cpl_lab_result *result;
    cpl_lab_row *rows;       /* server by batch by level */
    cpl_selftest *selftests; /* by level */
    bool seeded;             /* the seeded cross-encoder stands in for the model */
    char model_dir[1024];
    size_t rows_done; /* for progress, over all rounds */
    bool skip;        /* not run, or failed */
} lab_job;

static void give_up(lab_job *job, const char *status, const cpl_error *e)
{
    job->skip = true;
    job->result->status = status;
    job->result->reason = cpl_lab_text(job->result, "%s", e->what);
    /* What can't run here is in the result, which is shown; what failed is also a warning. */
    cpl_log_write(job->options->log, strcmp(status, "failed") != 0 ? CPL_LOG_INFO : CPL_LOG_WARN, "%s: %s: %s",
                  job->plan->name, status, e->what);
}

/* ---- one row ------------------------------------------------------------------------------------------------- */

typedef struct lab_progress {
    const lab_job *job;
    double duration_s;
    uint64_t start_ns;
} lab_progress;

static void on_progress(void *user, uint64_t measured, uint64_t asked)
{
    const lab_progress *p = user;
    const cpl_lab_options *o = p->job->options;
    double part = asked ? (double)measured / (double)asked : 0;
    double by_time = p->duration_s > 0 ? (double)(cpl_clock_ns() - p->start_ns) / 1e9 / p->duration_s : 0;
    if (by_time > part) part = by_time;
    o->progress(o->user, p->job->plan->name, p->job->rows_done, cpl_lab_plan_rows(p->job->plan) * p->job->plan->rounds,
                part > 1 ? 1 : part);
}

static uint64_t warmup_of(const cpl_lab_plan *plan, uint32_t level)
{
    if (plan->scenario->open) return plan->warmup;
    return plan->warmup > level ? plan->warmup : level; /* below one a client the window would open on the ramp */
}

/* The generator against a server that does nothing: once for each level of load, before the first row at it. */
static cpl_status selftest(lab_job *job, cpl_load_options *o, const cpl_workload *w, cpl_error *err)
{
    size_t l = 0;
    while (job->plan->levels[l] != (uint32_t)(job->plan->scenario->open ? o->rate : o->concurrency)) l++;
    o->selftest = &job->selftests[l];
    return job->selftests[l].ran ? CPL_OK : cpl_selftest_run(&job->selftests[l], o, w, err);
}

/* One model of a row, on a thread of its own where there are several. */
typedef struct lab_load {
    cpl_load_options options;
    cpl_workload *workload;
    cpl_load_result *result;
    cpl_status status;
    cpl_error error;
    pthread_t thread;
    bool started;
} lab_load;

static void *load_thread(void *arg)
{
    lab_load *l = arg;
    l->status = cpl_load_run(&l->result, &l->options, l->workload, &l->error);
    return NULL;
}

static cpl_status take_result(lab_job *job, cpl_lab_row *row, const lab_load *l, cpl_error *err)
{
    const cpl_load_result *r = l->result;
    if (l->status) {
        if (err) *err = l->error;
        return l->status;
    }
    row->shared_server = job->plan->model_count > 1;
    cpl_lab_row_add(row, r, job->result);
    cpl_lab_describe_server(job->result, r);
    if (!r->gave_up || r->measure.requests) return CPL_OK;
    return cpl_fail(err, CPL_UNAVAILABLE, "no request was answered: %s", r->errors[0].message);
}

/* All models at once: the rest on threads, the first on this one. */
static cpl_status run_loads(lab_load *loads, size_t n, cpl_error *err)
{
    cpl_status st = CPL_OK;
    for (size_t i = 1; !st && i < n; i++) {
        loads[i].started = !pthread_create(&loads[i].thread, NULL, load_thread, &loads[i]);
        if (!loads[i].started) st = cpl_fail(err, CPL_NO_MEMORY, "can't start a thread for the load of a model");
    }
    if (!st) load_thread(&loads[0]);
    for (size_t i = 1; i < n; i++)
        if (loads[i].started) pthread_join(loads[i].thread, NULL);
    return st;
}

/* `rows`: one for each model. */
static cpl_status run_row(lab_job *job, cpl_lab_row *rows, const char *target, uint32_t batch, uint32_t level,
                          cpl_error *err)
{
    const cpl_lab_plan *plan = job->plan;
    lab_progress progress = {job, plan->duration_s, cpl_clock_ns()};
    lab_load *loads = calloc(plan->model_count, sizeof *loads);
    cpl_status st = loads ? CPL_OK : cpl_fail_memory(err, plan->model_count * sizeof *loads);
    for (size_t i = 0; !st && i < plan->model_count; i++) {
        loads[i].options = (cpl_load_options){.target = target,
                                              .scenario = plan->scenario,
                                              .concurrency = plan->scenario->open ? 0 : level,
                                              .rate = level,
                                              .seed = plan->seed + i,
                                              .trace = plan->trace,
                                              .slo = {.ms = plan->slo_ms},
                                              .connections = plan->connections,
                                              .requests = plan->requests,
                                              .warmup = warmup_of(plan, level),
                                              .duration_s = plan->duration_s,
                                              .progress = job->options->progress && !i ? on_progress : NULL,
                                              .user = &progress,
                                              .log = job->options->log};
        st = cpl_workload_open_model(&loads[i].workload, job->pool, &cpl_dialect_couplet_grpc, plan->models[i], batch,
                                     plan->requests + loads[i].options.warmup + 4 * (uint64_t)level, err);
        if (!st) st = selftest(job, &loads[i].options, loads[i].workload, err);
    }
    cpl_energy_take(job->energy);
    const uint64_t start_ns = cpl_clock_ns();
    if (!st) st = run_loads(loads, plan->model_count, err);
    if (!st && cpl_energy_available(job->energy)) {
        rows->joules += cpl_energy_take(job->energy);
        rows->energy_seconds += (double)(cpl_clock_ns() - start_ns) / 1e9;
    }
    for (size_t i = 0; !st && i < plan->model_count; i++) st = take_result(job, &rows[i], &loads[i], err);
    for (size_t i = 0; loads && i < plan->model_count; i++) {
        cpl_load_result_close(loads[i].result);
        cpl_workload_close(loads[i].workload);
    }
    free(loads);
    job->rows_done += plan->model_count;
    return st;
}

/* Every row against the server at `target`. */
static cpl_status run_rows(lab_job *job, size_t server, const char *target, cpl_error *err)
{
    const cpl_lab_plan *plan = job->plan;
    cpl_status st = CPL_OK;
    for (size_t b = 0; !st && b < plan->batch_count; b++)
        for (size_t l = 0; !st && l < plan->level_count; l++)
            st =
                run_row(job, &job->rows[((server * plan->batch_count + b) * plan->level_count + l) * plan->model_count],
                        target, plan->batches[b], plan->levels[l], err);
    return st;
}

/* ---- servers ------------------------------------------------------------------------------------------------- */

static cpl_status serve_arguments(const lab_job *job, size_t server, const char *program, const char **argv,
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
static cpl_status check_server(const lab_job *job, size_t server, cpl_error *err)
{
    const unsigned long cores = cpl_cpu_count();
    for (const char *const *s = job->plan->servers[server].sets; *s; s++)
        if (!strncmp(*s, "workers=", 8) && strtoul(*s + 8, NULL, 10) > cores)
            return cpl_fail(err, CPL_UNSUPPORTED, "this machine has %lu cores for %s workers", cores, *s + 8);
    return CPL_OK;
}

/* A server of several that can't be started takes its rows with it, not the others'. */
static cpl_status leave_server_out(lab_job *job, size_t server, const cpl_error *why, cpl_error *err)
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

static cpl_status run_server(lab_job *job, size_t server, cpl_error *err)
{
    if (job->options->target) return run_rows(job, server, job->options->target, err);
    if (job->rows[server * (cpl_lab_plan_rows(job->plan) / job->plan->server_count)].not_run) return CPL_OK;
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
    st = run_rows(job, server, child.address, err);
    cpl_error stop;
    cpl_status stopped = cpl_child_stop(&child, STOP_GRACE_MS, &stop);
    if (!stopped) return st;
    if (err) *err = stop; /* a server that died explains the failed requests better than they do */
    return stopped;
}

static void run_round(lab_job *job)
{
    cpl_error e;
    for (size_t s = 0; !job->skip && s < job->plan->server_count; s++)
        if (run_server(job, s, &e)) give_up(job, "failed", &e);
}

/* ---- jobs ---------------------------------------------------------------------------------------------------- */

static void job_deinit(lab_job *job)
{
    cpl_config_close(job->config);
    cpl_lab_plan_close(job->plan);
    cpl_pool_close(job->pool);
    cpl_lab_result_close(job->result);
    free(job->rows);
    free(job->selftests);
}

static cpl_status check_target(const lab_job *job, cpl_error *err)
{
    const char *key;
    size_t values;
    if (!job->options->target || !cpl_config_sweep(job->config, 0, &key, &values)) return CPL_OK;
    return cpl_fail_file(err, CPL_INVALID, job->file,
                         "sweeps '%s', a setting of the server: it can't be done against --target %s; leave --target "
                         "out and the runner starts its own servers",
                         key, job->options->target);
}

static cpl_status job_init(lab_job *job, const cpl_lab_options *o, const char *file, const cpl_lab_result *like,
                           cpl_error *err)
{
    *job = (lab_job){.options = o, .file = file};
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

/* Pairs the longest row of the plan may send. */
static cpl_status open_pool(lab_job *job, cpl_error *err)
{
    uint64_t most = 1;
    const cpl_lab_plan *plan = job->plan;
    for (size_t b = 0; b < plan->batch_count; b++)
        for (size_t l = 0; l < plan->level_count; l++) {
            uint64_t n = plan->requests + warmup_of(plan, plan->levels[l]) + 4 * (uint64_t)plan->levels[l];
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
    cpl_status st = cpl_shape_parse(&shape, cpl_config_text(job->config, "experiment.lengths"),
                                    (uint32_t)cpl_config_int(job->config, "experiment.documents_per_query"),
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
static void job_prepare(lab_job *job)
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

/* Once the rounds are through. A run whose accuracy can't be measured still has its speed. */
static void measure_accuracy(lab_job *job)
{
    uint64_t count = (uint64_t)cpl_config_int(job->config, "experiment.quality_pairs");
    const char *backend = job->result->backend, *precision = job->result->precision_effective;
    char program[1024];
    cpl_error e;
    if (job->skip || job->options->target || !count || !precision || !*precision) return;
    if (job->options->quick && count > CPL_LAB_QUICK_REQUESTS) count = CPL_LAB_QUICK_REQUESTS;
    const cpl_lab_accuracy_options o = {program,    job->model_dir,  backend, precision,
                                        job->pairs, job->plan->seed, count,   count / 20 + 1};
    cpl_status st = find_program(job->options, program, sizeof program, &e);
    if (!st) st = cpl_lab_accuracy(&job->result->quality, &o, &e);
    if (st) cpl_log_write(job->options->log, CPL_LOG_WARN, "%s: accuracy not measured: %s", job->plan->name, e.what);
}

static cpl_status make_points(lab_job *job, cpl_error *err)
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

static cpl_status write_result(lab_job *job, const char *dir, cpl_error *err)
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

static cpl_status job_finish(lab_job *job, const char *dir, size_t *failed, cpl_error *err)
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
static size_t group_size(const lab_job *jobs, size_t n)
{
    size_t k = 1;
    if (jobs[0].plan->rounds < 2) return 1;
    while (k < n && jobs[k].plan->rounds == jobs[0].plan->rounds &&
           cpl_lab_plan_related(jobs[0].plan->name, jobs[k].plan->name))
        k++;
    return k;
}

static void name_group(lab_job *jobs, size_t n)
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
static bool stands_already(lab_job *jobs, size_t n, const char *dir)
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
        if (!jobs[i].skip && jobs[i].options->kept)
            jobs[i].options->kept(jobs[i].options->user, jobs[i].plan->name, date[i]);
    return true;
}

static cpl_status run_group(lab_job *jobs, size_t n, const char *dir, size_t *failed, cpl_error *err)
{
    name_group(jobs, n);
    for (size_t i = 0; i < n; i++) job_prepare(&jobs[i]);
    if (stands_already(jobs, n, dir)) return CPL_OK;
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
    lab_job *jobs = calloc(n ? n : 1, sizeof *jobs);
    cpl_energy *energy = NULL;
    if (!jobs) return cpl_fail_memory(err, n * sizeof *jobs);
    cpl_status st = cpl_energy_open(&energy, NULL, NULL, err);
    if (!st) st = n ? cpl_file_make_dirs(dir, err) : cpl_fail(err, CPL_INVALID, "no experiment file was given");
    for (; !st && ready < n; ready++) {
        st = job_init(&jobs[ready], options, options->files[ready], ready ? jobs[0].result : NULL, err);
        if (st) continue;
        jobs[ready].energy = energy;
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
