/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_tune.c - `couplet tune`: flags in, tuner.c's search, three files out. Threads: the main one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "cli/options.h"
#include "cli/scorer_flags.h"
#include "lab/tuner.h"
#include "serve/config.h"

static const cpl_flag flags[] = {
    {"model", CPL_FLAG_TEXT, "DIR", CPL_DEFAULT_MODEL,
     "model directory in Hugging Face layout, or a cached model's id"},
    {"slo", CPL_FLAG_TEXT, "OBJECTIVE", "p99=50ms", "latency objective with a percentile"},
    {"max-loss", CPL_FLAG_NUMBER, "PART", "0.005",
     "accuracy that may be lost: 1 - Spearman's rank correlation of the scores with those of fp32"},
    {"backend", CPL_FLAG_LIST, "NAME", NULL, "try this backend; not given: native and every plug-in that is here"},
    {"precision", CPL_FLAG_LIST, "P", NULL, "try this precision; not given: all that a backend runs"},
    {"policy", CPL_FLAG_LIST, "NAME[:MS]", NULL,
     "try this batching policy: off, greedy, timeout:MS; not given: off, greedy, timeout of 1, 2, 5 and 10"},
    {"threads", CPL_FLAG_LIST, "N", NULL,
     "try so many worker threads; not given: 1, 2, 4, ... up to the cores, or around what devices want"},
    {"batch-tokens", CPL_FLAG_LIST, "N", NULL,
     "try passes of so many tokens; not given: from what the backend takes by itself, halving and doubling between 64 "
     "and 65536"},
    {"pairs", CPL_FLAG_TEXT, "FILE", NULL,
     "TSV or JSON lines of pairs to send; not given: the file COUPLET_DATA names, else generated from the seed"},
    {"lengths", CPL_FLAG_TEXT, "TOKENS", NULL, "generate pairs of so many tokens, as load does"},
    {"pairs-per-request", CPL_FLAG_COUNT, "N", "1", "pairs in one request"},
    {"quality-pairs", CPL_FLAG_COUNT, "N", "400", "pairs over which the loss is taken"},
    {"seconds", CPL_FLAG_NUMBER, "S", "2", "how long a rate is probed, longer where the percentile needs it"},
    {"finalists", CPL_FLAG_COUNT, "N", "3", "how many of the best are measured again, in turn"},
    {"rounds", CPL_FLAG_COUNT, "N", "3", "how often; at most 9"},
    {"seed", CPL_FLAG_COUNT, "N", "1", "seed of texts and arrivals"},
    {"set", CPL_FLAG_LIST, "KEY=VALUE", NULL, "setting for every server that is tried"},
    {"output", CPL_FLAG_TEXT, "NAME", "tuned", "writes NAME.yaml, NAME.md and NAME.json"},
    {"json", CPL_FLAG_SWITCH, NULL, NULL, "print the JSON document"},
    {NULL, CPL_FLAG_SWITCH, NULL, NULL, NULL},
};

static void on_line(void *user, const char *line)
{
    (void)user;
    fprintf(stderr, "%s\n", line);
}

static cpl_status read_options(cpl_tuner_options *o, const cpl_args *a, cpl_error *err)
{
    *o = (cpl_tuner_options){.model = cpl_args_text(a, "model"),
                             .backends = cpl_args_list(a, "backend"),
                             .precisions = cpl_args_list(a, "precision"),
                             .policies = cpl_args_list(a, "policy"),
                             .threads = cpl_args_list(a, "threads"),
                             .tokens = cpl_args_list(a, "batch-tokens"),
                             .sets = cpl_args_list(a, "set"),
                             .loss_max = cpl_args_number(a, "max-loss"),
                             .pairs = cpl_args_text(a, "pairs"),
                             .pairs_per_request = (uint32_t)cpl_args_count(a, "pairs-per-request"),
                             .quality_pairs = (uint32_t)cpl_args_count(a, "quality-pairs"),
                             .seed = cpl_args_count(a, "seed"),
                             .seconds = cpl_args_number(a, "seconds"),
                             .finalists = (uint32_t)cpl_args_count(a, "finalists"),
                             .rounds = (uint32_t)cpl_args_count(a, "rounds"),
                             .progress = on_line};
    cpl_status st = cpl_slo_parse(&o->slo, cpl_args_text(a, "slo"), err);
    if (!st) st = cpl_shape_parse(&o->shape, cpl_args_text(a, "lengths"), 1, 0, err);
    if (!st && (!o->pairs_per_request || o->pairs_per_request > 1024))
        st = cpl_fail(err, CPL_INVALID, "--pairs-per-request %u: from 1 to 1024", o->pairs_per_request);
    if (!st && (o->quality_pairs < 10 || !(o->seconds > 0) || o->rounds > CPL_TUNE_ROUNDS_MAX))
        st = cpl_fail(err, CPL_INVALID,
                      "give --quality-pairs of 10 or more, --seconds of more than 0 and --rounds of at most %d",
                      CPL_TUNE_ROUNDS_MAX);
    if (!o->pairs && o->shape.lengths == CPL_LENGTHS_GIVEN) o->pairs = getenv("COUPLET_DATA");
    if (o->pairs && !*o->pairs) o->pairs = NULL;
    return st;
}

