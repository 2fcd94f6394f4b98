/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_arm.h - cpl_cpu_detect's half for 64-bit ARM under Linux. */
#ifndef CPL_KERNEL_CPU_ARM_H
#define CPL_KERNEL_CPU_ARM_H

#include "kernel/cpu.h"

/* Fills in what it finds; *out holds the typical values. */
void cpl_cpu_detect_arm(cpl_cpu *out);

#endif
