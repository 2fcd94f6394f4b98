/* SPDX-License-Identifier: Apache-2.0 */
/* drive.c - one row: the generator's self-test, the load of each model, the result taken.
 * The ideas: a round that the machine's unrest spoilt is measured once more, and the row says so (a neighbour's burst
 * otherwise costs the whole row); the second measurement counts whatever it says, so nothing is picked. A row whose
 * requests in flight take half its time or more is not begun: it could only end INVALID, after several times its time.
 * Threads: one a model beside the caller's. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "lab/describe.h"
#include "lab/job.h"
#include "load/selftest.h"
#include "load/verdict.h"

#define QUICK_FLIGHT_S 10.0

typedef struct progress {
    const cpl_lab_job *job;
    double duration_s;
    uint64_t start_ns;
} progress;

static void on_progress(void *user, uint64_t measured, uint64_t asked)
{
    const progress *p = user;
    const cpl_lab_options *o = p->job->options;
    double part = asked ? (double)measured / (double)asked : 0;
    double by_time = p->duration_s > 0 ? (double)(cpl_clock_ns() - p->start_ns) / 1e9 / p->duration_s : 0;
    if (by_time > part) part = by_time;
    o->progress(o->user, p->job->plan->name, p->job->rows_done, cpl_lab_plan_rows(p->job->plan) * p->job->plan->rounds,
                part > 1 ? 1 : part);
}

uint64_t cpl_lab_warmup_of(const cpl_lab_plan *plan, uint32_t level)
{
    if (plan->scenario->open) return plan->warmup;
    return plan->warmup > level ? plan->warmup : level; /* below one a client the window would open on the ramp */
}

/* The generator against a server that does nothing: once for each level of load, before the first row at it. */
static cpl_status selftest(cpl_lab_job *job, cpl_load_run_options *o, const cpl_workload *w, cpl_error *err)
{
    size_t l = 0;
    while (job->plan->levels[l] != (uint32_t)(job->plan->scenario->open ? o->rate : o->concurrency)) l++;
    o->selftest = &job->selftests[l];
    return job->selftests[l].ran ? CPL_OK : cpl_selftest_run(&job->selftests[l], o, w, err);
}

/* One model of a row, on a thread of its own where there are several. */
typedef struct model_load {
    cpl_load_run_options options;
    cpl_workload *workload;
    cpl_load_result *result;
    cpl_status status;
    cpl_error error;
    pthread_t thread;
    bool started;
} model_load;

static void *load_thread(void *arg)
{
    model_load *l = arg;
    l->status = cpl_load_run(&l->result, &l->options, l->workload, &l->error);
    return NULL;
}

static cpl_status take_result(cpl_lab_job *job, cpl_lab_row *row, const model_load *l, cpl_error *err)
{
    const cpl_load_result *r = l->result;
    if (l->status) {
        if (err) *err = l->error;
        return l->status;
    }
    row->shared_server = job->plan->model_count > 1;
    cpl_lab_row_add(row, r, job->result);
    cpl_lab_describe_server(job->result, r);
    if (!r->open && r->measure.pairs_per_s > job->fastest) job->fastest = r->measure.pairs_per_s;
    if (!r->gave_up || r->measure.requests) return CPL_OK;
    return cpl_fail(err, CPL_UNAVAILABLE, "no request was answered: %s", r->errors[0].message);
}

/* All models at once: the rest on threads, the first on this one. */
static cpl_status run_once(cpl_lab_job *job, model_load *loads, cpl_lab_row *rows, cpl_error *err)
{
    const size_t n = job->plan->model_count;
    cpl_status st = CPL_OK;
    cpl_energy_take(job->energy);
    const uint64_t start_ns = cpl_clock_ns();
    for (size_t i = 1; !st && i < n; i++) {
        loads[i].started = !pthread_create(&loads[i].thread, NULL, load_thread, &loads[i]);
        if (!loads[i].started) st = cpl_fail(err, CPL_NO_MEMORY, "can't start a thread for the load of a model");
    }
    if (!st) load_thread(&loads[0]);
    for (size_t i = 1; i < n; i++)
        if (loads[i].started) pthread_join(loads[i].thread, NULL);
    if (!st && cpl_energy_available(job->energy)) {
        rows->joules += cpl_energy_take(job->energy);
        rows->energy_seconds += (double)(cpl_clock_ns() - start_ns) / 1e9;
    }
    return st;
}

/* Not VALID for nothing but unrest, and the row has another try left: one for every two rounds. */
static bool worth_again(const cpl_lab_job *job, const model_load *loads, const cpl_lab_row *rows)
{
    bool again = false;
    if (job->options->quick || rows->retaken >= (job->plan->rounds + 1) / 2) return false;
    for (size_t i = 0; i < job->plan->model_count; i++) {
        cpl_verdict v;
        if (loads[i].status) return false;
        cpl_verdict_of(&v, loads[i].result);
        if (!v.valid && !v.again) return false;
        again |= v.again;
    }
    return again;
}

static cpl_status run_loads(cpl_lab_job *job, model_load *loads, cpl_lab_row *rows, cpl_error *err)
{
    cpl_status st = run_once(job, loads, rows, err);
    if (st || !worth_again(job, loads, rows)) return st;
    for (size_t i = 0; i < job->plan->model_count; i++) {
        cpl_load_result_close(loads[i].result);
        loads[i].result = NULL;
        loads[i].started = false;
        rows[i].retaken++;
    }
    return run_once(job, loads, rows, err);
}

