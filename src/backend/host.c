/* SPDX-License-Identifier: Apache-2.0 */
/* host.c - what this process lends its backends, plug-ins included: memory, errors, log, padding.
 *
 * allocate() is for weights and scratch that live as long as a model: large blocks come straight from the kernel, start
 * on a huge page boundary and ask for huge pages (weights are read end to end in every pass; 4 KB pages cost TLB
 * misses). Memory comes back zeroed. Threads: any. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "backend/rectangle.h"
#include "backend/registry.h"
#include "base/error.h"

enum { HUGE_PAGE = 2 << 20 };

static int is_large(size_t size) { return size >= HUGE_PAGE; }

static size_t whole_pages(size_t size) { return (size + HUGE_PAGE - 1) & ~(size_t)(HUGE_PAGE - 1); }

/* A huge-page-aligned mapping: one page more than needed is mapped and the ends are given back. */
static void *map_large(size_t size)
{
    size_t need = whole_pages(size);
    char *p = mmap(NULL, need + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    char *at = (char *)(((uintptr_t)p + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
    if (at > p) munmap(p, (size_t)(at - p));
    size_t behind = (size_t)(p + HUGE_PAGE - at);
    if (behind) munmap(at + need, behind);
#ifdef MADV_HUGEPAGE
    madvise(at, need, MADV_HUGEPAGE); /* advice only: nothing depends on it */
#endif
    return at;
}

static void *allocate(size_t size, size_t align)
{
    if (!size || size > SIZE_MAX / 4 || (align & (align - 1)) || align > HUGE_PAGE) return NULL;
    if (is_large(size)) return map_large(size);
    void *p = NULL;
    if (posix_memalign(&p, align < sizeof(void *) ? sizeof(void *) : align, size)) return NULL;
    memset(p, 0, size);
    return p;
}

static void release(void *p, size_t size)
{
    if (!p) return;
    if (is_large(size))
        munmap(p, whole_pages(size));
    else
        free(p);
}

void cpl_host_init(cpl_host *host, const cpl_log *log)
{
    *host = (cpl_host){.abi = CPL_BACKEND_ABI,
                       .size = sizeof *host,
                       .log = log,
                       .allocate = allocate,
                       .release = release,
                       .fail = cpl_fail,
                       .rectangles = &cpl_rectangles};
}
