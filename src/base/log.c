/* SPDX-License-Identifier: Apache-2.0 */
/* log.c - formats a line on the caller's stack and hands it over; what isn't wanted isn't formatted. Threads: any. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

void cpl_log_write(const cpl_log *log, cpl_log_level level, const char *fmt, ...)
{
    if (!log || !log->write || level > log->level) return;
    char line[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    log->write(log->user, level, line);
}
