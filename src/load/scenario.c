/* SPDX-License-Identifier: Apache-2.0 */
/* scenario.c - the scenarios by name, and the closed loop, in which each of N clients sends its next request when the
 * last one is answered. It offers only as much as the server takes, so its figures mean something only together with
 * N, and its latencies must not be compared with those of an open loop. A request is due when its client is free.
 * Threads: the run's own. */
#include "load/scenario.h"

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

const cpl_scenario cpl_scenario_closed = {"closed", false, closed_begin, closed_done, NULL};

cpl_status cpl_scenario_find(const cpl_scenario **out, const char *name, cpl_error *err)
{
    static const cpl_scenario *const all[] = {&cpl_scenario_closed, &cpl_scenario_poisson, &cpl_scenario_constant,
                                              &cpl_scenario_replay};
    *out = NULL;
    for (size_t i = 0; i < sizeof all / sizeof *all && !*out; i++)
        if (!strcmp(name, all[i]->name)) *out = all[i];
    if (*out) return CPL_OK;
    if (!strcmp(name, "offline"))
        return cpl_fail(err, CPL_UNSUPPORTED,
                        "scenario 'offline' is not in this version: use 'closed' with many in flight");
    return cpl_fail(err, CPL_INVALID, "unknown scenario '%s': use closed, poisson, constant or replay", name);
}
