/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_tokenize.c - `couplet tokenize`: the ids a tokenizer gives. Needs no weights: only the tokenizer's files are
 * read, and config files for the model's own length limit. */
#include <stdlib.h>

#include "base/error.h"
#include "cli/scorer_flags.h"
#include "cli/stream.h"
#include "model/locate.h"
#include "model/model.h"
#include "text/tokenizer.h"

typedef struct tokenize_job {
    cpl_tokenizer *tokenizer;
    size_t max_length; /* 0: no truncation */
    bool pairs;
} tokenize_job;

/* The ids of a block. */
typedef struct id_room {
    cpl_tokenizer_scratch *scratch;
    int32_t *ids; /* record after record */
    uint8_t *type_ids;
    size_t cap;
    size_t starts[CPL_BLOCK_RECORDS + 1];
} id_room;

static void close_room(void *room)
{
    id_room *r = room;
    cpl_tokenizer_scratch_close(r->scratch);
    free(r->ids);
    free(r->type_ids);
    free(r);
}

static void *open_room(void *user, cpl_error *err)
{
    (void)user;
    id_room *r = calloc(1, sizeof *r);
    if (!r) {
        cpl_fail_memory(err, sizeof *r);
        return NULL;
    }
    if (!cpl_tokenizer_scratch_open(&r->scratch, err)) return r;
    free(r);
    return NULL;
}

static cpl_status make_room(id_room *r, size_t room, cpl_error *err)
{
    if (room <= r->cap) return CPL_OK;
    size_t cap = room * 2;
    int32_t *ids = realloc(r->ids, cap * sizeof *ids);
    if (ids) r->ids = ids;
    uint8_t *type_ids = realloc(r->type_ids, cap);
    if (type_ids) r->type_ids = type_ids;
    if (!ids || !type_ids) return cpl_fail_memory(err, cap * sizeof *ids);
    r->cap = cap;
    return CPL_OK;
}

static cpl_status tokenize_one(const tokenize_job *j, id_room *r, cpl_text a, const cpl_text *b, size_t at,
                               size_t *count, cpl_error *err)
{
    /* A text never has more ids than bytes. */
    size_t most = a.size + (b ? b->size : 0) + cpl_tokenizer_added(j->tokenizer, b != NULL);
    cpl_status st = make_room(r, at + most, err);
    if (st) return st;
    return cpl_tokenizer_pair(j->tokenizer, r->scratch, a, b, j->max_length, r->ids + at, r->type_ids + at, most, count,
                              err);
}

static cpl_status compute(void *user, void *room, const cpl_block *block, cpl_error *err)
{
    const tokenize_job *j = user;
    id_room *r = room;
    size_t at = 0;
    for (size_t i = 0; i < block->count; i++) {
        size_t count = 0;
        cpl_status st = tokenize_one(j, r, j->pairs ? block->pairs[i].query : block->texts[i],
                                     j->pairs ? &block->pairs[i].document : NULL, at, &count, err);
        if (st) return st;
        r->starts[i] = at;
        at += count;
        r->starts[i + 1] = at;
    }
    return CPL_OK;
}

static void fields(void *user, const void *room, size_t i, cpl_json_writer *w)
{
    const id_room *r = room;
    (void)user;
    cpl_json_open(w, "ids", '[');
    for (size_t k = r->starts[i]; k < r->starts[i + 1]; k++) cpl_json_int(w, NULL, r->ids[k]);
    cpl_json_close(w, ']');
    cpl_json_open(w, "type_ids", '[');
    for (size_t k = r->starts[i]; k < r->starts[i + 1]; k++) cpl_json_int(w, NULL, r->type_ids[k]);
    cpl_json_close(w, ']');
}

static cpl_status prepare(void *user, const cpl_args *a, cpl_error *err)
{
    tokenize_job *j = user;
    char dir[4096];
    cpl_status st = cpl_model_locate(dir, sizeof dir, cpl_args_text(a, "model"), false, NULL, err);
    if (!st) st = cpl_tokenizer_open(&j->tokenizer, dir, err);
    if (st) return st;
    j->pairs = cpl_args_switch(a, "pair");
    j->max_length = (size_t)cpl_args_count(a, "max-length");
    if (cpl_args_given(a, "max-length")) return CPL_OK;
    cpl_model *model;
    st = cpl_model_open(&model, dir, err);
    if (st) return st;
    j->max_length = model->max_length;
    cpl_model_close(model);
    return CPL_OK;
}

static int run(const cpl_args *a)
{
    cpl_error err;
    tokenize_job j = {0};
    const cpl_stream stream = {.label = "tokenizing",
                               .pairs = cpl_args_switch(a, "pair"),
                               .user = &j,
                               .prepare = prepare,
                               .open_room = open_room,
                               .close_room = close_room,
                               .compute = compute,
                               .fields = fields,
                               .numbered = false};
    cpl_status st = cpl_stream_run(&stream, a, &err);
    cpl_tokenizer_close(j.tokenizer);
    return st ? cpl_cli_fail(&err) : 0;
}

static const cpl_flag flags[] = {
    {"model", CPL_FLAG_TEXT, "DIR", CPL_DEFAULT_MODEL,
     "model directory with tokenizer.json or vocab.txt, or a cached model's id"},
    {"input", CPL_FLAG_TEXT, "FILE", "-", "what 'embed' reads, with --pair what 'score' reads; - is stdin"},
    CPL_STREAM_FLAGS("ids"),
    {"pair", CPL_FLAG_SWITCH, NULL, NULL, "records are pairs"},
    {"max-length", CPL_FLAG_COUNT, "N", NULL,
     "truncate to N ids, longest text first; 0: never; default: the model's own limit"},
    {0},
};

const cpl_command cpl_command_tokenize = {
    .name = "tokenize",
    .summary = "the ids a model's tokenizer gives",
    .flags = flags,
    .details = "Writes one JSON line a record: {\"ids\":[101,...,102],\"type_ids\":[0,...]}, special tokens included.",
    .run = run,
};
