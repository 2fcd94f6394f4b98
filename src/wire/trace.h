/* SPDX-License-Identifier: Apache-2.0 */
/* trace.h - one request's time by stage, and the trace it belongs to (W3C Trace Context). */
#ifndef CPL_WIRE_TRACE_H
#define CPL_WIRE_TRACE_H

#include <stdbool.h>

#include "couplet.h"

/* Consecutive, so they add up to the whole: bytes whole to submitted, to queued, to the first pass, to the end of the
 * last, to the reply's beginning. */
typedef enum cpl_trace_stage {
    CPL_TRACE_READ,
    CPL_TRACE_TOKENIZE,
    CPL_TRACE_QUEUE,
    CPL_TRACE_COMPUTE,
    CPL_TRACE_REPLY,
    CPL_TRACE_STAGES
} cpl_trace_stage;

typedef struct cpl_trace_times {
    uint64_t began_ns; /* monotonic */
    uint64_t ns[CPL_TRACE_STAGES];
} cpl_trace_times;

const char *cpl_trace_stage_name(cpl_trace_stage stage);
uint64_t cpl_trace_total_ns(const cpl_trace_times *t);

enum { CPL_TRACE_TIMES_CAP = 192, CPL_TRACE_PARENT_CAP = 56 };

/* A Server-Timing header's value, in milliseconds: "read;dur=0.012, ..., total;dur=1.234". */
void cpl_trace_times_print(const cpl_trace_times *t, char out[CPL_TRACE_TIMES_CAP]);

typedef struct cpl_trace_context {
    uint8_t trace[16], span[8]; /* of a request that came with none: all 0 */
    uint8_t flags;              /* bit 0: sampled */
} cpl_trace_context;

/* A traceparent header's value. False: it isn't one, and is to be taken as not sent. */
bool cpl_trace_context_parse(cpl_trace_context *out, cpl_text value);
void cpl_trace_context_print(const cpl_trace_context *c, char out[CPL_TRACE_PARENT_CAP]);

#endif
