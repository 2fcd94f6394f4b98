/* SPDX-License-Identifier: Apache-2.0 */
/* log_stderr.h - the server's log: one structured line an event on stderr. */
#ifndef CPL_SERVE_LOG_STDERR_H
#define CPL_SERVE_LOG_STDERR_H

#include <stdbool.h>

#include "couplet.h"

/* level: "error", "warn", "info" or "debug". json: an object a line, else time=... level=... msg="...". */
void cpl_log_stderr_init(cpl_log *log, const char *level, bool json);

#endif
