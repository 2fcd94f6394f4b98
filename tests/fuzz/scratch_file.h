/* SPDX-License-Identifier: Apache-2.0 */
/* scratch_file.h - a fuzzer's input as a file, for readers that take a path: in memory, one for the whole run. */
#ifndef CPL_TESTS_SCRATCH_FILE_H
#define CPL_TESTS_SCRATCH_FILE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* The path of a file that holds just these bytes, until the next call. */
static inline const char *scratch_file(const uint8_t *data, size_t size)
{
    static char path[64];
    static int fd = -1;
    if (fd < 0 && (fd = memfd_create("fuzz", MFD_CLOEXEC)) < 0) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (ftruncate(fd, 0) || pwrite(fd, data, size, 0) != (ssize_t)size) abort();
    return path;
}

#endif
