/* SPDX-License-Identifier: Apache-2.0 */
/* stream.h - records in, one JSON line each out, in input order, constant memory, resumable: what `score`, `embed` and
 * `tokenize` have in common. */
#ifndef CPL_CLI_STREAM_H
#define CPL_CLI_STREAM_H

#include "base/json.h"
#include "cli/block.h"
#include "cli/options.h"

typedef struct cpl_stream {
    const char *label; /* of the progress bar */
    bool pairs;        /* records are pairs, else texts */
    void *user;
    /* Called once, after the input was found and before the output is made: loads the model. */
    cpl_status (*prepare)(void *user, const cpl_args *args, cpl_error *err);
    /* Several blocks are worked on at once, each with room of its own: made once for each, NULL where it failed. */
    void *(*open_room)(void *user, cpl_error *err);
    void (*close_room)(void *room);
    /* Works on a block that was read, on any thread; not called with an empty one. */
    cpl_status (*compute)(void *user, void *room, const cpl_block *block, cpl_error *err);
    /* Writes the fields of record i of that block into an open JSON object. */
    void (*fields)(void *user, const void *room, size_t i, cpl_json_writer *w);
    bool numbered; /* each object starts with "index" */
} cpl_stream;

/* The flags it reads. */
#define CPL_STREAM_FLAGS(what)                                                                                         \
    {"output", CPL_FLAG_TEXT, "FILE", NULL, "where the " what " go (FILE.part until complete); default stdout"},       \
        {"resume", CPL_FLAG_SWITCH, NULL, NULL, "continue an unfinished FILE.part"},                                   \
    {                                                                                                                  \
        "format", CPL_FLAG_TEXT, "F", NULL,                                                                            \
            "tsv (or text) or jsonl; default: jsonl if the name ends in .jsonl (before .gz or .zst)"                   \
    }
#define CPL_STREAM_PAIRS                                                                                               \
    "TSV 'query<TAB>document' or JSON lines {\"query\":..,\"document\":..}; .gz and .zst too; - is stdin"
#define CPL_STREAM_TEXTS "one text a line or JSON lines {\"text\":..}; .gz and .zst too; - is stdin"

/* Reads --input, --format, --output, --resume and runs to the input's end. Says on stderr how many invalid UTF-8
 * sequences were repaired. */
cpl_status cpl_stream_run(const cpl_stream *s, const cpl_args *args, cpl_error *err);

#endif
