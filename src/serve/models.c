/* SPDX-License-Identifier: Apache-2.0 */
/* models.c - a model's settings as the engine's options, with everything they point to beside them.
 * The one idea: a model loaded at the start and one loaded while serving come from the same function.
 * Threads: the caller's. */
#include "serve/models.h"

#include <string.h>

#include "backend/precision.h"
#include "base/error.h"
#include "base/log.h"
#include "model/locate.h"

/* Settings of the backend's own section: n terminated texts, one behind the other. */
static cpl_status read_settings(cpl_serve_model *m, cpl_error *err)
{
    size_t n = cpl_config_backend_settings(m->config, &m->text);
    cpl_status st = cpl_buf_status(&m->text, err);
    if (st) return st;
    if (n >= CPL_SERVE_SETTINGS_MAX)
        return cpl_fail(err, CPL_INVALID, "more than %d settings for one backend", CPL_SERVE_SETTINGS_MAX - 1);
    const char *at = m->text.data;
    for (size_t i = 0; i < n; i++, at += strlen(at) + 1) m->settings[i] = at;
    m->settings[n] = NULL;
    return CPL_OK;
}

/* From m->config. */
static cpl_status fill(cpl_serve_model *m, bool allow_seeded, const cpl_log *log, cpl_error *err)
{
    const char *precision;
    bool seeded = false;
    cpl_status st = read_settings(m, err);
    if (!st) st = cpl_config_precision(m->config, &precision, err);
    if (!st) st = cpl_precision_parse(&m->options.precision, precision, err);
    if (st) return st;
    const char *place = cpl_config_model_place(m->config);
    st = cpl_model_locate(m->dir, sizeof m->dir, place, allow_seeded, &seeded, err);
    if (st) return st;
    if (seeded)
        cpl_log_write(log, CPL_LOG_WARN,
                      "model '%s' is not here: the seeded cross-encoder '%s' stands in for it; its speed is real, its "
                      "scores mean nothing",
                      place, m->dir);
    m->options.name = cpl_config_model_name(m->config);
    m->options.dir = m->dir;
    m->options.settings = m->settings;
    m->options.backend = cpl_config_text(m->config, "model.backend");
    m->options.fallback = !strcmp(cpl_config_text(m->config, "model.on_unsupported"), "fallback");
    m->options.max_length = (uint32_t)cpl_config_int(m->config, "model.max_length");
    m->options.replicas = (uint32_t)cpl_config_int(m->config, "model.replicas");
    m->options.weight_milli = (uint32_t)(cpl_config_float(m->config, "model.weight") * 1000 + 0.5);
    m->options.score_label = cpl_config_text(m->config, "model.score_label");
    return CPL_OK;
}

cpl_status cpl_serve_model_init(cpl_serve_model *m, const cpl_config *c, size_t i, bool allow_seeded,
                                const cpl_log *log, cpl_error *err)
{
    memset(m, 0, sizeof *m);
    cpl_status st = cpl_config_model(&m->config, c, i, err);
    return st ? st : fill(m, allow_seeded, log, err);
}

cpl_status cpl_serve_model_parse(cpl_serve_model *m, const cpl_config *c, const char *text, size_t n, bool allow_seeded,
                                 const cpl_log *log, cpl_error *err)
{
    memset(m, 0, sizeof *m);
    cpl_status st = cpl_config_model_parse(&m->config, c, text, n, err);
    return st ? st : fill(m, allow_seeded, log, err);
}

void cpl_serve_model_deinit(cpl_serve_model *m)
{
    cpl_config_close(m->config);
    cpl_buf_deinit(&m->text);
}
