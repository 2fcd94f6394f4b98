/* SPDX-License-Identifier: Apache-2.0 */
/* scorer_flags.c - from flags to an open scorer, in one place, so that four commands mean the same by --precision. */
#include "cli/scorer_flags.h"

#include "base/error.h"

static cpl_status open_scorer(cpl_scorer **out, const cpl_args *args, cpl_open_options *o, cpl_error *err)
{
    uint64_t threads = cpl_args_count(args, "threads"), team = cpl_args_count(args, "team");
    *out = NULL;
    if (threads > 4096)
        return cpl_fail(err, CPL_INVALID, "'--threads %llu': at most 4096", (unsigned long long)threads);
    if (team > 4096) return cpl_fail(err, CPL_INVALID, "'--team %llu': at most 4096", (unsigned long long)team);
    o->team_max = (uint32_t)team;
    o->backend = cpl_args_text(args, "backend");
    o->fallback = cpl_args_switch(args, "fallback");
    o->threads = (uint32_t)threads;
    return cpl_scorer_open(out, cpl_args_text(args, "model"), o, err);
}

cpl_status cpl_scorer_from_flags_in(cpl_scorer **out, const cpl_args *args, const char *precision,
                                    uint32_t batch_tokens, uint32_t max_length, cpl_log *log, cpl_error *err)
{
    cpl_open_options o = CPL_OPTIONS(cpl_open_options);
    o.precision = precision;
    o.batch_tokens_max = batch_tokens;
    o.max_length = max_length;
    o.log = cpl_cli_log(log, cpl_args_text(args, "log"));
    return open_scorer(out, args, &o, err);
}

cpl_status cpl_scorer_from_flags_counting(cpl_scorer **out, const cpl_args *args, uint32_t batch_tokens, cpl_error *err)
{
    cpl_open_options o = CPL_OPTIONS(cpl_open_options);
    o.precision = cpl_args_text(args, "precision");
    o.batch_tokens_max = batch_tokens;
    o.count_stages = 1;
    return open_scorer(out, args, &o, err);
}

cpl_status cpl_scorer_from_flags(cpl_scorer **out, const cpl_args *args, uint32_t batch_tokens, uint32_t max_length,
                                 cpl_log *log, cpl_error *err)
{
    return cpl_scorer_from_flags_in(out, args, cpl_args_text(args, "precision"), batch_tokens, max_length, log, err);
}
