/* SPDX-License-Identifier: Apache-2.0 */
/* energy.h - how much energy the machine's sockets (RAPL) and GPUs (NVML) have used, where they tell. */
#ifndef CPL_LAB_ENERGY_H
#define CPL_LAB_ENERGY_H

#include <stdbool.h>
#include <stdint.h>

#include "couplet.h"

typedef struct cpl_energy cpl_energy;

/* powercap: folder of RAPL zones (NULL: /sys/class/powercap). nvml: the library (NULL: libnvidia-ml.so.1). Never fails
 * for want of meters; cpl_energy_source then says why. */
cpl_status cpl_energy_open(cpl_energy **out, const char *powercap, const char *nvml, cpl_error *err);
void cpl_energy_close(cpl_energy *e); /* NULL is fine */

/* "2 sockets (RAPL)", "1 GPU (NVML)", "not available: ..."; owned by e. */
const char *cpl_energy_source(const cpl_energy *e);
bool cpl_energy_available(const cpl_energy *e);

/* Joules since the last call (or the opening), all meters summed; call at least once a minute, as a RAPL counter may
 * turn over once between two calls and no more. 0 where nothing is available. */
double cpl_energy_take(cpl_energy *e);

#endif
