/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_score.c - `couplet score`: pairs in, scores out, any size of file, constant memory, resumable. */
#include <stdlib.h>

#include "base/error.h"
#include "cli/scorer_flags.h"
#include "cli/stream.h"

typedef struct score_job {
    cpl_log log;
    cpl_scorer *scorer;
    cpl_score_options options;
    uint32_t width; /* scores a pair */
} score_job;

/* The scores of a block. */
static void *open_room(void *user, cpl_error *err)
{
    const score_job *j = user;
    size_t bytes = sizeof(float) * CPL_BLOCK_RECORDS * j->width;
    float *scores = malloc(bytes);
    if (!scores) cpl_fail_memory(err, bytes);
    return scores;
}

static cpl_status compute(void *user, void *scores, const cpl_block *block, cpl_error *err)
{
    score_job *j = user;
    return cpl_scorer_score(j->scorer, block->pairs, block->count, &j->options, scores, err);
}

static void fields(void *user, const void *scores, size_t i, cpl_json_writer *w)
{
    const score_job *j = user;
    const float *row = (const float *)scores + i * j->width;
    if (j->width == 1) {
        cpl_json_float(w, "score", (double)row[0]);
        return;
    }
    cpl_json_open(w, "scores", '[');
    for (uint32_t k = 0; k < j->width; k++) cpl_json_float(w, NULL, (double)row[k]);
    cpl_json_close(w, ']');
}

/* --label N, or all of a several-label model. */
static cpl_status choose_label(score_job *j, const cpl_args *a, cpl_error *err)
{
    const cpl_scorer_info *info = cpl_scorer_describe(j->scorer);
    j->width = 1;
    if (cpl_args_given(a, "label")) {
        j->options.label = (int32_t)cpl_args_count(a, "label");
    } else if (info->labels > 1) {
        j->options.label = -1;
        j->width = info->labels;
    }
    return cpl_scorer_check_label(a, info, err);
}

static cpl_status prepare(void *user, const cpl_args *a, cpl_error *err)
{
    score_job *j = user;
    j->options = CPL_OPTIONS(cpl_score_options);
    j->options.form = cpl_args_switch(a, "raw-scores") ? CPL_SCORE_RAW : CPL_SCORE_DEFAULT;
    cpl_status st = cpl_scorer_from_flags(&j->scorer, a, 0, 0, &j->log, err);
    return st ? st : choose_label(j, a, err);
}

static int run(const cpl_args *a)
{
    cpl_error err;
    score_job j = {0};
    const cpl_stream stream = {.label = "scoring",
                               .pairs = true,
                               .user = &j,
                               .prepare = prepare,
                               .open_room = open_room,
                               .close_room = free,
                               .compute = compute,
                               .fields = fields,
                               .numbered = true};
    cpl_status st = cpl_stream_run(&stream, a, &err);
    cpl_scorer_close(j.scorer);
    return st ? cpl_cli_fail(&err) : 0;
}

static const cpl_flag flags[] = {
    {"input", CPL_FLAG_TEXT, "FILE", "-", CPL_STREAM_PAIRS},
    CPL_STREAM_FLAGS("scores"),
    {"raw-scores", CPL_FLAG_SWITCH, NULL, NULL, "logits instead of the model's activation"},
    {"label", CPL_FLAG_COUNT, "N", NULL, "one label of a several-label model, from 0; default: all of them"},
    CPL_SCORER_FLAGS,
    {0},
};

const cpl_command cpl_command_score = {
    .name = "score",
    .summary = "pairs in, scores out: any size of file, constant memory, resumable",
    .flags = flags,
    .details = "Writes one JSON line a pair, in input order: {\"index\":0,\"score\":0.81}; a model of several labels\n"
               "gives \"scores\":[...]. A cross-encoder's score is its activation (sigmoid for one label), an\n"
               "embedder's the cosine of its two vectors. Bytes that are not UTF-8 are read as U+FFFD and counted.",
    .run = run,
};
