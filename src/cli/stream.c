/* SPDX-License-Identifier: Apache-2.0 */
/* stream.c - the loop under the file commands: read a block, compute, write its lines. A line is only written once its
 * whole block is computed, and output.c only ever leaves whole lines, so the number of lines says where to resume. */
#include "cli/stream.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "cli/output.h"
#include "cli/progress.h"

typedef struct stream_run {
    const cpl_stream *stream;
    cpl_records *records;
    cpl_output output;
    cpl_block block;
    cpl_buf lines;
    uint64_t index;
} stream_run;

static void add_lines(stream_run *r)
{
    for (size_t i = 0; i < r->block.count; i++) {
        cpl_json_writer w = {.out = &r->lines};
        cpl_json_open(&w, NULL, '{');
        if (r->stream->numbered) cpl_json_int(&w, "index", (int64_t)r->index);
        r->stream->fields(r->stream->user, i, &w);
        cpl_json_close(&w, '}');
        cpl_buf_add(&r->lines, "\n", 1);
        r->index++;
    }
}

static cpl_status run_blocks(stream_run *r, cpl_error *err)
{
    cpl_progress bar;
    cpl_progress_init(&bar, r->stream->label, 0);
    cpl_status st = CPL_OK;
    while (!st && !r->block.over) {
        st = cpl_block_read(&r->block, r->records, r->stream->pairs, err);
        if (st || !r->block.count) break;
        st = r->stream->compute(r->stream->user, &r->block, err);
        if (st) break;
        add_lines(r);
        st = cpl_output_write(&r->output, &r->lines, err);
        cpl_progress_update(&bar, r->index);
    }
    cpl_progress_finish(&bar);
    return st;
}

static cpl_status run_file(stream_run *r, const cpl_args *a, cpl_error *err)
{
    cpl_record_format format;
    cpl_status st = cpl_record_format_parse(&format, cpl_args_text(a, "format"), err);
    if (!st) st = cpl_records_open(&r->records, cpl_args_text(a, "input"), format, r->stream->pairs, err);
    if (!st) st = r->stream->prepare(r->stream->user, a, err);
    if (!st) st = cpl_output_open(&r->output, cpl_args_text(a, "output"), cpl_args_switch(a, "resume"), err);
    if (st) return st;
    r->index = r->output.lines_done;
    if (r->index) fprintf(stderr, "couplet: resuming behind %llu results\n", (unsigned long long)r->index);
    st = cpl_block_skip(&r->block, r->records, r->index, err);
    if (!st) st = run_blocks(r, err);
    if (!st) return cpl_output_finish(&r->output, err);
    cpl_output_abandon(&r->output);
    return st;
}

cpl_status cpl_stream_run(const cpl_stream *s, const cpl_args *args, cpl_error *err)
{
    stream_run *r = calloc(1, sizeof *r);
    if (!r) return cpl_fail_memory(err, sizeof *r);
    r->stream = s;
    cpl_status st = run_file(r, args, err);
    uint64_t repaired = r->records ? cpl_records_repaired(r->records) : 0;
    if (repaired)
        fprintf(stderr, "couplet: note: %llu invalid UTF-8 sequences were read as U+FFFD\n",
                (unsigned long long)repaired);
    cpl_records_close(r->records);
    cpl_block_deinit(&r->block);
    cpl_buf_deinit(&r->lines);
    free(r);
    return st;
}
