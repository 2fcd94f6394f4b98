/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_embed.c - `couplet embed`: texts in, vectors out, any size of file, constant memory, resumable. */
#include <stdlib.h>

#include "base/error.h"
#include "cli/scorer_flags.h"
#include "cli/stream.h"

typedef struct embed_job {
    cpl_log log;
    cpl_scorer *scorer;
    uint32_t hidden;
} embed_job;

/* The vectors of a block. */
static void *open_room(void *user, cpl_error *err)
{
    const embed_job *j = user;
    size_t bytes = sizeof(float) * CPL_BLOCK_RECORDS * j->hidden;
    float *vectors = malloc(bytes);
    if (!vectors) cpl_fail_memory(err, bytes);
    return vectors;
}

static cpl_status compute(void *user, void *vectors, const cpl_block *block, cpl_error *err)
{
    embed_job *j = user;
    return cpl_scorer_embed(j->scorer, block->texts, block->count, vectors, err);
}

static void fields(void *user, const void *vectors, size_t i, cpl_json_writer *w)
{
    const embed_job *j = user;
    const float *row = (const float *)vectors + i * j->hidden;
    cpl_json_open(w, "embedding", '[');
    for (uint32_t k = 0; k < j->hidden; k++) cpl_json_float(w, NULL, (double)row[k]);
    cpl_json_close(w, ']');
}

static cpl_status prepare(void *user, const cpl_args *a, cpl_error *err)
{
    embed_job *j = user;
    cpl_status st = cpl_scorer_from_flags(&j->scorer, a, 0, 0, &j->log, err);
    if (st) return st;
    const cpl_scorer_info *info = cpl_scorer_describe(j->scorer);
    if (info->task != CPL_TASK_EMBEDDER)
        return cpl_fail(err, CPL_PRECONDITION, "'%s' is a cross-encoder, it has no embeddings: use 'couplet score'",
                        info->model);
    j->hidden = info->hidden;
    return CPL_OK;
}

static int run(const cpl_args *a)
{
    cpl_error err;
    embed_job j = {0};
    const cpl_stream stream = {.label = "embedding",
                               .pairs = false,
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
    {"input", CPL_FLAG_TEXT, "FILE", "-", CPL_STREAM_TEXTS},
    CPL_STREAM_FLAGS("vectors"),
    CPL_SCORER_FLAGS,
    {0},
};

const cpl_command cpl_command_embed = {
    .name = "embed",
    .summary = "texts in, vectors out: any size of file, constant memory, resumable",
    .flags = flags,
    .details = "Writes one JSON line a text, in input order: {\"index\":0,\"embedding\":[...]}; pooled as the model\n"
               "says, and normalised where it does.",
    .run = run,
};
