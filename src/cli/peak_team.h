/* SPDX-License-Identifier: Apache-2.0 */
/* peak_team.h - what the machine can do right now on n cores at once: arithmetic peak, clock, and a control loop fed
 * from L2, each a fraction of a millisecond, so that it tells of the moment right beside a sample. */
#ifndef CPL_CLI_PEAK_TEAM_H
#define CPL_CLI_PEAK_TEAM_H

#include "kernel/peak.h"

typedef struct cpl_peak_team cpl_peak_team;

/* Threads stay, asleep between probes; pinned one a core when there are as many as cores, else free to move, as what is
 * measured beside them is. isa NULL: what COUPLET_ISA or the machine gives. */
cpl_status cpl_peak_team_open(cpl_peak_team **out, cpl_peak_unit unit, const char *isa, uint32_t threads,
                              cpl_error *err);
void cpl_peak_team_close(cpl_peak_team *t); /* NULL is fine */
const cpl_peak_loop *cpl_peak_team_loop(const cpl_peak_team *t);

typedef struct cpl_peak_probe {
    double ops_per_s;    /* summed over threads */
    double clock_hz;     /* mean over threads, while the loop runs */
    double per_cycle;    /* instructions of the loop a cycle, on the fastest thread: the least disturbed one */
    double l2_per_cycle; /* operations of the L2-fed loop a cycle and thread; 0 for ref, which has no such loop */
    uint32_t near;       /* threads whose per_cycle is within 3 % of that, it among them */
} cpl_peak_probe;

typedef enum cpl_peak_order {
    CPL_PEAK_FIRST, /* peak, clock, control: right after a sample */
    CPL_PEAK_LAST   /* control, clock, peak: right before one */
} cpl_peak_order;

/* One probe by all threads together, about a millisecond. */
void cpl_peak_team_probe(cpl_peak_team *t, cpl_peak_order order, cpl_peak_probe *out);

#endif
