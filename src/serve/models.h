/* SPDX-License-Identifier: Apache-2.0 */
/* models.h - from a model's settings to what the engine is asked to load. */
#ifndef CPL_SERVE_MODELS_H
#define CPL_SERVE_MODELS_H

#include "engine/engine.h"
#include "serve/config.h"

enum { CPL_SERVE_SETTINGS_MAX = 32 };

/* One model to load; `options` points into the rest and into the configuration. */
typedef struct cpl_serve_model {
    cpl_config *config; /* a view: its section `model` is this one's */
    cpl_engine_model_options options;
    char dir[1024];
    cpl_buf text;
    const char *settings[CPL_SERVE_SETTINGS_MAX];
} cpl_serve_model;

/* Fills *out from the i-th model of a checked configuration, and finds its directory (allow_seeded: model/locate.h;
 * a stand-in is logged). Release it with deinit in either case; it must not move before. */
cpl_status cpl_serve_model_init(cpl_serve_model *out, const cpl_config *c, size_t i, bool allow_seeded,
                                const cpl_log *log, cpl_error *err);
/* The same from a request's text (cpl_config_model_parse). */
cpl_status cpl_serve_model_parse(cpl_serve_model *out, const cpl_config *c, const char *text, size_t n,
                                 bool allow_seeded, const cpl_log *log, cpl_error *err);
void cpl_serve_model_deinit(cpl_serve_model *m);

#endif
