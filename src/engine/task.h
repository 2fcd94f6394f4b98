/* SPDX-License-Identifier: Apache-2.0 */
/* task.h - one request on its way through the engine: items, their sequences and reducers, and what came of it.
 *
 * The caller owns the cpl_task (long-lived, reused: its arena keeps what the last request needed, up to a cap) and the
 * texts, which must stay where they are until `done`. After a successful cpl_engine_submit the engine owns the task
 * until it calls done, exactly once, whatever happens: success, failure, deadline, cancellation, engine closing. */
#ifndef CPL_ENGINE_TASK_H
#define CPL_ENGINE_TASK_H

#include <stdatomic.h>
#include <stdbool.h>

#include "couplet.h"

typedef struct cpl_task cpl_task;
typedef struct cpl_flow cpl_flow; /* fairness group: one a connection; engine.h opens and closes them */

typedef enum cpl_task_op {
    CPL_OP_SCORE, /* pairs -> a score each (cross-encoder: logit; embedder: cosine, a repeated query encoded once) */
    CPL_OP_EMBED, /* texts -> a pooled vector each, normalised where the model says so */
    CPL_OP_IDS    /* ready ids -> raw rows as the backend returns them */
} cpl_task_op;

/* Values of cpl_task_spec.label that are no label. */
enum {
    CPL_LABEL_ALL = -1,  /* all of them, a row a pair */
    CPL_LABEL_UNSET = -2 /* nobody chose: fine for one label, CPL_PRECONDITION for several */
};

typedef struct cpl_task_spec {
    cpl_task_op op;
    uint32_t model;        /* index into the engine's models */
    const cpl_pair *pairs; /* SCORE */
    const cpl_text *texts; /* EMBED */
    const cpl_ids *ids;    /* IDS; cu_seqlens may be cut from a longer list, so start above 0 */
    size_t n;              /* of pairs or texts; IDS: ids->n */
    size_t item_base;      /* number of the first item, for messages: 0 but in a part of a call */
    cpl_score_form form;   /* SCORE: default activation or raw; EMBED: raw vectors aren't normalised */
    int32_t label;         /* SCORE of a cross-encoder: which, or CPL_LABEL_... */
    uint32_t max_length;   /* 0: the model's */
    uint64_t deadline_ns;  /* monotonic; UINT64_MAX: none */
    uint8_t priority;      /* 0 to 7; a higher one goes before, strictly */
    bool tokenize_only;    /* done once the ids are there: no rows, and result.tokens says how many there are */
    cpl_flow *flow;        /* NULL: the engine's default flow */
    void (*done)(cpl_task *task, void *user); /* on any thread of the engine's, or
                                                 inside cpl_engine_cancel and _close; must be brief */
    void *user;
} cpl_task_spec;

/* What came of it; read after done. Memory is the task's, until its next submit or close. */
typedef struct cpl_task_result {
    cpl_status status;
    cpl_error error;       /* when status isn't CPL_OK */
    const float *rows;     /* n x width */
    size_t n, width;       /* SCORE: 1, or labels with label -1; EMBED: hidden; IDS: labels or hidden */
    uint64_t tokens;       /* really run; tokenize_only: made */
    uint64_t queued_at_ns; /* monotonic: it was whole, and waits for a worker; 0: it never came to that */
    uint64_t tokenize_ns;  /* CPU time of tokenizing */
    uint64_t queue_ns;     /* from enqueue to the first dispatch */
    uint64_t compute_ns;   /* from the first dispatch to the last pass's end */
    uint64_t passes;       /* forward passes that carried a sequence of it */
} cpl_task_result;

cpl_status cpl_task_open(cpl_task **out, cpl_error *err);
void cpl_task_close(cpl_task *t); /* not while the engine owns it; NULL is fine */
const cpl_task_result *cpl_task_get(const cpl_task *t);
/* For a task that waits for its next request: the result and what memory it took beyond 1 MiB are gone. Returns how
 * many bytes stay. Not while the engine owns it. */
size_t cpl_task_rest(cpl_task *t);

#endif
