/* SPDX-License-Identifier: Apache-2.0 */
/* block.c - constant memory over any size of input: one buffer of lines and one of texts, filled, used, filled again.
 * Reading only copies lines, because lines come one after another; taking them apart can be done to many blocks at
 * once. Offsets are kept while a buffer grows and turned into pointers once it has stopped moving. */
#include "cli/block.h"

#include "base/error.h"

cpl_status cpl_block_read(cpl_block *b, cpl_records *records, cpl_error *err)
{
    cpl_buf_clear(&b->lines);
    b->count = 0;
    while (!b->over && b->count < CPL_BLOCK_RECORDS && b->lines.size < CPL_BLOCK_BYTES) {
        cpl_status st = cpl_records_line(records, &b->lines, &b->numbers[b->count], &b->over, err);
        if (st) return st;
        if (!b->over) b->line_ends[b->count++] = b->lines.size;
    }
    return CPL_OK;
}

cpl_status cpl_block_parse(cpl_block *b, const cpl_records *records, bool pairs, cpl_error *err)
{
    size_t at = 0;
    cpl_buf_clear(&b->bytes);
    for (size_t i = 0; i < b->count; i++) {
        /* A record's second text must lie behind its first: it is read into the same buffer through a second one. */
        cpl_buf_clear(&b->second);
        cpl_status st = cpl_records_parse(records, &b->parser, b->lines.data + at, b->line_ends[i] - at, b->numbers[i],
                                          &b->bytes, &b->second, err);
        if (st) return st;
        at = b->line_ends[i];
        b->ends[2 * i] = b->bytes.size;
        cpl_buf_add(&b->bytes, b->second.data, b->second.size);
        b->ends[2 * i + 1] = b->bytes.size;
    }
    cpl_status st = cpl_buf_status(&b->bytes, err);
    if (st) return st;
    const char *data = b->bytes.data ? b->bytes.data : "";
    at = 0;
    for (size_t i = 0; i < b->count; i++) {
        size_t middle = b->ends[2 * i], end = b->ends[2 * i + 1];
        cpl_text first = {data + at, middle - at};
        if (pairs)
            b->pairs[i] = (cpl_pair){first, {data + middle, end - middle}};
        else
            b->texts[i] = first;
        at = end;
    }
    return CPL_OK;
}

cpl_status cpl_block_skip(cpl_block *b, cpl_records *records, uint64_t n, cpl_error *err)
{
    cpl_status st = CPL_OK;
    for (uint64_t i = 0; i < n && !st; i++) {
        cpl_buf_clear(&b->lines);
        st = cpl_records_line(records, &b->lines, &b->numbers[0], &b->over, err);
        if (!st && b->over)
            st = cpl_fail(err, CPL_PRECONDITION,
                          "can't resume: the output has %llu results already, the input only %llu records: is it the "
                          "same input?",
                          (unsigned long long)n, (unsigned long long)i);
    }
    return st;
}

void cpl_block_deinit(cpl_block *b)
{
    cpl_record_parser_deinit(&b->parser);
    cpl_buf_deinit(&b->lines);
    cpl_buf_deinit(&b->bytes);
    cpl_buf_deinit(&b->second);
}
