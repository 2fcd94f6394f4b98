/* SPDX-License-Identifier: Apache-2.0 */
/* scorer_flags.h - the flags by which score, embed, tokenize and bench choose a model, and opening it from them. */
#ifndef CPL_CLI_SCORER_FLAGS_H
#define CPL_CLI_SCORER_FLAGS_H

#include "cli/options.h"

#define CPL_DEFAULT_MODEL "models/all-MiniLM-L6-v2"

/* With another default and another sentence for --precision. */
#define CPL_SCORER_FLAGS_WITH(precision, precision_help)                                                               \
    {"model", CPL_FLAG_TEXT, "DIR", CPL_DEFAULT_MODEL,                                                                 \
     "model directory in Hugging Face layout, or a cached model's id"},                                                \
        {"backend", CPL_FLAG_TEXT, "NAME", "native", "what runs the model: native, fake, or a plug-in"},               \
        {"precision", CPL_FLAG_TEXT, "P", precision, precision_help},                                                  \
        {"fallback", CPL_FLAG_SWITCH, NULL, NULL,                                                                      \
         "run the nearest precision, and say so, where the backend can't run the one asked for"},                      \
        {"threads", CPL_FLAG_COUNT, "N", "0", "worker threads; 0: one for each usable core"},                          \
        {"team", CPL_FLAG_COUNT, "N", "0",                                                                             \
         "worker threads that share a small pass while nothing waits; 0: 8, 1: none"},                                 \
        {"settings", CPL_FLAG_TEXT, "K=V ...", NULL, "the backend's own settings, such as keep=down.5 of native"},     \
    {                                                                                                                  \
        "log", CPL_FLAG_TEXT, "LEVEL", NULL, "error, warn, info or debug; default warn, or $COUPLET_LOG"               \
    }

#define CPL_SCORER_FLAGS CPL_SCORER_FLAGS_WITH("fp32", "fp32, bf16, fp16, fp8, int8, int4 or auto")

/* Opens what those flags ask for. What a reader of the output must know (a note of the model, a substituted precision)
 * comes as a warning in the log. batch_tokens and max_length 0: defaults. `log` must outlive the scorer. */
cpl_status cpl_scorer_from_flags(cpl_scorer **out, const cpl_args *args, uint32_t batch_tokens, uint32_t max_length,
                                 cpl_log *log, cpl_error *err);
/* The same for what others are held against: in fp32 and without --settings, whatever the flags say; `backend` NULL:
 * that of the flags. */
cpl_status cpl_scorer_from_flags_plain(cpl_scorer **out, const cpl_args *args, const char *backend, cpl_log *log,
                                       cpl_error *err);
/* The same, but in `precision` whatever --precision says. */
cpl_status cpl_scorer_from_flags_in(cpl_scorer **out, const cpl_args *args, const char *precision,
                                    uint32_t batch_tokens, uint32_t max_length, cpl_log *log, cpl_error *err);
/* The same, but in `precision` and with the backend's setting `extra` ("key=value") after those of --settings. */
cpl_status cpl_scorer_from_flags_with(cpl_scorer **out, const cpl_args *args, const char *precision, const char *extra,
                                      cpl_log *log, cpl_error *err);
/* The same, silent, with its stages counted (couplet.h). */
cpl_status cpl_scorer_from_flags_counting(cpl_scorer **out, const cpl_args *args, uint32_t batch_tokens,
                                          cpl_error *err);

/* --label's, where it is given: CPL_INVALID unless the model has that label. */
cpl_status cpl_scorer_check_label(const cpl_args *args, const cpl_scorer_info *info, cpl_error *err);

#endif
