/* SPDX-License-Identifier: Apache-2.0 */
/* log.h - one formatted line to whoever opened the library. See cpl_log in couplet.h. */
#ifndef CPL_BASE_LOG_H
#define CPL_BASE_LOG_H

#include "couplet.h"

/* log may be NULL. Lines longer than 1,023 bytes are cut. */
void cpl_log_write(const cpl_log *log, cpl_log_level level, const char *fmt, ...) CPL_PRINTF(3, 4);

#endif
