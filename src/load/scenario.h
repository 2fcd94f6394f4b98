/* SPDX-License-Identifier: Apache-2.0 */
/* scenario.h - what a scenario sees of the run under way. Everything on the thread that runs the load. */
#ifndef CPL_LOAD_SCENARIO_H
#define CPL_LOAD_SCENARIO_H

#include "load/load.h"

/* Sends the next request, counted from due_ns on; `slot` (below the concurrency, one request each at a time) comes back
 * in done(). Opens and closes the measured window as the counts and the time say. Does nothing once the run is over. */
void cpl_load_send(cpl_load *run, uint32_t slot, uint64_t due_ns);
uint32_t cpl_load_concurrency(const cpl_load *run);

#endif
