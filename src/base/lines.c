/* SPDX-License-Identifier: Apache-2.0 */
/* lines.c - bytes from a file, through a decompressor if the first bytes ask for one, cut at newlines.
 * The one idea: one sliding window; the decoder fills its end, lines are handed out from its front, so any size of file
 * needs the memory of its longest line. Concatenated gzip members and zstd frames are read on as one text.
 * Threads: one at a time, but cpl_lines_interrupt, which may come from another while one waits for a pipe. */
#include "base/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "base/error.h"
#include "base/system.h"

enum { INPUT_BYTES = 1 << 17 };

typedef enum coding { CODING_PLAIN, CODING_GZIP, CODING_ZSTD } coding;

struct cpl_lines {
    char path[512];
    int fd, interrupt[2];
    coding coding;
    bool input_over, inside_frame;
    unsigned char *in; /* INPUT_BYTES, in_at..in_end unread */
    size_t in_at, in_end;
    char *window; /* at..end not yet handed out */
    size_t at, end, cap, searched;
    uint64_t number;
    z_stream gzip;
    bool gzip_ready;
    ZSTD_DStream *zstd;
};

static cpl_status refill(cpl_lines *l, cpl_error *err)
{
    if (l->in_at < l->in_end || l->input_over) return CPL_OK;
    struct pollfd ready[2] = {{.fd = l->fd, .events = POLLIN}, {.fd = l->interrupt[0], .events = POLLIN}};
    ssize_t n;
    do n = poll(ready, 2, -1);
    while (n < 0 && errno == EINTR);
    if (ready[1].revents) return cpl_fail_file(err, CPL_CANCELLED, l->path, "reading was interrupted");
    do n = read(l->fd, l->in, INPUT_BYTES);
    while (n < 0 && errno == EINTR);
    if (n < 0) return cpl_fail_errno(err, l->path, errno, "can't read");
    l->in_at = 0;
    l->in_end = (size_t)n;
    l->input_over = n == 0;
    return CPL_OK;
}

static cpl_status start_decoder(cpl_lines *l, cpl_error *err)
{
    /* The magic may arrive in pieces from a pipe. */
    while (l->in_end < 4 && !l->input_over) {
        ssize_t n = read(l->fd, l->in + l->in_end, INPUT_BYTES - l->in_end);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return cpl_fail_errno(err, l->path, errno, "can't read");
        if (n == 0) l->input_over = true;
        l->in_end += (size_t)n;
    }
    if (l->in_end >= 2 && l->in[0] == 0x1F && l->in[1] == 0x8B) {
        l->coding = CODING_GZIP;
        if (inflateInit2(&l->gzip, 15 + 16) != Z_OK) return cpl_fail_memory(err, 1 << 15);
        l->gzip_ready = true;
    } else if (l->in_end >= 4 && memcmp(l->in, "\x28\xB5\x2F\xFD", 4) == 0) {
        l->coding = CODING_ZSTD;
        l->zstd = ZSTD_createDStream();
        if (!l->zstd) return cpl_fail_memory(err, 1 << 17);
    }
    return CPL_OK;
}

cpl_status cpl_lines_open(cpl_lines **out, const char *path, cpl_error *err)
{
    *out = NULL;
    if (strlen(path) >= sizeof((cpl_lines *)0)->path) return cpl_fail_file(err, CPL_INVALID, path, "path too long");
    cpl_lines *l = calloc(1, sizeof *l);
    if (!l) return cpl_fail_memory(err, sizeof *l);
    bool standard = strcmp(path, "-") == 0;
    strncpy(l->path, standard ? "standard input" : path, sizeof l->path - 1);
    l->fd = standard ? dup(0) : open(path, O_RDONLY | O_CLOEXEC);
    int failed = errno;
    int deaf = cpl_system_event_open(l->interrupt);
    l->in = malloc(INPUT_BYTES);
    cpl_status st = CPL_OK;
    if (l->fd < 0)
        st = cpl_fail_errno(err, path, failed, "can't open");
    else if (deaf)
        st = cpl_fail_errno(err, path, errno, "can't make an event for");
    else if (!l->in)
        st = cpl_fail_memory(err, INPUT_BYTES);
    else
        st = start_decoder(l, err);
    if (st) {
        cpl_lines_close(l);
        return st;
    }
    *out = l;
    return CPL_OK;
}

void cpl_lines_close(cpl_lines *l)
{
    if (!l) return;
    if (l->fd >= 0) close(l->fd);
    cpl_system_event_close(l->interrupt);
    if (l->gzip_ready) inflateEnd(&l->gzip);
    ZSTD_freeDStream(l->zstd);
    free(l->in);
    free(l->window);
    free(l);
}

