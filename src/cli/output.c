/* SPDX-License-Identifier: Apache-2.0 */
/* output.c - a result file is either whole or called .part. Invariant: PATH.part ends at a line's end before anything
 * is appended to it, so its number of lines says where to continue. */
#include "cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

/* Counts whole lines and cuts off a last one that isn't. */
static cpl_status count_lines(cpl_output *o, cpl_error *err)
{
    char block[65536];
    off_t at = 0, end_of_last = 0;
    for (;;) {
        ssize_t n = read(o->fd, block, sizeof block);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return cpl_fail_errno(err, o->part, errno, "can't read");
        if (n == 0) break;
        for (ssize_t i = 0; i < n; i++) {
            if (block[i] != '\n') continue;
            o->lines_done++;
            end_of_last = at + i + 1;
        }
        at += n;
    }
    if (ftruncate(o->fd, end_of_last) || lseek(o->fd, end_of_last, SEEK_SET) < 0)
        return cpl_fail_errno(err, o->part, errno, "can't cut the unfinished line");
    return CPL_OK;
}

cpl_status cpl_output_open(cpl_output *o, const char *path, bool resume, cpl_error *err)
{
    *o = (cpl_output){.fd = 1, .path = path};
    if (!path)
        return resume ? cpl_fail(err, CPL_INVALID, "'--resume' needs '--output FILE': standard output can't be resumed")
                      : CPL_OK;
    int n = snprintf(o->part, sizeof o->part, "%s.part", path);
    if (n < 0 || (size_t)n >= sizeof o->part) return cpl_fail_file(err, CPL_INVALID, path, "path too long");
    o->fd = open(o->part, O_RDWR | O_CREAT | O_CLOEXEC | (resume ? 0 : O_EXCL), 0644);
    if (o->fd < 0 && errno == EEXIST)
        return cpl_fail_file(err, CPL_PRECONDITION, o->part,
                             "holds the results of an unfinished run: continue it with --resume, or delete the file");
    if (o->fd < 0) return cpl_fail_errno(err, o->part, errno, "can't create");
    cpl_status st = resume ? count_lines(o, err) : CPL_OK;
    if (st) cpl_output_abandon(o);
    return st;
}

cpl_status cpl_output_write(cpl_output *o, cpl_buf *lines, cpl_error *err)
{
    cpl_status st = cpl_buf_status(lines, err);
    const char *name = o->path ? o->part : "standard output";
    size_t at = 0;
    while (!st && at < lines->size) {
        ssize_t n = write(o->fd, lines->data + at, lines->size - at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) st = cpl_fail_errno(err, name, errno, "can't write");
        if (n > 0) at += (size_t)n;
    }
    cpl_buf_clear(lines);
    return st;
}

cpl_status cpl_output_finish(cpl_output *o, cpl_error *err)
{
    if (!o->path) return CPL_OK;
    cpl_status st = fsync(o->fd) ? cpl_fail_errno(err, o->part, errno, "can't sync") : CPL_OK;
    if (close(o->fd) && !st) st = cpl_fail_errno(err, o->part, errno, "can't close");
    if (!st && rename(o->part, o->path)) st = cpl_fail_errno(err, o->path, errno, "can't rename '%s' to it", o->part);
    return st;
}

void cpl_output_abandon(cpl_output *o)
{
    if (o->path && o->fd >= 0) close(o->fd);
    o->fd = -1;
}
