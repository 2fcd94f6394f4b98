/* SPDX-License-Identifier: Apache-2.0 */
/* scan_isa.h - the loops of scan.h that have a file of their own; only scan.c includes it and those files. */
#ifndef CPL_TEXT_SCAN_ISA_H
#define CPL_TEXT_SCAN_ISA_H

#include "text/scan.h"

#if defined(__x86_64__)
extern const cpl_scan cpl_scan_avx2;
extern const cpl_scan cpl_scan_avx512; /* F, BW, DQ, VL */
#elif defined(__aarch64__)
extern const cpl_scan cpl_scan_neon;
#endif

#endif
