/* SPDX-License-Identifier: Apache-2.0 */
/* batcher.h - decides which waiting sequences run together. Pure policy: time comes in as an argument, nothing here
 * reads a clock, takes a lock, allocates or blocks, so tests replay any schedule from a seed.
 *
 * Requests are grouped by flow (a connection). Between flows and between the requests of a flow: deficit round robin by
 * tokens; inside a request: first come first served; a higher priority goes before all of that. A request is cut freely
 * over batches, and batches mix requests as long as their `want` is the same.
 *
 * How long one sequence waits that arrives alone on a connection of its own, however long the other requests are: until
 * a worker is free (one pass), then at most a turn of everybody else of its priority (quantum_tokens and one sequence
 * each) is served before it; with length_aware up to two passes more. Beside R requests on the same connection the
 * turns are theirs. tests/sim/test_batcher.c holds the policy to that.
 *
 * The structs below live inside the caller's own (a task embeds a cpl_batch_request, a connection a cpl_batch_flow). */
#ifndef CPL_ENGINE_BATCHER_H
#define CPL_ENGINE_BATCHER_H

#include <stdbool.h>

#include "backend/backend.h"
#include "engine/deadline.h"

typedef enum cpl_batch_kind {
    CPL_BATCH_GREEDY,  /* take what waits, up to the budget, as soon as a worker is free */
    CPL_BATCH_TIMEOUT, /* wait for items_max items or timeout_ns, as the reference does */
    CPL_BATCH_OFF      /* one request a pass (cut where it passes the budget), in arrival order */
} cpl_batch_kind;

typedef struct cpl_batch_policy {
    cpl_batch_kind kind;
    uint32_t tokens_max;       /* a pass; one longer sequence runs alone */
    uint32_t sequences_max;    /* a pass */
    uint32_t items_max;        /* TIMEOUT: max_batch_size of the reference, in sequences */
    uint64_t timeout_ns;       /* TIMEOUT */
    bool length_aware;         /* among what fits, prefer sequences of similar length (rectangle backends) */
    bool length_blind;         /* ... don't, not even for a rectangle backend */
    uint32_t queue_tokens_max; /* bound of everything waiting */
    uint32_t queue_requests_max;
    uint32_t quantum_tokens; /* deficit a turn; 0: tokens_max / 4 */
    uint32_t team_max;       /* workers that share a pass; 0: CPL_BATCH_TEAM_MAX, 1: none is lent */
    uint32_t weight_milli;   /* share beside other models, in thousandths; 0: 1000 */
} cpl_batch_policy;

enum {
    CPL_BATCH_PRIORITIES = 8,        /* 0 .. 7. Strict: a lower one runs only in room that higher ones leave */
    CPL_BATCH_SHARE_TOKENS_MIN = 96, /* a batch is not cut below this to feed another idle worker */
    CPL_BATCH_TEAM_MAX = 8,          /* a layer's matrices don't share out evenly over more */
    CPL_BATCH_TEAM_TOKENS = 8        /* of a pass for each that shares it: below, handing out costs what it gains */
};

struct cpl_batch_lane;

/* A waiting request. The caller fills the first part before each add; the rest is the batcher's. */
typedef struct cpl_batch_request {
    const uint32_t *lengths; /* tokens of each sequence, all > 0; borrowed while it waits */
    uint32_t count;          /* sequences, at least 1 */
    cpl_want want;
    uint8_t priority;     /* below CPL_BATCH_PRIORITIES */
    uint64_t deadline_ns; /* UINT64_MAX: none */

    uint32_t next; /* first sequence not dispatched: [0, next) went out, in order */
    uint64_t tokens_left;
    uint64_t arrived_ns;
    int64_t deficit;
    struct cpl_batch_lane *lane; /* NULL: not waiting */
    struct cpl_batch_request *ring_next, *ring_prev;
    struct cpl_batch_request *arrival_next, *arrival_prev;
    cpl_due deadline;
} cpl_batch_request;

/* The requests of one flow at one priority. */
typedef struct cpl_batch_lane {
    struct cpl_batch_lane *ring_next, *ring_prev;
    cpl_batch_request *current; /* whose turn it is; NULL: empty */
    cpl_batch_request *skipped; /* first passed over in take number skipped_at: goes first in the next one */
    uint64_t skipped_at;
    int64_t deficit;
    uint32_t requests;
} cpl_batch_lane;

/* Zeroed: nothing waits. Must not move or vanish while one of its requests waits. */
typedef struct cpl_batch_flow {
    cpl_batch_lane lanes[CPL_BATCH_PRIORITIES];
} cpl_batch_flow;

typedef struct cpl_batch_level {
    cpl_batch_lane *current, *skipped;
    uint64_t skipped_at;
    uint32_t lanes;
    cpl_batch_request *oldest, *newest; /* by arrival */
} cpl_batch_level;