/* Makes room for at least INPUT_BYTES behind l->end. */
static cpl_status make_room(cpl_lines *l, cpl_error *err)
{
    if (l->at && l->cap - l->end < INPUT_BYTES) {
        memmove(l->window, l->window + l->at, l->end - l->at);
        l->end -= l->at;
        l->searched -= l->at;
        l->at = 0;
    }
    if (l->cap - l->end >= INPUT_BYTES) return CPL_OK;
    if (l->end > CPL_LINE_BYTES_MAX)
        return cpl_fail_line(err, CPL_INVALID, l->path, (int)(l->number + 1), 0, NULL, "line longer than %d MiB",
                             CPL_LINE_BYTES_MAX >> 20);
    size_t cap = l->cap ? l->cap * 2 : 2 * INPUT_BYTES;
    char *grown = realloc(l->window, cap);
    if (!grown) return cpl_fail_memory(err, cap);
    l->window = grown;
    l->cap = cap;
    return CPL_OK;
}

static cpl_status inflate_some(cpl_lines *l, cpl_error *err)
{
    l->gzip.next_in = l->in + l->in_at;
    l->gzip.avail_in = (uInt)(l->in_end - l->in_at);
    l->gzip.next_out = (unsigned char *)l->window + l->end;
    l->gzip.avail_out = INPUT_BYTES;
    int r = inflate(&l->gzip, Z_NO_FLUSH);
    l->in_at = l->in_end - l->gzip.avail_in;
    l->end += INPUT_BYTES - l->gzip.avail_out;
    l->inside_frame = r != Z_STREAM_END;
    if (r == Z_STREAM_END) inflateReset(&l->gzip);
    if (r == Z_OK || r == Z_STREAM_END || r == Z_BUF_ERROR) return CPL_OK;
    return cpl_fail_file(err, CPL_CORRUPT, l->path, "damaged gzip data: %s", l->gzip.msg ? l->gzip.msg : "bad stream");
}

static cpl_status unzstd_some(cpl_lines *l, cpl_error *err)
{
    ZSTD_inBuffer in = {l->in, l->in_end, l->in_at};
    ZSTD_outBuffer out = {l->window + l->end, INPUT_BYTES, 0};
    size_t r = ZSTD_decompressStream(l->zstd, &out, &in);
    l->in_at = in.pos;
    l->end += out.pos;
    if (ZSTD_isError(r)) return cpl_fail_file(err, CPL_CORRUPT, l->path, "damaged zstd data: %s", ZSTD_getErrorName(r));
    l->inside_frame = r != 0;
    return CPL_OK;
}

/* Decodes some more into the window. *over when nothing will ever come again. */
static cpl_status fill(cpl_lines *l, bool *over, cpl_error *err)
{
    cpl_status st = make_room(l, err);
    if (!st) st = refill(l, err);
    if (st) return st;
    size_t before = l->end;
    if (l->in_at == l->in_end && l->coding == CODING_PLAIN) {
        *over = true;
    } else if (l->coding == CODING_PLAIN) {
        size_t n = l->in_end - l->in_at;
        memcpy(l->window + l->end, l->in + l->in_at, n);
        l->end += n;
        l->in_at = l->in_end;
    } else {
        bool had_input = l->in_at < l->in_end;
        /* At a frame's end with no input left there is nothing to ask the decoder. */
        if (had_input || l->inside_frame) st = l->coding == CODING_GZIP ? inflate_some(l, err) : unzstd_some(l, err);
        if (!st && !had_input && l->end == before) {
            *over = true;
            if (l->inside_frame) st = cpl_fail_file(err, CPL_CORRUPT, l->path, "compressed data ends early");
        }
    }
    return st;
}

cpl_status cpl_lines_next(cpl_lines *l, const char **line, size_t *n, bool *end, cpl_error *err)
{
    *end = false;
    bool over = false;
    for (;;) {
        char *newline = l->end > l->searched ? memchr(l->window + l->searched, '\n', l->end - l->searched) : NULL;
        if (newline || (over && l->at < l->end)) {
            char *start = l->window + l->at, *stop = newline ? newline : l->window + l->end;
            l->at = (size_t)(stop - l->window) + (newline ? 1 : 0);
            l->searched = l->at;
            if (stop > start && stop[-1] == '\r') stop--;
            if (l->number++ == 0 && stop - start >= 3 && memcmp(start, "\xEF\xBB\xBF", 3) == 0) start += 3;
            *line = start;
            *n = (size_t)(stop - start);
            return CPL_OK;
        }
        if (over) {
            *end = true;
            return CPL_OK;
        }
        l->searched = l->end;
        cpl_status st = fill(l, &over, err);
        if (st) return st;
    }
}

uint64_t cpl_lines_number(const cpl_lines *l) { return l->number; }
const char *cpl_lines_path(const cpl_lines *l) { return l->path; }

void cpl_lines_interrupt(cpl_lines *l) { cpl_system_event_set(l->interrupt); }
