/* SPDX-License-Identifier: Apache-2.0 */
/* block.c - constant memory over any size of input: one buffer, filled, used, filled again. Offsets are kept while the
 * buffer grows and turned into pointers once it has stopped moving. */
#include "cli/block.h"

#include "base/error.h"

cpl_status cpl_block_read(cpl_block *b, cpl_records *records, bool pairs, cpl_error *err)
{
    cpl_buf_clear(&b->bytes);
    b->count = 0;
    /* A record's second text must lie behind its first: it is read into the same buffer through a second one. */
    cpl_buf second = {0};
    cpl_status st = CPL_OK;
    while (!st && !b->over && b->count < CPL_BLOCK_RECORDS && b->bytes.size < CPL_BLOCK_BYTES) {
        cpl_buf_clear(&second);
        st = cpl_records_next(records, &b->bytes, &second, &b->over, err);
        if (st || b->over) break;
        b->ends[2 * b->count] = b->bytes.size;
        cpl_buf_add(&b->bytes, second.data, second.size);
        b->ends[2 * b->count + 1] = b->bytes.size;
        st = cpl_buf_status(&b->bytes, err);
        b->count++;
    }
    cpl_buf_deinit(&second);
    if (st) return st;
    size_t at = 0;
    for (size_t i = 0; i < b->count; i++) {
        size_t middle = b->ends[2 * i], end = b->ends[2 * i + 1];
        const char *data = b->bytes.data ? b->bytes.data : "";
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
    cpl_buf second = {0};
    cpl_status st = CPL_OK;
    for (uint64_t i = 0; i < n && !st; i++) {
        cpl_buf_clear(&b->bytes);
        cpl_buf_clear(&second);
        st = cpl_records_next(records, &b->bytes, &second, &b->over, err);
        if (!st && b->over)
            st = cpl_fail(err, CPL_PRECONDITION,
                          "can't resume: the output has %llu results already, the input only %llu records: is it the "
                          "same input?",
                          (unsigned long long)n, (unsigned long long)i);
    }
    cpl_buf_deinit(&second);
    return st;
}

void cpl_block_deinit(cpl_block *b) { cpl_buf_deinit(&b->bytes); }
