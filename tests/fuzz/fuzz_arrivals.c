/* SPDX-License-Identifier: Apache-2.0 */
/* A file of arrival times (scenario replay): what is accepted gives due times that never fall, a rate that is a number,
 * and a refusal is one line that names the file. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "fuzz/scratch_file.h"
#include "load/schedule.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cpl_trace trace;
    cpl_schedule s;
    cpl_error err = {0};
    if (cpl_trace_load(&trace, scratch_file(data, size), &err)) {
        if (!err.what[0] || strpbrk(err.what, "\r\n")) abort();
        return 0;
    }
    if (trace.count < 2 || !isfinite(cpl_trace_rate(&trace))) abort();
    cpl_schedule_init(&s, CPL_ARRIVALS_REPLAY, 0, 1, &trace);
    uint64_t last = 0;
    for (size_t i = 0; i < 3 * trace.count + 2; i++) {
        const uint64_t due = cpl_schedule_next(&s);
        if (due < last || due > UINT64_MAX / 2) abort();
        last = due;
    }
    cpl_trace_deinit(&trace);
    return 0;
}
