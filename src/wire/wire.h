/* SPDX-License-Identifier: Apache-2.0 */
/* wire.h - all dialects couplet speaks, as methods for one server in front of one engine.
 *
 * Order of life: engine open, wire open, server open with the methods and the two loop hooks (user = the wire); then
 * cpl_wire_drain, server drain, engine drain, server close, wire close, engine close. The engine has to be drained
 * before the server's loops go: finished tasks are posted to them. */
#ifndef CPL_WIRE_WIRE_H
#define CPL_WIRE_WIRE_H

#include <stdbool.h>

#include "engine/engine.h"
#include "net/server.h"
#include "wire/infer_decode.h"
#include "wire/otlp.h"

typedef struct cpl_wire cpl_wire;

/* What requests that score or embed are for (experiment.mode). Every reply says so unless it is all of it. */
typedef enum cpl_wire_mode {
    CPL_MODE_FULL,
    CPL_MODE_TOKENIZE, /* ends once texts are ids: replies hold no scores */
    CPL_MODE_INFERENCE /* ids of texts seen before are kept: with the engine's id_cache_bytes */
} cpl_wire_mode;
const char *cpl_wire_mode_name(cpl_wire_mode mode);

/* When replies carry their request's stage times. */
typedef enum cpl_wire_timing { CPL_TIMING_ASKED, CPL_TIMING_ALWAYS, CPL_TIMING_NEVER } cpl_wire_timing;

typedef struct cpl_wire_options {
    cpl_engine *engine; /* borrowed for the wire's life */
    cpl_infer_limits limits;
    cpl_wire_mode mode;
    cpl_wire_timing timing;
    cpl_otlp *otlp; /* borrowed; NULL: requests are not traced */
    double sample;  /* share of the requests without a traceparent that are */
    /* Loads the model that a request's body describes and says what it is called; on a thread of the wire's, one at a
     * time. NULL: nothing is loaded or unloaded. */
    cpl_status (*load_model)(void *user, const char *body, size_t n, char *name, size_t name_cap, cpl_error *err);
    void *load_user;
    const char *config;   /* effective configuration as YAML, for Stats; copied */
    uint32_t net_threads; /* for Stats */
    const cpl_log *log;
} cpl_wire_options;

cpl_status cpl_wire_open(cpl_wire **out, const cpl_wire_options *options, cpl_error *err);
void cpl_wire_close(cpl_wire *w); /* after the server was closed; NULL is fine */

const cpl_method *cpl_wire_methods(const cpl_wire *w, size_t *count);
/* For cpl_server_options. */
cpl_status cpl_wire_loop_started(cpl_loop *loop, void *wire, cpl_error *err);
void cpl_wire_loop_stopped(cpl_loop *loop, void *wire);

/* What the health service answers; NOT_SERVING until the first call. Any thread; who watches is told. */
void cpl_wire_set_serving(cpl_wire *w, bool serving);
/* NOT_SERVING, and the streams that would never end by themselves (health's Watch, reflection) end. Any thread. */
void cpl_wire_drain(cpl_wire *w);

#endif