/* Over HTTP/1.1 the generator doesn't hear what the server is. One that was started here says it over gRPC. */
static cpl_status ask_server(cpl_lab_job *job, const char *target, cpl_error *err)
{
    const cpl_lab_plan *plan = job->plan;
    if (!plan->dialect->http1 || job->options->target || job->result->workers) return CPL_OK;
    const cpl_load_run_options o = {
        .target = target, .concurrency = 1, .requests = 1, .seed = plan->seed, .log = job->options->log};
    cpl_workload *w = NULL;
    cpl_load_result *r = NULL;
    cpl_status st = cpl_workload_open(&w, job->pool, &cpl_dialect_couplet_grpc, 1, 1, err);
    if (!st) st = cpl_load_run(&r, &o, w, err);
    if (!st) cpl_lab_describe_server(job->result, r);
    cpl_load_result_close(r);
    cpl_workload_close(w);
    return st;
}

static cpl_load_run_options options_of(const cpl_lab_job *job, const char *target, uint32_t level, size_t model)
{
    const cpl_lab_plan *plan = job->plan;
    return (cpl_load_run_options){.target = target,
                                  .scenario = plan->scenario,
                                  .concurrency = plan->scenario->open ? 0 : level,
                                  .rate = level,
                                  .seed = plan->seed + model,
                                  .trace = plan->trace,
                                  .slo = plan->slo,
                                  .early_stop = plan->early_stop,
                                  .warmup_stable = plan->warmup_stable,
                                  .connections = plan->connections,
                                  .requests = plan->requests,
                                  .warmup = cpl_lab_warmup_of(plan, level),
                                  .duration_s = plan->duration_s,
                                  .progress = job->options->progress && !model ? on_progress : NULL,
                                  .log = job->options->log};
}

/* `rows`: one for each model. */
static cpl_status run_row(cpl_lab_job *job, cpl_lab_row *rows, const char *target, uint32_t batch, uint32_t level,
                          cpl_error *err)
{
    const cpl_lab_plan *plan = job->plan;
    const bool closed = !plan->scenario->open && !plan->scenario->at_once;
    const uint64_t in_flight = closed ? (uint64_t)batch * level * plan->model_count : 0;
    progress p = {job, cpl_lab_plan_seconds(plan, in_flight, job->fastest), cpl_clock_ns()};
    model_load *loads = calloc(plan->model_count, sizeof *loads);
    cpl_status st = loads ? CPL_OK : cpl_fail_memory(err, plan->model_count * sizeof *loads);
    for (size_t i = 0; !st && i < plan->model_count; i++) {
        loads[i].options = options_of(job, target, level, i);
        loads[i].options.user = &p;
        loads[i].options.duration_s = p.duration_s;
        const char *model = plan->models[i] ? plan->models[i] : plan->model_name;
        st = cpl_workload_open_model(&loads[i].workload, job->pool, plan->dialect, model, batch,
                                     plan->requests + loads[i].options.warmup + 4 * (uint64_t)level, err);
        if (!st) st = selftest(job, &loads[i].options, loads[i].workload, err);
    }
    if (!st) st = run_loads(job, loads, rows, err);
    for (size_t i = 0; !st && i < plan->model_count; i++) st = take_result(job, &rows[i], &loads[i], err);
    for (size_t i = 0; loads && i < plan->model_count; i++) {
        cpl_load_result_close(loads[i].result);
        cpl_workload_close(loads[i].workload);
    }
    free(loads);
    return st;
}

/* From the rows before it: would this one's requests take too long for the row to hold enough of them? */
static bool too_slow(const cpl_lab_job *job, cpl_lab_row *rows, uint32_t batch, uint32_t level)
{
    const cpl_lab_plan *plan = job->plan;
    const double longest = plan->duration_max_s > plan->duration_s ? plan->duration_max_s : plan->duration_s;
    const double held = longest / (plan->duration_max_s > 0 ? CPL_LAB_LATENCIES : 2);
    const double most = job->options->quick ? QUICK_FLIGHT_S : held;
    if (rows->not_run) return true;
    if (rows->rounds) return false; /* what was measured once isn't taken back */
    if (plan->scenario->open || plan->scenario->at_once || !(job->fastest > 0) || !(most > 0)) return false;
    const double flight_s = (double)batch * level * (double)plan->model_count / job->fastest;
    if (flight_s <= most) return false;
    const char *why =
        cpl_lab_text(job->result,
                     "at the %.3g pairs/s of the rows before it, what is in flight takes %.3g s: a row of "
                     "%.3g s can't hold enough of that (experiment.duration)",
                     job->fastest, flight_s, longest);
    for (size_t i = 0; i < plan->model_count; i++) rows[i].not_run = why;
    return true;
}

cpl_status cpl_lab_drive(cpl_lab_job *job, size_t server, const char *target, cpl_error *err)
{
    const cpl_lab_plan *plan = job->plan;
    cpl_status st = ask_server(job, target, err);
    for (size_t b = 0; !st && b < plan->batch_count; b++)
        for (size_t l = 0; !st && l < plan->level_count; l++) {
            const size_t at = ((server * plan->batch_count + b) * plan->level_count + l) * plan->model_count;
            cpl_lab_row *rows = &job->rows[at];
            if (!too_slow(job, rows, plan->batches[b], plan->levels[l]))
                st = run_row(job, rows, target, plan->batches[b], plan->levels[l], err);
            job->rows_done += plan->model_count;
        }
    return st;
}