/* The queue of one model. */
typedef struct cpl_batcher {
    cpl_batch_policy policy;
    cpl_batch_level levels[CPL_BATCH_PRIORITIES];
    uint64_t waiting_tokens;
    uint32_t waiting_requests, waiting_sequences;
    uint32_t released; /* TIMEOUT: sequences that need not wait any more */
    cpl_due *deadlines;
    uint64_t takes;
    uint64_t cost_ps;    /* estimated picoseconds a token, for the picker */
    uint64_t virtual_ns; /* workers' time it has been given so far, over its weight; of running passes as estimated */
    bool woke;           /* became non-empty since the picker last looked */
} cpl_batcher;

/* Part of a request in a batch: sequences [first, first + count). */
typedef struct cpl_batch_slice {
    cpl_batch_request *request;
    uint32_t first, count;
} cpl_batch_slice;

/* What a worker takes. `slices` is the caller's, room for policy.sequences_max. */
typedef struct cpl_batch_take {
    cpl_batch_slice *slices;
    uint32_t slice_count, sequences;
    uint64_t tokens;
    uint64_t charged_ns; /* virtual time, as estimated */
    uint32_t length_max;
    cpl_want want;
    cpl_batch_request *expired; /* left the queue undispatched (what remained of each), linked by ring_next */
} cpl_batch_take;

/* policy is complete: no zero budget, and for TIMEOUT items_max at least 1 (cpl_batch_policy_complete). */
void cpl_batcher_init(cpl_batcher *b, const cpl_batch_policy *policy);
/* Fills the zero fields: budgets from what the backend recommends, bounds of the queue, quantum. */
void cpl_batch_policy_complete(cpl_batch_policy *policy, uint32_t batch_tokens);

/* Queues r in a flow. CPL_QUEUE_FULL when it doesn't fit now; CPL_INVALID when it never would, or when it is
 * malformed; CPL_DEADLINE when it is late already. On failure it isn't queued. */
cpl_status cpl_batcher_add(cpl_batcher *b, cpl_batch_flow *flow, cpl_batch_request *r, uint64_t now_ns, cpl_error *err);
/* Takes a waiting request out; returns how many of its sequences were never dispatched. 0 when it doesn't wait. */
uint32_t cpl_batcher_remove(cpl_batcher *b, cpl_batch_request *r);
/* Takes out everything whose deadline is at or before now; a list linked by ring_next. */
cpl_batch_request *cpl_batcher_expire(cpl_batcher *b, uint64_t now_ns);

/* May a worker take a batch now? */
bool cpl_batcher_ready(const cpl_batcher *b, uint64_t now_ns);
/* When this queue wants attention without anything being added: the earliest deadline, or for TIMEOUT the end of the
 * wait. UINT64_MAX: never. */
uint64_t cpl_batcher_next_event(const cpl_batcher *b, uint64_t now_ns);
/* Tokens the next batch should hold, so that `idle` workers (the taking one included) all get work. */
uint32_t cpl_batcher_share(const cpl_batcher *b, uint32_t idle);
/* Workers that a pass of `tokens` runs on, its own included, when nothing that may run waits and `idle` others have
 * nothing to do: as many as there are, at most team_max, and one for every CPL_BATCH_TEAM_TOKENS begun. No upper bound
 * of tokens is needed: who is lent can be called back at any stage. */
uint32_t cpl_batch_team(const cpl_batch_policy *policy, uint64_t tokens, uint32_t idle);
/* Fills `out` (out->slices set by the caller) with the next batch; false, and an empty batch, when none is ready.
 * out->expired is filled in both cases. `idle`: workers with nothing to do, the taking one included (at least 1). */
bool cpl_batcher_take(cpl_batcher *b, uint64_t now_ns, uint32_t idle, cpl_batch_take *out);

/* Chooses between models. Every queue is charged the time its passes take, over its weight: when a pass is taken what
 * it is estimated to cost, when it is done what it did. A higher priority goes first, strictly; then, of the queue that
 * was given least and those that are no more than a pass of their own ahead of it, the earliest deadline; then who was
 * given least; then the oldest request. So a deadline moves a model forward by a pass and no more, and of two models
 * that always have work neither gets ahead of its share by more than two of its own passes and what is running. */
typedef struct cpl_batch_picker {
    uint64_t virtual_ns;
} cpl_batch_picker;
/* The index to take from, or n when none is ready. NULL entries are passed over. */
uint32_t cpl_batch_pick(cpl_batch_picker *p, cpl_batcher *const *queues, uint32_t n, uint64_t now_ns);
/* Feeds the estimate with a pass that took `ns` for `tokens`. */
void cpl_batcher_learn(cpl_batcher *b, uint64_t tokens, uint64_t ns);
/* The pass that was taken is over and took `ns`: the estimate learns, and the charge becomes what it was. */
void cpl_batcher_settle(cpl_batcher *b, const cpl_batch_take *take, uint64_t ns);

#endif
