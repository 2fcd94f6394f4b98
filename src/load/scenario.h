/* SPDX-License-Identifier: Apache-2.0 */
/* scenario.h - what a scenario sees of the run under way. Everything on the thread that runs the load. */
#ifndef CPL_LOAD_SCENARIO_H
#define CPL_LOAD_SCENARIO_H

#include "load/load.h"

/* Sends the next request, counted from due_ns on; `slot` (in a closed loop below the concurrency, in an open one taken;
 * one request each at a time) comes back in done(). Opens and closes the measured window as the counts and the time
 * say. Does nothing once the run is over. */
void cpl_load_send(cpl_load *run, uint32_t slot, uint64_t due_ns);
/* Ends the measured window now (a scenario that sends everything at once does it itself). */
void cpl_load_close_window(cpl_load *run);
uint32_t cpl_load_concurrency(const cpl_load *run);
const cpl_load_run_options *cpl_load_options_of(const cpl_load *run);
/* Nothing more needs to be sent. */
bool cpl_load_over(const cpl_load *run);
/* A slot that is free; UINT32_MAX, and the run given up, when CPL_LOAD_IN_FLIGHT_MAX are taken. */
enum { CPL_LOAD_IN_FLIGHT_MAX = 65536 };
uint32_t cpl_load_slot_take(cpl_load *run);
void cpl_load_slot_give(cpl_load *run, uint32_t slot);
/* Calls fn(user) at when_ns; one such call is pending at a time. */
void cpl_load_at(cpl_load *run, uint64_t when_ns, void (*fn)(void *user), void *user);
/* One pointer for the scenario; its `end` frees it. */
void **cpl_load_scenario_state(cpl_load *run);

extern const cpl_scenario cpl_scenario_closed, cpl_scenario_poisson, cpl_scenario_constant, cpl_scenario_replay,
    cpl_scenario_offline;

#endif
