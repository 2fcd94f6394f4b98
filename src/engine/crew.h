/* SPDX-License-Identifier: Apache-2.0 */
/* crew.h - a worker and the idle ones that are lent to it for a pass: the cpl_team a backend sees, from inside.
 *
 * A stage (one parallel() of the backend) has a share for each seat, and a share belongs to whoever claims it first:
 * the lent worker that sits there, or the leader once its own share is done. So the leader never waits for somebody who
 * hasn't come (still waking up, called back, descheduled), only for one who has begun; and a lent worker may leave
 * between two shares whenever it likes. What a share computes doesn't depend on who does it. */
#ifndef CPL_ENGINE_CREW_H
#define CPL_ENGINE_CREW_H

#include <stdatomic.h>
#include <stdbool.h>

#include "backend/backend.h"

enum { CPL_CREW_MAX = 8 }; /* seats, the leader's included */

/* The numbers of stages: pass << 24 | stage in it, so they only rise; CPL_CREW_OVER ends a pass. */
typedef struct cpl_crew_seat {
    _Alignas(128) atomic_ullong claimed; /* last stage whose share was claimed, and done */
    atomic_ullong done;
} cpl_crew_seat;

typedef struct cpl_crew {
    cpl_team team; /* what run() gets */
    uint64_t pass, at, taken_over;
    void (*fn)(void *arg, uint32_t member);
    void *arg;
    _Alignas(128) atomic_ullong stage;
    _Alignas(128) atomic_uint gate; /* moves when sleeping members must look up */
    atomic_uint sleepers;
    _Alignas(128) atomic_uint done_gate; /* moves when a sleeping leader must */
    atomic_uint leader_sleeps;
    cpl_crew_seat seats[CPL_CREW_MAX];
} cpl_crew;

cpl_status cpl_crew_open(cpl_crew **out, cpl_error *err);
void cpl_crew_close(cpl_crew *c); /* NULL is fine */

/* The leader: a pass with `seats` seats (2 to CPL_CREW_MAX) begins. Returns its number, which its members serve. */
uint64_t cpl_crew_begin(cpl_crew *c, uint32_t seats);
/* The leader: it is over. Members may still be looking; they touch nothing of the pass any more. Returns how many
 * shares of others the leader did itself. */
uint64_t cpl_crew_end(cpl_crew *c);
/* A lent worker: does its seat's shares of that pass until it is over or *recalled is set. */
void cpl_crew_serve(cpl_crew *c, uint64_t pass, uint32_t seat, const atomic_bool *recalled);
/* Anybody, after setting a member's `recalled`. */
void cpl_crew_nudge(cpl_crew *c);

#endif
