/* SPDX-License-Identifier: Apache-2.0 */
/* try_load.h - loads and unloads a model with the plug-in that a test is built with, and says how that ended. Include
 * it after cmocka. */
#ifndef CPL_TESTS_TRY_LOAD_H
#define CPL_TESTS_TRY_LOAD_H

#include "backend/registry.h"

const cpl_backend *cpl_plugin(const cpl_host *host);

static cpl_status try_load(const cpl_host *host, const char *model_dir, cpl_precision precision, const char *setting,
                           cpl_load_report *report, cpl_error *err)
{
    const char *const settings[] = {setting, NULL};
    const cpl_load_options o = {.size = sizeof o,
                                .precision = precision,
                                .batch_tokens_max = 64,
                                .batch_sequences_max = 8,
                                .settings = settings};
    const cpl_backend *b = cpl_plugin(host);
    cpl_model *model = NULL;
    cpl_weights *w = NULL;
    if (cpl_model_open(&model, model_dir, err)) fail_msg("%s", err->what);
    cpl_status st = b->load(&w, model, &o, report, host, err);
    assert_true(!w == (st != CPL_OK));
    b->unload(w);
    cpl_model_close(model);
    return st;
}

#endif
