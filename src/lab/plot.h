/* SPDX-License-Identifier: Apache-2.0 */
/* plot.h - a figure for a result's Markdown page, drawn by gnuplot where that is installed. */
#ifndef CPL_LAB_PLOT_H
#define CPL_LAB_PLOT_H

#include "lab/result.h"

/* Can a gnuplot be run? */
bool cpl_lab_plot_available(void);

/* Writes dir/plots/NAME.svg and .png and sets `file` to the SVG relative to dir; "" and nothing written for a result
 * with fewer than three rows along one line (batch sizes, requests in flight, offered load, one swept number). */
cpl_status cpl_lab_plot(const cpl_lab_result *r, const char *dir, char *file, size_t cap, cpl_error *err);

#endif
