/* SPDX-License-Identifier: Apache-2.0 */
/* block.h - a block of records in memory: what a streaming command reads, hands to the scorer, and drops. */
#ifndef CPL_CLI_BLOCK_H
#define CPL_CLI_BLOCK_H

#include "base/records.h"

enum { CPL_BLOCK_RECORDS = 1024, CPL_BLOCK_BYTES = 8 << 20 };

/* A zeroed one is empty. */
typedef struct cpl_block {
    cpl_buf lines; /* as read */
    size_t line_ends[CPL_BLOCK_RECORDS];
    uint64_t numbers[CPL_BLOCK_RECORDS];
    cpl_record_parser parser;
    cpl_buf bytes, second; /* the texts */
    size_t ends[2 * CPL_BLOCK_RECORDS];
    cpl_pair pairs[CPL_BLOCK_RECORDS];
    cpl_text texts[CPL_BLOCK_RECORDS];
    size_t count;
    bool over; /* the input ended */
} cpl_block;

/* Reads up to CPL_BLOCK_RECORDS lines, fewer when they pass CPL_BLOCK_BYTES. One block at a time of one input. */
cpl_status cpl_block_read(cpl_block *b, cpl_records *records, cpl_error *err);
/* Takes them apart: then pairs (or texts) hold `count` records, valid until the next read. Any thread, blocks of one
 * input at the same time too. */
cpl_status cpl_block_parse(cpl_block *b, const cpl_records *records, bool pairs, cpl_error *err);
/* Drops the first n records of the input; fewer left than that is CPL_PRECONDITION. */
cpl_status cpl_block_skip(cpl_block *b, cpl_records *records, uint64_t n, cpl_error *err);
void cpl_block_deinit(cpl_block *b);

#endif
