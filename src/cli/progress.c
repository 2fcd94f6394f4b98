/* SPDX-License-Identifier: Apache-2.0 */
/* progress.c - one redrawn line with a rate and the time left. Never in the way of a pipe: only a terminal sees it. */
#include "cli/progress.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"

void cpl_progress_init(cpl_progress *p, const char *label, uint64_t total)
{
    *p = (cpl_progress){.label = label, .total = total, .start_ns = cpl_clock_ns(), .enabled = isatty(2)};
}

static void draw(const cpl_progress *p, double seconds)
{
    double rate = seconds > 0 ? (double)p->done / seconds : 0;
    if (!p->total) {
        fprintf(stderr, "\r\033[K%s  %llu  %.0f/s", p->label, (unsigned long long)p->done, rate);
        return;
    }
    double share = (double)p->done / (double)p->total;
    if (share > 1) share = 1;
    char bar[31];
    for (int i = 0; i < 30; i++) bar[i] = i < (int)(share * 30) ? '#' : '.';
    bar[30] = 0;
    double left = rate > 0 && p->done < p->total ? (double)(p->total - p->done) / rate : 0;
    fprintf(stderr, "\r\033[K%s  [%s] %3.0f%%  %llu/%llu  %.0f/s  %.0f s left", p->label, bar, share * 100,
            (unsigned long long)p->done, (unsigned long long)p->total, rate, left);
}

void cpl_progress_update(cpl_progress *p, uint64_t done)
{
    p->done = done;
    if (!p->enabled) return;
    uint64_t now = cpl_clock_ns();
    if (now - p->drawn_ns < 100000000u) return;
    p->drawn_ns = now;
    draw(p, (double)(now - p->start_ns) / 1e9);
    fflush(stderr);
}

void cpl_progress_finish(cpl_progress *p)
{
    if (p->enabled && p->drawn_ns) fputs("\r\033[K", stderr);
    p->enabled = 0;
}