static cpl_status write_file(const char *name, const char *suffix, const cpl_buf *text, cpl_error *err)
{
    char path[1024];
    snprintf(path, sizeof path, "%.1000s%s", name, suffix);
    cpl_status st = cpl_buf_status(text, err);
    return st ? st : cpl_file_write(path, text->data, text->size, err);
}

/* The file is read back as serve would. */
static cpl_status check_config(const char *name, cpl_error *err)
{
    char path[1024];
    cpl_config *c = NULL;
    snprintf(path, sizeof path, "%.1000s.yaml", name);
    cpl_status st = cpl_config_load(&c, path, false, NULL, err);
    if (!st) st = cpl_config_check(c, err);
    cpl_config_close(c);
    return st;
}

static cpl_status write_files(const cpl_tuner *t, const char *name, bool print_json, cpl_error *err)
{
    cpl_buf config = {0}, page = {0}, json = {0};
    cpl_tuner_markdown(t, &page);
    cpl_tuner_json(t, &json);
    cpl_status st = write_file(name, ".md", &page, err);
    if (!st) st = write_file(name, ".json", &json, err);
    if (!st && t->search.best >= 0) {
        st = cpl_tuner_config(t, &config, err);
        if (!st) st = write_file(name, ".yaml", &config, err);
        if (!st) st = check_config(name, err);
    }
    const cpl_buf *shown = print_json ? &json : &page;
    if (!st) fwrite(shown->data, 1, shown->size, stdout);
    if (!st && !print_json && config.data) printf("\n%s.yaml:\n\n%s", name, config.data);
    cpl_buf_deinit(&config);
    cpl_buf_deinit(&page);
    cpl_buf_deinit(&json);
    return st;
}

static int run(const cpl_args *a)
{
    cpl_error err;
    cpl_log storage;
    cpl_tuner_options o;
    cpl_tuner *t = NULL;
    cpl_status st = read_options(&o, a, &err);
    o.log = cpl_cli_log(&storage, NULL);
    if (!st) st = cpl_tuner_run(&t, &o, &err);
    if (!st) st = write_files(t, cpl_args_text(a, "output"), cpl_args_switch(a, "json"), &err);
    const bool found = !st && t->search.best >= 0;
    cpl_tuner_close(t);
    return st ? cpl_cli_fail(&err) : found ? 0 : 1;
}

const cpl_command cpl_command_tune = {
    .name = "tune",
    .summary = "find a server's settings for a latency objective and a permitted loss",
    .flags = flags,
    .details =
        "Starts servers with different backends, precisions, batching policies, worker threads and tokens a pass, and "
        "finds for each the highest rate of requests at which the objective holds (as load --search-peak does). First "
        "every precision with the default settings, then the policies, then one step at a time from the best; the best "
        "few are measured again in turn, and the highest median wins. A precision whose scores rank the pairs too "
        "differently from fp32's may not win; it is measured once, so that the report shows what its loss would "
        "buy.\n\n"
        "Writes NAME.yaml for serve --config, and a report with the frontier of speed against loss. Exit status 1 when "
        "nothing holds the objective.",
    .run = run,
};
