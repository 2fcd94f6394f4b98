/* SPDX-License-Identifier: Apache-2.0 */
/* stream.c - the loop under the file commands: read a block, take it apart, compute, make its lines, write them.
 *
 * The one idea: a ring of blocks that keep the input's order. One thread reads them, a few take the oldest unworked one
 * each and carry it from text to finished lines, the calling thread writes them in turn. So while a block is computed
 * the next ones are parsed, and a device is never without work at a block's end; the memory is the ring's.
 *
 * Invariants: block k lies in cell k modulo the ring's size and only ever moves on: free, read, taken, ready, free.
 * A line is only written once its whole block is computed and all before it are written, and output.c only ever leaves
 * whole lines, so the number of lines says where to resume. The first failure in the input's order is the one reported.
 * Threads: run->lock guards the cells' states and counters; a cell's content belongs to whoever moved it last. */
#include "cli/stream.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/thread.h"
#include "cli/output.h"
#include "cli/progress.h"

enum { RUNNERS_MAX = 6, CELLS_MAX = RUNNERS_MAX + 3 };

typedef enum cell_state { CELL_FREE, CELL_READ, CELL_TAKEN, CELL_READY } cell_state;

typedef struct cell {
    cell_state state;
    cpl_block block;
    void *room;
    uint64_t index; /* of its first record */
    cpl_buf lines;
    cpl_status status;
    cpl_error err;
} cell;

typedef struct stream_run {
    const cpl_stream *stream;
    cpl_records *records;
    cpl_output output;
    uint64_t index; /* of the next record to read; the reader's */
    uint32_t runner_count, cell_count;
    cell cells[CELLS_MAX];
    cpl_thread reader, runners[RUNNERS_MAX];
    pthread_mutex_t lock;
    pthread_cond_t moved;
    uint64_t to_run; /* number of the next block a runner takes */
    bool stopping;
} stream_run;

static void move(stream_run *r, cell *c, cell_state to)
{
    pthread_mutex_lock(&r->lock);
    c->state = to;
    pthread_cond_broadcast(&r->moved);
    pthread_mutex_unlock(&r->lock);
}

/* Waits until the cell is in this state; false when the run ends instead. */
static bool wait_for(stream_run *r, const cell *c, cell_state state)
{
    pthread_mutex_lock(&r->lock);
    while (c->state != state && !r->stopping) pthread_cond_wait(&r->moved, &r->lock);
    bool go = !r->stopping;
    pthread_mutex_unlock(&r->lock);
    return go;
}

static void read_all(void *arg)
{
    stream_run *r = arg;
    bool over = false;
    for (uint64_t k = 0; !over; k++) {
        cell *c = &r->cells[k % r->cell_count];
        if (!wait_for(r, c, CELL_FREE)) return;
        c->status = cpl_block_read(&c->block, r->records, &c->err);
        c->index = r->index;
        r->index += c->block.count;
        over = c->status || c->block.over;
        move(r, c, CELL_READ);
    }
}

static void add_lines(stream_run *r, cell *c)
{
    cpl_buf_clear(&c->lines);
    for (size_t i = 0; i < c->block.count; i++) {
        cpl_json_writer w = {.out = &c->lines};
        cpl_json_open(&w, NULL, '{');
        if (r->stream->numbered) cpl_json_int(&w, "index", (int64_t)(c->index + i));
        r->stream->fields(r->stream->user, c->room, i, &w);
        cpl_json_close(&w, '}');
        cpl_buf_add(&c->lines, "\n", 1);
    }
}

static cpl_status work_on(stream_run *r, cell *c, cpl_error *err)
{
    if (c->status || !c->block.count) return c->status;
    cpl_status st = cpl_block_parse(&c->block, r->records, r->stream->pairs, err);
    if (!st) st = r->stream->compute(r->stream->user, c->room, &c->block, err);
    if (!st) add_lines(r, c);
    return st;
}

static void run_some(void *arg)
{
    stream_run *r = arg;
    for (;;) {
        pthread_mutex_lock(&r->lock);
        cell *c;
        while ((c = &r->cells[r->to_run % r->cell_count])->state != CELL_READ && !r->stopping)
            pthread_cond_wait(&r->moved, &r->lock);
        bool go = !r->stopping;
        if (go) {
            c->state = CELL_TAKEN;
            r->to_run++;
        }
        pthread_mutex_unlock(&r->lock);
        if (!go) return;
        c->status = work_on(r, c, &c->err);
        move(r, c, CELL_READY);
    }
}

static cpl_status write_all(stream_run *r, cpl_error *err)
{
    cpl_progress bar;
    cpl_progress_init(&bar, r->stream->label, 0);
    cpl_status st = CPL_OK;
    bool over = false;
    for (uint64_t k = 0; !st && !over; k++) {
        cell *c = &r->cells[k % r->cell_count];
        wait_for(r, c, CELL_READY);
        st = c->status;
        if (st) *err = c->err;
        if (!st && c->block.count) st = cpl_output_write(&r->output, &c->lines, err);
        cpl_progress_update(&bar, c->index + c->block.count);
        over = c->block.over;
        move(r, c, CELL_FREE);
    }
    cpl_progress_finish(&bar);
    return st;
}

/* As many blocks at once as keep the cores and a device in work: one is what a device does in a few milliseconds. */
static cpl_status open_cells(stream_run *r, cpl_error *err)
{
    uint32_t runners = 2 + cpl_cpu_count() / 8;
    r->runner_count = runners < RUNNERS_MAX ? runners : RUNNERS_MAX;
    r->cell_count = r->runner_count + 3; /* one being written, one being read, one ready to be taken */
    for (uint32_t i = 0; i < r->cell_count; i++) {
        r->cells[i].room = r->stream->open_room(r->stream->user, err);
        if (!r->cells[i].room) return err->status;
    }
    return CPL_OK;
}

static cpl_status run_blocks(stream_run *r, cpl_error *err)
{
    cpl_status st = open_cells(r, err);
    if (!st) st = cpl_thread_start(&r->reader, "cpl-read", -1, read_all, r, err);
    for (uint32_t i = 0; !st && i < r->runner_count; i++)
        st = cpl_thread_start(&r->runners[i], "cpl-stream", -1, run_some, r, err);
    if (!st) st = write_all(r, err);
    pthread_mutex_lock(&r->lock);
    r->stopping = true;
    pthread_cond_broadcast(&r->moved);
    pthread_mutex_unlock(&r->lock);
    cpl_records_interrupt(r->records);
    for (uint32_t i = 0; i < r->runner_count; i++) cpl_thread_join(&r->runners[i]);
    cpl_thread_join(&r->reader);
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
    st = cpl_block_skip(&r->cells[0].block, r->records, r->index, err);
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
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->moved, NULL);
    cpl_status st = run_file(r, args, err);
    uint64_t repaired = 0;
    for (uint32_t i = 0; i < CELLS_MAX; i++) {
        repaired += r->cells[i].block.parser.repairs;
        if (r->cells[i].room) s->close_room(r->cells[i].room);
        cpl_buf_deinit(&r->cells[i].lines);
        cpl_block_deinit(&r->cells[i].block);
    }
    if (repaired)
        fprintf(stderr, "couplet: note: %llu invalid UTF-8 sequences were read as U+FFFD\n",
                (unsigned long long)repaired);
    cpl_records_close(r->records);
    pthread_cond_destroy(&r->moved);
    pthread_mutex_destroy(&r->lock);
    free(r);
    return st;
}
