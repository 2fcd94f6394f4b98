/* SPDX-License-Identifier: Apache-2.0 */
/* file.c - whole-file input and output with errors that name the file. Threads: any; no state. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

static cpl_status open_regular(int *fd_out, size_t *size_out, const char *path, cpl_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return cpl_fail_errno(err, path, errno, "can't open");
    struct stat st;
    if (fstat(fd, &st)) {
        int e = errno;
        close(fd);
        return cpl_fail_errno(err, path, e, "can't stat");
    }
    if (S_ISDIR(st.st_mode)) {
        close(fd);
        return cpl_fail_file(err, CPL_INVALID, path, "is a directory, expected a file");
    }
    *fd_out = fd;
    *size_out = (size_t)st.st_size;
    return CPL_OK;
}

cpl_status cpl_file_map(cpl_map *out, const char *path, cpl_error *err)
{
    int fd;
    size_t size;
    cpl_status st = open_regular(&fd, &size, path, err);
    if (st) return st;
    *out = (cpl_map){.data = (const unsigned char *)"", .size = 0};
    if (size) {
        void *p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            st = cpl_fail_errno(err, path, errno, "can't map %zu bytes", size);
        else
            *out = (cpl_map){.data = p, .size = size};
    }
    close(fd);
    return st;
}

void cpl_file_unmap(cpl_map *m)
{
    if (m->data && m->size) munmap((void *)m->data, m->size);
    *m = (cpl_map){0};
}

cpl_status cpl_file_read(cpl_buf *out, const char *path, size_t bytes_max, cpl_error *err)
{
    int fd;
    size_t size;
    cpl_status st = open_regular(&fd, &size, path, err);
    if (st) return st;
    size_t total = 0;
    for (;;) {
        if (!cpl_buf_reserve(out, 65536)) {
            st = cpl_fail_memory(err, 65536);
            break;
        }
        ssize_t n = read(fd, out->data + out->size, 65536);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            st = cpl_fail_errno(err, path, errno, "can't read");
            break;
        }
        out->size += (size_t)n;
        out->data[out->size] = 0;
        total += (size_t)n;
        if (n == 0) break;
        if (total > bytes_max) {
            st = cpl_fail_file(err, CPL_INVALID, path, "larger than the limit of %zu bytes", bytes_max);
            break;
        }
    }
    close(fd);
    return st;
}

static cpl_status write_all(int fd, const char *path, const char *data, size_t n, cpl_error *err)
{
    while (n) {
        ssize_t w = write(fd, data, n);
        if (w < 0 && errno == EINTR) continue;
        if (w < 0) return cpl_fail_errno(err, path, errno, "can't write");
        data += w;
        n -= (size_t)w;
    }
    if (fsync(fd)) return cpl_fail_errno(err, path, errno, "can't sync");
    return CPL_OK;
}

cpl_status cpl_file_write(const char *path, const void *data, size_t n, cpl_error *err)
{
    char part[4096];
    int len = snprintf(part, sizeof part, "%s.part%ld", path, (long)getpid());
    if (len < 0 || (size_t)len >= sizeof part) return cpl_fail_file(err, CPL_INVALID, path, "path too long");
    int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) return cpl_fail_errno(err, part, errno, "can't create");
    cpl_status st = write_all(fd, path, data, n, err);
    if (close(fd) && !st) st = cpl_fail_errno(err, path, errno, "can't close");
    if (!st && rename(part, path)) st = cpl_fail_errno(err, path, errno, "can't rename '%s' to it", part);
    if (st) unlink(part);
    return st;
}

bool cpl_file_exists(const char *path) { return access(path, F_OK) == 0; }

cpl_status cpl_file_make_dirs(const char *path, cpl_error *err)
{
    char buf[4096];
    size_t n = strlen(path);
    if (!n || n >= sizeof buf) return cpl_fail_file(err, CPL_INVALID, path, "empty or too long a path");
    memcpy(buf, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (buf[i] != '/' && buf[i] != 0) continue;
        char c = buf[i];
        buf[i] = 0;
        if (mkdir(buf, 0755) && errno != EEXIST) return cpl_fail_errno(err, buf, errno, "can't make the directory");
        buf[i] = c;
    }
    return CPL_OK;
}

cpl_status cpl_file_join(char *buf, size_t cap, const char *dir, const char *name, cpl_error *err)
{
    size_t n = strlen(dir);
    int len = snprintf(buf, cap, "%s%s%s", dir, n && dir[n - 1] == '/' ? "" : "/", name);
    if (len < 0 || (size_t)len >= cap) return cpl_fail_file(err, CPL_INVALID, dir, "path too long");
    return CPL_OK;
}
