/* SPDX-License-Identifier: Apache-2.0 */
/* scenario.c - the scenarios by name; offline, which hands over everything at once; and the closed loop, in which each
 * of N clients sends its next request when the last one is answered. It offers only as much as the server takes, so its
 * figures mean something only together with N, and its latencies must not be compared with those of an open loop. A
 * request is due when its client is free. Threads: the run's own. */
#include "load/scenario.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"

static cpl_status closed_begin(cpl_load *run, cpl_error *err)
{
    (void)err;
    for (uint32_t i = 0; i < cpl_load_concurrency(run); i++) cpl_load_send(run, i, cpl_clock_ns());
    return CPL_OK;
}

static void closed_done(cpl_load *run, uint32_t slot) { cpl_load_send(run, slot, cpl_clock_ns()); }

const cpl_scenario cpl_scenario_closed = {.name = "closed", .begin = closed_begin, .done = closed_done};

/* ---- offline --------------------------------------------------------------------------------------------------- */

typedef struct offline {
    cpl_load *run;
    uint64_t waiting; /* sent, not answered */
    bool all_sent;
} offline;

/* `n` requests, all due now. */
static void send_block(offline *o, uint64_t n)
{
    const uint64_t now = cpl_clock_ns();
    for (uint64_t i = 0; i < n && !cpl_load_over(o->run); i++) {
        const uint32_t slot = cpl_load_slot_take(o->run);
        if (slot == UINT32_MAX) return; /* the run is given up */
        o->waiting++;
        cpl_load_send(o->run, slot, now);
    }
}

static cpl_status offline_begin(cpl_load *run, cpl_error *err)
{
    const cpl_load_run_options *options = cpl_load_options_of(run);
    offline *o = calloc(1, sizeof *o);
    if (!o) return cpl_fail_memory(err, sizeof *o);
    *cpl_load_scenario_state(run) = o;
    o->run = run;
    o->all_sent = !options->warmup;
    send_block(o, options->warmup ? options->warmup : options->requests);
    return CPL_OK;
}

/* The warm-up is answered: now all the rest. The rest is answered: the window ends with it. */
static void offline_done(cpl_load *run, uint32_t slot)
{
    offline *o = *cpl_load_scenario_state(run);
    cpl_load_slot_give(run, slot);
    if (--o->waiting) return;
    if (o->all_sent) {
        cpl_load_close_window(run);
        return;
    }
    o->all_sent = true;
    send_block(o, cpl_load_options_of(run)->requests);
}

static void offline_end(cpl_load *run) { free(*cpl_load_scenario_state(run)); }

const cpl_scenario cpl_scenario_offline = {
    .name = "offline", .at_once = true, .begin = offline_begin, .done = offline_done, .end = offline_end};

cpl_status cpl_scenario_find(const cpl_scenario **out, const char *name, cpl_error *err)
{
    static const cpl_scenario *const all[] = {&cpl_scenario_closed, &cpl_scenario_poisson, &cpl_scenario_constant,
                                              &cpl_scenario_replay, &cpl_scenario_offline};
    *out = NULL;
    for (size_t i = 0; i < sizeof all / sizeof *all && !*out; i++)
        if (!strcmp(name, all[i]->name)) *out = all[i];
    if (*out) return CPL_OK;
    return cpl_fail(err, CPL_INVALID, "unknown scenario '%s': use closed, poisson, constant, replay or offline", name);
}
