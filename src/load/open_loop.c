/* SPDX-License-Identifier: Apache-2.0 */
/* open_loop.c - scenarios in which requests go out by a schedule, whatever the server does: poisson, constant, replay.
 * The one idea: a request's latency counts from the moment it was due, so a server that stalls, or a generator that is
 * late, shows in it; nothing waits for an answer before it sends. What is late on our side is logged and judged apart
 * (verdict.h). Threads: the run's own. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "load/scenario.h"
#include "load/schedule.h"

typedef struct open_loop {
    cpl_load *run;
    cpl_schedule schedule;
    cpl_trace trace;
    uint64_t begun_ns, next_ns;
} open_loop;

static void send_due(void *user)
{
    open_loop *o = user;
    while (!cpl_load_over(o->run) && o->next_ns <= cpl_clock_ns()) {
        const uint32_t slot = cpl_load_slot_take(o->run);
        if (slot == UINT32_MAX) return; /* the run is given up */
        cpl_load_send(o->run, slot, o->next_ns);
        o->next_ns = o->begun_ns + cpl_schedule_next(&o->schedule);
    }
    if (!cpl_load_over(o->run)) cpl_load_at(o->run, o->next_ns, send_due, o);
}

static cpl_status begin(cpl_load *run, cpl_arrivals kind, cpl_error *err)
{
    const cpl_load_run_options *options = cpl_load_options_of(run);
    open_loop *o = calloc(1, sizeof *o);
    if (!o) return cpl_fail_memory(err, sizeof *o);
    *cpl_load_scenario_state(run) = o;
    o->run = run;
    cpl_status st = CPL_OK;
    if (kind == CPL_ARRIVALS_REPLAY && !options->trace)
        st = cpl_fail(err, CPL_INVALID, "scenario 'replay' needs a trace of arrivals");
    else if (kind == CPL_ARRIVALS_REPLAY)
        st = cpl_trace_load(&o->trace, options->trace, err);
    else if (!(options->rate > 0))
        st = cpl_fail(err, CPL_INVALID, "an open loop needs a rate: requests a second, more than 0");
    if (st) return st;
    cpl_schedule_init(&o->schedule, kind, options->rate, options->seed, o->trace.count ? &o->trace : NULL);
    o->begun_ns = cpl_clock_ns();
    o->next_ns = o->begun_ns + cpl_schedule_next(&o->schedule);
    cpl_load_at(run, o->next_ns, send_due, o);
    return CPL_OK;
}

static cpl_status poisson_begin(cpl_load *run, cpl_error *err) { return begin(run, CPL_ARRIVALS_POISSON, err); }
static cpl_status constant_begin(cpl_load *run, cpl_error *err) { return begin(run, CPL_ARRIVALS_CONSTANT, err); }
static cpl_status replay_begin(cpl_load *run, cpl_error *err) { return begin(run, CPL_ARRIVALS_REPLAY, err); }

static void done(cpl_load *run, uint32_t slot) { cpl_load_slot_give(run, slot); }

static void end(cpl_load *run)
{
    open_loop *o = *cpl_load_scenario_state(run);
    if (!o) return;
    cpl_trace_deinit(&o->trace);
    free(o);
}

const cpl_scenario cpl_scenario_poisson = {
    .name = "poisson", .open = true, .begin = poisson_begin, .done = done, .end = end};
const cpl_scenario cpl_scenario_constant = {
    .name = "constant", .open = true, .begin = constant_begin, .done = done, .end = end};
const cpl_scenario cpl_scenario_replay = {
    .name = "replay", .open = true, .begin = replay_begin, .done = done, .end = end};
