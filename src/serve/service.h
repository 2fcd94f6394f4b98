/* SPDX-License-Identifier: Apache-2.0 */
/* service.h - a running server made from a configuration: engine, dialects and listener together. */
#ifndef CPL_SERVE_SERVICE_H
#define CPL_SERVE_SERVICE_H

#include <stdbool.h>

#include "serve/config.h"

typedef struct cpl_service cpl_service;

/* Checks the configuration, finds and loads the model, scores a canary pair, then listens: when this returns CPL_OK
 * requests are answered. allow_seeded: see model/locate.h. log and config are borrowed for the service's life. On
 * failure *out is NULL. */
cpl_status cpl_service_open(cpl_service **out, const cpl_config *config, bool allow_seeded, const cpl_log *log,
                            cpl_error *err);
/* The i-th bound address; NULL past the last. */
const char *cpl_service_address(const cpl_service *s, size_t i);
/* Health says NOT_SERVING, no new connections, requests in flight end; returns how many were cut off after
 * server.limits.drain_ms. Then everything is closed. NULL is fine. */
uint32_t cpl_service_close(cpl_service *s);

/* The whole of `couplet serve`: opens the service with a log on stderr as the configuration says, calls `ready` once
 * requests are answered (its failure ends the server), serves until SIGTERM or SIGINT, drains. Blocks those signals in
 * the calling thread; call it before other threads are started. */
cpl_status cpl_serve_run(const cpl_config *config, bool allow_seeded,
                         cpl_status (*ready)(const cpl_service *s, cpl_error *err), cpl_error *err);

#endif
