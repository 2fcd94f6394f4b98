/* SPDX-License-Identifier: Apache-2.0 */
/* scorer_flags.c - from flags to an open scorer, in one place, so that four commands mean the same by --precision. */
#include "cli/scorer_flags.h"

#include <string.h>

#include "base/error.h"

enum { SETTINGS_MAX = 16 };

/* "a=1 b=2" into to[], which ends with NULL; its words lie in copy. */
static cpl_status split_settings(const char *given, char *copy, size_t cap, const char **to, cpl_error *err)
{
    size_t n = 0;
    to[0] = NULL;
    if (!given) return CPL_OK;
    if (strlen(given) >= cap) return cpl_fail(err, CPL_INVALID, "'--settings' is longer than %zu bytes", cap - 1);
    memcpy(copy, given, strlen(given) + 1);
    for (char *at = copy, *word; (word = strsep(&at, " "));) {
        if (!*word) continue;
        if (n == SETTINGS_MAX) return cpl_fail(err, CPL_INVALID, "'--settings': more than %d of them", SETTINGS_MAX);
        to[n++] = word;
        to[n] = NULL;
    }
    return CPL_OK;
}

/* extra: one setting more, or NULL. */
static cpl_status open_with(cpl_scorer **out, const cpl_args *args, const char *given, const char *extra,
                            cpl_open_options *o, cpl_error *err)
{
    uint64_t threads = cpl_args_count(args, "threads"), team = cpl_args_count(args, "team");
    *out = NULL;
    if (threads > 4096)
        return cpl_fail(err, CPL_INVALID, "'--threads %llu': at most 4096", (unsigned long long)threads);
    if (team > 4096) return cpl_fail(err, CPL_INVALID, "'--team %llu': at most 4096", (unsigned long long)team);
    o->team_max = (uint32_t)team;
    if (!o->backend) o->backend = cpl_args_text(args, "backend");
    o->fallback = cpl_args_switch(args, "fallback");
    o->threads = (uint32_t)threads;
    char text[512];
    const char *settings[SETTINGS_MAX + 2];
    const cpl_status st = split_settings(given, text, sizeof text, settings, err);
    if (st) return st;
    size_t n = 0;
    while (settings[n]) n++;
    settings[n] = extra;
    if (extra) settings[n + 1] = NULL;
    o->settings = settings;
    return cpl_scorer_open(out, cpl_args_text(args, "model"), o, err);
}

static cpl_status open_scorer(cpl_scorer **out, const cpl_args *args, const char *given, cpl_open_options *o,
                              cpl_error *err)
{
    return open_with(out, args, given, NULL, o, err);
}

cpl_status cpl_scorer_from_flags_in(cpl_scorer **out, const cpl_args *args, const char *precision,
                                    uint32_t batch_tokens, uint32_t max_length, cpl_log *log, cpl_error *err)
{
    cpl_open_options o = CPL_OPTIONS(cpl_open_options);
    o.precision = precision;
    o.batch_tokens_max = batch_tokens;
    o.max_length = max_length;
    o.log = cpl_cli_log(log, cpl_args_text(args, "log"));
    return open_scorer(out, args, cpl_args_text(args, "settings"), &o, err);
}

cpl_status cpl_scorer_from_flags_plain(cpl_scorer **out, const cpl_args *args, const char *backend, cpl_log *log,
                                       cpl_error *err)
{
    cpl_open_options o = CPL_OPTIONS(cpl_open_options);
    o.backend = backend;
    o.precision = "fp32";
    o.log = cpl_cli_log(log, cpl_args_text(args, "log"));
    return open_scorer(out, args, NULL, &o, err);
}

cpl_status cpl_scorer_from_flags_with(cpl_scorer **out, const cpl_args *args, const char *precision, const char *extra,
                                      cpl_log *log, cpl_error *err)
{
    cpl_open_options o = CPL_OPTIONS(cpl_open_options);
    o.precision = precision;
    o.log = cpl_cli_log(log, cpl_args_text(args, "log"));
    return open_with(out, args, cpl_args_text(args, "settings"), extra, &o, err);
}

cpl_status cpl_scorer_from_flags_counting(cpl_scorer **out, const cpl_args *args, uint32_t batch_tokens, cpl_error *err)
{
    cpl_open_options o = CPL_OPTIONS(cpl_open_options);
    o.precision = cpl_args_text(args, "precision");
    o.batch_tokens_max = batch_tokens;
    o.count_stages = 1;
    return open_scorer(out, args, cpl_args_text(args, "settings"), &o, err);
}

cpl_status cpl_scorer_from_flags(cpl_scorer **out, const cpl_args *args, uint32_t batch_tokens, uint32_t max_length,
                                 cpl_log *log, cpl_error *err)
{
    return cpl_scorer_from_flags_in(out, args, cpl_args_text(args, "precision"), batch_tokens, max_length, log, err);
}

cpl_status cpl_scorer_check_label(const cpl_args *args, const cpl_scorer_info *info, cpl_error *err)
{
    const unsigned long long label = cpl_args_count(args, "label");
    if (!cpl_args_given(args, "label") || label < info->labels) return CPL_OK;
    if (!info->labels)
        return cpl_fail(err, CPL_INVALID, "'--label %llu': '%s' is an embedder, it has no labels", label, info->model);
    return cpl_fail(err, CPL_INVALID, "'--label %llu': '%s' has %u labels, from 0", label, info->model, info->labels);
}
