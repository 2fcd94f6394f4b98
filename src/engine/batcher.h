/* SPDX-License-Identifier: Apache-2.0 */
/* batcher.h - decides which waiting sequences run together. Pure policy: time comes in as an argument, nothing here
 * reads a clock, takes a lock, allocates or blocks, so tests replay any schedule from a seed.
 *
 * Requests are grouped by flow (a connection). Between flows and between the requests of a flow: deficit round robin by
 * tokens; inside a request: first come first served; a higher priority goes before all of that. A request is cut freely
 * over batches, and batches mix requests as long as their `want` is the same.
 *
 * The structs below live inside the caller's own (a task embeds a cpl_batch_request, a connection a cpl_batch_flow). */
#ifndef CPL_ENGINE_BATCHER_H
#define CPL_ENGINE_BATCHER_H

#include <stdbool.h>

#include "backend/backend.h"

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
    uint32_t queue_tokens_max; /* bound of everything waiting */
    uint32_t queue_requests_max;
    uint32_t quantum_tokens; /* deficit a turn; 0: tokens_max / 4 */
} cpl_batch_policy;

#endif
