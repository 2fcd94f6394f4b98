/* SPDX-License-Identifier: Apache-2.0 */
/* log_stderr.c - structured lines to stderr. The one idea: a line is formatted whole and written by one write(2), so
 * lines of several threads don't mix. Threads: any. Invariant: no state but the flags fixed at init. */
#include "serve/log_stderr.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"

static const char *const names[] = {
    [CPL_LOG_ERROR] = "error", [CPL_LOG_WARN] = "warn", [CPL_LOG_INFO] = "info", [CPL_LOG_DEBUG] = "debug"};

static void stamp(char *buf, size_t cap)
{
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(buf, cap, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(buf + n, cap - n, ".%03ldZ", now.tv_nsec / 1000000);
}

static void write_all(const cpl_buf *line)
{
    for (size_t at = 0; at < line->size;) {
        ssize_t n = write(STDERR_FILENO, line->data + at, line->size - at);
        if (n <= 0) return; /* nobody reads the log: nothing to do about it */
        at += (size_t)n;
    }
}

static void write_line(cpl_log_level level, const char *text, bool json)
{
    char time_text[40];
    cpl_buf line = {0};
    stamp(time_text, sizeof time_text);
    cpl_buf_print(&line, json ? "{\"time\":\"%s\",\"level\":\"%s\",\"msg\":" : "time=%s level=%s msg=", time_text,
                  names[level]);
    cpl_json_quote(&line, text, strlen(text));
    cpl_buf_text(&line, json ? "}\n" : "\n");
    if (!line.failed) write_all(&line);
    cpl_buf_deinit(&line);
}

static void write_text(void *user, cpl_log_level level, const char *text)
{
    (void)user;
    write_line(level, text, false);
}

static void write_json(void *user, cpl_log_level level, const char *text)
{
    (void)user;
    write_line(level, text, true);
}

void cpl_log_stderr_init(cpl_log *log, const char *level, bool json)
{
    *log = (cpl_log){.write = json ? write_json : write_text, .level = CPL_LOG_INFO};
    for (int i = CPL_LOG_ERROR; i <= CPL_LOG_DEBUG; i++)
        if (!strcmp(names[i], level)) log->level = (cpl_log_level)i;
}
