/* SPDX-License-Identifier: Apache-2.0 */
/* records.h - pairs or texts from a file: TSV or JSON lines, compressed or not, with invalid UTF-8 repaired and counted
 * (DESIGN section 6: files decode by the maximal-subpart rule, servers reject). */
#ifndef CPL_BASE_RECORDS_H
#define CPL_BASE_RECORDS_H

#include <stdbool.h>

#include "base/buf.h"
#include "couplet.h"

typedef struct cpl_records cpl_records;

typedef enum cpl_record_format {
    CPL_RECORDS_BY_NAME, /* JSONL if the name ends in .jsonl (before .gz or .zst), else lines */
    CPL_RECORDS_LINES,   /* query<TAB>document (everything behind the first tab); for texts the line itself */
    CPL_RECORDS_JSONL    /* {"query":..,"document":..} or {"text":..}; other keys are ignored, blank lines skipped */
} cpl_record_format;

/* "tsv" or "jsonl"; NULL: by name. */
cpl_status cpl_record_format_parse(cpl_record_format *out, const char *name, cpl_error *err);

/* pairs: pairs of texts, else single texts. path "-" is standard input. */
cpl_status cpl_records_open(cpl_records **out, const char *path, cpl_record_format format, bool pairs, cpl_error *err);
void cpl_records_close(cpl_records *r); /* NULL is fine */
/* Ends a wait for input, now or at the next one, with CPL_CANCELLED. Any thread. */
void cpl_records_interrupt(cpl_records *r);

/* Appends the next record to `first` (query or text) and, for pairs, `second`. *end after the last. A record that
 * isn't one is CPL_INVALID with file and line. */
cpl_status cpl_records_next(cpl_records *r, cpl_buf *first, cpl_buf *second, bool *end, cpl_error *err);
/* How many invalid byte sequences cpl_records_next replaced by U+FFFD so far. */
uint64_t cpl_records_repaired(const cpl_records *r);

/* The same in two steps, for who reads on one thread and takes apart on several. */

/* Appends the next record's line to `line`, as it stands in the file, and says which line it is, from 1. */
cpl_status cpl_records_line(cpl_records *r, cpl_buf *line, uint64_t *number, bool *end, cpl_error *err);

/* What one thread needs to take lines apart; a zeroed one is ready. */
typedef struct cpl_record_parser {
    cpl_buf repaired;
    uint64_t repairs; /* invalid byte sequences replaced so far */
} cpl_record_parser;
void cpl_record_parser_deinit(cpl_record_parser *p);
/* Takes line `number` apart as cpl_records_next does. Any thread, one a parser. */
cpl_status cpl_records_parse(const cpl_records *r, cpl_record_parser *p, const char *line, size_t n, uint64_t number,
                             cpl_buf *first, cpl_buf *second, cpl_error *err);

#endif
