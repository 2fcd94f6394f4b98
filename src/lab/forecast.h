/* SPDX-License-Identifier: Apache-2.0 */
/* forecast.h - how long an experiment will take, before it is run. */
#ifndef CPL_LAB_FORECAST_H
#define CPL_LAB_FORECAST_H

#include "lab/plan.h"
#include "lab/result.h"

typedef struct cpl_lab_forecast {
    size_t rows, known; /* in all; those that an older result tells the speed of */
    double most_s;      /* of measured time: every row at its duration */
    double expected_s;  /* warm-ups, starts and self-tests included */
} cpl_lab_forecast;

/* `old`: a result of the same experiment, by whatever program; NULL: none. */
cpl_lab_forecast cpl_lab_forecast_of(const cpl_lab_plan *plan, const cpl_lab_result *old);

#endif
